"""How noisy each width is: against least squares, and on made-up runs whose noise is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.analysis import best_sets, noise, widths


def width(gains, *, num_params=10):
    """Make a width whose base is 0 and whose SAM runs have these gains, [seeds, rhos]."""
    gains = np.asarray(gains, dtype=float)
    num_seeds, num_rhos = gains.shape
    values = np.column_stack([np.zeros(num_seeds), gains])
    return widths.Width(
        value=num_params,
        num_params=num_params,
        seeds=tuple(range(num_seeds)),
        rhos=tuple(0.1 * (1 + position) for position in range(num_rhos)),
        values=values,
        choices=values,
        candidates=tuple(range(num_rhos)),
        short=(),
        num_diverged=0,
        sign=1,
    )


def test_the_rest_is_that_of_least_squares():
    gains = np.random.default_rng(0).normal(size=(4, 6))
    counted = np.array([True, True, False, True, True, False])
    result = noise.anova(gains[None], counted[None])
    counted_gains = gains[:, counted]
    design = np.array([[*np.eye(4)[seed], *np.eye(4)[rho]] for seed in range(4) for rho in range(4)])
    rest = counted_gains.ravel() - design @ np.linalg.lstsq(design, counted_gains.ravel(), rcond=None)[0]
    assert (result.degrees[0], result.num_rhos[0]) == (9, 4)
    assert_allclose(result.residual, rest @ rest / 9)
    assert_allclose(result.seeds, 4 * counted_gains.mean(axis=1).var(ddof=1))


@pytest.mark.parametrize("ratio", [0.0, 0.5, 9.0])
def test_the_ratio_of_the_noises_is_recovered(ratio):
    generator = np.random.default_rng(1)
    gains = generator.normal(size=(400, 4, 5, 6)) - np.sqrt(ratio) * generator.normal(size=(400, 4, 5, 1))
    result = noise.anova(gains.reshape(-1, 5, 6), np.ones((1600, 6), bool))
    pooled = noise.variance_ratio(noise.Anova(*(field.reshape(1, -1) for field in result)))
    assert pooled[0] == pytest.approx(ratio, abs=0.05 + 0.05 * ratio)


def test_a_radius_far_behind_changes_no_ratio():
    gains = np.random.default_rng(2).normal(size=(5, 4))
    far = np.column_stack([gains, -90 + 20 * np.random.default_rng(3).normal(size=5)])
    assert noise.ratio_of_widths([width(gains)]) == pytest.approx(noise.ratio_of_widths([width(far)]), rel=1e-12)


def test_a_radius_that_collapses_for_some_seeds_does_not_hide_how_quiet_the_others_are():
    choices = np.random.default_rng(4).normal(size=(1, 8, 5))
    choices[0, :, 0] -= 3  # behind, and as quiet as the others
    choices[0, ::3, 4] -= 80
    is_best = best_sets.best_set(choices)
    assert not is_best[0, [0, 4]].any()
    assert_array_equal(noise.informative(choices, is_best)[0], [True, True, True, True, False])


def test_weights_are_inverse_mean_squares_and_few_radii_are_drawn_to_the_mean():
    residual = np.array([4.0, 1.0, 1.0])
    many = noise.Anova(residual=residual, seeds=residual, degrees=np.array([12, 12, 12]), num_rhos=np.array([4, 4, 4]))
    assert_allclose(noise.weights(many, 5), 1 / residual)
    few = many._replace(degrees=np.array([4, 12, 0]))
    mean = np.log(4) / 2  # over the two widths that have a spread
    assert_allclose(noise.weights(few, 5), np.exp([-(np.log(4) + 2 * mean) / 3, 0, -mean]))
    one_rho = many._replace(degrees=np.zeros(3))
    assert np.ptp(noise.weights(one_rho, 5)) == 0


def test_a_width_without_two_seeds_has_the_mean_weight():
    generator = np.random.default_rng(5)
    cells = [width(generator.normal(size=(seeds, 5))) for seeds in (5, 1, 5)]
    result = noise.weights_of_widths(cells)
    assert result[1] == pytest.approx(np.sqrt(result[0] * result[2]))
    assert noise.ratio_of_widths([]) == 1


def test_a_width_at_which_sam_is_nearly_always_right_does_not_decide_the_ratio():
    ordinary = noise.Anova(
        residual=np.ones(4), seeds=np.full(4, 2.1), degrees=np.full(4, 70.0), num_rhos=np.full(4, 11)
    )
    saturated = noise.Anova(
        residual=np.append(ordinary.residual, 1e-4),
        seeds=np.append(ordinary.seeds, 1.0),
        degrees=np.append(ordinary.degrees, 70.0),
        num_rhos=np.append(ordinary.num_rhos, 11),
    )
    assert noise.variance_ratio(saturated) == noise.variance_ratio(ordinary)
