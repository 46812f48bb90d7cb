"""The catalogue: its entries are complete, and an entry is all that tables, figures and pages need."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from flatwide import catalogue
from flatwide.analysis import measured, quantities
from flatwide.analysis import table as results
from flatwide.analysis.summary import summary
from flatwide.catalogue.entries import DETAIL, DYNAMICS, HEADLINE, SECTIONS, ArrayFigure, Measurement, Quantity
from flatwide.figures import gallery, measured_gallery
from flatwide.report import measured as on_page
from flatwide.report import page
from flatwide.report.content import Source, content
from flatwide.runs import records

TIDES = Measurement(
    function="flatwide.measurements.tides:tides",
    section=DYNAMICS,
    sentence="How far the tide of the weights rises.",
    quantities=(
        Quantity("height", "height of the tide", "fathoms", symbol="h", role=HEADLINE, compared_with="moon"),
        Quantity("flow_*", "flow of the tide through {}", "knots", is_signed=True),
        Quantity("moon", "pull of the moon", role=DETAIL),
    ),
    figures=(
        ArrayFigure(
            kind="plane",
            name="sea",
            arrays=("east", "north", "depth"),
            title="The sea of {base}",
            caption="The depth of the sea. {runs}",
        ),
    ),
    terms={"tide": "a rise that comes and goes"},
    version=3,
)


def study():
    rows = []
    for size, rho, seed in itertools.product((100, 1000), (0.0, 0.1), range(3)):
        facts = {"run": f"run-{size}-{rho}-{seed}", "status": "finished", "optimizer": "sam", "rho": rho}
        facts |= {"base_optimizer": "sgd", "seed": seed, "num_params": size, "metric_name": "accuracy"}
        facts |= {"higher_is_better": True, "test_metric": 0.9 + rho / 10 + seed / 100, "tides.num_examples": 50}
        rows.append(facts | {"tides.height": 2.0 + seed - rho, "tides.flow_hidden_0": seed - rho, "tides.moon": 0.5})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", catalogue.MEASUREMENTS)
def test_an_entry_is_complete(name):
    measurement = catalogue.MEASUREMENTS[name]
    assert catalogue.find("the catalogue", name).__name__ == name
    assert measurement.section in SECTIONS
    assert measurement.sentence.endswith(".")
    names = [quantity.name for quantity in measurement.quantities]
    assert len(set(names)) == len(names)
    assert {quantity.compared_with for quantity in measurement.quantities} <= {"", *names}
    assert sum(quantity.role == HEADLINE for quantity in measurement.quantities) <= 1
    assert all(("{}" in quantity.title) == quantity.name.endswith("*") for quantity in measurement.quantities)
    assert {figure.kind for figure in measurement.figures} <= set(measured_gallery.KINDS)


def test_a_row_that_ends_in_a_star_describes_all_columns_with_its_prefix():
    first = catalogue.quantity("activations.stability_hidden_0")
    assert first.label == "stability of activations of hidden 0"
    assert catalogue.quantity("activations.stability").role == HEADLINE
    assert catalogue.quantity("moments.s_3")[:4] == ("moments.s_3", "non-uniformity s_3", "loss / parameter²", "s_3")
    assert not catalogue.is_described("curvature.unheard_of")
    assert not catalogue.is_described("mine.norm")


def test_one_entry_is_all_that_a_measurement_needs(monkeypatch):
    runs, before = study(), [figure.name for figure in gallery.gallery(study())]
    assert "tides_by_width" in before  # as a user-defined measurement, with default titles
    assert {quantity.title for quantity in quantities.measured(runs)} >= {"height (tides)", "moon (tides)"}

    monkeypatch.setitem(catalogue.MEASUREMENTS, "tides", TIDES)
    assert catalogue.faults("config.measurements", ["tides"]) == []
    assert records.Wanted("tides", None, 1000).stem == "tides-v3"
    described = quantities.measured(runs)
    assert [(quantity.label, quantities.section(quantity)) for quantity in described] == [
        ("height of the tide (fathoms)", DYNAMICS),
        ("flow of the tide through hidden 0 (knots)", DYNAMICS),
    ]
    table = measured.by_width(runs, "tides.flow_hidden_0")
    assert table["comparison"].tolist() == ["difference", "difference"]

    sea = {"east": np.arange(3.0), "north": np.arange(2.0), "depth": np.ones((2, 3))}
    arrays = {(run, "tides"): sea for run in runs["run"]}
    figures = {figure.name: figure for figure in gallery.gallery(runs, arrays=arrays)}
    chart = json.dumps(figures["tides_by_width"].chart.to_dict(), ensure_ascii=False)
    assert all(words in chart for words in ("height of the tide", "fathoms", "knots", "moon that was used"))
    assert figures["tides_by_width"].caption.startswith("How far the tide of the weights rises. Measured on 50 ")
    assert figures["tides_by_width"].section == figures["sea"].section == DYNAMICS
    assert figures["sea"].title == "The sea of SGD"
    assert figures["sea"].caption.startswith("The depth of the sea. One seed of SGD and of SAM")

    split = results.split(runs)
    minima = on_page.find(split.domains[0])
    (finding,) = on_page.findings(minima, base="SGD").values()
    about_sam, about_base = (text for _, text in finding.answers)
    assert about_sam.startswith("At 1,000 parameters the height of the tide is ")
    assert about_base.startswith("For SGD alone the height of the tide shows no clear change with width")
    shown = on_page.measured_table(minima, base="SGD")
    assert [row[0] for row in shown.rows][::2] == [
        "height of the tide, h (fathoms)",
        "flow of the tide through hidden 0 (knots)",
    ]
    drawn = [(figure, figure.chart.to_dict()) for figure in figures.values()]
    text = page.render(content(split, summary(split), drawn, Source(name="W")))
    assert '<h3 id="section-2">Dynamics</h3>' in text
    for words in ("height of the tide, h (fathoms)", "a rise that comes and goes", "The sea of SGD", "knots"):
        assert words in text
