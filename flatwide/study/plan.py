"""Expansion of axes into runs, which finds every fault before anything is trained."""

import functools
import itertools
import math
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

    config: resolved. varied: the fields that distinguish it from the others, with the budget if the study has one.
    shape: equal for runs trained by the same compiled program. part: its part of the study, "" if there are no parts.
    """

    config: Mapping[str, Any]
    varied: Assignment
    shape: tuple
    part: str = ""


class Plan(NamedTuple):
    """All runs of a study, and notes on what they cannot show."""

    settings: Settings
    runs: tuple[Planned, ...]
    notes: tuple[str, ...]

    @property
    def threads(self) -> int:
        """CPU threads of each worker: those of the config, else one, so that no thread idles."""
        return self.runs[0].config["threads"] or 1


def expand(values: Mapping[str, Any]) -> Plan:
    """Expand a config with a study into its runs.

    Args:
      values: the fields of a config, `study` among them.
    Raises: ConfigError that lists every fault.
    """
    base = configs.plain(values)
    study = base.pop("study", {})
    fields = configs.fields_of_study(base, study)
    parsed, faults = settings.read(study, fields)
    if not faults:
        planned, faults, notes = _plan(parsed, base)
    if faults:
        distinct = list(dict.fromkeys(faults + _faults_of(base, parsed, fields)))
        more = [f"… and {len(distinct) - _MOST_FAULTS} more faults."] if len(distinct) > _MOST_FAULTS else []
        raise configs.ConfigError(distinct[:_MOST_FAULTS] + more)
    return Plan(parsed, tuple(planned), tuple(notes))


def _faults_of(base: Mapping[str, Any], parsed: Settings, known: Mapping[str, Any]) -> list[str]:
    """List faults of the fields that do not vary, so that all are reported at once."""
    faults = []
    for part in parsed.parts:
        fields = {name: value for name, value in base.items() if name not in part.axes} | part.fields
        first = {name: values[0] for name, values in part.axes.items() if name in configs.SCHEMA or name in known}
        try:
            configs.resolve_fields(fields | first)
        except configs.ConfigError as error:
            faults += error.faults
    return faults


def _plan(parsed: Settings, base: Mapping[str, Any]) -> tuple[list[Planned], list[str], list[str]]:
    """Resolve every run; return the runs, the faults and the notes."""
    planned, faults, identities, counts, num_same = [], [], {}, {}, 0
    for part, varied in _product(parsed):
        try:
            config = _resolve(base, varied, counts)
            name = str(configs.identity(config, irrelevant=identity.without_effect(config), extra={}))
            shape = build.shape(config)
            _check_evaluations(config, parsed.study["average_last"])
            if varied.get("rho") and "optimizer" not in varied and configs.effective_rho(config) == 0:
                raise configs.ConfigError(
                    f"config.optimizer={config['optimizer']!r}: it reads no rho, which the study varies; set "
                    "optimizer='sam' (rho = 0 is then the base optimizer)."
                )
        except ValueError as error:
            where = ", ".join(f"{field}={value!r}" for field, value in varied.items())
            more_faults = error.faults if isinstance(error, configs.ConfigError) else [f"{error} (at {where})"]
            faults += more_faults
            continue
        if identities.setdefault(name, varied) is varied:
            planned.append(Planned(config, varied, shape, part.name))
        else:
            num_same += 1
    if not planned and not faults:
        faults.append("config.study.exclude: no run is left; exclude less.")
    same = [
        f"{num_same} combinations are duplicates of another run (a field that a run does not read, such as the "
        "variant at rho = 0, does not make a different run)"
    ]
    notes = [] if parsed.study["decide"] else _notes(planned)  # its stages have few seeds, and some only one arm
    budgets = [
        f"width {width}, {pruner}: {reached:,} nonzero parameters at sparsity {sparsity:g}"
        + ("" if reached == asked else f", the nearest to {asked:,}")
        for (width, pruner, asked, sparsity), reached in counts.items()
    ]
    return planned, faults, [*budgets, *(same if num_same else []), *notes]


def _check_evaluations(config: Mapping[str, Any], average_last: int) -> None:
    """Raise ConfigError where a run has fewer evaluations than its metric averages, as far as its config tells."""
    steps, every = config["num_train_steps"], config["eval_every_steps"]
    count = (
        config["num_epochs"] if steps is every is None else math.ceil(steps / every) if steps and every else math.inf
    )
    if count < average_last:
        given = f"config.study.average_last={average_last}"
        raise configs.ConfigError(
            [f"{given}: a run has {count} evaluations; expected at most so many, or more epochs."]
        )


def _product(parsed: Settings) -> Iterator[tuple[Part, Assignment]]:
    """Yield the varied fields of each run of each part: points first, the last axis fastest."""
    for part in parsed.parts:
        points = part.points or ({},)
        for point, values in itertools.product(points, itertools.product(*part.axes.values())):
            varied = part.fields | point | dict(zip(part.axes, values, strict=True))
            if not any(all(varied.get(name) == value for name, value in excluded.items()) for excluded in part.exclude):
                yield part, varied


def _resolve(base: Mapping[str, Any], varied: Assignment, counts: dict[tuple, int]) -> Mapping[str, Any]:
    """Resolve one run, with the sparsity that meets the study's budget; add the reached number to `counts`."""
    fields = {**base, **{name: value for name, value in varied.items() if name != BUDGET}}
    config = configs.resolve_fields(fields if BUDGET not in varied else fields | {"sparsity": 0.0})
    if BUDGET not in varied:
        return config
    if base.get("sparsity"):
        given = f"config.sparsity={base['sparsity']!r}"
        raise configs.ConfigError(f"{given}: the study computes it from {BUDGET}; leave it at 0.")
    shapes = preview.sizes(config).params
    asked, pruner, density = varied[BUDGET], config["pruner"], config["layer_density"]
    leaves, structure = jax.tree.flatten(shapes)
    solved = _solve((tuple(leaves), structure), budget=asked, pruner=pruner, layer_density=density)
    counts[(identity.width(config), pruner, asked, solved.sparsity)] = solved.num_nonzero_params
    return configs.resolve_fields(fields | {"sparsity": solved.sparsity})


@functools.lru_cache(maxsize=256)
def _solve(shapes: tuple, *, budget: int, pruner: str, layer_density: str | None) -> Solved:
    return solve(jax.tree.unflatten(shapes[1], shapes[0]), budget=budget, pruner=pruner, layer_density=layer_density)


def _notes(planned: list[Planned]) -> list[str]:
    """Warn of missing base runs and of too few seeds."""
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
