"""Advice for a width that was not trained, on tables whose optimum is known."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import advice, convert, table

SIZES = (1_000, 4_000, 16_000, 64_000)
RHOS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)


def made(*, exponent, gain=0.1, noise=0.002, seeds=6, rates=(), rhos=RHOS, sizes=SIZES):
    """Make runs whose metric is a parabola in log(rho), best at 0.04 (size / 1,000)^exponent; the rate's at 0.1."""
    generator = np.random.default_rng(7)
    rows = []
    for size in sizes:
        best = 0.04 * (size / 1_000) ** exponent
        for rate in rates or (0.1,):
            for rho in (0.0, *rhos):
                for seed in range(seeds):
                    lift = gain - 0.02 * math.log(rho / best) ** 2 if rho else 0.0
                    value = 0.6 + lift - 0.02 * math.log(rate / 0.1) ** 2 + noise * generator.standard_normal()
                    row = {"num_params": size, "rho": rho, "seed": seed, "test_metric": value}
                    rows.append(row | ({"learning_rate": rate} if rates else {}))
    return convert.from_columns(pd.DataFrame(rows), metric_name="accuracy")


def advise(runs, num_params):
    (part,) = advice.parts(*table.split(runs).domains)
    return advice.advise(part, num_params=num_params)


def test_a_power_law_is_recovered_and_tried():
    advice_given = advise(made(exponent=0.5), 256_000)
    assert advice_given.rule == advice.POWER_LAW
    (rho,) = advice_given.values
    assert abs(rho.exponent - 0.5) < 2 * rho.exponent_error
    assert rho.low < 0.04 * 16 < rho.high
    assert rho.low < rho.value < rho.high
    carried, law = advice_given.regrets[advice.CARRIED], advice_given.regrets[advice.POWER_LAW]
    assert math.isnan(law.value)  # the optimum of the width that was left out
    # Half the optimum is a factor of 2 off: 0.02 log(2)^2 of accuracy.
    assert carried.low < 0.02 * math.log(2) ** 2 < carried.high
    assert carried.low > 0
    assert advice_given.tried_at == 64_000


def test_where_the_optimum_stands_still_it_is_carried_over():
    advice_given = advise(made(exponent=0.0), 256_000)
    assert advice_given.rule == advice.CARRIED
    (rho,) = advice_given.values
    assert (rho.low, rho.value, rho.high) == pytest.approx((0.04 / math.sqrt(2), 0.04, 0.04 * math.sqrt(2)))
    assert math.isnan(advice_given.regrets[advice.CARRIED].value)
    assert advice_given.measured_gain.low < 0.1 < advice_given.measured_gain.high
    assert advice_given.expected_gain.low < 0.1 < advice_given.expected_gain.high


@pytest.mark.parametrize("rhos", [(0.0125, 0.025, 0.05, 0.1), (0.015, 0.03, 0.06, 0.12), (0.04, 0.08, 0.16)])
def test_an_optimum_between_two_values_of_the_grid_is_in_the_interval(rhos):
    """And at the end of the grid, nothing is known of what lies beyond it."""
    (part,) = advice.parts(*table.split(made(exponent=0.0, rhos=rhos, noise=0.0002)).domains)
    (rho,) = advice.advise(part, num_params=SIZES[-1]).values
    assert rho.low <= 0.04 <= rho.high < 2 * rho.low * (1 + 1e-9)
    assert (rho.low == 0.04) == (rhos[0] == 0.04)


def test_the_learning_rate_is_advised_with_rho():
    advice_given = advise(made(exponent=0.5, rates=(0.03, 0.1, 0.3)), 256_000)
    assert {value.field for value in advice_given.values} == {"rho", "learning_rate"}
    (rate,) = [value for value in advice_given.values if value.field == "learning_rate"]
    assert rate.low < 0.1 < rate.high
    assert abs(rate.exponent) < 2 * rate.exponent_error


def test_a_width_that_was_measured_has_its_own():
    advice_given = advise(made(exponent=0.5), 16_000)
    assert advice_given.rule == advice.MEASURED
    assert [value.value for value in advice_given.values] == [0.16]


def test_harm_is_advised_against():
    advice_given = advise(made(exponent=0.0, gain=-0.1), 256_000)
    assert (advice_given.rule, advice_given.values[0].value) == (advice.BASE, 0.0)


@pytest.mark.parametrize(
    ("runs", "num_params", "reason"),
    [
        ({"sizes": SIZES[:2]}, 16_000, r"2 width\(s\) have base and SAM runs of 2 seeds; expected 3"),
        ({"seeds": 1}, 256_000, r"no width has completed base and SAM runs of 2 seeds"),
        ({}, 10**7, r"lie a factor of 156 outside the measured widths, which span only a factor of 64"),
        (
            {"rhos": RHOS[:4]},
            256_000,
            r"best rho at 64,000 parameters, 0.08, is the largest tried there",
        ),
    ],
)
def test_it_refuses_where_the_data_cannot_say(runs, num_params, reason):
    advice_given = advise(made(exponent=0.5, **runs), num_params)
    assert advice_given.values == ()
    assert re.search(reason, advice_given.refusal), advice_given.refusal


def test_it_refuses_where_its_rules_failed_at_the_largest_width():
    options = {"gain": 0.03, "rhos": (*RHOS, 1.28, 2.56)}
    still, jumped = made(exponent=0.0, sizes=SIZES[:3], **options), made(exponent=1.0, sizes=SIZES[3:], **options)
    advice_given = advise(pd.concat([still, jumped], ignore_index=True), 256_000)
    assert advice_given.refusal.endswith("the better of the two rules lost more than half of the gain of SAM")
    assert all(regret.low > 0 for regret in advice_given.regrets.values())


@pytest.mark.slow
def test_the_interval_of_a_power_law_covers():
    covered = 0
    for seed in range(30):
        generator = np.random.default_rng(seed)
        jitter = made(exponent=0.4, noise=0.01)
        jitter["test_metric"] += 0.01 * generator.standard_normal(len(jitter))
        advice_given = advise(jitter, 256_000)
        values = [value for value in advice_given.values if advice_given.rule == advice.POWER_LAW]
        covered += not values or values[0].low <= 0.04 * 256**0.4 <= values[0].high
    assert covered >= 26


def test_an_optimum_that_moves_to_the_end_of_the_grid_is_only_bounded():
    given = advise(made(exponent=0.4, rhos=RHOS[:6]), 256_000)  # the best rho of 0.04 x 256^0.4 = 0.37 is not tried
    (rho,) = given.values
    assert rho.low < 0.04 * 256**0.4 < rho.high == math.inf
    assert rho.text.startswith(f"rho at least {rho.low:.3g} (the best one moves to the end of the values tried")
