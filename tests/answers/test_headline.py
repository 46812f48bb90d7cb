"""One line that its intervals do not deny."""

import math

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import convert, estimates, table
from flatwide.answers import answer, headline


def made(gains, *, seeds=4, spread=0.001, metric_name="accuracy", rhos=(0.1,)):
    """Make runs of some widths with given gains, whose base is 0.6 in each seed but for noise that both arms share."""
    shifts = spread * (np.arange(seeds) - (seeds - 1) / 2)
    rows = [
        {"num_params": 100 * 2**index, "rho": rho, "seed": seed, "test_metric": 0.6 + (gain + shifts[seed]) * (rho > 0)}
        for index, gain in enumerate(gains)
        for rho in (0.0, *rhos)
        for seed in range(seeds)
    ]
    return convert.from_columns(pd.DataFrame(rows), metric_name=metric_name)


@pytest.mark.parametrize(
    ("gains", "begins"),
    [
        ((0.0, 0.0, 0.1, 0.2), "SAM helps from 400 parameters on; +20.0 points at 800, joint 95 % interval 19."),
        ((0.1, 0.1, 0.1), "SAM helps at all 3 widths; +10.0 points at 400"),
        ((0.0, 0.0, 0.1), "SAM helps at 400 parameters only; +10.0 points at 400"),
        ((0.1, 0.1, 0.0), "SAM helps at 100, 200 parameters, but not detectably at the largest width; +0.0 points"),
        ((0.0, -0.1, -0.1), "SAM hurts from 200 parameters on; -10.0 points at 400"),
        ((0.0, 0.0), "No gain from SAM is detected at any width; +0.0 points at 200"),
        ((0.0,), "No gain from SAM is detected at 100 parameters; +0.0 points, joint 95 % interval -0."),
        ((0.1,), "SAM helps at 100 parameters; +10.0 points, joint 95 %"),
        ((0.1, -0.1), "SAM hurts at 200 parameters only; -10.0 points at 200"),
    ],
)
def test_the_line_says_where_all_larger_widths_gain(gains, begins):
    (line,) = headline.headlines(made(gains))
    assert line.text.startswith(begins)


def test_intervals_hold_jointly():
    runs = made((0.0, 0.1, 0.2), rhos=(0.1, 0.2), spread=0.01)
    (line,) = headline.headlines(runs)
    cells = table.part(runs).widths
    expected = [cell.comparison.gain.at(estimates.sidak(3)) for cell in cells]
    assert [(row.low, row.high) for row in line.rows] == [(joint.low, joint.high) for joint in expected]
    alone = [cell.comparison.gain for cell in cells]
    assert all(
        row.low < separate.low < separate.high < row.high for row, separate in zip(line.rows, alone, strict=True)
    )


def test_one_seed_has_no_interval():
    (line,) = headline.headlines(made((0.0, 0.1), seeds=1))
    assert (
        line.text
        == "One seed, so no interval: SAM differs from SAM's base by +10.0 points at 200 parameters".replace(
            "SAM's base", "its base"
        )
    )
    assert math.isnan(line.rows[0].low)


@pytest.mark.parametrize("arm", ["SAM", "base"])
@pytest.mark.parametrize("failed_width", [0, 1, 2])
def test_a_width_whose_runs_diverged_breaks_the_range_and_is_named(arm, failed_width):
    runs = made((0.1, 0.1, 0.1))
    size = 100 * 2**failed_width
    is_lost = (runs["num_params"] == size) & ((runs["rho"] > 0) == (arm == "SAM"))
    runs.loc[is_lost, ["test_metric", "status"]] = [np.nan, "diverged"]
    (line,) = headline.headlines(runs)
    begins = {
        0: "SAM helps from 200 parameters on",
        1: "SAM helps at 400 parameters only",
        2: "SAM helps at 100, 200 ",
    }
    assert line.text.startswith(begins[failed_width])
    assert f"no interval at {size}, where too few seeds are complete" in line.text


def test_one_seed_at_the_largest_width_hides_no_other():
    runs = made((0.1, 0.1, 0.1))
    (line,) = headline.headlines(runs[(runs["num_params"] < 400) | (runs["seed"] == 0)])
    assert line.text.startswith("SAM helps at 100, 200 parameters; +10.0 points at 200, joint 95 % interval ")
    assert line.text.endswith("no interval at 400, where too few seeds are complete")


def test_the_table_has_every_width_and_of_many_those_that_the_line_names():
    (line,) = headline.headlines(made((0.0,) * 9))
    assert [row.num_params for row in line.rows] == [100 * 2**index for index in range(9)]
    (line,) = headline.headlines(made((0.0,) * 10 + (0.1,) * 15))
    assert line.text.startswith("SAM helps from 102,400 parameters on")
    assert 102_400 in {row.num_params for row in line.rows}
    assert len(line.rows) == 10


def test_the_gain_is_the_difference_of_the_means_beside_it():
    generator = np.random.default_rng(0)
    runs = made((0.0, 0.02, 0.05), rhos=(0.1, 0.2, 0.5))
    (line,) = headline.headlines(runs.assign(test_metric=runs["test_metric"] + 0.01 * generator.normal(size=len(runs))))
    for row in line.rows:
        assert row.sam - row.base == pytest.approx(row.gain, abs=1e-12)


def test_seeds_without_spread_have_no_interval_and_no_seems():
    runs = made((0.0, 0.1, 0.2), spread=0.0)
    (line,) = headline.headlines(runs)
    assert line.text.endswith("+20.0 points at 400, the same in every seed, so without an interval")
    text = answer.answer(runs)
    assert "grows with width" in text
    assert "seems" not in text


def test_runs_that_did_not_learn_give_no_answer():
    runs = made((0.0, 0.0), spread=0.0).assign(is_collapsed=True)
    (line,) = headline.headlines(runs)
    assert line.text.startswith("No answer: 16 of 16 runs did not learn: they are no better than a prediction")
    assert answer.answer(runs).startswith("No answer: 16 of 16 runs did not learn")
    unknown = runs.assign(is_collapsed=runs["is_collapsed"].astype("boolean").mask(runs.index == 0))
    assert headline.headlines(unknown)[0].text.startswith("No answer: 15 of 16 runs did not learn")
    both = pd.concat([runs.assign(dataset="a", model="m"), made((0.0, 0.1)).assign(dataset="b", model="m")])
    assert "1 settings" not in answer.answer(both)
    assert "there is no interval yet (a)" in answer.answer(both).replace("in 1 ", "", 1) or "(a)" in answer.answer(both)
    runs.loc[0, "is_collapsed"] = False
    assert headline.headlines(runs)[0].text.startswith("No gain from SAM is detected")


def test_a_shrinking_gain_that_the_grid_cuts_off_is_said_to_be_of_these_radii():
    runs = made((0.3, 0.2, 0.1), rhos=(0.1, 0.2))
    runs.loc[(runs["rho"] == 0.1) & (runs["num_params"] == 400), "test_metric"] -= 0.05
    assert "shrinks with width at the radii tried:" in answer.answer(runs)
    assert "radii tried" not in answer.answer(runs[runs["rho"] < 0.2])


def test_each_part_has_a_line():
    runs = pd.concat([made((0.0, 0.1)).assign(label_noise=noise) for noise in (0.0, 0.5)], ignore_index=True)
    assert [line.part for line in headline.headlines(runs)] == ["label_noise=0.0", "label_noise=0.5"]
