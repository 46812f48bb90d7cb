"""Molecules written as SMILES, read by RDKit into graphs of atoms and bonds with the features that OGB gives them."""

import importlib.util
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from flatwide import registry, streams
from flatwide.data import files, graphs
from flatwide.data.files import DataError
from flatwide.types import Dataset

TEST_SPLITS = ("every_tenth", "scaffold")
MAX_NAMED = 10  # rows in a warning
MAX_REFUSED = 0.05  # of the rows; where RDKit refuses more, the column is hardly one of SMILES
NO_LABELS = ("id", "mol_id", "num", "name", "cid")  # columns that only name a molecule
LABELS = {"": graphs.MISSING, "nan": graphs.MISSING, "0": 0, "0.0": 0, "1": 1, "1.0": 1}
NUM_FEATURES = 9

NUM_MADE = 128
_SYNTHETIC_TEST_EVERY = 5
MADE_NOISE = 0.05  # of the labels are flipped
MADE_MISSING = 0.4
_KIND = (0, 4, 8)  # features that tell the kinds of atoms of the synthetic labels apart: element, hydrogens, in a ring
_LARGEST_SHARE = 0.5  # of the molecules that have what a synthetic label asks for
_LAYOUT = "train.csv and test.csv, or one file"

_CHIRALITY = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
_HYBRIDIZATION = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
# How many values each feature has; what is none of the known ones is the last, except for the two that are yes or no.
FEATURE_SIZES = (119, 5, 12, 12, 10, 6, 6, 2, 2)


class Row(NamedTuple):
    """One row of a file."""

    index: int  # from 0, behind the first line
    line: int  # where it begins, from 1
    smiles: str
    labels: list[int]
    molecule: Any = None  # RDKit's, once it is read


def smiles_csv(*, data_dir: str | None = None, test_split: str = "every_tenth") -> Dataset:
    """Load molecules with labels of yes or no, some of them missing.

    Rows whose SMILES RDKit refuses are left out with a warning that counts and names them.

    Args:
      data_dir: a .csv file (or .csv.gz) with all molecules, or a folder with train.csv and test.csv, or with one such
        file. The first line names the columns: `smiles`, and one a task with 0, 1, or nothing where there is no label.
        Columns named id, mol_id, num, name or cid are left alone.
      test_split: which molecules of a single file are test examples. "every_tenth" row, or "scaffold": molecules with
        one Bemis-Murcko scaffold stay together, and the rarest scaffolds, a tenth of the molecules, are the test split.
    Raises: DataError naming file and line; if RDKit refuses more than a twentieth of the rows; or if RDKit is not
      installed.
    Source: Bemis and Murcko (1996); the order of MoleculeNet's scaffold split, most frequent scaffolds to training.
    """
    if data_dir is None:
        raise DataError(f"config.data_dir=None: expected a folder with {_LAYOUT}; set it.")
    if test_split not in TEST_SPLITS:
        raise DataError(f"config.test_split={test_split!r}: expected one of {', '.join(TEST_SPLITS)}.")
    paths = _find(data_dir)
    if len(paths) == 2 and test_split != "every_tenth":
        raise DataError(
            f"config.test_split={test_split!r}: {data_dir} has a {paths[1].name}, which is the test split; give one "
            "file with all molecules, or leave test_split out."
        )
    tables = [_read(path) for path in paths]
    if len({tuple(tasks) for tasks, _ in tables}) > 1:
        raise DataError(f"{paths[1]}: tasks {tables[1][0]}; expected those of {paths[0].name}, {tables[0][0]}.")
    accepted = [_accepted(path, rows) for path, (_, rows) in zip(paths, tables, strict=True)]
    rows = [row for kept in accepted for row in kept]
    if len(paths) == 2:
        is_test = np.arange(len(rows)) >= len(accepted[0])
    elif test_split == "scaffold":
        is_test = _in_rare_scaffold([row.molecule for row in rows])
    else:  # by the row in the file, so that what a version of RDKit refuses moves no other molecule
        is_test = np.array([row.index % files.TEST_EVERY == files.TEST_EVERY - 1 for row in rows])
    if is_test.all() or not is_test.any():
        raise DataError(
            f"{paths[0]}: {len(rows)} molecules; expected at least {files.TEST_EVERY}, to have some to test on."
        )
    labels = np.array([row.labels for row in rows], np.int8)
    graphs_of_rows = collect([atoms_and_bonds(row.molecule) for row in rows], labels)
    return graphs.dataset(graphs_of_rows, np.flatnonzero(~is_test), np.flatnonzero(is_test))


def made_molecules() -> Dataset:
    """Load 4,991 real molecules with 128 synthetic labels each, to try the software: scores say nothing of assays.

    A label says whether the molecule has at least k atoms of a certain kind with certain neighbours; one label in
    twenty, drawn at random, is flipped, and 40 % are missing. Every fifth molecule is a test example, with labels made
    the same way.

    Raises: DataError if RDKit, whose wheel holds the molecules, is not installed.
    Source: the first 5,000 lines of the National Cancer Institute's molecules, in RDKit; those that RDKit cannot read
      are left out.
    """
    chemistry = _rdkit()
    path = Path(importlib.util.find_spec("rdkit").origin).parent / "Data" / "NCI" / "first_5k.tpsa.csv"  # type: ignore
    lines = [line.split(",")[0] for line in files.read(path).decode().splitlines() if not line.startswith("#")]
    read = [chemistry.MolFromSmiles(line) for line in lines]
    molecules = [atoms_and_bonds(molecule) for molecule in read if molecule is not None]
    is_test = np.arange(len(molecules)) % _SYNTHETIC_TEST_EVERY == _SYNTHETIC_TEST_EVERY - 1
    collected = collect(molecules, _synthetic_labels(molecules))
    return graphs.dataset(collected, np.flatnonzero(~is_test), np.flatnonzero(is_test))


def _accepted(path: Path, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that RDKit can read, with their molecules; warn of the others, or refuse too many."""
    chemistry = _rdkit()
    read = [row._replace(molecule=chemistry.MolFromSmiles(row.smiles)) for row in rows]
    accepted = [row for row in read if row.molecule is not None and row.molecule.GetNumAtoms() > 0]
    accepted_rows = {row.index for row in accepted}
    refused = [row for row in read if row.index not in accepted_rows]
    if not refused:
        return accepted
    shown = [f"line {row.line} ({row.smiles!r}: {_reason(chemistry, row.smiles)})" for row in refused[:MAX_NAMED]]
    more = f" and {len(refused) - MAX_NAMED} more" if len(refused) > MAX_NAMED else ""
    described = f"{path}: RDKit refuses {len(refused)} of {len(rows)} rows: {'; '.join(shown)}{more}"
    if len(refused) > MAX_REFUSED * len(rows):
        raise DataError(f"{described}. Expected at most {MAX_REFUSED:.0%}; correct or remove these rows.")
    warnings.warn(f"{described}. They are left out.", stacklevel=3)
    return accepted


def _in_rare_scaffold(molecules: Sequence[Any]) -> np.ndarray:
    """Whether each molecule belongs to the rarest scaffolds, which together are at most a tenth of all molecules."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    members = defaultdict(list)
    for index, molecule in enumerate(molecules):
        members[MurckoScaffold.MurckoScaffoldSmiles(mol=molecule, includeChirality=False)].append(index)
    # Frequent scaffolds first, and among equals the one whose first molecule comes first in the file.
    ordered = sorted(members.values(), key=lambda group: (-len(group), group[0]))
    num_train = len(molecules) - len(molecules) // files.TEST_EVERY
    is_test = np.zeros(len(molecules), bool)
    filled = 0
    for group in ordered:
        if filled + len(group) > num_train:
            is_test[group] = True
        else:
            filled += len(group)
    return is_test


def collect(molecules: Sequence[tuple[np.ndarray, np.ndarray]], labels: np.ndarray) -> graphs.Graphs:
    """Concatenate molecules."""
    num_nodes = np.array([len(atoms) for atoms, _ in molecules])
    num_edges = np.array([len(bonds) for _, bonds in molecules])
    edges = np.concatenate([bonds for _, bonds in molecules])
    return graphs.Graphs(
        nodes=np.concatenate([atoms for atoms, _ in molecules]),
        edges=graphs.node_numbers(edges, int(num_nodes.max())),
        num_nodes=num_nodes,
        num_edges=num_edges,
        labels=labels,
    )


def _rdkit() -> ModuleType:
    if importlib.util.find_spec("rdkit") is None:
        raise DataError("RDKit, which reads SMILES, is not installed: pip install 'flatwide[molecules]'.")
    from rdkit import Chem, rdBase

    rdBase.DisableLog("rdApp.*")  # it would write to the terminal what the message says with its line
    return Chem


def _reason(chemistry: ModuleType, smiles: str) -> str:
    if not smiles.strip():
        return "it is empty"
    unchecked = chemistry.MolFromSmiles(smiles, sanitize=False)
    problems = [] if unchecked is None else chemistry.DetectChemistryProblems(unchecked)
    return problems[0].Message() if problems else "it cannot be parsed"


def atoms_and_bonds(molecule) -> tuple[np.ndarray, np.ndarray]:
    """Return the graph of one molecule of RDKit's.

    Returns: its atoms [n, 9] uint8, hydrogens left out, with OGB's features as numbers of their values (atomic number
      less 1, chirality, bonds with hydrogens, charge, hydrogens, unpaired electrons, hybridization, in an aromatic
      system, in a ring), and its bonds [e, 2], each once.
    """
    atoms = [_features(atom) for atom in molecule.GetAtoms()]
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    return np.array(atoms, np.uint8), np.array(bonds, np.int32).reshape(-1, 2)


def _features(atom) -> tuple[int, ...]:
    values = (
        atom.GetAtomicNum() - 1,
        _number(str(atom.GetChiralTag()), _CHIRALITY),
        atom.GetTotalDegree(),
        atom.GetFormalCharge() + 5,
        atom.GetTotalNumHs(),
        atom.GetNumRadicalElectrons(),
        _number(str(atom.GetHybridization()), _HYBRIDIZATION),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
    )
    return tuple(v if 0 <= v < size else size - 1 for v, size in zip(values, FEATURE_SIZES, strict=True))


def _number(value: str, names: tuple[str, ...]) -> int:
    return names.index(value) if value in names else len(names)


def _synthetic_labels(molecules: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Label each molecule by the 128 most frequent environments that at most half of the molecules have."""
    environments = [_environments(atoms, bonds) for atoms, bonds in molecules]
    counts = Counter(environment for some in environments for environment in some)
    shares = {environment: count / len(molecules) for environment, count in counts.items()}
    candidates = [environment for environment, share in shares.items() if share <= _LARGEST_SHARE]
    tasks = sorted(candidates, key=lambda environment: (-shares[environment], environment))[:NUM_MADE]
    labels = np.array([[task in some for task in tasks] for some in environments], np.int8)
    random = streams.generator(0, "made molecules")
    labels = np.where(random.random(labels.shape) < MADE_NOISE, 1 - labels, labels)
    return np.where(random.random(labels.shape) < MADE_MISSING, graphs.MISSING, labels).astype(np.int8)


def _environments(atoms: np.ndarray, bonds: np.ndarray) -> set[tuple[int, ...]]:
    """List (k, kind of atom, elements of its neighbours in order) for all k up to how many such a molecule has."""
    neighbours: list[list[int]] = [[] for _ in atoms]
    for first, second in bonds:
        neighbours[first].append(int(atoms[second][0]))
        neighbours[second].append(int(atoms[first][0]))
    kinds = [tuple(int(atom[column]) for column in _KIND) for atom in atoms]
    counts = Counter((*kind, *sorted(around)) for kind, around in zip(kinds, neighbours, strict=True))
    return {(k, *environment) for environment, count in counts.items() for k in range(1, count + 1)}


def _find(data_dir: str) -> list[Path]:
    """Find the training and the test file, or the one file."""
    tables = {path.name.removesuffix(".gz"): path for path in files.listed(data_dir, (".csv", ".csv.gz"))}
    if {"train.csv", "test.csv"} <= set(tables):
        return [tables["train.csv"], tables["test.csv"]]
    if len(tables) == 1 or Path(data_dir).expanduser().is_file():
        return list(tables.values())
    raise DataError(f"config.data_dir={data_dir!r}: .csv files {sorted(tables)}; expected {_LAYOUT}.")


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """Read the names of the tasks, and the molecules."""
    table = files.csv_rows(path)
    _, header = next(table, (1, []))
    names = [name.strip().lower() for name in header]
    if names.count("smiles") != 1:
        raise DataError(f"{path}, line 1: columns {header}; expected one that is named smiles.")
    if twice := registry.repeated(names):
        raise DataError(f"{path}, line 1: two columns are named {twice!r}; rename one of them.")
    at = names.index("smiles")
    tasks = [column for column, name in enumerate(names) if column != at and name not in NO_LABELS]
    if not tasks:
        raise DataError(f"{path}, line 1: columns {header}; expected one or more with labels.")
    rows = []
    for line, fields in table:
        smiles, labels = _row(fields, header, at, tasks, f"{path}, line {line}")
        rows.append(Row(index=len(rows), line=line, smiles=smiles, labels=labels))
    if not rows:
        raise DataError(f"{path}: no molecules; expected one a line behind the first.")
    return [header[column] for column in tasks], rows


def _row(fields: list[str], header: list[str], at: int, tasks: list[int], location: str) -> tuple[str, list[int]]:
    if len(fields) != len(header):
        raise DataError(f"{location}: {len(fields)} columns; expected {len(header)}, as in the first line.")
    labels = []
    for column in tasks:
        if (label := fields[column].strip().lower()) not in LABELS:
            raise DataError(
                f"{location}, column {header[column]!r}: {fields[column]!r}; expected 0, 1, or nothing for a missing "
                f"label; remove columns that are no labels, or name them one of {', '.join(NO_LABELS)}."
            )
        labels.append(LABELS[label])
    return fields[at].strip(), labels
