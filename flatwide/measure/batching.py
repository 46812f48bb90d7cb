"""Exact averages of a function over a data set that is split into batches of any sizes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measure import host
from flatwide.types import Array, PyTree

CHUNK_BYTES = 2**28  # of examples in parallel that choose their own number: a quarter of a GiB, small for any machine
_MOST_SHAPES = 8  # of streamed batches; a choice: each is compiled separately, in seconds


class Batches(NamedTuple):
    """Batches on the device.

    groups: one pytree for each shape of batch; leaves [C, B, ...] hold C batches of B examples.
    weights: for each group [C], the share of each batch in a mean; all of them add up to 1.
    """

    groups: tuple[PyTree, ...]
    weights: tuple[Array, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Streamed:
    """Batches that are read again for each mean, one at a time.

    weights: [C], the share of each batch in a mean; all of them add up to 1.
    """

    weights: Array
    reader: "_Reader" = field(metadata={"static": True})


def prepare(
    batches: PyTree, *, batch_size: int | None = None, weigh: Callable[[PyTree], float] | None = None
) -> Batches | Streamed:
    """Put a data set into batches on the device, or prepare to stream it batch by batch for each mean.

    Args:
      batches: as for `collect`, or an iterable of batches that can be read repeatedly: a data loader, or a function
        without arguments that returns an iterator. It must yield the same batches in the same order each time, as NumPy
        arrays or objects that NumPy converts, such as tensors.
      batch_size, weigh: as for `collect`; `weigh` is called in the first pass.
    Returns: Batches for data in memory; Streamed for a loader, which is read once to count its batches.
    Raises: ValueError as `collect`, or for an iterator, which can be read only once.
    """
    check_can_be_read_again(batches)
    if not is_loader(batches):
        return collect(batches, batch_size=batch_size, weigh=weigh)
    _check_batch_size(batch_size)
    reader = _Reader(batches, batch_size)
    weights = _shares([float(weigh(piece)) if weigh else num_examples(piece) for piece in reader.first_reading()])
    return Streamed(jnp.asarray(weights, float), reader)


def first_examples(batches: Batches | Streamed, number: int) -> PyTree:
    """Return the first examples of the first batch: `number` of them, or all if it has fewer."""
    if isinstance(batches, Streamed):
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[:number]), batches.reader.first)
    return jax.tree.map(lambda leaf: leaf[0, :number], batches.groups[0])


def collect(
    batches: PyTree, *, batch_size: int | None = None, weigh: Callable[[PyTree], float] | None = None
) -> Batches:
    """Put a data set into batches.

    Args:
      batches: one pytree of arrays whose leading axes are the N examples, or a list of such batches, of any sizes; or
        anything else that yields them, such as a data loader, which is read once. A list always means batches.
      batch_size, weigh: as for `problem`; if the size does not divide a batch, the last part is smaller.
    Raises: ValueError if there is no example, the leading axes differ, a list holds bare arrays, or an option is out of
      range.
    """
    _check_batch_size(batch_size)
    pieces = [piece for batch in _each(batches) for piece in _cut(jax.tree.map(jnp.asarray, batch), batch_size)]
    weights = _shares([float(weigh(piece)) if weigh else num_examples(piece) for piece in pieces])
    indices_by_shape: dict = {}
    for index, piece in enumerate(pieces):
        indices_by_shape.setdefault(_shape(piece), []).append(index)
    groups = tuple(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *(pieces[i] for i in group))
        for group in indices_by_shape.values()
    )
    return Batches(groups, tuple(jnp.asarray(weights[group], float) for group in indices_by_shape.values()))


def no_data() -> Batches:
    """Return the batches for a function that reads no data: one batch without arrays."""
    return Batches(groups=((),), weights=(jnp.ones(1),))


def num_examples(batch: PyTree) -> int:
    """Count the examples of a batch, whose leaves share their leading axis.

    Raises: ValueError if they do not.
    """
    leaves = jax.tree.leaves(batch)
    shapes = [np.shape(leaf) for leaf in leaves]
    if len({shape[:1] for shape in shapes} - {()}) != 1 or () in shapes:
        raise ValueError(f"batch of shapes {shapes}: expected arrays with one common leading axis, the examples.")
    return shapes[0][0]


def mean(function: Callable[[PyTree], PyTree], batches: Batches | Streamed) -> PyTree:
    """Compute the weighted mean of function(batch) over all batches, with one batch in memory at a time.

    If batches may be streamed, differentiate inside the function: reverse-mode differentiation of the mean would store
    the residuals of every batch.
    """
    if isinstance(batches, Streamed):
        return batches.reader.weighted_sum(function, batches.weights)
    total = None
    for group, weights in zip(batches.groups, batches.weights, strict=True):
        part = _weighted_sum(function, group, weights)
        total = part if total is None else trees.add(total, part)
    return total


def _weighted_sum(function: Callable[[PyTree], PyTree], group: PyTree, weights: Array) -> PyTree:
    def batch_at(index: int) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[index], group)

    # Within a loop, XLA would not use all threads for the single batch.
    if len(weights) == 1:
        return trees.scale(weights[0], function(batch_at(0)))

    def add_one(total: PyTree, weight_and_batch: tuple[Array, PyTree]) -> tuple[PyTree, None]:
        return trees.add(total, trees.scale(weight_and_batch[0], function(weight_and_batch[1]))), None

    like = jax.eval_shape(function, batch_at(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    return jax.lax.scan(add_one, zeros, (weights, group))[0]


def _each(batches: PyTree) -> Iterator[PyTree]:
    if is_list_of_arrays(batches):
        raise ValueError(
            f"batches: a list of {len(batches)} bare arrays would be read as {len(batches)} batches, but one may be "
            "meant. Pass a tuple (x, y) or a dict for one batch, and [(x1,), (x2,)] for several batches of one array."
        )
    if isinstance(batches, list) or is_loader(batches):
        yield from read(batches)
    else:
        yield batches


def check_can_be_read_again(batches: PyTree) -> None:
    """Raise an error for an iterator, which only the first product could read.

    Raises: ValueError for an iterator.
    """
    if isinstance(batches, Iterator):
        raise ValueError(
            f"batches: a {type(batches).__name__} can be read once, and each product with a vector reads all batches: "
            "expected a function that returns an iterator, such as `lambda: make_batches()`, a loader that can be read "
            "again, or list(batches) if they fit in memory."
        )


def is_list_of_arrays(batches: PyTree) -> bool:
    """Whether batches are a list of only arrays (or tensors): `[x, y]` usually means one batch."""
    return isinstance(batches, list) and bool(batches) and all(hasattr(item, "shape") for item in batches)


def is_loader(batches: PyTree) -> bool:
    """Whether batches are not a pytree of arrays but yield batches: an iterator, a data loader, or a function."""
    is_container = not jax.tree_util.all_leaves([batches])
    return (isinstance(batches, Iterable) or callable(batches)) and not is_container and not hasattr(batches, "shape")


class _Reader:
    """A reader that streams the batches of a loader repeatedly, in pieces of at most batch_size examples.

    shapes: the distinct shapes of the pieces, pytrees; kinds: the index into them of each piece, in order.
    first: the first two examples, as NumPy arrays.
    """

    def __init__(self, source: Any, batch_size: int | None):
        self._source, self._batch_size = source, batch_size
        self.shapes: list[PyTree] = []
        self.kinds: list[int] = []
        self.first: PyTree = None
        self._pieces: Iterator[PyTree] = iter(())

    def first_reading(self) -> Iterator[PyTree]:
        """Yield all pieces, and record their shapes."""
        for piece in self._read():
            if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(piece)):
                raise ValueError(
                    "batches: a batch holds JAX arrays, which cannot be read while a compiled program waits for it; "
                    "expected NumPy arrays that are made without JAX, or a list of batches that fit in memory."
                )
            if self.first is None:
                self.first = jax.tree.map(lambda leaf: np.array(leaf[:2]), piece)
            shapes = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)), piece
            )
            if shapes not in self.shapes:
                self.shapes.append(shapes)
            if len(self.shapes) > _MOST_SHAPES:
                raise ValueError(
                    f"batches: more than {_MOST_SHAPES} distinct shapes, each of which is compiled separately: "
                    "expected few. Pad the examples to a few lengths, and use one batch size."
                )
            self.kinds.append(self.shapes.index(shapes))
            yield piece

    def weighted_sum(self, function: Callable[[PyTree], PyTree], weights: Array) -> PyTree:
        """Compute the sum of weight * function(batch), reading each batch when it is needed."""

        def at_shapes(shapes: PyTree) -> Callable[[Array], PyTree]:
            return lambda index: function(host.call(self._piece, shapes, index, is_pure=False))

        def add_one(total: PyTree, item: tuple[Array, Array, Array]) -> tuple[PyTree, None]:
            index, kind, weight = item
            value = jax.lax.switch(kind, [at_shapes(shapes) for shapes in self.shapes], index)
            return trees.add(total, trees.scale(weight, value)), None

        like = jax.eval_shape(function, self.shapes[0])
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        each = (jnp.arange(len(self.kinds)), jnp.asarray(self.kinds), weights)
        return jax.lax.scan(add_one, zeros, each)[0]

    def _piece(self, device_index: Array) -> PyTree:
        """Return the piece with an index; index 0 restarts the reading."""
        index = int(np.asarray(device_index))
        if index == 0:
            self._pieces = self._read()
        like, piece = self.shapes[self.kinds[index]], next(self._pieces, None)
        shapes = None if piece is None else jax.tree.map(np.shape, piece)
        is_last = index == len(self.kinds) - 1
        has_more = is_last and next(self._pieces, None) is not None
        if shapes != jax.tree.map(lambda leaf: leaf.shape, like) or has_more:
            more = " and more batches" if has_more else ""
            raise ValueError(
                f"batch {index + 1} of {len(self.kinds)}: got shapes {shapes}{more}; expected the same batches in each "
                "reading."
            )
        return jax.tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), piece, like)

    def _read(self) -> Iterator[PyTree]:
        for batch in read(self._source):
            as_numpy = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), batch)
            yield from _cut(as_numpy, self._batch_size)


def read(source: Any) -> Iterator[PyTree]:
    """Start a pass over the batches of a loader, or of a function that returns an iterator."""
    return iter(source if isinstance(source, Iterable) else source())


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1, or None to leave the batches unchanged.")


def _shares(weights: list[float]) -> np.ndarray:
    """Compute the share of each batch in a mean."""
    if not weights:
        raise ValueError("batches: expected at least one example; the data set is empty.")
    shares = np.array(weights, np.float64)
    if not (np.all(shares >= 0) and 0 < shares.sum() < np.inf):
        raise ValueError(f"weigh: gave {weights}; expected weights >= 0 with a positive sum.")
    return shares / shares.sum()


def _cut(batch: PyTree, batch_size: int | None) -> Iterator[PyTree]:
    total = num_examples(batch)
    size = batch_size or max(total, 1)
    for first in range(0, total, size):
        yield batch if size >= total else jax.tree.map(lambda leaf, at=first: leaf[at : at + size], batch)


def _shape(batch: PyTree) -> tuple:
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
