"""The paper's numbers: consistent with each other, and found by their names."""

import numpy as np
import pandas as pd
import pytest

from flatwide.paper import (
    beside,
    best_weight_decay_beside,
    curve_values,
    curves_beside,
    equal_compute_beside,
    measured_beside,
    paper_values,
    rho_beside,
    rho_values,
)


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


SIZES_OF_WIDTHS = [  # data set, model, base optimizer, the field of the width, metric, width -> our size
    ("sst2", "LSTM", "sgd", "hidden_size", "test_metric_best", {32: 520_000, 384: 9_600_000, 512: 14_000_000}),
    ("conllu", "TaggingTransformer", "adamw", "hidden_size", "test_metric_best", {128: 5_545_000, 640: 51_300_000}),
    ("conllu", "TaggingTransformer", "adamw", "hidden_size", "test_metric", {128: 5_545_000, 640: 51_300_000}),
    ("ogbg_molpcba", "GCN", "adam", "hidden_size", "test_metric", {128: 184_192, 256: 695_936, 512: 2_702_464}),
    ("atari_breakout", "ActorCritic", "adam", "num_filters", "test_metric_best", {16: 430_000, 64: 6_700_000}),
    ("cifar10", "ViT", "sgd", "hidden_size", "test_metric", {32: 55_274, 256: 3_194_634, 1024: 50_527_242}),
]


@pytest.mark.parametrize(("dataset", "model", "base", "width", "metric", "sizes"), SIZES_OF_WIDTHS)
def test_rounded_sizes_are_matched_by_width(dataset, model, base, width, metric, sizes):
    facts = {"dataset": dataset, "model": model, "base_optimizer": base}
    table = pd.concat([runs(size, **facts, **{width: value}) for value, size in sizes.items()], ignore_index=True)
    selected = beside(table, metric=metric)
    assert list(selected["num_params"]) == list(sizes.values())  # ours, so that the points lie over each other
    assert list(selected["width"]) == list(sizes)
    last = "last_step" if model == "TaggingTransformer" and metric == "test_metric" else ""
    assert set(selected["setting"]) == {"model=ViT" if model == "ViT" else last}
    assert beside(table.assign(base_optimizer="lion"), metric=metric).empty
    assert beside(table.assign(**{width: 7}), metric=metric).empty
    assert beside(table.assign(num_params=3 * table["num_params"]), metric=metric).empty


def settings_beside(table, **options):
    return list(beside(table, **options)["setting"])


def test_what_the_paper_trained_again_lies_beside_the_study_of_the_same_kind():
    plain = runs(44_622, weight_decay=5e-4)
    assert settings_beside(plain) == [""]
    assert settings_beside(plain, axes=["weight_decay"]) == ["weight_decay=0.0005"]
    assert settings_beside(runs(176_402, weight_decay=5e-4), axes=["weight_decay"]) == [""]  # it has no such size
    sparse = runs(11_173_962, pruner="snip", sparsity=0.9372)
    dense = runs(701_466, pruner="none", sparsity=0.0)
    assert settings_beside(pd.concat([dense, sparse])) == ["pruner=snip, sparsity=0", "pruner=snip, sparsity=0.94"]
    assert settings_beside(runs(4_903_242, 11_173_962)) == ["depth", "depth"]
    assert settings_beside(runs(11_173_962)) == [""]


def test_figure_19_by_hand():
    lazy = runs(9_225_610, model="VGG11", output_scale=100.0, weight_decay=0.0, loss="squared")
    (row,) = beside(lazy).to_dict("records")
    assert (row["base"], row["sam"], row["best_rho"]) == (0.5349, 0.526, 0.001)
    assert dict(rho_beside(lazy)[["rho", "value"]].values) == {0: 0.5349, 0.001: 0.526, 0.01: 0.2466, 0.02: 0.1663}
    stability = {row["rho"]: row["value"] for row in measured_beside(lazy, "activations.stability")}
    assert stability == {0: 0.991, 0.001: 0.988, 0.01: 0.893, 0.02: 0.812}
    assert beside(lazy.assign(output_scale=np.nan)).empty


def test_figure_6c_lies_beside_a_constant_rate_and_figure_21_beside_any():
    losses = curve_values().query("quantity == 'running_train_loss'")
    powers = np.log2(losses.query("num_params == 266610")["value"])
    np.testing.assert_allclose(powers, [-1.91, -3.39, -4.37, -5.14, -6.63, -7.79, -8.81], atol=1e-3)
    assert len(losses) == 8 * 2 + 7 * 3 + 10 * 3
    table = runs(701_466, loss="cross_entropy", lr_scheduler="constant", momentum=0.0)
    both = ["running_train_loss", "smoothness.smoothness"]
    assert next(row["value"] for row in curves_beside(table, both[:1])) == pytest.approx(2**0.75, rel=1e-3)
    stepped = curves_beside(table.assign(lr_scheduler="step"), both)
    assert [(row["epoch"], row["value"]) for row in stepped] == [(10.5, 18.9), (50.5, 18.8), (90.5, 17.6)]
    for other in ({"loss": "squared"}, {"label_noise": 0.5}, {"sparsity": 0.5}, {"sam_variant": "adaptive"}):
        assert curves_beside(table.assign(**other), both) == []


def test_the_best_decays_of_both_arms_are_found_by_size():
    table = pd.concat([runs(44_622, 701_466, weight_decay=decay) for decay in (1e-4, 5e-3)])
    assert [row["gain"] for row in best_weight_decay_beside(table)] == [0.0028, 0.00753]
    assert best_weight_decay_beside(table.assign(label_noise=0.5)) == []


def test_gains_at_equal_compute_are_found_by_size():
    assert list(equal_compute_beside(runs(44_622, 2_797_610))["gain"]) == [0.0019, 0.00337]
    assert equal_compute_beside(runs(61_035, dataset="mnist", model="MLP")).empty


def test_every_rho_has_the_gain_of_its_best():
    """Figures 8 to 11 and figure 7 say the same: the best rho less rho 0 is the gain, and best where its star is."""
    table = rho_values()
    for (workload, setting, size), rows in table.groupby(["workload", "setting", "num_params"]):
        plain = paper_values(str(workload), setting=str(setting))
        (printed,) = plain[plain["num_params"] == size].to_dict("records")
        values = rows.set_index("rho")["value"]
        assert values[values.index > 0].idxmax() == printed["best_rho"]
        assert values[values.index > 0].max() - values[0.0] == pytest.approx(printed["gain"], abs=1.2e-4)
    selected = rho_beside(runs(61_035, 125_810, dataset="mnist", model="MLP"))
    assert len(selected) == 2 * 6
    assert rho_beside(runs(61_035, dataset="mnist", model="MLP", label_noise=0.5)).empty


def test_figure_18_by_hand():
    table = paper_values("cifar10", setting="weight_decay=5e-05")
    assert list(table["base"]) == [0.8311, 0.9140, 0.9332, 0.9415]
    assert list(beside(runs(701_466, weight_decay=5e-05))["setting"]) == ["weight_decay=5e-05"]
    best = paper_values("cifar10", setting="best_weight_decay").set_index("num_params")["gain"]
    by_decay = paper_values("cifar10").query("setting.str.startswith('weight_decay=') and source.str.contains('18')")
    largest = by_decay.groupby("num_params")[["base", "sam"]].max()
    np.testing.assert_allclose(largest["sam"] - largest["base"], best, atol=1.2e-4)
