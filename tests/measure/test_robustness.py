"""Noisy and rounded weights against hand-computed numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import measure

PARAMS = {"kernel": jnp.array([[1.0, -0.3], [0.02, 0.1], [-0.5, 0.0]]), "bias": jnp.array([0.123, -0.456])}


def test_noise_is_relative_to_each_tensor_and_spares_pruned_weights():
    params = {"large": jnp.full((200, 50), 30.0), "small": jnp.full((10_000,), 1e-3)}
    mask = {"large": np.arange(50)[None] < 25, "small": np.True_}
    noisy = measure.noisy_weights(params, size=0.1, key=0, mask=mask)
    assert not np.any(noisy["large"][:, 25:])
    noise = noisy["large"][:, :25] - 30
    # The spread of 5,000 and 10,000 draws is known to 1 %.
    assert np.std(noise) == pytest.approx(3, rel=0.04)
    assert np.std(noisy["small"] - 1e-3) == pytest.approx(1e-4, rel=0.04)
    assert abs(np.corrcoef(noise.reshape(-1), noisy["small"][:5000])[0, 1]) < 0.06
    assert_allclose(measure.noisy_weights(params, size=0, key=0)["large"], params["large"])
    with pytest.raises(ValueError, match="size=-1: expected at least 0, relative to the weights"):
        measure.noisy_weights(params, size=-1, key=0)


@pytest.mark.parametrize(("per_channel", "largest"), [(False, [1, 1]), (True, [1, 0.3])])
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_rounded_to_evenly_spaced_numbers(bits, per_channel, largest):
    rounded = measure.rounded_weights(PARAMS, bits=bits, per_channel=per_channel)
    spacing = np.array(largest)[None] / (2 ** (bits - 1) - 1)
    counts = np.asarray(rounded["kernel"]) / spacing
    assert_allclose(counts, np.round(counts), atol=1e-4)
    assert np.all(np.abs(rounded["kernel"] - PARAMS["kernel"]) <= spacing / 2 + 1e-7)
    assert_allclose(rounded["bias"], PARAMS["bias"])
    turned = measure.rounded_weights(jax.tree.map(jnp.transpose, PARAMS), bits=bits, per_channel=per_channel, axis=0)
    assert_allclose(turned["kernel"].T, rounded["kernel"], rtol=1e-6)


def test_zeros_stay_and_one_bit_is_refused():
    zeros = {"kernel": jnp.zeros((2, 2))}
    assert not np.any(measure.rounded_weights(zeros, bits=4)["kernel"])
    with pytest.raises(ValueError, match="bits=1: expected at least 2"):
        measure.rounded_weights(zeros, bits=1)
