"""The limits of the looks, against Student's t and against the paths of t tests."""

import numpy as np
import pytest
from scipy import stats

from flatwide.decide.limits import LOOKS, levels


def limits(error):
    return [stats.t.isf((1 - level) / 2, n - 1) for level, n in zip(levels(error), LOOKS, strict=True)]


@pytest.mark.parametrize("error", [0.05, 0.01])
def test_the_first_look_spends_its_share_of_the_error_rate(error):
    assert limits(error)[0] == pytest.approx(stats.t.isf(error * (5 / 27) ** 1.5 / 2, 4), rel=0.02)


def test_paths_of_t_leave_the_limits_as_often_as_the_spending_function_says():
    generator, num_paths = np.random.default_rng(5), 40_000
    scores, left = generator.normal(size=(num_paths, LOOKS[-1])), np.zeros(num_paths, dtype=bool)
    for n, limit in zip(LOOKS, limits(0.05), strict=True):
        left |= np.abs(stats.ttest_1samp(scores[:, :n], 0, axis=1).statistic) > limit
        spent = 0.05 * (n / 27) ** 1.5
        assert left.mean() == pytest.approx(spent, abs=4 * np.sqrt(spent / num_paths))
