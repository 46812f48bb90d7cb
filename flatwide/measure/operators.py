"""Matrix-free symmetric operators: Hessians and related matrices, as products with vectors.

A vector is a pytree like the parameters. An operator holds functions that are fixed and arrays that may change, so that
operators of one kind and shape share their compiled programs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import trees
from flatwide.measure import batching, host, inputs
from flatwide.measure.inputs import Problem
from flatwide.types import Array, PyTree

# The errors of JAX for a function that reads the values of a traced vector.
_NEEDS_NUMBERS = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)
_STORED_BYTES = 2**30  # limit of the residuals that products share, a choice; above, each product recomputes them


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Operator:
    """A symmetric matrix S, restricted to the kept weights: v -> M S M v.

    params: a pytree with the structure, shapes and dtypes of the vectors.
    arrays: the arrays that the product depends on.
    mask: None, or booleans that broadcast to the leaves of params (True is kept).
    open_product: arrays -> v -> S v, a `jax.tree_util.Partial`: does the work that all products share.
    cost: of one product, in Hessian-vector products over the whole data set.
    """

    params: PyTree
    arrays: Any
    mask: PyTree | None
    open_product: Callable[[Any], Callable[[PyTree], PyTree]] = field(metadata={"static": True})
    cost: float = field(metadata={"static": True}, default=1.0)

    @property
    def size(self) -> int:
        """Count the rows of the matrix: the entries of params that the mask keeps."""
        return inputs.num_kept(self.params, self.mask)

    @jax.jit
    def open(self) -> Callable[[PyTree], PyTree]:
        """Return the product after doing the work that all products share; a pytree that compiled functions can take.

        Cost: for a Hessian that is stored, one gradient; else nothing.
        """
        return jax.tree_util.Partial(_masked, self.open_product(self.arrays), self.mask)

    @jax.jit
    def __call__(self, vector: PyTree) -> PyTree:
        """Multiply one vector, without sharing work: for many vectors use the solvers of this package.

        Args:
          vector: like params.
        Returns: M S M v, like params.
        """
        return self.open()(vector)


def _masked(product: Callable[[PyTree], PyTree], mask: PyTree | None, vector: PyTree) -> PyTree:
    return trees.apply_mask(product(trees.apply_mask(vector, mask)), mask)


def hessian_operator(problem: Problem, *, is_stored: bool | None = None) -> Operator:
    """Return the Hessian of a mean loss, as an operator.

    Args:
      problem: of batches; the matrix has the rows and columns of the kept weights only.
      is_stored: keep the residuals of the primal pass between products: takes the memory of one backward pass over the
        data, and each product takes 14 instead of 22 matrix multiplications for a network of three layers. None: keep
        up to 1 GiB.
    Returns: an operator, in units of loss per squared unit of parameter.
    Raises: ValueError for a problem of single examples, or is_stored with streamed batches.
    Equation: H = sum_b w_b hess L_b(params) / sum_b w_b, with w_b the weight of batch b.
    Cost: each product is 1 Hessian-vector product: two to three gradients.
    Source: Pearlmutter (1994), Fast exact multiplication by the Hessian.
    """

    def operator_of(is_stored: bool) -> Operator:
        return Operator(problem.params, problem, problem.mask, _Hessian(is_stored))

    if isinstance(problem.data, batching.Streamed):
        if is_stored:
            raise ValueError(
                "is_stored=True with streamed batches: the residuals of the primal pass over all of them would be in "
                "memory. Remove is_stored, or pass the batches as a list."
            )
        return operator_of(False)
    if is_stored is None:
        linearized = jax.eval_shape(Operator.open, operator_of(True))
        is_stored = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(linearized)) <= _STORED_BYTES
    return operator_of(is_stored)


@dataclass(frozen=True)
class _Hessian:
    is_stored: bool

    def __call__(self, problem: Problem) -> Callable[[PyTree], PyTree]:
        if self.is_stored:
            return jax.linearize(problem.gradient, problem.params)[1]
        return jax.tree_util.Partial(_hessian_product, problem)


def _hessian_product(problem: Problem, vector: PyTree) -> PyTree:
    return jax.jvp(problem.gradient, (problem.params,), (vector,))[1]


def operator(
    multiply: Callable[..., PyTree], params: PyTree, *arrays: PyTree, mask: PyTree | None = None, cost: float = 1.0
) -> Operator:
    """Return an operator from a function that multiplies a vector by a symmetric matrix.

    Args:
      multiply: (vector, *arrays) -> product, both like params; in JAX, or in NumPy or SciPy, which run on the host.
      params: pytree; read for structure, shapes and dtypes only.
      arrays: arrays that the product depends on; arrays that `multiply` closes over become constants of the program.
      mask: booleans that broadcast to the leaves of params, True for the rows and columns that are kept.
      cost: of one product, in Hessian-vector products.
    Returns: an operator.
    Raises: ValueError if params, mask or the shapes of a product do not fit. The solvers raise one if they detect that
      a product is not symmetric.
    Cost: no product; each later product is one call of `multiply`.
    """
    inputs.check_params(params, mask)
    try:
        product = jax.eval_shape(multiply, params, *arrays)
    except (*_NEEDS_NUMBERS, TypeError):  # SciPy raises only a TypeError for a traced vector
        multiply = _OnHost(multiply)
    else:
        inputs.check_like(product, params, "the product")
    return Operator(params=params, arrays=arrays, mask=mask, open_product=_Product(multiply), cost=cost)


@dataclass(frozen=True)
class _OnHost:
    """A product of NumPy arrays, callable from compiled programs."""

    multiply: Callable

    def __call__(self, vector: PyTree, *arrays: PyTree) -> PyTree:
        def product(*arguments: PyTree) -> PyTree:
            vector, *rest = jax.tree.map(np.asarray, arguments)
            output = self.multiply(vector, *rest)
            inputs.check_like(output, vector, "the product")
            return jax.tree.map(lambda leaf, to: np.asarray(leaf, to.dtype), output, vector)

        return host.call(product, vector, vector, *arrays)


@dataclass(frozen=True)
class _Product:
    multiply: Callable

    def __call__(self, arrays: tuple) -> Callable[[PyTree], PyTree]:
        return jax.tree_util.Partial(self.product, arrays)

    def product(self, arrays: tuple, vector: PyTree) -> PyTree:
        return self.multiply(vector, *arrays)


@jax.jit
def random_normal(operator: Operator, key: Array) -> PyTree:
    """Draw a vector of independent standard normal entries; masked entries are zero."""
    return trees.apply_mask(trees.random_normal(key, operator.params), operator.mask)


@jax.jit
def random_signs(operator: Operator, key: Array) -> PyTree:
    """Draw a vector of independent signs, -1 or 1; masked entries are zero."""
    flat, unflatten = ravel_pytree(operator.params)
    words = jax.random.bits(key, (-(-flat.size // 32),), "uint32")  # one bit per sign: random numbers are slow
    bits = ((words[:, None] >> jnp.arange(32, dtype="uint32")[None]) & 1).reshape(-1)[: flat.size]
    return trees.apply_mask(unflatten((2 * bits.astype(jnp.int32) - 1).astype(flat.dtype)), operator.mask)
