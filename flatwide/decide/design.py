"""What a study that steers itself may train: from its config, or from a table of its runs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import config as configs
from flatwide import registry, trees
from flatwide.analysis import fields, widths
from flatwide.decide.course import QUESTIONS, Design, Result, Run, num_runs
from flatwide.decide.limits import LOOKS
from flatwide.runs import preview
from flatwide.study import plan
from flatwide.study.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

_NUM_SEEDS = LOOKS[-1] + 7  # those of the screen at most


class Study(NamedTuple):
    """The design of a config, and how its runs are written as points of a study.

    shapes: parameters -> fields of the width. fixed: axes with one value.
    """

    values: Mapping[str, Any]
    settings: Settings
    design: Design
    shapes: Mapping[int, Mapping[str, Any]]
    fixed: Mapping[str, Any]

    def point(self, run: Run) -> dict[str, Any]:
        """Return the fields of a run that vary."""
        rho, *tuned = run.setting
        named = {"rho": rho, **dict(zip(self.design.tuned, tuned, strict=True)), "seed": run.seed}
        return {**self.fixed, **self.shapes[run.num_params], **named}

    def training(self, runs: Sequence[Run]) -> dict[str, Any]:
        """Return a config with the study of some runs."""
        points = tuple(map(self.point, runs))
        return {**self.values, "study": {**self.values["study"], "axes": {}, "points": points}}


def read(values: Mapping[str, Any]) -> Study:
    """Read the design of a config whose study has `decide`.

    Raises: ConfigError.
    """
    values = configs.plain(values)
    planned = plan.expand(values)  # every fault of the axes themselves
    settings, study = planned.settings, planned.settings.study
    axes = settings.parts[0].axes
    faults = _faults(values["study"], settings)
    if faults:
        raise configs.ConfigError(faults)
    varied = {name: found for name, found in axes.items() if configs.SCHEMA.get(name) and configs.SCHEMA[name].shape}
    fixed = {n: found[0] for n, found in axes.items() if n not in (*varied, *settings.tune, "rho", "seed")}
    shapes = {}
    for run in planned.runs:
        size = trees.size(preview.sizes(run.config).params)
        shapes.setdefault(size, {name: run.varied[name] for name in varied})
    if len(shapes) < math.prod(map(len, varied.values())):
        raise configs.ConfigError(["config.study.decide: two widths have as many parameters; expected different ones."])
    seeds = axes.get("seed", (planned.runs[0].config["seed"],))
    rates = tuple(itertools.product(*(axes[name] for name in settings.tune)))
    design = Design(
        question=study["decide"],
        sizes=tuple(sorted(shapes)),
        rhos=tuple(sorted(rho for rho in axes["rho"] if rho > 0)),
        tuned=settings.tune,
        rates=rates,
        base_rates=_of_base(settings.tune, rates),
        seeds=range(seeds[0], seeds[0] + _NUM_SEEDS),
        error=study["decide_error"],
        most_runs=study["decide_runs"] or math.inf,
        most_seconds=60 * (study["decide_minutes"] or math.inf),
    )
    if (least := num_runs(design, is_most=False)) > design.most_runs:
        given = f"config.study.decide_runs={study['decide_runs']}"
        raise configs.ConfigError([f"{given}: expected {least} or more, the runs of a screen and a look."])
    return Study(values=values, settings=settings, design=design, shapes=shapes, fixed=fixed)


def _of_base(tune: Sequence[str], rates: Sequence[tuple]) -> tuple[tuple, ...]:
    """List the rates of the base, which does not read the fields of an ascent: it has the first value of these."""
    is_read = [not (configs.SCHEMA.get(name) and configs.SCHEMA[name].ascent) for name in tune]
    return tuple(rate for rate in rates if all(r or v == f for r, v, f in zip(is_read, rate, rates[0], strict=True)))


def _faults(study: Mapping[str, Any], settings: Settings) -> list[str]:
    """List what a study that steers itself cannot have."""
    where, (part, *_) = f"config.study.decide={settings.study['decide']!r}", settings.parts
    coupled = [name for name in ("parts", "points", "exclude") if study.get(name)]
    if coupled:
        return [f"{where}: expected axes alone, without {' and '.join(coupled)}."]
    sizes = [name for name in part.axes if configs.SCHEMA.get(name) and configs.SCHEMA[name].shape]
    others = {n for n, v in part.axes.items() if len(v) > 1} - {*sizes, *settings.tune, "rho", "seed"}
    faults = [
        f"{where}: the axis {name} has several values; expected one, or {name} in config.study.tune."
        for name in sorted(others)
    ]
    rhos = part.axes.get("rho", ())
    if 0.0 not in rhos or len(rhos) < 2:
        faults.append(
            f"{where}: expected an axis rho with 0, the base, and one or more radii, such as (0.0, 0.05, 0.1)."
        )
    if settings.study["decide"] != "gain" and math.prod(len(part.axes[name]) for name in sizes) < 2:
        faults.append(f"{where}: growth needs two widths or more; expected an axis such as num_neurons.")
    return faults


def of_table(runs: "pd.DataFrame", question: str, *, tune: Sequence[str] = (), **options: Any) -> Design:
    """Make the design of a table of runs: all its sizes, radii, tuned values and seeds.

    Args:
      question: a name in QUESTIONS. options: fields of `Design`.
    """
    if question not in QUESTIONS:
        raise ValueError(registry.unknown("question", question, QUESTIONS))
    rows = fields.done(runs, ["num_params", "seed", *tune])
    every = [(fields.effective_rho(row), *(row[name] for name in tune)) for row in rows]
    return Design(
        question=question,
        sizes=tuple(sorted({int(row["num_params"]) for row in rows})),
        rhos=tuple(sorted({rho for rho, *_ in every} - {0.0})),
        tuned=tuple(tune),
        rates=tuple(sorted({tuple(rate) for rho, *rate in every if rho})),
        base_rates=tuple(sorted({tuple(rate) for rho, *rate in every if not rho})),
        seeds=sorted({int(row["seed"]) for row in rows}),
        **options,
    )


def runs_of_table(runs: "pd.DataFrame", tune: Sequence[str]) -> list[Run]:
    """Return the run of each row that is done."""
    rows = fields.done(runs, ["num_params", "seed", *tune])
    return [
        Run(int(row["num_params"]), (fields.effective_rho(row), *(row[name] for name in tune)), int(row["seed"]))
        for row in rows
    ]


def results(runs: "pd.DataFrame", keys: Sequence[Run], *, metric: str) -> dict[Run, Result]:
    """Read the results of runs that are done.

    Args:
      keys: of the rows of the table that are done.
    Raises: ValueError if no run has the metric.
    """
    choose_by = widths.choice_column(runs, metric=metric)
    names = ("higher_is_better", "metric_name", "num_test_items", "seconds", "group_size", metric, choose_by)
    rows = fields.done(runs, names)
    signs = fields.signs(rows, (metric, choose_by))
    if rows and all(row.get(metric) is None for row in rows if row["status"] == "finished") != all(
        row["status"] == "diverged" for row in rows
    ):
        raise ValueError(f"metric={metric!r}: the runs do not have it; expected one that they record.")
    resolution = fields.resolution(rows, metric)
    return {
        key: Result(
            value=_number(row.get(metric)) * signs[metric],
            choice=_number(row.get(choose_by)) * signs[choose_by],
            seconds=_number(row.get("seconds")) / (row.get("group_size") or 1),
            resolution=resolution,
        )
        for key, row in zip(keys, rows, strict=True)
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
