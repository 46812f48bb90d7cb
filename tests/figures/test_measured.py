"""Figures of measured quantities: drawn if measured, with every seed, the right scale and the right words."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from flatwide.analysis import measured
from flatwide.figures import gallery, landscape, spectra
from flatwide.figures import measured as charts
from flatwide.figures.style import DEFAULT

SIZES, RHOS = (100, 1000, 5_366_010), (0.0, 0.01, 0.1)
TOP = "curvature.top_eigenvalue"


def study(*, num_seeds=3, sizes=SIZES, rhos=RHOS, **more):
    generator = np.random.default_rng(0)
    rows = []
    for size in sizes:
        for rho in rhos:
            for seed in range(num_seeds):
                facts = {"run": f"run-{size}-{rho}-{seed}", "status": "finished", "optimizer": "sam", "rho": rho}
                facts |= {"base_optimizer": "sgd", "seed": seed, "num_params": size, "metric_name": "accuracy"}
                facts |= {"higher_is_better": True, "test_metric": 0.9 + rho / 10 + 0.001 * generator.normal()}
                rows.append(facts | more)
    return pd.DataFrame(rows)


def with_curvature(runs):
    generator = np.random.default_rng(1)
    top = (10 / (1 + 10 * runs["rho"])) * np.exp(0.1 * generator.normal(size=len(runs)))
    low = generator.normal(size=len(runs))
    return runs.assign(**{TOP: top, "curvature.smallest_eigenvalue": low, "curvature.num_examples": 1000})


def drawn(runs, **options):
    """Return the figures of measured quantities by name."""
    metric_figures = {
        figure.name for figure in gallery.gallery(runs[[name for name in runs.columns if "." not in name]])
    }
    return {figure.name: figure for figure in gallery.gallery(runs, **options) if figure.name not in metric_figures}


@pytest.fixture
def compiled(faults):
    return functools.partial(compile_figure, faults)


def compile_figure(faults, figure):
    spec = figure.chart.to_dict()
    assert faults(spec) == []
    assert figure.caption.endswith(".")
    assert len(figure.data)
    assert all(name.startswith(figure.name) for name in spec["datasets"])
    assert "view_" not in json.dumps(spec)
    return spec


def test_nothing_is_drawn_where_nothing_was_measured():
    assert drawn(study()) == {}


def test_a_measurement_is_drawn_by_width_by_rho_and_against_the_metric(compiled):
    runs = with_curvature(study())
    figures = drawn(runs, interactive=True)
    assert list(figures) == ["curvature_by_width", "curvature_by_rho", "metric_by_flatness"]
    for figure in figures.values():
        compiled(figure)
        assert figure.section == "Curvature of the minima"
    assert "1,000 training examples, in evaluation mode" in figures["curvature_by_width"].caption
    assert "does not show that flatness is the cause" in figures["metric_by_flatness"].caption
    spec = figures["curvature_by_width"].chart.to_dict()
    dots = [row for row in spec["datasets"]["curvature_by_width_0_dots"] if row["of"] == "SGD"]
    values = runs[runs["rho"] == 0].sort_values(["num_params", "seed"])[TOP]
    assert_allclose([row["value"] for row in dots], values, rtol=1e-5)
    by_rho = figures["curvature_by_rho"].chart.to_dict()["datasets"]
    assert len(by_rho["curvature_by_rho_0_dots"]) == len(by_rho["curvature_by_rho_1_dots"]) == len(runs)


def test_your_own_measurement_has_the_same_figures(compiled):
    figures = drawn(study().assign(**{"mine.path_norm": np.linspace(1, 2, 27), "mine.num_examples": 500}))
    assert list(figures) == ["mine_by_width", "mine_by_rho"]
    assert {figure.section for figure in figures.values()} == {"Other measurements"}
    assert "path norm (mine)" in json.dumps(compiled(figures["mine_by_rho"]))


def test_means_of_positive_values_are_geometric_and_others_not():
    rows = [
        {"quantity": name, "num_params": 10, "rho": 0.0, "seed": seed, "value": value, "is_best": False}
        for name, values in ((TOP, (1.0, 100.0)), ("mine.x", (-1.0, 3.0)))
        for seed, value in enumerate(values)
    ]
    spec = charts.against_width(rows).to_dict()
    first, second = (spec["datasets"][f"measured_by_width_{k}_averages"][0] for k in (0, 1))
    assert (first["mean"], second["mean"]) == (10, 1)
    scales = [panel["layer"][0]["encoding"]["y"]["scale"] for panel in spec["concat"]]
    assert (scales[0]["type"], "type" in scales[1]) == ("log", False)
    assert "means of positive quantities are geometric" in str(spec["title"]["subtitle"])
    # With two seeds the interval spans a factor of exp(12.7 · 2.3); it is cut so that the dots remain visible.
    assert (first["low"], first["high"]) == (pytest.approx(1 / 3, rel=1e-5), 300)
    assert "bars that extend far beyond the dots are cut off" in spec["title"]["subtitle"]


def test_a_bar_below_zero_does_not_ruin_a_logarithmic_axis():
    rows = [
        {"quantity": "barrier.barrier", "num_params": size, "rho": 0.1, "seed": seed, "value": value, "is_best": True}
        for size, values in ((10, (1.0, 9.0)), (100, (700.0, 800.0)))
        for seed, value in enumerate(values)
    ]
    spec = charts.against_width(rows).to_dict()
    assert spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"
    first = spec["datasets"]["measured_by_width_0_averages"][0]
    assert (first["mean"], first["low"]) == (5, pytest.approx(1 / 3, rel=1e-5))  # its t interval is -46 to 56


def test_lines_are_offset_around_their_position():
    rows = [
        {"quantity": TOP, "num_params": size, "rho": rho, "seed": 0, "value": 1.0, "is_best": rho > 0}
        for size in (10, 1000)
        for rho in (0.0, 0.1)
    ]
    dots = charts.against_width(rows).to_dict()["datasets"]["measured_by_width_0_averages"]
    base, sam = ([row["x"] for row in dots if row["of"] == name] for name in ("SGD", "SAM at its best ρ"))
    assert base[0] < 10 < sam[0]
    assert_allclose(np.multiply(base, sam), [100, 10**6], rtol=1e-4)
    by_rho = charts.against_rho(rows).to_dict()["datasets"]["measured_by_rho_0_averages"]
    assert_allclose([row["x"] for row in by_rho], [-5 / 165, 1 - 5 / 165, 5 / 165, 1 + 5 / 165], atol=1e-4)


def test_the_papers_values_are_hollow_for_its_own_network(compiled):
    facts = {"dataset": "mnist", "model": "MLP", "loss": "squared"}
    runs = study(**facts).assign(**{"moments.s_2": lambda t: 30 - 100 * t["rho"]})
    figure = drawn(runs)["moments_by_rho"]
    rows = compiled(figure)["datasets"]["moments_by_rho_0_hollow"]
    # Positions 0 to 5 are rho 0, 0.01, 0.02, 0.05, 0.1, 0.2.
    values = [(row["x"], row["value"]) for row in rows]
    assert values == [(0, 28.98), (1, 25.19), (2, 23.51), (3, 18.28), (4, 15.94), (5, 11.97)]
    assert "Hollow points" in figure.caption
    by_width = compiled(drawn(runs)["moments_by_width"])["datasets"]["moments_by_width_0_hollow"]
    assert [(row["value"], row["shade"]) for row in by_width] == [(28.98, "#0072B2"), (15.94, "#D55E00")]
    other = drawn(runs.assign(loss="cross_entropy"))["moments_by_rho"]
    assert "hollow" not in json.dumps(other.chart.to_dict())


def test_the_largest_stable_learning_rate_is_drawn_with_the_one_used(compiled):
    runs = study().assign(**{"stability.largest_stable_learning_rate": 0.5, "stability.learning_rate": 0.1})
    spec = compiled(drawn(runs)["stability_by_width"])
    (name,) = [name for name in spec["datasets"] if name.endswith("averages")]
    used = [row["mean"] for row in spec["datasets"][name] if row["of"] == "learning rate that was used"]
    assert used == [0.1, 0.1, 0.1]


def test_with_many_runs_the_first_seeds_have_dots_and_all_enter_the_mean():
    rows = [
        {"quantity": TOP, "num_params": 10, "rho": rho, "seed": seed, "value": 1.0 + seed, "is_best": False}
        for rho in (0.0, 0.1)
        for seed in range(10)
    ]
    spec = charts.against_rho(rows, most_dots=6).to_dict()
    tables = spec["datasets"]
    assert len(tables["measured_by_rho_0_dots"]) == 2 * 3
    assert tables["measured_by_rho_0_averages"][0]["mean"] == pytest.approx(4.52873, rel=1e-5)  # (10!)^(1/10)
    assert "3 of the seeds; large points and bars: mean and 95 % t interval of 10 seeds" in str(spec["title"])


def test_each_part_is_a_panel_of_the_headline_quantity(compiled):
    runs = pd.concat([study(label_noise=noise) for noise in (0.0, 0.5)], ignore_index=True)
    figures = drawn(with_curvature(runs))
    assert list(figures)[:2] == ["curvature_top_eigenvalue_by_width", "curvature_top_eigenvalue_by_rho"]
    assert {name for name in figures if name.startswith("metric")} == {
        f"metric_by_flatness_label_noise_{noise}" for noise in ("0_0", "0_5")
    }
    panels = compiled(figures["curvature_top_eigenvalue_by_rho"])["concat"]
    assert [panel["title"]["text"] for panel in panels] == ["label_noise=0.0", "label_noise=0.5"]


def test_the_correlation_is_printed_above_its_plot():
    rows = [
        {"quantity": TOP, "num_params": 10, "rho": 0.1 * k, "seed": 0, "value": 5.0 - k, "metric": 0.9 + k / 100}
        | {"is_best": False}
        for k in range(3)
    ]
    correlations = {TOP: measured.Ends(-1.0, float("nan"), float("nan"), 1, 1)}
    spec = charts.against_metric(rows, correlations=correlations).to_dict()
    assert spec["concat"][0]["title"]["text"] == "rank correlation -1.00"
    assert [row["value"] for row in spec["datasets"]["metric_by_measured_0_seeds"]] == [90, 91, 92]


def test_runs_are_drawn_over_epochs_where_several_were_measured(compiled):
    runs = with_curvature(study())

    def rows(epochs):
        facts = {"measurement": "curvature", "quantity": "top_eigenvalue", "standard_error": None}
        return [facts | {"epoch": epoch, "value": 1.0 + epoch} for epoch in epochs]

    assert "measured_over_epochs" not in drawn(runs, series={run: rows([3]) for run in runs["run"]})
    figure = drawn(runs, series={run: rows([0, 1, 3]) for run in runs["run"]}, interactive=True)["measured_over_epochs"]
    spec = compiled(figure)
    assert figure.section == "Dynamics"
    table = spec["datasets"]["measured_over_epochs_100"]
    assert len(table) == 2 * 3 * 3  # arms, seeds, epochs
    assert [row["curvature_top_eigenvalue"] for row in table[:3]] == [1, 2, 4]
    assert figure.data[0][TOP] == 1.0


X = np.array([-1.0, 0.0, 2.0])
ARRAYS = {
    "spectrum": {"grid": np.linspace(0, 1, 1001), "density": np.exp(-30 * np.linspace(0, 1, 1001))},
    "barrier": {"line_positions": X, "line_losses": X**2 + 0.1},
    "landscape": {"plane_x": X, "plane_y": X[:2], "plane_losses": np.arange(6.0).reshape(2, 3) + 1},
    "sharpest_plane": {
        "plane_x": X,
        "plane_y": X,
        "plane_losses": np.ones((3, 3)),
        "eigenvalues": np.array([9.5, 2.0]),
    },
    "minima_plane": {
        "plane_x": X,
        "plane_y": X[:2],
        "plane_losses": np.array([[0.5, 1.5, 1.7], [30.0, np.nan, 0.4]]),
        "coordinates": np.array([[0, 0], [1, 1], [2, 0], [0.1, 0]]),
        "offsets": np.array([0, 0, 0, 0.25]),
    },
    "function": {"grid": np.linspace(-1, 1, 5), "outputs": np.array([0.0, 1, 2, 1, 0])},
    "trajectory": {"surface_x": X, "surface_y": X, "surface_losses": np.ones((3, 3)), "coordinates": np.eye(2)}
    | {"explained_variance": np.array([0.7, 0.2])},
}


def test_spectra_and_landscapes_are_of_one_seed_at_both_ends(compiled):
    runs = study()
    arrays = {(run, name): dict(named_arrays) for run in runs["run"] for name, named_arrays in ARRAYS.items()}
    arrays["run-100-0.0-0", "spectrum"] |= {"density_error": np.full(1001, 0.1)}
    figures = drawn(runs, arrays=arrays, interactive=True)
    names = ["functions", "spectral_density", "loss_on_line", "loss_on_plane", "loss_on_sharpest_plane"]
    assert sorted(figures) == sorted([*names, "loss_on_minima_plane", "trajectory"])
    assert {row["run"] for row in figures["spectral_density"].data} == {
        f"run-{size}-{rho}-0" for size in (100, 5_366_010) for rho in (0.0, 0.1)
    }
    assert {row["rho"] for row in figures["loss_on_line"].data} == {0.1}  # only SAM's run has the line
    for figure in figures.values():
        assert len(json.dumps(compiled(figure))) < 60_000
    path = figures["trajectory"].chart.to_dict()["datasets"]["trajectory_0_path"]
    assert [(row["left"], row["bottom"]) for row in path] == [(1, 0), (0, 1)]
    assert "point: the end of training" in json.dumps(figures["trajectory"].chart.to_dict()["title"])
    assert "end of training" not in json.dumps(figures["loss_on_plane"].chart.to_dict())
    assert "70 % of the variance" in json.dumps(figures["trajectory"].chart.to_dict())
    assert "eigenvector 1 (eigenvalue 9.5)" in json.dumps(figures["loss_on_sharpest_plane"].chart.to_dict())
    cells = figures["loss_on_plane"].chart.to_dict()["datasets"]["loss_on_plane_0_cells"]
    assert cells[1] == {"left": -0.5, "right": 1.0, "bottom": -1.5, "top": -0.5, "loss": 2.0}
    assert len(cells) == 6


def test_functions_have_every_seed_their_mean_and_spread_and_a_panel_for_each_width(compiled):
    runs = study()
    shapes = {seed: seed * np.array([3.0, 3, 3, 3, 90]) for seed in range(3)}  # 90 beyond the examples
    grid, wave = np.linspace(-1, 1, 5), np.array([0.0, 1, 2, 1, 0])
    facts = {"inputs": grid[1:3], "targets": np.array([-1.0, 9.0])}
    arrays = {
        (r["run"], "function"): {"grid": grid, "outputs": wave + shapes[r["seed"]]} | facts for _, r in runs.iterrows()
    }
    figure = drawn(runs, arrays=arrays, interactive=True)["functions"]
    spec = compiled(figure)
    assert len(figure.data) == 3 * 2 * 3 * 5  # widths, arms, seeds, points
    assert {row["rho"] for row in figure.data} == {0.0, 0.1}  # SAM at its best rho
    tables = spec["datasets"]
    assert sum(name.endswith("_lines") for name in tables) == 3 * 2
    assert tables["functions_sam_1000_averages"][2] == {"input": 0.0, "output": 5.0, "low": 2.0, "high": 8.0}
    assert [row["output"] for row in tables["functions_base_100_lines"] if row["seed"] == 1] == [3, 4, 5, 4, 90]
    assert tables["functions_base_100_examples"] == [{"input": -0.5, "output": -1.0}, {"input": 0.0, "output": 9.0}]
    top = spec["concat"]
    assert top[0]["title"] == {"text": "SGD, 100 parameters", "subtitle": ["spread 3"], "fontSize": 13}
    assert top[0]["layer"][1]["encoding"]["y"]["scale"]["domain"] == [
        -2.5,
        10.5,
    ]  # 15 % more than the range of the targets
    assert top[5]["title"]["text"] == "SAM, ρ = 0.1, 5,366,010 parameters"


def test_a_plane_of_minima_is_in_bands_and_marks_its_networks(compiled):
    arrays = {(run, "minima_plane"): ARRAYS["minima_plane"] for run in study()["run"]}
    figure = drawn(study(), arrays=arrays)["loss_on_minima_plane"]
    spec = compiled(figure)
    assert {(row["num_params"], row["rho"], row["seed"]) for row in figure.data} == {(size, 0.1, 0) for size in SIZES}
    tables = spec["datasets"]
    marks = [(row["network"], row["left"], row["bottom"]) for row in tables["loss_on_minima_plane_1_networks"]]
    assert marks[:2] == [("SGD from the same start", 0, 0), ("SGD from another start", 1, 1)]
    assert marks[2:] == [("SAM", 2, 0), ("start", 0.1, 0)]
    # Levels 0.5, 1, 2, 5, 10, 20 between 0.4 and 30; neighbours in one band are one rectangle; NaN is above all.
    low, high = {"bottom": -1.5, "top": -0.5}, {"bottom": -0.5, "top": 0.5}
    assert tables["loss_on_minima_plane_0_cells"] == [
        {"left": -1.5, "right": -0.5, "loss": "0.5 to 1"} | low,
        {"left": -0.5, "right": 3.0, "loss": "1 to 2"} | low,
        {"left": -1.5, "right": 1.0, "loss": "above 20"} | high,
        {"left": 1.0, "right": 3.0, "loss": "below 0.5"} | high,
    ]
    assert spec["concat"][0]["title"]["subtitle"] == ["start 0.25 from the plane"]


OPTIONS = {"heading": "The loss", "name": "f", "style": DEFAULT}


def test_levels_of_a_wide_range_are_powers_of_ten():
    plane = {"arm": "sam", "num_params": 10, "seed": 0, "rho": 0.1, "x": X, "y": X[:2], "marked": [("SAM", (0, 0))]}
    share = {"x_title": "x", "y_title": "y", "note": "here"}
    wide = landscape.contours(
        [plane | share | {"losses": np.array([[1e-5, 0.5, 2e3], [1, 1, 1]])}], **OPTIONS
    ).to_dict()
    names = [row["loss"] for row in wide["datasets"]["f_0_cells"]]
    assert names == ["below 1e-4", "0.1 to 1", "above 1000", "1 to 10"]
    flat = landscape.contours([plane | share | {"losses": np.ones((2, 3))}], **OPTIONS).to_dict()
    assert [row["loss"] for row in flat["datasets"]["f_0_cells"]] == ["all", "all"]


def test_a_density_is_cut_at_its_floor_and_keeps_its_band():
    density = np.array([1.0, 0.5, 1e-9])
    rows = spectra.points({"grid": X, "density": density, "density_error": np.array([0.1, 0.6, 0])})
    assert rows[0] == {"x": -1.0, "density": 1.0, "low": 0.9, "high": 1.1}
    assert (rows[1]["low"], rows[1]["high"]) == (1e-6, 1.1)
    assert rows[2] == {"x": 2.0}


def test_a_fine_plane_is_thinned():
    fine = np.linspace(-1, 1, 201)
    run = {"arm": "sam", "num_params": 10, "seed": 0, "rho": 0.1, "x": fine, "y": fine}
    spec = landscape.planes([run | {"losses": np.ones((201, 201))}], **OPTIONS).to_dict()
    assert len(spec["datasets"]["f_0_cells"]) == 31 * 31


def test_arrays_are_read_of_no_more_seeds_than_are_drawn():
    runs, asked = study(), []

    class Lazy(dict):
        def get(self, key, default=None):
            asked.append(key)
            return ARRAYS.get(key[1], default)

    gallery.gallery(runs, arrays=Lazy(x=1))
    # Ends, arms, kinds of figures; only SAM's run has the line, and planes of minima and functions have all widths.
    assert len(asked) == 2 * 2 * 4 + 2 + 3 + 3 * 2 * 3
