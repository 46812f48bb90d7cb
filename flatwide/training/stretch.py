"""Many epochs in one compiled program, evaluations included: for networks so small that leaving it costs much.

Steps, orders and scores are those of `segments` and `evaluate`, so the numbers of one run are the same to the last bit
wherever it is cut, and whichever of the two trains it. A group of runs advances together under `vmap`: there the last
bits depend on the number of runs in the program, and not on which they are.
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

_MOST_EPOCHS = 64  # of one call
_MOST_BYTES = 2**25  # that the scores of one call may take


class Scored(NamedTuple):
    """A split that is scored after every epoch, and how."""

    arrays: Batch
    scorer: Scorer


class Member(NamedTuple):
    """What one run brings to a program: its values, its training examples, and what is scored after each epoch.

    shared: names of the arrays of `train`, and of the splits, that are the same in all runs of one shape. It depends on
    the shape alone: with another program for another company, a run's last bits might depend on its neighbours.
    stops: epochs, in order, at whose ends the state is wanted, so that a call ends there.
    """

    values: Values
    train: Batch
    splits: Mapping[str, Scored]
    shared: frozenset[str] = frozenset()
    stops: tuple[int, ...] = ()

    def next_stop(self, epoch: int, last: int) -> int:
        """Give the first epoch after `epoch` at which a call must end."""
        return min((stop for stop in self.stops if epoch < stop < last), default=last)


class Reports(NamedTuple):
    """What the epochs of a call report, an epoch a row.

    losses: of the clean pass, by step; learning_rates: that the last step of each epoch used; scores: of each split at
    the end of each epoch.
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
      seconds: about how long a call may last.
    Yields: one `Taken` an epoch, with the scores of its end; only the last of a call has the state.
    """
    program = _program(step, workload, plan, _scorers(member), None, state, member)
    arrays = jax.device_put((member.train, _arrays(member)))
    calls = _Calls(program, seconds=seconds, clock=clock)
    first, last = int(state.step), num_epochs * plan.steps_per_epoch
    while first < last:
        epoch = first // plan.steps_per_epoch
        stop = calls.stop(epoch, member.next_stop(epoch, num_epochs))
        state, reports = program.run(member.values, state, *arrays, stop)
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
    """Do what `take_epochs` does for several runs at once, in one vmapped program of `group_size` runs.

    Members may be at different steps. One that is at its end, or has diverged, stands still.

    Args:
      members: at most `group_size`; the program is filled up with copies of the first, which stand still.
    Yields: a call's epochs for each member.
    """
    num_spare = group_size - len(members)
    filled = [*members, *(list(members[:1]) * num_spare)]
    state = _stack([*states, *(list(states[:1]) * num_spare)])
    program = _program(step, workload, plan, _scorers(members[0]), members[0].shared, states[0], members[0])
    arrays = jax.device_put(
        (
            _joined([own.train for own in filled], members[0].shared),
            _joined([_arrays(own) for own in filled], members[0].shared),
        )
    )
    values = _stack([own.values for own in filled])
    calls = _Calls(program, seconds=seconds, clock=clock)
    steps = np.array(state.step)
    ends = np.where(np.arange(group_size) < len(members), num_epochs, 0) * plan.steps_per_epoch
    while (steps < ends).any():
        first, epochs = steps, steps // plan.steps_per_epoch
        places = zip(filled, epochs.tolist(), (ends // plan.steps_per_epoch).tolist(), strict=True)
        stops = calls.stop(epochs, np.array([own.next_stop(epoch, last) for own, epoch, last in places]))
        state, reports = program.run(values, state, *arrays, stops)
        steps, reports = jax.device_get((state.step, reports))
        calls.took(float(np.max(steps - first)) / plan.steps_per_epoch)
        found = []
        for place in range(len(members)):
            pick = functools.partial(jax.tree.map, lambda leaf, place=place: leaf[place])
            begin, end, at_end = int(first[place]), int(steps[place]), functools.partial(pick, state)
            found.append(list(_taken(begin, end, pick(reports), plan, at_end)))
            if found[-1] and not np.isfinite(found[-1][-1].losses[-1]):
                ends[place] = 0
        yield found


class _Program(NamedTuple):
    run: Callable
    most: int  # epochs of a call


# Epochs a second of the programs seen, so that calls last about as long as they may from the first one on.
_known_rates: dict[_Program, float] = {}
_programs: dict[tuple, _Program] = {}


class _Calls:
    """How many epochs the next call takes."""

    def __init__(self, program: _Program, *, seconds: float, clock: Callable[[], float]):
        self._program, self._seconds, self._clock, self._started = program, seconds, clock, 0.0
        self._length = max(1, int(seconds * _known_rates.get(program, 0.0)))

    def stop(self, epoch: Any, last: Any) -> np.ndarray:
        """Give the epoch that a call goes up to."""
        self._started = self._clock()
        return np.minimum(last, epoch + min(self._length, self._program.most)).astype(np.int32)

    def took(self, num_epochs: float) -> None:
        """Learn from the call that has ended."""
        rate = _known_rates[self._program] = num_epochs / max(self._clock() - self._started, 1e-9)
        self._length = max(1, int(min(self._length * 8, self._seconds * rate)))


def _taken(first: int, after: int, reports: Reports, plan: Plan, state: Callable[[], State]) -> Iterator[Taken]:
    """Cut a call from step `first` to `after` into its epochs."""
    each = plan.steps_per_epoch
    for epoch in range(first // each, -(-after // each) if after > first else 0):
        place, begin, end = epoch - first // each, max(first, epoch * each), min(after, (epoch + 1) * each)
        report = jax.tree.map(lambda leaf, place=place: leaf[place], reports)
        yield Taken(
            step=end,
            state=state() if end == after else None,
            losses=report.losses[begin - epoch * each : end - epoch * each],
            learning_rate=float(report.learning_rates),
            scores=report.scores,
        )


def _arrays(member: Member) -> dict[str, Batch]:
    return {name: split.arrays for name, split in member.splits.items()}


def _scorers(member: Member) -> tuple[tuple[str, Scorer], ...]:
    return tuple((name, member.splits[name].scorer) for name in sorted(member.splits))


def _axes(names: Iterable[str], shared: frozenset[str]) -> dict[str, int | None]:
    return {name: None if name in shared else 0 for name in names}


def _joined(own: Sequence[Mapping[str, Any]], shared: frozenset[str]) -> dict[str, Any]:
    """Give what is shared once, and stack the rest."""
    return {
        name: own[0][name] if axis is None else jax.tree.map(lambda *leaves: np.stack(leaves), *(o[name] for o in own))
        for name, axis in _axes(own[0], shared).items()
    }


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _program(
    step: Step,
    workload: Workload,
    plan: Plan,
    scorers: tuple,
    shared: frozenset[str] | None,
    state: State,
    member: Member,
) -> _Program:
    """Compile a program, or give the one of an earlier run of its shape."""
    key = (step, workload, plan, scorers, shared)
    if key not in _programs:
        most = _most_epochs(workload, state, member)
        run = functools.partial(_run_epochs, step, workload, plan, scorers, most)
        if shared is not None:
            run = jax.vmap(run, in_axes=(0, 0, _axes(member.train, shared), _axes(member.splits, shared), 0))
        _programs[key] = _Program(jax.jit(run, donate_argnums=1), most)
    return _programs[key]


def _most_epochs(workload: Workload, state: State, member: Member) -> int:
    """Keep the scores of one call within some memory."""
    each = 0
    for split in member.splits.values():
        shapes = jax.eval_shape(functools.partial(split.scorer, workload), state, split.arrays)
        each += sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return max(1, min(_MOST_EPOCHS, _MOST_BYTES // max(each, 1)))


def _run_epochs(
    step: Step, workload: Workload, plan: Plan, scorers: tuple, most: int, values, state, train, splits, stop
):
    """Trace epochs up to number `stop`, at most `most` of them.

    Returns: the state, and reports with `most` rows.
    """
    dtype = jnp.zeros(()).dtype
    first = state.step // plan.steps_per_epoch

    def score(state: State) -> dict[str, Scores]:
        return {name: scorer(workload, state, splits[name]) for name, scorer in scorers}

    def unfinished(carry):
        state, _, last = carry
        return (state.step < stop * plan.steps_per_epoch) & jnp.isfinite(last)

    def advance(carry):
        state, reports, _ = carry
        epoch = state.step // plan.steps_per_epoch
        state, losses, last = advance_to((epoch + 1) * plan.steps_per_epoch, step, plan, values, state, train)
        report = Reports(losses=losses, learning_rates=last["learning_rate"], scores=score(state))
        reports = jax.tree.map(lambda rows, row: rows.at[epoch - first].set(row), reports, report)
        return state, reports, last["loss"]

    shapes = jax.eval_shape(score, state)
    reports = Reports(
        losses=jnp.zeros((most, plan.steps_per_epoch), dtype),
        learning_rates=jnp.zeros(most, dtype),
        scores=jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), shapes),
    )
    state, reports, _ = jax.lax.while_loop(unfinished, advance, (state, reports, jnp.zeros((), dtype)))
    return state, reports
