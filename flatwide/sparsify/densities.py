"""The number of weights that each kernel keeps: exact integers from a sparsity.

All arithmetic is rational, so that no count is off by one because of a rounded 1 - sparsity.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from flatwide import registry

Shape = tuple[int, ...]

LAYER_DENSITIES: dict[str, str] = {
    "uniform": "every kernel keeps the same fraction",
    "erk": "Erdos-Renyi-Kernel: a kernel keeps a fraction in proportion to the sum of its axes over their product",
    "global": "the weights of all kernels compete for one total",
}


class Pool(NamedTuple):
    """Kernels whose weights compete with each other, and the number of these weights that are kept."""

    kernels: tuple[int, ...]  # positions in the list of shapes
    num_kept: int


def kept_of(total: int, *, sparsity: float) -> int:
    """Compute round((1 - sparsity) * total), exactly.

    The sparsity is the decimal number that Python prints for it: 0.9 is nine tenths, so 15 weights keep 1.5, hence 2
    (in floating point (1 - 0.9) * 15 falls below 1.5 and would give 1). A half goes to the even neighbour, as in
    Python's `round`: 2.5 gives 2 and 3.5 gives 4.

    Raises: ValueError if the sparsity is not in [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"config.sparsity={sparsity}: expected a number in [0, 1) (0 prunes nothing).")
    return round((1 - Fraction(repr(float(sparsity)))) * total)


def pools(shapes: Sequence[Shape], *, sparsity: float, layer_density: str) -> list[Pool]:
    """Divide the kept weights among the kernels.

    Args:
      shapes: of all kernels, in the order of the parameters.
      layer_density: a key of LAYER_DENSITIES.
    Returns: one pool per kernel for "uniform" and "erk", one pool of all kernels for "global". A kernel may keep none.
    Raises: ValueError if the sparsity is not in [0, 1) or the layer density is unknown.
    """
    sizes = [math.prod(shape) for shape in shapes]
    if layer_density == "uniform":
        counts = [kept_of(size, sparsity=sparsity) for size in sizes]
    elif layer_density == "erk":
        counts = erk_counts(shapes, total=kept_of(sum(sizes), sparsity=sparsity))
    elif layer_density == "global":
        return [Pool(tuple(range(len(shapes))), kept_of(sum(sizes), sparsity=sparsity))]
    else:
        raise ValueError(registry.unknown("config.layer_density", layer_density, LAYER_DENSITIES))
    return [Pool((i,), count) for i, count in enumerate(counts)]


def erk_counts(shapes: Sequence[Shape], *, total: int) -> list[int]:
    """Divide a total among kernels by the Erdos-Renyi-Kernel rule, exactly.

    Args:
      total: weights to keep, at most the entries of all kernels.
    Returns: counts that sum to `total`, none above the size of its kernel.
    Equation: count_l = min(n_l, c * s_l), where n_l is the product and s_l the sum of a kernel's axes (so its density
      is c * s_l / n_l, and at most 1), with the c for which the counts sum to the total. Kernels fill up in the order
      of n_l / s_l, so the first c in that order that overfills no further kernel is exact. Fractions are then rounded
      by largest remainder; ties go to the earlier kernel.
    Source: Mocanu et al. (2018), Scalable training of artificial neural networks with adaptive sparse connectivity;
      Evci et al. (2020), Rigging the lottery: making all tickets winners, for filters.
    """
    sizes, sums = [math.prod(shape) for shape in shapes], [sum(shape) for shape in shapes]
    left, left_sums, scale = total, sum(sums), Fraction(0)
    for i in sorted(range(len(shapes)), key=lambda i: Fraction(sizes[i], sums[i])):
        scale = Fraction(left, left_sums)
        if scale * sums[i] <= sizes[i]:
            break
        left, left_sums = left - sizes[i], left_sums - sums[i]
    return largest_remainder([min(Fraction(n), scale * s) for n, s in zip(sizes, sums, strict=True)])


def largest_remainder(shares: Sequence[Fraction]) -> list[int]:
    """Round shares of an integer total so that they still sum to it: the largest fractions up, the others down."""
    counts = [math.floor(share) for share in shares]
    missing = int(sum(shares)) - sum(counts)
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])
    for i in by_remainder[:missing]:
        counts[i] += 1
    return counts
