"""What was measured, compared by hand: ratios, differences, their change with width, and ranks against the metric."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide import catalogue
from flatwide.analysis import measured, quantities
from flatwide.analysis import table as results
from flatwide.answers import measured as in_words
from flatwide.catalogue.entries import OTHER
from flatwide.paper import measured_beside, measured_values

TOP = "curvature.top_eigenvalue"
SIZES = (100, 10_000)
# [size][seed] -> (base, rho 0.1, rho 0.2); by the metric 0.1 is best at the first size and 0.2 at the second.
VALUES = {
    100: [(8.0, 4.0, 1.0), (2.0, 2.0, 1.0), (4.0, 1.0, 1.0)],
    10_000: [(16.0, 8.0, 2.0), (4.0, 8.0, 2.0), (9.0, 8.0, 1.0)],
}
METRIC = {100: (0.5, 0.9, 0.7), 10_000: (0.5, 0.7, 0.9)}


def table(values=None, metric=None, **more):
    rows = [
        {"num_params": size, "rho": rho, "seed": seed, "status": "finished", "higher_is_better": True}
        | {"test_metric": (metric or METRIC)[size][position], TOP: value}
        | more
        for size, seeds in (values or VALUES).items()
        for seed, line in enumerate(seeds)
        for position, (rho, value) in enumerate(zip((0.0, 0.1, 0.2), line, strict=False))
    ]
    return pd.DataFrame(rows)


def arranged(runs, name=TOP):
    return measured.arrange(results.part(runs), [name])[name]


def test_ratios_are_geometric_and_at_the_rho_that_the_metric_chooses():
    result = measured.by_width(table(), TOP).set_index("num_params")
    assert list(result["best_rho"]) == [0.1, 0.2]
    assert list(result["comparison"]) == ["ratio", "ratio"]
    # By hand: base (8 · 2 · 4)^(1/3), SAM (4 · 2 · 1)^(1/3); ratios 1/2, 1, 1/4.
    assert_allclose(result.loc[100, ["base", "sam", "effect"]].tolist(), (4, 2, 0.5), rtol=1e-12)
    logs = np.log([0.5, 1, 0.25])
    low, high = scipy.stats.t.interval(0.95, 2, loc=logs.mean(), scale=scipy.stats.sem(logs))
    assert_allclose(result.loc[100, ["low", "high"]].tolist(), (math.exp(low), math.exp(high)), rtol=1e-12)
    assert result.loc[10_000, "effect"] == pytest.approx((2 / 16 * 2 / 4 * 1 / 9) ** (1 / 3))
    assert list(result["num_seeds"]) == [3, 3]


def test_a_value_that_is_not_positive_makes_differences_of_all():
    values = {100: [(8.0, -4.0), (2.0, 2.0)], 10_000: [(1.0, 3.0), (2.0, 6.0)]}
    result = measured.by_width(table(values, {100: (0.5, 0.9), 10_000: (0.5, 0.9)}), TOP)
    assert list(result["comparison"]) == ["difference", "difference"]
    assert_allclose(result[["base", "sam", "effect"]], [(5, -1, -6), (1.5, 4.5, 3)])
    assert_allclose(result["high"], [-6 + 12.706204736 * 6, 3 + 12.706204736], rtol=1e-9)


def test_a_signed_quantity_is_compared_by_differences_though_positive():
    runs = table().rename(columns={TOP: "curvature.smallest_eigenvalue"})
    assert set(measured.by_width(runs, "curvature.smallest_eigenvalue")["comparison"]) == {"difference"}


def test_seeds_that_were_not_measured_are_no_pairs():
    runs = table()
    runs.loc[(runs["seed"] == 1) & (runs["num_params"] == 100) & (runs["rho"] == 0.1), TOP] = np.nan
    runs.loc[runs["num_params"] == 10_000, TOP] = np.nan
    result = measured.by_width(runs, TOP)
    assert list(result["num_seeds"]) == [2, 0]
    assert result["effect"].iloc[0] == pytest.approx(math.sqrt(0.5 * 0.25))
    assert np.isnan(result["effect"].iloc[1])


def test_the_change_with_width_is_the_slope_of_each_seeds_logarithms():
    result = measured.change(arranged(table()), comparison="ratio")
    # Two widths, two decades apart: half of the change of the logarithm, seed by seed.
    ratios = np.log([[4 / 8, 2 / 2, 1 / 4], [2 / 16, 2 / 4, 1 / 9]])
    slopes = (ratios[1] - ratios[0]) / 2
    # The widths vary independently, as far as three seeds show: by Welch.
    parts = ratios.var(axis=1, ddof=1) / 4 / 3
    degrees = parts.sum() ** 2 / np.sum(parts**2 / 2)
    low, high = scipy.stats.t.interval(0.95, degrees, loc=slopes.mean(), scale=math.sqrt(parts.sum()))
    assert_allclose(result[:3], np.exp([slopes.mean(), low, high]), rtol=1e-12)
    assert result[3:] == (3, 2)
    plain = measured.change(arranged(table()), comparison="difference")
    assert plain.value == pytest.approx(np.mean([-14 + 4, -2 - 0, -8 + 3]) / 2)


def test_one_width_has_no_change():
    result = measured.change(arranged(table({100: VALUES[100]})), comparison="ratio")
    assert (math.isnan(result.value), result.num_widths) == (True, 1)


def test_ranks_are_correlated_within_width_and_seed():
    generator = np.random.default_rng(0)
    rows = [
        {"num_params": size, "rho": 0.1 * k, "seed": seed, "status": "finished", "higher_is_better": True}
        | {"test_metric": round(generator.uniform(), 1), TOP: size * generator.uniform()}  # with ties
        for size in SIZES
        for seed in range(4)
        for k in range(6)
    ]
    runs = pd.DataFrame(rows)
    result = measured.correlation(arranged(runs))
    seeds = [
        np.mean([runs_of_seed[[TOP, "test_metric"]].rank().corr().iloc[0, 1] for _, runs_of_seed in group])
        for group in ([*runs[runs["seed"] == seed].groupby("num_params")] for seed in range(4))
    ]
    low, high = scipy.stats.t.interval(0.95, 3, loc=np.mean(seeds), scale=scipy.stats.sem(seeds))
    assert_allclose(result[:3], (np.mean(seeds), max(low, -1), min(high, 1)), rtol=1e-9)
    assert result.num_seeds == 4


def test_values_that_are_all_equal_have_no_rank_correlation():
    equal = arranged(table({100: [(2.0, 2.0, 2.0)] * 3}))
    assert math.isnan(measured.correlation(equal).value)


def test_width_alone_makes_no_correlation():
    """Both fall from width to width, and neither has anything to do with the other at one width."""
    values = {size: [(size, 2 * size, size)] for size in SIZES}
    metric = {100: (0.9, 0.8, 0.7), 10_000: (0.3, 0.2, 0.1)}
    assert measured.correlation(arranged(table(values, metric))).value == pytest.approx(0, abs=1e-12)


def test_a_lower_loss_is_a_better_metric():
    runs = table(metric={100: (0.1, 0.2, 0.3), 10_000: (0.1, 0.2, 0.3)}).rename(columns={"test_metric": "test_loss"})
    result = measured.correlation(measured.arrange(results.part(runs, metric="test_loss"), [TOP])[TOP])
    assert result.value > 0  # larger eigenvalues come with smaller losses here
    assert math.isnan(measured.correlation(arranged(table({100: [(1.0, 2.0)]}))).value)


def test_sentences_have_the_numbers_and_claim_no_more():
    text = in_words.sentence(arranged(table()), catalogue.quantity(TOP), base="SGD")
    assert text.startswith(
        "At 10,000 parameters the top eigenvalue of the Hessian is 8.32 loss / parameter² for SGD and 1.59 for SAM at "
        "ρ = 0.2 (ratio 0.191, 95 % interval "
    )
    assert (
        "3 seeds). The ratio shows no clear change with width (×0.618 per tenfold increase in parameters, 95 % "
        "interval ×" in text
    )
    assert text.endswith("3 seeds, 2 widths, with ρ from 0.1 to 0.2).")
    alike = in_words.sentence(arranged(table(metric=dict.fromkeys(SIZES, METRIC[100]))), catalogue.quantity(TOP))
    assert alike.endswith("3 seeds, 2 widths).")
    single = in_words.sentence(arranged(table({100: VALUES[100][:1]})), catalogue.quantity(TOP), base="SGD")
    assert single.endswith("for SAM at ρ = 0.1 (ratio 0.5, one seed, which has no interval).")
    same = {size: [(2.0, 1.0, 3.0), (2.0, 3.0, 1.0)] for size in SIZES}
    assert "shows no clear change with width" in in_words.sentence(arranged(table(same)), catalogue.quantity(TOP))
    signed = catalogue.quantity("stability.margin")
    assert "SAM − SGD -4" in in_words.sentence(arranged(table({100: VALUES[100][:1]})), signed, base="SGD")
    assert in_words.sentence(arranged(table({100: [(1.0,)]})), catalogue.quantity(TOP)) == ""


def test_an_unknown_quantity_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"'curvature\.trace' is not known.*curvature\.top_eigenvalue"):
        measured.by_width(table(), "curvature.trace")


def test_measured_columns_are_found_and_in_order():
    runs = table(**{"mine.norm": 1.0, "moments.s_2": 2.0, "curvature.num_examples": 1000, "aside.x": 1.0})
    runs = runs.assign(**{"versions.jax": "1", "curvature.trace": 3.0, "curvature.note": "text", "moments.s_3": np.nan})
    names = [quantity.name for quantity in quantities.measured(runs)]
    assert names == [TOP, "curvature.trace", "moments.s_2", "mine.norm"]
    assert [quantity.name for quantity in quantities.headlines(quantities.measured(runs))] == [
        TOP,
        "moments.s_2",
        "mine.norm",
    ]
    assert quantities.num_examples(runs, "curvature") == [1000]
    mine = catalogue.quantity("mine.path_norm")
    assert (mine.label, quantities.section(mine)) == ("path norm (mine)", OTHER)


def test_units_are_those_of_what_is_written():
    """`moments.smallest_k` is an eigenvalue over another, and not a curvature; decay may bend either way."""
    assert catalogue.quantity("moments.smallest_3").label == "smallest over largest eigenvalue of non-uniformity 3"
    assert catalogue.quantity("stability.bound_s_2").unit == catalogue.quantity("moments.s_2").unit
    assert catalogue.quantity("convergence.bend").is_signed


def test_the_papers_minima_lie_beside_its_own_network_and_loss():
    s_2 = measured_values().query("quantity == 'moments.s_2'")
    assert dict(zip(s_2["rho"], s_2["value"], strict=True)) == {
        0.0: 28.98,
        0.01: 25.19,
        0.02: 23.51,
        0.05: 18.28,
        0.1: 15.94,
        0.2: 11.97,
    }
    facts = {"status": "finished", "optimizer": "sam", "rho": 0.1, "dataset": "mnist", "model": "MLP"}
    mine = facts | {"num_params": 784 * 3000 + 3000 + 3000 * 1000 + 1000 + 10_010, "loss": "squared"}
    assert len(measured_beside(pd.DataFrame([mine]), "moments.s_2")) == 6
    assert [row["rho"] for row in measured_beside(pd.DataFrame([mine | {"rho": 0.0}]), TOP)] == [0.0, None]
    for other in ({"loss": "cross_entropy"}, {"num_params": 10}, {"dataset": "digits"}, {"sam_variant": "adaptive"}):
        assert measured_beside(pd.DataFrame([mine | other]), "moments.s_2") == []
    assert measured_beside(pd.DataFrame([mine]).drop(columns="loss"), "moments.s_2") == []
