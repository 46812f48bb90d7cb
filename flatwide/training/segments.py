"""Segments of training: many steps in one compiled program, whose cuts change no bit of the result."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.training.devices import Sharding, copy_to_all, keep_split, local_rows, split_over_all
from flatwide.training.plans import Plan, Shuffled
from flatwide.training.state import State, Values
from flatwide.training.step import Metrics, Step
from flatwide.types import Array, Batch, Split

# segment(values, state, stop) -> (state, losses, learning rate of the last step): takes steps until `stop` or a loss
# that is not finite.
Segment = Callable[[Values, State, int], tuple[State, np.ndarray, float]]


def resident_segment(step: Step, arrays: Batch, *, plan: Plan, sharding: Sharding = None) -> Segment:
    """Build a segment over data on the device: one program chooses the examples and takes the steps.

    A segment must not cross the end of an epoch, since the plan begins an epoch once a program.

    Args:
      arrays: of the training split.
      sharding: how a batch lies on the devices.
    """
    run = compiled_segment(step, plan=plan, sharding=sharding)
    arrays = copy_to_all(arrays, sharding)

    def segment(values: Values, state: State, stop: int) -> tuple[State, np.ndarray, float]:
        first = int(state.step)
        state, losses, last = run(values, state, arrays, np.int32(stop))
        taken = int(state.step) - first
        start = first % plan.steps_per_epoch
        return state, np.asarray(losses)[start : start + taken], float(last["learning_rate"])

    return segment


@functools.lru_cache(maxsize=64)
def compiled_segment(step: Step, *, plan: Plan, sharding: Sharding = None):
    """Compile `run(values, state, arrays, stop)`, which returns what `advance_to` does; the state is donated.

    The program is cached by step and plan, so runs that differ in values only compile once.
    """

    def run(values: Values, state: State, arrays: Batch, stop: Array) -> tuple[State, Array, Metrics]:
        return advance_to(stop, step, plan, values, state, arrays, sharding=sharding)

    return jax.jit(run, donate_argnums=1)


def advance_to(
    stop: Array, step: Step, plan: Plan, values: Values, state: State, arrays: Batch, *, sharding: Sharding = None
) -> tuple[State, Array, Metrics]:
    """Trace the steps of one epoch up to `stop`, or to a loss that is not finite.

    Returns: the state, the losses of this epoch by step, and the metrics of the last step (0 where none was taken).
    """
    state, material = plan.begin(values, state, arrays)
    dtype = jnp.zeros(()).dtype

    def unfinished(carry):
        state, _, last = carry
        return (state.step < stop) & jnp.isfinite(last["loss"])

    def advance(carry):
        state, losses, last = carry
        within = state.step % plan.steps_per_epoch
        batch = keep_split(plan.batch(material, arrays, within), sharding)
        state, metrics = step(values, state, batch)
        last = {name: metrics[name].astype(dtype) for name in last}
        return state, losses.at[within].set(last["loss"]), last

    none_taken = {"loss": jnp.zeros((), dtype), "learning_rate": jnp.zeros((), dtype)}
    start = (state, jnp.zeros(plan.steps_per_epoch, dtype), none_taken)
    return jax.lax.while_loop(unfinished, advance, start)


@functools.lru_cache(maxsize=64)
def compiled_step(step: Step):
    """Compile one step; the state is donated."""
    return jax.jit(step, donate_argnums=1)


def streamed_segment(step: Step, split: Split, *, plan: Shuffled, sharding: Sharding = None) -> Segment:
    """Build a segment over streamed data, read one batch ahead of the device."""
    compiled = compiled_step(step)
    source = _Source(split, plan, sharding)

    def segment(values: Values, state: State, stop: int) -> tuple[State, np.ndarray, float]:
        first, losses, metrics = int(state.step), [], {"learning_rate": 0.0}
        for index, batch in zip(range(first, stop), source.batches(int(values.seed), first), strict=False):
            state, metrics = compiled(values, state, split_over_all(batch, sharding, num_rows=plan.batch_size))
            losses.append(metrics["loss"])
            # Check one step behind, which never waits for the step that was just started.
            if index > first and not np.isfinite(losses[-2]):
                break
        numbers = np.asarray([float(loss) for loss in losses])
        bad = np.flatnonzero(~np.isfinite(numbers))
        return state, numbers[: bad[0] + 1] if len(bad) else numbers, float(metrics["learning_rate"])

    return segment


class _Source:
    """This process's rows of the batches in the order of the run, from an iterator that outlives a segment."""

    def __init__(self, split: Split, plan: Shuffled, sharding: Sharding):
        self._split, self._plan, self._rows = split, plan, local_rows(plan.batch_size, sharding)
        self._seed, self._next, self._iterator = -1, -1, iter(())

    def batches(self, seed: int, first: int) -> Iterator[Batch]:
        """Yield the batches of steps first, first + 1, … up to the end of the epoch."""
        if (seed, first) != (self._seed, self._next) or first % self._plan.steps_per_epoch == 0:
            epoch, within = divmod(first, self._plan.steps_per_epoch)
            order = np.asarray(jax.jit(self._plan.order)(np.uint32(seed), epoch))
            order = order.reshape(-1, self._plan.batch_size)[:, self._rows].reshape(-1)
            self._iterator = self._split.batches(
                len(self._rows), order=order, seed=seed, epoch=epoch, train=True, first_batch=within
            )
            self._seed, self._next = seed, first
        for batch in self._iterator:
            self._next += 1
            yield batch
