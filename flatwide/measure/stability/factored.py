"""Gradients and Hessian products of single examples, with those of dense kernels factored into outer products.

As an array, the gradient of each example is as large as the parameters. For a kernel W that is used once, y = W a, it
is d a' with d the loss's gradient by y, and a product with the example's Hessian is the derivative of that, d' a' +
d a'' with the derivatives d', a'' of d and a. Two vectors per layer represent it, and applying it to another vector
costs two inner products. `Network` therefore finds such kernels in the jaxpr of the loss.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from flatwide import trees
from flatwide.measure import jaxprs
from flatwide.types import Array, PyTree

_CALLS = ("jit", "pjit", "closed_call")  # others, such as custom_jvp_call, have derivatives of their own


class Factors(NamedTuple):
    """A matrix of one example for a kernel: sum_p left[p] right[p]', in the order outputs x inputs.

    left: [p, outputs]; right: [p, inputs].
    """

    left: Array
    right: Array


class _Site(NamedTuple):
    """The only use of a kernel, a product.

    leaf: the kernel's index among the leaves of params.
    kernel_axis, input_axis: the axes that are contracted.
    is_kernel_first: whether the kernel is the first operand.
    output_shape, dtype: of the product.
    num_rows: T, the number of vectors that it multiplies.
    """

    leaf: int
    kernel_axis: int
    input_axis: int
    is_kernel_first: bool
    output_shape: tuple[int, ...]
    dtype: Any
    num_rows: int

    def inputs(self, operand: Array) -> Array:
        """Reshape the kernel's operand into rows [T, inputs]."""
        return jnp.moveaxis(operand, self.input_axis, -1).reshape(self.num_rows, -1)

    def rows(self, output: Array) -> Array:
        """Reshape the product, or a cotangent of it, into rows [T, outputs]."""
        return (jnp.moveaxis(output, 0, -1) if self.is_kernel_first else output).reshape(self.num_rows, -1)

    def output(self, rows: Array) -> Array:
        """Invert `rows`."""
        if not self.is_kernel_first:
            return rows.reshape(self.output_shape)
        return jnp.moveaxis(rows.reshape(*self.output_shape[1:], self.output_shape[0]), -1, 0)

    def kernel(self, factors: Factors) -> Array:
        """Compute the sum of the matrices of many examples: factors [n, p, ...] -> the kernel's shape."""
        left, right = (part.reshape(-1, part.shape[-1]) for part in factors)
        return right.T @ left if self.kernel_axis == 0 else left.T @ right


class _Leaf(NamedTuple):
    """A leaf of params as an argument of an operation; value: None where only its uses are listed."""

    index: int
    value: Any


class Network:
    """A function (params, example) -> scalar whose kernel gradients are stored as factors where that saves memory.

    Args:
      params, example: pytrees; read for structure, shapes and dtypes only.
      is_whole: one flag for each leaf; leaves with False are not factored, such as pruned ones.
    """

    def __init__(self, function: Callable, params: PyTree, example: PyTree, is_whole: tuple[bool, ...]):
        self._program, shape = jax.make_jaxpr(function, return_shape=True)(params, example)
        self._structure = jax.tree.structure(params)
        self.shape = jax.tree.map(jnp.shape, shape)
        uses = _uses(self._program, self._structure.num_leaves)
        single_uses = [sites[0] for leaf, sites in uses.items() if len(sites) == 1 and is_whole[leaf]]
        self.sites = {site.leaf: site for site in single_uses if site is not None}

    @property
    def num_bytes(self) -> int:
        """Estimate the memory of one example in a product: activations, and gradients that are not factored."""
        leaves = self._program.in_avals[: self._structure.num_leaves]
        apart = [leaf for i, leaf in enumerate(leaves) if i not in self.sites]
        activations = [var.aval for equation in self._program.eqns for var in equation.outvars]
        return 3 * trees.num_bytes(apart) + 6 * trees.num_bytes(activations)

    def gradient(self, params: PyTree, example: PyTree, direction: list | None = None, step: Any = 0.0) -> list:
        """Differentiate the function of one example at params + step * direction.

        Args:
          direction: one item for each leaf, an array like it or Factors; None for none.
        Returns: one item for each leaf: the gradient, or Factors.
        """
        leaves = self._structure.flatten_up_to(params)
        apart = {i: leaf for i, leaf in enumerate(leaves) if i not in self.sites}
        taps = {i: jnp.zeros(site.output_shape, site.dtype) for i, site in self.sites.items()}

        def output(apart: dict, taps: dict) -> tuple[Array, dict]:
            whole = [apart.get(i, leaf) for i, leaf in enumerate(leaves)]
            return self._evaluate(whole, example, direction, step, taps)

        (by_leaf, by_tap), inputs = jax.grad(output, argnums=(0, 1), has_aux=True)(apart, taps)
        return [
            Factors(self.sites[i].rows(by_tap[i]), inputs[i]) if i in self.sites else by_leaf[i]
            for i in range(len(leaves))
        ]

    def output(self, params: PyTree, example: PyTree, direction: list | None = None, step: Any = 0.0) -> Array:
        """Evaluate the function of one example at params + step * direction."""
        return self._evaluate(self._structure.flatten_up_to(params), example, direction, step, {})[0]

    def derivative(self, gradient: list, change: list) -> list:
        """Return the derivative of a gradient as a direction: (d, a) and (d', a'') become d' a' + d a''."""

        return [
            Factors(jnp.concatenate([by.left, at.left]), jnp.concatenate([at.right, by.right]))
            if isinstance(at, Factors)
            else by
            for at, by in zip(gradient, change, strict=True)
        ]

    def mean(self, directions: list) -> PyTree:
        """Average directions, whose items have a leading axis of n examples, to a pytree like params."""

        def leaf_mean(i: int, direction: Any) -> Array:
            if i not in self.sites:
                return jnp.mean(direction, axis=0)
            return self.sites[i].kernel(Factors(direction.left / len(direction.left), direction.right))

        return self._structure.unflatten([leaf_mean(i, direction) for i, direction in enumerate(directions)])

    def _evaluate(
        self, leaves: list, example: PyTree, direction: list | None, step: Any, taps: dict
    ) -> tuple[Array, dict]:
        """Return the output and, for each factored kernel, its inputs."""
        inputs: dict[int, Array] = {}

        def multiplied(leaf: int, product: Array, operand: Array) -> Array:
            site = self.sites[leaf]
            inputs[leaf] = site.inputs(operand)
            if direction is not None:
                factors = direction[leaf]
                product = product + step * site.output((inputs[leaf] @ factors.right.T) @ factors.left)
            return product + taps[leaf] if taps else product

        def apply(equation: Any, arguments: list) -> list:
            position = next((i for i, argument in enumerate(arguments) if isinstance(argument, _Leaf)), None)
            if position is None:
                return jaxprs.bind(equation, arguments)
            if (program := _called(equation)) is not None:
                return jaxprs.run(program, arguments, apply)
            kernel, operand = arguments[position], arguments[1 - position]
            values = [argument.value if isinstance(argument, _Leaf) else argument for argument in arguments]
            return [multiplied(kernel.index, jaxprs.bind(equation, values)[0], operand)]

        def argument(i: int, leaf: Array) -> Any:
            if i in self.sites:
                return _Leaf(i, leaf)
            return leaf if direction is None else leaf + step * direction[i].astype(leaf.dtype)

        arguments = [argument(i, leaf) for i, leaf in enumerate(leaves)]
        return jaxprs.run(self._program, [*arguments, *jax.tree.leaves(example)], apply)[0], inputs


def _called(equation: Any) -> ClosedJaxpr | None:
    return jaxprs.called(equation) if equation.primitive.name in _CALLS else None


def _uses(program: ClosedJaxpr, num_leaves: int) -> dict[int, list[_Site | None]]:
    """List the uses of each leaf: a site, or None for a use that cannot be factored."""
    uses: dict[int, list[_Site | None]] = {leaf: [] for leaf in range(num_leaves)}

    def apply(equation: Any, arguments: list) -> list:
        if (inner := _called(equation)) is not None:
            return jaxprs.run(inner, arguments, apply)
        for position, argument in enumerate(arguments):
            if isinstance(argument, _Leaf):
                uses[argument.index].append(_site(equation, argument.index, position))
        return [None] * len(equation.outvars)

    others = [None] * (len(program.jaxpr.invars) - num_leaves)
    for output in jaxprs.run(program, [*(_Leaf(i, None) for i in range(num_leaves)), *others], apply):
        if isinstance(output, _Leaf):
            uses[output.index].append(None)
    return uses


def _site(equation: Any, leaf: int, position: int) -> _Site | None:
    """Describe an equation that multiplies a kernel, if factors take less memory than the kernel's gradient."""
    if equation.primitive.name != "dot_general":
        return None
    contracted, batched = equation.params["dimension_numbers"]
    kernel, operand, output = (
        equation.invars[position].aval,
        equation.invars[1 - position].aval,
        equation.outvars[0].aval,
    )
    if kernel.ndim != 2 or len(contracted[0]) != 1 or batched[0]:
        return None
    num_rows = operand.size // kernel.shape[contracted[position][0]]
    if 2 * num_rows * sum(kernel.shape) >= kernel.size:
        return None
    return _Site(
        leaf=leaf,
        kernel_axis=int(contracted[position][0]),
        input_axis=int(contracted[1 - position][0]),
        is_kernel_first=position == 0,
        output_shape=output.shape,
        dtype=output.dtype,
        num_rows=num_rows,
    )
