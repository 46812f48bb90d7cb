"""From a results table to parts, cautions, a summary and an answer."""

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import convert, fields, summary, table, tuned
from flatwide.answers import answer, cautions

RHOS = (0.0, 0.1, 0.2, 0.4)
SIZES = (100, 1000, 10_000)


def study(*, num_seeds=5, slope=0.05, noise=1.0, **more):
    """Make a study whose gain rises with width, greatest at rho 0.2; half of the rise is the base's decline."""
    rows = []
    for position, size in enumerate(SIZES):
        for seed in range(num_seeds):
            for k, rho in enumerate(RHOS):
                shape = {0: 0.0, 1: 0.5, 2: 1.0, 3: 0.4}[k]
                wiggle = 0.001 * noise * ((7 * seed + 3 * k + 5 * position) % 5 - 2)
                value = 0.8 + slope * position * (shape - 0.5) + wiggle
                rows.append(
                    {
                        "run": f"{size}-{rho}-{seed}",
                        "status": "finished",
                        "optimizer": "sam",
                        "base_optimizer": "sgd",
                        "num_neurons": f"({size},)",
                        "rho": rho,
                        "seed": seed,
                        "num_params": size,
                        "metric_name": "accuracy",
                        "higher_is_better": True,
                        "test_metric": value,
                        "train_metric": 1.0 if position else 0.9,
                        "train_loss": 0.001 if position else 0.5,
                        "num_epochs": 10,
                    }
                    | more
                )
    return pd.DataFrame(rows)


def names(found_cautions):
    return {caution.name for caution in found_cautions}


def test_the_answer_has_the_numbers():
    text = answer.answer(study())
    assert text.startswith("The gain of SAM over SGD grows with width: from ")
    assert "at 100 parameters to +" in text
    assert "points per tenfold increase in parameters" in text
    assert "5 seeds" in text
    assert "The best rho, chosen by test metric, is" in text
    assert text.split("\n\n")[0].count(". ") == 1  # two sentences, and then what else the axes ask


def test_no_trend_is_said_so():
    assert "shows no clear trend with width" in answer.answer(study(slope=0.0))
    runs = study(higher_is_better=False)
    assert "shrinks with width" in answer.answer(runs[runs["rho"].isin([0.0, 0.2])])


def test_fields_that_only_watch_are_those_of_the_schema():
    from flatwide.config import SCHEMA

    assert {name for name, field in SCHEMA.items() if not field.identity} <= fields.WATCH_ONLY


def test_what_is_measured_tells_no_runs_apart():
    runs = study()
    measured = {"curvature.trace": range(len(runs)), "measurements": ["()", *["('curvature',)"] * (len(runs) - 1)]}
    assert fields.varying(runs.assign(**measured)) == fields.varying(runs)


def test_one_seed_one_width_and_nothing():
    text = answer.answer(study(num_seeds=1))
    assert text.startswith("With one seed, SAM differs from SGD by +")
    assert "cannot be separated from seed noise" in text
    runs = study()
    assert answer.answer(runs[runs["num_params"] == 1000]).startswith("The gain of SAM over SGD is +")
    assert answer.answer(runs[runs["rho"] == 0]).startswith("No answer: no run with SAM (rho > 0).")


def test_other_axes_are_parts_with_an_answer_each():
    runs = pd.concat([study(label_noise=0.0), study(slope=0.1, label_noise=0.5)], ignore_index=True)
    assert [name for domain in table.split(runs).domains for name in domain.axes] == ["label_noise"]
    assert [part.name for part in table.split(runs).parts] == ["label_noise=0.0", "label_noise=0.5"]
    assert [len(part.runs) for part in table.split(runs).parts] == [60, 60]
    paragraphs = answer.answer(runs).split("\n\n")
    assert [text.split(":")[0] for text in paragraphs[:2]] == ["label_noise=0.0", "label_noise=0.5"]
    result = summary.summary(runs)
    assert set(result["label_noise"]) == {0.0, 0.5}


def test_base_runs_serve_every_variant_of_sam():
    runs = study(sam_variant="normalized")
    other = study(sam_variant="adaptive")
    both = pd.concat([runs, other[other["rho"] > 0]], ignore_index=True)
    result = table.split(both).parts
    assert [part.name for part in result] == ["sam_variant=adaptive", "sam_variant=normalized"]
    assert [len(part.runs) for part in result] == [60, 60]
    assert "grows with width" in answer.answer(both)


def test_runs_without_a_mask_serve_every_pruner():
    dense = study(pruner="none", sparsity=0.0)
    pruned = [study(pruner=name, sparsity=0.5)[lambda t: t["num_params"] > 100] for name in ("random", "snip")]
    runs = pd.concat([dense[dense["num_params"] == 100], *pruned], ignore_index=True)
    result = table.split(runs).parts
    assert [part.name for part in result] == ["pruner=random", "pruner=snip"]
    assert [len(part.runs) for part in result] == [60, 60]
    assert len(summary.summary(runs).query("row == 'width'")) == 6


def test_at_a_fixed_width_runs_without_a_mask_are_a_part_of_their_own():
    pruned = [study(pruner=name, sparsity=0.5) for name in ("random", "snip")]
    runs = pd.concat([study(pruner="none", sparsity=0.0), *pruned], ignore_index=True)
    result = [part.name for part in table.split(runs).parts]
    assert sorted(result) == ["pruner=random, sparsity=0.5", "pruner=snip, sparsity=0.5", "sparsity=0.0"]


def test_base_optimizers_are_parts_also_where_the_base_has_another_name():
    adam = study(base_optimizer="adam")
    adam.loc[adam["rho"] == 0, ["optimizer", "base_optimizer"]] = ["adam", "sgd"]
    result = table.split(pd.concat([study(), adam], ignore_index=True)).parts
    assert [part.name for part in result] == ["base_optimizer=adam", "base_optimizer=sgd"]
    assert [len(part.runs) for part in result] == [60, 60]


def test_parts_need_no_pairs_with_paired_false():
    runs = study().query("rho > 0 or num_params > 100")
    assert [len(part.runs) for part in table.split(runs).parts] == [40]
    assert [len(part.runs) for part in table.split(runs).domains[0].every_part] == [55]


def test_a_column_that_is_set_aside_is_no_axis():
    noted = study().assign(**{"aside.node": lambda t: t["run"]})
    assert [name for domain in table.split(noted).domains for name in domain.axes] == []
    assert [
        name for domain in table.split(noted.rename(columns={"aside.node": "node"})).domains for name in domain.axes
    ] == ["node"]


def test_a_repeated_run_counts_once():
    runs = study()
    copies = runs[runs["seed"] == 0].assign(run=lambda rows: rows["run"] + "-again", test_metric=0.0)
    both = pd.concat([runs, copies], ignore_index=True)
    (part,) = table.split(both).parts
    assert list(part.runs["run"]) == list(runs["run"])
    assert table.domains(both)[0].num_repeats == len(copies)
    assert table.domains(runs)[0].num_repeats == 0
    assert {caution.name for caution in cautions.cautions(both)} - {c.name for c in cautions.cautions(runs)} == {
        "repeats"
    }
    assert answer.answer(both) == answer.answer(runs)


def test_the_answer_claims_no_more_than_it_knows():
    flat = answer.answer(study(slope=0.0))
    assert "of the growth" not in flat
    assert "seems to grow with width" in answer.answer(study(num_seeds=2))
    assert "corrected for the choice of rho" in answer.answer(study())
    worse = study()
    worse["test_metric"] -= 0.3 * (worse["rho"] > 0)
    assert answer.answer(worse).startswith("SAM does not help at any width here")
    errors = study(metric_name="error", higher_is_better=False)
    errors["test_metric"] = 1 - errors["test_metric"]
    assert "less error (joint 95 % interval" in answer.answer(errors)


@pytest.mark.parametrize(
    ("sam_loss", "is_reported"), [(0.002, True), (0.0005, True), (0.0, True), (0.0014, False), (0.0007, False)]
)
def test_networks_measured_at_unequal_training_losses_are_a_caution(sam_loss, is_reported):
    """The base ends at 0.5 with 100 parameters and at 0.001 with more; SAM at the same for the smallest."""
    runs = study()
    runs.loc[(runs["rho"] > 0) & (runs["num_params"] > 100), "train_loss"] = sam_loss
    assert "unequal_losses" not in names(cautions.cautions(runs))  # nothing was measured
    unequal = [
        caution
        for caution in cautions.cautions(runs.assign(**{"curvature.trace": 1.0}))
        if caution.name == "unequal_losses"
    ]
    assert [caution.finding for caution in unequal] == ["at 1,000, 10,000 parameters"] * is_reported


def test_both_losses_zero_are_equal():
    runs = study(train_loss=0.0).assign(**{"curvature.trace": 1.0})
    assert "unequal_losses" not in names(cautions.cautions(runs))


def test_missing_seeds_are_a_caution():
    runs = study().query("rho != 0.2 or seed > 0 or num_params > 100")
    (caution,) = [caution for caution in cautions.cautions(runs) if caution.name == "missing_seeds"]
    assert caution.text.startswith("At 100 parameters some values of rho have fewer seeds")
    assert "missing_seeds" not in names(cautions.cautions(study()))


def test_what_goes_along_with_the_width_is_no_axis():
    runs = study().assign(sparsity=lambda t: np.log10(t["num_params"]) / 10)
    assert [name for domain in table.split(runs).domains for name in domain.axes] == []
    assert "mixed_configs" not in names(cautions.cautions(runs))
    mixed = study().assign(learning_rate=lambda t: t["num_params"] / 1e5)
    assert "mixed_configs" in names(cautions.cautions(mixed))


def test_equal_compute_compares_with_base_runs_of_twice_the_length():
    runs = study()
    longer = runs[runs["rho"] == 0].assign(num_epochs=20, test_metric=lambda t: t["test_metric"] + 0.03)
    both = pd.concat([runs, longer], ignore_index=True)
    result = tuned.equal_compute_gain(both)
    plain = summary.summary(runs).query("row == 'width'")
    np.testing.assert_allclose(result["tuned_gain"], plain["corrected_gain"] - 0.03)
    assert list(result["length"]) == [10, 10, 10]
    table_ = summary.summary(both).query("row == 'width'")
    np.testing.assert_allclose(table_["equal_compute_gain"], plain["corrected_gain"] - 0.03)
    np.testing.assert_allclose(table_["gain"], plain["gain"])
    assert tuned.equal_compute_gain(runs).empty


def test_equal_compute_counts_the_gradients_that_were_recorded():
    """SAM at every tenth step of 10 epochs against SGD of 11 epochs; a run that diverged early says nothing of that."""
    runs = study()
    late = runs.assign(steps=100, num_gradients=lambda t: 100 + 10 * (t["rho"] > 0))
    late.loc[late.index[late["rho"] > 0][0], ["status", "test_metric", "num_gradients"]] = ["diverged", None, 100]
    longer = [
        runs[runs["rho"] == 0].assign(num_epochs=epochs, test_metric=lambda t: t["test_metric"] + 0.03)
        for epochs in (11, 20)
    ]
    assert len(tuned.equal_compute_gain(pd.concat([late, longer[0]], ignore_index=True))) == 3
    assert tuned.equal_compute_gain(pd.concat([late, longer[1]], ignore_index=True)).empty


def test_equal_compute_finds_the_exact_number_of_steps():
    runs = study().drop(columns="num_epochs", errors="ignore").assign(num_train_steps=3000, steps=3000)
    runs["num_gradients"] = 3000 + 1000 * (runs["rho"] > 0)
    longer = runs[runs["rho"] == 0].assign(num_train_steps=4000, steps=4000, num_gradients=4000)
    assert len(tuned.equal_compute_gain(pd.concat([runs, longer], ignore_index=True))) == 3


def test_the_summary_has_a_row_a_group_and_a_row_a_width():
    result = summary.summary(study())
    assert list(result["row"]) == ["seeds"] * 12 + ["width"] * 3
    first = result.iloc[0]
    values = study().query("num_params == 100 and rho == 0")["test_metric"]
    assert (first["mean"], first["num_seeds"]) == (pytest.approx(values.mean()), 5)
    assert first["standard_error"] == pytest.approx(values.std() / 5**0.5)
    last = result.iloc[-1]
    assert last["best_rho"] == 0.2
    assert last["corrected_low"] < last["corrected_gain"] < last["corrected_high"]
    assert last["sam_interpolates"] == 1
    assert list(summary.summary(study().query("rho == 0")).columns) == ["row", "num_params"]


def test_cautions_of_a_careless_study():
    runs = study(num_seeds=3)
    runs = runs[runs["rho"] < 0.4].assign(train_metric=0.5)
    runs.loc[runs["run"] == "100-0.1-0", ["status", "test_metric"]] = ["diverged", np.nan]
    runs = runs[runs["run"] != "10000-0.0-2"]
    left = pd.DataFrame([{"run": "x", "status": "unfinished"}, *study(num_seeds=1).tail(1).to_dict("records")])
    left.loc[1, ["num_params", "run"]] = [10**6, "y"]
    result = names(cautions.cautions(pd.concat([runs, left], ignore_index=True)))
    expected = {"few_seeds", "edge_of_grid", "diverged", "no_interpolation", "test_set_selection", "unpaired_seeds"}
    assert expected | {"not_done", "no_pair", "short_grid"} - {"short_grid"} <= result


@pytest.mark.parametrize(
    ("num_kept", "begins"),
    [
        (1, "As few as 1 seed at a width: intervals"),
        (2, "As few as 2 seeds at a width: intervals"),
        (0, "At some width no seed has both a base and a SAM run with a result"),
    ],
)
def test_few_seeds_are_counted_in_words_that_fit(num_kept, begins):
    runs: Any = study(num_seeds=5)
    gone = (runs["num_params"] == 100) & (runs["rho"] == 0) & (runs["seed"] >= num_kept)
    runs.loc[gone, ["status", "test_metric"]] = ["diverged", np.nan]
    texts = [caution.text for caution in cautions.cautions(runs) if caution.name in ("few_seeds", "no_seeds")]
    assert len(texts) == 1
    assert texts[0].startswith(begins)


def test_each_state_of_an_incomplete_run_has_a_remedy():
    states = ["unfinished", "failed", "failed", "damaged", "mismatch"]
    left = pd.DataFrame({"run": list("abcde"), "status": states})
    runs: Any = pd.concat([study(), left], ignore_index=True)
    (caution,) = [caution for caution in cautions.cautions(runs) if caution.name == "not_done"]
    assert "1 unfinished, 2 failed, 1 damaged, 1 mismatch." in caution.text
    damaged = caution.text[caution.text.index("Damaged:") :]
    assert "restore the file" in damaged
    assert "command" not in damaged
    assert "move the folder out of runs/" in damaged


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("versions.flatwide", "the version of flatwide"),
        ("versions.jax", "the version of JAX"),
        ("device", "the kind of device"),
        ("matmul_precision", "the precision of products"),
    ],
)
def test_arms_that_were_trained_with_something_else_are_named(column, text):
    runs: Any = study(**{column: "a"})
    assert "unlike_arms" not in names(cautions.cautions(runs))
    both = runs.assign(**{column: ["a" if seed < 2 else "b" for seed in runs["seed"]]})
    assert "unlike_arms" not in names(cautions.cautions(both))  # each pair has one
    runs.loc[(runs["rho"] > 0) & (runs["num_params"] == 1000), column] = "b"
    (caution,) = [caution for caution in cautions.cautions(runs) if caution.name == "unlike_arms"]
    assert caution.text == (
        f"At 1,000 parameters base and SAM runs differ in {text} (base: a; SAM: b), so a gain may not be the effect of "
        "rho alone."
    )


def test_lengths_that_base_and_sam_never_share_are_named_and_lengths_of_equal_compute_are_not():
    runs: Any = study()
    runs.loc[runs["rho"] > 0, "num_epochs"] = 20
    (caution,) = [caution for caution in cautions.cautions(runs) if caution.name == "unlike_arms"]
    assert "differ in num_epochs (base: 10; SAM: 20), so they are not compared." in caution.text
    twice = runs[runs["rho"] == 0].assign(num_epochs=20)
    assert "unlike_arms" not in names(cautions.cautions(pd.concat([runs, twice], ignore_index=True)))


def test_cautions_of_several_parts_are_merged_and_name_each_part_once():
    some = [study(label_noise=noise, num_seeds=4 + round(4 * noise)) for noise in (0.0, 0.25, 0.5)]
    runs: Any = pd.concat(some, ignore_index=True)
    other = runs["label_noise"] == 0.5  # its gain falls off with rho at the second width
    runs.loc[other & (runs["num_params"] == 1000), "test_metric"] -= runs["rho"]
    texts = cautions.merged(cautions.cautions(runs), num_parts=3)
    (few,) = [text for text in texts if "nearly normal" in text]
    assert few.startswith("label_noise=0.0: As few as 4 seeds at a width: intervals")
    (edge,) = [text for text in texts if "smallest of the grid" in text]
    assert edge.startswith(
        "label_noise=0.0 and label_noise=0.25 (at 100 parameters); label_noise=0.5 (at 1,000 parameters): the best rho"
    )
    (chosen,) = [text for text in texts if "chosen by the test metric" in text]
    assert chosen.startswith("The best rho was")


def test_seeds_that_agree_to_the_last_digit_are_no_certainty():
    assert "no_spread" in names(cautions.cautions(study(noise=0.0)))
    assert "no_spread" not in names(cautions.cautions(study()))


@pytest.mark.slow
def test_ten_thousand_runs_are_summed_up_in_seconds():
    many_parts = pd.concat([study(num_seeds=10, label_noise=p / 100) for p in range(84)], ignore_index=True)
    width = study(num_seeds=25).query("num_params == 100")
    many_widths = pd.concat([width.assign(num_params=100 + 7 * k) for k in range(100)], ignore_index=True)
    for runs, num_rows in ((many_parts, 84 * 15), (many_widths, 500)):
        began = time.perf_counter()
        assert len(summary.summary(runs)) == num_rows
        assert answer.answer(runs)
        assert cautions.cautions(runs)
        assert time.perf_counter() - began < 15  # three seconds on two quiet cores


def test_equal_compute_is_looked_for_beside_each_part():
    """Base runs of twice the length are no part of their own, and serve the SAM runs of every variant."""
    runs = pd.concat([study(sam_variant="normalized"), study(sam_variant="adaptive").query("rho > 0")])
    longer = study(sam_variant="normalized").query("rho == 0").assign(num_epochs=20)
    longer = longer.assign(test_metric=longer["test_metric"] + 0.03)
    noisy = pd.concat([runs.assign(label_noise=0.5), longer.assign(label_noise=0.5)])
    result = summary.summary(pd.concat([runs.assign(label_noise=0.0), noisy], ignore_index=True)).query(
        "row == 'width'"
    )
    assert result.groupby("label_noise")["equal_compute_gain"].count().to_dict() == {0.0: 0, 0.5: 6}
    noisy = result.query("label_noise == 0.5")
    np.testing.assert_allclose(noisy["equal_compute_gain"], noisy["corrected_gain"] - 0.03)


def test_a_careful_study_has_few_cautions():
    runs = study(num_seeds=8).assign(validation_metric=lambda t: t["test_metric"])
    assert names(cautions.cautions(runs)) <= {"edge_of_grid"}


def test_a_table_from_elsewhere():
    runs = study()[["num_params", "rho", "seed", "test_metric"]]
    runs.columns = ["size", "radius", "trial", "error"]
    result = convert.from_columns(
        runs.assign(error=1 - runs["error"]),
        size="size",
        rho="radius",
        seed="trial",
        metric="error",
        higher_is_better=False,
        metric_name="error",
    )
    text = answer.answer(result)
    assert "grows with width" in text
    assert "its base optimizer" in text
    assert len(summary.summary(result)) == 15
    assert names(cautions.cautions(result)) <= {"edge_of_grid", "test_set_selection"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rho": -0.1}, r"column 'rho' holds -0.1: expected numbers >= 0"),
        ({"seed": 0.5}, r"column 'seed': expected whole numbers"),
        ({"num_params": "(3,)"}, r"column 'num_params' holds '\(3,\)': expected a number"),
        ({"test_metric": 93.0}, r"expected fractions; divide by 100"),
    ],
)
def test_bad_columns_are_named(change, message):
    runs = study()[["num_params", "rho", "seed", "test_metric"]].assign(**change)
    with pytest.raises(ValueError, match=message):
        convert.from_columns(runs, metric_name="accuracy")
    with pytest.raises(ValueError, match="Did you mean 'seed'"):
        convert.from_columns(runs, seed="sed")
