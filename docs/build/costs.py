"""Write docs/costs.md: the arithmetic of the paper's grid, and what a day of one GPU would finish.

    python docs/build/costs.py [--teraflops=100] [--overhead=1e-4] [--hours=24]

Each study is expanded into its runs, as by --dry_run, and the gradient of each shape is traced; nothing is trained.
Data that are not on the machine are replaced: by their declared shapes, or by synthetic data of the same kind. It takes
some minutes. The two rates are assumptions: give those of your GPU.
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from studies import Study, studies

from flatwide import config as configs
from flatwide import trees, workloads
from flatwide.runs import identity, preview
from flatwide.runs.experiment import Experiment
from flatwide.study import plan
from flatwide.training import sources

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "costs.md"
# Gradients of words go through loops, which XLA counts once; six operations for each weight and position replace its
# count. Positions are the average padded length in batches of the paper's data: treebank sentences, phrases of SST-2.
_POSITIONS = {"TaggingTransformer": 32, "LSTM": 24}
_TEXT = """# Costs

What the studies cost here, and what the paper's whole grid would cost on a GPU. `python docs/build/costs.py` writes
this page; the first table is from the studies' descriptions.

## Measured

{measured}

## The paper's grid on a GPU

**None of this was measured: we had no GPU.** Counted are the floating-point operations of each gradient, in its traced
program, and the gradients of each run, two a step with SAM. Hours follow under two assumptions, options of the command:

- a sustained {teraflops:g} teraflop/s, a fifth of the dense TF32 rate that the data sheet of an H100 SXM states, for
  which `JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32` is needed ([GPU](howto/gpu.md)).
- at least {microseconds:g} µs for a gradient, a lower bound: LSTMs and small ResNets start many kernels. What
  `--config.group_size` saves is not counted.

Evaluation, compilation and Atari, which [its emulators](performance.md#atari) limit, are not counted. Molecules are
synthetic. For sentences and reviews six operations for each weight and position are assumed, with 32 and 24 positions
a text, and smaller vocabularies than the paper's. A run that studies share is counted once.

All {num_runs:,} runs take {total:,.0f} GPU-hours, {days:.0f} days of one GPU, {share:.0f} % of it for {largest}.
A day of {budget:g} hours does every group of runs (one network with SAM, or one without) that takes {bound:.4g} hours
or less, {within:.1f} hours in all; the last column has the networks of which it does both groups, by parameters.

| study | runs | gradients, millions | GPU-hours | networks within the day |
|---|---|---|---|---|
{rows}

To run the part of a study that fits, name its widths, as in
`--config.study.axes.num_filters="(4,8,16)"`; a later run of the whole study keeps what is done.
"""
_MEASURED = """Minutes of training, evaluation and compilation, summed over runs of one thread on shared cores of an AMD
EPYC, of which an undisturbed core takes as little as half: {hours:.1f} hours. Other studies have their times on their
pages.

| study | runs | minutes |
|---|---|---|
{rows}"""
_MEASURED_BEGINS, _MEASURED_ENDS = "## Measured\n\n", "\n\n## The paper's grid"


class Shape(NamedTuple):
    """Runs that share a program: those of one size with SAM or without.

    num_gradients: of one run. operations: of one gradient.
    """

    num_params: int
    num_runs: int
    num_gradients: int
    operations: float

    def hours(self, *, teraflops: float, overhead: float) -> float:
        """Estimate the GPU-hours of all runs: its arithmetic limits a gradient, or the start of its kernels."""
        return self.num_runs * self.num_gradients * max(self.operations / (1e12 * teraflops), overhead) / 3600


def shapes(study: Study, counted: set[str] | None = None) -> list[Shape]:
    """List the shapes of a study, the smallest first.

    Args:
      counted: identities of runs of earlier studies, which are left out; those of this study are added.
    """
    counted = set() if counted is None else counted
    path = ROOT / "configs" / "studies" / f"{study.name}.py"
    values = configs.load_file(str(path))
    values.update(study.grid)
    by_shape: dict[tuple, list[plan.Planned]] = {}
    for run in plan.expand(values).runs:
        if (name := json.dumps(identity.identity(run.config, ""), sort_keys=True, default=str)) not in counted:
            counted.add(name)
            by_shape.setdefault(run.shape, []).append(run)
    return sorted((_shape(members) for members in by_shape.values()), key=lambda shape: shape.num_params)


def _shape(members: list[plan.Planned]) -> Shape:
    built = preview.assemble(members[0].config)
    return Shape(
        num_params=built.num_params,
        num_runs=len(members),
        num_gradients=built.num_gradients(built.num_steps) or 2 * built.num_steps,
        operations=operations(built),
    )


def operations(built: Experiment) -> float:
    """Count the floating-point operations of the gradient of a batch, in its traced program.

    XLA counts the body of a loop once. Where the gradient has loops, such as those over the pixels of a filter, it is
    counted as three forward passes; loops over words by their dense kernels.
    """
    batch_size, positions = built.config["batch_size"], _POSITIONS.get(built.config["model"])
    if positions is not None:
        return 6.0 * _dense(built.param_shapes) * positions * batch_size
    state, raw = built.state_shapes(), sources.raw_shapes(built.train, built.data.example, batch_size)

    def loss(params, stats, batch):
        key = jax.random.key(0)
        batch = built.workload.prepare(batch, key, train=True)
        return workloads.loss(built.workload, params, batch, stats=stats, train=True, key=key)[0]

    lowered, factor = jax.jit(jax.grad(loss)).lower(state.params, state.stats, raw), 1
    if "while" in lowered.as_text():
        lowered, factor = jax.jit(loss).lower(state.params, state.stats, raw), 3
    return factor * float((lowered.cost_analysis() or {}).get("flops", 0.0))


def _dense(params: Mapping[str, Any]) -> int:
    """Count the weights that every position multiplies: all but the table of words."""
    return sum(trees.size(value) for name, value in params.items() if name != "words")


def most_hours(hours: Sequence[float], budget: float) -> float:
    """Return the largest bound on a group's hours with which all groups within it fit into the budget together."""
    bounds = [0.0, *sorted(hours)]
    return max(bound for bound in bounds if sum(value for value in hours if value <= bound) <= budget)


def page(*, teraflops: float, overhead: float, budget: float) -> str:
    """Write the page of costs."""
    counted: set[str] = set()
    grid = {study.name: shapes(study, counted) for study in studies() if study.grid is not None}
    rates = {"teraflops": teraflops, "overhead": overhead}
    bound = most_hours([shape.hours(**rates) for members in grid.values() for shape in members], budget)
    rows = [_row(name, members, bound=bound, **rates) for name, members in grid.items()]
    within = sum(hours for members in grid.values() for shape in members if (hours := shape.hours(**rates)) <= bound)
    hours = {name: sum(shape.hours(**rates) for shape in members) for name, members in grid.items()}
    total, largest = sum(hours.values()), max(hours, key=lambda name: hours[name])
    return _TEXT.format(
        measured=measured(),
        teraflops=teraflops,
        microseconds=1e6 * overhead,
        budget=budget,
        bound=bound,
        within=within,
        total=total,
        largest=largest,
        share=100 * hours[largest] / total,
        days=total / 24,
        num_runs=sum(shape.num_runs for members in grid.values() for shape in members),
        rows="\n".join(rows),
    )


def _row(name: str, members: list[Shape], *, bound: float, teraflops: float, overhead: float) -> str:
    """Write a study's row: how much there is to do, and which networks a day does."""
    rates = {"teraflops": teraflops, "overhead": overhead}
    hours = [shape.hours(**rates) for shape in members]
    done = [shape for shape, cost in zip(members, hours, strict=True) if cost <= bound]
    # A size without its base or without SAM has no gain.
    sizes = sorted({shape.num_params for shape in members})
    whole = [size for size in sizes if all(shape in done for shape in members if shape.num_params == size)]
    cells = (
        f"[{name}](studies/{name}.md)",
        f"{sum(shape.num_runs for shape in members):,}",
        f"{sum(shape.num_runs * shape.num_gradients for shape in members) / 1e6:.1f}",
        f"{sum(hours):.1f}",
        "all" if whole == sizes else f"{', '.join(map(_size, whole)) or 'none'} of {len(sizes)}",
    )
    return f"| {' | '.join(cells)} |"


def _size(num_params: int) -> str:
    """Write a number of parameters in thousands or millions."""
    return f"{num_params / 1e6:.1f} M" if num_params >= 1e6 else f"{num_params / 1e3:.0f} k"


def measured() -> str:
    """Write what the studies that were run took."""
    rows = [(study.name, [cost for cost in study.costs if "minutes" in cost]) for study in studies()]
    hours = sum(cost["minutes"] for _, costs in rows for cost in costs) / 60
    return _MEASURED.format(rows="\n".join(_measured_row(name, costs) for name, costs in rows if costs), hours=hours)


def _measured_row(name: str, costs: Sequence[Mapping[str, Any]]) -> str:
    runs, minutes = (sum(cost[key] for cost in costs) for key in ("runs", "minutes"))
    return f"| [{name}](studies/{name}.md) | {runs:,} | {minutes} |"


def with_measured(text: str) -> str:
    """Write the page anew from its text, without the costs of the paper's grid, which take some minutes."""
    before, after = text.partition(_MEASURED_BEGINS)[0], text.partition(_MEASURED_ENDS)[2]
    return before + _MEASURED_BEGINS + measured() + _MEASURED_ENDS + after


def main() -> None:
    parser = ArgumentParser(description="Write docs/costs.md.")
    parser.add_argument("--teraflops", type=float, default=100.0, help="sustained by convolutions and products")
    parser.add_argument("--overhead", type=float, default=1e-4, help="least seconds of a gradient of a batch")
    parser.add_argument("--hours", type=float, default=24.0, help="of one GPU")
    flags = parser.parse_args()
    PAGE.write_text(page(teraflops=flags.teraflops, overhead=flags.overhead, budget=flags.hours))
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
