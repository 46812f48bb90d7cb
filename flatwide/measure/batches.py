"""Average a function over a data set that is cut into batches, exactly, whatever the sizes of the batches."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.types import Array, PyTree


class Batches(NamedTuple):
    """Batches on the device.

    groups: one pytree for each shape of batch; leaves [C, B, ...] hold C batches of B examples.
    weights: for each group [C], the share of each batch in a mean; all of them add up to 1.
    """

    groups: tuple[PyTree, ...]
    weights: tuple[Array, ...]


def collect(
    batches: PyTree, *, batch_size: int | None = None, weigh: Callable[[PyTree], float] | None = None
) -> Batches:
    """Put a data set into batches.

    Args:
      batches: one pytree of arrays whose leading axes are the N examples, or a list of such batches, of any sizes; or
        anything else that yields them, such as a data loader, which is read once. A list always means batches.
      batch_size: examples that are held in memory at once; where it does not divide a batch, a smaller one is left.
        None: the batches as they are.
      weigh: batch -> its weight in a mean, such as its number of real tokens; None: its number of examples.
    Raises: ValueError if there is no example, the leading axes differ, a list holds bare arrays, or an option is out of
      range.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1, or None for the batches as they are.")
    pieces = [piece for batch in _each(batches) for piece in _cut(batch, batch_size)]
    if not pieces:
        raise ValueError("batches: expected at least one example; the data set is empty.")
    weights = np.array([float(weigh(piece)) if weigh else num_examples(piece) for piece in pieces], np.float64)
    if not (np.all(weights >= 0) and 0 < weights.sum() < np.inf):
        raise ValueError(f"weigh: gave {weights.tolist()}; expected weights >= 0 with a positive sum.")
    weights /= weights.sum()
    places: dict = {}
    for place, piece in enumerate(pieces):
        places.setdefault(_shape(piece), []).append(place)
    groups = tuple(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *(pieces[i] for i in group)) for group in places.values()
    )
    return Batches(groups, tuple(jnp.asarray(weights[group], float) for group in places.values()))


def no_data() -> Batches:
    """Make the batches of a function that reads no data: one without arrays."""
    return Batches(groups=((),), weights=(jnp.ones(1),))


def num_examples(batch: PyTree) -> int:
    """Count the examples of a batch, whose leaves share their leading axis."""
    leaves = jax.tree.leaves(batch)
    shapes = [np.shape(leaf) for leaf in leaves]
    if len({shape[:1] for shape in shapes} - {()}) != 1 or () in shapes:
        raise ValueError(f"batch of shapes {shapes}: expected arrays with one common leading axis, the examples.")
    return shapes[0][0]


def mean(function: Callable[[PyTree], PyTree], batches: Batches) -> PyTree:
    """Average function(batch) over all batches by their weights; one batch is in memory at a time."""
    total = None
    for group, weights in zip(batches.groups, batches.weights, strict=True):
        part = _weighted_sum(function, group, weights)
        total = part if total is None else trees.add(total, part)
    return total


def _weighted_sum(function: Callable[[PyTree], PyTree], group: PyTree, weights: Array) -> PyTree:
    def batch_at(place: int) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[place], group)

    # A loop would keep XLA from using all threads within the one batch.
    if len(weights) == 1:
        return trees.scale(weights[0], function(batch_at(0)))

    def add_one(total: PyTree, one: tuple[Array, PyTree]) -> tuple[PyTree, None]:
        return trees.add(total, trees.scale(one[0], function(one[1]))), None

    like = jax.eval_shape(function, batch_at(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    return jax.lax.scan(add_one, zeros, (weights, group))[0]


def _each(batches: PyTree) -> Iterator[PyTree]:
    if is_list_of_arrays(batches):
        raise ValueError(
            f"batches: a list of {len(batches)} bare arrays is read as as many batches, where one batch may be meant. "
            "Write a tuple (x, y) or a dict for one batch, and iter([x1, x2]) for several batches of one array."
        )
    if isinstance(batches, list) or is_loader(batches):
        yield from batches
    else:
        yield batches


def is_list_of_arrays(batches: PyTree) -> bool:
    """Whether batches are a list of arrays (or tensors) and of nothing else: `[x, y]` is mostly meant as one batch."""
    return isinstance(batches, list) and bool(batches) and all(hasattr(one, "shape") for one in batches)


def is_loader(batches: PyTree) -> bool:
    """Whether batches are no pytree of arrays but an object that yields batches: an iterator, a data loader."""
    is_container = not jax.tree_util.all_leaves([batches])
    return isinstance(batches, Iterable) and not is_container and not hasattr(batches, "shape")


def _cut(batch: PyTree, batch_size: int | None) -> Iterator[PyTree]:
    batch = jax.tree.map(jnp.asarray, batch)
    total = num_examples(batch)
    size = batch_size or max(total, 1)
    for first in range(0, total, size):
        yield batch if size >= total else jax.tree.map(lambda leaf, at=first: leaf[at : at + size], batch)


def _shape(batch: PyTree) -> tuple:
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
