"""Lines, planes and other subspaces of parameter space, for plots of the loss."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measure import inputs
from flatwide.types import Array, PyTree


class Subspace(NamedTuple):
    """The points origin + c_1 d_1 + ... + c_K d_K.

    origin: (params,), or (params, extra).
    directions: K of them, each with the structure of origin.
    coordinates: [n, K] of the n sets of parameters that it was fitted to.
    distances: [n] in parameter units, from each of these to the subspace; 0 if it passes through.
    """

    origin: tuple
    directions: tuple[tuple, ...]
    coordinates: np.ndarray
    distances: np.ndarray

    def point(self, coordinates: Sequence[float] | Array) -> tuple:
        """Return (params,) or (params, extra) at coordinates [K]."""
        return displaced(self.origin, self.directions, coordinates)

    def project(self, params: PyTree) -> tuple[np.ndarray, float]:
        """Find the point of the subspace that is nearest to the given parameters.

        Args:
          params: with the structure and shapes of the origin.
        Returns: its coordinates [K], and the distance of params from it, in parameter units.
        Raises: ValueError for parameters that do not fit.
        Equation: least squares of params - origin over the directions, in 64 bits.
        """
        (origin,), (moved,) = _points([self.origin[0], params], None)
        moved = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - np.asarray(b, np.float64), moved, origin)
        vectors = [moved, *(direction[0] for direction in self.directions)]
        gram = gram_matrix(vectors, np.zeros(len(vectors)))
        coordinates = np.linalg.solve(gram[1:, 1:], gram[1:, 0])
        return coordinates, float(np.sqrt(max(gram[0, 0] - coordinates @ gram[1:, 0], 0)))


def displaced(origin: tuple, directions: tuple[tuple, ...], coordinates: Sequence[float] | Array) -> tuple:
    """Compute origin + c_1 d_1 + ... + c_K d_K."""
    steps = [trees.scale(c, d) for c, d in zip(coordinates, directions, strict=True)]
    return jax.tree.map(lambda start, *moves: sum(moves, start=start), origin, *steps)


def line_through(start: PyTree, end: PyTree, *, extras: tuple[PyTree, PyTree] | None = None) -> Subspace:
    """Return the line through two sets of parameters: coordinate 0 is the start, 1 the end.

    Args:
      start, end: pytrees of the same structure and shapes.
      extras: the `extra` of the loss at both ends, such as batch-norm averages, which is interpolated like the
        parameters; integers are those of the start. Interpolated averages of two networks are not the averages of the
        interpolated network: to recompute them, `surface` and `barrier` have `extra_fn`.
    Returns: Subspace of one dimension; coordinates are fractions of the distance between the two.
    Raises: ValueError for parameters that do not fit.
    Equation: w(c) = start + c (end - start).
    """
    points = _points([start, end], extras)
    return _combined(points, np.array([1.0, 0.0]), np.array([[-1.0], [1.0]]), np.array([[0.0], [1.0]]), np.zeros(2))


def plane_through(
    first: PyTree, second: PyTree, third: PyTree, *, extras: tuple[PyTree, PyTree, PyTree] | None = None
) -> Subspace:
    """Return the plane through three sets of parameters, with orthonormal axes in parameter units.

    Args:
      first, second, third: pytrees of the same structure and shapes. `first` is the origin, the first axis points to
        `second`, and `third` has a positive second coordinate.
      extras: as for `line_through`; outside the triangle they are extrapolated, where variances may become negative.
    Returns: Subspace of two dimensions.
    Raises: ValueError for parameters that do not fit or that lie on one line.
    Equation: Gram-Schmidt on second - first and third - first.
    Cost: the inner products of three sets of parameters on the host, in 64 bits.
    """
    points = _points([first, second, third], extras)
    gram = gram_matrix([point[0] for point in points], np.array([1.0, 0.0, 0.0]))[1:, 1:]
    along, side = np.sqrt(gram[0, 0]), 0.0
    if along > 0:
        side = gram[1, 1] - gram[0, 1] ** 2 / gram[0, 0]
    # Of a squared height: 1e-5 of the distance, where differences of 64-bit products are still known to 1e-6.
    if not side > 1e-10 * gram[1, 1]:
        raise ValueError("first, second, third: expected three sets of parameters that do not lie on one line.")
    across, height = gram[0, 1] / along, np.sqrt(side)
    to_second = np.array([-1.0, 1.0, 0.0])
    to_third = np.array([-1.0, 0.0, 1.0])
    axes = np.stack([to_second / along, (to_third - across / along * to_second) / height], axis=1)
    coordinates = np.array([[0.0, 0.0], [along, 0.0], [across, height]])
    return _combined(points, np.array([1.0, 0.0, 0.0]), axes, coordinates, np.zeros(3))


def principal_subspace(
    snapshots: Sequence[PyTree], *, num_components: int = 2, origin: int | None = None, extras: Sequence | None = None
) -> tuple[Subspace, np.ndarray]:
    """Compute the principal directions along which parameters vary, such as the snapshots of a training run.

    Args:
      snapshots: n >= 2 pytrees of the same structure and shapes; arrays on the host take no memory of the device.
      num_components: K <= n - 1.
      origin: index of the snapshot that variation is measured from, such as -1 for the last; None for the mean.
      extras: n pytrees as for `line_through`; they are combined with the same coefficients as the parameters.
    Returns: the subspace, with orthonormal axes in parameter units, signed so that the largest coordinate of each is
      positive; and the shares [K] of the variance that the axes explain. A high-dimensional random walk has shares of
      6 / (pi k)^2 from the mean: 0.61 and 0.15 alone are no evidence of a low-dimensional path.
    Raises: ValueError for snapshots that do not fit or do not vary in K directions, or an option out of range.
    Equation: leading right singular vectors of the matrix of snapshots minus the origin, from its [n, n] Gram matrix.
    Cost: n^2 P multiplications on the host, in 64 bits; memory of the snapshots and of n times the largest leaf.
    Source: Li et al. (2018), arXiv 1712.09913, section 7; Antognini and Sohl-Dickstein (2018), arXiv 1806.08805.
    """
    points = _points(list(snapshots), extras)
    total = len(points)
    if not 1 <= num_components <= total - 1:
        raise ValueError(f"num_components={num_components}: expected 1 to {total - 1}, one less than the snapshots.")
    if origin is not None and not -total <= origin < total:
        raise ValueError(f"origin={origin}: expected the index of one of {total} snapshots, or None for the mean.")
    weights = np.full(total, 1 / total) if origin is None else np.eye(total)[origin]
    gram = gram_matrix([point[0] for point in points], weights)
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:num_components], vectors[:, ::-1][:, :num_components]
    variance = np.trace(gram)
    # Rounding of the Gram matrix in 64 bits, 1e-16 times its trace, is then below 1e-4 of the value.
    if not values[-1] > 1e-12 * variance:
        raise ValueError(
            f"num_components={num_components}: expected at most as many as the snapshots vary in; the last one's share "
            f"of the variance is {max(values[-1], 0) / max(variance, np.finfo(float).tiny):.1e}."
        )
    vectors = vectors * np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(num_components)])
    lengths = np.sqrt(values)
    coordinates = vectors * lengths
    distances = np.sqrt(np.maximum(np.diag(gram) - np.sum(coordinates**2, axis=1), 0))
    axes = vectors / lengths
    axes = axes - weights[:, None] * axes.sum(axis=0)  # coefficients of the snapshots, not of their differences
    return _combined(points, weights, axes, coordinates, distances), values / variance


def spanned_by(params: PyTree, directions: Sequence[PyTree], *, extra: PyTree | None = None) -> Subspace:
    """Return the subspace through parameters that is spanned by given directions, such as eigenvectors of the Hessian.

    Args:
      params: the origin.
      directions: pytrees like params; coordinates are in units of their lengths.
      extra: the `extra` of the loss, the same at all points.
    Returns: Subspace of as many dimensions as directions.
    Raises: ValueError for directions that do not fit.
    Equation: w(c) = params + c_1 d_1 + ... + c_K d_K.
    """
    points = _points([params, *directions], None)
    others = () if extra is None else (extra,)
    still = jax.tree.map(jnp.zeros_like, others)
    axes = tuple((*point, *still) for point in points[1:])
    return Subspace(
        origin=(*points[0], *others), directions=axes, coordinates=np.zeros((1, len(axes))), distances=np.zeros(1)
    )


def random_directions(
    params: PyTree,
    *,
    key: Array,
    num_directions: int = 2,
    is_kernels_only: bool = True,
    mask: PyTree | None = None,
) -> tuple[PyTree, ...]:
    """Draw filter-normalized random directions, so that plots of different networks are comparable.

    Args:
      params: pytree; a filter is the part of a kernel for one output: all entries with the same last index.
      key: PRNG key.
      num_directions: number of directions, >= 1.
      is_kernels_only: keep biases, norm scales and embeddings fixed; if False, each such leaf gets a direction of the
        norm of the leaf.
      mask: booleans that broadcast to the leaves of params; pruned weights do not move.
    Returns: directions like params; at coordinate 1, each filter has moved by its norm.
    Raises: ValueError for params or a mask that do not fit, or num_directions < 1.
    Equation: d <- d |w| / |d|, filter by filter.
    Cost: memory of num_directions times the parameters.
    Source: Li et al. (2018), Visualizing the loss landscape of neural nets, arXiv 1712.09913.
    """
    inputs.check_at_least(1, num_directions=num_directions)
    inputs.check_params(params, mask)
    params = jax.tree.map(jnp.asarray, params)
    key = inputs.random_key(key)
    params = trees.apply_mask(params, mask)

    def scaled(drawn: Array, weights: Array, is_kernel: bool) -> Array:
        if is_kernels_only and not is_kernel:
            return jnp.zeros_like(weights)
        axes = tuple(range(weights.ndim - 1)) if is_kernel else tuple(range(weights.ndim))
        lengths = [jnp.sqrt(jnp.sum(leaf**2, axis=axes, keepdims=True)) for leaf in (weights, drawn)]
        return drawn * jnp.where(lengths[1] > 0, lengths[0] / jnp.where(lengths[1] > 0, lengths[1], 1), 0)

    def direction(key: Array) -> PyTree:
        drawn = trees.apply_mask(trees.random_normal(key, params), mask)
        return jax.tree.map(scaled, drawn, params, trees.kernels(params))

    return tuple(direction(k) for k in jax.random.split(key, num_directions))


def gram_matrix(snapshots: Sequence[PyTree], origin: np.ndarray) -> np.ndarray:
    """Compute the inner products [n, n] of snapshots minus sum_i origin_i snapshot_i, in 64 bits, leaf by leaf."""
    total = np.zeros((len(snapshots), len(snapshots)))
    for leaves in zip(*(jax.tree.leaves(snapshot) for snapshot in snapshots), strict=True):
        rows = np.stack([np.asarray(leaf, np.float64).reshape(-1) for leaf in leaves])
        rows = rows - origin @ rows
        total += rows @ rows.T
    return total


def _points(snapshots: list[PyTree], extras: Sequence | None) -> list[tuple]:
    if len(snapshots) < 2:
        raise ValueError(f"{len(snapshots)} sets of parameters: expected at least 2.")
    if extras is not None and len(extras) != len(snapshots):
        raise ValueError(f"{len(extras)} extras: expected one for each of the {len(snapshots)} sets of parameters.")
    points = [(params,) for params in snapshots] if extras is None else list(zip(snapshots, extras, strict=True))
    inputs.check_params(jax.tree.map(jnp.asarray, points[0][0]), None)
    shapes = [jax.tree.map(np.shape, point) for point in points]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(f"parameters {index}: expected the structure and shapes of parameters 0.")
    return points


def _combined(
    points: list[tuple], weights: np.ndarray, axes: np.ndarray, coordinates: np.ndarray, distances: np.ndarray
) -> Subspace:
    """Return the subspace whose origin and directions are combinations of points; integers are those of the first."""

    def combine(coefficients: np.ndarray, is_origin: bool) -> tuple:
        def combine_leaves(*leaves) -> Array:
            if not jnp.issubdtype(jnp.result_type(leaves[0]), jnp.floating):
                return jnp.asarray(leaves[0]) if is_origin else jnp.zeros_like(leaves[0])
            total = sum(c * np.asarray(leaf, np.float64) for c, leaf in zip(coefficients, leaves, strict=True) if c)
            return jnp.asarray(total, jnp.result_type(leaves[0]))

        return jax.tree.map(combine_leaves, *points)

    directions = tuple(combine(column, False) for column in axes.T)
    return Subspace(origin=combine(weights, True), directions=directions, coordinates=coordinates, distances=distances)
