"""Whether the gain grows: shapes that a slope alone takes for growth, and how often each verdict is wrong."""

import numpy as np
import pytest

from flatwide.analysis import estimates, trend, verdict

SIZES = (10, 100, 1000, 10_000, 100_000)


def scores(truth, *, num_seeds=5, noise=0.1, seed=0):
    truth = np.asarray(truth, dtype=float)
    wiggle = np.random.default_rng(seed).normal(size=(len(truth), num_seeds))
    values = truth[:, None] + np.broadcast_to(noise, len(truth))[:, None] * wiggle
    return estimates.plain(values, SIZES[: len(truth)], range(num_seeds))


@pytest.mark.parametrize(
    ("truth", "kind", "rests_on"),
    [
        ((0, 1, 2, 3, 4), verdict.GROWS, ()),
        ((4, 3, 2, 1, 0), verdict.SHRINKS, ()),
        ((0, 0, 0, 3, 0), verdict.PEAKS, ()),
        ((0, 2, 4, 2, 0), verdict.PEAKS, ()),
        ((-9, 0, 0, 0, 0), verdict.LARGER, (10,)),
        ((0, 0, 0, 0, 9), verdict.LARGER, (100_000,)),
        ((0, 0, 0, 0, -9), verdict.SMALLER, (100_000,)),
        ((1, -1, 1, -1, 1), verdict.NO_TREND, ()),
        ((0, 4), verdict.GROWS, ()),
    ],
)
def test_each_shape_has_its_verdict(truth, kind, rests_on):
    decision = verdict.verdict(scores(truth))
    assert (decision.kind, decision.rests_on) == (kind, rests_on)


def test_a_peak_has_the_widths_that_are_indistinguishable_from_it():
    decision = verdict.verdict(scores((0, 4, 4, 1, 0)))
    assert (decision.peak in (100, 1000), decision.peaks_at) == (True, (100, 1000))


def test_a_slope_without_a_rise_is_no_growth():
    """The two smaller widths are noisy in a way that the slope does not see and the rise does."""
    decision = scores((0, 1, 2, 3))
    unseen = np.array([-4, 3, -3, 4, 0.5])
    decision = estimates.plain(decision.values + np.outer([1, -3, 0, 0], unseen), decision.num_params, decision.seeds)
    decision = decision._replace(variances=np.full(4, 0.01))  # apart, so that only the seeds show it
    assert trend.slope(decision).low > 0
    assert trend.rise(decision).low < 0
    assert verdict.verdict(decision).kind == verdict.NO_TREND


def test_the_rise_is_over_the_smaller_half():
    decision = scores((1, 3, 0, 0, 10), noise=0)
    assert trend.rise(decision).value == pytest.approx(10 - 2)


@pytest.mark.parametrize("num_seeds", [0, 1])
def test_too_few_seeds_or_widths_tell_nothing(num_seeds):
    assert verdict.verdict(scores((0, 1, 2), num_seeds=num_seeds)).kind == verdict.UNKNOWN
    assert verdict.verdict(scores((0,))).kind == verdict.UNKNOWN
    assert verdict.Verdict().direction is None


def test_seeds_that_agree_to_the_last_digit_are_no_certainty():
    assert not verdict.verdict(scores((0, 1, 2, 3, 4), noise=0)).is_certain
    assert verdict.verdict(scores((0, 1, 2, 3, 4))).is_certain
    assert not verdict.verdict(scores((0, 1, 2, 3, 4), num_seeds=2)).is_certain


def test_the_p_value_and_the_interval_agree():
    decision = scores((0, 0.3, 0.2, 0.5, 0.6), noise=0.4)
    p_value = verdict.verdict(decision).p_value
    ends = [
        min(trend.slope(decision, level=level).low, trend.rise(decision, level=level).low)
        for level in (1 - 1.001 * p_value, 1 - 0.999 * p_value)
    ]
    assert ends[0] > 0 > ends[1]


def test_on_noise_a_trend_is_seen_as_rarely_as_it_should():
    given = [verdict.verdict(scores(np.zeros(5), seed=seed)).kind for seed in range(400)]
    assert np.mean([kind in (verdict.GROWS, verdict.LARGER) for kind in given]) < 0.025 + 3 * np.sqrt(0.025 / 400)
    assert given.count(verdict.NO_TREND) > 0.9 * 400
