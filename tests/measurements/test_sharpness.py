"""Sharpness against losses at independently computed points."""

import jax
import numpy as np
import pytest

from flatwide.measurements.sharpness import sharpness

RADIUS = 0.2


def test_sam_looks_along_the_gradient_and_no_point_of_the_ball_is_worse_than_the_worst(masked):
    measured = sharpness(masked.subject, key=jax.random.key(0), radius=RADIUS, batch_size=8)
    flat, slope = masked.flat, masked.gradient
    step = RADIUS * slope / np.linalg.norm(slope)
    rise = masked.loss(flat + step).mean() - masked.loss(flat).mean()
    assert measured.values["sam"] == pytest.approx(rise, rel=1e-4)
    draw = np.random.default_rng(0).normal(size=(50, len(flat))) * masked.kept
    draw = 3 * draw / np.linalg.norm(draw, axis=1)[:, None] + 10 * slope / np.linalg.norm(slope)
    draw *= RADIUS / np.linalg.norm(draw, axis=1)[:, None]
    rises = [masked.loss(flat + step).mean() - masked.loss(flat).mean() for step in draw]
    assert 0 < max(rises) < measured.values["worst"] + 1e-6
    assert measured.values["sam"] <= measured.values["worst"]
    # Each batch of 8 has a separate point, which is worse for it than a common one.
    assert measured.values["worst"] < measured.values["m_worst"]
    assert measured.values["worst_gap"] < 0.01 * measured.values["worst"]


def test_the_radius_is_not_the_runs_rho(masked, small):
    sgd, sam = (sharpness(small(pruner="random", sparsity=0.5, rho=rho), key=jax.random.key(0)) for rho in (0.0, 0.3))
    assert sgd.values == sam.values
    assert sgd.values["worst"] < 0.5 * sharpness(masked.subject, key=jax.random.key(0), radius=0.2).values["worst"]
