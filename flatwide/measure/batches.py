"""Average a function over a data set that is cut into batches, exactly, whatever the sizes of the batches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measure import host
from flatwide.types import Array, PyTree

_MOST_SHAPES = 8  # of batches that are read again, each of which is compiled apart


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
    """Batches that are read anew for each mean, one at a time.

    weights: [C], the share of each batch in a mean; all of them add up to 1.
    """

    weights: Array
    reader: "_Reader" = field(metadata={"static": True})


def prepare(
    batches: PyTree, *, batch_size: int | None = None, weigh: Callable[[PyTree], float] | None = None
) -> Batches | Streamed:
    """Put a data set into batches on the device, or make ready to read it batch by batch for each mean.

    Args:
      batches: as for `collect`, or what yields batches and can be read again: a data loader, or a function without
        arguments that makes an iterator. It must yield the same batches in the same order each time, as NumPy arrays
        or what NumPy reads, such as tensors.
      batch_size, weigh: as for `collect`; `weigh` is called in the first reading.
    Raises: ValueError as `collect`, or for an iterator, which can be read once only.
    Cost: one reading to count what is read again.
    """
    if isinstance(batches, Iterator):
        raise ValueError(
            f"batches: a {type(batches).__name__} can be read once, and each product with a vector reads all batches: "
            "expected a function that makes the iterator, such as `lambda: make_batches()`, a loader that can be read "
            "again, or list(batches) where they fit in memory."
        )
    if not is_loader(batches):
        return collect(batches, batch_size=batch_size, weigh=weigh)
    _check_batch_size(batch_size)
    reader = _Reader(batches, batch_size)
    weights = _shares([float(weigh(piece)) if weigh else num_examples(piece) for piece in reader.first_reading()])
    return Streamed(jnp.asarray(weights, float), reader)


def first_examples(batches: Batches | Streamed, number: int) -> PyTree:
    """Return some examples of the first batch, all of them where it has fewer."""
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
      batch_size: examples that are held in memory at once; where it does not divide a batch, a smaller one is left.
        None: the batches as they are.
      weigh: batch -> its weight in a mean, such as its number of real tokens; None: its number of examples.
    Raises: ValueError if there is no example, the leading axes differ, a list holds bare arrays, or an option is out of
      range.
    """
    _check_batch_size(batch_size)
    pieces = [piece for batch in _each(batches) for piece in _cut(jax.tree.map(jnp.asarray, batch), batch_size)]
    weights = _shares([float(weigh(piece)) if weigh else num_examples(piece) for piece in pieces])
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


def mean(function: Callable[[PyTree], PyTree], batches: Batches | Streamed) -> PyTree:
    """Average function(batch) over all batches by their weights; one batch is in memory at a time.

    Differentiate inside of the function where batches may be streamed: a mean that is differentiated in reverse would
    keep what it needs of every batch.
    """
    if isinstance(batches, Streamed):
        return batches.reader.weighted_sum(function, batches.weights)
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
            "Write a tuple (x, y) or a dict for one batch, and [(x1,), (x2,)] for several batches of one array."
        )
    if isinstance(batches, list) or is_loader(batches):
        yield from _read(batches)
    else:
        yield batches


def is_list_of_arrays(batches: PyTree) -> bool:
    """Whether batches are a list of arrays (or tensors) and of nothing else: `[x, y]` is mostly meant as one batch."""
    return isinstance(batches, list) and bool(batches) and all(hasattr(one, "shape") for one in batches)


def is_loader(batches: PyTree) -> bool:
    """Whether batches are no pytree of arrays but yield batches: an iterator, a data loader, a function making one."""
    is_container = not jax.tree_util.all_leaves([batches])
    return (isinstance(batches, Iterable) or callable(batches)) and not is_container and not hasattr(batches, "shape")


class _Reader:
    """Reads batches from a loader again and again, in pieces.

    shapes: the different shapes of batches, pytrees; kinds: which of them each batch has, in order.
    first: the first two examples, as NumPy arrays.
    """

    def __init__(self, source: Any, batch_size: int | None):
        self._source, self._batch_size = source, batch_size
        self.shapes: list[PyTree] = []
        self.kinds: list[int] = []
        self.first: PyTree = None
        self._pieces: Iterator[PyTree] = iter(())

    def first_reading(self) -> Iterator[PyTree]:
        """Yield all pieces, and note what there is to read."""
        for piece in self._read():
            if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(piece)):
                raise ValueError(
                    "batches: a batch has arrays of JAX, which cannot work while a program waits for the next batch; "
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
                    f"batches: more than {_MOST_SHAPES} different shapes, each of which is compiled apart; expected "
                    "batches of like shapes. Pad the examples to a few lengths, and give batches of one size."
                )
            self.kinds.append(self.shapes.index(shapes))
            yield piece

    def weighted_sum(self, function: Callable[[PyTree], PyTree], weights: Array) -> PyTree:
        """Add up weight * function(batch), reading each batch where it is needed."""

        def at_shapes(shapes: PyTree) -> Callable[[Array], PyTree]:
            return lambda index: function(host.call(self._piece, shapes, index, is_pure=False))

        def add_one(total: PyTree, one: tuple[Array, Array, Array]) -> tuple[PyTree, None]:
            index, kind, weight = one
            value = jax.lax.switch(kind, [at_shapes(shapes) for shapes in self.shapes], index)
            return trees.add(total, trees.scale(weight, value)), None

        like = jax.eval_shape(function, self.shapes[0])
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        each = (jnp.arange(len(self.kinds)), jnp.asarray(self.kinds), weights)
        return jax.lax.scan(add_one, zeros, each)[0]

    def _piece(self, place: Array) -> PyTree:
        """Return the piece of an index; 0 begins to read anew."""
        index = int(np.asarray(place))
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
        for batch in _read(self._source):
            as_numpy = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), batch)
            yield from _cut(as_numpy, self._batch_size)


def _read(source: Any) -> Iterator[PyTree]:
    return iter(source if isinstance(source, Iterable) else source())


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1, or None for the batches as they are.")


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
