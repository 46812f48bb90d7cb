"""Preparation of the arguments of a measurement: parameters, functions of them, data and random keys."""

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measure import batching
from flatwide.types import Array, PyTree

FEWEST_BYTES = 4  # of a parameter; narrower types, whose rounding error is 1e-3, are converted to 32 bits
_SUM_TOLERANCE = 0.1  # of the loss: a sum may double only approximately, because of a term such as weight decay


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """A loss, where it is measured, and on which data: one argument of a compiled program.

    loss_fn: (params, batch, *extra) -> mean loss of the batch; or (params, example, *extra) -> loss of one example.
    params: arrays, masked, with None for each non-numeric leaf. mask: like params, or None.
    data: batches on the device or streamed; or, of single examples, a pytree with their leading axis.
    extra: (), or one pytree in a tuple.

    `problem` and `example_problem` make one.
    """

    loss_fn: Callable = field(metadata={"static": True})
    params: PyTree
    mask: PyTree | None
    data: Any
    extra: tuple

    def loss(self, params: PyTree, batch: PyTree) -> Array:
        """Compute the loss of a batch, or of an example."""
        return self.loss_fn(params, batch, *self.extra)

    @property
    def examples(self) -> PyTree:
        """Return the single examples.

        Raises: ValueError for a problem of batches.
        """
        if isinstance(self.data, batching.Batches | batching.Streamed):
            raise ValueError("a problem of batches: expected measure.example_problem(per_example_loss, params, data).")
        return self.data

    def mean(self, function: Callable[[PyTree], PyTree]) -> PyTree:
        """Compute the mean of a function of a batch over the batches.

        Raises: ValueError for a problem of single examples.
        """
        if not isinstance(self.data, batching.Batches | batching.Streamed):
            raise ValueError("a problem of single examples: expected measure.problem(loss_fn, params, batches).")
        return batching.mean(function, self.data)

    def gradient(self, params: PyTree) -> PyTree:
        """Compute the gradient of the mean loss over the batches, by the kept weights."""
        return trees.apply_mask(self.mean(lambda batch: jax.grad(self.loss)(params, batch)), self.mask)

    def curve(self, example: PyTree) -> Callable[[PyTree], PyTree]:
        """Linearize the gradient of one example, or batch: a function that multiplies vectors by its Hessian."""
        product = jax.linearize(lambda at: jax.grad(self.loss)(at, example), self.params)[1]
        return lambda vector: trees.apply_mask(product(vector), self.mask)


def problem(
    loss_fn: Callable,
    params: PyTree,
    batches: PyTree | None = None,
    *,
    mask: PyTree | None = None,
    extra: PyTree | None = None,
    batch_size: int | None = None,
    weigh: Callable[[PyTree], float] | None = None,
) -> Problem:
    """Return the mean loss over a data set at given parameters, which curvature and sharpness are measured of.

    Args:
      loss_fn: (params, batch) -> mean loss of the batch, a scalar; (params, batch, extra) where `extra` is given. The
        caller puts a network with batch norm in evaluation mode; a loss without second derivatives at a kink (ReLU) has
        the Hessian of the smooth piece that params lie on. Pass the same function object in each call, so that calls
        share their compiled programs.
      params: pytree of P real numbers in all, all finite; other leaves, such as activation functions, are passed to the
        loss unchanged, and vectors have None in their place. 16-bit numbers are converted to 32 bits.
      batches: a pytree of arrays with a leading axis of N examples, or a list of such batches of any sizes. A loader
        that can be read again, or a function that returns an iterator, is read for each mean, one batch in memory at a
        time; it must yield the same NumPy arrays each time. None for a loss of (params, *extra), which reads no data.
      mask: booleans that broadcast to the leaves of params; pruned weights (False) are and stay zero, and matrices have
        the rows and columns of kept weights only.
      extra: pytree of arrays for the loss that are not examples, such as batch-norm averages.
      batch_size: examples in memory at once; None for each batch whole.
      weigh: batch -> weight of its mean, such as its number of tokens; None for its number of examples.
    Raises: ValueError for no data, params or a mask that do not fit, or a parameter that is not finite.
    Warns: UserWarning if the loss looks like a sum over its examples instead of a mean.
    Equation: L(params) = sum_b w_b L_b(params) / sum_b w_b, with w_b the weight of batch b.
    """
    params, mask, loss_fn = numbers(params, mask, loss_fn)
    loss_fn, data = with_data(loss_fn, batches, batch_size, weigh)
    read = Problem(loss_fn=loss_fn, params=params, mask=mask, data=data, extra=_optional(extra))
    if batches is not None and weigh is None:
        _warn_of_sum(read)
    return read


def example_problem(
    per_example_loss: Callable,
    params: PyTree,
    data: PyTree,
    *,
    mask: PyTree | None = None,
    extra: PyTree | None = None,
) -> Problem:
    """Return the losses of single examples at given parameters, for measurements of how much the examples differ.

    Args:
      per_example_loss: (params, example) -> the loss of one example, a scalar; (params, example, extra) where `extra`
        is given. An example is one row of every leaf of `data`. Batch norm must be in evaluation mode.
      data: pytree of arrays with a leading axis of n examples; a loader is read into memory.
      params, mask, extra: as for `problem`.
    Raises: ValueError for params or a mask that do not fit, or no examples.
    """
    params, mask, per_example_loss = numbers(params, mask, per_example_loss)
    if batching.is_loader(data):
        data = jax.tree.map(lambda *parts: np.concatenate(parts), *batching.read(data))
    data = jax.tree.map(jnp.asarray, data)
    if not batching.num_examples(data):
        raise ValueError("data: expected at least one example; the data set is empty.")
    return Problem(loss_fn=per_example_loss, params=params, mask=mask, data=data, extra=_optional(extra))


def with_data(
    function: Callable, batches: PyTree | None, batch_size: int | None, weigh: Callable[[PyTree], float] | None
) -> tuple[Callable, batching.Batches | batching.Streamed]:
    """Return a function of (params, batch, *extra), and its batches: an empty one if it reads no data."""
    if batches is None:
        return _WithoutData(function), batching.no_data()
    return function, batching.prepare(batches, batch_size=batch_size, weigh=weigh)


def numbers(params: PyTree, mask: PyTree | None, function: Callable) -> tuple[PyTree, PyTree | None, Callable]:
    """Separate the numeric leaves of params from the others, check them, and mask them.

    Returns: arrays of at least 32 bits, with None for each non-numeric leaf; the mask without these leaves; and
      the function of such arrays (and of its further arguments).
    Raises: ValueError as `check_params`, and for a non-numeric leaf that is not hashable.
    """
    leaves, structure = jax.tree.flatten(params)
    others = tuple(None if _is_number(leaf) else leaf for leaf in leaves)
    arrays = structure.unflatten([_at_least_32_bits(leaf) if _is_number(leaf) else None for leaf in leaves])
    for leaf in others:
        if not isinstance(leaf, Hashable):
            raise ValueError(
                f"params: a leaf of type {type(leaf).__name__} is not an array of real numbers and cannot be a static "
                "part of the function; remove it from params, and pass it to the loss as `extra`."
            )
    if any(leaf is not None for leaf in others):
        function = _Completed(function, structure, others)
        if mask is not None and jax.tree.structure(mask) == structure:
            pairs = zip(jax.tree.leaves(mask), others, strict=True)
            mask = structure.unflatten([keep if other is None else None for keep, other in pairs])
    check_params(arrays, mask)
    return trees.apply_mask(arrays, mask), mask, function


def _optional(extra: PyTree | None) -> tuple:
    return () if extra is None else (extra,)


def random_key(key: Array | int) -> Array:
    """Return a PRNG key: that of an integer seed, or a key unchanged.

    Raises: ValueError for anything else.
    """
    if isinstance(key, Integral) and not isinstance(key, bool):
        return jax.random.key(int(key))
    if not isinstance(key, jax.Array | np.ndarray):
        raise ValueError(f"key={key!r}: expected a PRNG key such as jax.random.key(0), or an integer.")
    return jnp.asarray(key)


def check_params(params: PyTree, mask: PyTree | None) -> None:
    """Raise an error for params at which no curvature can be measured.

    Raises: ValueError if there are none, one is not a finite real number, dtypes differ, or the mask does not fit.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        if not _is_number(leaf):
            raise ValueError(
                f"params at {trees.path_name(path)!r} of type {type(leaf).__name__}: expected an array; remove "
                "non-numeric leaves, or set them to None."
            )
    if not trees.size(params):
        raise ValueError("params: expected at least one parameter.")
    dtypes = sorted({str(jnp.result_type(leaf)) for _, leaf in leaves})
    if len(dtypes) > 1 or not jnp.issubdtype(dtypes[0], jnp.floating):
        raise ValueError(
            f"params of type {', '.join(dtypes)}: expected real floating-point numbers of one type; cast them, or pass "
            "arrays that are not parameters to the loss as `extra`."
        )
    for path, leaf in leaves:
        if not bool(jnp.all(jnp.isfinite(leaf))):
            raise ValueError(
                f"params at {trees.path_name(path)!r}: expected finite numbers; the network has diverged or is damaged."
            )
    if mask is None:
        return
    if jax.tree.structure(mask) != jax.tree.structure(params):
        raise ValueError("mask: expected the structure of params, with booleans that broadcast to each leaf.")
    for (path, leaf), keep in zip(leaves, jax.tree.leaves(mask), strict=True):
        sizes = zip(np.shape(keep)[::-1], np.shape(leaf)[::-1], strict=False)
        if np.ndim(keep) > np.ndim(leaf) or any(mask_size not in (1, size) for mask_size, size in sizes):
            raise ValueError(
                f"mask at {trees.path_name(path)!r} of shape {np.shape(keep)}: expected one that broadcasts to the "
                f"shape {np.shape(leaf)} of the parameter."
            )
    if not num_kept(params, mask):
        raise ValueError("mask: expected at least one kept weight; it keeps none.")


def check_at_least(least: float, why: str = "", **options: float) -> None:
    """Raise an error for an option below a bound.

    Raises: ValueError, whose message `why` ends.
    """
    for name, value in options.items():
        if not value >= least:
            raise ValueError(f"{name}={value}: expected at least {least}{why}.")


def check_like(tree: PyTree, params: PyTree, what: str) -> None:
    """Raise an error for a tree unlike params, which would be broadcast or flattened silently.

    Raises: ValueError if its structure or shapes differ.
    """
    both = (tree, params)
    actual, expected = ([np.shape(leaf) for leaf in jax.tree.leaves(each)] for each in both)
    if jax.tree.structure(tree) != jax.tree.structure(params) or actual != expected:
        found, wanted = (jax.tree.map(lambda leaf: tuple(np.shape(leaf)), each) for each in both)
        raise ValueError(f"{what} has shapes {found}: expected those of params, {wanted}.")


def num_kept(params: PyTree, mask: PyTree | None) -> int:
    """Count the entries of params that a mask keeps."""
    if mask is None:
        return trees.size(params)
    counts = jax.tree.map(lambda leaf, keep: int(np.broadcast_to(np.asarray(keep), leaf.shape).sum()), params, mask)
    return sum(jax.tree.leaves(counts))


def selected(params: PyTree, mask: PyTree | None, patterns: str | Sequence[str]) -> PyTree:
    """Return a mask of the kept entries of the leaves whose names match a shell pattern, or one of several.

    Raises: ValueError for a pattern that matches no leaf, or if the mask keeps no entry of the matches.
    """
    names = [trees.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    chosen = trees.matching(names, patterns)
    if not keeps(params, mask, chosen):
        raise ValueError(f"pattern {patterns!r}: expected at least one kept weight; the mask keeps none of {chosen}.")
    return _only(params, mask, chosen)


def keeps(params: PyTree, mask: PyTree | None, names: Sequence[str]) -> bool:
    """Whether a mask keeps at least one entry of the leaves with these names."""
    return num_kept(params, _only(params, mask, names)) > 0


def _only(params: PyTree, mask: PyTree | None, names: Sequence[str]) -> PyTree:
    kept = jax.tree.map(lambda _: np.True_, params) if mask is None else mask
    return jax.tree_util.tree_map_with_path(
        lambda path, keep: np.logical_and(keep, trees.path_name(path) in names), kept
    )


def _is_number(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, int | float | complex)
    return not jnp.issubdtype(dtype, jax.dtypes.prng_key) and np.dtype(dtype).kind != "O"


def _at_least_32_bits(leaf: Any) -> Array:
    array = jnp.asarray(leaf)
    is_narrow = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < FEWEST_BYTES
    return array.astype(jnp.float32) if is_narrow else array


@dataclass(frozen=True)
class _Completed:
    """A function of only the numeric leaves of params; equal ones share compiled programs."""

    function: Callable
    structure: Any
    others: tuple

    def __call__(self, params: PyTree, *rest: Any) -> Any:
        arrays = self.structure.flatten_up_to(params)
        leaves = [array if array is not None else other for array, other in zip(arrays, self.others, strict=True)]
        return self.function(jax.tree.unflatten(self.structure, leaves), *rest)


@dataclass(frozen=True)
class _WithoutData:
    """A function of (params, *extra) as one of (params, batch, *extra); equal ones share compiled programs."""

    function: Callable

    def __call__(self, params: PyTree, batch: PyTree, *extra: PyTree) -> Any:
        del batch
        return self.function(params, *extra)


def warn_of_sum(once: float, twice: float) -> None:
    """Warn about a loss that doubles when every example is duplicated."""
    if once and math.isfinite(once) and abs(twice - 2 * once) <= _SUM_TOLERANCE * abs(once):
        warnings.warn(
            f"loss_fn looks like a sum over examples: it is {once:.6g} for some examples and {twice:.6g} if each is "
            "duplicated. A sum is too large by a factor of the batch size; return the mean over the batch.",
            stacklevel=4,
        )


def _warn_of_sum(problem: Problem) -> None:
    """Evaluate a loss on two examples and on the same two duplicated, and warn if the loss doubles."""
    few = batching.first_examples(problem.data, 2)
    try:
        once, twice = (float(loss) for loss in _once_and_twice(problem, few))
    except (TypeError, ValueError):  # a loss for a fixed batch size, or one that does not fit the data at all
        return
    warn_of_sum(once, twice)


@jax.jit
def _once_and_twice(problem: Problem, few: PyTree) -> tuple[Array, Array]:
    both = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), few)
    return problem.loss(problem.params, few), problem.loss(problem.params, both)
