"""All figures of a table, whatever varies or is missing in it: each compiles, has a caption and stays small."""

import collections
import json
import math

import numpy as np
import pandas as pd
import pytest
import vl_convert

from flatwide.figures import gallery
from flatwide.figures.tables import to_csv

SIZES = (61_035, 125_810, 266_610)
RHOS = (0.0, 0.01, 0.05, 0.1)
GAIN, METRIC, BEST, MAP = "gain_by_width", "metric_by_width", "best_rho_by_width", "rho_by_width"


def study(*, sizes=SIZES, rhos=RHOS, num_seeds=4, **more):
    """Return the results table of a study with a little noise."""
    generator = np.random.default_rng(0)
    rows = [
        {
            "run": f"run-{size}-{rho}-{seed}",
            "status": "finished",
            "optimizer": "sam",
            "base_optimizer": "sgd",
            "rho": rho,
            "seed": seed,
            "num_params": size,
            "metric_name": "accuracy",
            "higher_is_better": True,
            "test_metric": 0.9 + 0.1 * rho + 0.002 * generator.normal(),
            "dataset": "digits",
            "model": "MLP",
        }
        | more
        for size in sizes
        for rho in rhos
        for seed in range(num_seeds)
    ]
    return pd.DataFrame(rows)


def together(*tables):
    return pd.concat(tables, ignore_index=True)


def with_loss():
    return study().assign(test_loss=lambda t: 1 - t["test_metric"])


def with_diverged():
    runs = study()
    runs.loc[(runs["rho"] == 0.1) & (runs["seed"] == 1), ["status", "test_metric"]] = ["diverged", np.nan]
    runs.loc[(runs["rho"] == 0) & (runs["seed"] == 2) & (runs["num_params"] < 1e5), "test_metric"] = np.nan
    return runs


def at_fixed_budget():
    dense = study(sizes=SIZES[:1], pruner="none", sparsity=0.0)
    pruned = [  # by rounding, each pruner reaches the budget at a different sparsity
        study(sizes=(size,), pruner=pruner, sparsity=sparsity + 1e-6 * (pruner == "snip"))
        for pruner in ("random", "snip")
        for size, sparsity in zip(SIZES[1:], (0.52, 0.77), strict=True)
    ]
    return together(dense, *pruned)


CASES = {
    "plain": (study(), [GAIN, METRIC, BEST, MAP]),
    "one seed": (study(num_seeds=1), [GAIN, METRIC, BEST, MAP]),
    "one width": (study(sizes=SIZES[:1]), [GAIN, METRIC, BEST, MAP]),
    "one rho": (study(rhos=(0.0, 0.1)), [GAIN, METRIC]),
    "no base": (study(rhos=(0.01, 0.1)), [METRIC, BEST, MAP]),
    "base only": (study(rhos=(0.0,)), [METRIC]),
    "two runs": (study(sizes=SIZES[:1], rhos=(0.0, 0.1), num_seeds=1), [GAIN, METRIC]),
    "diverged": (with_diverged(), [GAIN, METRIC, BEST, MAP]),
    "all diverged": (study().assign(status="diverged", test_metric=np.nan), []),
    "noise": (
        together(*(study(label_noise=p) for p in (0.0, 0.25, 0.5))),
        [GAIN, METRIC, "gain_by_label_noise", "metric_by_label_noise", BEST, MAP],
    ),
    "fixed budget": (at_fixed_budget(), [GAIN, METRIC, "gain_by_sparsity", "metric_by_sparsity", BEST, MAP]),
    "variants": (
        together(study(sam_variant="normalized"), study(sam_variant="adaptive").query("rho > 0")),
        [GAIN, METRIC, BEST, MAP],
    ),
    "two axes": (
        together(
            *(study(num_seeds=2, label_noise=p, weight_decay=w) for p in (0.0, 0.5, 0.7, 0.9) for w in (0.0, 0.1))
        ),
        ["gain_overview", *(f"{n}_{k}" for k in (1, 2) for n in (GAIN, METRIC)), f"{BEST}_1", f"{MAP}_1", f"{BEST}_2"]
        + [f"{MAP}_2"],
    ),
    "table from elsewhere": (
        study()[["num_params", "rho", "seed", "test_metric", "status", "higher_is_better"]],
        [GAIN, METRIC, BEST, MAP],
    ),
}


SLOW = ("two axes", "noise")  # each of their parts is in a smaller case


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES]
)
def test_every_table_has_its_figures_and_each_is_readable(case, faults):
    runs, expected = CASES[case]
    for interactive in (True, False):
        figures = gallery.gallery(runs, interactive=interactive)
        assert [figure.name for figure in figures] == expected
        for figure in figures:
            spec = figure.chart.to_dict()
            assert not interactive or faults(spec) == []
            assert len(figure.data)
            assert figure.caption.endswith(".")
            assert "seed" in json.dumps(spec["title"])


def test_figures_can_share_a_page_and_are_the_same_each_time():
    first, second = (gallery.gallery(study(), interactive=True) for _ in range(2))
    specs = [figure.chart.to_dict() for figure in first]
    assert specs == [figure.chart.to_dict() for figure in second]
    assert [to_csv(figure.data) for figure in first] == [to_csv(figure.data) for figure in second]
    names = [
        name for spec in specs for name in [*spec["datasets"], *(param["name"] for param in spec.get("params", []))]
    ]
    assert len(names) == len(set(names))
    assert all(
        name.startswith(figure.name) for figure, spec in zip(first, specs, strict=True) for name in spec["datasets"]
    )
    # Names that altair numbers would depend on the charts drawn before.
    assert "view_" not in json.dumps(specs)


def test_with_one_seed_no_figure_speaks_of_bars_or_means():
    runs = study(num_seeds=1, dataset="mnist")  # the paper has values of these sizes
    runs["curvature.top_eigenvalue"] = 1 + runs["rho"]
    curves = {run: rows_of_metrics(3) for run in runs["run"]}
    figures = gallery.gallery(runs, curves=curves)
    assert len(figures) == 9
    for figure in figures:
        words = figure.caption + json.dumps(figure.chart.to_dict()["title"])
        assert "one seed" in words.lower(), figure.name
        for word in ("bars are", "bars span", "mean of", "over seeds", "their mean", "1 seeds", "geometric"):
            assert word not in words.lower(), figure.name
    several = {figure.name: figure.caption for figure in gallery.gallery(study())}
    assert "Bars are 95 % t intervals" in several[GAIN]
    assert "Bars span the ρ" in several[BEST]


def test_a_figure_shows_itself_in_a_notebook_and_is_short_in_a_list():
    figure = gallery.gallery(study(rhos=(0.0,)))[0]
    assert figure._repr_svg_().startswith("<svg")
    assert repr([figure]) == f"[Figure({METRIC}: {figure.title}. {figure.caption})]"


def test_every_seed_is_drawn_also_one_without_a_pair():
    runs = study().query("not (rho == 0 and seed == 3 and num_params < 1e5)")
    by_name = {figure.name: figure.chart.to_dict()["datasets"] for figure in gallery.gallery(runs)}
    dots = collections.Counter(row["of"] for row in by_name[METRIC][f"{METRIC}_0_dots"])
    assert dots == {"SGD": 11, "SAM": 12}
    assert sum(row["of"] == "SAM" for row in by_name[GAIN][f"{GAIN}_0_dots"]) == 11


def test_a_loss_is_better_where_it_is_lower():
    figures = {figure.name: figure for figure in gallery.gallery(with_loss(), metric="test_loss")}
    plain = {figure.name: figure for figure in gallery.gallery(study())}
    for loss_row, accuracy_row in zip(figures[GAIN].data, plain[GAIN].data, strict=True):
        assert loss_row["gain"] == pytest.approx(accuracy_row["gain"])
    assert "gain in loss" in json.dumps(figures[GAIN].chart.to_dict())
    assert "test loss" in json.dumps(figures[METRIC].chart.to_dict())


def test_the_papers_values_are_drawn_for_its_data_only():
    mine = study(dataset="mnist")
    (figure,) = [figure for figure in gallery.gallery(mine) if figure.name == GAIN]
    (rows,) = [rows for name, rows in figure.chart.to_dict()["datasets"].items() if "hollow" in name]
    assert [(row["x"], round(row["value"], 3)) for row in rows] == [(61_035, 0.073), (125_810, 0.063), (266_610, 0.18)]
    assert "the paper" in figure.caption
    for other in (study(), study(dataset="mnist", sam_variant="adaptive"), study(dataset="mnist", label_noise=0.5)):
        assert "hollow" not in json.dumps(gallery.gallery(other)[0].chart.to_dict())


def rows_of_metrics(num):
    return [
        {"step": k, "epoch": k / 2, "running_train_loss": 2.0 / k, "train_loss": None, "test_metric": 1 - 0.5 / k}
        for k in range(1, num + 1)
    ]


def test_the_gain_at_equal_compute_is_that_over_the_longer_base_of_each_seed():
    longer = study(rhos=(0.0,), num_epochs=20).assign(test_metric=lambda t: 0.8 + t["seed"] / 100)
    runs = together(study(num_epochs=10), longer)
    figures = {figure.name: figure for figure in gallery.gallery(runs)}
    figure = figures["gain_at_equal_compute"]
    assert vl_convert.vegalite_to_svg(figure.chart.to_dict())
    assert "SGD trained for twice as long, which computes as many gradients" in figure.caption
    for row in figure.data:
        cell = (runs["num_params"] == row["num_params"]) & (runs["seed"] == row["seed"])
        (sam,) = runs[cell & (runs["rho"] == row["best_rho"]) & (runs["num_epochs"] == 10)]["test_metric"]
        assert row["gain"] == pytest.approx(sam - 0.8 - row["seed"] / 100)
        assert (row["base"], row["sam"]) == (0.8 + row["seed"] / 100, sam)
    assert len(figure.data) == len(SIZES) * 4
    assert "gain_at_equal_compute" not in {
        candidate.name for candidate in gallery.gallery(runs.query("num_epochs == 10"))
    }


def test_every_rho_has_the_papers_value_in_a_panel_for_each_size():
    runs = study(dataset="mnist", sizes=(61_035, 77))
    (figure,) = [figure for figure in gallery.gallery(runs) if figure.name == "metric_by_rho"]
    tables = figure.chart.to_dict()["datasets"]
    (printed,) = [rows for name, rows in tables.items() if "hollow" in name]
    assert [(row["position"], row["value"]) for row in printed][:3] == [(0, 98.197), (0.01, 98.247), (0.02, 98.27)]
    assert {row["num_params"] for row in figure.data} == {61_035}  # the paper has no values of the other
    assert len(figure.data) == len(RHOS) * 4


@pytest.mark.parametrize("rows", [[], [{"epoch": 1.0, "running_train_loss": math.nan, "test_metric": math.nan}]])
def test_curves_without_a_finite_value_are_not_drawn(rows):
    runs = study()
    names = {figure.name for figure in gallery.gallery(runs, curves=dict.fromkeys(runs["run"], rows))}
    assert names == {figure.name for figure in gallery.gallery(runs)}


def test_curves_include_those_of_the_paper_and_its_sizes():
    facts = {"dataset": "matrix_factorization", "model": "LinearNetwork", "loss": "squared"}
    runs = study(sizes=(32, 64, 96), lr_scheduler="constant", metric_name="mean_squared_error", **facts)
    curves = {run: rows_of_metrics(3) for run in runs["run"]}
    (figure,) = [candidate for candidate in gallery.gallery(runs, curves=curves) if candidate.name == "training_curves"]
    spec = figure.chart.to_dict()
    (printed,) = [rows for name, rows in spec["datasets"].items() if name.endswith("_printed")]
    assert printed[0] == {"epoch": 1, "running_train_loss": 0.1882, "shade": "#D55E00"}
    assert {row["num_params"] for row in figure.data} == {32, 64, 96}
    assert "hollow: the paper's values" in spec["title"]["subtitle"]
    assert vl_convert.vegalite_to_svg(spec)
    (plain,) = [f for f in gallery.gallery(runs.assign(lr_scheduler="step"), curves=curves) if f.name == figure.name]
    assert {row["num_params"] for row in plain.data} == {32, 96}


def test_training_curves_are_of_both_end_widths_and_thinned():
    runs = study()
    curves = {run: rows_of_metrics(200) for run in runs["run"]}
    (figure,) = [figure for figure in gallery.gallery(runs, curves=curves) if figure.name == "training_curves"]
    tables = figure.chart.to_dict()["datasets"]
    assert sorted(tables) == sorted(
        f"training_curves_{size}{end}" for size in (61_035, 266_610) for end in ("", "_means")
    )
    rows = tables["training_curves_61035"]
    assert len(rows) == 2 * 4 * 40
    assert rows[39] == {
        "epoch": 100.0,
        "of": "SGD",
        "seed": 0,
        "rho": 0.0,
        "running_train_loss": 0.01,
        "test_metric": 99.75,
    }
    assert len(figure.data) == 2 * 2 * 4 * 200
    (drawn,) = [f for f in gallery.gallery(runs, curves=curves, interactive=True) if f.name == figure.name]
    assert vl_convert.vegalite_to_svg(drawn.chart.to_dict())


def test_the_mean_curve_stops_where_a_seed_does():
    runs = study(sizes=SIZES[:1])
    curves = {run: rows_of_metrics(6 if run.endswith("3") else 10) for run in runs["run"]}
    figure = gallery.gallery(runs, curves=curves)[-1]
    means = figure.chart.to_dict()["datasets"]["training_curves_61035_means"]
    have = [row["epoch"] for row in means if row["of"] == "SGD" and "test_metric" in row]
    assert have == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_a_heat_map_has_the_mean_and_the_number_of_seeds_of_each_cell():
    runs = with_diverged()
    (figure,) = [figure for figure in gallery.gallery(runs, interactive=True) if figure.name == MAP]
    (cells,) = figure.chart.to_dict()["datasets"].values()
    cell = next(cell for cell in cells if (cell["x"], cell["rho"]) == (266_610, 0.05))
    pairs = runs[runs["num_params"] == 266_610].pivot(index="seed", columns="rho", values="test_metric")
    assert cell["value"] == pytest.approx(100 * (pairs[0.05] - pairs[0.0]).mean(), rel=1e-4)
    assert (cell["seeds"], cell["diverged"]) == (4, 0)
    lost = next(cell for cell in cells if (cell["x"], cell["rho"]) == (266_610, 0.1))
    assert (lost["seeds"], lost["diverged"]) == (3, 1)
    assert "number of seeds" in json.dumps(figure.chart.to_dict())
    assert sum(cell.get("best", 0) for cell in cells) == 3


@pytest.mark.slow
def test_five_hundred_runs_stay_small():
    runs = study(sizes=tuple(int(1000 * 1.7**k) for k in range(10)), rhos=(*RHOS, 0.2), num_seeds=10)
    assert len(runs) == 500
    curves = {run: rows_of_metrics(100) for run in runs["run"]}
    figures = gallery.gallery(runs, curves=curves, interactive=True)
    assert sum(len(json.dumps(figure.chart.to_dict())) for figure in figures) < 300_000
    noise = together(*(study(num_seeds=8, rhos=(*RHOS, 0.2), label_noise=p) for p in (0.0, 0.25, 0.5, 0.75)))
    assert len(noise) == 480
    figures = gallery.gallery(noise, curves={run: rows_of_metrics(100) for run in noise["run"]}, interactive=True)
    assert sum(len(json.dumps(figure.chart.to_dict())) for figure in figures) < 600_000


def test_the_papers_sparse_networks_are_drawn():
    mine = at_fixed_budget().assign(dataset="mnist")
    (figure,) = [figure for figure in gallery.gallery(mine) if figure.name == "gain_by_sparsity"]
    printed = [rows for name, rows in figure.chart.to_dict()["datasets"].items() if "hollow" in name]
    points = {(round(row["position"], 3), round(row["value"], 3)) for rows in printed for row in rows}
    assert {(0.52, 0.087), (0.77, 0.147), (0.52, 0.153), (0.77, 0.17)} <= points  # SNIP's and random ones
    assert any("low" in row for rows in printed for row in rows)
    assert "Hollow points" in figure.caption
