import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import measure

# A few eigenvalues far above the rest, as of a network.
VALUES = np.r_[[50.0, 30, -20, 10], np.linspace(-0.5, 1.5, 56)]
TRACE, NORM = VALUES.sum(), np.linalg.norm(VALUES)


def product(vector, matrix):
    return matrix @ vector


def test_no_bias_the_errors_are_as_stated_and_deflation_removes_noise(of_spectrum, float64):
    operator, spreads = of_spectrum(VALUES), {}
    for num_deflated in (0, 10):
        options = {"num_probes": 8, "num_deflated": num_deflated}
        keys = jax.random.split(jax.random.key(0), 60)
        both = zip(*(measure.trace_and_norm(operator, key=key, **options) for key in keys), strict=True)
        for estimates, truth in zip(both, (TRACE, NORM), strict=True):
            values, errors = (np.array([getattr(x, name) for x in estimates]) for name in ("value", "standard_error"))
            spread = spreads[truth, num_deflated] = np.std(values, ddof=1)
            assert abs(np.mean(values) - truth) < 4 * spread / 60**0.5
            # The spread of 60 values is known to 9 %, and the mean of their stated errors about as well.
            assert 0.75 < np.sqrt(np.mean(errors**2)) / spread < 1.3
            assert np.mean(np.abs(values - truth) < 2.4 * errors) > 0.8  # 95 % by t with 7 degrees of freedom
    assert spreads[TRACE, 0] > 0.5 * (2 / 8) ** 0.5 * NORM
    assert spreads[TRACE, 10] < 1.2 * (2 / 8) ** 0.5 * np.linalg.norm(VALUES[4:])


def test_the_norm_includes_the_coupling_out_of_the_space(of_spectrum, float64):
    """After two rows the coupling is a large part of the norm."""
    estimate = measure.frobenius_norm(of_spectrum(VALUES), key=jax.random.key(0), num_probes=600, num_deflated=2)
    assert abs(estimate.value - NORM) < 4 * estimate.standard_error
    assert estimate.standard_error < 0.02 * NORM


def test_exact_where_the_matrix_is_diagonal(float64):
    operator = measure.operator(lambda v, diagonal: diagonal * v, jnp.zeros(3), jnp.array([3.0, -1, 0.5]))
    for measured, truth in ((measure.trace, 2.5), (measure.frobenius_norm, 10.25**0.5)):
        estimate = measured(operator, key=jax.random.key(0), num_probes=2, num_deflated=0)
        assert_allclose(estimate.value, truth, rtol=1e-14)
        assert estimate.standard_error < 1e-15
        assert estimate.num_products == estimate.cost == 2


@pytest.mark.parametrize("values", [VALUES[:7], np.full(7, 2.0), np.zeros(7), np.array([4.0, 1, 0, 0, 0, 0, 0])])
def test_exact_where_the_space_is_everything(values, of_spectrum, float64):
    operator = of_spectrum(values)
    estimate = measure.trace(operator, key=jax.random.key(0))
    assert_allclose(estimate.value, values.sum(), atol=1e-12)
    assert (estimate.standard_error, estimate.num_products) == (0, 7)
    norm = measure.frobenius_norm(operator, key=jax.random.key(0))
    assert_allclose(norm.value, np.linalg.norm(values), atol=1e-12)
    assert norm.standard_error == 0


def test_network_agrees_with_its_dense_hessian(mlp):
    mask = [{"kernel": True, "bias": False}] * 3
    operator = measure.hessian_operator(mlp.problem(mask=mask))
    masked = [{"kernel": layer["kernel"], "bias": 0 * layer["bias"]} for layer in mlp.params]
    hessian = mlp._replace(params=masked).hessian()
    kept = np.concatenate([np.r_[np.zeros(layer["bias"].size), np.ones(layer["kernel"].size)] for layer in masked]) > 0
    dense = hessian[kept][:, kept]
    estimate = measure.trace(operator, key=jax.random.key(0), num_probes=100, num_deflated=0)
    assert abs(estimate.value - np.trace(dense)) < 4 * estimate.standard_error
    off_diagonal = dense - np.diag(np.diag(dense))
    assert_allclose(estimate.standard_error, (2 / 100) ** 0.5 * np.linalg.norm(off_diagonal), rtol=0.25)
    exact = measure.trace(operator, key=jax.random.key(0), num_deflated=79)
    assert_allclose(exact.value, np.trace(dense), rtol=1e-12)


@pytest.mark.parametrize("size", [1e-25, 1e20])
def test_single_precision_at_any_size(size, of_spectrum):
    operator = of_spectrum(size * VALUES, np.float32)
    for measured, truth in ((measure.trace, TRACE), (measure.frobenius_norm, np.linalg.norm(VALUES))):
        estimate = measured(operator, key=jax.random.key(0))
        assert abs(estimate.value / size - truth) < 4 * estimate.standard_error / size < truth / 4


def test_one_key_gives_one_result(of_spectrum, float64):
    operator = of_spectrum(VALUES)
    first, same, other = (measure.trace(operator, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert first == same
    assert first.value != other.value
    assert first.num_products == 35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 1}, "num_probes=1: expected at least 2; one probe has no standard error."),
        ({"num_deflated": -1}, "num_deflated=-1: expected at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    operator = measure.operator(product, jnp.zeros(3), jnp.eye(3))
    for measured in (measure.trace, measure.frobenius_norm):
        with pytest.raises(ValueError) as refused:
            measured(operator, key=jax.random.key(0), **options)
        assert message in str(refused.value)


def test_both_from_the_same_products_are_each_alone(of_spectrum, float64):
    operator = of_spectrum(np.linspace(-1, 3, 40))
    key = jax.random.key(2)
    estimates = measure.trace_and_norm(operator, key=key)
    assert estimates == (measure.trace(operator, key=key), measure.frobenius_norm(operator, key=key))
    assert estimates[0].num_products == estimates[1].num_products == 35
