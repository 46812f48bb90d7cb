"""Separately tuned arms, against an explicit enumeration and simulated studies."""

import itertools

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import arms, comparisons, estimates, summary, table, tuned
from flatwide.answers import answer
from flatwide.config import default, plain
from flatwide.study import settings

RATES, RHOS, SEEDS, SIZES = (0.01, 0.1, 1.0), (0.0, 0.1, 0.2), range(5), (100, 1000)


def accuracy(noise, size, rate, rho, seed, epochs, average):
    """Make the base best at the rate 0.01 and SAM at 0.1; twice the epochs and an average are worth a little."""
    best = 0.8 - 0.05 * (rate != 0.01) if rho == 0 else 0.82 - 0.3 * (rate != 0.1)
    return best + 0.01 * (epochs == 20) + 0.005 * average + 0.002 * noise[size, rate, rho, seed, epochs]


def study(*, average=True, seed=0):
    generator = np.random.default_rng(seed)
    cells = list(itertools.product(SIZES, RATES, RHOS, SEEDS, (10, 20)))
    noise = dict(zip(cells, generator.normal(size=len(cells)), strict=True))
    rows = []
    for size, rate, rho, number, epochs in cells:
        if rho > 0 and epochs == 20:
            continue
        row = {
            "num_params": size,
            "learning_rate": rate,
            "rho": rho,
            "seed": number,
            "num_epochs": epochs,
            "test_metric": accuracy(noise, size, rate, rho, number, epochs, False),
            "status": "finished",
            "optimizer": "sam",
            "base_optimizer": "sgd",
            "higher_is_better": True,
            "metric_name": "accuracy",
            "model": "MLP",
            "dataset": "digits",
        }
        if average:
            row["test_metric_average"] = accuracy(noise, size, rate, rho, number, epochs, True)
        rows.append(row)
    return pd.DataFrame(rows)


def by_hand(runs, size, *, sam_rates, epochs=10, column="test_metric"):
    """Score each seed where the others choose, written out; `sam_rates`: the base's rate -> those that SAM may have."""
    scores = []
    at_size = runs[runs.num_params == size]
    for seed in SEEDS:
        others, own_seed = at_size[at_size.seed != seed], at_size[at_size.seed == seed]

        def best(rows, column):
            return rows.groupby(["rho", "learning_rate"])[column].mean().idxmax()

        base = best(others[(others.rho == 0) & (others.num_epochs == epochs)], column)
        rates = sam_rates(base[1])
        sam = best(others[(others.rho > 0) & others.learning_rate.isin(rates)], "test_metric")

        cells = own_seed.set_index(["rho", "learning_rate", "num_epochs"])
        scores.append(cells.loc[(*sam, 10), "test_metric"] - cells.loc[(*base, epochs), column])
    return np.array(scores)


def gains(runs, **options):
    result = tuned.tuned_gain(runs, tune=["learning_rate"], **options)
    return {(row["comparison"], row["num_params"]): row for row in result.to_dict("records")}


@pytest.mark.parametrize("size", SIZES)
def test_each_seed_is_scored_where_the_others_choose(size):
    runs = study()
    result = gains(runs)
    same = {"sam_rates": lambda rate: [rate]}
    own_seed = {"sam_rates": lambda rate: RATES}
    for name, scores in {
        comparisons.SAME: by_hand(runs, size, **same),
        comparisons.TUNED: by_hand(runs, size, **own_seed),
        comparisons.EQUAL_COMPUTE: by_hand(runs, size, **own_seed, epochs=20),
        comparisons.AVERAGED: by_hand(runs, size, **own_seed, column="test_metric_average"),
    }.items():
        assert result[name, size]["tuned_gain"] == pytest.approx(scores.mean())
        assert result[name, size]["tuned_low"] < scores.mean() < result[name, size]["tuned_high"]
    assert result[comparisons.SAME, size]["tuned_gain"] < -0.2 < 0.01 < result[comparisons.TUNED, size]["tuned_gain"]
    assert result[comparisons.TUNED, size]["base_choice"] == "learning_rate=0.01"
    assert result[comparisons.TUNED, size]["sam_choice"].endswith("learning_rate=0.1")
    row = result[comparisons.TUNED, size]
    assert (row["num_base_cells"], row["num_sam_cells"]) == (3, 6)


def test_a_choice_at_the_end_of_its_grid_is_named():
    result = gains(study())[comparisons.TUNED, 1000]
    assert result["base_at_edge"] == "learning_rate"  # 0.01 is the least
    assert "learning_rate" not in result["sam_at_edge"]  # 0.1 is in the middle
    assert "A choice lies at the end of its grid (tuned; equal compute;" in answer.answer(
        study(), tune=["learning_rate"]
    )
    runs = study()
    lowest = runs[runs.learning_rate == 0.01].assign(learning_rate=0.001, test_metric=np.nan, status="diverged")
    lowest["test_metric_average"] = np.nan
    assert gains(pd.concat([runs, lowest]))[comparisons.TUNED, 1000]["base_at_edge"] == ""


def test_comparisons_are_those_that_have_runs():
    assert {name for name, _ in gains(study())} == {
        comparisons.SAME,
        comparisons.TUNED,
        comparisons.EQUAL_COMPUTE,
        comparisons.AVERAGED,
        comparisons.AVERAGED_EQUAL_COMPUTE,
        comparisons.BOTH_AVERAGED,
    }
    short = study(average=False)
    assert {name for name, _ in gains(short[short.num_epochs == 10])} == {comparisons.SAME, comparisons.TUNED}
    without_lengths = short[short.num_epochs == 10].drop(columns="num_epochs")
    assert {name for name, _ in gains(without_lengths)} == {comparisons.SAME, comparisons.TUNED}


def with_gradients(per_step):
    """Record the gradients of a study whose SAM takes some number of them per step, and add base runs of 15 epochs."""
    runs = study()
    longer = runs[runs.num_epochs == 20].assign(num_epochs=15)
    runs = pd.concat([runs, longer], ignore_index=True)
    steps = 100 * runs.num_epochs
    return runs.assign(steps=steps, num_gradients=np.where(runs.rho > 0, per_step * steps, steps).astype(int))


def test_a_rule_of_one_gradient_a_step_is_not_compared_with_longer_base_runs():
    """Such as Momentum-SAM: base runs of twice the length take twice its gradients."""
    names = {name for name, _ in gains(with_gradients(1))}
    assert names == {comparisons.SAME, comparisons.TUNED, comparisons.AVERAGED, comparisons.BOTH_AVERAGED}


@pytest.mark.parametrize("is_first_diverged", [False, True])
def test_steps_without_ascent_are_compared_at_their_number_of_gradients(is_first_diverged):
    runs = with_gradients(1.5)
    if is_first_diverged:  # before SAM was switched on
        first = (runs.rho == 0.2) & (runs.learning_rate == 0.01) & (runs.seed == 0)
        runs.loc[first, ["test_metric", "test_metric_average"]] = np.nan
        runs.loc[first, ["status", "num_gradients", "steps"]] = ["diverged", 100, 100]
    result = gains(runs)
    finished = runs[~((runs.rho == 0.2) & (runs.learning_rate == 0.01))] if is_first_diverged else runs
    scores = by_hand(finished, 1000, sam_rates=lambda rate: RATES, epochs=15)
    assert result[comparisons.EQUAL_COMPUTE, 1000]["tuned_gain"] == pytest.approx(scores.mean())
    text = answer.answer(runs, tune=["learning_rate"])
    assert "over SGD trained longer, for equal compute;" in text
    assert "over the weight average of SGD trained longer, for equal compute." in text.replace(";", ".")


@pytest.mark.parametrize(
    ("ratio", "steps", "name", "longer"),
    [
        (4000 / 3000, 3000, comparisons.EQUAL_COMPUTE, 4000),
        (4001 / 3000, 30, comparisons.EQUAL_COMPUTE, 41),  # epochs: never fewer gradients than SAM took
        (5999 / 3000, 3000, comparisons.EQUAL_COMPUTE, 6000),  # rho is 0 at one step only
        (2.0, 3000, comparisons.EQUAL_COMPUTE, 6000),
        (1.0, 3000, None, None),
    ],
)
def test_the_base_of_as_many_gradients_is_exactly_as_long(ratio, steps, name, longer):
    run = {"rho": 0.1, "optimizer": "sam", "status": "finished", "num_train_steps": steps}
    compared = comparisons._kinds(
        [run | {"steps": 3000, "num_gradients": round(3000 * ratio)}], ("num_train_steps", steps)
    )
    others = {comparisons.SAME, comparisons.TUNED, comparisons.AVERAGED, comparisons.BOTH_AVERAGED}
    assert {length for _, length, _ in (compared[key] for key in compared.keys() - others)} == {longer} - {None}
    assert name is None or name in compared


def test_a_width_with_a_single_setting_is_left_out_of_tuned_widths():
    """Its gain at one learning rate is not tuned, and beside tuned gains it would be read as a trend."""
    runs = study(average=False)
    untuned = runs[(runs.num_params == 100) & (runs.learning_rate == 1.0)].assign(num_params=300)
    both, tuned_only, alone = (
        tuned.tuned_gain(each, tune=["learning_rate"])
        for each in (pd.concat([runs, untuned], ignore_index=True), runs, untuned)
    )
    pd.testing.assert_frame_equal(both, tuned_only)
    assert set(alone["num_params"]) == {300}
    assert set(alone["num_base_cells"]) == {1}
    assert answer.fair_fight(table.split(untuned, tune=["learning_rate"])) == []
    assert len(answer.fair_fight(table.split(runs, tune=["learning_rate"]))) == 1


def test_a_width_stays_where_the_other_settings_diverged():
    """Divergence depends on width, so it must not decide which widths are compared."""
    runs = study(average=False)
    is_lost = (runs.num_params == 1000) & (runs.rho == 0) & (runs.learning_rate != 0.01)
    diverged = runs.assign(status=runs.status.mask(is_lost, "diverged"), test_metric=runs.test_metric.mask(is_lost))
    result = tuned.tuned_gain(diverged, tune=["learning_rate"])
    for name in ("tuned", "same settings"):
        rows = result[result.comparison == name]
        assert rows["num_params"].tolist() == list(SIZES)
        assert rows["num_base_cells"].tolist() == [3, 1]


def test_the_answer_lists_only_bases_that_had_a_choice():
    """Here the longer base has one learning rate, so it is not tuned."""
    runs = study(average=False)
    with_one_longer = runs[(runs.num_epochs == 10) | (runs.learning_rate == 0.01)]
    for listed, is_listed in ((runs, True), (with_one_longer, False)):
        ((_, text),) = answer.fair_fight(table.split(listed, tune=["learning_rate"]))
        assert ("equal compute" in text) == is_listed


def test_a_cell_with_a_diverged_seed_is_never_chosen():
    runs = study()
    lost = (runs.rho == 0) & (runs.learning_rate == 0.01) & (runs.seed == 3) & (runs.num_params == 1000)
    runs.loc[lost, ["test_metric", "test_metric_average"]] = np.nan
    runs.loc[lost, "status"] = "diverged"
    result = gains(runs)
    assert result[comparisons.TUNED, 1000]["base_choice"] != "learning_rate=0.01"
    assert result[comparisons.TUNED, 1000]["num_base_cells"] == 2
    assert result[comparisons.TUNED, 100]["base_choice"] == "learning_rate=0.01"


def test_lower_is_better():
    runs = study()
    for name in ("test_metric", "test_metric_average"):
        runs[name] = 1 - runs[name]
    runs["higher_is_better"], runs["metric_name"] = False, "error"
    expected, result = gains(study()), gains(runs)
    for key, row in expected.items():
        assert result[key]["tuned_gain"] == pytest.approx(row["tuned_gain"])


def test_chosen_by_validation():
    runs = study(average=False)
    runs["validation_metric"] = -abs(np.log10(runs.learning_rate) - 0.0)  # best at the rate 1, whatever the test says
    result = gains(runs)
    assert result[comparisons.TUNED, 100]["base_choice"] == "learning_rate=1"


def test_columns_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"learning_rat.*Did you mean 'learning_rate'"):
        tuned.tuned_gain(study(), tune=["learning_rat"])


@pytest.mark.parametrize(("num_base", "num_sam", "ratio"), [(3, 6, 1.0), (4, 4, 3.0)])
def test_intervals_cover_under_pure_noise(num_base, num_sam, ratio):
    generator = np.random.default_rng(0)
    num_seeds, covered, plain = 5, [], []
    for _ in range(300):
        pairs = []
        for size in SIZES:
            sides = []
            for count, scale in ((num_base, np.sqrt(ratio)), (num_sam, 1.0)):
                values = scale * generator.normal(size=(num_seeds, count))
                cells = tuple({"rho": float(cell)} for cell in range(count))
                sides.append(arms.Arm(cells, tuple(range(num_seeds)), values, values))
            pairs.append(arms.Comparison(size, size, *sides, 1))
        for pair in pairs:
            gain, scores = pair.gain, pair.scored.values[0]
            covered.append(gain.low <= 0 <= gain.high)
            plain.append(abs(gain.value) <= 2.776 * scores.std(ddof=1) / np.sqrt(num_seeds))
    assert 0.925 < np.mean(covered) < 0.99  # 600 intervals
    assert np.mean(plain) < np.mean(covered)


def test_answer_and_summary_say_it():
    runs = study()
    text = answer.answer(runs, tune=["learning_rate"])
    fair, *rest = text.split("\n\n")
    assert fair.startswith(
        "With learning_rate tuned separately for SAM and for SGD, on the other seeds, the gain of SAM"
    )
    row = gains(runs)[comparisons.TUNED, 1000]
    assert f"{100 * row['tuned_gain']:+.2f} points" in fair
    assert "over SGD trained longer, for equal compute" in fair
    assert "With the learning_rate that is best for SGD used for both, it is -2" in fair
    plain = answer.answer(runs).split("\n\n")
    of_rate = [text for text in plain if "with learning_rate (" in text]  # the arms choose on that axis
    assert of_rate
    assert rest == [text for text in plain if text not in of_rate]
    result = summary.summary(runs, tune=["learning_rate"])
    rows = result[result["row"] == "tuned"]
    assert len(rows) == len(tuned.tuned_gain(runs, tune=["learning_rate"])) == 12
    plain = summary.summary(runs)
    others = result[result["row"] != "tuned"][list(plain.columns)].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, plain, check_dtype=False)


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        (("learning_rat",), "config.study.tune axis='learning_rat' is not known. Did you mean 'learning_rate'"),
        (("rho",), "config.study.tune: rho is what runs are compared or paired by"),
        (("num_neurons",), "num_neurons is what runs are compared"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tune, message):
    axes = {"learning_rate": (0.1, 0.2), "rho": (0.0, 0.1), "num_neurons": ((8,), (16,))}
    _, faults = settings.read({"axes": axes, "tune": tune}, plain(default()))
    assert len(faults) == 1
    assert message in faults[0]


def test_two_networks_of_one_size_are_refused():
    runs = study(average=False)
    runs["num_layers"] = 2 + (runs["num_params"] == 1000)
    deeper = runs.assign(num_params=100)
    with pytest.raises(
        ValueError, match=r"two runs have num_params=100, .*seed=0; they differ in num_layers \(2 and 3"
    ):
        tuned.tuned_gain(pd.concat([runs, deeper[runs["num_params"] == 1000]]), tune=("learning_rate",))
    repeated = tuned.tuned_gain(pd.concat([runs, runs]), tune=("learning_rate",))  # of repeats the first is taken
    pd.testing.assert_frame_equal(repeated, tuned.tuned_gain(runs, tune=("learning_rate",)))


def test_sums_that_differ_in_their_last_bit_are_a_tie():
    """Two cells of a study with equal sums of accuracies: 2.8320999999999996 and 2.8321 in floating point."""
    choices = np.array([[0.9458, 0.9432], [0.9443, 0.9436], [0.9420, 0.9453]])
    assert choices[:, 0].sum() != choices[:, 1].sum()
    assert estimates.choose(choices) == 0
    assert estimates.choose(choices[:, ::-1]) == 0
    assert list(estimates.choose(choices, estimates.leave_one_out(3))) == [1, 1, 0]


def test_a_setting_that_sam_may_not_choose_is_no_tie():
    """At the base's learning rate the best rho is interior; a better one at another rate does not make it an end."""
    rates, rhos = (0.1, 0.2, 0.4), (0.1, 0.2, 0.4)

    def arm(settings, means):
        values = np.tile(means, (3, 1)) + 0.001 * np.arange(3)[:, None]
        return arms.Arm(tuple(settings), (0, 1, 2), values, values, tried=tuple(settings))

    base = arm([{"learning_rate": rate} for rate in rates], [0.1, 0.9, 0.2])
    cells = [{"rho": rho, "learning_rate": rate} for rate in rates for rho in rhos]
    sam = arm(cells, [0.1, 0.1, 0.1, 0.3, 0.5, 0.4, 0.1, 0.1, 0.95])
    pair = arms.pair_up(arms.Comparison(1, 1, base, sam, 1), ["learning_rate"])
    assert pair.sam.settings[pair.chosen[1]] == {"rho": 0.2, "learning_rate": 0.2}
    assert pair.edges == ({}, {})
    assert arms.pair_up(arms.Comparison(1, 1, base, sam, 1), None).edges[1] == {"rho": "high", "learning_rate": "high"}
