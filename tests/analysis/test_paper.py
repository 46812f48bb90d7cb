"""The paper's numbers: consistent with each other, and found by their names."""

import numpy as np
import pytest

from flatwide.analysis.paper import paper_values


def test_mnist_by_hand():
    table = paper_values("mnist", setting="")
    assert list(table["num_params"]) == [61_035, 125_810, 266_610, 1_426_410, 5_366_010]
    assert list(table["best_rho"]) == [0.02, 0.1, 0.2, 0.2, 0.2]
    assert table["gain"].iloc[0] == pytest.approx(0.00073)
    assert set(table["source"]) == {"Shin et al. (2025), figures 1, 7 and 8"}


def test_every_gain_is_sam_less_base():
    table = paper_values().dropna(subset=["base", "sam"])
    sign = np.where(table["metric"] == "loss", -1, 1)
    # Each value was rounded on its own: fractions and losses to 1e-4 at worst, scores to a tenth.
    rounding = np.where(table["unit"] == "score", 0.11, 1.6e-4)
    assert (np.abs(sign * (table["sam"] - table["base"]) - table["gain"]) < rounding).all()
    assert len(table) > 60
    assert table.groupby(["workload", "setting"])["num_params"].is_monotonic_increasing.all()


def test_values_are_fractions_and_have_sources():
    table = paper_values()
    assert table[table["unit"] == "fraction"][["base", "sam", "gain"]].max().max() < 1
    assert table["source"].str.match(r"Shin et al. \(2025\), figures? \d").all()
    assert not table.duplicated(["workload", "setting", "num_params"]).any()


def test_unknown_workload_is_empty():
    assert paper_values("nothing").empty
