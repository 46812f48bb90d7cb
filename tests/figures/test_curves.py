"""Training curves of a run draw the logged values."""

import math

import pandas as pd
import pytest

from flatwide.figures import curves


def row(epoch, **values):
    return {"step": 10 * epoch, "epoch": epoch, "running_train_loss": 2.0**-epoch, "train_loss": None} | values


ROWS = [
    row(1.0, test_loss=0.9, test_metric=0.25, validation_metric=None),
    row(2.0, test_loss=0.5, test_metric=0.5, train_metric=1.0, train_loss=0.01),
]


def drawn(chart):
    """List for each panel its axis, its lines as {name: [(epoch, value)]}, and its rings in the same form."""
    panels = []
    for panel in chart.to_dict()["hconcat"]:
        marks = []
        for layer in panel["layer"]:
            points: dict[str, list] = {}
            for point in layer["data"]["values"]:
                points.setdefault(point["of"], []).append((point["epoch"], point["value"]))
            marks.append(points)
        panels.append((panel["layer"][0]["encoding"]["y"], *marks))
    return panels


@pytest.mark.parametrize("table", [ROWS, pd.DataFrame(ROWS)], ids=["rows", "DataFrame"])
def test_lines_are_logged_values_and_rings_are_full_passes(table):
    (loss, loss_lines, loss_rings), (metric, metric_lines, metric_rings) = drawn(
        curves.training_curves(table, metric_name="accuracy")
    )
    assert loss["scale"]["type"] == "log"
    assert loss_lines == {"training": [(1, 0.5), (2, 0.25)], "test": [(1, 0.9), (2, 0.5)]}
    assert loss_rings == {"training": [(2, 0.01)]}
    assert metric["title"] == "accuracy (%)"
    assert metric_lines == {"test": [(1, 25), (2, 50)]}
    assert metric_rings == {"training": [(2, 100)]}


def test_a_metric_that_is_no_fraction_keeps_its_unit():
    _, (metric, lines, _) = drawn(curves.training_curves(ROWS, metric_name="score"))
    assert metric["title"] == "score"
    assert lines == {"test": [(1, 0.25), (2, 0.5)]}


def test_losses_that_are_not_positive_are_on_a_linear_scale():
    ((loss, *_), _) = drawn(curves.training_curves([*ROWS, row(3.0, test_loss=0.0)]))
    assert "type" not in loss["scale"]


def test_a_diverged_run_shows_what_was_finite():
    rows = [*ROWS, row(3.0, test_loss=math.inf, test_metric=math.nan)]
    (_, lines, _), (_, metrics, _) = drawn(curves.training_curves(rows))
    assert [epoch for epoch, _ in lines["test"]] == [1, 2]
    assert [epoch for epoch, _ in metrics["test"]] == [1, 2]


def test_only_a_figure_with_rings_explains_them():
    assert "ring" in str(curves.training_curves(ROWS).to_dict()["title"])
    assert "ring" not in str(curves.training_curves(ROWS[:1]).to_dict()["title"])


def test_a_long_run_is_thinned_to_what_can_be_seen_and_keeps_its_extremes():
    rows = [{"epoch": n, "running_train_loss": 1 / n, "test_loss": 2.0, "test_metric": 0.5} for n in range(1, 20_001)]
    rows[12_345]["running_train_loss"], rows[777]["test_metric"] = 9.0, 0.1
    spec = curves.training_curves(rows).to_dict()
    losses, metrics = (panel["layer"][0]["data"]["values"] for panel in spec["hconcat"])
    assert len(losses) <= 2 * 4 * 300
    assert {"epoch": 12_346, "value": 9.0, "of": "training"} in losses
    assert {"epoch": 778, "value": 0.1, "of": "test"} in metrics
    for name in ("training", "test"):
        epochs = [point["epoch"] for point in losses if point["of"] == name]
        assert (epochs[0], epochs[-1]) == (1, 20_000)
        assert epochs == sorted(set(epochs))
    short = rows[:1200]
    assert len(curves.training_curves(short).to_dict()["hconcat"][1]["layer"][0]["data"]["values"]) == 1200
