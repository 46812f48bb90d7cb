"""What a stranger needs to know to repeat a study: commands, settings, versions, machine, time, data."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide.columns import COLLAPSED, DONE, RESULT_FIELDS
from flatwide.runs.commands import Command
from flatwide.runs.directory import IDENTITY, run_directories
from flatwide.runs.logs import duration_text
from flatwide.runs.table import tuple_text

Run = dict[str, Any]
NO_METRIC = "without metric"  # what a run of somebody's table is that has none, whatever became of it
UNREADABLE = ("damaged", "unreadable", "mismatch")  # of such a run nothing but its name is in the table
_NO_FIELD = {"run", "status", "problem", "data", COLLAPSED}
_MOST_VALUES = 12  # of a field that are listed


class Recorded(NamedTuple):
    """Commands that were given with one config file, one a line, and the file."""

    commands: str
    config_path: str
    config_text: str


def recorded(commands: Sequence[Command]) -> list[Recorded]:
    """Group commands by the config file that they read, in the order in which they were first given."""
    groups: dict[tuple[str, str], list[str]] = {}
    for command in commands:
        line = shlex.join(["python", "main.py", *command.arguments])
        groups.setdefault((command.config_path, command.config_text), []).append(line)
    return [Recorded("\n".join(lines), *file) for file, lines in groups.items()]


def unrecorded(runs: list[Run], commands: Sequence[Command], *, earlier: str = "") -> str:
    """Say which commands are not recorded; empty where all are.

    Args:
      earlier: the last command of a study from before commands were kept, or "".
    """
    if not commands:
        last = f" The last command of the study was: {earlier}." if earlier else ""
        return f"The commands that trained these runs are not recorded.{last}"
    older = sum(str(run["started"]) < commands[0].started for run in runs if run.get("started"))
    return f"{older:,} runs are older than these commands; what trained them is not recorded." if older else ""


def config_fields(columns: Iterable[str]) -> list[str]:
    """Name the columns of a results table that are config fields, and can change a result."""
    others = RESULT_FIELDS.keys() - {"threads"}
    names = [name for name in columns if "." not in name and name not in others and name not in _NO_FIELD]
    return [name for name in names if name not in configs.SCHEMA or configs.SCHEMA[name].identity]


def varied(runs: list[Run], names: Iterable[str]) -> list[str]:
    """Name the fields that differ from run to run."""
    return [name for name in names if len({run.get(name) for run in runs}) > 1]


def settings(runs: list[Run], names: Iterable[str], *, with_defaults: bool = False) -> list[tuple[str, str]]:
    """List fields with their values in the runs.

    Args:
      with_defaults: list those too that have the default of their config field in all runs.
    """
    listed = []
    for name in names:
        values = list(dict.fromkeys(run.get(name) for run in runs))
        if with_defaults or name not in configs.SCHEMA or values != [_in_table(configs.SCHEMA[name].default)]:
            more = f", … ({len(values):,} values)" if len(values) > _MOST_VALUES else ""
            listed.append((name, ", ".join(map(str, values[:_MOST_VALUES])) + more))
    return listed


def _in_table(value: Any) -> Any:
    return tuple_text(value) if isinstance(value, list | tuple) else value


def facts(
    runs: list[Run], *, num_planned: int | None, identities: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """List facts about how runs were made, each with its name.

    Args:
      runs: rows of the results table.
      num_planned: runs of the study, if one is known; more than there are while it runs.
      identities: what `read_identities` finds; empty for runs from elsewhere.
    """
    found = [("runs", counts(runs, num_planned=num_planned)), ("time", _time(runs)), ("machine", _machine(runs))]
    versions = [name for name in (runs[0] if runs else {}) if name.startswith("versions.")]
    known = [(name.removeprefix("versions."), _several(run.get(name) for run in runs)) for name in versions]
    found.append(("versions", ", ".join(f"{name} {text}" for name, text in known if text)))
    digests = {name: known["data"] for name, known in identities.items() if "data" in known}
    data = {(str(run.get("dataset")), digests[run["run"]]) for run in runs if run.get("run") in digests}
    found.append(("data", "; ".join(f"{name}: fingerprint {digest}" for name, digest in sorted(data))))
    return [(name, text) for name, text in found if text]


def counts(runs: list[Run], *, num_planned: int | None = None) -> str:
    """Say how many runs are done, and what became of the others."""
    states = Counter(str(run["status"]) for run in runs)
    num_done = sum(states[state] for state in DONE)
    text = f"{num_done:,} done" if num_planned is None else f"{num_done:,} of {num_planned:,} done"
    if num_planned is not None and num_done > num_planned:
        text = f"{num_done:,} done (the last study planned {num_planned:,})"
    known = ("diverged", "unfinished", "failed", *UNREADABLE, NO_METRIC)
    others = [f"{states[state]:,} {state}" for state in known if states[state]]
    if states["diverged"]:
        others[0] += " among them"
    return ", ".join([text, *others])


def read_identities(workdir: Path | str) -> dict[str, dict[str, Any]]:
    """Read what the table does not hold: the fingerprint of each run's data, and the threads that its config names.

    Returns: name of a run -> `data` and `threads`, each where known.
    """
    found = {}
    for run in run_directories(workdir):
        try:
            config = run.read_config()
        except ValueError:
            continue  # the table says that it is damaged
        identity = config[IDENTITY]
        found[run.name] = {name: identity[name] for name in ("data", "threads") if name in identity}
    return found


def _time(runs: list[Run]) -> str:
    spent = [run["seconds"] for run in runs if run.get("seconds") is not None]
    if not spent:
        return ""
    text = f"{duration_text(sum(spent))} of training, summed over {len(spent):,} runs"
    began = [run["started"] for run in runs if run.get("started")]
    ended = [run["finished"] for run in runs if run.get("finished")]
    return f"{text}; from {_moment(min(began))} to {_moment(max(ended))}" if began and ended else text


def _moment(text: str) -> str:
    """Write an ISO 8601 time in UTC to the minute."""
    return f"{text[:16].replace('T', ' ')} UTC"


def _machine(runs: list[Run]) -> str:
    done = [run for run in runs if run["status"] in DONE and run.get("device")]
    kinds = Counter(
        f"{run['num_devices']} × {run['device']}, {run['threads']} CPU thread{'s' if run['threads'] != 1 else ''}, "
        f"{'64' if run.get('x64') else '32'}-bit numbers"
        for run in done
    )
    if len(kinds) == 1:
        return next(iter(kinds))
    return "; ".join(f"{kind} ({number:,} runs)" for kind, number in kinds.most_common())


def _several(values: Iterable[Any]) -> str:
    """Write the values of a column; where there are several, with their numbers of runs."""
    known = Counter(str(value) for value in values if value is not None)
    if len(known) <= 1:
        return "".join(known)
    return ", ".join(f"{value} ({number:,} runs)" for value, number in known.most_common())
