"""Two-dimensional convolution that is fast on a CPU, and XLA's own everywhere else.

XLA's CPU backend has one fast kernel, for images [B, H, W, C] and filters [h, w, C, F]. Gradients have other layouts.
XLA brings them to this one, but not inside a loop: in a scanned training step the filter gradient runs as nested
scalar loops, 40 to 200 times slower. Here the convolution, its input gradient and its filter gradient are three
bilinear maps, each written in the form that was measured to be fastest (docs/performance.md), and the transposes of
each are the other two: so every derivative, of any order and in both modes, is again one of the three.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from flatwide.types import Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_MAX_DIRECT_TERMS = 40  # taps x channels: up to here (3x3 on 4 channels) a plain sum beats a matrix product
_MAX_DIRECT_FILTERS = 8
_MIN_DIRECT_BATCH = 8  # the sum is vectorized over the batch
_MIN_PRODUCT_CHANNELS = 24  # below, a filter gradient without stride is not a product a tap, but
_IMAGE_CHANNELS = range(9, 17)  # a product an image, unless images are small, and one convolution otherwise;
# with fewer channels a whole step of ResNet-18 is slower by image, though the gradient alone is faster
_MIN_IMAGE_PIXELS = 256

Pads = tuple[tuple[int, int], tuple[int, int]]


class Window(NamedTuple):
    """The geometry of a convolution, without batch, channels and filters; each pair is (height, width)."""

    inputs: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: Pads

    @property
    def outputs(self) -> tuple[int, int]:
        height, width = (
            (size + sum(pads) - kernel) // stride + 1
            for size, kernel, stride, pads in zip(self.inputs, self.kernel, self.strides, self.padding, strict=True)
        )
        return height, width


class Conv(nn.Module):
    """A convolution: parameter `kernel` [h, w, C, F], and `bias` [F], which starts at zero, if it has one."""

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str | Pads = "SAME"
    use_bias: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: jax.typing.DTypeLike | None = None
    param_dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        shape = (*self.kernel_size, inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype) if self.use_bias else None
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        outputs = convolve(inputs, kernel, strides=self.strides, padding=self.padding)
        return outputs if bias is None else outputs + bias.reshape(1, 1, 1, -1)


def convolve(inputs: Array, kernel: Array, *, strides: tuple[int, int] = (1, 1), padding: str | Pads = "SAME") -> Array:
    """Slide a kernel over images (cross-correlation, as neural networks have it).

    Args:
      inputs: [B, H, W, C].
      kernel: [h, w, C, F], in the dtype of the inputs.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)); more than the kernel is wide, or less than 0, is fine.
    Returns: [B, H', W', F] in the same dtype.
    Raises: ValueError if the two arrays do not fit each other.
    Cost: no memory beyond XLA's own but one padded copy of the inputs and, in the filter gradient, one shifted copy.
    """
    if inputs.ndim != 4 or kernel.ndim != 4 or inputs.shape[3] != kernel.shape[2] or inputs.dtype != kernel.dtype:
        raise ValueError(
            f"inputs {inputs.dtype}{inputs.shape}, kernel {kernel.dtype}{kernel.shape}: expected [batch, height, "
            "width, channels] and [height, width, channels, filters] of one dtype, with the same number of channels."
        )
    (_, height, width, _), (down, across, _, _) = inputs.shape, kernel.shape
    pads = (
        lax.padtype_to_pads((height, width), (down, across), strides, padding) if isinstance(padding, str) else padding
    )
    (top, bottom), (left, right) = pads
    window = Window((height, width), (down, across), (strides[0], strides[1]), ((top, bottom), (left, right)))
    mesh = jax.typeof(inputs).sharding.mesh  # the three maps have no rule for axes that are part of an array's type
    if jax.default_backend() != "cpu" or set(mesh.axis_types) - {jax.sharding.AxisType.Auto}:
        return plain(inputs, kernel, window=window)
    return _forward.bind(inputs, kernel, window=window)


def plain(inputs: Array, kernel: Array, *, window: Window) -> Array:
    """Convolve by XLA's own convolution."""
    return lax.conv_general_dilated(inputs, kernel, window.strides, window.padding, dimension_numbers=_LAYOUT)


def _convolve_on_cpu(inputs: Array, kernel: Array, *, window: Window) -> Array:
    """Map inputs [B, H, W, C] and kernel [h, w, C, F] to outputs [B, H', W', F]."""
    if _is_pointwise(window):
        return lax.dot_general(_tap(inputs, 0, 0, window), kernel[0, 0], (((3,), (0,)), ((), ())))
    height, width, channels, filters = kernel.shape
    is_small = height * width * channels <= _MAX_DIRECT_TERMS and filters <= _MAX_DIRECT_FILTERS
    if is_small and inputs.shape[0] >= _MIN_DIRECT_BATCH:
        return _direct(inputs, kernel, window=window)
    return plain(inputs, kernel, window=window)


def _direct(inputs: Array, kernel: Array, *, window: Window) -> Array:
    """Sum over taps and channels, element by element, with the batch as the innermost axis.

    A matrix product with four columns leaves most of a vector register empty; this does not.
    """
    padded = _pad(jnp.transpose(inputs, (3, 1, 2, 0)), window.padding)
    padded = lax.optimization_barrier(padded)  # or the padding is computed anew for every term
    accumulated = jnp.promote_types(inputs.dtype, jnp.float32)
    rows, columns = (slice(None, (n - 1) * s + 1, s) for n, s in zip(window.outputs, window.strides, strict=True))
    terms = [
        kernel[i, j, channel, :, None, None, None].astype(accumulated)
        * padded[None, channel, i:, j:][:, rows, columns].astype(accumulated)
        for i in range(window.kernel[0])
        for j in range(window.kernel[1])
        for channel in range(kernel.shape[2])
    ]
    outputs = lax.optimization_barrier(functools.reduce(jnp.add, terms))
    return jnp.transpose(outputs, (3, 1, 2, 0)).astype(inputs.dtype)


def _input_gradient_on_cpu(outputs: Array, kernel: Array, *, window: Window) -> Array:
    """Map a cotangent of the outputs [B, H', W', F] and the kernel to one of the inputs [B, H, W, C]."""
    if _is_pointwise(window):
        products = lax.dot_general(outputs, kernel[0, 0], (((3,), (1,)), ((), ())))
        interior = [
            (0, size - (n - 1) * stride - 1, stride - 1)
            for size, n, stride in zip(window.inputs, window.outputs, window.strides, strict=True)
        ]
        return lax.pad(products, jnp.zeros((), products.dtype), ((0, 0, 0), *interior, (0, 0, 0)))
    flipped = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    above, beside = (
        (size - 1 - low, full - (n - 1) * stride - 1 + low)
        for size, full, n, stride, (low, _) in zip(
            window.kernel, window.inputs, window.outputs, window.strides, window.padding, strict=True
        )
    )
    if window.strides == (1, 1):
        return _convolve_on_cpu(outputs, flipped, window=Window(window.outputs, window.kernel, (1, 1), (above, beside)))
    return lax.conv_general_dilated(
        outputs, flipped, (1, 1), (above, beside), lhs_dilation=window.strides, dimension_numbers=_LAYOUT
    )


def _filter_gradient_on_cpu(inputs: Array, outputs: Array, *, window: Window) -> Array:
    """Map inputs [B, H, W, C] and a cotangent of the outputs [B, H', W', F] to one of the kernel [h, w, C, F]."""
    has_no_stride = window.strides == (1, 1) and not _is_pointwise(window)
    is_large = window.outputs[0] * window.outputs[1] >= _MIN_IMAGE_PIXELS
    is_whole = jax.device_count() == 1  # of several devices, each would gather all images for a loop over them
    if inputs.shape[3] in _IMAGE_CHANNELS and is_large and is_whole and has_no_stride:
        return filter_gradient_by_image(inputs, outputs, window=window)
    if inputs.shape[3] < _MIN_PRODUCT_CHANNELS and has_no_stride:
        return filter_gradient_by_xla(inputs, outputs, window=window)
    rows = jnp.transpose(outputs.reshape(-1, outputs.shape[3]))  # once, not in each product
    if _is_pointwise(window):
        return jnp.transpose(_product(rows, _tap(inputs, 0, 0, window)))[None, None]
    padded = _pad(inputs, window.padding)
    height, width = window.kernel

    def product_of(tap: Array) -> Array:
        return _product(rows, _tap(padded, tap // width, tap % width, window))

    # One tap after the other, so that one shifted copy of the inputs is alive at a time.
    products = lax.map(product_of, jnp.arange(height * width)).reshape(height, width, outputs.shape[3], inputs.shape[3])
    return jnp.swapaxes(products, 2, 3)  # out here: XLA would turn a transposed product into the slow one


def filter_gradient_by_xla(inputs: Array, outputs: Array, *, window: Window) -> Array:
    """Compute the filter gradient without stride by XLA's convolution."""
    padding = tuple(
        (low, kernel - size + (n - 1) - low)
        for kernel, size, n, (low, _) in zip(window.kernel, window.inputs, window.outputs, window.padding, strict=True)
    )
    # Both transposes are explicit, so that the convolution has the fast layout inside loops too.
    channels_as_batch, outputs_as_kernel = jnp.transpose(inputs, (3, 1, 2, 0)), jnp.transpose(outputs, (1, 2, 0, 3))
    gradient = lax.conv_general_dilated(
        channels_as_batch, outputs_as_kernel, (1, 1), padding, dimension_numbers=_LAYOUT
    )
    return jnp.transpose(gradient, (1, 2, 0, 3))


def filter_gradient_by_image(inputs: Array, outputs: Array, *, window: Window) -> Array:
    """Compute the filter gradient without stride, image by image.

    All taps side by side make one product [F, H' W'] x [H' W', taps C] an image, wide enough for vector registers
    where C is small. A copy of one image for each tap stays in the processor's cache; copies of the batch would not.
    """
    (height, width), (down, across) = window.outputs, window.kernel
    channels, filters = inputs.shape[3], outputs.shape[3]
    accumulated = jnp.promote_types(inputs.dtype, jnp.float32)

    def add(total: Array, image: tuple[Array, Array]) -> tuple[Array, None]:
        padded, cotangent = image
        taps = [padded[i : i + height, j : j + width] for i in range(down) for j in range(across)]
        columns = jnp.concatenate(taps, axis=2).reshape(height * width, -1).astype(accumulated)
        rows = jnp.transpose(cotangent.reshape(height * width, filters)).astype(accumulated)
        return total + rows @ columns, None

    start = jnp.zeros((filters, down * across * channels), accumulated)
    total, _ = lax.scan(add, start, (_pad(inputs, window.padding), outputs))
    gradient = total.reshape(filters, down, across, channels).astype(inputs.dtype)
    return jnp.transpose(gradient, (1, 2, 3, 0))


def _pad(images: Array, padding: Pads) -> Array:
    """Add zeros around the two middle axes, or cut where a number is negative: a gradient of wide padding is cut."""
    middle = [(low, high, 0) for low, high in padding]
    return lax.pad(images, jnp.zeros((), images.dtype), ((0, 0, 0), *middle, (0, 0, 0)))


def _product(rows: Array, inputs: Array) -> Array:
    """Contract [F, B H' W'] with [B, H', W', C] to [F, C]; sums are kept in float32 at least."""
    columns = inputs.reshape(-1, inputs.shape[3])
    accumulated = jnp.promote_types(inputs.dtype, jnp.float32)  # XLA has no product of bfloat16 to float32 in a loop
    return (rows.astype(accumulated) @ columns.astype(accumulated)).astype(inputs.dtype)


def _tap(padded: Array, i: int | Array, j: int | Array, window: Window) -> Array:
    """Take the pixels [B, H', W', C] that one tap (i, j) of the kernel meets."""
    (height, width), (down, across) = window.outputs, window.strides
    size = (padded.shape[0], (height - 1) * down + 1, (width - 1) * across + 1, padded.shape[3])
    return lax.dynamic_slice(padded, (0, i, j, 0), size)[:, ::down, ::across]


def _is_pointwise(window: Window) -> bool:
    return window.kernel == (1, 1) and window.padding == ((0, 0), (0, 0))


def _primitive(name: str, function: Callable[..., Array], *, left_is_one_batch: bool) -> Primitive:
    """Make a bilinear map of two arrays a primitive.

    Args:
      left_is_one_batch: whether many left arguments with one right argument are the same as one larger batch.
    """
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(function, static_argnames="window"))

    def abstract(left, right, *, window):
        shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (left, right)]
        result = jax.eval_shape(functools.partial(function, window=window), *shapes)
        return ShapedArray(result.shape, result.dtype)

    def batch(arguments, axes, *, window):
        left, right = (
            argument if axis is None else jnp.moveaxis(argument, axis, 0)
            for argument, axis in zip(arguments, axes, strict=True)
        )
        if axes[1] is None and left_is_one_batch:
            result = primitive.bind(left.reshape(-1, *left.shape[2:]), right, window=window)
            return result.reshape(*left.shape[:2], *result.shape[1:]), 0
        # One after the other: together they would be one grouped convolution, which is slow.
        if axes[0] is None:
            return lax.map(lambda item: primitive.bind(left, item, window=window), right), 0
        if axes[1] is None:
            return lax.map(lambda item: primitive.bind(item, right, window=window), left), 0
        return lax.map(lambda both: primitive.bind(*both, window=window), (left, right)), 0

    primitive.def_abstract_eval(abstract)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
    return primitive


_forward = _primitive("convolve", _convolve_on_cpu, left_is_one_batch=True)
_input_gradient = _primitive("convolve_input_gradient", _input_gradient_on_cpu, left_is_one_batch=True)
_filter_gradient = _primitive("convolve_filter_gradient", _filter_gradient_on_cpu, left_is_one_batch=False)

# <outputs, forward(inputs, kernel)> = <input_gradient(outputs, kernel), inputs> = <filter_gradient(inputs, outputs),
# kernel>: a trilinear form, in which the transpose of each map in one argument is another map.
ad.defbilinear(
    _forward,
    lambda outputs, inputs, kernel, *, window: _input_gradient.bind(outputs, kernel, window=window),
    lambda outputs, inputs, kernel, *, window: _filter_gradient.bind(inputs, outputs, window=window),
)
ad.defbilinear(
    _input_gradient,
    lambda inputs, outputs, kernel, *, window: _forward.bind(inputs, kernel, window=window),
    lambda inputs, outputs, kernel, *, window: _filter_gradient.bind(inputs, outputs, window=window),
)
ad.defbilinear(
    _filter_gradient,
    lambda kernel, inputs, outputs, *, window: _input_gradient.bind(outputs, kernel, window=window),
    lambda kernel, inputs, outputs, *, window: _forward.bind(inputs, kernel, window=window),
)
