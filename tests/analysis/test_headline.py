"""One line that its intervals do not deny."""

import math

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import arms, estimates, headline, table, widths


def made(gains, *, seeds=4, spread=0.001, metric_name="accuracy", rhos=(0.1,)):
    """Make runs of some widths with given gains, whose base is 0.6 in each seed but for noise that both arms share."""
    shifts = spread * (np.arange(seeds) - (seeds - 1) / 2)
    rows = [
        {"num_params": 100 * 2**index, "rho": rho, "seed": seed, "test_metric": 0.6 + (gain + shifts[seed]) * (rho > 0)}
        for index, gain in enumerate(gains)
        for rho in (0.0, *rhos)
        for seed in range(seeds)
    ]
    return table.from_columns(pd.DataFrame(rows), metric_name=metric_name)


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
    cells = widths.by_width(runs)
    expected = [arms.estimate(cell.comparison, level=estimates.sidak(3)) for cell in cells]
    assert [(row.low, row.high) for row in line.rows] == [(joint.low, joint.high) for joint in expected]
    alone = [arms.estimate(cell.comparison) for cell in cells]
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


def test_five_rows_at_most_with_both_ends():
    (line,) = headline.headlines(made((0.0,) * 9))
    assert [row.num_params for row in line.rows] == [100, 400, 1600, 6400, 25600]


def test_text_for_a_terminal_is_aligned():
    text = headline.terminal(headline.headlines(made((0.0, 0.1), metric_name="score")))
    first, *rows = text.splitlines()
    assert first.startswith("SAM helps at 200 parameters only; +0.1 at 200, joint 95 % interval 0.09")
    assert len({len(row) for row in rows}) == 1
    assert rows[0].split() == ["parameters", "base", "SAM", "gain", "joint", "95", "%", "best", "rho"]


def test_each_part_has_a_line():
    runs = pd.concat([made((0.0, 0.1)).assign(label_noise=noise) for noise in (0.0, 0.5)], ignore_index=True)
    assert [line.part for line in headline.headlines(runs)] == ["label_noise=0.0", "label_noise=0.5"]
