"""Molecules from SMILES: OGB's features, labels that may be missing, and what is said of faults."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from rdkit import Chem

from flatwide.data import DataError, smiles
from flatwide.data.smiles import made_molecules, smiles_csv

TABLE = """mol_id,Active,smiles,Toxic
a,1,CCO,0
b,,c1ccccc1,1
c,0.0,"[Na+].[Cl-]",
"""
TEN = ["CCO", "C", "CC", "CCC", "c1ccccc1", "CC=O", "CN", "CCN", "CO", "CCl"]


def molecule(written):
    return smiles.atoms_and_bonds(Chem.MolFromSmiles(written))


def test_features_are_those_that_ogb_documents():
    atoms, bonds = molecule("Cl[C@H](/C=C/C)Br")
    assert_array_equal(atoms[1], [5, 2, 4, 5, 1, 0, 2, 0, 0])  # the example in OGB's own source
    assert_array_equal(bonds, [[0, 1], [1, 2], [2, 3], [3, 4], [1, 5]])
    atoms, bonds = molecule("c1cc[nH]c1")
    assert_array_equal(atoms[3], [6, 0, 3, 5, 1, 0, 1, 1, 1])
    assert len(bonds) == 5
    atoms, bonds = molecule("*[O-]")
    assert_array_equal(atoms[:, 0], [118, 7])  # what is no element is the last
    assert atoms[1, 3] == 4
    assert molecule("[Fe+6]")[0][0, 3] == 11
    assert molecule("[CH3]")[0][0, 5] == 1
    assert molecule("[Na+]")[1].shape == (0, 2)


def test_a_table_with_missing_labels(tmp_path):
    (tmp_path / "train.csv").write_text(TABLE)
    (tmp_path / "test.csv").write_text(TABLE.replace("CCO", "CCCO"))
    dataset = smiles_csv(data_dir=str(tmp_path))
    assert dataset.num_outputs == 2
    assert not dataset.has_real_targets
    assert_array_equal(dataset.train.targets, [[1, 0], [-1, 1], [0, -1]])
    assert_array_equal(dataset.train.arrays["inputs"]["num_nodes"], [3, 6, 2])
    assert_array_equal(dataset.train.arrays["inputs"]["num_edges"], [2, 6, 0])
    assert_array_equal(dataset.test.arrays["inputs"]["num_nodes"], [4, 6, 2])


def test_every_tenth_molecule_of_one_file_is_a_test_example(tmp_path):
    (tmp_path / "all.csv").write_text("smiles,y\n" + "".join(f"{molecule},1\n" for molecule in TEN * 2))
    dataset = smiles_csv(data_dir=str(tmp_path))
    assert (dataset.train.num_examples, dataset.test.num_examples) == (18, 2)
    assert_array_equal(dataset.test.arrays["inputs"]["nodes"][:, 1, 0], [16, 16])  # chlorine
    (tmp_path / "all.csv").write_text("smiles,y\nC,1\n")
    with pytest.raises(DataError, match=r"all.csv: 1 molecules; expected at least 10"):
        smiles_csv(data_dir=str(tmp_path / "all.csv"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c1ccccc1", "c1ccccc", r"refuses 1 of 3 rows: line 3 \('c1ccccc': it cannot be parsed\). Expected at most 5%"),
        ("CCO", "CN(C)(C)(C)C", r"refuses 1 of 3 rows: line 2 \('.*': Explicit valence for atom # 1 N, 5"),
        ("CCO", "", r"refuses 1 of 3 rows: line 2 \('': it is empty\)"),
        (",1\nc", ",2\nc", r"all.csv, line 3, column 'Toxic': '2'; expected 0, 1, or nothing for a missing label"),
        (",1\nc", "\nc", r"all.csv, line 3: 3 columns; expected 4, as in the first line"),
        ("smiles", "formula", r"all.csv, line 1: columns .*; expected one that is named smiles"),
        (TABLE, "smiles\nC\n", r"all.csv, line 1: columns \['smiles'\]; expected one or more with labels"),
        ("c1ccccc1", '"' + "C" * 200_000, r"all.csv, line 3: .*; expected cells with quotation marks to be quoted"),
        (TABLE, "smiles,y,Y\nC,1,0\n", r"all.csv, line 1: two columns are named 'y'; rename one of them"),
        (TABLE, "smiles,y\n", r"all.csv: no molecules; expected one a line behind the first"),
    ],
)
def test_faults_name_the_line(tmp_path, old, new, message):
    (tmp_path / "all.csv").write_text(TABLE.replace(old, new))
    with pytest.raises(DataError, match=message):
        smiles_csv(data_dir=str(tmp_path))


def test_rows_that_rdkit_refuses_are_counted_named_and_left_out(tmp_path):
    rows = TEN * 3
    rows[12] = "CN(C)(C)(C)C"
    (tmp_path / "all.csv").write_text("smiles,y\n" + "".join(f"{written},1\n" for written in rows))
    with pytest.warns(UserWarning, match=r"refuses 1 of 30 rows: line 14 \('CN\(C\).*valence.*They are left out"):
        dataset = smiles_csv(data_dir=str(tmp_path))
    assert (dataset.train.num_examples, dataset.test.num_examples) == (26, 3)
    assert_array_equal(dataset.test.arrays["inputs"]["nodes"][:, 1, 0], [16, 16, 16])  # still every tenth row


def test_a_scaffold_is_in_one_split_and_rare_ones_are_tested(tmp_path):
    rings = ["c1ccccc1", "C1CCCC1", "c1ccncc1"]
    rows = [f"{'C' * (1 + n // 3)}{rings[0 if n < 12 else 1 if n < 18 else 2]}" for n in range(20)]
    (tmp_path / "all.csv").write_text("smiles,y\n" + "".join(f"{written},1\n" for written in rows))
    dataset = smiles_csv(data_dir=str(tmp_path), test_split="scaffold")
    nitrogen = 6
    assert (dataset.train.num_examples, dataset.test.num_examples) == (18, 2)
    assert (dataset.test.arrays["inputs"]["nodes"][..., 0] == nitrogen).any(axis=1).all()
    assert not (dataset.train.arrays["inputs"]["nodes"][..., 0] == nitrogen).any()
    with pytest.raises(DataError, match=r"config.test_split='random': expected one of every_tenth, scaffold"):
        smiles_csv(data_dir=str(tmp_path), test_split="random")
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text(TABLE)
    with pytest.raises(DataError, match=r"config.test_split='scaffold': .* has a test.csv, which is the test split"):
        smiles_csv(data_dir=str(tmp_path), test_split="scaffold")


def test_a_table_in_another_encoding_is_named_with_its_line(tmp_path):
    (tmp_path / "all.csv").write_bytes(TABLE.encode() + b"\xe9\n")
    with pytest.raises(DataError, match=rf"all.csv, line {TABLE.count(chr(10)) + 1}: is not UTF-8 \(.*\); save"):
        smiles_csv(data_dir=str(tmp_path))


def test_missing_files_say_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"config.data_dir=None: expected a folder with train.csv and test.csv"):
        smiles_csv()
    (tmp_path / "train.csv").write_text(TABLE)
    (tmp_path / "dev.csv").write_text(TABLE)
    with pytest.raises(DataError, match=r"\.csv files \['dev.csv', 'train.csv'\]; expected train.csv and test.csv"):
        smiles_csv(data_dir=str(tmp_path))
    (tmp_path / "test.csv").write_text(TABLE.replace("Toxic", "Other"))
    with pytest.raises(DataError, match=r"test.csv: tasks \['Active', 'Other'\]; expected those of train.csv"):
        smiles_csv(data_dir=str(tmp_path))


def test_without_rdkit_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(smiles.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'flatwide\[molecules\]'"):
        made_molecules()


@pytest.mark.slow
def test_made_molecules_are_what_the_docs_say():
    dataset = made_molecules()
    assert (dataset.train.num_examples, dataset.test.num_examples, dataset.num_outputs) == (3993, 998, 128)
    for labels in (dataset.train.targets, dataset.test.targets):
        assert abs((labels < 0).mean() - 0.4) < 4 * (0.24 / labels.size) ** 0.5
        assert {-1, 0, 1} == set(np.unique(labels))
        assert ((labels == 1).sum(axis=0) > 0).all()
    assert made_molecules().fingerprint == dataset.fingerprint
