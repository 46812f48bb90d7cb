"""The Hessian's ends, trace and norm, against the dense Hessian of a small masked network."""

import jax
import numpy as np
import pytest

from flatwide.measurements.curvature import curvature


@pytest.mark.parametrize("is_masked", [pytest.param(False, marks=pytest.mark.slow), True])
def test_eigenvalues_are_those_of_the_dense_hessian(small, masked, with_hessians, is_masked):
    network = masked if is_masked else with_hessians(small())
    measured = curvature(network.subject, key=jax.random.key(0), batch_size=8)  # the last batch is smaller
    values = np.linalg.eigvalsh(network.mean)
    names = ["top_eigenvalue", "eigenvalue_2", "eigenvalue_3", "eigenvalue_4", "eigenvalue_5"]
    tolerance = 1e-3 * values[-1]  # residuals of 1e-4, and float32
    np.testing.assert_allclose([measured.values[name] for name in names], values[:-6:-1], atol=tolerance)
    assert measured.values["smallest_eigenvalue"] == pytest.approx(values[0], abs=tolerance)
    assert 0 < measured.values["largest_residual"] < tolerance
    # The gaps are within the tolerance of 1e-4, and the sign of the smallest is that of the dense Hessian.
    assert 0 <= measured.values["top_hidden_gap"] <= 1.01e-4 * values[-1]
    assert 0 <= measured.values["smallest_hidden_gap"] <= 1.01e-4 * values[-1]
    if abs(values[0]) > 1e-4 * values[-1]:
        assert measured.values["is_saddle"] == (values[0] < 0)
    else:
        assert values[0] >= measured.values["smallest_eigenvalue"] - measured.values["smallest_hidden_gap"]
    for name, truth in (("trace", values.sum()), ("frobenius_norm", np.sqrt(np.sum(values**2)))):
        assert abs(measured.values[name] - truth) < 4 * measured.errors[name] + tolerance
        assert measured.errors[name] < 0.1 * truth
    assert measured.cost >= 60  # 35 for both estimates, the rest for both ends
