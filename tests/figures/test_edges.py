"""Curvature over training is drawn with the edge of stability, by width and by rho."""

import json

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import table
from flatwide.figures import edges, gallery, pieces
from flatwide.figures.style import Style

SIZES, RHOS = (100, 200, 300, 5_366_010), (0.0, 0.01, 0.02, 0.05, 0.1)


def study(**more):
    generator, rows = np.random.default_rng(0), []
    for size in SIZES:
        for rho in RHOS:
            for seed in range(2):
                facts = {"run": f"run-{size}-{rho}-{seed}", "status": "finished", "optimizer": "sam", "rho": rho}
                facts |= {"base_optimizer": "sgd", "seed": seed, "num_params": size, "metric_name": "accuracy"}
                facts |= {"higher_is_better": True, "test_metric": 0.9 + 0.001 * generator.normal()}
                rows.append(facts | {"edge.edge_ratio": 0.9} | more)
    return pd.DataFrame(rows)


def measured(seed, names, epochs=(0.0, 0.5, 1.0), **values):
    rows = []
    for epoch in epochs:
        quantities = {names[0]: (seed + 1) * (4.0 + epoch), names[1]: 20.0} | values
        rows += [{"measurement": "edge", "quantity": k, "value": v, "epoch": epoch} for k, v in quantities.items()]
    return rows


def series_of(runs, names=("top_eigenvalue", "edge_of_stability"), **options):
    return {run: measured(int(run[-1]), names, **options) for run in runs["run"]}


def drawn(runs, *names, **options):
    """Return the figures of edges by name."""
    (part,) = table.split(runs).parts
    piece = pieces.arrange(part)
    assert piece is not None
    figures = edges.edge_figures(piece, Style(interactive=True), series=series_of(runs, *names, **options), ending="")
    return {figure.name: figure for figure in figures}


def test_each_width_is_a_panel_and_each_rho_a_colour_with_its_edge(faults):
    runs = study()
    figures = gallery.gallery(runs, series=series_of(runs), interactive=True)
    (figure,) = (candidate for candidate in figures if candidate.name == "edge_over_training")
    spec = figure.chart.to_dict()
    assert faults(spec) == []
    assert figure.section == "Dynamics"
    assert [panel["title"]["text"] for panel in spec["concat"]] == [
        f"{size:,} parameters" for size in (100, 300, 5_366_010)
    ]
    assert {row["rho"] for row in figure.data} == {0.0, 0.01, 0.05, 0.1}  # both ends and two of the three between
    means = [row for row in spec["datasets"]["edge_over_training_300_means"] if row["of"] == "SAM, ρ = 0.1"]
    assert [row["epoch"] for row in means] == [0, 0.5, 1]
    assert means[0]["eigenvalue"] == pytest.approx(4 * 2**0.5, rel=1e-4)  # the geometric mean of 4 and 8
    assert {row["edge"] for row in means} == {20}
    assert "geometric mean of 2 seeds" in json.dumps(spec)
    assert {row["epoch"]: row["eigenvalue"] for row in figure.data if row["seed"] == 1} == {0.0: 8.0, 0.5: 9.0, 1.0: 10}


def test_the_edge_of_adam_has_a_figure_of_its_own():
    runs = study(base_optimizer="adam")
    figures = drawn(runs, ("preconditioned_eigenvalue", "preconditioned_edge"))
    assert list(figures) == ["edge_over_training_of_adam"]
    assert "1 / learning rate" in json.dumps(figures["edge_over_training_of_adam"].chart.to_dict())


def test_it_is_drawn_where_several_networks_were_measured_and_an_edge_that_is_none_is_left_out():
    runs = study()
    assert drawn(runs, epochs=(3.0,)) == {}
    assert drawn(runs.drop(columns="edge.edge_ratio")) == {}
    figure = drawn(runs, edge_of_stability=float("inf"))["edge_over_training"]
    assert all("edge" not in row for row in figure.data)
    many = drawn(runs, epochs=tuple(range(500)))["edge_over_training"]
    assert len(many.data) == 3 * 4 * 2 * 60
