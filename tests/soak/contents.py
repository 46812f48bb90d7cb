"""What a work directory holds that no kill may change: everything but times, and what names a time."""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

Contents = dict[str, Any]
_TIMES = {"seconds", "started", "finished", "measured", "checksum"}  # the checksum of result.json covers its times
_TABLES = ("results.csv", "measurements.csv", "summary.csv")


def read(workdir: Path) -> Contents:
    """Read the runs, their networks and measurements, the tables, and the figures."""
    contents: Contents = {}
    for path in sorted(workdir.glob("runs/*/**/*")):
        name = str(path.relative_to(workdir))
        if path.name in ("metrics.csv", "config.json"):
            contents[name] = path.read_bytes()
        elif path.name == "result.json" or (path.parent.name == "measurements" and path.suffix == ".json"):
            contents[name] = _without_times(json.loads(path.read_bytes()))
        elif path.name == "final.npz" or (path.parent.name in ("measurements", "snapshots") and path.suffix == ".npz"):
            contents[name] = _arrays(path)
    for path in (workdir / name for name in _TABLES):
        if path.exists():
            rows = csv.DictReader(io.StringIO(path.read_text()))
            contents[path.name] = [_without_times(row) for row in rows]
    for path in sorted(workdir.glob("figures/*")) + sorted(workdir.glob("runs/*/curves.*")):
        contents[str(path.relative_to(workdir))] = path.read_bytes()
    return contents


def differences(expected: Contents, actual: Contents) -> list[str]:
    """Name the files that differ, are missing, or are unexpected."""
    return [name for name in sorted(expected.keys() | actual.keys()) if expected.get(name) != actual.get(name)]


def _without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _TIMES}


def _arrays(path: Path) -> dict[str, bytes]:
    """Read the arrays of a checkpoint, without what it remembers of its times."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.endswith(".npy")}
