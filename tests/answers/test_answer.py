"""The wording of the answer: no stronger than its numbers, and with readable units."""

import re

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import estimates
from flatwide.analysis import table as results
from flatwide.answers import answer

SIZES = (100, 1000, 10_000)


def long_table(values, *, widths=SIZES, **more):
    """Lay out [widths, seeds, 1 + rhos] as a results table."""
    rows = [
        {"num_params": width, "rho": 0.1 * k, "seed": seed, "test_metric": value, "status": "finished"}
        | {"higher_is_better": True, "metric_name": "score", "optimizer": "sam", "base_optimizer": "sgd"}
        | more
        for width, table in zip(widths, values, strict=True)
        for seed, row in enumerate(table)
        for k, value in enumerate(row)
    ]
    return pd.DataFrame(rows)


def values(base, gains, *, num_seeds=5, noise=0.01):
    """Make [widths, seeds, 2] of a base and a gain for each width, with a little noise."""
    wiggle = noise * np.random.default_rng(0).normal(size=(len(base), num_seeds, 2))
    means = np.stack([np.array(base, float), np.add(base, gains)], axis=1)
    return means[:, None] + wiggle


def test_growth_is_nobodys_where_no_growth_is_seen():
    generator = np.random.default_rng(0)
    texts = [answer.answer(long_table(generator.normal(size=(3, 5, 4)))) for _ in range(60)]
    assert sum("no clear trend" in text for text in texts) > 45
    assert [text for text in texts if "of the growth" in text and "grows" not in text] == []


def test_the_arm_that_causes_the_growth_is_named():
    text = answer.answer(long_table(values([5, 4, 3], [0.1, 1.1, 2.5])))
    assert "grows with width" in text
    assert re.search(r"from 100 parameters, where SGD is best, \d+ % of the growth is due to SAM improving", text)


def test_growth_below_the_best_width_of_the_base_is_attributed_to_neither_arm():
    """The slope is that of the small network; from the best width of the base upwards, the gain is level."""
    text = answer.answer(long_table(values([1, 5, 4.9, 4.9], [-4, 1, 1, 1.1], noise=0.1), widths=(*SIZES, 100_000)))
    assert "is larger at large widths; this rests on the networks with 100 parameters" in text
    assert "of the growth" not in text


@pytest.mark.parametrize(
    ("num_seeds", "num_widths", "words"),
    [(2, 3, "seems to grow with width"), (5, 2, "seems to grow with width"), (3, 3, " grows with width")],
)
def test_few_seeds_or_widths_only_seem_to_show_it(num_seeds, num_widths, words):
    table = values([5] * num_widths, [0, 2, 4][:num_widths], num_seeds=num_seeds, noise=0.001)
    assert words in answer.answer(long_table(table, widths=SIZES[:num_widths]))
    falling = answer.answer(long_table(table[::-1], widths=SIZES[:num_widths]))
    assert words.replace("grow", "shrink") in falling


def test_that_gains_are_corrected_is_said_once():
    several = answer.answer(long_table(values([5, 4, 3], [0.1, 1.1, 2.5])))
    single = answer.answer(long_table(values([5], [1]), widths=(100,)))
    assert several.count("corrected for the choice of rho") == single.count("corrected for the choice of rho") == 1


@pytest.mark.parametrize("metric", ["test_metric", "test_loss"])
def test_where_lower_is_better_the_unit_says_less_and_more(metric):
    table = long_table(
        values([5, 5, 5], [0.2, -0.5, -1.1]), higher_is_better=metric == "test_loss", metric_name="error"
    )
    table["test_loss"] = table["test_metric"]
    text = answer.answer(table, metric=metric)
    name = {"test_metric": "error", "test_loss": "loss"}[metric]
    assert re.search(rf"from 0\.\d+ more {name} \(joint 95 % interval -", text)
    assert re.search(rf"to 1\.\d+ less {name} \(joint 95 % interval \+", text)
    assert f" of {name} per tenfold increase in parameters" in text


def test_a_fraction_that_should_be_low_is_in_points():
    table = long_table(values([0.5], [-0.1], noise=0), widths=(10,), higher_is_better=False, metric_name="accuracy")
    assert "10.00 points less accuracy" in answer.answer(table)
    assert "+10.00 points (" in answer.answer(
        long_table(values([0.5], [0.1], noise=0), widths=(10,)).assign(metric_name="accuracy")
    )


def test_best_rho_is_given_for_widths_with_a_gain_only():
    """At the larger width no seed has both runs."""
    table = long_table(values([5, 5], [1, 1]), widths=(100, 1000))
    table = table[(table["num_params"] == 100) | ((table["rho"] == 0) == (table["seed"] == 0))]
    text = answer.answer(table)
    assert "at 100 parameters, 5 seeds" in text
    assert "The best rho, chosen by test metric, is 0.1." in text


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((-2, -1, -0.5), "SAM does not help at any width here: its gain over SGD grows with width, from "),
        ((-2, 1, -2), "SAM does not help at the smallest width or the largest here: its gain over SGD peaks"),
        ((-2, 1, 2), "The gain of SAM over SGD grows with width: from "),
        ((-2,), "SAM does not help here: its gain over SGD is -"),
    ],
)
def test_where_sam_does_not_help_it_is_said(gains, words):
    text = answer.answer(long_table(values([5] * len(gains), gains), widths=SIZES[: len(gains)]))
    assert text.startswith(words)
    assert text.count(". ") == 1  # two sentences


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((-2, -1), "SAM is not shown to help at any width here: its gain over SGD"),
        ((-2, 5, -2), "SAM is not shown to help at any width here: its gain over SGD"),
        ((-0.5,), "SAM is not shown to help here: its gain over SGD is -"),
    ],
)
def test_an_interval_that_reaches_above_zero_does_not_say_that_sam_cannot_help(gains, words):
    """Two seeds of much noise."""
    table = values([5] * len(gains), gains, num_seeds=2, noise=1)
    assert answer.answer(long_table(table, widths=SIZES[: len(gains)])).startswith(words)


def test_a_ruined_smallest_network_is_named():
    """All of the slope is due to it."""
    text = answer.answer(long_table(values([9, 9, 9, 9], [-7, 1, 1, 1], noise=0.2), widths=(*SIZES, 100_000)))
    assert "larger at large widths; this rests on the networks with 100 parameters" in text
    assert "grows" not in text


def test_a_rise_and_a_fall_is_a_peak():
    text = answer.answer(long_table(values([9, 9, 9, 9], [0, 2, 5, 1], noise=0.1), widths=(*SIZES, 100_000)))
    assert "peaks at 10,000 parameters" in text
    assert "grow" not in text


def test_a_harmful_largest_width_is_no_growth():
    """The smallest is so noisy that the slope follows the middle, and SAM hurts at the largest."""
    gains = values([9, 9, 9], [0.06, -3, -1.4], noise=0.01)
    gains[0] += np.array([0, 1.5]) * np.random.default_rng(1).normal(size=(5, 1))
    assert "grows" not in answer.answer(long_table(gains))


def test_ties_are_said_to_be_ties():
    text = answer.answer(long_table(np.full((2, 3, 3), 0.5), widths=SIZES[:2]))
    assert text.startswith(
        "SAM and SGD do equally well in every seed at each width here: the gain shows no clear trend"
    )
    assert "does not help" not in text


def test_an_interval_around_zero_is_described_as_such_on_either_side():
    for sign in (1, -1):
        table = values([5], [sign * 0.5], num_seeds=3, noise=3)
        assert answer.answer(long_table(table, widths=(100,))).startswith("SAM is not shown to help here: its gain")


def test_base_runs_that_diverged_are_named():
    table = long_table(values([5, 5], [1, 1]), widths=SIZES[:2])
    table.loc[table["rho"] == 0, ["test_metric", "status"]] = [np.nan, "diverged"]
    assert answer.answer(table) == "There is no gain yet: no base run (rho=0) has a result."
    table.loc[(table["rho"] > 0) & (table["seed"] == 0), ["test_metric", "status"]] = [np.nan, "diverged"]
    table.loc[table["rho"] == 0, ["test_metric", "status"]] = [5.0, "finished"]
    assert answer.answer(table) == "There is no gain yet: every rho has a diverged seed."


def test_attributing_the_growth_needs_intervals():
    """The base falls by 0.1 and by noise of one."""
    table = values([5, 5, 4.9], [0, 2, 4], noise=0.01)
    table += np.random.default_rng(2).normal(size=(3, 5, 1))
    text = answer.answer(long_table(table))
    assert "getting worse" not in text
    assert "the seeds do not show whether" in text


def test_no_sentence_says_what_its_interval_denies():
    """Eighty tables made to mislead: ruined and hopeless runs, ties, holes, widths of very unequal noise."""
    generator = np.random.default_rng(0)
    for _ in range(80):
        num_widths, num_seeds, num_rhos = generator.integers(1, 6), generator.integers(2, 7), generator.integers(1, 6)
        shape = (num_widths, num_seeds, num_rhos + 1)
        table = 5 + generator.choice([0, 0.001, 1, 10], size=(num_widths, 1, 1)) * generator.normal(size=shape)
        table[..., 1:] += generator.choice([0, 0.1, 3, 30]) * generator.normal(size=(num_widths, 1, 1))
        if generator.random() < 0.3:
            table[..., -1] -= 50 * (generator.random(shape[:2]) < 0.5)
        if generator.random() < 0.3:
            table = np.round(table)
        runs = long_table(table, widths=[10**exponent for exponent in range(1, num_widths + 1)])
        text, part = answer.answer(runs), results.part(runs)
        gains, scores = [width.comparison.gain for width in part.widths], part.scores
        ends = [gains[0], gains[-1]]
        assert text.startswith("The gain of SAM") == any(corrected.low > 0 for corrected in ends)
        assert "does not help" not in text or all(corrected.high < 0 for corrected in ends)
        slope = estimates.slope(scores)
        for words, sign in (("grow", 1), ("shrink", -1)):
            if re.search(f"{words}s? with width", text):
                rise = estimates.rise(scores)
                assert min(sign * end for end in (slope.low, slope.high, rise.low, rise.high)) > 0
                assert sign * (gains[-1].value - gains[0].value) > 0
