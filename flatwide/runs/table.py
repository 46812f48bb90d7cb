"""The results table of a work directory: one row per run, rebuilt from the run directories at any time."""

import contextlib
import csv
import functools
import io
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import csv_cells
from flatwide.columns import DONE, RESULT_FIELDS
from flatwide.config import SCHEMA, digest
from flatwide.runs import disk, records
from flatwide.runs.directory import (
    FILE_VERSION,
    IDENTITY,
    METRICS_DIGEST,
    STARTED_ON,
    UNREAD,
    RunDirectory,
    run_directories,
    write_atomically,
)

if TYPE_CHECKING:
    import pandas as pd

_BESIDE = ("data", "threads")  # of an identity
_MOST_KEPT = 200_000  # readings of runs that a process keeps; each is some kilobytes


class Reading(NamedTuple):
    """What a table and a report take from the directory of one run, new, in training or done.

    row: its row of the table without measurements; empty if the run is new. measured: its measurements. beside: values
      of its config that the row lacks: the fingerprint of its data, and the threads that it asked for.
    is_earlier: whether an earlier version of flatwide started it, whose files do not say to which run they belong.
    """

    row: dict[str, Any]
    measured: Sequence[records.Record] = ()
    beside: Mapping[str, Any] = {}
    is_earlier: bool = False


def read_runs(workdir: Path | str) -> dict[str, Reading]:
    """Read every run of a work directory, by name; again in one process, only those whose files have changed."""
    return {run.name: _read(run, _state_of_files(run)) for run in run_directories(workdir)}


def collect_rows(runs: Mapping[str, Reading]) -> list[dict[str, Any]]:
    """Return one row per run: `run`, `status`, all config and result fields, and the measurements at its end.

    Runs that are not done are included. The status is "damaged" if a file is damaged, "unreadable" if one cannot be
    read, "mismatch" if the directory is named after another run; then `problem` has the reason.
    """
    usual = records.usual_examples(run.measured for run in runs.values())
    return [
        run.row | records.columns(run.measured, usual, training_seconds=run.row.get("seconds"))
        for run in runs.values()
        if run.row
    ]


def collect(workdir: Path | str) -> "pd.DataFrame":
    """Read the results table, as `tabulate` makes it."""
    return tabulate(read_runs(workdir))


def collect_done(workdir: Path | str) -> "pd.DataFrame":
    """Read the results table of a work directory that must have a run that is done.

    Raises: FileNotFoundError if there is no such folder; ValueError if no run is done.
    """
    if not Path(workdir).is_dir():
        raise FileNotFoundError(f"{str(workdir)!r}: there is no such folder; expected a work directory.")
    runs = collect(workdir)
    if not len(runs) or set(runs["status"]).isdisjoint(DONE):
        raise ValueError(f"{workdir}: expected a work directory with runs that are done; train some first.")
    return runs


def tabulate(runs: Mapping[str, Reading]) -> "pd.DataFrame":
    """Make the results table: one row per run, in columns of integers, floats, booleans or text.

    A tuple is text, in the format of flags: `(300,100)`.
    """
    import pandas as pd

    rows = collect_rows(runs)
    return pd.DataFrame({name: _series([row.get(name) for row in rows]) for name in _columns(rows)})


def collect_measurements(workdir: Path | str) -> "pd.DataFrame":
    """Read all measurements at all epochs: one row per value.

    Returns: columns run, epoch, measurement, quantity, value, standard_error (NA if the value is not an estimate).
    """
    import pandas as pd

    table = pd.DataFrame(_measured_rows(read_runs(workdir)), columns=list(records.COLUMNS))
    texts = ("run", "measurement", "quantity")
    return table.astype({name: "str" if name in texts else "float64" for name in records.COLUMNS})


def write_results(workdir: Path | str) -> Path:
    """Rebuild `results.csv`, and `measurements.csv` if there are measurements, from the run directories.

    Each is written atomically.
    Raises: RemovedError if there is no such folder.
    Cost: it reads two small files per run and one per measurement, so call it once per study and not once per run.
    """
    disk.check_is_there(workdir)
    workdir, runs = Path(workdir), read_runs(workdir)
    rows = collect_rows(runs)
    _write_csv(workdir / "results.csv", _columns(rows), rows)
    if measured := _measured_rows(runs):
        _write_csv(workdir / "measurements.csv", records.COLUMNS, measured)
    return workdir / "results.csv"


def _measured_rows(runs: Mapping[str, Reading]) -> list[dict[str, Any]]:
    usual = records.usual_examples(run.measured for run in runs.values())
    return [row for name, run in runs.items() for row in records.rows(name, run.measured, usual)]


def _write_csv(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cells.encode, columns))
    writer.writerows(
        [csv_cells.encode(cell) if isinstance(cell, str) else cell for cell in map(row.get, columns)] for row in rows
    )
    write_atomically(path, text.getvalue())


def tuple_text(values: list | tuple) -> str:
    """Write a tuple in the format of flags: `(300,100)`, `(30,)`, `()`."""
    items = [tuple_text(value) if isinstance(value, list | tuple) else repr(value) for value in values]
    return f"({','.join(items)}{',' if len(items) == 1 else ''})"


def _state_of_files(run: RunDirectory) -> tuple:
    """Return what changes whenever a file changes that a table takes from a run: inodes, times of change, sizes."""
    folder = str(run.path)
    paths = [f"{folder}/{name}" for name in ("config.json", "result.json", "error.txt", "metrics.csv")]
    with contextlib.suppress(OSError):
        paths += sorted(entry.path for entry in os.scandir(f"{folder}/measurements"))
    return tuple(_state(path) for path in paths)


def _state(path: str) -> tuple | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path, found.st_ino, found.st_ctime_ns, found.st_size


@functools.lru_cache(maxsize=_MOST_KEPT)
def _read(run: RunDirectory, state_of_files: tuple) -> Reading:
    """Read a run; the state of its files decides whether an earlier reading holds."""
    try:
        status, result = run.status_and_result()
        if status == "new":
            return Reading({})
        config = run.read_config()
    except disk.UnreadableError as error:
        return Reading({"run": run.name, "status": "unreadable", "problem": str(error)})
    except ValueError as error:
        return Reading({"run": run.name, "status": "damaged", "problem": str(error)})
    if run.identity != digest(config[IDENTITY]):
        problem = (
            f"{run.path / 'config.json'}: it is that of another run; if the folder is a copy, move it out of runs/."
        )
        return Reading({"run": run.name, "status": "mismatch", "problem": problem})
    # If a result field has the name of a config field (threads), the value in effect replaces the requested one.
    result_fields = {
        name: value for name, value in _flat(result).items() if value is not None and name != METRICS_DIGEST
    }
    run_records, problems = records.read(run)
    if status in DONE:
        try:
            run.metrics(result)
        except ValueError as error:  # the result stands without its curves
            problems.append(str(error))
    problem = {"problem": " ".join(problems)} if problems else {}
    row = {"run": run.name, "status": status} | _flat(_read_fields(config)) | result_fields | problem
    beside = {name: config[IDENTITY][name] for name in _BESIDE if name in config[IDENTITY]}
    return Reading(row, run_records, beside, FILE_VERSION not in config)


def _read_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a run with an empty value for each field that it did not read; an unread rho is 0.

    Runs of earlier versions did not record these fields; of user-defined fields, their identity has all that were read.
    """
    values = {name: value for name, value in config.items() if name not in (IDENTITY, FILE_VERSION, UNREAD)}
    user_fields = values.keys() - SCHEMA.keys() - set(STARTED_ON)
    unread = set(config.get(UNREAD, user_fields - config[IDENTITY].keys()))
    values |= {name: str(None) for name in user_fields - unread if values[name] is None}  # not empty, since it was read
    return values | dict.fromkeys(unread & values.keys()) | ({"rho": 0.0} if "rho" in unread else {})


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Order the columns: run, status, the config fields, and all result fields, even if no run has them yet."""
    always = ["run", "status", *(name for name in RESULT_FIELDS if name != "versions")]
    seen = dict.fromkeys(itertools.chain(always, *rows))
    result_order = {name: order for order, name in enumerate(RESULT_FIELDS)}
    order = {name: result_order.get(name.split(".")[0], -1) for name in seen}
    order |= {name: len(result_order) for name in seen if "." in name and order[name] == -1}  # measurements
    order |= {"run": -3, "status": -2, "problem": len(result_order) + 1}
    return sorted(seen, key=lambda name: order[name])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to names with dots, and write sequences as text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        kind = type(value)  # of JSON, so never a subclass
        if kind is dict:
            flat |= _flat(value, f"{prefix}{name}.")
            continue
        # All rows share their names and texts, of which JSON makes a copy for each run.
        text = tuple_text(value) if kind is list else value if kind is str else None
        flat[sys.intern(prefix + name)] = value if text is None else sys.intern(text)
    return flat


def _series(values: list[Any]) -> "pd.Series":
    """Convert a column to the narrowest dtype that holds it; a missing value is NA."""
    import pandas as pd

    kinds = set(map(type, values))
    missing = type(None) in kinds
    kinds.discard(type(None))
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if missing else "bool")
    if kinds == {int}:
        return pd.Series(values, dtype="Int64" if missing else "int64")
    if kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series([None if value is None else str(value) for value in values], dtype="str")
