"""From axes to runs: pure, and every fault is found before anything is trained."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from flatwide import config as configs
from flatwide.runs import build, identity, preview
from flatwide.study import settings
from flatwide.study.budget import Solved, solve
from flatwide.study.settings import BUDGET, Assignment, Part, Settings

_MOST_FAULTS = 12


class Planned(NamedTuple):
    """One run of a study.

    config: resolved. varied: the fields that tell it apart from the others, with the budget where one was asked for.
    shape: equal for runs that one compiled program trains. part: the part of the study that it is of, "" for the only.
    """

    config: Mapping[str, Any]
    varied: Assignment
    shape: tuple
    part: str = ""


class Plan(NamedTuple):
    """All runs of a study, and what a careful reader would ask about them."""

    settings: Settings
    runs: tuple[Planned, ...]
    notes: tuple[str, ...]


def expand(values: Mapping[str, Any]) -> Plan:
    """Expand a config with a study into its runs.

    Args:
      values: the fields of a config, `study` among them.
    Raises: ConfigError with every fault found.
    """
    base = configs.plain(values)
    study = base.pop("study", {})
    found, faults = settings.read(study, base)
    if not faults:
        planned, faults, notes = _plan(found, base)
    if faults:
        distinct = list(dict.fromkeys(faults + _faults_of(base, found)))
        more = [f"… and {len(distinct) - _MOST_FAULTS} more faults."] if len(distinct) > _MOST_FAULTS else []
        raise configs.ConfigError(distinct[:_MOST_FAULTS] + more)
    return Plan(found, tuple(planned), tuple(notes))


def _faults_of(base: Mapping[str, Any], found: Settings) -> list[str]:
    """Find faults of the fields that are not varied, so that all are seen at once."""
    faults = []
    for part in found.parts:
        fields = {name: value for name, value in base.items() if name not in part.axes} | part.fields
        first = {name: values[0] for name, values in part.axes.items() if name in configs.SCHEMA or name in base}
        try:
            configs.resolve_fields(fields | first)
        except configs.ConfigError as error:
            faults += error.faults
    return faults


def _plan(found: Settings, base: Mapping[str, Any]) -> tuple[list[Planned], list[str], list[str]]:
    """Resolve every run; give the runs, the faults and the notes."""
    planned, faults, identities, counts, num_same = [], [], {}, {}, 0
    for part, varied in _product(found):
        try:
            config = _resolve(base, varied, counts)
            name = str(configs.identity(config, irrelevant=identity.without_effect(config), extra={}))
            shape = build.shape(config)
            if varied.get("rho") and "optimizer" not in varied and configs.effective_rho(config) == 0:
                raise configs.ConfigError(
                    [
                        f"config.optimizer={config['optimizer']!r}: it reads no rho, which the study varies; set "
                        "optimizer='sam' (rho = 0 is then the base optimizer)."
                    ]
                )
        except ValueError as error:
            where = ", ".join(f"{field}={value!r}" for field, value in varied.items())
            own = error.faults if isinstance(error, configs.ConfigError) else [f"{error} (at {where})"]
            faults += own
            continue
        if identities.setdefault(name, varied) is varied:
            planned.append(Planned(config, varied, shape, part.name))
        else:
            num_same += 1
    if not planned and not faults:
        faults.append("config.study.exclude: it leaves no run; exclude less.")
    same = [
        f"{num_same} combinations name a run that is there already (fields that a run does not read, such as the "
        "variant at rho = 0, make no other run)"
    ]
    return planned, faults, [*_budget_notes(counts), *(same if num_same else []), *_notes(planned)]


def _product(found: Settings) -> Iterator[tuple[Part, Assignment]]:
    """Yield what each run of each part varies: points first, the last axis fastest."""
    for part in found.parts:
        points = part.points or ({},)
        for point, values in itertools.product(points, itertools.product(*part.axes.values())):
            varied = part.fields | point | dict(zip(part.axes, values, strict=True))
            if not any(all(varied.get(name) == value for name, value in entry.items()) for entry in part.exclude):
                yield part, varied


def _resolve(base: Mapping[str, Any], varied: Assignment, counts: dict[tuple, int]) -> Mapping[str, Any]:
    """Resolve one run, its sparsity solved where the study gives a budget; `counts` collects what budgets reached."""
    fields = {**base, **{name: value for name, value in varied.items() if name != BUDGET}}
    config = configs.resolve_fields(fields if BUDGET not in varied else fields | {"sparsity": 0.0})
    if BUDGET not in varied:
        return config
    if base.get("sparsity"):
        given = f"config.sparsity={base['sparsity']!r}"
        raise configs.ConfigError([f"{given}: the study solves it from {BUDGET}; leave it at 0."])
    shapes = preview.sizes(config).params
    asked, pruner, density = varied[BUDGET], config["pruner"], config["layer_density"]
    solved = _solve(_hashable(shapes), budget=asked, pruner=pruner, layer_density=density)
    counts[(identity.width(config), pruner, asked, solved.sparsity)] = solved.num_nonzero_params
    return configs.resolve_fields(fields | {"sparsity": solved.sparsity})


def _hashable(shapes) -> tuple:
    leaves, structure = jax.tree.flatten(shapes)
    return tuple(leaves), structure


@functools.lru_cache(maxsize=256)
def _solve(shapes: tuple, *, budget: int, pruner: str, layer_density: str | None) -> Solved:
    return solve(jax.tree.unflatten(shapes[1], shapes[0]), budget=budget, pruner=pruner, layer_density=layer_density)


def _budget_notes(counts: Mapping[tuple, int]) -> list[str]:
    return [
        f"width {width}, {pruner}: {reached:,} nonzero parameters at sparsity {sparsity:g}"
        + ("" if reached == asked else f", the nearest to {asked:,}")
        for (width, pruner, asked, sparsity), reached in counts.items()
    ]


def _notes(planned: list[Planned]) -> list[str]:
    """Say what a careful reader would ask about."""
    parts: dict[str, list[Planned]] = {}
    for run in planned:
        parts.setdefault(run.part, []).append(run)
    notes = []
    for part, runs in parts.items():
        where = f" in part {part}" if part else ""
        if 0.0 not in {configs.effective_rho(run.config) for run in runs}:
            notes.append(
                f"warning: no run{where} has rho = 0, the base optimizer, so no gain can be computed; add it to the "
                "axis."
            )
        seeds = {run.config["seed"] for run in runs}
        if len(seeds) < 3:
            notes.append(f"warning: {len(seeds)} seed(s){where}; an interval needs 2, and a useful one 3 or more.")
    return notes
