"""VGG-11 for small images: convolutions, pooling and one linear layer, without batch norm.

Layers are `conv_1` to `conv_8` and `output`. Arrays are [B, H, W, C].
"""

import jax.numpy as jnp
from flax import linen as nn

from flatwide.models import linen
from flatwide.models.convolution import Conv
from flatwide.types import Array, Model, PyTree

_FACTORS = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # of num_filters, for each convolution; a pool ends each group


class VGG(nn.Module):
    """Groups of 3x3 convolutions with a ReLU each, a 2x2 maximum after each group, the mean over what is left."""

    num_outputs: int
    num_filters: int
    half_precision: bool

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        del train  # the same in both modes
        dtypes = linen.dtypes(half_precision=self.half_precision)
        hidden, number = inputs, 0
        for factors in _FACTORS:
            for factor in factors:
                number += 1
                layer = Conv(
                    self.num_filters * factor,
                    (3, 3),
                    use_bias=True,
                    # LeCun's rule halves the variance at each ReLU: after eight of them nothing is left to learn from.
                    kernel_init=nn.initializers.he_normal(),
                    dtype=dtypes.compute,
                    param_dtype=dtypes.full,
                    name=f"conv_{number}",
                )
                hidden = linen.relu(self, layer(hidden), layer=f"conv_{number}")
            hidden = _pool(hidden)
        features = hidden.astype(dtypes.full).mean(axis=(1, 2))
        return linen.dense(self.num_outputs, dtypes, name="output")(features).astype(dtypes.full)


def _pool(images: Array) -> Array:
    """Take the maximum of each 2 x 2 pixels, leaving out an odd last row or column; a side of 1 pixel stays."""
    # Not nn.max_pool, whose gradient is a scatter: this is a comparison, in derivatives of every order too.
    for axis in (1, 2):
        pairs = images.shape[axis] // 2
        if pairs:
            even, odd = (images[(slice(None),) * axis + (slice(start, 2 * pairs, 2),)] for start in (0, 1))
            images = jnp.maximum(even, odd)
    return images


def vgg11(example: PyTree, num_outputs: int, *, num_filters: int = 64, half_precision: bool = False) -> Model:
    """Build VGG-11 in its form for CIFAR: 64 M 128 M 256 256 M 512 512 M 512 512 M and a linear layer.

    Args:
      example: one image [H, W, C] of any size. Of 32 x 32 one pixel is left, so that the mean changes nothing.
      num_filters: filters of the first convolution; the last four have eight times as many.
      half_precision: convolve in bfloat16; parameters and outputs stay in float32.
    Returns: Model with He-normal convolutions, a LeCun-normal linear layer and zero biases; outputs [B, num_outputs].
    Raises: ValueError if a size is no integer >= 1, or an example is no image.
    Source: Simonyan and Zisserman (2015), network A; for CIFAR-10 and without batch norm as in Chizat et al. (2019).
    """
    linen.check_one_array("VGG11", example, num_axes=3)
    return linen.from_linen(VGG(num_outputs, linen.check_size("num_filters", num_filters), half_precision), example)
