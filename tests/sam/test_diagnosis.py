"""The rise of a loss by SAM's ascent, on losses whose rise is known."""

import jax.numpy as jnp
import pytest

from flatwide import sam

PARAMS = {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([4.0])}


def loss(params, batch=1.0):
    """Return 10 + batch |w|^2 / 2, whose gradient is batch w: |w| = 5."""
    return 10 + batch * (jnp.sum(params["kernel"] ** 2) + jnp.sum(params["bias"] ** 2)) / 2


def test_the_rise_is_that_of_a_step_of_length_rho_along_the_gradient():
    found = sam.diagnose(loss, PARAMS, 2.0, rho=0.5)
    assert found.loss == pytest.approx(10 + 25)
    assert found.loss_rise == pytest.approx(5.5**2 - 5**2, rel=1e-5)
    assert found.relative_rise == pytest.approx((5.5**2 - 5**2) / 35, rel=1e-5)
    assert found.perturbation_norm == pytest.approx(0.5, rel=1e-6)
    assert found.scale == ""
    assert found.rho_to_try == 0.5
    assert sam.diagnose(loss, PARAMS, rho=0.5).loss == pytest.approx(22.5)  # a loss without a batch


@pytest.mark.parametrize(("rho", "scale", "end"), [(0.001, "low", 0), (4.0, "high", 1)])
def test_a_radius_off_the_scale_is_told_with_one_at_the_end_of_the_range(rho, scale, end):
    found = sam.diagnose(loss, PARAMS, rho=rho)
    assert found.scale == scale
    assert found.rho_to_try == pytest.approx(rho * sam.WORKING_RISES[end] / found.relative_rise)
    assert sam.diagnose(loss, PARAMS, rho=found.rho_to_try).relative_rise < 3 * sam.WORKING_RISES[1]


def test_the_rule_and_losses_without_a_number_count():
    unnormalized = sam.diagnose(loss, PARAMS, rho=0.1, rule=sam.unnormalized)
    assert unnormalized.perturbation_norm == pytest.approx(0.5)
    edge = sam.diagnose(lambda params: 1 - jnp.log(params["w"]), {"w": jnp.array(0.5)}, rho=1.0)
    assert (edge.relative_rise, edge.scale) == (float("inf"), "high")


@pytest.mark.parametrize("rho", [0.0, -1.0, float("inf"), "0.1"])
def test_a_radius_that_is_none_is_refused(rho):
    with pytest.raises(ValueError, match=r"^rho=.*: expected a finite number > 0\.$"):
        sam.diagnose(loss, PARAMS, rho=rho)


def test_a_loss_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"^loss 0: expected a finite number > 0"):
        sam.diagnose(lambda params: 0 * params["bias"][0], PARAMS, rho=0.1)
