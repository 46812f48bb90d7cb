"""OGB's molecules: the files of ogbg-molpcba, as they are published."""

import io
from pathlib import Path

import numpy as np

from flatwide.data import files, graphs, smiles
from flatwide.data.files import DataError
from flatwide.types import Dataset

FOLDERS = ("ogbg_molpcba", "pcba")  # as OGB's package names it, and as its archive does
_RAW = ("node-feat", "edge", "num-node-list", "num-edge-list", "graph-label")
_SOURCE = "OGB's ogbg_molpcba, with raw/*.csv.gz and split/scaffold/*.csv.gz"


def ogbg_molpcba(*, data_dir: str | None = None) -> Dataset:
    """Load ogbg-molpcba: 437,929 molecules and 128 assays of each, active (1) or not (0), most of them missing.

    OGB's training split is the training split, its test split (other scaffolds) the test split; its validation split is
    left out. The bonds' features are not read.

    Args:
      data_dir: the folder that OGB's archive unpacks to, or one whose folder `ogbg_molpcba` or `pcba` it is. Other
        molecules of OGB that are classified have the same files, and so can be read too.
    Raises: DataError naming file and line.
    Cost: with n atoms and e bonds at most, T tasks, (9 n + 4 e + T + 4) bytes a molecule.
    Source: Hu et al. (2020), Open graph benchmark: datasets for machine learning on graphs; Wu et al. (2018).
    """
    if data_dir is None:
        raise DataError(f"config.data_dir=None: expected the folder of {_SOURCE}; set it.")
    expected = f"{_SOURCE}. Get pcba.zip from the page of ogbg-molpcba at ogb.stanford.edu, and unpack it"
    found = files.complete(data_dir, FOLDERS, [f"raw/{name}.csv.gz" for name in _RAW], expected)
    paths = dict(zip(_RAW, found, strict=True))
    num_nodes, num_edges = (_integers(paths[name], columns=1)[:, 0] for name in ("num-node-list", "num-edge-list"))
    nodes, edges = _integers(paths["node-feat"], columns=smiles.NUM_FEATURES), _integers(paths["edge"], columns=2)
    _check_counts(paths["num-node-list"], num_nodes, least=1, total=len(nodes), of=paths["node-feat"])
    _check_counts(paths["num-edge-list"], num_edges, least=0, total=len(edges), of=paths["edge"])
    if len(num_edges) != len(num_nodes):
        raise DataError(
            f"{paths['num-edge-list']}: {len(num_edges)} lines; expected {len(num_nodes)}, one a molecule, as in "
            f"{paths['num-node-list'].name}."
        )
    _check_range(paths["node-feat"], nodes, np.array(smiles.FEATURE_SIZES)[None])
    _check_range(paths["edge"], edges, np.repeat(num_nodes, num_edges)[:, None])
    collected = graphs.Graphs(
        nodes=nodes.astype(np.uint8),
        edges=graphs.node_numbers(edges, int(num_nodes.max())),
        num_nodes=num_nodes,
        num_edges=num_edges,
        labels=_labels(paths["graph-label"], len(num_nodes)),
    )
    train, _, test = _splits(found[0].parents[1] / "split" / "scaffold", len(num_nodes))
    return graphs.dataset(collected, train, test)


def _splits(folder: Path, num_graphs: int) -> list[np.ndarray]:
    """Read the numbers of the molecules of each split."""
    paths = [folder / f"{name}.csv.gz" for name in ("train", "valid", "test")]
    splits = [_integers(path, columns=1) for path in paths]
    seen = np.zeros(num_graphs, bool)
    for path, split in zip(paths, splits, strict=True):
        _check_range(path, split, np.array([[num_graphs]]))
        again = seen[split[:, 0]]
        again[np.setdiff1d(np.arange(len(split)), np.unique(split, return_index=True)[1])] = True
        if again.any():
            line = int(np.argmax(again))
            raise DataError(f"{path}, line {line + 1}: molecule {split[line, 0]} was listed before; expected it once.")
        seen[split[:, 0]] = True
    return [split[:, 0] for split in splits]


def _labels(path: Path, num_graphs: int) -> np.ndarray:
    """Read the labels, [N, T]: 0, 1, or -1 where there is none."""
    table = _table(path, np.float32)
    labels = np.where(np.isnan(table), graphs.MISSING, table)
    wrong = ~np.isin(table, (0, 1)) & ~np.isnan(table)
    if wrong.any():
        line, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{path}, line {line + 1}, column {column + 1}: {table[line, column]:g}; expected 0, 1, or nothing."
        )
    if len(labels) != num_graphs:
        raise DataError(f"{path}: {len(labels)} lines; expected {num_graphs}, one a molecule.")
    return labels.astype(np.int8)


def _integers(path: Path, *, columns: int) -> np.ndarray:
    table = _table(path, np.int64)
    if table.shape[1] != columns:
        raise DataError(f"{path}, line 1: {table.shape[1]} columns; expected {columns}.")
    return table


def _table(path: Path, dtype: type) -> np.ndarray:
    """Read numbers, one row a line; where that fails, find the line."""
    import pandas as pd

    content = files.read(path)
    try:
        table = pd.read_csv(io.BytesIO(content), header=None, dtype=dtype, skip_blank_lines=False).to_numpy()
        if content.count(b",") != table.size - len(table):  # pandas fills what a short line lacks
            raise ValueError("lines of unequal length")
        return table
    except (ValueError, OverflowError) as error:
        wanted = "an integer" if dtype is np.int64 else "a number or nothing"
        lines = content.decode("utf-8", "replace").splitlines()
        for number, line in enumerate(lines, 1):
            fields = line.split(",")
            if len(fields) != len(lines[0].split(",")):
                expected = f"{len(lines[0].split(','))} columns, as in the first line"
                raise DataError(f"{path}, line {number}: {len(fields)} columns; expected {expected}.") from error
            for field in fields:
                if not _is_number(field, dtype):
                    raise DataError(f"{path}, line {number}: {field!r}; expected {wanted}.") from error
        raise DataError(f"{path}: cannot be read as a table of numbers ({error}).") from error


def _is_number(field: str, dtype: type) -> bool:
    try:
        return (field.strip() == "" and dtype is not np.int64) or dtype(field) is not None
    except (ValueError, OverflowError):
        return False


def _check_counts(path: Path, counts: np.ndarray, *, least: int, total: int, of: Path) -> None:
    if (counts < least).any():
        line = int(np.argmax(counts < least))
        raise DataError(f"{path}, line {line + 1}: {counts[line]}; expected at least {least}.")
    if counts.sum() != total:
        raise DataError(f"{path}: the lines add up to {counts.sum()}; expected {total}, the lines of {of.name}.")


def _check_range(path: Path, table: np.ndarray, limits: np.ndarray) -> None:
    """Check that all numbers are at least 0 and below their limits."""
    limits = np.broadcast_to(limits, table.shape)
    wrong = (table < 0) | (table >= limits)
    if wrong.any():
        line, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{path}, line {line + 1}, column {column + 1}: {table[line, column]}; expected an integer in "
            f"[0, {limits[line, column]})."
        )
