"""The paper's numbers: consistent with each other, and found by their names."""

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis.paper import beside, paper_values


def test_mnist_by_hand():
    table = paper_values("mnist", setting="")
    assert list(table["num_params"]) == [61_035, 125_810, 266_610, 1_426_410, 5_366_010]
    assert list(table["best_rho"]) == [0.02, 0.1, 0.2, 0.2, 0.2]
    assert table["gain"].iloc[0] == pytest.approx(0.00073)
    assert set(table["source"]) == {"Shin et al. (2025), figures 1, 7 and 8"}


def test_every_gain_is_sam_less_base():
    table = paper_values().dropna(subset=["base", "sam"])
    sign = np.where(table["metric"] == "mean_squared_error", -1, 1)
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


@pytest.mark.parametrize(
    ("workload", "setting", "num_params", "gain"),
    [
        ("molpcba", "", 2_700_000, 0.00468),
        ("breakout", "", 3_800_000, 163.7),
        ("pos", "last_step", 23_700_000, 0.0337),
        ("cifar10", "model=ViT", 51_000_000, -0.00013),
        ("cifar10", "depth", 4_903_242, 0.00927),
    ],
)
def test_every_figure_of_gains_has_its_values(workload, setting, num_params, gain):
    table = paper_values(workload, setting=setting).set_index("num_params")
    assert table.loc[num_params, "gain"] == pytest.approx(gain)


def runs(*sizes, **more):
    facts = {"status": "finished", "optimizer": "sam", "rho": 0.1, "seed": 0, "dataset": "cifar10", "model": "ResNet18"}
    return pd.DataFrame([facts | {"num_params": size} | more for size in sizes])


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        (runs(44_622, 1), [""]),
        (runs(44_622, label_noise=0.5, weight_decay=0.0005), ["label_noise=0.5"]),
        (runs(44_622, label_noise=0.1), []),
        (runs(44_622, label_noise=0.0, weight_decay=0.0), ["weight_decay=0.0"]),
        (runs(11_173_962, pruner="snip", sparsity=0.9372), ["pruner=snip, sparsity=0.94"]),
        (runs(11_173_962, pruner="magnitude", sparsity=0.9372), []),
        (runs(4_903_242), ["depth"]),
        (runs(44_622, sam_variant="adaptive"), []),
        (runs(44_622, base_optimizer="adam"), []),
        (runs(44_622, dataset="digits"), []),
        (runs(10_201, dataset="teacher_student", model="MLP", weight_decay=0.0), [""]),
        (runs(44_622)[["status", "rho", "num_params"]], []),
    ],
)
def test_beside_runs_lie_the_values_of_their_own_setting(table, settings):
    assert list(beside(table)["setting"]) == settings
