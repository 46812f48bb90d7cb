"""The answer on one screen: few lines, each no longer than a terminal is wide, with the numbers of the long answer."""

from pathlib import Path

import pandas as pd
import pytest

from flatwide.analysis import estimates, rho, table
from flatwide.answers import cautions, short

STUDIES = Path(__file__).parents[2] / "docs" / "studies"


def published(name: str) -> pd.DataFrame:
    """Read the runs of a study that ships."""
    runs = pd.read_csv(STUDIES / name / "runs.csv")
    return runs.assign(higher_is_better=True, metric_name="accuracy", base_optimizer="sgd")


@pytest.fixture(scope="module")
def digits() -> table.Split:
    return table.split(published("digits_label_noise"))


def test_findings_have_the_numbers_of_the_analysis(digits):
    (part,), answered = digits.parts, short.short(digits)
    slope, best = estimates.slope(part.scores), rho.trend_of_best(part.widths)
    value, low, high = (f"{100 * end:+.1f}" for end in (slope.value, slope.low, slope.high))
    growth, of_rho, of_sam = answered.findings
    assert growth == f"The gain grows with width: {value} points per 10× size, 95 % interval {low} to {high}."
    assert of_rho == f"The best rho grows with width: at least ×{best.low:.3g} per 10× size, with 97.5 % confidence."
    assert of_sam.startswith("SAM itself improves with width: +30.9 points per 10× size, 95 % interval ")
    assert answered.sentence.startswith("SAM helps from 2,410 parameters on; +12.5 points at 9,610")


@pytest.mark.parametrize(
    "name", ["digits_label_noise", "cifar10_depth", "mnist_sparsity", "mnist_label_noise", "cifar10_weight_decay"]
)
def test_no_line_is_longer_than_a_terminal_and_none_is_broken(name):
    answered = short.short(published(name))
    lines = short.terminal(answered).splitlines()
    assert len(lines) < short.LINES
    assert max(map(len, lines)) <= short.COLUMNS
    assert lines[0] == answered.sentence
    assert lines[1 : 1 + len(answered.findings)] == [f"- {text}" for text in answered.findings]


def test_many_widths_and_many_settings_leave_room_for_the_path(digits):
    runs = digits.runs
    many = [
        runs.assign(num_params=runs["num_params"] * 100**k, num_neurons=runs["num_neurons"] * 100**k) for k in range(3)
    ]
    lines = short.terminal(short.short(pd.concat(many))).splitlines()
    assert len(lines) == short.LINES - 1
    assert lines[-1].split()[0] == "96,100,000"  # the largest, which the headline names
    settings = pd.concat([runs.assign(label_noise=0.1 * k) for k in range(10)])
    lines = short.terminal(short.short(settings)).splitlines()
    assert len(lines) == short.LINES - 1
    assert lines[0] == "SAM helps at the largest size in 10 of 10 settings; its gain grows with width in 10."
    assert lines[1].startswith("- label_noise (0 to 0.9), undecided: ")
    assert lines[-1] == "3 more settings are in the report."
    assert "label_noise=0.6" in lines[-2]


def test_one_seed_and_one_arm_have_no_findings(digits):
    one = short.short(digits.runs[digits.runs["seed"] == 0])
    assert one.findings == []
    assert one.sentence.startswith("One seed, so no interval")
    for has_sam, words in ((True, "no run without SAM (rho = 0)"), (False, "no run with SAM (rho > 0)")):
        arm = short.short(digits.runs[(digits.runs["rho"] > 0) == has_sam])
        assert short.terminal(arm).startswith(f"No answer: {words}. Train the same widths and seeds with rho")


def test_cautions_that_could_change_the_headline_come_first(digits):
    runs = digits.runs
    names = [each.name for each in cautions.cautions(runs[runs["seed"] < 3])]
    assert names.index("edge_of_grid") < names.index("few_seeds") < names.index("test_set_selection")
    assert names[-1] == "no_interpolation"
