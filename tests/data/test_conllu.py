"""CoNLL-U files in their true format, and what is said of damaged ones."""

import gzip

import numpy as np
import pytest

from flatwide.data import DataError, conllu, words
from flatwide.data.labelled_text import labelled_text
from flatwide.training.plans import Shuffled

# Comments, a token of two words, a word that is not written, Windows line ends, no empty line at the end.
GREEK = (
    "# newdoc id = tlg0008\r\n# text = εἰς τἀγαθόν\r\n"
    "1\tεἰς\tεἰς\tADP\tr--------\t_\t3\tcase\t_\t_\r\n"
    "2-3\tτἀγαθόν\t_\t_\t_\t_\t_\t_\t_\t_\r\n"
    "2\tτὸ\tὁ\tDET\tl-s---na-\tCase=Acc\t3\tdet\t_\t_\r\n"
    "3\tἀγαθόν\tἀγαθός\tADJ\ta-s---na-\tCase=Acc\t0\troot\t_\t_\r\n"
    "3.1\tἐστί\tεἰμί\tVERB\tv3spia---\t_\t_\t_\t0:root\t_\r\n"
    "\r\n\r\n# text = εἰς τὸ\r\n"
    "1\tεἰς\tεἰς\tADP\tr--------\t_\t0\troot\t_\t_\r\n"
    "2\tτὸ\tὁ\tPRON\tl-s---na-\t_\t1\tdep\t_\t_"
)


def sentence(*rows):
    """Write a sentence of (form, upos, xpos)."""
    lines = [f"{i}\t{form}\t_\t{upos}\t{xpos}\t_\t0\t_\t_\t_\n" for i, (form, upos, xpos) in enumerate(rows, 1)]
    return "".join(lines) + "\n"


def put(folder, **contents):
    for name, content in contents.items():
        (folder / f"xx_ud-{name}.conllu").write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def test_words_tags_and_their_arrays(tmp_path):
    dev = sentence(("τὸ", "DET", "l-s---na-"), ("νέον", "INTJ", "i--------"), ("x", "_", "_"))
    dataset = conllu.conllu(data_dir=put(tmp_path, train=GREEK, dev=gzip.compress(dev.encode())))
    # By frequency, then spelling: εἰς and τὸ twice, ἀγαθόν once. Tags ADJ, ADP, DET, PRON are 1 to 4.
    assert dataset.train.arrays["inputs"].tolist() == [[2, 3, 4], [2, 3, 0]]
    assert dataset.train.targets.tolist() == [[2, 3, 1], [2, 4, 0]]
    assert dataset.train.arrays["weights"].tolist() == [[1, 1, 1], [1, 1, 0]]
    # An unknown word; a tag that no training word has (class 0, counted); a word without a tag (not counted).
    assert dataset.test.arrays["inputs"].tolist() == [[3, 1, 1]]
    assert dataset.test.targets.tolist() == [[3, 0, 0]]
    assert dataset.test.arrays["weights"].tolist() == [[1, 1, 0]]
    assert (dataset.example.shape, dataset.example.num_values, dataset.num_outputs) == ((3,), 5, 5)
    assert dataset.padding.levels == (3,)
    assert not dataset.has_real_targets


def test_rare_words_are_unknown_and_own_tags_can_be_learned(tmp_path):
    data_dir = put(tmp_path, train=GREEK, dev=GREEK)
    dataset = conllu.conllu(data_dir=data_dir, min_word_count=2, tag_column="xpos")
    assert dataset.train.arrays["inputs"].tolist() == [[2, 3, 1], [2, 3, 0]]
    assert dataset.train.targets.tolist() == [[3, 2, 1], [3, 2, 0]]
    assert dataset.fingerprint != conllu.conllu(data_dir=data_dir, tag_column="xpos").fingerprint


def test_own_tags_are_taken_where_there_are_no_universal_ones(tmp_path):
    bare = sentence(("a", "_", "N"), ("b", "_", "V"))
    assert conllu.conllu(data_dir=put(tmp_path, train=bare, dev=bare)).train.targets.tolist() == [[1, 2]]
    with pytest.raises(DataError, match=r"config\.tag_column='upos': no training word has a tag in UPOS; .* choose an"):
        conllu.conllu(data_dir=str(tmp_path), tag_column="upos")


def test_a_long_sentence_is_cut_into_pieces_that_lose_no_word(tmp_path):
    data_dir = put(tmp_path, train=GREEK, dev=GREEK)
    dataset = conllu.conllu(data_dir=data_dir, max_length=2)
    assert dataset.train.arrays["inputs"].tolist() == [[2, 3], [4, 0], [2, 3]]
    assert dataset.train.arrays["weights"].sum() == 5


def test_words_are_part_of_the_fingerprint(tmp_path):
    first = conllu.conllu(data_dir=put(tmp_path, train=GREEK, dev=GREEK)).fingerprint
    other = conllu.conllu(data_dir=put(tmp_path, train=GREEK.replace("ἀγαθόν\tἀ", "κακόν\tἀ"), dev=GREEK)).fingerprint
    assert first != other


def test_every_tenth_sentence_is_a_test_example_where_no_file_is_train_or_dev(tmp_path):
    numbered = [sentence((str(i), "NUM", "_")) for i in range(1, 41)]
    (tmp_path / "web.conllu").write_text("".join(numbered[:25]))
    (tmp_path / "wiki.conllu").write_text("".join(numbered[25:]))
    dataset = conllu.conllu(data_dir=str(tmp_path))
    assert (dataset.train.num_examples, dataset.test.num_examples) == (36, 4)
    assert dataset.test.arrays["inputs"].tolist() == [[1]] * 4
    (tmp_path / "wiki.conllu").unlink()
    assert conllu.conllu(data_dir=str(tmp_path)).test.num_examples == 2
    assert conllu.conllu(data_dir=str(tmp_path / "web.conllu")).test.num_examples == 2
    # The test part where there is no dev part; and Ancient Greek's own folder before anything beside it.
    folder = tmp_path / "UD_Ancient_Greek-Perseus"
    folder.mkdir()
    assert conllu.conllu(data_dir=put(folder, train=GREEK, test=GREEK)).test.num_examples == 2
    assert conllu.conllu(data_dir=str(tmp_path)).train.num_examples == 2


WORD = "1\ta\ta\tX\tx\t_\t0\troot\t_\t_\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            WORD + "2 b b X\n",
            r"train\.conllu, line 2: 1 columns; expected 10, separated by tabs: ID, FORM, LEMMA",
        ),
        (WORD + WORD.replace("1\t", "3\t", 1), r"line 2: the ID '3'; expected 2, .* An empty line ends a sentence\."),
        ("# one\n\n" + WORD.replace("1\t", "x\t", 1), r"line 3: the ID 'x'; expected 1, the number of the word"),
        (WORD.replace("1\ta", "1\t", 1), r"line 1: FORM is empty; expected a text, or _ for none\."),
        (WORD.replace("X", "", 1), r"line 1: UPOS is empty"),
        (WORD.encode() + b"\n1\t\xff", r"line 3: is not UTF-8 \(invalid start byte\); save the file as UTF-8\."),
        ("# nothing\n\n", r"train\.conllu: has no sentences; expected words in 10 columns\."),
        (gzip.compress(WORD.encode(), mtime=0)[:-9], r"train\.conllu: damaged gzip file"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        conllu.conllu(data_dir=put(tmp_path, train=content, dev=GREEK))


def test_missing_files_are_asked_for(tmp_path):
    with pytest.raises(DataError, match=r"config\.data_dir=None: expected a folder .*universaldependencies\.org"):
        conllu.conllu()
    with pytest.raises(DataError, match=r"there is no such folder"):
        conllu.conllu(data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"has no \.conllu file; treebanks are at"):
        conllu.conllu(data_dir=str(tmp_path))
    put(tmp_path, train=GREEK)
    with pytest.raises(DataError, match=r"has xx_ud-train\.conllu; expected \*-train\.conllu and \*-dev\.conllu"):
        conllu.conllu(data_dir=str(tmp_path))
    (tmp_path / "xx_ud-train.conllu").rename(tmp_path / "few.conllu")
    with pytest.raises(DataError, match=r"2 sentences; expected 10 at least, every tenth of which is a test example"):
        conllu.conllu(data_dir=str(tmp_path))


def long_sentences(folder, lengths):
    text = "".join(sentence(*[("a", "X", "_")] * length) for length in lengths)
    return conllu.conllu(data_dir=put(folder, train=text, dev=GREEK))


def long_texts(folder, lengths):
    (folder / "reviews.tsv").write_text("".join(f"{'a ' * length}\t{i % 2}\n" for i, length in enumerate(lengths)))
    return labelled_text(data_dir=str(folder))


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("load", "lengths"),
    [
        (long_sentences, np.clip(RANDOM.lognormal(2.6, 0.6, 1024), 1, 80)),
        (long_texts, np.clip(RANDOM.gamma(4.0, 5.0, 1280), 1, 52)),
    ],
)
def test_less_than_three_tenths_of_an_epoch_is_padding(tmp_path, load, lengths):
    dataset = load(tmp_path, lengths.astype(int).tolist())
    sizes = words.sizes(dataset.train.arrays)
    plan = Shuffled(dataset.train.num_examples, 64, dataset.padding)
    order = np.asarray(plan.order(np.uint32(0), 0, dataset.train.arrays)).reshape(-1, 64)
    levels = np.array(dataset.padding.levels)
    computed = 64 * levels[np.searchsorted(levels, sizes[order].max(axis=1))].sum()
    assert sizes[order].sum() / computed > 0.7
