"""What is done to images on the device, inside the compiled step."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flatwide.types import Array, Batch

PADDING = 4  # pixels on each side before a random crop, as in the authors' code and in He et al. (2016), section 4.2


def to_float(images: Array, *, largest: float) -> Array:
    """Divide integer pixels by `largest`, in the default float type; floats are taken as they are."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    return images.astype(jax.dtypes.canonicalize_dtype(float)) / largest


def normalize(images: Array, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """Bring integer pixels [B, H, W, C] to (pixel / 255 - mean) / std of each channel; floats are taken as they are."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    scaled = to_float(images, largest=255)
    middle, width = (jnp.asarray(value, scaled.dtype).reshape(1, 1, 1, -1) for value in (mean, std))
    return (scaled - middle) / width


def crop_and_flip(images: Array, key: Array, *, black: Array) -> Array:
    """Mirror every other image, and cut each at a random position of its padded image.

    Args:
      images: [B, H, W, C].
      key: PRNG key; each image has its own shift and flip.
      black: [C], what the padding consists of.
    Returns: [B, H, W, C]: flipped horizontally with probability 1/2, padded by 4, cropped to H x W.
    Cost: 0.5 ms of one CPU core for 128 images of 32 x 32. Flipping what was cut instead, which is the same
      distribution, is not fused and takes ten times as long; a gather pixel by pixel takes three times as long.
    """
    num_images, height, width, num_channels = images.shape
    shift_key, flip_key = jax.random.split(key)
    starts = jax.random.randint(shift_key, (num_images, 2), 0, 2 * PADDING + 1)
    is_flipped = jax.random.bernoulli(flip_key, shape=(num_images, 1, 1, 1))
    images = jnp.where(is_flipped, images[:, :, ::-1], images)
    canvas = jnp.broadcast_to(
        black.astype(images.dtype), (num_images, height + 2 * PADDING, width + 2 * PADDING, num_channels)
    )
    canvas = jax.lax.dynamic_update_slice(canvas, images, (0, PADDING, PADDING, 0))

    def cut(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), (height, width, num_channels))

    return jax.vmap(cut)(canvas, starts)


@functools.cache
def scaling(*, largest: float) -> Callable[..., Batch]:
    """Make the `prepare` of a data set whose pixels are only scaled to [0, 1]."""

    def prepare(batch: Batch, key: Array | None, *, train: bool) -> Batch:
        return {**batch, "inputs": to_float(batch["inputs"], largest=largest)}

    return prepare


# Cached, so that equal arguments give the same function, and with it the same compiled program.
@functools.cache
def standardizing(*, mean: tuple[float, ...], std: tuple[float, ...], augment: bool) -> Callable[..., Batch]:
    """Make the `prepare` of a data set of colour images: normalize and, in training, crop and flip."""

    def prepare(batch: Batch, key: Array | None, *, train: bool) -> Batch:
        images = batch["inputs"]
        if augment and train:
            if key is None:
                raise ValueError("key=None: expected a PRNG key, since training images are cropped at random.")
            if jnp.issubdtype(images.dtype, jnp.floating):  # normalized already, so black is not 0
                black = -jnp.asarray(mean, images.dtype) / jnp.asarray(std, images.dtype)
            else:
                black = jnp.zeros(len(mean), images.dtype)
            images = crop_and_flip(images, key, black=black)
        return {**batch, "inputs": normalize(images, mean=mean, std=std)}

    return prepare
