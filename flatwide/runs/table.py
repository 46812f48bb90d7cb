"""The results table of a work directory: one row a run, rebuilt from the run directories at any time."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide import csv_cells
from flatwide.columns import RESULT_FIELDS
from flatwide.config import SCHEMA, digest
from flatwide.runs import disk, records
from flatwide.runs.directory import IDENTITY, STARTED_ON, UNREAD, RunDirectory, run_directories, write_atomically

if TYPE_CHECKING:
    import pandas as pd


def collect_rows(workdir: Path | str) -> list[dict[str, Any]]:
    """Read one row a run: `run`, `status`, every config field, every result field and what was measured at its end.

    Runs that are not done have a status too. One with a damaged file has the status "damaged", one with a file that
    cannot be read "unreadable", one whose directory is named after another run "mismatch", and `problem` says why.
    """
    return [row for row in map(_row, run_directories(workdir)) if row]


def collect(workdir: Path | str) -> "pd.DataFrame":
    """Read the results table: one row a run, in columns of integers, floats, booleans or text.

    A tuple is text, as a flag would have it: `(300,100)`.
    """
    import pandas as pd

    rows = collect_rows(workdir)
    return pd.DataFrame({name: _series([row.get(name) for row in rows]) for name in _columns(rows)})


def collect_measurements(workdir: Path | str) -> "pd.DataFrame":
    """Read all that was measured, at every epoch: one row a value.

    Returns: columns run, epoch, measurement, quantity, value, standard_error (NA where the value is no estimate).
    """
    import pandas as pd

    table = pd.DataFrame(_measured_rows(workdir), columns=list(records.COLUMNS))
    texts = ("run", "measurement", "quantity")
    return table.astype({name: "str" if name in texts else "float64" for name in records.COLUMNS})


def write_results(workdir: Path | str) -> Path:
    """Rebuild `results.csv`, and `measurements.csv` where something was measured, from the run directories.

    Each is written atomically.
    Raises: RemovedError if there is no such folder.
    Cost: it reads two small files a run and one a measurement, so call it once a study and not once a run.
    """
    disk.check_is_there(workdir)
    workdir, rows = Path(workdir), collect_rows(workdir)
    _write_csv(workdir / "results.csv", _columns(rows), rows)
    if measured := _measured_rows(workdir):
        _write_csv(workdir / "measurements.csv", records.COLUMNS, measured)
    return workdir / "results.csv"


def _measured_rows(workdir: Path | str) -> list[dict[str, Any]]:
    found = ((run.name, records.read(run)[0]) for run in run_directories(workdir))
    return [row for name, own in found for row in records.rows(name, own)]


def _write_csv(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cells.encode, columns))
    writer.writerows(
        [["" if row.get(name) is None else csv_cells.encode(row[name]) for name in columns] for row in rows]
    )
    write_atomically(path, text.getvalue())


def tuple_text(values: list | tuple) -> str:
    """Write a tuple as a flag takes it: `(300,100)`, `(30,)`, `()`."""
    entries = [tuple_text(value) if isinstance(value, list | tuple) else repr(value) for value in values]
    return f"({','.join(entries)}{',' if len(entries) == 1 else ''})"


def _row(run: RunDirectory) -> dict[str, Any]:
    try:
        status = run.status()
        if status == "new":
            return {}
        config = run.read_config()
        result = run.read_result() or {}
    except disk.UnreadableError as error:
        return {"run": run.name, "status": "unreadable", "problem": str(error)}
    except ValueError as error:
        return {"run": run.name, "status": "damaged", "problem": str(error)}
    if run.name.rpartition("-")[2] != digest(config[IDENTITY]):
        problem = f"{run.path}: config.json is that of another run; if the folder is a copy, move it out of runs/."
        return {"run": run.name, "status": "mismatch", "problem": problem}
    config = _read_fields(config)
    # Where a result field has the name of a config field (threads), what was really used replaces what was asked for.
    known = {name: value for name, value in _flat(result).items() if value is not None}
    found, problems = records.read(run)
    problem = {"problem": " ".join(problems)} if problems else {}
    columns = records.columns(found, training_seconds=result.get("seconds"))
    return {"run": run.name, "status": status} | _flat(config) | known | columns | problem


def _read_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a run with an empty value for each field that it did not read; its rho is 0 then.

    Runs of earlier versions did not record which fields those are: of the user's own fields, the identity has all that
    are read.
    """
    values = {name: value for name, value in config.items() if name not in (IDENTITY, UNREAD)}
    own = values.keys() - SCHEMA.keys() - set(STARTED_ON)
    unread = set(config.get(UNREAD, own - config[IDENTITY].keys()))
    values |= {name: str(None) for name in own - unread if values[name] is None}  # not empty, for it was read
    return values | dict.fromkeys(unread & values.keys()) | ({"rho": 0.0} if "rho" in unread else {})


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Order the columns: run, status, the config fields, every result field whether or not a run has it yet."""
    always = ["run", "status", *(name for name in RESULT_FIELDS if name != "versions")]
    seen = dict.fromkeys([*always, *(name for row in rows for name in row)])
    results = {name: place for place, name in enumerate(RESULT_FIELDS)}
    place = {name: results.get(name.split(".")[0], -1) for name in seen}
    place |= {name: len(results) for name in seen if "." in name and place[name] == -1}  # measurements
    place |= {"run": -3, "status": -2, "problem": len(results) + 1}
    return sorted(seen, key=lambda name: place[name])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested entries names with dots, and write sequences as text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = tuple_text(value) if isinstance(value, list | tuple) else value
    return flat


def _series(values: list[Any]) -> "pd.Series":
    """Choose the narrowest dtype that holds a column; a missing entry is NA."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    missing = any(value is None for value in values)
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if missing else "bool")
    if kinds == {int}:
        return pd.Series(values, dtype="Int64" if missing else "int64")
    if kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series([None if value is None else str(value) for value in values], dtype="str")
