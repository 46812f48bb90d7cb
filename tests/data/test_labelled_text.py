"""Texts with labels in their true formats, and what is said of damaged ones."""

import csv
import gzip
import io

import pytest

from flatwide.data import DataError, hub, words
from flatwide.data.labelled_text import labelled_text, read, split_words, sst2

# As in GLUE's archive: a space after each phrase, quotation marks that quote nothing.
GLUE_TRAIN = (
    "sentence\tlabel\n"
    "hide new secretions from the parental units \t0\n"
    'contains no wit , only labored gags " \t0\n'
    "that loves its characters and communicates something rather beautiful about human nature \t1\n"
    "the units , the wit \t1\n"
)
GLUE_DEV = "sentence\tlabel\nit 's a charming and often affecting journey . \t1\nno wit .\t0\n"


def put(folder, **contents):
    """Write files; `train_csv` becomes train.csv."""
    for name, content in contents.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def test_glues_files(tmp_path):
    (tmp_path / "SST-2").mkdir()
    put(tmp_path / "SST-2", train_tsv=GLUE_TRAIN, dev_tsv=GLUE_DEV, test_tsv="index\tsentence\n0\tuneasy mishmash\n")
    dataset = sst2(data_dir=str(tmp_path))
    assert dataset.train.targets.tolist() == [0, 0, 1, 1]
    assert dataset.test.targets.tolist() == [1, 0]
    # Twice or thrice: the, ",", units, wit; then by spelling from '"' on. Words are what spaces part.
    vocabulary = words.vocabulary([line.split("\t")[0].split() for line in GLUE_TRAIN.splitlines()[1:]])
    assert [word for word in vocabulary if vocabulary[word] < 7] == ["the", ",", "units", "wit", '"']
    assert dataset.test.arrays["inputs"][1].tolist() == [vocabulary["no"], vocabulary["wit"], 1] + [0] * 9
    assert (dataset.example.shape, dataset.example.num_values) == ((12,), 2 + len(vocabulary))
    assert dataset.num_outputs == 2
    assert dataset.padding.window == 16
    assert sst2(data_dir=put(tmp_path, train_tsv=GLUE_TRAIN, dev_tsv=GLUE_DEV)).fingerprint == dataset.fingerprint


def test_rare_words_and_long_texts(tmp_path):
    data_dir = put(tmp_path, train_tsv=GLUE_TRAIN, dev_tsv=GLUE_DEV)
    dataset = sst2(data_dir=data_dir, min_word_count=2, max_length=3, size_window=4)
    # Only what is left of a text is counted.
    assert dataset.train.arrays["inputs"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert dataset.example.num_values == 2
    dataset = sst2(data_dir=data_dir, min_word_count=2, max_length=5, size_window=4)
    assert dataset.train.arrays["inputs"].tolist()[3] == [2, 1, 3, 2, 4]
    assert dataset.padding.window == 4


def test_sst2_from_the_hub(monkeypatch):
    tables = {
        "train": {"sentence": ["a wit ", "no"], "label": [1, 0]},
        "validation": {"sentence": ["wit"], "label": [1]},
    }

    def opened(repository, *, splits, columns, name, files):
        assert (repository, columns, name) == ("stanfordnlp/sst2", ("sentence", "label"), "sst2")
        return [tables[split] for split in splits]

    monkeypatch.setattr(hub, "tables", opened)
    dataset = sst2()
    assert dataset.train.arrays["inputs"].tolist() == [[2, 4], [3, 0]]
    assert dataset.test.arrays["inputs"].tolist() == [[4, 0]]
    tables["validation"]["label"] = [-1]
    with pytest.raises(DataError, match=r"'stanfordnlp/sst2', split 'validation', line 1: the label '-1'; expected"):
        sst2()


def test_without_files_or_a_network_it_says_what_to_prepare():
    with pytest.raises(DataError, match=r"config\.dataset='sst2': .* Put GLUE's train\.tsv and dev\.tsv into a folder"):
        sst2()


def test_words_and_punctuation():
    assert split_words("It's NAÏVE -- the 1950s’ look…") == ["it's", "naïve", "--", "the", "1950s", "’", "look", "…"]
    assert split_words("Wow!!! (50%)") == ["wow", "!!!", "(", "50", "%", ")"]


def test_a_csv_file_quoted_as_rfc_4180_says(tmp_path):
    rows = [['He said "no", twice', "bad"], ["two\nlines", "good"], ["plain", "fair"], ["no", "bad"]] * 3
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["id", "Label", "Text"], *([i, label, text] for i, (text, label) in enumerate(rows))])
    data_dir = put(tmp_path, train_csv="\ufeff" + buffer.getvalue(), test_csv='text,label\n"two ""no"" lines",fair\n')
    dataset = labelled_text(data_dir=data_dir)
    assert dataset.train.targets.tolist() == [0, 2, 1, 0] * 3  # bad, fair, good
    vocabulary = words.vocabulary([split_words(text) for text, _ in rows])
    assert dataset.train.arrays["inputs"][0].tolist() == [
        vocabulary[w] for w in ["he", "said", '"', "no", '"', ",", "twice"]
    ]
    tokens = [vocabulary[w] for w in ["two", '"', "no", '"', "lines"]]
    assert dataset.test.arrays["inputs"][0].tolist() == [*tokens, 0, 0]


def test_a_long_text_is_read_and_a_missing_quotation_mark_is_named_as_such(tmp_path):
    long, more = "word " * 40_000, "".join(f"fine {i},{i % 2}\n" for i in range(20_000))
    path = tmp_path / "train.csv"
    path.write_text(f'text,label\n"{long}",1\n{more}')
    assert len(read(path).rows[0].text) == 200_000
    path.write_text(f'text,label\n"unclosed,1\n{more}')
    with pytest.raises(DataError, match="line 2: unexpected end of data; expected cells with quotation marks"):
        read(path)
    assert csv.field_size_limit() == 131_072


def test_a_tsv_file_may_quote_whole_cells_and_number_its_labels(tmp_path):
    text = 'a\t10\r\n"b ""c"""\t9\r\n"d" e\t10\r\n"\t9\r\n'
    dataset = labelled_text(data_dir=put(tmp_path, train_tsv=gzip.compress(text.encode()), dev_tsv='"d"\t10\n'))
    assert dataset.train.targets.tolist() == [1, 0, 1, 0]  # 9 comes before 10
    vocabulary = words.vocabulary([["a"], ["b", '"', "c", '"'], ['"', "d", '"', "e"], ['"']])
    assert dataset.train.arrays["inputs"].tolist()[1:3] == [[vocabulary[w] for w in text] for text in ('b"c"', '"d"e')]
    assert dataset.test.arrays["inputs"].tolist() == [[vocabulary["d"], 0, 0, 0]]


def test_every_tenth_text_of_a_single_file_is_a_test_example(tmp_path):
    (tmp_path / "reviews.csv").write_text("".join(f"w{i},{i % 2}\n" for i in range(1, 26)))
    for data_dir in (tmp_path, tmp_path / "reviews.csv"):
        dataset = labelled_text(data_dir=str(data_dir))
        assert (dataset.train.num_examples, dataset.test.num_examples) == (23, 2)
        assert dataset.test.arrays["inputs"].tolist() == [[1], [1]]  # w10 and w20, which no training text has
        assert dataset.test.targets.tolist() == [0, 0]


GOOD = "text\tlabel\na b\tx\nc\ty\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_tsv", GOOD + "d x\n", r"train\.tsv, line 4: 1 columns; expected 2, as its first line has\."),
        (
            "train_tsv",
            "a\tx\nb\ty\nc\tx\tz\n",
            r"line 3: 3 columns; expected 2, a text and a label, or a first line",
        ),
        (
            "train_csv",
            "text,label\na,x\nb, c,y\n",
            r"csv, line 3: 3 columns; .*; quote a text that has commas\.",
        ),
        ("train_csv", 'text,label\n"a\nb",x\n"c"d,y\n', r"train\.csv, line 4: .* expected cells with quotation marks"),
        ("train_csv", 'text,label\na,x\n"c,y\n', r"train\.csv, line 3: unexpected end of data"),
        ("train_tsv", GOOD + "d\tNaN\n", r"train\.tsv, line 4: no label \(NaN\); expected one, or leave it out\."),
        ("train_csv", "text,label\na,0\nb,null\n", r"train\.csv, line 3: no label \(null\); expected one"),
        ("train_tsv", "text\tlabel\tlabel\na\t0\t1\n", r"train\.tsv, line 1: two columns are named 'label'; rename"),
        ("train_tsv", GOOD + "d\t\n", r"train\.tsv, line 4: no label; expected one, or leave it out\."),
        ("train_tsv", GOOD + " \tx\n", r"train\.tsv, line 4: the text ' ' has no words; leave the line out\."),
        (
            "train_tsv",
            GOOD.encode() + b"\xe9\tx\n",
            r"line 4: is not UTF-8 \(.*\); save the file as UTF-8\.",
        ),
        (
            "train_tsv",
            "review\tsentiment\na\tx\nb\ty\n",
            r"line 1: the label 'sentiment' occurs nowhere else\. If",
        ),
        ("train_tsv", "text\tlabel\n", r"train\.tsv: has names of columns and no rows"),
        ("train_tsv", "\n\n", r"train\.tsv: is empty; expected a text and a label a line\."),
        ("train_tsv", "text\tlabel\na\tx\nb\tx\n", r"train\.tsv: every label is 'x'; expected two classes at least\."),
        ("train_tsv", "text\tlabel\na\tx\nb\ty\nc\tz\n", r"train\.tsv: 3 different labels for 3 texts; expected few"),
        ("train_tsv", gzip.compress(GOOD.encode(), mtime=0)[:-9], r"train\.tsv: damaged gzip file"),
        ("dev_tsv", GOOD + "a\tz\n", r"dev\.tsv, line 4: the label 'z'; expected one of 'x', 'y', the labels of the"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, name, content, message):
    files = {"dev_tsv": GOOD} | ({"train_tsv": GOOD} if name == "dev_tsv" else {}) | {name: content}
    with pytest.raises(DataError, match=message):
        labelled_text(data_dir=put(tmp_path, **files))


def test_missing_files_are_asked_for(tmp_path):
    with pytest.raises(DataError, match=r"config\.data_dir=None: expected a folder with train\.tsv and dev\.tsv"):
        labelled_text()
    with pytest.raises(DataError, match=r"there is no such folder"):
        labelled_text(data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"has no \.tsv or \.csv file; expected train\.tsv and dev\.tsv"):
        labelled_text(data_dir=str(tmp_path))
    with pytest.raises(DataError, match=r"has no dev\.tsv; expected GLUE's"):
        sst2(data_dir=put(tmp_path, train_tsv=GLUE_TRAIN))
    with pytest.raises(DataError, match=r"4 texts; expected 10 at least, every tenth of which is a test example"):
        labelled_text(data_dir=str(tmp_path))
    with pytest.raises(DataError, match=r"has train\.csv, train\.tsv; expected train\.tsv and dev\.tsv"):
        labelled_text(data_dir=put(tmp_path, train_csv=GLUE_TRAIN))
