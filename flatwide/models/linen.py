"""Models from flax.linen modules, and checks of their config fields and inputs."""

import inspect
from collections.abc import Mapping
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import errors
from flax import linen as nn

from flatwide import registry
from flatwide.types import Array, Categories, Model, PyTree

MOST_UNROLLED_BLOCKS = 12  # of a transformer: up to here its program compiles no longer than one with a loop

_LECUN_NORMAL = nn.initializers.lecun_normal()  # Flax's own default
_STATISTICS = "batch_stats"
_PREACTIVATIONS = "intermediates"  # the collection that Flax returns only on request
_INPUT = "_input"  # Flax keeps layers and variables of one name apart by refusing them


class Dtypes(NamedTuple):
    """The dtypes of parameters and of products."""

    full: np.dtype  # parameters, batch statistics, outputs
    compute: np.dtype  # matrix products and convolutions


def dtypes(*, half_precision: bool) -> Dtypes:
    """Return the dtypes of a model: float32 (float64 in 64-bit mode), and bfloat16 for products if `half_precision`."""
    full = np.dtype(jax.dtypes.canonicalize_dtype(float))
    return Dtypes(full, np.dtype(jnp.bfloat16) if half_precision else full)


def from_linen(module: nn.Module, example: PyTree) -> Model:
    """Turn a flax.linen module into `init` and `apply`.

    Args:
      module: called as `module(inputs, train=...)`; dropout draws from the stream "dropout", running averages live in
        the collection "batch_stats".
      example: shapes and dtypes of one example's inputs, without the batch axis.
    Returns: Model whose `stats` is the collection "batch_stats", or {} where the module has none, and whose
      `preactivations` are those of `relu`. `init` runs the module once on zeros: put it under `jax.jit`, or under
      `jax.eval_shape` where only shapes are wanted.
    Raises: ValueError if it is no such module; from `init` if the module keeps state in any other collection, because
      it would be lost.
    """
    _check_call(module)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        zeros = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape), leaf.dtype), example)
        variables = dict(module.init(key, zeros, train=False))
        params, stats = variables.pop("params", {}), variables.pop(_STATISTICS, {})
        if variables:
            raise ValueError(
                f"{type(module).__name__} keeps variables in {sorted(variables)}: expected only 'params' and "
                f"{_STATISTICS!r}; put what training updates without a gradient into {_STATISTICS!r}."
            )
        return params, stats

    def apply(params: PyTree, stats: PyTree, inputs: PyTree, *, train: bool, key: Array | None = None):
        variables = {"params": params, _STATISTICS: stats}
        rngs = None if key is None else {"dropout": key}
        if not train:
            return module.apply(variables, inputs, train=False, rngs=rngs), stats
        try:
            outputs, updated = module.apply(variables, inputs, train=True, rngs=rngs, mutable=[_STATISTICS])
        except errors.InvalidRngError as error:
            raise ValueError(
                "key=None: expected a PRNG key, which dropout needs in training; or config.dropout=0."
            ) from error
        # In 64-bit mode Flax averages in the wider of two dtypes; a loop over steps needs what it was given.
        updated = updated.get(_STATISTICS, {})
        return outputs, jax.tree.map(lambda new, old: new.astype(old.dtype), updated, stats)

    def preactivations(params: PyTree, stats: PyTree, inputs: PyTree) -> dict[str, Array]:
        variables = {"params": params, _STATISTICS: stats}
        _, seen = module.apply(variables, inputs, train=False, mutable=[_PREACTIVATIONS])
        sown = cast(Mapping[str, Array], seen.get(_PREACTIVATIONS, {}))
        return {name.removesuffix(_INPUT): array for name, array in sown.items()}

    return Model(init, apply, preactivations=preactivations)


def _check_call(module: nn.Module) -> None:
    expected = "expected a flax.linen module with `__call__(self, inputs, *, train)`"
    if not isinstance(module, nn.Module):
        raise ValueError(f"from_linen({registry.shown(module)}): {expected}.")
    signature = inspect.signature(module.__call__)
    try:
        signature.bind(None, train=False)
    except TypeError as error:
        name = type(module).__name__
        raise ValueError(f"from_linen: {name}.__call__{signature}: {expected} ({error}).") from None


def dense(size: int, dtypes: Dtypes, *, name: str, use_bias: bool = True, kernel_init=_LECUN_NORMAL) -> nn.Dense:
    """Make a linear layer that multiplies in one dtype and keeps its parameters in another."""
    return nn.Dense(size, use_bias, dtypes.compute, dtypes.full, kernel_init=kernel_init, name=name)


def relu(module: nn.Module, inputs: Array, *, layer: str) -> Array:
    """Apply a ReLU, and report its input in `Model.preactivations` under the name of its layer."""
    module.sow(_PREACTIVATIONS, layer + _INPUT, inputs, reduce_fn=lambda _, seen: seen, init_fn=lambda: inputs)
    return jax.nn.relu(inputs)


def check_size(field: str, size) -> int:
    """Check one layer size from a config.

    Raises: ValueError if it is no integer >= 1.
    """
    if not _is_positive_integer(size):
        raise ValueError(f"config.{field}={size!r}: expected an integer >= 1.")
    return int(size)


def heads_of(size: int, *, head_size: int) -> int:
    """Return one head for each `head_size` entries of a vector, rounded down, and at least one.

    Raises: ValueError if they do not divide the vector.
    """
    num_heads = max(1, size // head_size)
    if size % num_heads:
        raise ValueError(
            f"config.hidden_size={size}: expected a multiple of its {num_heads} heads, one for each {head_size}; "
            f"a multiple of {head_size} is one, such as {num_heads * head_size}."
        )
    return num_heads


def check_sizes(field: str, sizes, *, at_least: int) -> tuple[int, ...]:
    """Check a tuple of layer sizes from a config, and return it as plain integers.

    Raises: ValueError if it is no tuple (or list) of at least so many integers, each >= 1.
    """
    is_tuple = isinstance(sizes, tuple | list)
    if not is_tuple or len(sizes) < at_least or not all(_is_positive_integer(size) for size in sizes):
        few = "one or more integers" if at_least == 1 else "integers"
        raise ValueError(f"config.{field}={sizes!r}: expected a tuple of {few} >= 1, such as (2, 2).")
    return tuple(int(size) for size in sizes)


def check_one_array(model: str, example: PyTree, *, num_axes: int | None = None) -> None:
    """Check that a model can read its inputs.

    Args:
      num_axes: expected number of axes of an example; any if None.
    Raises: ValueError if the example is not one array of numbers, or has another number of axes.
    """
    leaves = jax.tree.leaves(example)
    shapes = [leaf.shape for leaf in leaves]
    if any(isinstance(leaf, Categories) for leaf in leaves):
        raise ValueError(
            f"config.model={model!r} reads numbers; this data set gives categories, such as words: "
            "choose a model that embeds them, such as LSTM."
        )
    if len(shapes) != 1:
        raise ValueError(
            f"config.model={model!r} reads one array an example; this data set gives {len(shapes)}: "
            "choose a model for such inputs."
        )
    if num_axes is not None and len(shapes[0]) != num_axes:
        raise ValueError(
            f"config.model={model!r} reads images [height, width, channels]; this data set gives examples of shape "
            f"{shapes[0]}: choose another model, such as MLP."
        )


def check_words(model: str, example: PyTree) -> int:
    """Check that a model gets texts.

    Returns: the number of words that there are, padding and unknown among them.
    Raises: ValueError if the example is not one row of categories.
    """
    if not isinstance(example, Categories) or len(example.shape) != 1:
        shapes = [leaf.shape for leaf in jax.tree.leaves(example)]
        raise ValueError(
            f"config.model={model!r} reads texts, a row of words an example; this data set gives arrays of shapes "
            f"{', '.join(map(str, shapes))}: choose a data set of texts, or another model, such as MLP."
        )
    return example.num_values


def check_graphs(model: str, example: PyTree, num_axes: Mapping[str, int]) -> None:
    """Check that the inputs of a model are graphs.

    Args:
      num_axes: expected arrays of an example, and how many axes each has.
    Raises: ValueError if the example has other arrays.
    """
    actual = {name: len(leaf.shape) for name, leaf in example.items()} if isinstance(example, Mapping) else None
    if actual != dict(num_axes):
        shapes = ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(example))
        raise ValueError(
            f"config.model={model!r} reads graphs, with {', '.join(num_axes)} of each; this data set gives arrays of "
            f"shapes {shapes}: choose a data set of graphs, such as made_molecules, or another model, such as MLP."
        )


def _is_positive_integer(value) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1
