"""The moments of single examples' Hessians against dense matrices."""

import jax
import numpy as np
import pytest

from flatwide.measurements.moments import moments


def test_they_are_those_of_the_dense_hessians_of_the_kept_weights(masked):
    values = moments(masked.subject, key=jax.random.key(0)).values
    for order in (2, 3, 4):
        powers = np.mean([np.linalg.matrix_power(hessian, order) for hessian in masked.hessians], axis=0)
        eigenvalues = np.linalg.eigvalsh(powers - np.linalg.matrix_power(masked.mean, order))
        assert eigenvalues[-1] > abs(eigenvalues[0])
        assert values[f"s_{order}"] == pytest.approx(eigenvalues[-1] ** (1 / order), rel=1e-3)
        assert values[f"smallest_{order}"] == pytest.approx(eigenvalues[0] / eigenvalues[-1], abs=0.02)
        assert values[f"residual_{order}"] < 1e-3
