"""Scores of weights for pruning: the values of `config.pruner`, and their requirements."""

import warnings
import zlib
from typing import NamedTuple

import jax
import numpy as np

from flatwide.types import Array


class Pruner(NamedTuple):
    """The requirements and defaults of a pruner."""

    needs_gradients: bool  # `masks.snip_gradient` computes them
    layer_density: str | None  # the default, if the config has none


PRUNERS: dict[str, Pruner] = {
    "none": Pruner(needs_gradients=False, layer_density=None),
    "random": Pruner(needs_gradients=False, layer_density="uniform"),
    "magnitude": Pruner(needs_gradients=False, layer_density="global"),
    "snip": Pruner(needs_gradients=True, layer_density="global"),
}


def random_scores(kernels: dict[str, Array], *, key: Array) -> dict[str, np.ndarray]:
    """Draw a random 64-bit integer for every weight.

    Args:
      kernels: by name; a kernel's scores depend only on the key and on its name and shape.
    """
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()

    def draw(name: str, kernel: Array) -> np.ndarray:
        # On the host, since XLA compiles for each new shape: 18 s for a ResNet-50 on two cores, against 1 s.
        bits = np.random.PCG64([*seed, zlib.crc32(name.encode())])
        return bits.random_raw(kernel.size).reshape(kernel.shape)

    return {name: draw(name, kernel) for name, kernel in kernels.items()}


def magnitude_scores(kernels: dict[str, Array]) -> dict[str, np.ndarray]:
    """Compute the absolute value of each weight."""
    return {name: np.abs(np.asarray(kernel)) for name, kernel in kernels.items()}


def snip_scores(kernels: dict[str, Array], gradients: dict[str, Array]) -> dict[str, np.ndarray]:
    """Compute the absolute first-order change of the loss when each weight is removed, |w * gradient|.

    Warns: if the gradient of a whole kernel is zero, because its weights then cannot be ranked.
    Source: Lee et al. (2019), SNIP: single-shot network pruning based on connection sensitivity.
    """
    silent = [name for name, gradient in gradients.items() if not np.any(np.asarray(gradient))]
    if silent:
        warnings.warn(
            f"config.pruner='snip': the gradient is exactly 0 in all of {len(silent)} of {len(kernels)} kernels (the "
            f"first: {silent[0]}), so their weights cannot be ranked. Norms whose scale starts at 0 (ResNet50) and "
            "dead units cause this; use the pruner magnitude or random instead.",
            stacklevel=3,
        )
    # The product of two float32 numbers is exact in float64: it neither underflows nor rounds to a tie.
    return {
        name: np.abs(np.asarray(kernel, np.float64) * np.asarray(gradients[name], np.float64))
        for name, kernel in kernels.items()
    }
