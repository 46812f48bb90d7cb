"""Reports of work directories with runs of several domains."""

import html
import itertools
import re

import pandas as pd
import pytest

from flatwide import load, report

TEACHER = {"model": "OneHiddenLayer", "dataset": "two_layer_teacher", "loss": "squared", "base_optimizer": "adam"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, make):
    """Make a work directory with two studies of different domains."""
    folder = tmp_path_factory.mktemp("mixed")
    for width, rho, seed in itertools.product((4, 16, 64), (0.0, 0.1), (0, 1, 2)):
        make(folder, width, rho, seed)
        make(folder, width + 1, rho, seed, metric_name="mean_squared_error", **TEACHER)
    return folder


@pytest.fixture(scope="module")
def page(mixed):
    """Write its report."""
    return report.write(mixed, formats=("svg", "latex")).read_text()


def test_the_page_begins_with_every_domain(page):
    assert "<h1>SAM against Adam and SGD in 2 domains</h1>" in page
    headline = "SAM helps at the largest size in 2 of 2 domains; its gain grows with width in 2."
    texts = (headline, 'id="figure-gain_of_domains"', 'data-file="domains_table"', "<summary>In detail</summary>")
    places = [page.index(text) for text in texts]
    assert places == sorted(places)
    assert "in 2 of 2 domains, by Holm's test" in html.unescape(page[places[-1] :])


def test_each_domain_has_units_of_its_own(page):
    rows = re.findall(
        r"<tr><th scope=\"row\">(.*?)</tr>", page.split('data-file="domains_table"')[1].split("</table>")[0]
    )
    cells = [re.split(r"</t[hd]><td>|</t[hd]>", row) for row in rows]
    assert [row[:3] for row in cells] == [
        ["digits, MLP", "test accuracy (points)", "SGD"],
        ["two_layer_teacher, OneHiddenLayer", "test mean squared error", "Adam"],
    ]
    gains = [float(row[5].split(" ")[0]) for row in cells]
    # Both gain 0.02 log(width) at rho 0.1: as many hundredths of accuracy, and that much less error.
    assert gains[0] == pytest.approx(100 * gains[1], rel=0.2)
    assert gains[1] > 0


def test_charts_and_tables_of_a_domain_have_its_name(mixed, page):
    assert '<h3 id="section-1">digits, MLP: Gain of SAM</h3>' in page
    assert "two_layer_teacher, OneHiddenLayer: The gain at each width" in page
    names = {path.name for path in (mixed / "figures").iterdir()}
    for ending in ("digits_mlp", "two_layer_teacher_onehiddenlayer"):
        assert {f"gain_by_width_{ending}.svg", f"metric_by_width_{ending}.csv"} <= names
        assert f"gain_by_width_table_{ending}.tex" in names
    assert {"gain_of_domains.svg", "gain_of_domains.csv", "domains_table.tex"} <= names
    assert "digits, MLP: Gain of SAM over SGD" in (mixed / "figures" / "gain_by_width_digits_mlp.svg").read_text()
    drawn = pd.read_csv(mixed / "figures" / "gain_of_domains.csv")
    assert set(drawn["domain"]) == {"digits, MLP", "two_layer_teacher, OneHiddenLayer"}


def test_the_summary_covers_all(mixed, page):
    summary = pd.read_csv(mixed / "summary.csv")
    assert len(summary[summary["row"] == "width"]) == 6
    assert set(summary["model"]) == {"MLP", "OneHiddenLayer"}


def test_the_table_of_runs_says_what_each_is_measured_by(page, embedded):
    columns = {column["name"]: column for column in embedded(page, "run-data")["columns"]}
    assert "metric_name" in columns
    assert not columns["test_metric"]["percent"]  # an error is none


def test_a_table_of_several_domains_is_read_too(mixed, content_of_table):
    assert len(content_of_table(load(mixed)).summary.rows) == 2


def test_names_of_sizes_are_no_domains(content_of_table):
    rows = [
        {"model": f"net-{size}", "params": size, "rho": rho, "seed": seed, "accuracy": 0.5 + rho * size / 1000}
        for size, rho, seed in itertools.product((10, 100), (0.0, 0.1), (0, 1, 2))
    ]
    content = content_of_table(pd.DataFrame(rows))
    assert content.short.entries == []
    assert not any("model differs" in caution for caution in content.cautions)


def test_domains_without_a_gain_have_a_page(tmp_path, make, content_of):
    make(tmp_path, 4, 0.0, 0)
    make(tmp_path, 5, 0.0, 0, metric_name="mean_squared_error", **TEACHER)
    content = content_of(tmp_path)
    assert "In 2 there is no interval yet (digits, MLP; two_layer_teacher, OneHiddenLayer)." in content.answers[0][1]
    assert any(
        part == "digits, MLP" and text.startswith("The only run has a test accuracy (%) of")
        for part, text in content.answers
    )
