"""What each leaf of the parameters adds to a network: the values of the operations in which weights meet data.

A network's program is read, whoever wrote it: an operation on weights alone (a cast, a transpose, layers stacked for a
loop) passes their names on, and the first one that has data among its operands too is the leaf's own: the product of a
kernel, the sum with a bias, the rows of an embedding that are looked up.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from flatwide import trees
from flatwide.types import Array, PyTree

_PRODUCTS = ("dot_general", "conv_general_dilated", "convolve", "gather")
_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where an equation that calls a program has it


class Met(NamedTuple):
    """One operation in which a leaf meets data.

    value: its result. moved: its result where this leaf alone is another, and all data are as they were.
    is_product: whether it multiplies a kernel, or looks up an embedding; else the leaf is a bias or a scale.
    """

    value: Array
    moved: Array
    is_product: bool


class _Weights(NamedTuple):
    """A value that depends on weights alone, there and moved.

    names: of the leaf that it is of; or, with `is_stack`, of one leaf for each index of the first axis.
    """

    value: Any
    moved: Any
    names: tuple[str, ...]
    is_stack: bool = False

    def at(self, index: int) -> "_Weights":
        """Take one index of the first axis."""
        names = (self.names[index],) if self.is_stack else self.names
        return _Weights(self.value[index], self.moved[index], names)


class _Data(NamedTuple):
    """A value that depends on the inputs."""

    value: Any


def layer_outputs(
    function: Callable, params: PyTree, moved: PyTree, inputs: PyTree
) -> tuple[dict[str, list[Met]], PyTree]:
    """Evaluate a network, and collect what each leaf adds.

    Args:
      function: (params, inputs) -> outputs; loops over layers are unrolled.
      params: pytree of arrays. moved: the same, where each leaf is moved by itself.
      inputs: pytree of arrays; what else the function reads, such as keys, counts as constant.
    Returns: name of a leaf -> the operations in which it meets data, in their order; leaves that meet them together
      are under their names joined by " + ". And the outputs. Can be traced.
    Cost: one evaluation, and the products once more.
    """
    program, shape = jax.make_jaxpr(function, return_shape=True)(params, inputs)
    names = [trees.path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(moved), names, strict=True)
    arguments = [_Weights(value, other, (name,)) for value, other, name in pairs]
    arguments += [_Data(leaf) for leaf in jax.tree.leaves(inputs)]
    found: dict[str, list[Met]] = {}
    outputs = _run(program.jaxpr, program.consts, arguments, found)
    return found, jax.tree.unflatten(jax.tree.structure(shape), [_value(output) for output in outputs])


def _run(program: Jaxpr, consts: Any, arguments: list, found: dict[str, list[Met]]) -> list:
    """Evaluate a program whose arguments are weights, data or constants."""
    at = dict(zip(program.constvars, consts, strict=True)) | dict(zip(program.invars, arguments, strict=True))

    def read(var: Any) -> Any:
        return var.val if isinstance(var, Literal) else at[var]

    for equation in program.eqns:
        results = _apply(equation, [read(var) for var in equation.invars], found)
        at.update(zip(equation.outvars, results, strict=True))
    return [read(var) for var in program.outvars]


def _apply(equation: Any, arguments: list, found: dict[str, list[Met]]) -> list:
    """Evaluate one equation, and collect it where weights meet data in it."""
    weights = [place for place, argument in enumerate(arguments) if isinstance(argument, _Weights)]
    has_data = any(isinstance(argument, _Data) for argument in arguments)
    if weights and equation.primitive.name == "scan":
        return _unrolled(equation, arguments, found)
    program = _called(equation)
    if weights and program is not None:
        return _run(program.jaxpr, program.consts, arguments, found)
    values = [_value(argument) for argument in arguments]
    results = _bind(equation, values)
    if weights and has_data:
        for place in weights:
            weight = arguments[place]
            moved = _bind(equation, [*values[:place], weight.moved, *values[place + 1 :]])
            key, is_product = " + ".join(dict.fromkeys(weight.names)), equation.primitive.name in _PRODUCTS
            pairs = zip(results, moved, strict=True)
            found.setdefault(key, []).extend(Met(value, other, is_product) for value, other in pairs)
    if has_data:
        return [_Data(result) for result in results]
    if not weights:
        return results
    moved = _bind(equation, [_moved(argument) for argument in arguments])
    names, is_stack = _names(equation, [argument for argument in arguments if isinstance(argument, _Weights)])
    return [_Weights(value, other, names, is_stack) for value, other in zip(results, moved, strict=True)]


def _unrolled(equation: Any, arguments: list, found: dict[str, list[Met]]) -> list:
    """Evaluate a loop of fixed length turn by turn, so that each turn has its own slice of stacked weights."""
    options, program = equation.params, equation.params["jaxpr"]
    num_consts, num_carried = options["num_consts"], options["num_carry"]
    consts, carried = arguments[:num_consts], arguments[num_consts : num_consts + num_carried]
    sliced, turns = arguments[num_consts + num_carried :], range(options["length"])
    rows: list[list] = []
    for turn in reversed(turns) if options["reverse"] else turns:
        here = [_take(argument, turn) for argument in sliced]
        results = _run(program.jaxpr, program.consts, [*consts, *carried, *here], found)
        carried = results[:num_carried]
        rows.append(results[num_carried:])
    rows = rows[::-1] if options["reverse"] else rows
    return [*carried, *(_stack(list(column)) for column in zip(*rows, strict=True))]


def _take(argument: Any, index: int) -> Any:
    if isinstance(argument, _Weights):
        return argument.at(index)
    return _Data(argument.value[index]) if isinstance(argument, _Data) else argument[index]


def _stack(column: list) -> Any:
    stacked = jax.numpy.stack([_value(entry) for entry in column])
    return _Data(stacked) if any(isinstance(entry, _Data | _Weights) for entry in column) else stacked


def _names(equation: Any, weights: list[_Weights]) -> tuple[tuple[str, ...], bool]:
    """Return whose weights an operation on weights makes, and whether each index of the first axis has its own."""
    names = tuple(name for weight in weights for name in weight.names)
    operation, options = equation.primitive.name, equation.params
    joins = operation == "concatenate" and options["dimension"] == 0
    is_by_index = joins and all(len(weight.value) == len(weight.names) for weight in weights)
    is_by_index |= operation == "stack" and options["axis"] == 0 and len(names) == len(weights)
    keeps = operation == "convert_element_type" and weights[0].is_stack
    return (names, True) if is_by_index or keeps else (tuple(dict.fromkeys(names)), False)


def _called(equation: Any) -> ClosedJaxpr | None:
    """Return the program that an equation only calls."""
    if equation.primitive.name in ("while", "cond", "scan"):
        return None
    program = next((equation.params[name] for name in _PROGRAMS if name in equation.params), None)
    return ClosedJaxpr(program, ()) if isinstance(program, Jaxpr) else program


def _bind(equation: Any, values: list) -> list:
    options = equation.primitive.get_bind_params(equation.params)
    with equation.ctx.manager:
        results = equation.primitive.bind(*values, **options)
    return results if equation.primitive.multiple_results else [results]


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, _Weights | _Data) else argument


def _moved(argument: Any) -> Any:
    return argument.moved if isinstance(argument, _Weights) else argument
