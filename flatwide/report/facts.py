"""Facts needed to repeat a study: commands, settings, versions, machine, time, data."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide.analysis import fields
from flatwide.columns import COLLAPSED, DONE, RESULT_FIELDS
from flatwide.report.key_table import width_text
from flatwide.runs.commands import Command
from flatwide.runs.logs import duration_text, runs_text
from flatwide.runs.table import tuple_text

Run = dict[str, Any]
NO_METRIC = "without metric"  # status of a run from elsewhere without a metric, for whatever reason
UNREADABLE = ("damaged", "unreadable", "mismatch")  # the table has only the names of such runs
_NO_FIELD = {"run", "status", "problem", "data", COLLAPSED}
_MOST_VALUES = 12  # listed of a field


class Recorded(NamedTuple):
    """A config file, and the commands that used it, one per line."""

    commands: str
    config_path: str
    config_text: str


def recorded(commands: Sequence[Command]) -> list[Recorded]:
    """Group commands by their config file, in order of first use."""
    groups: dict[tuple[str, str], list[str]] = {}
    for command in commands:
        line = shlex.join(["python", "main.py", *command.arguments])
        groups.setdefault((command.config_path, command.config_text), []).append(line)
    return [Recorded("\n".join(lines), *file) for file, lines in groups.items()]


def unrecorded(runs: list[Run], commands: Sequence[Command], *, earlier: str = "") -> str:
    """Return a sentence about commands that were not recorded; empty if all were.

    Args:
      earlier: the last command of a study from before commands were recorded, or "".
    """
    if not commands:
        last = f" The last command of the study was: {earlier}." if earlier else ""
        return f"The commands that trained these runs were not recorded.{last}"
    older = sum(str(run["started"]) < commands[0].started for run in runs if run.get("started"))
    return f"{runs_text(older)} started before these commands, by commands that were not recorded." if older else ""


def config_fields(columns: Iterable[str]) -> list[str]:
    """Return the columns of a results table that are config fields that can change a result."""
    others = RESULT_FIELDS.keys() - {"threads"}
    names = [name for name in columns if "." not in name and name not in others and name not in _NO_FIELD]
    return [name for name in names if name not in configs.SCHEMA or configs.SCHEMA[name].identity]


def varied(runs: list[Run], names: Iterable[str]) -> list[str]:
    """Return the fields that differ between the runs that read them; base runs leave many fields empty."""
    several = [name for name in names if len({run[name] for run in runs if name in run}) > 1]
    return [name for name in several if len({run[name] for run in runs if _is_read(run, name)}) > 1]


def _is_read(run: Run, name: str) -> bool:
    return name in run and (name.startswith(f"{fields.ASIDE}.") or not fields.is_unread(run, name))


def settings(runs: list[Run], names: Iterable[str], *, with_defaults: bool = False) -> list[tuple[str, str]]:
    """Return fields with their values in the runs that read them.

    Args:
      with_defaults: include fields that have the default of their config field in all runs.
    """
    listed = []
    for name in names:
        values = list(dict.fromkeys(run[name] for run in runs if _is_read(run, name)))
        default = configs.SCHEMA[name].default if name in configs.SCHEMA else ...
        if values and (
            with_defaults or values != [tuple_text(default) if isinstance(default, list | tuple) else default]
        ):
            more = f", … ({len(values):,} values)" if len(values) > _MOST_VALUES else ""
            texts = [str(width_text(value) if name in fields.SHAPES else value) for value in values[:_MOST_VALUES]]
            listed.append((name, ", ".join(texts) + more))
    return listed


def facts(
    runs: list[Run], *, num_planned: int | None, identities: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Return facts about how the runs were trained, each with its name.

    Args:
      runs: rows of the results table.
      num_planned: runs of the study, if known; larger than the number of runs while it runs.
      identities: `data` and `threads` by name of the run, where known; empty for runs from elsewhere.
    """
    pairs = [("runs", counts(runs, num_planned=num_planned)), ("time", _time(runs)), ("machine", _machine(runs))]
    versions = [name for name in (runs[0] if runs else {}) if name.startswith("versions.")]
    texts = [(name.removeprefix("versions."), _several(run.get(name) for run in runs)) for name in versions]
    pairs.append(("versions", ", ".join(f"{name} {text}" for name, text in texts if text)))
    digests = {name: texts["data"] for name, texts in identities.items() if "data" in texts}
    data = {(str(run.get("dataset")), digests[run["run"]]) for run in runs if run.get("run") in digests}
    pairs.append(("data", "; ".join(f"{name}: fingerprint {digest}" for name, digest in sorted(data))))
    return [(name, text) for name, text in pairs if text]


def counts(runs: list[Run], *, num_planned: int | None = None) -> str:
    """Return how many runs are done, and how many have each other status."""
    states = Counter(str(run["status"]) for run in runs)
    num_done = sum(states[state] for state in DONE)
    text = f"{num_done:,} done" if num_planned is None else f"{num_done:,} of {num_planned:,} done"
    if num_planned is not None and num_done > num_planned:
        text = f"{num_done:,} done (the last study planned {num_planned:,})"
    listed_states = ("diverged", "unfinished", "failed", *UNREADABLE, NO_METRIC)
    others = [f"{states[state]:,} {state}" for state in listed_states if states[state]]
    if states["diverged"]:
        others[0] += " among them"
    return ", ".join([text, *others])


def _time(runs: list[Run]) -> str:
    spent = [run["seconds"] for run in runs if run.get("seconds") is not None]
    if not spent:
        return ""
    text = f"{duration_text(sum(spent))} of training, summed over {runs_text(len(spent))}"
    began = [run["started"] for run in runs if run.get("started")]
    ended = [run["finished"] for run in runs if run.get("finished")]
    if not (began and ended):
        return text
    first, last = (f"{moment[:16].replace('T', ' ')} UTC" for moment in (min(began), max(ended)))  # of ISO 8601 times
    return f"{text}; from {first} to {last}"


def _machine(runs: list[Run]) -> str:
    done = [run for run in runs if run["status"] in DONE and run.get("device")]
    kinds = (
        f"{run['num_devices']} × {run['device']}, {run['threads']} CPU thread{'s' if run['threads'] != 1 else ''}, "
        f"{'64' if run.get('x64') else '32'}-bit numbers"
        for run in done
    )
    return _several(kinds, "; ")


def _several(values: Iterable[Any], separator: str = ", ") -> str:
    """Return the values of a column; if there are several, with their numbers of runs."""
    counter = Counter(str(value) for value in values if value is not None)
    if len(counter) <= 1:
        return "".join(counter)
    return separator.join(f"{value} ({runs_text(number)})" for value, number in counter.most_common())
