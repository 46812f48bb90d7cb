"""The mean of a few seeds, against SciPy and against what it promises."""

import math

import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.analysis import intervals


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_agrees_with_scipy(n, level):
    values = np.random.default_rng(n).normal(3, 2, n)
    interval = intervals.mean(values, level=level)
    error = scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(level, n - 1, loc=values.mean(), scale=error)
    assert_allclose(interval, (values.mean(), error, low, high), rtol=1e-12)


def test_by_hand():
    interval = intervals.mean([1, 2, 3])  # s = 1; t for 2 degrees of freedom is 4.302653
    assert_allclose(
        interval, (2, 1 / math.sqrt(3), 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rtol=1e-6
    )


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert intervals.mean([0.5])[0] == 0.5
    assert np.isnan(intervals.mean([0.5])[1:]).all()
    assert np.isnan(intervals.mean([])).all()


def test_the_interval_covers_as_often_as_it_says():
    generator, num = np.random.default_rng(0), 4000
    covered = [low <= 1 <= high for *_, low, high in (intervals.mean(generator.normal(1, 1, 3)) for _ in range(num))]
    assert abs(np.mean(covered) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / num)
