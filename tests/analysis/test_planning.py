"""Plans: the smallest effect that runs could show, and the seeds that are likely to decide."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from flatwide.analysis import convert, planning, table
from flatwide.analysis.estimates import Estimate
from flatwide.answers import answer


def made(gains, *, rhos=(0.1,), noise=0.01, seeds=5, seed=0, **more):
    """Make runs of some widths whose gain at the first rho is as given, and much less at the others."""
    generator = np.random.default_rng(seed)
    rows = [
        {"num_params": 100 * 4**index, "rho": rho, "seed": number}
        | {"test_metric": 0.6 + (rho > 0) * gain - 0.2 * (rho > 0.1) + noise * generator.standard_normal()}
        | more
        for index, gain in enumerate(gains)
        for rho in (0.0, *rhos)
        for number in range(seeds)
    ]
    return convert.from_columns(pd.DataFrame(rows), metric_name="accuracy")


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_the_detectable_effect_is_shown_in_four_of_five_studies(num_seeds):
    generator = np.random.default_rng(0)
    # Of known standard deviation 1: the error that a study of that many seeds has on average.
    least = planning.detectable(Estimate(error=num_seeds**-0.5, degrees=num_seeds - 1, num_seeds=num_seeds))
    values = least + generator.standard_normal((20_000, num_seeds))
    limit = scipy.stats.t.ppf(0.975, num_seeds - 1)
    shown = values.mean(axis=1) > limit * values.std(axis=1, ddof=1) / np.sqrt(num_seeds)
    assert np.mean(shown) == pytest.approx(0.8, abs=0.01)


def test_the_chance_is_that_of_simulated_continuations():
    """True effects are drawn from a wide prior; the chance holds for the studies that look as this one does.

    All have the standard deviation 1, so those of a given mean / s are weighted by 1 / s for a prior of 1 / sigma.
    """
    generator = np.random.default_rng(1)
    truths = generator.uniform(-20, 20, 400_000)
    values = truths[:, None] + generator.standard_normal((len(truths), 12))
    first = values[:, :5]
    means, deviations = first.mean(axis=1), first.std(axis=1, ddof=1)
    alike = np.abs(means / deviations - 0.8) < 0.05
    final = values[alike]
    limit = scipy.stats.t.ppf(0.975, 11)
    decided = np.abs(final.mean(axis=1)) > limit * final.std(axis=1, ddof=1) / np.sqrt(12)
    estimate = Estimate(value=0.8, error=5**-0.5, degrees=4, num_seeds=5)
    assert planning.chance(estimate, 12) == pytest.approx(np.average(decided, weights=1 / deviations[alike]), abs=0.03)


def test_only_open_questions_have_plans():
    assert planning.plans(made((0.0, 0.05, 0.1))) == []
    (plan,) = planning.plans(made((0.1, 0.1, 0.1)))
    assert (plan.question, plan.widths) == (planning.GROWTH, (100, 400, 1600))
    both = planning.plans(made((0.0, 0.0, 0.0)))
    assert [plan.question for plan in both] == [planning.GAIN, planning.GROWTH]
    assert planning.plans(made((0.0, 0.0), seeds=2)) == []
    assert planning.plans(made((0.0, 0.0), noise=0.0)) == []


def test_a_plan_has_its_runs_and_their_time():
    runs = made((0.01,), rhos=(0.1, 0.2, 0.5, 1.0), seconds=3.0)
    (plan,) = planning.plans(runs)
    assert plan.rhos == (0.1, 0.2)  # the best, and its neighbour
    assert 5 < plan.num_seeds <= planning.MOST_SEEDS
    assert plan.chance >= planning.POWER
    assert plan.num_runs == 3 * (plan.num_seeds - 5)
    assert plan.seconds == pytest.approx(3.0 * plan.num_runs)
    assert f"{plan.num_seeds} seeds in all there are likely to decide" in answer.answer(runs)


def test_where_no_number_of_seeds_is_likely_to_decide_that_is_said():
    runs = made((0.0,), seed=3)
    (plan,) = planning.plans(runs)
    assert plan.num_seeds is None
    assert f"no number of seeds up to {planning.MOST_SEEDS} is likely to decide" in answer.answer(runs)


def test_radii_that_may_be_the_best_at_some_width_stay():
    runs = made((0.1, 0.1), rhos=(0.05, 0.1, 0.2, 0.5, 1.0))
    part = table.part(runs)
    assert planning.useful_rhos(part, [100, 400]) == (0.05, 0.1, 0.2)
