"""Many epochs and their evaluations in one compiled program, for networks so small that calls would dominate.

Steps, orders and scores are those of `segments` and `evaluate`, so the numbers of one run are the same to the last bit
wherever it is cut and by either way of training. A group of runs advances together under `vmap`: there the last
bits depend on the number of runs in the program, but not on which runs they are.
"""

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.training.evaluate import Scorer
from flatwide.training.loop import GROWTH, Taken
from flatwide.training.plans import Plan
from flatwide.training.segments import advance_to
from flatwide.training.state import State, Values
from flatwide.training.step import Step
from flatwide.types import Array, Batch
from flatwide.workloads import Scores, Workload

AVERAGE = "_average"  # suffix of the name of a split that is scored with the averaged weights
_MOST_EPOCHS = 64  # in one call
_MOST_BYTES = 2**25  # for the scores of one call


class Scored(NamedTuple):
    """A split that is scored after every epoch, and its scorer."""

    arrays: Batch
    scorer: Scorer


class Member(NamedTuple):
    """The arguments of one run in a program: its values, its training examples, and the splits scored each epoch.

    shared: names of the arrays of `train`, and of the splits, that are equal in all runs of one shape. It depends on
    the shape alone: if it depended on the other runs of a group, so might a run's last bits.
    stops: ascending epochs at whose ends the state is needed, so that a call ends there.
    """

    values: Values
    train: Batch
    splits: Mapping[str, Scored]
    shared: frozenset[str] = frozenset()
    stops: tuple[int, ...] = ()

    def next_stop(self, epoch: int, last: int) -> int:
        """Return the first epoch after `epoch` at which a call must end."""
        return min((stop for stop in self.stops if epoch < stop < last), default=last)


class Reports(NamedTuple):
    """The reports of a call, one row an epoch.

    losses: of the clean pass, by step; learning_rates: of the last step of each epoch; scores: of each split at the end
    of each epoch, and under its name with `AVERAGE` those of the averaged weights, if there are any.
    """

    losses: Array
    learning_rates: Array
    scores: dict[str, Scores]


def take_epochs(
    step: Step,
    workload: Workload,
    members: Sequence[Member],
    states: Sequence[State],
    *,
    group_size: int = 1,
    plan: Plan,
    num_epochs: int,
    seconds: float,
) -> Iterator[list[list[Taken]]]:
    """Take the steps of whole epochs of runs, up to `num_epochs` or to the first loss of each that is not finite.

    Members may be at different steps. One that has finished or diverged does not change.

    Args:
      members: at most `group_size`; copies of the first, which do not change, fill up the program.
      group_size: how many runs a vmapped program trains; 1 is the program of one run, without `vmap`.
      seconds: approximate duration of a call.
    Yields: a call's epochs for each member, with the scores at their ends; only the last of a call has the state.
    """
    num_spare, is_group = group_size - len(members), group_size > 1
    filled = [*members, *(list(members[:1]) * num_spare)]
    state = _stack([*states, *(list(states[:1]) * num_spare)])
    shared = members[0].shared
    program = _program_of(step, workload, members[0], plan=plan, is_group=is_group)
    train = _joined([member.train for member in filled], shared)
    arrays = jax.device_put(_Arrays(train, _joined([_split_arrays(member) for member in filled], shared)))
    values = _stack([member.values for member in filled])
    steps, length = np.atleast_1d(np.array(state.step)), _length(program.rate, seconds)
    ends = np.where(np.arange(group_size) < len(members), num_epochs, 0) * plan.steps_per_epoch
    while (steps < ends).any():
        first, epochs, started = steps, steps // plan.steps_per_epoch, time.monotonic()
        ranges = zip(filled, epochs.tolist(), (ends // plan.steps_per_epoch).tolist(), strict=True)
        last = np.array([member.next_stop(epoch, end) for member, epoch, end in ranges])
        stops = np.minimum(last, epochs + length).astype(np.int32)
        state, reports = program.run(values, state, arrays, stops if is_group else stops[0])
        steps, reports = jax.device_get((state.step, reports))
        steps = np.atleast_1d(steps)
        program.rate = float(np.max(steps - first)) / plan.steps_per_epoch / max(time.monotonic() - started, 1e-9)
        length = _length(program.rate, seconds, before=length)
        taken = []
        for index in range(len(members)):
            pick = functools.partial(jax.tree.map, lambda leaf, index=index: leaf[index] if is_group else leaf)
            begin, end, at_end = int(first[index]), int(steps[index]), functools.partial(pick, state)
            taken.append(list(_taken(begin, end, pick(reports), plan, at_end)))
            if taken[-1] and not np.isfinite(taken[-1][-1].losses[-1]):
                ends[index] = 0
        yield taken


def _length(rate: float, seconds: float, *, before: float = math.inf) -> int:
    """Choose the epochs of the next call from the rate of the last one; the program may end it earlier."""
    return max(1, int(min(GROWTH * before, seconds * rate, _MOST_EPOCHS)))


def compiled(
    step: Step, workload: Workload, member: Member, state: State, *, plan: Plan, group_size: int
) -> jax.stages.Compiled:
    """Compile the program of one run, or of a group of runs like it, for a state of these shapes."""

    def many(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((group_size, *leaf.shape), leaf.dtype), tree)

    arrays, stop = _Arrays(member.train, _split_arrays(member)), np.zeros((), np.int32)
    program = _program_of(step, workload, member, plan=plan, is_group=group_size > 1)
    if group_size == 1:
        return program.run.lower(member.values, state, arrays, stop).compile()
    names = [{name: each[name] if name in member.shared else many(each[name]) for name in each} for each in arrays]
    return program.run.lower(many(member.values), many(state), _Arrays(*names), many(stop)).compile()


class _Arrays(NamedTuple):
    """The arrays of a program: training examples, and the examples of each split that is scored."""

    train: Batch
    splits: dict[str, Batch]


class _Program:
    """A compiled program and its rate in the last call, in epochs a second; 0 before the first.

    The rate outlives a run, so that already the first call of the next run of its shape has the right length.
    """

    def __init__(self, run: Callable):
        self.run, self.rate = run, 0.0


def _taken(first: int, after: int, reports: Reports, plan: Plan, state: Callable[[], State]) -> Iterator[Taken]:
    """Cut a call from step `first` to `after` into its epochs."""
    each = plan.steps_per_epoch
    for epoch in range(first // each, -(-after // each) if after > first else 0):
        row, begin, end = epoch - first // each, max(first, epoch * each), min(after, (epoch + 1) * each)
        report = jax.tree.map(lambda leaf, row=row: leaf[row], reports)
        yield Taken(
            step=end,
            state=state() if end == after else None,
            losses=report.losses[begin - epoch * each : end - epoch * each],
            learning_rate=float(report.learning_rates),
            scores=report.scores,
        )


def _split_arrays(member: Member) -> dict[str, Batch]:
    return {name: split.arrays for name, split in member.splits.items()}


def _program_of(step: Step, workload: Workload, member: Member, *, plan: Plan, is_group: bool) -> "_Program":
    """Return the program of one run, or of a group of runs like it."""
    scorers = tuple((name, member.splits[name].scorer) for name in sorted(member.splits))
    return _program(step, workload, plan, scorers, (member.shared, frozenset(member.train)) if is_group else None)


def _axes(names: Iterable[str], shared: frozenset[str]) -> dict[str, int | None]:
    return {name: None if name in shared else 0 for name in names}


def _joined(arrays: Sequence[Mapping[str, Any]], shared: frozenset[str]) -> dict[str, Any]:
    """Take shared arrays from the first run, and stack the others; a single run's are taken as they are."""
    return {
        name: array
        if name in shared or len(arrays) == 1
        else jax.tree.map(lambda *leaves: np.stack(leaves), *(each[name] for each in arrays))
        for name, array in arrays[0].items()
    }


def _stack(trees: Sequence[Any]) -> Any:
    """Stack the leaves of several runs; those of a single one are taken as they are."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@functools.lru_cache(maxsize=64)
def _program(
    step: Step,
    workload: Workload,
    plan: Plan,
    scorers: tuple[tuple[str, Scorer], ...],
    names: tuple[frozenset[str], frozenset[str]] | None,
) -> _Program:
    """Build the program that runs of one shape share; of a group, `names` are those of shared and training arrays."""
    run = functools.partial(_run_epochs, step, workload, plan, scorers)
    if names is not None:
        shared, train_names = names
        split_names = [name for name, _ in scorers]
        axes: Any = _Arrays(*(_axes(each, shared) for each in (train_names, split_names)))  # type: ignore[arg-type]
        run = jax.vmap(run, in_axes=(0, 0, axes, 0))
    return _Program(jax.jit(run, donate_argnums=1))


def _run_epochs(
    step: Step,
    workload: Workload,
    plan: Plan,
    scorers: tuple[tuple[str, Scorer], ...],
    values: Values,
    state: State,
    arrays: _Arrays,
    stop: jax.Array,
) -> tuple[State, Reports]:
    """Trace epochs up to number `stop`, or as many as the memory for their scores holds."""
    dtype = jnp.zeros(()).dtype
    first = state.step // plan.steps_per_epoch

    def score(state: State) -> dict[str, Scores]:
        networks = {"": state} | ({AVERAGE: state.averaged()} if state.average else {})
        return {
            name + suffix: scorer(workload, network, arrays.splits[name])
            for suffix, network in networks.items()
            for name, scorer in scorers
        }

    def unfinished(carry):
        state, _, last = carry
        return (state.step < stop * plan.steps_per_epoch) & jnp.isfinite(last)

    def advance(carry):
        state, reports, _ = carry
        epoch = state.step // plan.steps_per_epoch
        state, losses, last = advance_to((epoch + 1) * plan.steps_per_epoch, step, plan, values, state, arrays.train)
        report = Reports(losses=losses, learning_rates=last["learning_rate"], scores=score(state))
        reports = jax.tree.map(lambda rows, row: rows.at[epoch - first].set(row), reports, report)
        return state, reports, last["loss"]

    shapes = jax.eval_shape(score, state)
    each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    most = max(1, min(_MOST_EPOCHS, _MOST_BYTES // max(each, 1)))
    stop = jnp.minimum(stop, first + most)
    reports = Reports(
        losses=jnp.zeros((most, plan.steps_per_epoch), dtype),
        learning_rates=jnp.zeros(most, dtype),
        scores=jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), shapes),
    )
    state, reports, _ = jax.lax.while_loop(unfinished, advance, (state, reports, jnp.zeros((), dtype)))
    return state, reports
