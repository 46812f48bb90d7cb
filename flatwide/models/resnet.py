"""Residual networks: ResNet-18 with a stem for small images, ResNet-50 with the ImageNet stem.

Layers are named by their position: `stem`, `stem_norm`, `stage_1_block_1/conv_1`, `.../norm_1`, `.../shortcut`,
`.../shortcut_norm`, `output`. Arrays are [B, H, W, C].
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import linen as nn

from flatwide.models import NUM_BLOCKS, linen
from flatwide.models.convolution import Conv
from flatwide.types import Array, Model, PyTree

Padding = str | tuple[tuple[int, int], tuple[int, int]]

_ONE_PIXEL = ((1, 1), (1, 1))  # around the image; "SAME" at stride 2 pads an even size on the right and below only


class Mode(NamedTuple):
    """The mode and dtypes of a call."""

    train: bool
    dtypes: linen.Dtypes


def convolve(
    inputs: Array, filters: int, size: int, mode: Mode, *, name: str, strides: int = 1, padding: Padding = "SAME"
) -> Array:
    """Apply a square convolution without bias; all convolutions of the network are made here."""
    layer = Conv(
        filters,
        (size, size),
        strides=(strides, strides),
        padding=padding,
        dtype=mode.dtypes.compute,
        param_dtype=mode.dtypes.full,
        name=name,
    )
    return layer(inputs)


def normalize(inputs: Array, mode: Mode, *, name: str, scale=nn.initializers.ones) -> Array:
    """Apply batch normalization; its constants and its precision are chosen here alone.

    The statistics are those of the global batch: a batch sharded over devices is one array under `jax.jit`, so no axis
    name is needed. They are computed and kept in full precision, and the variance is the biased one.
    """
    layer = nn.BatchNorm(
        use_running_average=not mode.train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=mode.dtypes.full,
        param_dtype=mode.dtypes.full,
        force_float32_reductions=False,  # True would start the running averages in float32 in 64-bit mode
        use_fast_variance=False,
        scale_init=scale,
        name=name,
    )
    return layer(inputs).astype(mode.dtypes.compute)


def shortcut(inputs: Array, outputs: Array, mode: Mode, *, strides: int) -> Array:
    """Carry a block's inputs to its outputs: unchanged, or projected where the shape or the stride differs."""
    if inputs.shape == outputs.shape and strides == 1:
        return inputs
    projected = convolve(inputs, outputs.shape[-1], 1, mode, strides=strides, padding="VALID", name="shortcut")
    return normalize(projected, mode, name="shortcut_norm")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    filters: int
    strides: int

    @nn.compact
    def __call__(self, inputs: Array, mode: Mode) -> Array:
        hidden = convolve(inputs, self.filters, 3, mode, strides=self.strides, padding=_ONE_PIXEL, name="conv_1")
        hidden = jax.nn.relu(normalize(hidden, mode, name="norm_1"))
        hidden = convolve(hidden, self.filters, 3, mode, padding=_ONE_PIXEL, name="conv_2")
        hidden = normalize(hidden, mode, name="norm_2")
        return jax.nn.relu(hidden + shortcut(inputs, hidden, mode, strides=self.strides))


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a widening 1x1 convolution around a shortcut; it starts as the shortcut alone."""

    filters: int
    strides: int

    @nn.compact
    def __call__(self, inputs: Array, mode: Mode) -> Array:
        hidden = convolve(inputs, self.filters, 1, mode, name="conv_1")
        hidden = jax.nn.relu(normalize(hidden, mode, name="norm_1"))
        hidden = convolve(hidden, self.filters, 3, mode, strides=self.strides, name="conv_2")
        hidden = jax.nn.relu(normalize(hidden, mode, name="norm_2"))
        hidden = convolve(hidden, 4 * self.filters, 1, mode, name="conv_3")
        hidden = normalize(hidden, mode, name="norm_3", scale=nn.initializers.zeros)
        return jax.nn.relu(hidden + shortcut(inputs, hidden, mode, strides=self.strides))


def small_stem(inputs: Array, filters: int, mode: Mode) -> Array:
    """Apply one convolution at full resolution."""
    hidden = convolve(inputs, filters, 3, mode, padding=_ONE_PIXEL, name="stem")
    return jax.nn.relu(normalize(hidden, mode, name="stem_norm"))


def imagenet_stem(inputs: Array, filters: int, mode: Mode) -> Array:
    """Reduce the image to a quarter of its height and width."""
    hidden = convolve(inputs, filters, 7, mode, strides=2, padding=((3, 3), (3, 3)), name="stem")
    hidden = jax.nn.relu(normalize(hidden, mode, name="stem_norm"))
    return nn.max_pool(hidden, (3, 3), strides=(2, 2), padding="SAME")


class ResNet(nn.Module):
    """A stem, stages of blocks, the mean over the image and a linear layer.

    Each stage has twice the filters of the one before it, at half the height and width.
    """

    num_outputs: int
    num_filters: int
    num_blocks: tuple[int, ...]
    stem: Callable[[Array, int, Mode], Array]
    block: type[BasicBlock] | type[Bottleneck]
    half_precision: bool

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        mode = Mode(train, linen.dtypes(half_precision=self.half_precision))
        hidden = self.stem(inputs, self.num_filters, mode)
        for i, num_blocks in enumerate(self.num_blocks):
            for j in range(num_blocks):
                strides = 2 if i > 0 and j == 0 else 1
                block = self.block(self.num_filters * 2**i, strides, name=f"stage_{i + 1}_block_{j + 1}")
                hidden = block(hidden, mode)
        features = hidden.astype(mode.dtypes.full).mean(axis=(1, 2))
        return linen.dense(self.num_outputs, mode.dtypes, name="output")(features).astype(mode.dtypes.full)


def build(
    name: str,
    stem: Callable[[Array, int, Mode], Array],
    block: type[BasicBlock] | type[Bottleneck],
    example: PyTree,
    num_outputs: int,
    *,
    num_filters: int = 64,
    num_blocks: tuple[int, ...] | None = None,
    half_precision: bool = False,
) -> Model:
    """Build a residual network.

    Args:
      example: one image [H, W, C].
      num_filters: filters of the stem and of the first stage's 3x3 convolutions.
      num_blocks: blocks of each stage, those of `NUM_BLOCKS` if None; its length is the number of stages.
      half_precision: convolve in bfloat16; parameters, batch statistics and outputs stay in float32.
    Returns: Model with outputs [B, num_outputs]; stats holds the `mean` and `var` of every norm. The last scale of each
      bottleneck starts at 0.
    Raises: ValueError if a size is no integer >= 1, or an example is no image.
    """
    linen.check_one_array(name, example, num_axes=3)
    network = ResNet(
        num_outputs,
        linen.check_size("num_filters", num_filters),
        linen.check_sizes("num_blocks", NUM_BLOCKS[name] if num_blocks is None else num_blocks, at_least=1),
        stem,
        block,
        half_precision,
    )
    return linen.from_linen(network, example)


# Paper, Table 3: num_filters = 4, 8, ..., 256; Figure 17: num_blocks = (n, n, n, n) for n = 1, 2, 8. Strided 3x3
# convolutions pad one pixel on every side, as in the paper's code.
resnet18 = functools.partial(build, "ResNet18", small_stem, BasicBlock)

# Paper, Table 3: num_filters = 16, 32, 48, 64, 80. Strided 3x3 convolutions and the pooling pad as "SAME" does (right
# and below), as in the paper's code.
resnet50 = functools.partial(build, "ResNet50", imagenet_stem, Bottleneck)
