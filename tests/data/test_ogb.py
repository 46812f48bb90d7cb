"""OGB's files: a small folder in the true format, and what is said of damaged ones."""

import gzip

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flatwide.data import DataError
from flatwide.data.ogb import ogbg_molpcba

FILES = {
    "raw/num-node-list": "3\n1\n2\n2\n",
    "raw/num-edge-list": "2\n0\n1\n1\n",
    "raw/node-feat": "5,0,4,5,3,0,2,0,0\n5,0,4,5,2,0,2,0,0\n7,0,2,5,1,0,2,0,0\n10,0,0,6,0,0,2,0,0\n"
    "5,0,4,5,3,0,2,0,0\n5,1,4,5,3,0,2,0,0\n6,0,3,5,2,0,1,0,1\n118,4,11,11,9,5,5,1,1\n",
    "raw/edge": "0,1\n1,2\n0,1\n1,0\n",
    "raw/edge-feat": "0,0,0\n0,0,0\n0,0,0\n1,0,1\n",
    "raw/graph-label": "0.0,,1.0\n,,\n1,0,\n0,0,0\n",
    "split/scaffold/train": "0\n3\n",
    "split/scaffold/valid": "2\n",
    "split/scaffold/test": "1\n",
}


def write(folder, **changed):
    for name, text in FILES.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(changed.get(path.name.removesuffix(".csv.gz").replace("-", "_"), text).encode()))
    return folder


def test_graphs_labels_and_splits(tmp_path):
    write(tmp_path / "ogbg_molpcba")
    dataset = ogbg_molpcba(data_dir=str(tmp_path))
    assert dataset.num_outputs == 3
    assert not dataset.has_real_targets
    train, test = dataset.train.arrays, dataset.test.arrays
    assert_array_equal(train["targets"], [[0, -1, 1], [0, 0, 0]])
    assert_array_equal(test["targets"], [[-1, -1, -1]])
    assert_array_equal(train["inputs"]["num_nodes"], [3, 2])
    assert_array_equal(train["inputs"]["num_edges"], [2, 1])
    assert_array_equal(train["inputs"]["nodes"][:, :, 0], [[5, 5, 7], [6, 118, 0]])
    assert_array_equal(train["inputs"]["edges"], [[[0, 1], [1, 2]], [[1, 0], [0, 0]]])
    assert_array_equal(test["inputs"]["nodes"][0], [[10, 0, 0, 6, 0, 0, 2, 0, 0], [0] * 9, [0] * 9])
    assert train["inputs"]["nodes"].dtype == train["inputs"]["edges"].dtype == np.uint8
    again = ogbg_molpcba(data_dir=str(tmp_path / "ogbg_molpcba"))
    assert again.fingerprint == dataset.fingerprint
    other = write(tmp_path / "pcba", graph_label="0.0,,1.0\n,,\n1,0,\n0,0,1\n")
    assert ogbg_molpcba(data_dir=str(other)).fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"node_feat": FILES["raw/node-feat"].replace("7,0,2", "7,x,2")},
            r"node-feat.csv.gz, line 3: 'x'; expected an",
        ),
        (
            {"node_feat": FILES["raw/node-feat"].replace("7,0,2", "7,2")},
            r"node-feat.csv.gz, line 3: 8 columns; expected 9 columns, as in the first line",
        ),
        (
            {"node_feat": FILES["raw/node-feat"].replace("7,0,2", "7,0,12")},
            r"node-feat.csv.gz, line 3, column 3: 12; expected an integer in \[0, 12\)",
        ),
        ({"edge": "0,1\n1,2\n0,2\n1,0\n"}, r"edge.csv.gz, line 3, column 2: 2; expected an integer in \[0, 2\)"),
        ({"edge": "0\n1\n0\n1\n"}, r"edge.csv.gz, line 1: 1 columns; expected 2"),
        ({"num_node_list": "3\n0\n2\n3\n"}, r"num-node-list.csv.gz, line 2: 0; expected at least 1"),
        (
            {"num_node_list": "3\n1\n2\n1\n"},
            r"num-node-list.csv.gz: the lines add up to 7; expected 8, the lines",
        ),
        ({"num_edge_list": "2\n1\n1\n"}, r"num-edge-list.csv.gz: 3 lines; expected 4, one a molecule"),
        (
            {"graph_label": "0,,1\n,2,\n1,0,\n0,0,0\n"},
            r"graph-label.csv.gz, line 2, column 2: 2; expected 0, 1, or",
        ),
        (
            {"graph_label": "0,,1\n,no,\n1,0,\n0,0,0\n"},
            r"graph-label.csv.gz, line 2: 'no'; expected a number",
        ),
        (
            {"graph_label": "0,,1\n,1\n1,0,\n0,0,0\n"},
            r"graph-label.csv.gz, line 2: 2 columns; expected 3 columns, as in the first line",
        ),
        ({"num_edge_list": f"2\n1\n{10**20}\n1\n"}, r"num-edge-list.csv.gz, line 3: '1000.*; expected an integer"),
        ({"graph_label": "0,,1\n,,\n1,0,\n"}, r"graph-label.csv.gz: 3 lines; expected 4, one a molecule"),
        ({"train": "0\n4\n"}, r"train.csv.gz, line 2, column 1: 4; expected an integer in \[0, 4\)"),
        ({"test": "1\n3\n"}, r"test.csv.gz, line 2: molecule 3 was listed before; expected it once"),
        ({"valid": "2\n2\n"}, r"valid.csv.gz, line 2: molecule 2 was listed before"),
    ],
)
def test_damaged_files_name_the_line(tmp_path, changed, message):
    write(tmp_path, **changed)
    with pytest.raises(DataError, match=message):
        ogbg_molpcba(data_dir=str(tmp_path))


def test_missing_files_say_what_to_get(tmp_path):
    with pytest.raises(DataError, match=r"config.data_dir=None: expected the folder of OGB's ogbg_molpcba"):
        ogbg_molpcba()
    write(tmp_path)
    (tmp_path / "raw" / "edge.csv.gz").unlink()
    with pytest.raises(DataError, match=r"has no raw/edge.csv.gz; expected .* Get pcba.zip from"):
        ogbg_molpcba(data_dir=str(tmp_path))
    write(tmp_path)
    (tmp_path / "raw" / "edge.csv.gz").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(DataError, match=r"edge.csv.gz: damaged gzip file"):
        ogbg_molpcba(data_dir=str(tmp_path))
