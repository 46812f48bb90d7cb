"""The tables of the page have the numbers of the analysis, formatted with units."""

import itertools

import pandas as pd
import pytest

from flatwide import load
from flatwide.analysis import table as results
from flatwide.analysis.gain import gain_by_width
from flatwide.analysis.rho import best_rho
from flatwide.analysis.summary import summary
from flatwide.report import tables


def made(runs, metric="test_metric"):
    split = results.split(runs, metric=metric)
    key_tables = tables.key_tables(split.domains[0], summary(split), base="SGD")
    return {table.name: table for table in key_tables}


@pytest.fixture(scope="module")
def runs(workdir):
    return load(workdir)


def column(table, name):
    return [row[table.columns.index(name)] for row in table.rows]


def test_gains_are_in_points_with_their_sign(runs):
    table = made(runs)["gain_by_width_table"]
    expected = gain_by_width(runs)
    assert column(table, "gain (points)") == [f"{100 * gain:+.2f}" for gain in expected["gain"]]
    assert column(table, "SGD (%)") == [f"{100 * value:.2f}" for value in expected["base"]]
    assert column(table, "num_neurons") == ["4", "16", "64"]
    assert column(table, "parameters") == ["310", "1,210", "4,810"]
    assert column(table, "diverged") == ["1", "0", "0"]


def test_best_rho_has_its_interval(runs):
    table = made(runs)["best_rho_table"]
    expected = best_rho(runs)
    assert column(table, "best rho") == [f"{rho:g}" for rho in expected["best_rho"]]
    assert column(table, "95 % interval") == [
        f"{low:g} to {high:g}" for low, high in zip(expected["best_rho_low"], expected["best_rho_high"], strict=True)
    ]


def test_indistinguishable_rhos_are_listed_with_commas(runs):
    table = made(runs)["best_rho_table"]
    members = [members.split(" ") for members in best_rho(runs)["best_rho_set"]]
    assert max(map(len, members)) > 1
    assert column(table, "statistically indistinguishable rhos") == [", ".join(each) for each in members]


def test_growth_is_split_and_the_parts_add_up(runs):
    rows = made(runs)["decomposition_table"].rows
    assert len(rows) == 1  # the base is best at the second of three widths
    for row in rows:
        growth, sam, base = (float(cell.split(" ")[0]) for cell in row[2:5])
        assert growth == pytest.approx(sam + base, abs=0.011)


def test_interpolation_is_a_share_of_seeds(runs):
    table = made(runs)["interpolation_table"]
    assert column(table, "SAM seeds that interpolate") == ["0 %", "100 %", "100 %"]


def test_a_trend_needs_no_name_and_has_the_papers_rule(runs):
    (row,) = made(runs)["trend_table"].rows
    assert row[0] == "all runs"
    assert row[-1].startswith("yes (2 of 2 steps rise)")


def test_each_part_of_a_table_has_its_rows(runs):
    twice = pd.concat([runs, runs.assign(label_noise=0.0)], ignore_index=True)
    table = made(twice)["gain_by_width_table"]
    assert column(table, "label_noise") == ["0.0"] * 3 + ["0.5"] * 3
    assert [row[0] for row in made(twice)["trend_table"].rows] == ["label_noise=0.0", "label_noise=0.5"]


def test_equal_compute_is_there_where_base_runs_are_twice_as_long(runs):
    assert "equal_compute_table" not in made(runs)
    longer = runs[runs["rho"] == 0].assign(num_epochs=200)
    table = made(pd.concat([runs, longer], ignore_index=True))["equal_compute_table"]
    assert len(table.rows) == 3
    assert "gain at equal compute" in table.columns


def test_a_loss_stays_in_its_own_units():
    rows = [
        {"num_params": size, "rho": rho, "seed": seed, "test_metric": 0.5 - rho + 0.01 * seed, "status": "finished"}
        | {"metric_name": "mse", "higher_is_better": False, "optimizer": "sam", "base_optimizer": "sgd"}
        for size, rho, seed in itertools.product((10, 100), (0.0, 0.1), range(3))
    ]
    table = made(pd.DataFrame(rows))["gain_by_width_table"]
    assert column(table, "gain") == ["+0.1000", "+0.1000"]  # lower is better, so SAM gains
    assert column(table, "SGD") == ["0.5100", "0.5100"]


def test_without_a_pair_there_is_no_table(runs):
    assert made(runs[runs["rho"] == 0]) == {}


def test_the_papers_values_have_separate_tables(runs):
    mine = runs.assign(
        dataset="mnist", label_noise=0.0, weight_decay=1e-4, num_params=runs["num_params"].replace(310, 61_035)
    )
    key_tables = made(mine)
    (row,) = key_tables["paper_table"].rows
    names = key_tables["paper_table"].columns
    assert row[names.index("gain (points)")] == "+0.07 ± 0.03"
    assert row[names.index("SGD (%)")] == "98.20 ± 0.04"
    by_rho = key_tables["paper_by_rho_table"]
    assert column(by_rho, "rho") == ["0", "0.01", "0.02", "0.05", "0.1", "0.2"]
    finished = mine[(mine["num_params"] == 61_035) & (mine["status"] == "finished")]
    expected = finished.groupby("rho")["test_metric"].mean()
    run_means = dict(zip(column(by_rho, "rho"), column(by_rho, "test accuracy (%)"), strict=True))
    assert run_means["0.01"] == "–"
    assert run_means["0.1"] == f"{100 * expected[0.1]:.2f}"
    assert "paper_table" not in made(runs)


def test_what_the_analysis_adds_is_no_field_of_a_config(runs):
    from flatwide.analysis import fields
    from flatwide.report import facts

    assert "is_collapsed" not in facts.config_fields(fields.with_collapsed(runs).columns)
