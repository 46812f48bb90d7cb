"""Gain and metric against width: every seed, correct means, and an informative title."""

import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.figures import gain
from flatwide.figures.style import Style

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
    """List the values of each line in the layers with a mark."""
    spec = chart.to_dict()
    layers = [layer for layer in spec["layer"] if layer["mark"]["type"] == name]
    lines = {}
    for row in (row for layer in layers for row in spec["datasets"][layer["data"]["name"]]):
        lines.setdefault((row["of"], row.get("shade")), []).append(row)
    return list(lines.values())


def subtitle(chart):
    return chart.to_dict()["title"]["subtitle"][0]


def test_every_seed_is_drawn_in_points():
    (dots,) = marks(gain.gain_against_width(PAIRS), "circle")
    assert [dot["position"] for dot in dots] == [100, 100, 1000, 1000, 1000]
    assert_allclose([dot["value"] for dot in dots], [2, -1, 10, 8, 11])


def test_means_have_t_intervals():
    (means,) = marks(gain.gain_against_width(PAIRS), "point")
    assert_allclose([mean["mean"] for mean in means], [0.5, 29 / 3], rtol=1e-5)  # charts have six digits
    oracle = scipy.stats.t.interval(0.95, 2, loc=29 / 3, scale=scipy.stats.sem([10, 8, 11]))
    assert_allclose((means[1]["low"], means[1]["high"]), oracle, rtol=1e-5)


def test_both_optimizers_are_drawn_with_their_names_and_colours():
    chart = gain.metric_against_width(PAIRS, style=Style(base="AdamW"))
    base, sam = marks(chart, "point")
    assert_allclose([base[0]["mean"], sam[1]["mean"]], [51, 60])
    assert (base[0]["of"], sam[0]["of"]) == ("AdamW", "SAM")
    color = chart.to_dict()["layer"][0]["encoding"]["color"]["scale"]
    assert color == {"domain": ["AdamW", "SAM"], "range": ["#0072B2", "#D55E00"]}
    assert chart.to_dict()["layer"][0]["encoding"]["y"]["title"] == "test accuracy (%)"


@pytest.mark.parametrize("draw", [gain.gain_against_width, gain.metric_against_width])
def test_the_figure_names_its_interval_and_seeds(draw):
    assert subtitle(draw(PAIRS)).endswith("mean and 95 % t interval of 2 to 3 seeds")
    assert subtitle(draw(PAIRS[2:])).endswith("mean and 95 % t interval of 3 seeds")


def test_one_seed_has_no_interval_and_the_figure_says_so():
    chart = gain.gain_against_width(PAIRS[PAIRS["seed"] == 0])
    assert subtitle(chart) == "one seed: no interval"
    (means,) = marks(chart, "point")
    assert all("low" not in mean for mean in means)


def test_the_axis_has_the_sizes_of_the_networks():
    across = gain.gain_against_width(PAIRS).to_dict()["layer"][1]["encoding"]["x"]
    assert across["axis"]["values"] == [100, 1000]
    assert across["scale"]["type"] == "log"
    assert across["title"] == "number of parameters"


def test_another_metric_keeps_its_unit():
    (dots,) = marks(gain.gain_against_width(PAIRS, style=Style(metric_name="score")), "circle")
    assert_allclose(dots[0]["value"], 0.02)


PARTS = pd.concat([PAIRS.assign(part="label_noise=0"), PAIRS.assign(part="label_noise=0.5")])


def test_each_part_is_a_line_of_the_gain_and_a_panel_of_the_metric():
    chart = gain.gain_against_width(PARTS, style=Style(is_ordered=True))
    assert [{mean["of"] for mean in line} for line in marks(chart, "point")] == [{"label_noise=0"}, {"label_noise=0.5"}]
    panels = gain.metric_against_width(PARTS).to_dict()["concat"]
    assert [panel["title"]["text"] for panel in panels] == ["label_noise=0", "label_noise=0.5"]


def test_the_paper_is_hollow_and_named():
    paper = [{"num_params": 100, "base": 0.6, "sam": 0.7, "gain": 0.1}]
    spec = gain.metric_against_width(PAIRS, paper=paper).to_dict()
    (hollow,) = [layer for layer in spec["layer"] if layer["mark"].get("filled") is False]
    rows = spec["datasets"][hollow["data"]["name"]]
    assert {row["of"] for row in rows} == {"paper (Shin et al. 2025)"}
    assert [(row["x"], row["value"], row["shade"]) for row in rows] == [(100, 60, "#0072B2"), (100, 70, "#D55E00")]
    assert "hollow: the paper's values" in spec["title"]["subtitle"]
    assert "hollow" not in str(gain.metric_against_width(PAIRS).to_dict()["title"])


def test_the_corrected_gain_keeps_its_own_interval():
    corrected = [
        {"num_params": 100, "seed": 0, "gain": 0.01},
        {"num_params": 100, "seed": 1, "gain": -0.01},
        {"num_params": 100, "gain": 0.0, "low": -0.2, "high": 0.2},
    ]
    _, means = marks(gain.gain_against_width(PAIRS, corrected=corrected), "point")
    (mean,) = means
    assert mean.items() >= {"mean": 0.0, "low": -20.0, "high": 20.0, "of": "corrected for the choice of ρ"}.items()
    assert mean["x"] > 100  # beside that of SAM


def test_only_a_page_has_tooltips_and_a_legend_that_hides():
    pairs = PAIRS.assign(base_run="b", sam_run="s", best_rho=0.1)
    chart = gain.metric_against_width(pairs, name="here", style=Style(interactive=True))
    spec = chart.to_dict()
    (param,) = spec["params"]
    assert (param["name"], param["bind"], param["select"]["toggle"]) == ("here_hidden", "legend", "true")
    hidden = {"param": "here_hidden", "empty": False, "value": 0}  # initially nothing is selected or hidden
    assert all(layer["encoding"]["opacity"]["condition"] == hidden for layer in spec["layer"])
    seeds, sam = marks(chart, "circle")
    assert (seeds[0]["run"], sam[0]["run"], seeds[0]["rho"], sam[0]["rho"]) == ("b", "s", 0.0, 0.1)
    (tooltip,) = [layer["encoding"]["tooltip"] for layer in spec["layer"] if layer["mark"]["type"] == "circle"]
    assert [field["field"] for field in tooltip] == ["of", "run", "rho", "seed", "position", "value"]
    static = str(gain.metric_against_width(pairs).to_dict())
    assert "tooltip" not in static
    assert "_hidden" not in static


def test_one_width_is_set_on_an_axis_of_names():
    across = gain.gain_against_width(PAIRS[:2]).to_dict()["layer"][1]["encoding"]["x"]
    assert across["axis"]["labelExpr"] == "format([100][datum.value], '.3~s')"


def test_the_papers_bands_are_dashed_around_its_points():
    paper = [{"num_params": 100, "gain": 0.1, "gain_band": 0.02}, {"num_params": 1000, "gain": 0.2, "gain_band": None}]
    spec = gain.gain_against_width(PAIRS, paper=paper).to_dict()
    (bands,) = [layer for layer in spec["layer"] if layer["mark"].get("strokeDash") == [2, 2]]
    rows = spec["datasets"][bands["data"]["name"]]
    assert [(row["x"], row.get("low"), row.get("high")) for row in rows] == [(100, 8, 12), (1000, None, None)]
    assert any("dashed: their bands" in line for line in spec["title"]["subtitle"])
