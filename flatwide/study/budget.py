"""The sparsity at which a network has a given number of nonzero parameters."""

from typing import NamedTuple

from flatwide import sparsify, trees
from flatwide.types import PyTree

_LARGEST = 1 - 2**-52


class Solved(NamedTuple):
    """A sparsity, and the number of nonzero parameters that it gives: the nearest to the requested number."""

    sparsity: float
    num_nonzero_params: int


def solve(params: PyTree, *, budget: int, pruner: str, layer_density: str | None) -> Solved:
    """Compute the sparsity that gives a budget of nonzero parameters.

    With one pool of weights (the `global` density) and with `erk` the budget is met exactly. With `uniform` each
    kernel's count is rounded, so the total may differ by a few.

    Args:
      params: pytree of shapes and dtypes.
      budget: unmasked kernel entries and all bias and norm entries.
    Raises: ValueError if the network is smaller than the budget, or cannot have so few.
    """

    def count(sparsity: float) -> int:
        return sparsify.num_kept(params, pruner=pruner, sparsity=sparsity, layer_density=layer_density)

    dense = trees.size(params)
    if budget == dense:
        return Solved(0.0, dense)
    if pruner == "none":
        raise ValueError(f"num_nonzero_params={budget} needs a pruner; choose random, snip or magnitude.")
    if budget > dense:
        raise ValueError(f"num_nonzero_params={budget}: the network has only {dense:,} parameters; make it wider.")
    if budget <= count(_LARGEST):
        raise ValueError(
            f"num_nonzero_params={budget}: biases and norms, which are never pruned, have {count(_LARGEST)} parameters."
        )
    low, high = 0.0, _LARGEST  # count(low) >= budget > count(high), and it falls in between
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if count(middle) >= budget else (low, middle)
    sparsity = min((low, high), key=lambda candidate: abs(count(candidate) - budget))
    wanted = count(sparsity)
    for digits in range(2, 17):
        rounded = round(sparsity, digits)  # to the fewest digits that give the same count
        if rounded < 1 and count(rounded) == wanted:
            return Solved(rounded, wanted)
    return Solved(sparsity, wanted)
