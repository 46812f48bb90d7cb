"""The density of a symmetric matrix's eigenvalues, with error bars."""

import math
from typing import NamedTuple

import jax
import numpy as np

from flatwide.measure import inputs
from flatwide.measure.operators import Operator
from flatwide.measure.spectrum.lanczos import Basis
from flatwide.measure.spectrum.trace import Estimate
from flatwide.types import Array

_MARGIN = 5.0  # widths of the smoothing beyond the outermost nodes: the mass further out is below 1e-6
_POINTS = 8  # grid points per width: lines between them deviate from a peak by (1 / 8)^2 / 8, or 0.2 %


class SpectralDensity(NamedTuple):
    """The spectral density, which integrates to 1.

    grid: [G], in the unit of S; density: [G], per unit of S; standard_error: [G], of the density, over the probes.
    width: standard deviation of the normal distribution that each eigenvalue is smoothed with.
    nodes, weights: [m, s] for m probes of s steps: the Ritz values of each probe, ascending, and the share of the
      spectrum that each represents; a row of weights adds up to 1, with zeros if a probe ended early.
    num_products: products with S; cost: in Hessian-vector products over the data set.
    """

    grid: np.ndarray
    density: np.ndarray
    standard_error: np.ndarray
    width: float
    nodes: np.ndarray
    weights: np.ndarray
    num_products: int
    cost: float

    def share_below(self, bound: float) -> Estimate:
        """Estimate the share of eigenvalues that are below a bound.

        A node counts fully or not at all, so beyond the standard error the share is only as precise as the weight of
        one node. For the share of negative eigenvalues where most are zero up to rounding, pass a bound below the
        rounding errors instead of 0.

        Args:
          bound: in the unit of S.
        Returns: Estimate, a share in [0, 1].
        """
        return self._estimate(np.where(self.nodes < bound, self.weights, 0).sum(axis=1))

    def moment(self, order: int) -> Estimate:
        """Estimate the mean of the eigenvalues to the power of order; order 1 is trace / n. Unbiased below order 2 s.

        Returns: Estimate, in the unit of S to that power.
        """
        return self._estimate((self.weights * self.nodes**order).sum(axis=1))

    def _estimate(self, samples: np.ndarray) -> Estimate:
        error = float(np.std(samples, ddof=1)) / math.sqrt(len(samples))
        return Estimate(
            value=float(np.mean(samples)), standard_error=error, num_products=self.num_products, cost=self.cost
        )


def spectral_density(
    operator: Operator,
    *,
    key: Array,
    num_probes: int = 5,
    num_steps: int = 50,
    width: float | None = None,
    grid: np.ndarray | None = None,
) -> SpectralDensity:
    """Estimate the density of the eigenvalues of a symmetric matrix S.

    Args:
      operator: S, of `operator.size` = n rows.
      key: PRNG key; the same key gives the same result.
      num_probes: m >= 2 random vectors. The relative error of the share of a single eigenvalue is sqrt(2 / m).
      num_steps: s >= 1 products for each; fewer if the Krylov space of a probe is exhausted.
      width: of the smoothing, > 0, in the unit of S; None for the range of the nodes over num_steps. That is the finest
        resolution of s steps everywhere in the spectrum; with a smaller width, nodes within a band become false peaks.
      grid: points where the density is evaluated, [G]; None for 8 points per width, over the whole density.
    Returns: SpectralDensity.
    Raises: ValueError if an option is out of range or a product is not finite.
    Equation: density(x) = (1/m) sum_i sum_j w_ij normal(x; node_ij, width), with node_ij the eigenvalues of S in the
      Krylov space of probe i, and w_ij the squared first entries of their eigenvectors.
    Cost: m s products; memory of s vectors, which each step reads twice.
    Source: Ubaru, Chen and Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos quadrature; Ghorbani,
      Krishnan and Xiao (2019), An investigation into neural net optimization via Hessian eigenvalue density.
    """
    inputs.check_at_least(2, "; one probe has no standard error", num_probes=num_probes)
    inputs.check_at_least(1, num_steps=num_steps)
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"width={width}: expected a positive number, or None for what the steps resolve.")
    basis = Basis(operator, min(num_steps, operator.size))
    # The mean of the spectral measures of random unit vectors is the density of the eigenvalues.
    probes = [_quadrature(basis, probe_key) for probe_key in jax.random.split(inputs.random_key(key), num_probes)]
    nodes, weights = (np.stack(parts) for parts in zip(*probes, strict=True))
    lowest, highest = float(nodes.min()), float(nodes.max())
    if width is None:
        width = (highest - lowest or abs(highest) or 1.0) / num_steps
    if grid is None:
        first, last = lowest - _MARGIN * width, highest + _MARGIN * width
        grid = np.linspace(first, last, math.ceil(_POINTS * (last - first) / width) + 1)
    samples = np.stack([_smoothed(grid, *probe, width) for probe in probes])
    error = np.std(samples, axis=0, ddof=1) / math.sqrt(num_probes)
    num_products = basis.num_products
    cost = num_products * operator.cost
    return SpectralDensity(
        grid=grid,
        density=samples.mean(axis=0),
        standard_error=error,
        width=width,
        nodes=nodes,
        weights=weights,
        num_products=num_products,
        cost=cost,
    )


def _quadrature(basis: Basis, key: Array) -> tuple[np.ndarray, np.ndarray]:
    """Compute the nodes and weights of one random vector, padded to the capacity of the basis."""
    basis.clear()
    basis.begin_randomly(key)
    for _ in range(basis.capacity):
        basis.extend()
        if basis.has_ended:
            break
    nodes, vectors = basis.ritz()
    # Gauss quadrature of the probe's spectral measure, exact for polynomials below degree 2 s (Golub and Welsch, 1969).
    weights = vectors[0] ** 2
    missing = basis.capacity - len(nodes)
    return np.pad(nodes, (0, missing), mode="edge"), np.pad(weights / weights.sum(), (0, missing))


def _smoothed(grid: np.ndarray, nodes: np.ndarray, weights: np.ndarray, width: float) -> np.ndarray:
    distances = (np.asarray(grid)[:, None] - nodes[None]) / width
    return np.exp(-(distances**2) / 2) @ weights / (width * math.sqrt(2 * math.pi))
