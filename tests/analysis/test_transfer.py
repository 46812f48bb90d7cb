"""Regret and slopes of tuned arms on tables whose optimum is known."""

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import comparisons, convert, estimates, table, transfer, verdict

SIZES = (1_000, 4_000, 16_000, 64_000)
RATES, RHOS = (0.025, 0.05, 0.1, 0.2), (0.1, 0.2, 0.4)


def made(*, shift, seeds=5, noise=0.002, growth=0.02, drop=None):
    """Make runs whose best rate is 0.1 at the smallest width and `shift` grid steps below it per factor of four."""
    generator = np.random.default_rng(11)
    rows = []
    for index, size in enumerate(SIZES):
        best = 0.1 * 2.0 ** (-shift * index)
        for rate in RATES:
            for rho in (0.0, *RHOS):
                for seed in range(seeds):
                    lift = 0.05 + growth * index - 0.02 * abs(np.log2(rho / 0.2)) if rho else 0.0
                    value = 0.6 + lift - 0.02 * abs(np.log2(rate / best)) + noise * generator.standard_normal()
                    is_lost = drop == (size, rate) and seed == 0
                    rows.append(
                        {"num_params": size, "learning_rate": rate, "rho": rho, "seed": seed}
                        | {"test_metric": np.nan if is_lost else value}
                    )
    return convert.from_columns(pd.DataFrame(rows), metric_name="accuracy")


def regrets(runs, **options):
    (part,) = table.split(runs, tune=("learning_rate",)).tuned
    (compared,) = [compared for compared in part.comparisons if compared.kind == comparisons.TUNED]
    return transfer.regrets(compared, **options)


def test_a_rate_that_moves_costs_what_the_table_says():
    all_regrets = regrets(made(shift=1))
    assert [regret.num_params for regret in all_regrets] == [4_000, 16_000, 64_000]
    for index, regret in enumerate(all_regrets[:2], start=1):  # at the third the optimum lies below the grid
        assert regret.carried == {"rho": 0.2, "learning_rate": 0.1}
        assert regret.own == {"rho": 0.2, "learning_rate": 0.1 / 2**index}
        assert regret.regret.low < 0.02 * index < regret.regret.high
        assert regret.margin == pytest.approx((0.05 + 0.02 * index) / 4, abs=0.003)
        assert regret.decision == (transfer.FAILS if regret.regret.low > regret.margin else transfer.OPEN)
    assert all_regrets[1].decision == transfer.FAILS


def test_the_base_has_a_regret_of_its_own():
    all_regrets = regrets(made(shift=1), is_sam=False)
    assert all_regrets[0].own == {"learning_rate": 0.05}
    assert all_regrets[0].regret.low < 0.02 < all_regrets[0].regret.high


def test_the_same_settings_are_said_to_be_the_same():
    all_regrets = regrets(made(shift=0))
    assert {regret.decision for regret in all_regrets} == {transfer.SAME_SETTINGS}
    assert all(np.isnan(regret.regret.value) for regret in all_regrets)


def test_small_regret_transfers():
    first, *_ = regrets(made(shift=0.5))  # the optimum lies halfway between two rates, which are alike
    assert first.carried != first.own
    assert first.decision == transfer.TRANSFERS
    assert first.regret.low < 0 < first.regret.high < first.margin


def test_settings_that_diverge_do_not_transfer():
    all_regrets = regrets(made(shift=1, drop=(64_000, 0.1)))
    assert all_regrets[-1].decision == transfer.FAILS
    assert np.isnan(all_regrets[-1].regret.value)


def test_the_table_has_both_arms():
    rows = transfer.regret_table(made(shift=1), tune=("learning_rate",))
    assert rows.groupby("arm").size().to_dict() == {"SAM": 3, "base": 3}
    assert rows["carried"].iloc[0] == "rho=0.2 learning_rate=0.1"


def test_the_slope_of_tuned_arms():
    runs = pd.concat(
        [
            made(shift=0, growth=growth, noise=noise).assign(parameterization=name)
            for name, growth, noise in (("standard", 0.05, 0.002), ("mup", 0.0, 0.01))
        ],
        ignore_index=True,
    )
    tuned = {
        part.name: compared.scores
        for part in table.split(runs, tune=("learning_rate",)).tuned
        for compared in part.comparisons
        if compared.kind == comparisons.TUNED
    }
    standard, mup = (tuned[f"parameterization={name}"] for name in ("standard", "mup"))
    per_decade = 0.05 / np.log10(4)
    assert estimates.slope(standard).value == pytest.approx(per_decade, abs=0.002)
    assert verdict.verdict(standard).kind == verdict.GROWS
    slope = estimates.slope(mup)
    assert slope.low < 0 < slope.high
    assert verdict.verdict(mup).kind == verdict.NO_TREND
