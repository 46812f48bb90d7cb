"""What `config.study` says: which fields are varied, and who trains the runs."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide import registry
from flatwide.study.executors import CREWS, missing

BUDGET = "num_nonzero_params"  # in an axis or a point: the sparsity is solved from it
METRICS = ("test_metric", "test_metric_best", "validation_metric", "test_metric_at_best_validation", "test_loss")
Assignment = dict[str, Any]
_MOST_RUNS = 100_000  # a plan of so many takes a minute; more is a slip


class Settings(NamedTuple):
    """The study of a config.

    axes: field -> values; the runs are their product. points: coupled settings, which act as one more axis.
    exclude: runs that agree with one of these in all its fields are left out.
    metric: the result column that the study compares. workers: processes or jobs; None for as many as the cores allow.
    address: of a Ray cluster; slurm: parameters of a Slurm job, as submitit names them.
    """

    axes: dict[str, tuple[Any, ...]]
    points: tuple[Assignment, ...]
    exclude: tuple[Assignment, ...]
    metric: str
    executor: str
    workers: int | None
    address: str | None
    slurm: dict[str, Any]
    tensorboard: bool


def read(study: Any, base: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Read `config.study`, with every value in its canonical form.

    Args:
      study: plain nested dicts and tuples.
      base: the other fields of the config; they tell which names a user's own parts add.
    Returns: the settings, and all faults; with a fault the settings are not to be used.
    """
    if not isinstance(study, Mapping):
        return Settings({}, (), (), "", "", None, None, {}, False), [
            f"config.study={study!r}: expected fields such as axes."
        ]
    faults = [
        registry.unknown("config.study field", name, configs.STUDY) for name in study if name not in configs.STUDY
    ]
    given = {name: study.get(name, field.default) for name, field in configs.STUDY.items()}
    for name, known in (("metric", METRICS), ("executor", CREWS)):
        if given[name] not in known:
            faults.append(registry.unknown(f"config.study.{name}", str(given[name]), known))
    for name in ("workers", "address", "tensorboard"):
        given[name], fault = configs.check_field(f"study.{name}", given[name], configs.STUDY[name])
        faults += [fault] if fault else []
    if not isinstance(given["slurm"], Mapping):
        faults.append(f"config.study.slurm={given['slurm']!r}: expected a dict of submitit's parameters.")
    given["axes"] = _axes(given["axes"], base, faults)
    for name in ("points", "exclude"):
        given[name] = _assignments(name, given[name], base, faults)
    if not faults:
        faults += _contradictions(given)
    faults += _lacks(given)
    return Settings(**given), faults


def _axes(axes: Any, base: Mapping[str, Any], faults: list[str]) -> dict[str, tuple[Any, ...]]:
    if not isinstance(axes, Mapping):
        faults.append(f"config.study.axes={axes!r}: expected a dict from fields to their values.")
        return {}
    found = {}
    for name, values in axes.items():
        where = f"config.study.axes.{name}"
        if not isinstance(values, list | tuple) or len(values) == 0:
            faults.append(f"{where}={values!r}: expected one or more values, such as (0, 1, 2).")
            continue
        found[name] = tuple(_value(where, name, value, base, faults) for value in values)
        twice = [text for text, count in Counter(map(repr, found[name])).items() if count > 1]
        faults += [f"{where}={values!r}: {text} is there twice." for text in twice]
    return found


def _assignments(what: str, entries: Any, base: Mapping[str, Any], faults: list[str]) -> tuple[Assignment, ...]:
    where = f"config.study.{what}"
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) and entry for entry in entries):
        faults.append(f"{where}={entries!r}: expected a tuple of dicts, each from fields to values.")
        return ()
    found = []
    for place, entry in enumerate(entries):
        found.append({n: _value(f"{where}[{place}].{n}", n, value, base, faults) for n, value in entry.items()})
        if found[-1] in found[:-1]:
            faults.append(f"{where}[{place}]={entry!r}: it is there twice.")
    return tuple(found)


def _value(where: str, name: str, value: Any, base: Mapping[str, Any], faults: list[str]) -> Any:
    """Check one value of a field, and put it into its canonical form."""
    if name == BUDGET:
        field = configs.SCHEMA["batch_size"]  # an integer >= 1 as well
    elif name in configs.SCHEMA:
        field = configs.SCHEMA[name]
    elif name in base:
        field = configs.field_like(base[name])
    else:
        fault = registry.unknown(f"{where.rpartition('.')[0]} field", name, [*configs.SCHEMA, *base, BUDGET])
        if fault not in faults:
            faults.append(fault)
        return value
    canonical, fault = configs.check_field(name, value, field)
    if fault:
        faults.append(fault.replace(f"config.{name}=", f"{where}: ", 1))
    return canonical


def _lacks(given: Mapping[str, Any]) -> list[str]:
    """Say what an executor needs and does not have."""
    faults = [fault] if (fault := missing(given["executor"])) else []
    if given["executor"] == "slurm" and given["workers"] is None:
        faults.append("config.study.workers=None: expected the number of jobs, since this machine's cores do not tell.")
    return faults


def _contradictions(given: Mapping[str, Any]) -> list[str]:
    axes, points = given["axes"], given["points"]
    faults = []
    if not axes and not points:
        faults.append("config.study: expected axes or points; without them there is nothing to compare.")
    num_runs = math.prod(map(len, axes.values())) * max(1, len(points))
    if num_runs > _MOST_RUNS:
        faults.append(
            f"config.study: {num_runs:,} runs; expected at most {_MOST_RUNS:,}. Split it into several studies."
        )
    coupled = {name for point in points for name in point}
    faults += [
        f"config.study.axes.{name}: points set it too; keep one of them." for name in sorted(coupled & set(axes))
    ]
    if any(set(point) != coupled for point in points):
        faults.append(f"config.study.points: expected the same fields in each; some lack one of {sorted(coupled)}.")
    varied = coupled | set(axes)
    if BUDGET in varied and "sparsity" in varied:
        faults.append(f"config.study: both sparsity and {BUDGET} are set, and each decides the other; keep one.")
    strangers = {name for entry in given["exclude"] for name in entry} - varied
    faults += [registry.unknown("config.study.exclude field", name, varied) for name in sorted(strangers)]
    if "threads" in varied:
        faults.append("config.study: threads is one number for all workers; set config.threads once.")
    watching = {name for name, field in configs.SCHEMA.items() if not field.identity}
    for name in ("workdir", *sorted(watching)):
        if name in varied:
            faults.append(f"config.study: {name} changes no result, so it cannot tell runs apart; set it once.")
    return faults
