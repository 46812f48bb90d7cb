"""What is done to images on the device, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.data import pixels

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)


def batch_of(shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return {"inputs": images, "targets": np.arange(shape[0])}


def cut_of(image: np.ndarray, top: int, left: int, *, is_flipped: bool) -> np.ndarray:
    """Pad, crop and flip one image with NumPy."""
    padded = np.pad(image[:, ::-1] if is_flipped else image, ((4, 4), (4, 4), (0, 0)))
    return padded[top : top + image.shape[0], left : left + image.shape[1]]


def which_cut(image: np.ndarray, cut: np.ndarray) -> tuple[int, int, bool]:
    """Find the one shift and flip that make a cut of an image."""
    matches = [
        (top, left, is_flipped)
        for top in range(9)
        for left in range(9)
        for is_flipped in (False, True)
        if np.array_equal(cut_of(image, top, left, is_flipped=is_flipped), cut)
    ]
    assert len(matches) == 1
    return matches[0]


def test_integers_are_scaled_and_floats_are_not():
    prepare = pixels.scaling(largest=255)
    batch = batch_of((3, 4, 4, 1))
    prepared = prepare(batch, None, train=True)
    assert_allclose(prepared["inputs"], batch["inputs"] / 255.0, rtol=1e-6)  # float32
    assert prepared["inputs"].dtype == jnp.float32
    assert_array_equal(prepared["targets"], batch["targets"])
    ready = jnp.full((3, 4, 4, 1), 300.0, jnp.bfloat16)
    assert prepare({"inputs": ready}, None, train=False)["inputs"] is ready


@pytest.mark.usefixtures("float64")
def test_pixels_are_64_bits_wide_in_64_bit_mode():
    batch = batch_of((3, 4, 4, 3))
    scaled = pixels.scaling(largest=16)(batch, None, train=True)["inputs"]
    assert scaled.dtype == jnp.float64
    assert_allclose(scaled, batch["inputs"] / 16, rtol=1e-15)
    normal = pixels.standardizing(mean=MEAN, std=STD, augment=False)(batch, None, train=True)["inputs"]
    assert normal.dtype == jnp.float64
    assert_allclose(normal, (batch["inputs"] / 255 - np.array(MEAN)) / np.array(STD), rtol=1e-14, atol=1e-15)


def test_every_cut_is_a_flip_and_a_window_of_the_padded_image():
    images = batch_of((64, 12, 10, 3))["inputs"]
    cuts = np.asarray(pixels.crop_and_flip(jnp.asarray(images), jax.random.key(0), black=jnp.zeros(3)))
    assert cuts.dtype == np.uint8
    chosen = [which_cut(image, cut) for image, cut in zip(images, cuts, strict=True)]
    assert len(set(chosen)) > 30  # each image has its own


def test_shifts_and_flips_are_uniform():
    # 8,100 images: 100 expected at each of 81 shifts, standard deviation 10; 4,050 flipped, standard deviation 45.
    image = batch_of((1, 9, 9, 1))["inputs"][0]
    images = jnp.broadcast_to(image, (8100, 9, 9, 1))
    cuts = np.asarray(pixels.crop_and_flip(images, jax.random.key(1), black=jnp.zeros(1)))
    kinds, number_of_kind = np.unique(cuts.reshape(8100, -1), axis=0, return_inverse=True)
    counts = np.bincount(number_of_kind.reshape(-1))
    chosen = [which_cut(image, kind.reshape(9, 9, 1)) for kind in kinds]
    by_shift = np.zeros((9, 9))
    for (top, left, _), count in zip(chosen, counts, strict=True):
        by_shift[top, left] += count
    assert np.abs(by_shift - 100).max() < 45
    flipped = sum(count for (_, _, is_flipped), count in zip(chosen, counts, strict=True) if is_flipped)
    assert abs(flipped - 4050) < 4 * 45


def test_padding_is_black_before_it_is_normalized():
    prepare = pixels.standardizing(mean=MEAN, std=STD, augment=True)
    white = {"inputs": np.full((50, 8, 8, 3), 255, np.uint8)}
    colours = np.asarray(prepare(white, jax.random.key(0), train=True)["inputs"]).reshape(-1, 3)
    black, bright = -np.array(MEAN) / np.array(STD), (1 - np.array(MEAN)) / np.array(STD)
    is_black = np.isclose(colours, black, rtol=1e-5).all(axis=1)
    assert 0 < is_black.mean() < 1
    assert_allclose(colours[~is_black], np.broadcast_to(bright, (np.sum(~is_black), 3)), rtol=1e-5)


def test_images_normalized_ahead_are_cut_alike():
    prepare = jax.jit(pixels.standardizing(mean=MEAN, std=STD, augment=True), static_argnames="train")
    batch = batch_of((16, 8, 8, 3))
    ahead = prepare(batch, None, train=False)
    cut = prepare(ahead, jax.random.key(0), train=True)
    assert_allclose(cut["inputs"], prepare(batch, jax.random.key(0), train=True)["inputs"], rtol=1e-6, atol=1e-6)


def test_augmentation_is_for_training_and_can_be_off():
    batch = batch_of((16, 8, 8, 3))
    augmented = pixels.standardizing(mean=MEAN, std=STD, augment=True)
    plain = pixels.standardizing(mean=MEAN, std=STD, augment=False)
    untouched = plain(batch, None, train=False)["inputs"]
    assert_array_equal(plain(batch, jax.random.key(0), train=True)["inputs"], untouched)
    assert_array_equal(augmented(batch, None, train=False)["inputs"], untouched)
    assert (augmented(batch, jax.random.key(0), train=True)["inputs"] != untouched).any()


def test_augmentation_needs_a_key():
    with pytest.raises(ValueError, match="key=None: expected a PRNG key"):
        pixels.standardizing(mean=MEAN, std=STD, augment=True)(batch_of((2, 8, 8, 3)), None, train=True)


def test_equal_preparations_are_one_function():
    # A compiled program is found again by the function it was made from.
    assert pixels.scaling(largest=255) is pixels.scaling(largest=255)
    assert pixels.scaling(largest=255) is not pixels.scaling(largest=16)
    first, again, other = (pixels.standardizing(mean=MEAN, std=STD, augment=on) for on in (True, True, False))
    assert first is again
    assert first is not other
