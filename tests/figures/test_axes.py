"""Ticks are round and readable: whole epochs, radii of the study, few powers of ten."""

import pytest

from flatwide.figures import axes, curves, gain, labels, rho, study_curves


def texts(scene):
    return [text.text for text in scene.texts if text.role == "axis-label"]


def labels_below(scene):
    """List the labels of the horizontal axis of each panel."""

    def is_below(text, panel):
        return panel.bottom < text.top < panel.bottom + 12 and panel.left - 20 < text.left < panel.right

    return [[text.text for text in scene.texts if is_below(text, panel)] for panel in scene.panels]


def evaluations(epochs):
    row = {"running_train_loss": 0.1, "test_metric": 0.5}
    return [row | {"step": step, "epoch": epoch} for step, epoch in enumerate(epochs)]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ((1.0, 2.0, 3.0), ["1", "2", "3"]),
        ((0.0, 0.5, 1.0), ["0", "1"]),
        ((5.0, 2000.0), ["500", "1,000", "1,500", "2,000"]),
        ((0.1, 0.2), ["0.10", "0.12", "0.14", "0.16", "0.18", "0.20"]),
    ],
)
def test_epochs_are_whole_where_there_are_two(scene, epochs, expected):
    run = {"run": "r", "arm": "base", "num_params": 10, "rho": 0.0, "seed": 0}
    rows = evaluations(epochs)
    for chart in (curves.training_curves(rows), study_curves.study_curves([run], {"r": rows})):
        assert labels_below(scene(chart.to_dict())) == [expected, expected]  # of loss and metric


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((0.9, 11), [1, 2, 5, 10]),
        ((0.2, 150), [1, 10, 100]),
        ((1e-9, 1e3), [1e-8, 1e-6, 1e-4, 1e-2, 1, 100]),
        ((5e-3, 0.3), [0.005, 0.01, 0.02, 0.05, 0.1, 0.2]),
    ],
)
def test_a_logarithmic_axis_has_few_round_ticks(ends, ticks):
    low, high = ends
    shown = axes.log_axis([low, 0.0, float("nan"), high]).to_dict()["values"]
    assert [tick for tick in shown if low <= tick <= high] == pytest.approx(ticks)


def test_a_narrow_logarithmic_axis_leaves_its_ticks_to_the_renderer():
    assert "values" not in axes.log_axis([1.1, 1.9]).to_dict()


def test_radii_are_printed_as_they_were_given(scene):
    radii = (0.0, 1e-7, 0.1 + 0.2, 0.05)
    rows = [{"panel": "a", "rho": r, "seed": s, "value": 0.5 + 0.1 * s} for r in radii for s in (0, 1)]
    shown = texts(scene(rho.metric_against_rho(rows, paper=[]).to_dict()))
    assert {"0", "0.0000001", "0.05", "0.3"} <= set(shown)


def test_no_point_lies_on_the_frame(scene):
    pairs = [{"num_params": n, "seed": s, "gain": n / 1000} for n in (10, 100) for s in (0,)]  # 1 and 10 points
    drawn = scene(gain.gain_against_width(pairs).to_dict())
    (panel,) = drawn.panels
    assert len(drawn.points) == 4  # two dots and their means
    assert all(panel.holds(point) for point in drawn.points)


def test_titles_of_panels_are_aligned_whatever_their_ticks(faults):
    runs = [{"run": n, "arm": "base", "num_params": n, "rho": 0.0, "seed": 0} for n in (10, 20)]
    # The first panel has a tick at 100 %, 0.1 pixels below its upper end; the second has none there.
    curves_of = {
        n: [row | {"test_metric": top * k} for k, row in enumerate(evaluations((1, 2)))]
        for n, top in ((10, 0.937), (20, 0.9))
    }
    assert faults(study_curves.study_curves(runs, curves_of).to_dict()) == []


@pytest.mark.parametrize(
    ("title", "lines"),
    [
        ("test accuracy (%)", "test accuracy (%)"),
        ("Top eigenvalue of the Hessian (loss / parameter²)", ["Top eigenvalue of the Hessian", "(loss / parameter²)"]),
        ("top eigenvalue over that at the edge of stability", ["top eigenvalue over that at", "the edge of stability"]),
    ],
)
def test_a_long_title_is_broken_into_lines(title, lines):
    assert labels.wrapped(title) == lines


def test_layer_sizes_are_printed_as_papers_do():
    assert labels.setting("num_neurons=(300, 100), rho=0.1") == "num_neurons=300-100, rho=0.1"
    assert labels.setting("num_neurons=(300,), f(x)") == "num_neurons=300, f(x)"
