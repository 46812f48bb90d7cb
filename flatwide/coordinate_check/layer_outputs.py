"""The contribution of each leaf of the parameters to a network: the values of the operations that combine it with data.

The network's jaxpr is interpreted, so any network works: an operation on weights alone (a cast, a transpose, a stack of
layers for a loop) propagates their names, and the first operation that also has data among its operands is attributed
to the leaf: the product with a kernel, the sum with a bias, the embedding lookup.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from flatwide import trees
from flatwide.measure import jaxprs
from flatwide.types import Array, PyTree

_PRODUCTS = ("dot_general", "conv_general_dilated", "convolve", "gather")


class LeafOperation(NamedTuple):
    """One operation that combines a leaf with data.

    value: its result. moved: its result with the moved value of this leaf and unchanged data.
    is_product: whether it multiplies by a kernel or looks up an embedding; else the leaf is a bias or a scale.
    """

    value: Array
    moved: Array
    is_product: bool


class _Weights(NamedTuple):
    """A value that depends only on weights, at the original and at the moved parameters.

    names: of the leaves that it depends on; with `is_stack`, of one leaf for each index of the first axis.
    """

    value: Any
    moved: Any
    names: tuple[str, ...]
    is_stack: bool = False

    def at(self, index: int) -> "_Weights":
        """Return the slice at an index of the first axis."""
        names = (self.names[index],) if self.is_stack else self.names
        return _Weights(self.value[index], self.moved[index], names)


class _Data(NamedTuple):
    """A value that depends on the inputs."""

    value: Any


def layer_outputs(
    function: Callable, params: PyTree, moved: PyTree, inputs: PyTree
) -> tuple[dict[str, list[LeafOperation]], PyTree]:
    """Evaluate a network, and collect the operations that combine each leaf with data.

    Args:
      function: (params, inputs) -> outputs; loops over layers are unrolled.
      params: pytree of arrays. moved: like params; each leaf's moved value is applied to that leaf's operations only.
      inputs: pytree of arrays; other arrays that the function reads, such as keys, count as constants.
    Returns: name of a leaf -> its LeafOperations in order of evaluation; leaves that are combined with each other first
      are listed under their names joined by " + ". And the outputs. Can be traced.
    Cost: one evaluation, and each product a second time.
    """
    program, shape = jax.make_jaxpr(function, return_shape=True)(params, inputs)
    names = [trees.path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(moved), names, strict=True)
    arguments = [_Weights(value, other, (name,)) for value, other, name in pairs]
    arguments += [_Data(leaf) for leaf in jax.tree.leaves(inputs)]
    operations: dict[str, list[LeafOperation]] = {}
    outputs = jaxprs.run(program, arguments, functools.partial(_apply, operations))
    return operations, jax.tree.unflatten(jax.tree.structure(shape), [_value(output) for output in outputs])


def _apply(operations: dict[str, list[LeafOperation]], equation: Any, arguments: list) -> list:
    """Evaluate one equation, and collect it if it combines weights with data."""
    weights = [index for index, argument in enumerate(arguments) if isinstance(argument, _Weights)]
    has_data = any(isinstance(argument, _Data) for argument in arguments)
    if weights and equation.primitive.name == "scan":
        return _unrolled(operations, equation, arguments)
    program = jaxprs.called(equation)
    if weights and program is not None:
        return jaxprs.run(program, arguments, functools.partial(_apply, operations))
    values = [_value(argument) for argument in arguments]
    results = jaxprs.bind(equation, values)
    if weights and has_data:
        for index in weights:
            weight = arguments[index]
            moved = jaxprs.bind(equation, [*values[:index], weight.moved, *values[index + 1 :]])
            key, is_product = " + ".join(dict.fromkeys(weight.names)), equation.primitive.name in _PRODUCTS
            pairs = zip(results, moved, strict=True)
            operations.setdefault(key, []).extend(LeafOperation(value, other, is_product) for value, other in pairs)
    if has_data:
        return [_Data(result) for result in results]
    if not weights:
        return results
    moved = jaxprs.bind(equation, [a.moved if isinstance(a, _Weights) else a for a in arguments])
    names, is_stack = _names(equation, [argument for argument in arguments if isinstance(argument, _Weights)])
    return [_Weights(value, other, names, is_stack) for value, other in zip(results, moved, strict=True)]


def _unrolled(operations: dict[str, list[LeafOperation]], equation: Any, arguments: list) -> list:
    """Evaluate a loop of fixed length iteration by iteration, each with its slice of the stacked weights."""
    options, program = equation.params, equation.params["jaxpr"]
    num_consts, num_carried = options["num_consts"], options["num_carry"]
    consts, carried = arguments[:num_consts], arguments[num_consts : num_consts + num_carried]
    sliced, turns = arguments[num_consts + num_carried :], range(options["length"])
    rows: list[list] = []
    for turn in reversed(turns) if options["reverse"] else turns:
        here = [_take(argument, turn) for argument in sliced]
        results = jaxprs.run(program, [*consts, *carried, *here], functools.partial(_apply, operations))
        carried = results[:num_carried]
        rows.append(results[num_carried:])
    rows = rows[::-1] if options["reverse"] else rows
    return [*carried, *(_stack(list(column)) for column in zip(*rows, strict=True))]


def _take(argument: Any, index: int) -> Any:
    if isinstance(argument, _Weights):
        return argument.at(index)
    return _Data(argument.value[index]) if isinstance(argument, _Data) else argument[index]


def _stack(column: list) -> Any:
    stacked = jax.numpy.stack([_value(item) for item in column])
    return _Data(stacked) if any(isinstance(item, _Data | _Weights) for item in column) else stacked


def _names(equation: Any, weights: list[_Weights]) -> tuple[tuple[str, ...], bool]:
    """Return the leaf names of the result of an operation on weights, and whether there is one per index of axis 0."""
    names = tuple(name for weight in weights for name in weight.names)
    operation, options = equation.primitive.name, equation.params
    joins = operation == "concatenate" and options["dimension"] == 0
    is_by_index = joins and all(len(weight.value) == len(weight.names) for weight in weights)
    is_by_index |= operation == "stack" and options["axis"] == 0 and len(names) == len(weights)
    keeps = operation == "convert_element_type" and weights[0].is_stack
    return (names, True) if is_by_index or keeps else (tuple(dict.fromkeys(names)), False)


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, _Weights | _Data) else argument
