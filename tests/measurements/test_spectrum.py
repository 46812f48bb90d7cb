"""The spectral density against the eigenvalues of the dense Hessian."""

import jax
import numpy as np

from flatwide.measurements.spectrum import spectrum


def test_density_and_shares_are_those_of_the_eigenvalues(masked):
    measured = spectrum(masked.subject, key=jax.random.key(0), num_probes=20, batch_size=8)
    values = np.linalg.eigvalsh(masked.mean)
    grid, density, error = (measured.arrays[name] for name in ("grid", "density", "density_error"))
    width = measured.values["width"]
    assert width < 0.05 * np.ptp(values)
    truth = np.exp(-(((grid[:, None] - values[None]) / width) ** 2) / 2).mean(axis=1) / (width * np.sqrt(2 * np.pi))
    # Between the nodes of different probes the density is not resolved, so its integral is compared.
    step = grid[1] - grid[0]
    assert np.max(np.abs(np.cumsum(density - truth))) * step < 5 * np.max(measured.errors["positive_share"]) + 0.01
    assert abs(np.sum(density) * step - 1) < 1e-4
    assert error.shape == grid.shape
    shares = {"negative_share": np.mean(values < -width), "positive_share": np.mean(values > width)}
    for name, share in shares.items():
        assert abs(measured.values[name] - share) < 4 * measured.errors[name] + 0.01
    assert shares["positive_share"] > 0.05
    assert 20 * 45 < measured.cost <= 20 * 50  # a probe may end early
