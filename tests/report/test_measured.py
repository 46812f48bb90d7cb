"""Measurements on the page: sentences with intervals and their basis, a table, and a bounded size for many runs."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest

from flatwide import report
from flatwide.report import workdir as reports
from flatwide.runs import records
from flatwide.runs.directory import RunDirectory

RHOS, SEEDS = (0.0, 0.1), (0, 1, 2)


def measure(directory, name, values, *, epoch=None, num_examples=1000, arrays=None, measured="2026-01-01"):
    """Write a measurement in the same way as the command."""
    outcome = SimpleNamespace(values=values, errors={}, arrays=arrays or {}, cost=1)
    wanted = records.Wanted(name, epoch, num_examples)
    at, facts = (3.0 if epoch is None else epoch), {"measured": measured}
    records.write(directory, wanted, outcome, epoch=at, num_examples=num_examples, facts=facts)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, make):
    """Make a study whose top eigenvalue SAM halves at 16 neurons and cuts to a tenth at 64."""
    folder = tmp_path_factory.mktemp("measured")
    grid = np.linspace(0, 1, 50)
    for width, rho, seed in itertools.product((16, 64), RHOS, SEEDS):
        directory = RunDirectory(folder / "runs" / make(folder, width, rho, seed))
        top = (seed + 1) * ({16: 0.5, 64: 0.1}[width] if rho else 1.0)
        measure(directory, "curvature", {"top_eigenvalue": top, "smallest_eigenvalue": rho - 0.05})
        measure(directory, "curvature", {"top_eigenvalue": 9.0, "smallest_eigenvalue": 0.0}, epoch=1)
        measure(directory, "spectrum", {"width": 0.1}, arrays={"grid": grid, "density": 1 + grid})
        if (width, seed) != (64, 2):
            measure(directory, "mine", {"path_norm": 2.0 + seed}, num_examples=50)
    return folder


@pytest.fixture(scope="module")
def text(measured):
    return report.write(measured, formats=("latex",)).read_text()


def test_the_answer_has_both_ends_its_interval_and_what_it_rests_on(text):
    # 64 neurons: values 1, 2, 3 and a tenth of them; the geometric mean of 1, 2, 3 is 1.817.
    assert (
        "At 4,810 parameters the top eigenvalue of the Hessian is 1.82 loss / parameter² for SGD and 0.182 for SAM at "
        "ρ = 0.1 (ratio 0.1, 95 % interval 0.1 to 0.1, 3 seeds)"
    ) in text
    # A fifth over a factor of 4810 / 1210 in parameters.
    slope = 0.2 ** (1 / np.log10(4810 / 1210))
    assert f"The ratio seems to fall with width (×{slope:.3g} per tenfold increase in parameters" in text
    assert "Measured on 1,000 training examples of each run, in 32-bit numbers, in evaluation mode" in text
    assert "The ρ of SAM is chosen by the test metric, not by flatness." in text
    assert (
        "Measured on 50 training examples of each run, in 32-bit numbers, in evaluation mode and without weight" in text
    )
    assert "on 10 of 12 finished runs" in text


def test_sections_come_after_the_metric_and_hold_their_figures(text):
    headings = re.findall(r'<h3 id="section-\d+">(.*?)</h3>', text)
    assert headings == ["Gain of SAM", "Training", "Curvature of the minima", "Dynamics", "Other measurements"]
    figures = re.findall(r'<figure.*? id="figure-(.*?)"', text)
    assert figures[figures.index("training_curves") + 1 :] == [
        *("curvature_by_width", "curvature_by_rho", "metric_by_flatness", "spectral_density"),
        *("measured_over_epochs", "mine_by_width", "mine_by_rho"),
    ]


def test_the_table_has_each_quantity_at_each_width(measured, text):
    tex = (measured / "figures" / "measured_table.tex").read_text()
    assert tex.count("top eigenvalue of the Hessian") == 2
    table = text[text.index('id="measured_table"') :]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    signed = next(row for row in rows if row and row[0].startswith("smallest"))
    assert signed[1:] == ["16", "1,210", "-0.05", "0.05", "difference", "+0.1", "+0.1 to +0.1", "3"]
    custom = next(row for row in rows if row and row[0] == "path norm (mine)" and row[2] == "4,810")
    assert custom[-1] == "2"


def test_words_of_measurements_are_explained_where_they_are_used(text, page):
    assert "<dt>Hessian</dt>" in text
    assert "<dt>Hessian</dt>" not in page.read_text()


def test_arrays_are_those_on_the_most_examples_and_a_damaged_file_is_none(tmp_path, make):
    directory = RunDirectory(tmp_path / "runs" / make(tmp_path, 16, 0.1, 0))
    measure(directory, "spectrum", {"width": 1.0}, arrays={"grid": np.zeros(2)}, num_examples=50, measured="2026-02-02")
    measure(directory, "spectrum", {"width": 1.0}, arrays={"grid": np.ones(2)})
    measure(directory, "spectrum", {"width": 1.0}, arrays={"grid": np.full(2, 5)}, epoch=1)
    arrays = reports.Arrays(tmp_path)
    key = (directory.name, "spectrum")
    assert arrays[key]["grid"].tolist() == [1, 1]
    assert set(arrays) == {key}
    assert (directory.name, "landscape") not in arrays
    (directory.path / "measurements" / "spectrum.npz").write_bytes(b"PK")
    assert key not in reports.Arrays(tmp_path)
