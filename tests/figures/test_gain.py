"""Gain and metric against width: every seed, the right means, and a title that says what is shown."""

import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.figures import gain

PAIRS = pd.DataFrame(
    [
        (100, 0, 0.50, 0.52),
        (100, 1, 0.52, 0.51),
        (1000, 0, 0.50, 0.60),
        (1000, 1, 0.50, 0.58),
        (1000, 2, 0.51, 0.62),
    ],
    columns=["num_params", "seed", "base", "sam"],
).assign(gain=lambda pairs: pairs["sam"] - pairs["base"])


def marks(chart, name):
    """List the values of all layers with a mark."""
    layers = [layer for layer in chart.to_dict()["layer"] if layer["mark"]["type"] == name]
    return [layer["data"]["values"] for layer in layers]


def test_every_seed_is_drawn_in_points():
    (dots,) = marks(gain.gain_against_width(PAIRS), "circle")
    assert [dot["num_params"] for dot in dots] == [100, 100, 1000, 1000, 1000]
    assert_allclose([dot["value"] for dot in dots], [2, -1, 10, 8, 11])


def test_means_have_t_intervals():
    (means,) = marks(gain.gain_against_width(PAIRS), "point")
    assert_allclose([mean["mean"] for mean in means], [0.5, 29 / 3])
    oracle = scipy.stats.t.interval(0.95, 2, loc=29 / 3, scale=scipy.stats.sem([10, 8, 11]))
    assert_allclose((means[1]["low"], means[1]["high"]), oracle)


def test_both_optimizers_are_drawn_with_their_names_and_colours():
    chart = gain.metric_against_width(PAIRS, base="AdamW")
    base, sam = marks(chart, "point")
    assert_allclose([base[0]["mean"], sam[1]["mean"]], [51, 60])
    assert (base[0]["of"], sam[0]["of"]) == ("AdamW", "SAM")
    color = chart.to_dict()["layer"][0]["encoding"]["color"]["scale"]
    assert color == {"domain": ["AdamW", "SAM"], "range": ["#0072B2", "#D55E00"]}
    assert chart.to_dict()["layer"][0]["encoding"]["y"]["title"] == "test accuracy (%)"


@pytest.mark.parametrize("draw", [gain.gain_against_width, gain.metric_against_width])
def test_the_figure_names_its_interval_and_seeds(draw):
    assert draw(PAIRS).to_dict()["title"]["subtitle"].endswith("mean and 95 % t interval of 2 to 3 seeds")
    assert draw(PAIRS[2:]).to_dict()["title"]["subtitle"].endswith("mean and 95 % t interval of 3 seeds")


def test_one_seed_has_no_interval_and_the_figure_says_so():
    chart = gain.gain_against_width(PAIRS[PAIRS["seed"] == 0])
    assert chart.to_dict()["title"]["subtitle"] == "one seed at each width"
    (means,) = marks(chart, "point")
    assert all("low" not in mean for mean in means)


def test_the_axis_has_the_sizes_of_the_networks():
    across = gain.gain_against_width(PAIRS).to_dict()["layer"][1]["encoding"]["x"]
    assert across["axis"]["values"] == [100, 1000]
    assert across["scale"]["type"] == "log"
    assert across["title"] == "number of parameters"


def test_another_metric_keeps_its_unit():
    (dots,) = marks(gain.gain_against_width(PAIRS, metric_name="score"), "circle")
    assert_allclose(dots[0]["value"], 0.02)
