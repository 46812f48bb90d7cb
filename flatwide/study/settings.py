"""The fields of `config.study`: what varies, and which executor trains the runs."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide import registry
from flatwide.study import executors

BUDGET = "num_nonzero_params"  # in an axis or a point: the sparsity is computed from it
METRICS = (
    "test_metric",
    "test_metric_best",
    "validation_metric",
    "test_metric_at_best_validation",
    "test_loss",
    "test_metric_average",
    "test_loss_average",
)
_ONE_EVALUATION = ("test_metric_best", "test_metric_at_best_validation")  # chosen among the evaluations of a run
_NEEDED = (("validation", "validation_fraction", 0.0), ("_average", "weight_average", "none"))  # of a metric's name
DECIDED = ("gain", "growth", "both")  # what a study can decide; "" trains all runs
Assignment = dict[str, Any]
_VARIED = ("axes", "points", "exclude")
_MOST_RUNS = 100_000  # planning so many takes a minute; more is probably a mistake


class Part(NamedTuple):
    """One part of a study, whose runs are the product of its axes; a study without parts is one unnamed part.

    fields: shared by all of its runs. axes: field -> values. points: coupled settings, which act as one more axis.
    exclude: runs that match one of these in all its fields are left out.
    """

    name: str
    fields: Assignment
    axes: dict[str, tuple[Any, ...]]
    points: tuple[Assignment, ...]
    exclude: tuple[Assignment, ...]


class Settings(NamedTuple):
    """The study of a config.

    parts: the runs of the study are those of all of them.
    metric: the result column that the study compares, the first of several.
    tune: axes on which base and SAM are each tuned separately.
    workers: processes or jobs; None for as many as the executor can run at once. study: all other fields of
    `config.study`, some of which the executor reads.
    """

    parts: tuple[Part, ...]
    metric: str
    tune: tuple[str, ...]
    executor: str
    workers: int | None
    tensorboard: bool
    study: dict[str, Any]


def read(study: Any, base: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Read `config.study`, and convert every value to its canonical form.

    Args:
      study: plain nested dicts and tuples.
      base: the other fields of the config, among them those that a user's own model, data set or loss adds.
    Returns: the settings, and all faults; if there is a fault, the settings must not be used.
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
    if given["decide"] not in ("", *DECIDED):
        faults.append(registry.unknown("config.study.decide", given["decide"], DECIDED))
    wrong: list[str] = []
    counts = ("workers", "workers_per_gpu", "devices_per_run", "group_size", "decide_runs")
    for name in (
        *counts,
        "decide_error",
        "decide_minutes",
        "address",
        "tensorboard",
        "tune",
        "metrics",
        "average_last",
    ):
        given[name], fault = configs.check_field(f"study.{name}", given[name], configs.STUDY[name])
        wrong += [fault] if fault else []
    faults += wrong
    shared = _part("", {name: given.pop(name) for name in _VARIED}, "config.study", base, faults)
    given["parts"] = _parts(given["parts"], shared, base, faults)
    if not wrong:
        faults += _uncompared(given, base)
        given["metric"], *_ = (*given["metrics"], given["metric"])
    if not faults:
        faults += [fault for part in given["parts"] for fault in _contradictions(part)]
        faults += too_many(num_runs(given["parts"])) + _untuned(given["tune"], given["parts"])
        faults += _ungrouped(given, base)
    try:
        crew = executors.find(str(given["executor"]))
        faults += [] if wrong else crew.faults(given)
    except ValueError as error:
        faults.append(str(error))
    named = {name: given.pop(name) for name in ("parts", "metric", "tune", "executor", "workers", "tensorboard")}
    return Settings(**named, study=given), faults


def compared(study: Mapping[str, Any]) -> str | tuple[str, ...]:
    """Return the metric that the fields of a study name, or all of several."""
    names = study.get("metrics") or study.get("metric", configs.STUDY["metric"].default)
    names = [names] if isinstance(names, str) else list(names)
    return names[0] if len(names) == 1 else tuple(names)


def _uncompared(given: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """List why metrics cannot be compared, or averaged over evaluations."""
    names, last = given["metrics"], given["average_last"]
    where = f"config.study.metrics={registry.shown(names)}"
    faults = [registry.unknown("config.study.metrics", name, METRICS) for name in names if name not in METRICS]
    faults += [f"{where}: {name} is a duplicate." for name, count in Counter(names).items() if count > 1]
    if names and given["metric"] not in (configs.STUDY["metric"].default, names[0]):
        faults.append(
            f"{where}: config.study.metric={given['metric']!r} is not the first of them; keep one of the two."
        )
    for name in dict.fromkeys(names):
        for word, field, off in _NEEDED:
            if word in name and not any(value != off for value in _values(field, off, given["parts"], base)):
                faults.append(f"{where}: no run has {name}, since config.{field} is {off!r} in all; set it.")
    faults += [
        f"config.study.average_last={last}: {name} is that of one evaluation; expected a metric such as test_metric."
        for name in (names or (given["metric"],))
        if last > 1 and name in _ONE_EVALUATION
    ]
    return faults


def _values(field: str, default: Any, parts: tuple[Part, ...], base: Mapping[str, Any]) -> set[Any]:
    """Return the values of a field in the runs of all parts."""
    of_parts = (
        part.axes.get(field) or [point[field] for point in part.points if field in point] or [part.fields.get(field)]
        for part in parts
    )
    return {base.get(field, default) if value is None else value for values in of_parts for value in values}


def _strange(where: str, value: Any) -> list[str]:
    """List what is not a plain value: every other check compares and prints the values."""
    if isinstance(value, Mapping):
        names = [
            f"{where}: the name {registry.shown(name)}; expected a text." for name in value if not isinstance(name, str)
        ]
        return names + [fault for name, item in value.items() for fault in _strange(f"{where}.{name}", item)]
    if isinstance(value, tuple):
        return [fault for index, item in enumerate(value) for fault in _strange(f"{where}[{index}]", item)]
    if value is None or isinstance(value, str | bool | int | float):
        return []
    if isinstance(value, range):  # short ones are tuples by now
        return [f"{where}={value}: expected at most {_MOST_RUNS:,} values, the most runs of a study."]
    return [f"{where}={registry.shown(value)}: expected numbers, texts, tuples or dicts."]


def _parts(parts: Any, shared: Part, base: Mapping[str, Any], faults: list[str]) -> tuple[Part, ...]:
    """Read the parts of a study, each combined with the settings that all parts share."""
    if not isinstance(parts, Mapping) or not all(isinstance(part, Mapping) for part in parts.values()):
        faults.append(
            f"config.study.parts={registry.shown(parts)}: expected a dict from names to dicts of fields, axes among "
            "them."
        )
        return (shared,)
    own_parts = [_part(name, part, f"config.study.parts.{name}", base, faults) for name, part in parts.items()]
    # A part's setting of a field replaces the shared one.
    joined = [
        part._replace(
            axes={name: values for name, values in shared.axes.items() if name not in _set_by(part)} | part.axes,
            points=part.points or shared.points,
            exclude=shared.exclude + part.exclude,
        )
        for part in own_parts
    ]
    return tuple(joined) or (shared,)


def _set_by(part: Part) -> set[str]:
    """List the fields that a part sets itself."""
    return {*part.fields, *(name for point in part.points for name in point)}


def _part(name: str, values: Mapping[str, Any], where: str, base: Mapping[str, Any], faults: list[str]) -> Part:
    """Read one part; axes, points and exclude are optional in `values`."""
    fields = {field: value for field, value in values.items() if field not in _VARIED}
    fixed = {field: _value(f"{where}.{field}", field, value, base, faults) for field, value in fields.items()}
    points, exclude = (_assignments(f"{where}.{kind}", values.get(kind, ()), base, faults) for kind in _VARIED[1:])
    return Part(
        name=name,
        fields=fixed,
        axes=_axes(f"{where}.axes", values.get("axes", {}), base, faults),
        points=points,
        exclude=exclude,
    )


def _axes(prefix: str, axes: Any, base: Mapping[str, Any], faults: list[str]) -> dict[str, tuple[Any, ...]]:
    if not isinstance(axes, Mapping):
        faults.append(f"{prefix}={registry.shown(axes)}: expected a dict from fields to their values.")
        return {}
    axis_values = {}
    for name, values in axes.items():
        where = f"{prefix}.{name}"
        if not isinstance(values, list | tuple) or len(values) == 0:
            faults.append(f"{where}={registry.shown(values)}: expected one or more values, such as (0, 1, 2).")
            continue
        axis_values[name] = tuple(_value(where, name, value, base, faults) for value in values)
        twice = [text for text, count in Counter(map(repr, axis_values[name])).items() if count > 1]
        faults += [f"{where}={registry.shown(values)}: {text} is a duplicate value." for text in twice]
    return axis_values


def _assignments(where: str, assignments: Any, base: Mapping[str, Any], faults: list[str]) -> tuple[Assignment, ...]:
    if not isinstance(assignments, list | tuple) or not all(
        isinstance(assignment, Mapping) and assignment for assignment in assignments
    ):
        faults.append(f"{where}={registry.shown(assignments)}: expected a tuple of dicts, each from fields to values.")
        return ()
    canonical = []
    for index, assignment in enumerate(assignments):
        canonical.append(
            {n: _value(f"{where}[{index}].{n}", n, value, base, faults) for n, value in assignment.items()}
        )
        if canonical[-1] in canonical[:-1]:
            faults.append(f"{where}[{index}]={registry.shown(assignment)}: it is a duplicate.")
    return tuple(canonical)


def _value(where: str, name: str, value: Any, base: Mapping[str, Any], faults: list[str]) -> Any:
    """Check one value of a field, and convert it to its canonical form."""
    if name == BUDGET:
        field = configs.SCHEMA["batch_size"]  # an integer >= 1 as well
    elif name in configs.SCHEMA:
        field = configs.SCHEMA[name]
    elif name in base:
        field = configs.field_like(value if base[name] is None else base[name])
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
        faults.append(f"{where}: both sparsity and {BUDGET} are set, and each determines the other; keep one.")
    unknown = {name for excluded in part.exclude for name in excluded} - varied
    faults += [registry.unknown(f"{where}.exclude field", name, varied) for name in sorted(unknown)]
    if "threads" in varied:
        faults.append(f"{where}: threads is the same for all workers; set config.threads once.")
    watching = {name for name, field in configs.SCHEMA.items() if not field.identity}
    for name in ("workdir", *sorted(watching)):
        if name in coupled | set(axes):
            faults.append(f"{where}: {name} changes no result, so it cannot distinguish runs; set it once.")
    return faults


def _untuned(tune: tuple[str, ...], parts: tuple[Part, ...]) -> list[str]:
    """List fields that cannot be tuned: those that do not vary, and those by which runs are compared or paired."""
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


def _ungrouped(given: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """List why the size of groups cannot follow from the memory of a device."""
    if given["group_size"] is None:
        return []
    where = "config.study.group_size='auto'"
    if given["executor"] != "local":
        asked = f"{where}: expected the local executor, since the memory of other machines is not known here; set"
        return [f"{asked} config.group_size=16 or another number."]
    is_set = any("group_size" in {*part.axes, *_set_by(part)} for part in given["parts"])
    return [f"{where}: config.group_size is set too; keep one."] if is_set or base.get("group_size", 1) != 1 else []


def num_runs(parts: tuple[Part, ...]) -> int:
    """Count the runs of a study, those that are excluded included."""
    return sum(math.prod(map(len, part.axes.values())) * max(1, len(part.points)) for part in parts)


def too_many(count: int) -> list[str]:
    """List as a fault that a study has more runs than can be planned."""
    if count <= _MOST_RUNS:
        return []
    return [f"config.study: {count:,} runs; expected at most {_MOST_RUNS:,}. Split it into several studies."]
