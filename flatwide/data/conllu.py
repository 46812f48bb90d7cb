"""Part-of-speech tagging of a treebank in CoNLL-U files, as Universal Dependencies publishes them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flatwide.data import files, words
from flatwide.data.files import DataError
from flatwide.data.splits import Resident, fingerprint
from flatwide.types import Categories, Dataset

MAX_LENGTH = 256
UNSEEN_TAG = 0  # the class of a tag that no training word has
COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
TAG_COLUMNS = ("upos", "xpos")
NO_TAG = "_"
ANCIENT_GREEK = ("UD_Ancient_Greek-Perseus", "UD_Ancient_Greek")
_WHERE = (
    "treebanks are at https://universaldependencies.org; the paper's is UD_Ancient_Greek-Perseus, "
    "github.com/UniversalDependencies/UD_Ancient_Greek-Perseus"
)
_NUMBER = re.compile(r"[0-9]+")
_NOT_A_WORD = re.compile(r"[0-9]+-[0-9]+|[0-9]+\.[0-9]+")  # a token of several words; a word that is not written


class Word(NamedTuple):
    """A word of a sentence, and its tag in each of two tag sets."""

    form: str
    upos: str
    xpos: str


Sentence = list[Word]


def conllu(
    *,
    data_dir: str | None = None,
    tag_column: str | None = None,
    max_length: int | None = None,
    min_word_count: int = 1,
    size_window: int = 16,
) -> Dataset:
    """Load the sentences of a treebank, each word with its part of speech.

    Args:
      data_dir: folder with `*-train.conllu` and `*-dev.conllu` (or `*-test.conllu` where there is no dev), or with
        files whose names say neither, or one file: then every tenth sentence, in the order of names and lines, is a
        test example. UD's folder of Ancient Greek inside it comes first.
      tag_column: "upos", the universal tags, or "xpos", the treebank's own; None for upos, or for xpos where no
        training word has a universal tag.
      max_length: words of the longest row; a longer sentence is cut into pieces, so that each word is scored. None for
        256.
      min_word_count: words that are rarer than this in the training sentences are unknown.
      size_window: batches whose sentences are put in order of length before they are parted into batches.
    Returns: inputs are tokens [L], 0 for padding and 1 for an unknown word; targets [L] are tags, class 0 for one that
      no training word has, which no model can learn and which so counts as wrong; weights [L] are 0 for padding and
      for words without a tag ("_").
    Raises: DataError naming file and line.
    Source: https://universaldependencies.org/format.html; max_length and tags of the paper's source, Flax's
      sequence-tagging example.
    """
    train, test = _parts(data_dir)
    column = _tag_column(train, tag_column)
    limit = max_length or MAX_LENGTH
    tables = [_pieces(part, column, limit) for part in (train, test)]
    vocabulary = words.vocabulary([forms for forms, _ in tables[0]], min_word_count=min_word_count)
    tags = sorted({tag for _, tags in tables[0] for tag in tags} - {NO_TAG})
    return dataset(*tables, vocabulary=vocabulary, tags=tags, size_window=size_window)


def dataset(
    train: Sequence[tuple[Sequence[str], Sequence[str]]],
    test: Sequence[tuple[Sequence[str], Sequence[str]]],
    *,
    vocabulary: dict[str, int],
    tags: Sequence[str],
    size_window: int,
) -> Dataset:
    """Turn sentences, each its words and their tags, into a data set.

    Args:
      vocabulary: word -> token.
      tags: the classes from 1 on.
    """
    classes = {tag: number for number, tag in enumerate(tags, UNSEEN_TAG + 1)}
    lengths = np.array([len(forms) for forms, _ in train])
    longest = max(len(forms) for part in (train, test) for forms, _ in part)

    def resident(part: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Resident:
        targets, weights = np.full((len(part), longest), UNSEEN_TAG, np.int32), np.zeros((len(part), longest), "f4")
        for row, (_, row_tags) in enumerate(part):
            targets[row, : len(row_tags)] = [classes.get(tag, UNSEEN_TAG) for tag in row_tags]
            weights[row, : len(row_tags)] = [tag != NO_TAG for tag in row_tags]
        inputs = words.tokens([forms for forms, _ in part], vocabulary, length=longest)
        return Resident({"inputs": inputs, "targets": targets, "weights": weights})

    parts = [resident(train), resident(test)]
    names = np.frombuffer("\n".join([*vocabulary, "", *tags]).encode(), np.uint8)
    return Dataset(
        train=parts[0],
        test=parts[1],
        prepare=words.as_they_are,
        example=Categories((longest,), words.FIRST_WORD + len(vocabulary)),
        num_outputs=1 + len(tags),
        fingerprint=fingerprint([*(part.arrays for part in parts), names]),
        padding=words.padding(lengths, longest=longest, window=size_window),
    )


def read(path: Path) -> list[Sentence]:
    """Read the sentences of a CoNLL-U file in UTF-8, gzipped or not.

    Comments are left out, and so are tokens of several words (1-2), whose words follow, and words that are not written
    (1.1).

    Raises: DataError naming the line, what was found and what was expected.
    """
    sentences: list[Sentence] = [[]]
    for number, line in enumerate(files.read_text(path).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            sentences.append([])
        elif not line.startswith("#"):
            _add(sentences[-1], line, f"{path}, line {number}")
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise DataError(f"{path}: has no sentences; expected words in {len(COLUMNS)} columns.")
    return sentences


def _add(sentence: Sentence, line: str, location: str) -> None:
    """Add the word of a line to its sentence, if it is one."""
    cells = line.split("\t")
    if len(cells) != len(COLUMNS):
        raise DataError(
            f"{location}: {len(cells)} columns; expected {len(COLUMNS)}, separated by tabs: {', '.join(COLUMNS)}."
        )
    name, form, _, upos, xpos = cells[:5]
    if _NOT_A_WORD.fullmatch(name):
        return
    expected = len(sentence) + 1
    if not _NUMBER.fullmatch(name) or int(name) != expected:
        raise DataError(
            f"{location}: the ID {name!r}; expected {expected}, the number of the word in its sentence (or a range, "
            "1-2, or 1.1). An empty line ends a sentence."
        )
    for column, cell in (("FORM", form), ("UPOS", upos), ("XPOS", xpos)):
        if not cell.strip():
            raise DataError(f"{location}: {column} is empty; expected a text, or {NO_TAG} for none.")
    sentence.append(Word(form, upos, xpos))


def _tag_column(sentences: Sequence[Sentence], chosen: str | None) -> str:
    for column in TAG_COLUMNS if chosen is None else (chosen,):
        if any(getattr(word, column) != NO_TAG for sentence in sentences for word in sentence):
            return column
    others = ", or choose another config.tag_column" if chosen else ""
    columns = " or ".join((chosen,) if chosen else TAG_COLUMNS).upper()
    raise DataError(
        f"config.tag_column={chosen!r}: no training word has a tag in {columns}; take a treebank that has{others}."
    )


def _pieces(sentences: Sequence[Sentence], column: str, limit: int) -> list[tuple[list[str], list[str]]]:
    """Cut sentences into rows of at most so many words: their forms and their tags."""
    return [
        ([word.form for word in piece], [getattr(word, column) for word in piece])
        for sentence in sentences
        for start in range(0, len(sentence), limit)
        if (piece := sentence[start : start + limit])
    ]


def _parts(data_dir: str | None) -> tuple[list[Sentence], list[Sentence]]:
    """Read the training and the test sentences."""
    if data_dir is None:
        raise DataError(f"config.data_dir=None: expected a folder with the .conllu files of a treebank; {_WHERE}.")
    paths = files.listed(data_dir, (".conllu",), ANCIENT_GREEK)
    if not paths:
        raise DataError(f"config.data_dir={data_dir!r}: has no .conllu file; {_WHERE}.")
    of_role = {role: [path for path in paths if f"-{role}" in path.stem] for role in ("train", "dev", "test")}
    train, test = of_role["train"], of_role["dev"] or of_role["test"]
    if train and test:
        return _read_all(train), _read_all(test)
    if train or of_role["dev"]:
        names = ", ".join(path.name for path in paths)
        raise DataError(f"config.data_dir={data_dir!r}: has {names}; expected *-train.conllu and *-dev.conllu.")
    return files.every_tenth(_read_all(paths), f"config.data_dir={data_dir!r}", "sentences")


def _read_all(paths: Sequence[Path]) -> list[Sentence]:
    return [sentence for path in paths for sentence in read(path)]
