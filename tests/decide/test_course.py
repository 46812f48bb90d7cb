"""What a study that steers itself asks for and concludes, from made results."""

import hashlib
import math

import numpy as np
import pandas as pd
import pytest

from flatwide import decide
from flatwide.analysis import convert
from flatwide.decide import course, simulate
from flatwide.decide.course import Design, Result, follow

RHOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
ONE = ((),)
RATES = ((0.01,), (0.03,), (0.1,), (0.3,))
GAIN = Design(question="gain", sizes=(10, 100, 1000), rhos=RHOS, tuned=(), rates=ONE, base_rates=ONE, seeds=range(40))
BOTH = GAIN._replace(question="both", tuned=("learning_rate",), rates=RATES, base_rates=RATES)
DESIGNS = pytest.mark.parametrize("design", [GAIN, GAIN._replace(question="growth"), BOTH], ids=lambda d: d.question)


def result(design, run, *, gain=2.0):
    """Return a result that depends on the run alone: its mean, and normal noise of 1 sd."""
    number = int.from_bytes(hashlib.sha256(repr(tuple(run)).encode()).digest()[:4], "big")
    mean = simulate.hump(design, [0.0, gain / 2, gain])(run.num_params, run.setting)
    value = mean + float(np.random.default_rng(number).standard_normal())
    return Result(value, value, seconds=6.0)


def whole(design, **options):
    return follow(design, lambda runs: {run: result(design, run, **options) for run in runs})


@DESIGNS
def test_it_does_not_depend_on_which_results_come_first(design):
    """Killed commands, and other numbers of workers, leave any part of what was asked for."""
    generator, known, asked = np.random.default_rng(0), {}, []

    def supply(runs):
        return {run: known[run] for run in runs} if all(run in known for run in runs) else None

    while (now := follow(design, supply)).missing:
        assert list(now.runs[: len(asked)]) == asked
        asked = list(now.runs)
        missing = [run for run in now.missing if run not in known]
        for index in generator.permutation(len(missing))[: 1 + int(generator.integers(len(missing)))]:
            known[missing[index]] = result(design, missing[index])
    assert now.decisions == whole(design).decisions
    assert now.runs == whole(design).runs
    assert len(set(now.runs)) == len(now.runs) <= course.num_runs(design, is_most=True)


@DESIGNS
def test_a_table_of_runs_gives_the_same_decisions(design):
    live = whole(design)
    rows = [
        {
            "num_params": run.num_params,
            "rho": run.setting[0],
            "seed": run.seed,
            "test_metric": result(design, run).value,
        }
        | dict(zip(design.tuned, run.setting[1:], strict=True))
        for run in live.runs
    ]
    # The radii and rates of a table are those that it has: a screen of every second radius has all at another width.
    others = [
        {"num_params": size, "rho": rho, "seed": 39, "test_metric": 0.0} | dict(zip(design.tuned, rate, strict=True))
        for size in design.sizes
        for rho in (0.0, *design.rhos)
        for rate in design.rates
    ]
    runs = convert.from_columns(pd.DataFrame(rows + others).sample(frac=1.0, random_state=0))
    replayed, text = decide.replay(runs, design.question, tune=design.tuned)
    assert replayed.decisions == live.decisions
    assert text.startswith("Decided: ")


@DESIGNS
def test_a_budget_cuts_the_course_and_a_larger_one_continues_it(design):
    free = whole(design)
    least = course.num_runs(design, is_most=False)
    for budget in range(least, len(free.runs), 17):
        short = whole(design._replace(most_runs=budget))
        assert len(short.runs) <= budget
        assert short.runs == free.runs[: len(short.runs)]
        assert not short.missing
        ends = [verdict.reason for verdict in short.verdicts if not verdict.direction]
        assert ends
        assert set(ends) == {f"the budget of {budget} runs is spent"}
        kept = [decision for decision in short.decisions if decision.stage != "end"]
        assert list(free.decisions[: len(kept)]) == kept
        minutes = whole(design._replace(most_seconds=6.0 * budget))  # six seconds a run
        assert minutes.runs == short.runs


@DESIGNS
def test_each_seed_is_scored_at_the_finalists_that_the_others_choose(design):
    last = whole(design)
    for verdict in last.verdicts:
        gains = []
        for comparison in verdict.comparisons:
            arms = []
            for is_sam, arm in ((False, comparison.base), (True, comparison.sam)):
                settings = [tuple(setting.values()) for setting in arm.settings]
                screen = range(4) if not is_sam and design.tuned else range(0)
                screen = (range(5, 7) if design.tuned else range(2, 4)) if is_sam else screen
                scores = []
                for seed in arm.seeds:
                    means = [
                        np.mean(
                            [result(design, course.Run(comparison.num_params, s, other)).value for other in choosing]
                        )
                        for s in settings
                        for choosing in [[*screen, *(other for other in arm.seeds if other != seed)]]
                    ]
                    chosen = settings[int(np.argmax(means))]
                    scores.append(result(design, course.Run(comparison.num_params, chosen, seed)).value)
                arms.append(np.array(scores))
            gains.append((arms[1] - arms[0]).mean())
        shown = verdict.estimates[0].value
        if verdict.question == "gain":
            assert shown == pytest.approx(gains[-1])
        else:  # sizes a factor of ten apart: the slope is half of the difference of the ends
            assert shown == pytest.approx((gains[2] - gains[0]) / 2)


def test_fresh_seeds_are_not_those_of_the_screen():
    for design in (GAIN, BOTH):
        last = whole(design)
        fresh = set(last.verdicts[0].comparisons[-1].sam.seeds)
        screen = {run.seed for run in last.runs} - set(range(min(fresh), 40))
        assert fresh.isdisjoint(screen)
        assert len(screen) == (7 if design.tuned else 4)
        # Settings that are no finalists have no run at a fresh seed.
        assert len({run.setting for run in last.runs if run.seed in fresh and run.num_params == 1000}) <= 5


def test_without_an_effect_few_studies_conclude_and_with_two_sd_most_do(load_script):
    """200 studies each: at most 5 % conclude falsely, with 3 standard errors; 98 % rightly in the long run."""
    design, generator = GAIN._replace(sizes=(1000,)), np.random.default_rng(3)
    means = [simulate.hump(design, [gain]) for gain in (0.0, 2.0)]
    none, large = ([simulate.study(design, mean, generator) for _ in range(200)] for mean in means)
    assert np.mean([each.verdicts[0].direction != 0 for each in none]) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert np.mean([each.verdicts[0].direction == 1 for each in large]) >= 0.92
    assert np.mean([len(each.runs) for each in large]) < 0.6 * 126  # a grid of 9 settings needs 14 seeds
    script = load_script("benchmarks/decide.py")
    every = [(each, mean) for studies, mean in zip((none, large), means, strict=True) for each in studies]
    covers = [script.covered(each, script.truths(each.verdicts[0], mean)) for each, mean in every]
    assert np.mean(covers) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 400)


def test_runs_that_agree_to_the_last_digit_decide_nothing():
    values = (0.0, 1.0)
    last = follow(GAIN, lambda runs: {run: Result(*[values[run.setting[0] > 0]] * 2) for run in runs})
    assert last.verdicts[0].direction == 0
    assert last.verdicts[0].reason


def test_a_setting_that_diverges_is_dropped_and_an_arm_of_them_ends_the_study():
    nan = Result(math.nan, math.nan)

    def diverging(is_bad):
        return follow(GAIN, lambda runs: {run: nan if is_bad(run) else result(GAIN, run) for run in runs})

    late = diverging(lambda run: run.setting[0] == 0.6 and run.seed >= 8)
    assert ("drop rho=0.6", "a seed diverged") in [(each.chosen, each.why) for each in late.decisions]
    assert 0.6 not in [setting["rho"] for setting in late.verdicts[0].comparisons[0].sam.settings]
    screen = diverging(lambda run: run.setting[0] > 0)
    assert screen.verdicts[0].reason == "every setting of SAM that was tried at 1,000 parameters diverged"
    base = diverging(lambda run: run.setting[0] == 0)
    assert base.verdicts[0].reason == "every finalist of the base at 1,000 parameters diverged"
