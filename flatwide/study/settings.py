"""What `config.study` says: which fields are varied, and who trains the runs."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide import registry
from flatwide.study import executors

BUDGET = "num_nonzero_params"  # in an axis or a point: the sparsity is solved from it
METRICS = (
    "test_metric",
    "test_metric_best",
    "validation_metric",
    "test_metric_at_best_validation",
    "test_loss",
    "test_metric_average",
)
Assignment = dict[str, Any]
_VARIED = ("axes", "points", "exclude")
_MOST_RUNS = 100_000  # a plan of so many takes a minute; more is a slip


class Part(NamedTuple):
    """One part of a study, whose runs are the product of its axes; a study without parts is one part of no name.

    fields: what all of its runs have. axes: field -> values. points: coupled settings, which act as one more axis.
    exclude: runs that agree with one of these in all its fields are left out.
    """

    name: str
    fields: Assignment
    axes: dict[str, tuple[Any, ...]]
    points: tuple[Assignment, ...]
    exclude: tuple[Assignment, ...]


class Settings(NamedTuple):
    """The study of a config.

    parts: the runs of the study are those of all of them.
    metric: the result column that the study compares. tune: axes that base and SAM each choose for themselves.
    workers: processes or jobs; None for as many as the executor can run at once. study: all other fields of
    `config.study`, of which the executor reads its own.
    """

    parts: tuple[Part, ...]
    metric: str
    tune: tuple[str, ...]
    executor: str
    workers: int | None
    tensorboard: bool
    study: dict[str, Any]


def read(study: Any, base: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Read `config.study`, with every value in its canonical form.

    Args:
      study: plain nested dicts and tuples.
      base: the other fields of the config; they tell which names a user's own parts add.
    Returns: the settings, and all faults; with a fault the settings are not to be used.
    """
    if not isinstance(study, Mapping):
        faults = [f"config.study={registry.shown(study)}: expected fields such as axes."]
    else:
        faults = _strange("config.study", study)
    if faults:
        return Settings(parts=(), metric="", tune=(), executor="", workers=None, tensorboard=False, study={}), faults
    faults = [
        registry.unknown("config.study field", name, configs.STUDY) for name in study if name not in configs.STUDY
    ]
    given = {name: study.get(name, field.default) for name, field in configs.STUDY.items()}
    if given["metric"] not in METRICS:
        faults.append(registry.unknown("config.study.metric", given["metric"], METRICS))
    for name in ("workers", "address", "tensorboard", "tune"):
        given[name], fault = configs.check_field(f"study.{name}", given[name], configs.STUDY[name])
        faults += [fault] if fault else []
    shared = _part("", {name: given.pop(name) for name in _VARIED}, "config.study", base, faults)
    given["parts"] = _parts(given["parts"], shared, base, faults)
    if not faults:
        faults += [fault for part in given["parts"] for fault in _contradictions(part)]
        faults += _too_many(given["parts"]) + _untuned(given["tune"], given["parts"])
    try:
        faults += executors.find(str(given["executor"])).faults(given)
    except ValueError as error:
        faults.append(str(error))
    named = {name: given.pop(name) for name in ("parts", "metric", "tune", "executor", "workers", "tensorboard")}
    return Settings(**named, study=given), faults


def _strange(where: str, value: Any) -> list[str]:
    """List what is no plain value: every other check compares and shows the values that it is given."""
    if isinstance(value, Mapping):
        names = [
            f"{where}: the name {registry.shown(name)}; expected a text." for name in value if not isinstance(name, str)
        ]
        return names + [fault for name, entry in value.items() for fault in _strange(f"{where}.{name}", entry)]
    if isinstance(value, tuple):
        return [fault for place, entry in enumerate(value) for fault in _strange(f"{where}[{place}]", entry)]
    if value is None or isinstance(value, str | bool | int | float):
        return []
    return [f"{where}={registry.shown(value)}: expected numbers, texts, tuples or dicts."]


def _parts(parts: Any, shared: Part, base: Mapping[str, Any], faults: list[str]) -> tuple[Part, ...]:
    """Read the parts of a study, each joined with what is said for all of them."""
    if not isinstance(parts, Mapping) or not all(isinstance(part, Mapping) for part in parts.values()):
        faults.append(
            f"config.study.parts={registry.shown(parts)}: expected a dict from names to dicts of fields, axes among "
            "them."
        )
        return (shared,)
    found = [_part(name, entry, f"config.study.parts.{name}", base, faults) for name, entry in parts.items()]
    # What a part says of a field takes the place of what is said of it for all.
    joined = [
        part._replace(
            axes={name: values for name, values in shared.axes.items() if name not in _set_by(part)} | part.axes,
            points=part.points or shared.points,
            exclude=shared.exclude + part.exclude,
        )
        for part in found
    ]
    return tuple(joined) or (shared,)


def _set_by(part: Part) -> set[str]:
    """List the fields that a part sets itself."""
    return {*part.fields, *(name for point in part.points for name in point)}


def _part(name: str, entry: Mapping[str, Any], where: str, base: Mapping[str, Any], faults: list[str]) -> Part:
    """Read one part; of what varies, `entry` may say nothing."""
    fields = {field: value for field, value in entry.items() if field not in _VARIED}
    known = {field: _value(f"{where}.{field}", field, value, base, faults) for field, value in fields.items()}
    points, exclude = (_assignments(f"{where}.{what}", entry.get(what, ()), base, faults) for what in _VARIED[1:])
    return Part(
        name=name,
        fields=known,
        axes=_axes(f"{where}.axes", entry.get("axes", {}), base, faults),
        points=points,
        exclude=exclude,
    )


def _axes(place: str, axes: Any, base: Mapping[str, Any], faults: list[str]) -> dict[str, tuple[Any, ...]]:
    if not isinstance(axes, Mapping):
        faults.append(f"{place}={registry.shown(axes)}: expected a dict from fields to their values.")
        return {}
    found = {}
    for name, values in axes.items():
        where = f"{place}.{name}"
        if not isinstance(values, list | tuple) or len(values) == 0:
            faults.append(f"{where}={registry.shown(values)}: expected one or more values, such as (0, 1, 2).")
            continue
        found[name] = tuple(_value(where, name, value, base, faults) for value in values)
        twice = [text for text, count in Counter(map(repr, found[name])).items() if count > 1]
        faults += [f"{where}={registry.shown(values)}: {text} is there twice." for text in twice]
    return found


def _assignments(where: str, entries: Any, base: Mapping[str, Any], faults: list[str]) -> tuple[Assignment, ...]:
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) and entry for entry in entries):
        faults.append(f"{where}={registry.shown(entries)}: expected a tuple of dicts, each from fields to values.")
        return ()
    found = []
    for place, entry in enumerate(entries):
        found.append({n: _value(f"{where}[{place}].{n}", n, value, base, faults) for n, value in entry.items()})
        if found[-1] in found[:-1]:
            faults.append(f"{where}[{place}]={registry.shown(entry)}: it is there twice.")
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


def _contradictions(part: Part) -> list[str]:
    axes, points, faults = part.axes, part.points, []
    where = f"config.study.parts.{part.name}" if part.name else "config.study"
    if not axes and not points and not part.name:
        faults.append("config.study: expected axes, points or parts; without them there is nothing to compare.")
    coupled = {name for point in points for name in point}
    faults += [f"{where}.axes.{name}: points set it too; keep one of them." for name in sorted(coupled & set(axes))]
    faults += [
        f"{where}.{name}: its axes or points set it too; keep one of them."
        for name in sorted((coupled | set(axes)) & set(part.fields))
    ]
    if any(set(point) != coupled for point in points):
        faults.append(f"{where}.points: expected the same fields in each; some lack one of {sorted(coupled)}.")
    varied = coupled | set(axes) | set(part.fields)
    if BUDGET in varied and "sparsity" in varied:
        faults.append(f"{where}: both sparsity and {BUDGET} are set, and each decides the other; keep one.")
    strangers = {name for entry in part.exclude for name in entry} - varied
    faults += [registry.unknown(f"{where}.exclude field", name, varied) for name in sorted(strangers)]
    if "threads" in varied:
        faults.append(f"{where}: threads is one number for all workers; set config.threads once.")
    watching = {name for name, field in configs.SCHEMA.items() if not field.identity}
    for name in ("workdir", *sorted(watching)):
        if name in coupled | set(axes):
            faults.append(f"{where}: {name} changes no result, so it cannot tell runs apart; set it once.")
    return faults


def _untuned(tune: tuple[str, ...], parts: tuple[Part, ...]) -> list[str]:
    """Say which fields cannot be tuned: those that do not vary, and those that are compared or paired."""
    varied = {name for part in parts for name in (*part.axes, *(name for point in part.points for name in point))}
    compared = {"rho", "seed", "num_epochs", "num_train_steps", "train_examples", BUDGET}
    compared |= {name for name, field in configs.SCHEMA.items() if field.shape}
    faults = [
        registry.unknown("config.study.tune axis", name, varied - compared) for name in tune if name not in varied
    ]
    return faults + [
        f"config.study.tune: {name} is what runs are compared or paired by; expected axes such as learning_rate."
        for name in tune
        if name in varied & compared
    ]


def _too_many(parts: tuple[Part, ...]) -> list[str]:
    num_runs = sum(math.prod(map(len, part.axes.values())) * max(1, len(part.points)) for part in parts)
    if num_runs <= _MOST_RUNS:
        return []
    return [f"config.study: {num_runs:,} runs; expected at most {_MOST_RUNS:,}. Split it into several studies."]
