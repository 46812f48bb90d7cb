"""The preconditioned Hessian, which determines the stability of optimizers such as Adam."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from flatwide.measure.operators import Operator
from flatwide.types import Array, PyTree


def preconditioned_operator(
    hessian: Operator, preconditioner: PyTree, *, rho: float = 0.0, weight_decay: float = 0.0
) -> Operator:
    """Return the matrix whose top eigenvalue decides whether full-batch steps of a preconditioned optimizer are stable.

    Args:
      hessian: H, of the loss without decay.
      preconditioner: diagonal of P, like params, > 0 where a weight is kept: steps are along P^-1 times the gradient.
      rho: of unnormalized SAM around the optimizer, >= 0; of the normalized rule `effective_rho`.
      weight_decay: lambda >= 0 of an L2 term lambda w in the gradient that is preconditioned.
    Returns: an operator, in units of 1 / learning rate; compare its top eigenvalue with `preconditioned_edge`.
    Raises: ValueError if the preconditioner has other shapes than params.
    Equation: P^-1/2 (H + rho H^2 + lambda I) P^-1/2, which has the eigenvalues of P^-1 (H + rho H^2 + lambda I).
    Cost: each product costs one of H, or two with SAM.
    Source: Cohen et al. (2022), Adaptive gradient methods at the edge of stability, arXiv 2207.14484; SAM: flatwide.
    """
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (preconditioner, hessian.params)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the preconditioner has shapes {shapes[0]}: expected those of params, {shapes[1]}.")
    scales = jax.tree.map(lambda leaf: 1 / jnp.sqrt(leaf), preconditioner)
    return replace(
        hessian,
        arrays=(hessian, scales, jnp.asarray(rho), jnp.asarray(weight_decay)),
        open_product=_open_with_sam if rho > 0 else _open,
        cost=hessian.cost * (2 if rho > 0 else 1),
    )


def _open(params: PyTree, arrays: tuple, mask: PyTree | None) -> jax.tree_util.Partial:
    del params, mask  # the Hessian has its params and mask
    hessian, *rest = arrays
    return jax.tree_util.Partial(_multiply, _opened(hessian), *rest)


def _open_with_sam(params: PyTree, arrays: tuple, mask: PyTree | None) -> jax.tree_util.Partial:
    del params, mask
    hessian, *rest = arrays
    return jax.tree_util.Partial(_multiply_with_sam, _opened(hessian), *rest)


def _opened(hessian: Operator) -> Callable[[PyTree], PyTree]:
    return hessian.open_product(hessian.params, hessian.arrays, hessian.mask)


def _multiply(product, scales: PyTree, rho: Array, decay: Array, vector: PyTree) -> PyTree:
    del rho
    scaled = _times(scales, vector)
    return _times(scales, jax.tree.map(lambda h, v: h + decay.astype(v.dtype) * v, product(scaled), scaled))


def _multiply_with_sam(product, scales: PyTree, rho: Array, decay: Array, vector: PyTree) -> PyTree:
    scaled = _times(scales, vector)
    once = product(scaled)
    whole = jax.tree.map(
        lambda h, hh, v: h + rho.astype(v.dtype) * hh + decay.astype(v.dtype) * v, once, product(once), scaled
    )
    return _times(scales, whole)


def _times(scales: PyTree, vector: PyTree) -> PyTree:
    return jax.tree.map(jnp.multiply, scales, vector)
