"""What a work directory is asked: the settings of its last report, which are the defaults of the next."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide.runs import averages, disk
from flatwide.runs.directory import write_json

if TYPE_CHECKING:
    import pandas as pd

_FILE = "report.json"


def read(workdir: Path | str) -> dict[str, Any]:
    """Read the stored settings; none where there is no file or it is damaged."""
    try:
        before = json.loads(disk.read(Path(workdir) / _FILE) or b"{}")
    except (ValueError, RecursionError):
        before = {}
    return before if isinstance(before, dict) else {}


def settle(workdir: Path, *, is_stored: bool, **given: Any) -> dict[str, Any]:
    """Return the given settings, completed by the stored ones where they are None; optionally store them."""
    before = read(workdir)
    settings = before | {name: before.get(name) if value is None else value for name, value in given.items()}
    if settings.get("average_last") in (None, 1):  # what every study has by default
        settings.pop("average_last", None)
    if is_stored and settings != before and any(value is not None for value in settings.values()) and workdir.is_dir():
        write_json(workdir / _FILE, settings)
    return settings


def metrics_of(metric: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the metrics of a setting: one name, several, or None for the default."""
    return (metric,) if isinstance(metric, str) else tuple(metric or ("test_metric",))


def metrics_of_study(workdir: Path | str) -> tuple[str, ...]:
    """Return the metrics of a study that compares several, else the default."""
    stored = read(workdir).get("metric")
    return metrics_of(stored if isinstance(stored, list) else None)


def scored(workdir: Path | str, runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return a results table with the scores that a study compares, see `averages.averaged`."""
    return averages.averaged(workdir, runs, read(workdir).get("average_last", 1))
