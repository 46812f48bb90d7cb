"""Many epochs in one compiled program, evaluations included: for networks so small that leaving it costs much.

Steps, orders and scores are those of `segments` and `evaluate`, so the numbers are the same to the last bit wherever a
run is cut, and whichever of the two trains it.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.data import Resident
from flatwide.training.evaluate import resident_scores
from flatwide.training.loop import Taken
from flatwide.training.segments import Schedule, advance_to
from flatwide.training.state import State, Values
from flatwide.training.step import Step
from flatwide.workloads import Scores, Workload

_MOST_EPOCHS = 64  # of one call
_MOST_BYTES = 2**25  # that the scores of one call may take


class Scored(NamedTuple):
    """A split that is scored after every epoch: its first `count` examples, `batch_size` at a time."""

    arrays: dict
    count: int
    batch_size: int


def take_epochs(
    step: Step,
    workload: Workload,
    train: Resident,
    splits: Mapping[str, Scored],
    values: Values,
    state: State,
    *,
    batch_size: int,
    num_epochs: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Taken]:
    """Take the steps of whole epochs, up to `num_epochs` or to the first loss that is not finite.

    Args:
      splits: what is scored after each epoch.
      seconds: about how long a call may last.
    Yields: one `Taken` an epoch, with the scores of its end; only the last of a call has the state.
    """
    plan = Schedule(train.num_examples, batch_size)
    sizes = tuple(sorted((name, split.count, split.batch_size) for name, split in splits.items()))
    program = _program(step, workload, plan, sizes, state, splits)
    data = jax.device_put((train.arrays, {name: split.arrays for name, split in splits.items()}))
    each = plan.steps_per_epoch
    first, length = int(state.step), max(1, int(seconds * _known_rates.get(program, 0.0)))
    while first < num_epochs * each:
        started = clock()
        length = min(length, program.most)
        state, losses, scores = program.run(values, state, *data, np.int32(min(num_epochs, first // each + length)))
        after, losses, scores = jax.device_get((state.step, losses, scores))
        for epoch in range(first // each, -(-after // each)):
            place, begin, end = epoch - first // each, max(first, epoch * each), min(int(after), (epoch + 1) * each)
            found = losses[place][begin - epoch * each : end - epoch * each]
            yield Taken(end, state if end == after else None, found, {n: _entry(s, place) for n, s in scores.items()})
        if not np.isfinite(found[-1]):
            return
        rate = _known_rates[program] = (after - first) / each / max(clock() - started, 1e-9)
        first, length = int(after), max(1, int(min(length * 8, seconds * rate)))


class _Program(NamedTuple):
    run: Callable
    most: int  # epochs of a call


# Epochs a second of the programs seen, so that calls last about as long as they may from the first one on.
_known_rates: dict[_Program, float] = {}
_programs: dict[tuple, _Program] = {}


def _program(step, workload, plan: Schedule, sizes: tuple, state: State, splits: Mapping[str, Scored]) -> _Program:
    key = (step, workload, plan, sizes)
    if key not in _programs:
        most = _most_epochs(workload, state, splits, sizes)
        _programs[key] = _Program(_compiled_epochs(step, workload, plan, sizes, most), most)
    return _programs[key]


def _entry(scores: Scores, place: int) -> Scores:
    return jax.tree.map(lambda leaf: leaf[place], scores)


def _most_epochs(workload: Workload, state: State, splits: Mapping[str, Scored], sizes: tuple) -> int:
    """Keep the scores of one call within some memory."""
    each = 0
    for name, count, batch_size in sizes:
        score = functools.partial(resident_scores, workload, count=count, batch_size=batch_size)
        shapes = jax.eval_shape(score, state, splits[name].arrays)
        each += sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return max(1, min(_MOST_EPOCHS, _MOST_BYTES // max(each, 1)))


def _compiled_epochs(step: Step, workload: Workload, plan: Schedule, sizes: tuple, most: int):
    """Compile `run(values, state, train, splits, stop) -> (state, losses [most, steps], scores [most, ...])`.

    It takes epochs until number `stop`, at most `most` of them; the state is donated.
    """

    def run(values: Values, state: State, train, splits, stop):
        dtype = jnp.zeros(()).dtype
        first = state.step // plan.steps_per_epoch

        def score(state: State) -> dict[str, Scores]:
            return {
                name: resident_scores(workload, state, splits[name], count=count, batch_size=batch_size)
                for name, count, batch_size in sizes
            }

        def unfinished(carry):
            state, _, _, last = carry
            return (state.step < stop * plan.steps_per_epoch) & jnp.isfinite(last)

        def advance(carry):
            state, losses, scores, _ = carry
            epoch = state.step // plan.steps_per_epoch
            state, found, last = advance_to((epoch + 1) * plan.steps_per_epoch, step, plan, values, state, train)
            place = epoch - first
            losses = losses.at[place].set(found)
            scores = jax.tree.map(lambda all_, new: all_.at[place].set(new), scores, score(state))
            return state, losses, scores, last

        shapes = jax.eval_shape(score, state)
        scores = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), shapes)
        start = (state, jnp.zeros((most, plan.steps_per_epoch), dtype), scores, jnp.zeros((), dtype))
        state, losses, scores, _ = jax.lax.while_loop(unfinished, advance, start)
        return state, losses, scores

    return jax.jit(run, donate_argnums=1)
