"""Texts with one label each: SST-2 in GLUE's files or from the Hugging Face hub, and any table of texts and labels."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flatwide import registry
from flatwide.data import files, hub, splits, words
from flatwide.data.files import DataError
from flatwide.data.splits import Resident
from flatwide.types import Categories, Dataset

TEXT_NAMES, LABEL_NAMES = ("text", "sentence"), ("label",)
SUFFIXES = (".tsv", ".csv")
TEST_NAMES = ("dev", "test")
_HUB = "stanfordnlp/sst2"
_SST2_FILES = "GLUE's train.tsv and dev.tsv"
_LAYOUT = "train.tsv and dev.tsv (or .csv, or test instead of dev), or one file of either kind"
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
# As pandas and databases write a missing value; "na" and "none" are words.
_MISSING = ("", "nan", "null", "<na>", "n/a")
_WORD = re.compile(r"\w+(?:['’]\w+)*|([^\w\s])\1*")


class Row(NamedTuple):
    """One text of a file."""

    line: int  # where it begins, from 1
    text: str
    label: str


class Table(NamedTuple):
    """A source of texts: a file, or a split on the hub."""

    location: str  # for messages
    rows: list[Row]


def sst2(
    *, data_dir: str | None = None, max_length: int | None = None, min_word_count: int = 1, size_window: int = 16
) -> Dataset:
    """Load SST-2: 67,349 phrases of film reviews and 872 sentences, negative (0) or positive (1).

    Its texts are in lower case and parted into words by spaces already, and are taken so.

    Args:
      data_dir: folder with GLUE's train.tsv and dev.tsv, or whose folder `SST-2` or `sst2` has them; None for the hub.
        GLUE's dev is the test split, since GLUE keeps the labels of its own to itself.
      max_length, min_word_count, size_window: as `labelled_text`.
    Raises: DataError if they are missing or damaged, or have other labels than 0 and 1.
    Source: Socher et al. (2013), Recursive deep models for semantic compositionality over a sentiment treebank;
      Wang et al. (2019), GLUE.
    """
    if data_dir is None:
        names = ("train", "validation")
        tables = hub.tables(_HUB, splits=names, columns=("sentence", "label"), name="sst2", files=_SST2_FILES)
        train, test = map(_from_hub, tables, names)
    else:
        paths = files.complete(data_dir, ("SST-2", "sst2"), ("train.tsv", "dev.tsv"), f"{_SST2_FILES} of SST-2")
        train, test = map(read, paths)
    return dataset(
        train,
        test,
        ["0", "1"],
        split=str.split,
        max_length=max_length,
        min_word_count=min_word_count,
        size_window=size_window,
    )


def labelled_text(
    *, data_dir: str | None = None, max_length: int | None = None, min_word_count: int = 1, size_window: int = 16
) -> Dataset:
    """Load any texts with one label each, of two or more classes.

    Args:
      data_dir: folder with train.tsv and dev.tsv (or .csv, or test instead of dev), or one file of either kind (or a
        folder with nothing else of the kind) of which every tenth text is a test example. See `read` for the columns.
        Labels are names or integers; their order numbers the classes.
      max_length: words that are kept of each text; None for all.
      min_word_count: words that are rarer than this in the training texts are unknown.
      size_window: batches whose texts are put in order of length before they are parted into batches.
    Raises: DataError naming file and line.
    """
    if data_dir is None:
        raise DataError(f"config.data_dir=None: expected a folder with {_LAYOUT}; set it.")
    tables = list(map(read, _find(data_dir)))
    if len(tables) == 1:
        [(location, rows)] = tables
        tables = [Table(location, part) for part in files.every_tenth(rows, location, "texts")]
    train, test = tables
    return dataset(
        train,
        test,
        _classes(train),
        split=split_words,
        max_length=max_length,
        min_word_count=min_word_count,
        size_window=size_window,
    )


def split_words(text: str) -> list[str]:
    """Split a text into words and punctuation, in lower case.

    A word is a run of letters and digits, with apostrophes inside (it's); a run of one punctuation mark is one (...).
    """
    return [match[0] for match in _WORD.finditer(text.lower())]


def dataset(
    train: Table,
    test: Table,
    classes: Sequence[str],
    *,
    split: Callable[[str], list[str]],
    max_length: int | None = None,
    min_word_count: int = 1,
    size_window: int = 16,
) -> Dataset:
    """Turn two tables into a data set.

    Args:
      classes: the labels that there may be; the index of a label is its class.
      split: text -> its words.
    Returns: inputs are tokens [L] of the longest text; 0 is padding, 1 a word that the training texts do not have
      often enough.
    Raises: DataError naming the line of a text without words, or of an unknown label.
    """
    tables = (train, test)
    texts = []
    for table in tables:
        texts.append([split(row.text)[:max_length] for row in table.rows])
        if [] in texts[-1]:
            line, text, _ = table.rows[texts[-1].index([])]
            raise DataError(f"{table.location}, line {line}: the text {text!r} has no words; leave the line out.")
    vocabulary = words.vocabulary(texts[0], min_word_count=min_word_count)
    lengths = np.array([len(text) for text in texts[0]])
    longest = max(len(text) for part in texts for text in part)
    parts = [
        Resident({"inputs": words.tokens(part, vocabulary, length=longest), "targets": _targets(table, list(classes))})
        for table, part in zip(tables, texts, strict=True)
    ]
    example = Categories((longest,), words.FIRST_WORD + len(vocabulary))
    made = splits.dataset(*parts, prepare=words.as_they_are, num_outputs=len(classes), example=example)
    return made._replace(padding=words.padding(lengths, longest=longest, window=size_window))


def read(path: Path) -> Table:
    """Read a table of texts and labels in UTF-8.

    The columns are found by the names in the first line: text or sentence, and label; others are left alone. Without
    such names there are two columns, first the text and then the label.

    Args:
      path: a .csv file, comma-separated and quoted as RFC 4180 says; else tab-separated with a line a row, where a
        cell is unquoted if it is quoted as a whole, and quotation marks are marks like others if not. Gzipped or not.
    Raises: DataError naming the line, what was found and what was expected.
    """
    is_csv = ".csv" in path.suffixes
    rows = list(files.csv_rows(path) if is_csv else _tsv_rows(files.read_text(path)))
    if not rows:
        raise DataError(f"{path}: is empty; expected a text and a label a line.")
    first = [cell.strip().lower() for cell in rows[0][1]]
    columns = [first.index(name) for name in TEXT_NAMES if name in first][:1]
    columns += [first.index(name) for name in LABEL_NAMES if name in first]
    has_names = len(columns) == 2
    if has_names and (twice := registry.repeated(first)):
        raise DataError(f"{path}, line {rows[0][0]}: two columns are named {twice!r}; rename one of them.")
    text, label = columns if has_names else (0, 1)
    num_columns = len(first) if has_names else 2
    named = f"{' or '.join(map(repr, TEXT_NAMES))}, and {LABEL_NAMES[0]!r}"
    for line, cells in rows:
        if len(cells) != num_columns:
            why = "as its first line has" if has_names else f"a text and a label, or a first line that names {named}"
            hint = "; quote a text that has commas" if is_csv else ""
            raise DataError(f"{path}, line {line}: {len(cells)} columns; expected {num_columns}, {why}{hint}.")
    table = Table(str(path), [Row(line, cells[text], cells[label].strip()) for line, cells in rows[has_names:]])
    labels = [row.label for row in table.rows]
    if missing := next((row for row in table.rows if row.label.lower() in _MISSING), None):
        shown = f" ({missing.label})" if missing.label else ""
        raise DataError(f"{path}, line {missing.line}: no label{shown}; expected one, or leave it out.")
    if not has_names and len(labels) > 2 and labels.count(labels[0]) == 1:
        raise DataError(
            f"{path}, line {table.rows[0].line}: the label {labels[0]!r} occurs nowhere else. If it is the name of a "
            f"column, expected {named}; if it is a label, put such names into the first line."
        )
    if not table.rows:
        raise DataError(f"{path}: has names of columns and no rows; expected a text and a label a line.")
    return table


def _tsv_rows(content: str) -> list[tuple[int, list[str]]]:
    def unquoted(cell: str) -> str:
        return match[1].replace('""', '"') if (match := _QUOTED.fullmatch(cell)) else cell

    lines = enumerate(content.split("\n"), 1)
    return [(n, [unquoted(cell) for cell in line.removesuffix("\r").split("\t")]) for n, line in lines if line.strip()]


def _classes(table: Table) -> list[str]:
    """List the labels of the training texts, in order of size if all are integers, else of spelling."""
    labels = {row.label for row in table.rows}
    if len(labels) < 2:
        raise DataError(f"{table.location}: every label is {labels.pop()!r}; expected two classes at least.")
    if len(labels) > max(2, len(table.rows) // 2):
        raise DataError(
            f"{table.location}: {len(labels):,} different labels for {len(table.rows):,} texts; expected few classes. "
            "The first column is the text and the second the label, unless the first line names them."
        )
    are_integers = all(re.fullmatch(r"-?\d+", label) for label in labels)
    return sorted(labels, key=int) if are_integers else sorted(labels)


def _targets(table: Table, classes: list[str]) -> np.ndarray:
    number = {label: i for i, label in enumerate(classes)}
    for row in table.rows:
        if row.label not in number:
            few = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
            raise DataError(
                f"{table.location}, line {row.line}: the label {row.label!r}; expected one of {few}, the labels of the "
                "training texts."
            )
    return np.array([number[row.label] for row in table.rows], np.int32)


def _find(data_dir: str) -> list[Path]:
    """Find the training and the test file, or one file."""
    tables = files.listed(data_dir, SUFFIXES)
    train = [path for path in tables if path.stem == "train"]
    test = next((matches for name in TEST_NAMES if (matches := [path for path in tables if path.stem == name])), [])
    if len(train) == len(test) == 1:
        return [train[0], test[0]]
    if len(tables) == 1:
        return tables
    names = ", ".join(path.name for path in tables) or "no .tsv or .csv file"
    raise DataError(f"config.data_dir={data_dir!r}: has {names}; expected {_LAYOUT}.")


def _from_hub(table, split: str) -> Table:
    texts, labels = table["sentence"], table["label"]
    rows = [Row(line, text, str(label)) for line, (text, label) in enumerate(zip(texts, labels, strict=True), 1)]
    return Table(f"{_HUB!r}, split {split!r}", rows)
