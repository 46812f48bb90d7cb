"""Networks of the paper's small tasks: one hidden layer, or linear layers, with the initial weights of their sources.

Layers are named as in an MLP. Inputs are flattened.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from flatwide.models import linen
from flatwide.types import Array, Model, PyTree

_INPUT_WEIGHT = 2.5
_HIDDEN_BIAS = 2.5
_OUTPUT_WEIGHT = 4.0


def one_hidden_layer(example: PyTree, num_outputs: int, *, num_neurons: tuple[int, ...] = (100,)) -> Model:
    """Build a ReLU network of one hidden layer for inputs of one number: large initial weights, no output bias.

    Args:
      example: one array; the scales were chosen for one number in about [-1.5, 1.5].
      num_neurons: one size.
    Returns: Model with input weights of +2.5 or -2.5, hidden biases N(0, 2.5^2), output weights N(0, 4^2).
    Raises: ValueError if num_neurons is not one integer >= 1.
    Source: Andriushchenko and Flammarion (2022), which the paper follows in its figures 2 and 3.
    """
    size, num_inputs = _one_size("OneHiddenLayer", num_neurons), _num_inputs("OneHiddenLayer", example)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        signs, biases, weights = jax.random.split(key, 3)
        hidden = {
            "kernel": _INPUT_WEIGHT * jax.random.rademacher(signs, (num_inputs, size), float),
            "bias": _HIDDEN_BIAS * jax.random.normal(biases, (size,), float),
        }
        return {"hidden_0": hidden, "output": {"kernel": _OUTPUT_WEIGHT * _normal(weights, (size, num_outputs))}}, {}

    def layers(params: PyTree, stats: PyTree) -> tuple[PyTree, Array]:
        del stats
        return params["hidden_0"], params["output"]["kernel"]

    return _two_layers(init, layers)


def two_layer_frozen_head(example: PyTree, num_outputs: int, *, num_neurons: tuple[int, ...] = (100,)) -> Model:
    """Build a ReLU network of one hidden layer of which only the input weights are trained.

    Args:
      example: one array.
      num_neurons: one size, m.
    Returns: Model with input weights and hidden biases N(0, 1/m) and output weights N(0, 1), without an output bias.
      The hidden biases and the output weights stay as drawn: they are in `stats`, and are not counted as parameters.
    Raises: ValueError if num_neurons is not one integer >= 1.
    Source: Allen-Zhu et al. (2019), section 6, as in the paper's figure 22.
    """
    size, num_inputs = _one_size("TwoLayerFrozenHead", num_neurons), _num_inputs("TwoLayerFrozenHead", example)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        kernels, biases, weights = jax.random.split(key, 3)
        params = {"hidden_0": {"kernel": _normal(kernels, (num_inputs, size)) / size**0.5}}
        frozen = {
            "hidden_0": {"bias": _normal(biases, (size,)) / size**0.5},
            "output": {"kernel": _normal(weights, (size, num_outputs))},
        }
        return params, frozen

    def layers(params: PyTree, stats: PyTree) -> tuple[PyTree, Array]:
        return params["hidden_0"] | stats["hidden_0"], stats["output"]["kernel"]

    return _two_layers(init, layers)


def linear_network(example: PyTree, num_outputs: int, *, num_neurons: tuple[int, ...] = (10,)) -> Model:
    """Build a product of matrices: linear layers without biases.

    Args:
      example: one array.
      num_neurons: sizes between the matrices; one size k factors a matrix into two of rank k.
    Returns: Model with LeCun-normal kernels `hidden_0`, ..., `output`.
    Raises: ValueError if a size is no integer >= 1.
    """
    sizes = linen.check_sizes("num_neurons", num_neurons, at_least=0)
    names = [*(f"hidden_{i}" for i in range(len(sizes))), "output"]
    ends = [_num_inputs("LinearNetwork", example), *sizes, num_outputs]

    def init(key: Array) -> tuple[PyTree, PyTree]:
        draw = jax.nn.initializers.lecun_normal()
        keys = jax.random.split(key, len(names))
        shapes = itertools.pairwise(ends)
        kernels = [draw(kernel_key, shape, float) for kernel_key, shape in zip(keys, shapes, strict=True)]
        return {name: {"kernel": kernel} for name, kernel in zip(names, kernels, strict=True)}, {}

    def apply(params: PyTree, stats: PyTree, inputs: PyTree, *, train: bool, key: Array | None = None):
        del train, key
        outputs = _flat(inputs)
        for name in names:
            outputs = outputs @ params[name]["kernel"]
        return outputs, stats

    return Model(init, apply)


def _two_layers(
    init: Callable[[Array], tuple[PyTree, PyTree]], layers: Callable[[PyTree, PyTree], tuple[PyTree, Array]]
) -> Model:
    """Make a model of `init`, and of where its two layers are: (params, stats) -> (hidden layer, output weights)."""

    def preactivations(params: PyTree, stats: PyTree, inputs: PyTree) -> dict[str, Array]:
        hidden, _ = layers(params, stats)
        return {"hidden_0": _flat(inputs) @ hidden["kernel"] + hidden["bias"].reshape(1, -1)}

    def apply(params: PyTree, stats: PyTree, inputs: PyTree, *, train: bool, key: Array | None = None):
        del train, key
        return jax.nn.relu(preactivations(params, stats, inputs)["hidden_0"]) @ layers(params, stats)[1], stats

    return Model(init, apply, preactivations=preactivations)


def _normal(key: Array, shape: Sequence[int]) -> Array:
    return jax.random.normal(key, shape, float)


def _flat(inputs: PyTree) -> Array:
    (array,) = jax.tree.leaves(inputs)
    return jnp.reshape(array, (array.shape[0], -1))


def _num_inputs(model: str, example: PyTree) -> int:
    linen.check_one_array(model, example)
    (leaf,) = jax.tree.leaves(example)
    return leaf.size


def _one_size(model: str, num_neurons: tuple[int, ...]) -> int:
    sizes = linen.check_sizes("num_neurons", num_neurons, at_least=1)
    if len(sizes) != 1:
        raise ValueError(
            f"config.num_neurons={num_neurons!r} with config.model={model!r}: expected one size, such as (100,)."
        )
    return sizes[0]
