"""Plans: the examples that each step of an epoch trains on."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from flatwide import streams
from flatwide.training.state import State, Values
from flatwide.types import Array, Batch, Padding, PyTree


class Plan(Protocol):
    """The source of an epoch's raw batches inside a compiled program; equal plans share a program.

    start(seed) -> the content of `State.source` before the first step.
    begin(values, state, arrays) -> (state, material): traced before the first step that a program takes of an epoch,
      which need not be the first of the epoch; `arrays` are those of the training split.
    batch(material, arrays, within) -> the raw batch of step number `within` of the epoch.
    """

    @property
    def steps_per_epoch(self) -> int: ...

    def start(self, seed: Array) -> PyTree: ...

    def begin(self, values: Values, state: State, arrays: Batch) -> tuple[State, Any]: ...

    def batch(self, material: Any, arrays: Batch, within: Array) -> Batch: ...


class Shuffled(NamedTuple):
    """The examples of a split, each once an epoch, in an order that is a pure function of the seed and the epoch.

    padding: of examples of unequal size; examples of similar size share a batch.
    """

    num_examples: int
    batch_size: int
    padding: Padding | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, whose last batch is completed from the start of the same permutation."""
        return -(-self.num_examples // self.batch_size)

    def start(self, seed: Array) -> PyTree:
        """Return an empty state: orders are drawn when they are needed."""
        del seed
        return ()

    def begin(self, values: Values, state: State, arrays: Batch) -> tuple[State, Array]:
        """Draw the order of the epoch."""
        return state, self.order(values.seed, state.step // self.steps_per_epoch, arrays)

    def batch(self, material: Array, arrays: Batch, within: Array) -> Batch:
        """Gather the examples of a step."""
        chosen = jax.lax.dynamic_slice(material, (within * self.batch_size,), (self.batch_size,))
        return jax.tree.map(lambda array: array[chosen], arrays)

    def order(self, seed: Array, epoch: Array, arrays: Batch | None = None) -> Array:
        """Draw the order of an epoch, [steps * batch]: a permutation, and its start again to complete the last batch.

        With padding, the examples of each `window` batches are then put in order of size, and all batches shuffled.

        Args:
          arrays: the examples; only their sizes are read, and nothing without padding.
        """
        key = jax.random.fold_in(streams.key(seed, "order"), epoch)
        order = streams.permutation(key, self.num_examples)
        order = jnp.resize(order, (self.steps_per_epoch * self.batch_size,))
        if self.padding is None or self.padding.window == 1:
            return order
        if not arrays:
            raise ValueError(f"arrays={arrays}: expected the examples, whose sizes determine the order.")
        sizes = jnp.asarray(self.padding.sizes(arrays), jnp.int32)[order]
        window = jnp.arange(len(order)) // (self.padding.window * self.batch_size)
        batches = order[jnp.lexsort((sizes, window))].reshape(self.steps_per_epoch, self.batch_size)
        return batches[streams.permutation(jax.random.fold_in(key, 1), self.steps_per_epoch)].reshape(-1)


class Windows(NamedTuple):
    """The windows of a sequence, each once an epoch, moved by an offset that is a function of the seed and the epoch.

    The last window is moved no further than the end of the sequence, so it may overlap with the one before.

    rows: the order of the windows. length: L, places of a window.
    """

    rows: Shuffled
    length: int

    @property
    def batch_size(self) -> int:
        """Windows of a step."""
        return self.rows.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, as without an offset."""
        return self.rows.steps_per_epoch

    def start(self, seed: Array) -> PyTree:
        """Return an empty state: offsets are drawn when they are needed."""
        return self.rows.start(seed)

    def begin(self, values: Values, state: State, arrays: Batch) -> tuple[State, Array]:
        """Draw the windows of the epoch."""
        return state, self.order(values.seed, state.step // self.steps_per_epoch, arrays)

    def order(self, seed: Array, epoch: Array, arrays: Batch | None = None) -> Array:
        """Draw the order of an epoch: the first place of each window, [steps * batch]."""
        key = jax.random.fold_in(streams.key(seed, "offset"), epoch)
        offset = jax.random.randint(key, (), 0, self.length)
        starts = self.rows.order(seed, epoch, arrays) * self.length + offset
        return jnp.minimum(starts, (self.rows.num_examples - 1) * self.length)

    def batch(self, material: Array, arrays: Batch, within: Array) -> Batch:
        """Gather the windows of a step."""
        starts = jax.lax.dynamic_slice(material, (within * self.batch_size,), (self.batch_size,))
        places = starts[:, None] + jnp.arange(self.length)[None]
        return jax.tree.map(lambda array: array.reshape(-1)[places], arrays)
