"""A config file that trains all runs of a table again."""

import math
import re
from collections.abc import Iterable
from typing import Any

from flatwide import config as configs
from flatwide.columns import RESULT_FIELDS

Run = dict[str, Any]
_NO_FIELD = {"run", "status", "problem", "data"}
_MOST_POINTS = 200


def config_fields(columns: Iterable[str]) -> list[str]:
    """Name the columns of a results table that are config fields, and can change a result."""
    others = RESULT_FIELDS.keys() - {"threads"}
    names = [name for name in columns if "." not in name and name not in others and name not in _NO_FIELD]
    return [name for name in names if name not in configs.SCHEMA or configs.SCHEMA[name].identity]


def varied(runs: list[Run], names: Iterable[str]) -> list[str]:
    """Name the fields that differ from run to run."""
    return [name for name in names if len({run.get(name) for run in runs}) > 1]


def config_file(runs: list[Run], names: Iterable[str]) -> str:
    """Write a config file whose study has exactly these runs.

    Args:
      runs: rows of the results table, in which tuples are text.
      names: the columns that are config fields.
    Returns: Python source. Fields whose values were combined freely are axes; the rest are points. Several domains are
      parts, each with its own.
    """
    names = list(names)
    several = varied(runs, names)
    lines = ["from flatwide.config import default", "", "", "def get_config():", "    config = default()"]
    constant = {name: runs[0].get(name) for name in names if name not in several}
    own = [name for name in constant if name not in configs.SCHEMA]
    if own:
        lines.append("    config.unlock()  # for the fields of a file of one's own")
    for name, value in constant.items():
        field = configs.SCHEMA.get(name)
        if field is None or _text(name, value) != repr(field.default):
            lines.append(f"    config.{name} = {_text(name, value)}")
    if own:
        lines.append("    config.lock()")
    domains = _by_domain(runs)
    varied_lines = _parts(domains, several) if len(domains) > 1 else _varied(runs, several)
    if varied_lines is None:
        return f"# {len(runs)} runs that share no axes: config.json in the directory of each has its fields.\n"
    return "\n".join([*lines, *varied_lines, "    return config", ""])


def _by_domain(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    """Group runs by their data set and model."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((str(run.get("dataset")), str(run.get("model"))), []).append(run)
    return found


def _varied(runs: list[Run], several: list[str]) -> list[str] | None:
    """Write the axes and points of a study; None where there would be too many."""
    axes, points = _axes_and_points(runs, several)
    if len(points) > _MOST_POINTS:
        return None
    lines = []
    if axes:
        lines += ["    config.study.axes = {", *(f"        {entry}," for entry in axes), "    }"]
    if points:
        lines += ["    config.study.points = (", *(f"        {point}," for point in points), "    )"]
    return lines


def _parts(domains: dict[tuple[str, str], list[Run]], several: list[str]) -> list[str] | None:
    """Write a part of a study for each domain; None where that cannot say it."""
    if any(name not in configs.SCHEMA for name in several):
        return None  # a field of somebody's own file is one that the other domains do not know
    lines = ["    config.study.parts = {"]
    for (dataset, model), runs in sorted(domains.items()):
        own = varied(runs, several)
        axes, points = _axes_and_points(runs, own)
        if len(points) > _MOST_POINTS:
            return None
        lines.append(f'        "{re.sub(r"[^a-z0-9]+", "_", f"{dataset} {model}".lower()).strip("_")}": {{')
        lines += [f'            "{name}": {_text(name, runs[0].get(name))},' for name in several if name not in own]
        if axes:
            lines += ['            "axes": {', *(f"                {entry}," for entry in axes), "            },"]
        if points:
            lines += ['            "points": (', *(f"                {point}," for point in points), "            ),"]
        lines.append("        },")
    return [*lines, "    }"]


def _axes_and_points(runs: list[Run], several: list[str]) -> tuple[list[str], list[str]]:
    """Write each axis, and each point of the fields that are coupled."""
    axes, coupled = _axes(runs, several)
    entries = [f'"{name}": {_tuple(_text(name, value) for value in values)}' for name, values in axes.items()]
    points = []
    for point in _distinct(runs, coupled) if coupled else []:
        given = ", ".join(f'"{name}": {_text(name, value)}' for name, value in zip(coupled, point, strict=True))
        points.append(f"{{{given}}}")
    return entries, points


def needs(runs: list[Run], command: str) -> str:
    """Say which flag the config needs besides, since where data lie is no part of a study; empty if none."""
    folders = sorted({str(run["data_dir"]) for run in runs if run.get("data_dir")})
    if not folders or "--config.data_dir=" in command:
        return ""
    return (
        f"The data were read from {' and '.join(folders)}, which the config leaves out: add "
        f"--config.data_dir={folders[0]}, or the folder that has them on your machine."
    )


def _axes(runs: list[Run], names: list[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """Split fields into axes, each of whose values goes with all of the others, and those that are coupled."""
    axes, left = {}, list(names)
    for name in names:
        others = [other for other in left if other != name]
        values = _distinct(runs, [name])
        if len(_distinct(runs, left)) == len(values) * len(_distinct(runs, others)):
            axes[name] = [value for (value,) in values]
            left = others
    return axes, left


def _distinct(runs: list[Run], names: list[str]) -> list[tuple[Any, ...]]:
    """List what runs have in some fields, each once, in order of size where there is one."""
    found = dict.fromkeys(tuple(run.get(name) for name in names) for run in runs)
    return sorted(found, key=lambda values: [_order(value) for value in values])


def _order(value: Any) -> tuple:
    """Sort numbers by size and texts of tuples by their entries."""
    if isinstance(value, int | float):
        return (0, (value,))
    text = str(value)
    entries = text.strip("()").rstrip(",").split(",")
    try:
        return (1, tuple(float(entry) for entry in entries))
    except ValueError:
        return (2, (math.inf,), text)


def _text(name: str, value: Any) -> str:
    """Write a value as Python has it; the text of a tuple in the table is the tuple."""
    field = configs.SCHEMA.get(name)
    is_tuple = field.kind in ("ints", "floats", "strs") if field else str(value).startswith("(")
    if value is None:
        return "None"
    if is_tuple:
        return str(value).replace(",", ", ").replace(", )", ",)")
    return repr(float(value)) if field and field.kind == "float" else repr(value)


def _tuple(texts: Iterable[str]) -> str:
    entries = list(texts)
    return f"({', '.join(entries)}{',' if len(entries) == 1 else ''})"
