"""Many epochs and their evaluations in one compiled program, for networks so small that calls would dominate.

Steps, orders and scores are those of `segments` and `evaluate`, so the numbers of one run are the same to the last bit
wherever it is cut and by either way of training. A group of runs advances together under `vmap`: there the last
bits depend on the number of runs in the program, but not on which runs they are.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.training.evaluate import Scorer
from flatwide.training.loop import Taken
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
    member: Member,
    state: State,
    *,
    plan: Plan,
    num_epochs: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Taken]:
    """Take the steps of whole epochs, up to `num_epochs` or to the first loss that is not finite.

    Args:
      seconds: approximate duration of a call.
    Yields: one `Taken` an epoch, with the scores at its end; only the last of a call has the state.
    """
    program = _program_of(step, workload, member, plan=plan)
    arrays = jax.device_put(_Arrays(member.train, _split_arrays(member)))
    calls = _Calls(program, seconds=seconds, clock=clock)
    first, last = int(state.step), num_epochs * plan.steps_per_epoch
    while first < last:
        epoch = first // plan.steps_per_epoch
        stop = calls.stop(epoch, member.next_stop(epoch, num_epochs))
        state, reports = program.run(member.values, state, arrays, stop)
        after, reports = jax.device_get((state.step, reports))
        calls.took((after - first) / plan.steps_per_epoch)
        for taken in _taken(first, int(after), reports, plan, lambda state=state: state):
            yield taken
        if not np.isfinite(taken.losses[-1]):
            return
        first = int(after)


def take_epochs_together(
    step: Step,
    workload: Workload,
    members: Sequence[Member],
    states: Sequence[State],
    *,
    group_size: int,
    plan: Plan,
    num_epochs: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[list[Taken]]]:
    """Take the epochs of several runs at once, as `take_epochs` does of one, in a vmapped program of `group_size` runs.

    Members may be at different steps. One that has finished or diverged does not change.

    Args:
      members: at most `group_size`; copies of the first, which do not change, fill up the program.
    Yields: a call's epochs for each member.
    """
    num_spare = group_size - len(members)
    filled = [*members, *(list(members[:1]) * num_spare)]
    state = _stack([*states, *(list(states[:1]) * num_spare)])
    shared = members[0].shared
    program = _program_of(step, workload, members[0], plan=plan, is_group=True)
    train = _joined([member.train for member in filled], shared)
    arrays = jax.device_put(_Arrays(train, _joined([_split_arrays(member) for member in filled], shared)))
    values = _stack([member.values for member in filled])
    calls = _Calls(program, seconds=seconds, clock=clock)
    steps = np.array(state.step)
    ends = np.where(np.arange(group_size) < len(members), num_epochs, 0) * plan.steps_per_epoch
    while (steps < ends).any():
        first, epochs = steps, steps // plan.steps_per_epoch
        ranges = zip(filled, epochs.tolist(), (ends // plan.steps_per_epoch).tolist(), strict=True)
        stops = calls.stop(epochs, np.array([member.next_stop(epoch, last) for member, epoch, last in ranges]))
        state, reports = program.run(values, state, arrays, stops)
        steps, reports = jax.device_get((state.step, reports))
        calls.took(float(np.max(steps - first)) / plan.steps_per_epoch)
        taken = []
        for index in range(len(members)):
            pick = functools.partial(jax.tree.map, lambda leaf, index=index: leaf[index])
            begin, end, at_end = int(first[index]), int(steps[index]), functools.partial(pick, state)
            taken.append(list(_taken(begin, end, pick(reports), plan, at_end)))
            if taken[-1] and not np.isfinite(taken[-1][-1].losses[-1]):
                ends[index] = 0
        yield taken


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


class _Fixed(NamedTuple):
    """The constants of a compiled program, equal for all runs that it trains."""

    step: Step
    workload: Workload
    plan: Plan
    scorers: tuple[tuple[str, Scorer], ...]


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


class _Calls:
    """The number of epochs of the next call."""

    def __init__(self, program: _Program, *, seconds: float, clock: Callable[[], float]):
        self._program, self._seconds, self._clock, self._started = program, seconds, clock, 0.0
        self._length = max(1, int(seconds * program.rate))

    def stop(self, epoch: Any, last: Any) -> np.ndarray:
        """Compute the last epoch of a call; the program ends the call earlier where its memory is full."""
        self._started = self._clock()
        return np.minimum(last, epoch + min(self._length, _MOST_EPOCHS)).astype(np.int32)

    def took(self, num_epochs: float) -> None:
        """Update the rate after a call."""
        self._program.rate = num_epochs / max(self._clock() - self._started, 1e-9)
        self._length = max(1, int(min(self._length * 8, self._seconds * self._program.rate)))


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


def _program_of(step: Step, workload: Workload, member: Member, *, plan: Plan, is_group: bool = False) -> "_Program":
    """Return the program of one run, or of a group of runs like it."""
    scorers = tuple((name, member.splits[name].scorer) for name in sorted(member.splits))
    fixed = _Fixed(step=step, workload=workload, plan=plan, scorers=scorers)
    if not is_group:
        return _program(fixed)
    return _program(fixed, is_group=True, shared=member.shared, train_names=frozenset(member.train))


def _axes(names: Iterable[str], shared: frozenset[str]) -> dict[str, int | None]:
    return {name: None if name in shared else 0 for name in names}


def _joined(arrays: Sequence[Mapping[str, Any]], shared: frozenset[str]) -> dict[str, Any]:
    """Take shared arrays from the first run, and stack the others."""
    return {
        name: arrays[0][name]
        if axis is None
        else jax.tree.map(lambda *leaves: np.stack(leaves), *(each[name] for each in arrays))
        for name, axis in _axes(arrays[0], shared).items()
    }


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@functools.lru_cache(maxsize=64)
def _program(
    fixed: _Fixed,
    *,
    is_group: bool = False,
    shared: frozenset[str] = frozenset(),
    train_names: frozenset[str] = frozenset(),
) -> _Program:
    """Build the program of one run or of a group of runs; runs of one shape share it.

    Args:
      shared: names of the arrays that all runs of a group share. train_names: those of the training examples.
    """
    run = functools.partial(_run_epochs, fixed)
    if is_group:
        split_names = [name for name, _ in fixed.scorers]
        axes: Any = _Arrays(*(_axes(names, shared) for names in (train_names, split_names)))  # type: ignore[arg-type]
        run = jax.vmap(run, in_axes=(0, 0, axes, 0))
    return _Program(jax.jit(run, donate_argnums=1))


def _run_epochs(fixed: _Fixed, values: Values, state: State, arrays: _Arrays, stop: jax.Array) -> tuple[State, Reports]:
    """Trace epochs up to number `stop`, or as many as the memory for their scores holds.

    Returns: the state, and reports with `most` rows.
    """
    step, workload, plan, scorers = fixed
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
