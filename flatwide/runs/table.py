"""The results table of a work directory: one row per run, rebuilt from the run directories at any time."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide import csv_cells
from flatwide.columns import DONE, RESULT_FIELDS
from flatwide.config import SCHEMA, digest
from flatwide.runs import disk, records
from flatwide.runs.directory import IDENTITY, STARTED_ON, UNREAD, RunDirectory, run_directories, write_atomically

if TYPE_CHECKING:
    import pandas as pd


def collect_rows(workdir: Path | str) -> list[dict[str, Any]]:
    """Read one row per run: `run`, `status`, all config and result fields, and the measurements at its end.

    Runs that are not done are included. The status is "damaged" if a file is damaged, "unreadable" if one cannot be
    read, "mismatch" if the directory is named after another run; then `problem` has the reason.
    """
    runs = [_read(run) for run in run_directories(workdir)]
    usual = records.usual_examples(run_records for _, run_records in runs)
    return [_measured(row, run_records, usual) for row, run_records in runs if row]


def collect(workdir: Path | str) -> "pd.DataFrame":
    """Read the results table: one row per run, in columns of integers, floats, booleans or text.

    A tuple is text, in the format of flags: `(300,100)`.
    """
    import pandas as pd

    rows = collect_rows(workdir)
    return pd.DataFrame({name: _series([row.get(name) for row in rows]) for name in _columns(rows)})


def collect_measurements(workdir: Path | str) -> "pd.DataFrame":
    """Read all measurements at all epochs: one row per value.

    Returns: columns run, epoch, measurement, quantity, value, standard_error (NA if the value is not an estimate).
    """
    import pandas as pd

    table = pd.DataFrame(_measured_rows(workdir), columns=list(records.COLUMNS))
    texts = ("run", "measurement", "quantity")
    return table.astype({name: "str" if name in texts else "float64" for name in records.COLUMNS})


def write_results(workdir: Path | str) -> Path:
    """Rebuild `results.csv`, and `measurements.csv` if there are measurements, from the run directories.

    Each is written atomically.
    Raises: RemovedError if there is no such folder.
    Cost: it reads two small files per run and one per measurement, so call it once per study and not once per run.
    """
    disk.check_is_there(workdir)
    workdir, rows = Path(workdir), collect_rows(workdir)
    _write_csv(workdir / "results.csv", _columns(rows), rows)
    if measured := _measured_rows(workdir):
        _write_csv(workdir / "measurements.csv", records.COLUMNS, measured)
    return workdir / "results.csv"


def _measured_rows(workdir: Path | str) -> list[dict[str, Any]]:
    runs = {run.name: records.read(run)[0] for run in run_directories(workdir)}
    usual = records.usual_examples(runs.values())
    return [row for name, run_records in runs.items() for row in records.rows(name, run_records, usual)]


def _write_csv(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cells.encode, columns))
    writer.writerows(
        [["" if row.get(name) is None else csv_cells.encode(row[name]) for name in columns] for row in rows]
    )
    write_atomically(path, text.getvalue())


def tuple_text(values: list | tuple) -> str:
    """Write a tuple in the format of flags: `(300,100)`, `(30,)`, `()`."""
    items = [tuple_text(value) if isinstance(value, list | tuple) else repr(value) for value in values]
    return f"({','.join(items)}{',' if len(items) == 1 else ''})"


def _read(run: RunDirectory) -> tuple[dict[str, Any], Sequence[records.Record]]:
    """Read the row of a run but for its measurements, which are returned beside it; a new run has an empty row."""
    try:
        status = run.status()
        if status == "new":
            return {}, ()
        config = run.read_config()
        result = run.read_result() or {}
    except disk.UnreadableError as error:
        return {"run": run.name, "status": "unreadable", "problem": str(error)}, ()
    except ValueError as error:
        return {"run": run.name, "status": "damaged", "problem": str(error)}, ()
    if run.identity != digest(config[IDENTITY]):
        problem = f"{run.path}: config.json is that of another run; if the folder is a copy, move it out of runs/."
        return {"run": run.name, "status": "mismatch", "problem": problem}, ()
    config = _read_fields(config)
    # If a result field has the name of a config field (threads), the value in effect replaces the requested one.
    result_fields = {name: value for name, value in _flat(result).items() if value is not None}
    run_records, problems = records.read(run)
    if status in DONE:
        try:
            run.metrics()
        except ValueError as error:  # the result stands without its curves
            problems.append(str(error))
    problem = {"problem": " ".join(problems)} if problems else {}
    return {"run": run.name, "status": status} | _flat(config) | result_fields | problem, run_records


def _measured(row: dict[str, Any], run_records: Sequence[records.Record], usual: Mapping[str, int]) -> dict[str, Any]:
    """Add the measurements of a run to its row."""
    return row | records.columns(run_records, usual, training_seconds=row.get("seconds"))


def _read_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a run with an empty value for each field that it did not read; an unread rho is 0.

    Runs of earlier versions did not record these fields; of user-defined fields, their identity has all that were read.
    """
    values = {name: value for name, value in config.items() if name not in (IDENTITY, UNREAD)}
    user_fields = values.keys() - SCHEMA.keys() - set(STARTED_ON)
    unread = set(config.get(UNREAD, user_fields - config[IDENTITY].keys()))
    values |= {name: str(None) for name in user_fields - unread if values[name] is None}  # not empty, since it was read
    return values | dict.fromkeys(unread & values.keys()) | ({"rho": 0.0} if "rho" in unread else {})


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Order the columns: run, status, the config fields, and all result fields, even if no run has them yet."""
    always = ["run", "status", *(name for name in RESULT_FIELDS if name != "versions")]
    seen = dict.fromkeys([*always, *(name for row in rows for name in row)])
    result_order = {name: order for order, name in enumerate(RESULT_FIELDS)}
    order = {name: result_order.get(name.split(".")[0], -1) for name in seen}
    order |= {name: len(result_order) for name in seen if "." in name and order[name] == -1}  # measurements
    order |= {"run": -3, "status": -2, "problem": len(result_order) + 1}
    return sorted(seen, key=lambda name: order[name])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to names with dots, and write sequences as text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = tuple_text(value) if isinstance(value, list | tuple) else value
    return flat


def _series(values: list[Any]) -> "pd.Series":
    """Convert a column to the narrowest dtype that holds it; a missing value is NA."""
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
