"""Runs at chance: they stay in gains, are counted and cautioned about, and are left out of what was measured."""

import numpy as np
import pandas as pd
import pytest

from flatwide.analysis import fields, measured
from flatwide.analysis import table as results
from flatwide.analysis.gain import gain_by_width
from flatwide.analysis.summary import summary
from flatwide.answers import cautions

TOP = "curvature.top_eigenvalue"
AT_CHANCE = 0.1
METRIC = {0.0: (0.90, 0.91, 0.92), 0.1: (0.93, 0.94, 0.95), 0.3: (0.99, AT_CHANCE, 0.99)}


def table(metric=None, **more):
    rows = [
        {"num_params": size, "rho": rho, "seed": seed, "status": "finished", "metric_name": "accuracy"}
        | {"higher_is_better": True, "test_metric": value, "dataset": "digits", "model": "MLP"}
        | {TOP: 0.001 if value == AT_CHANCE else 4.0 - 10 * rho}
        | more
        for size in (100, 1000)
        for rho, values in (metric or METRIC).items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def names(runs):
    return {caution.name for caution in cautions.cautions(runs)}


def test_it_stays_in_gains_and_is_counted():
    result = gain_by_width(table())
    without = gain_by_width(table(dataset="their_own"))
    assert list(result["num_collapsed"]) == [1, 1]
    assert list(without["num_collapsed"]) == [0, 0]
    pd.testing.assert_frame_equal(result.drop(columns="num_collapsed"), without.drop(columns="num_collapsed"))


def test_the_summary_counts_it_though_the_data_set_is_one_only():
    result = summary(table())
    assert list(result.loc[result["row"] == "width", "num_collapsed"]) == [1, 1]


def test_what_is_flat_at_chance_is_left_out_of_what_was_measured():
    runs = table()
    part = results.part(runs)
    (without_collapsed, _) = measured.arrange(part, [TOP])[TOP]
    assert np.isnan(without_collapsed.values[1]).tolist() == [False, False, True]
    (with_collapsed, _) = measured.arrange(part, [TOP], keep_collapsed=True)[TOP]
    assert with_collapsed.values[1, 2] == pytest.approx(0.001)
    best = {0.0: METRIC[0.0], 0.3: (0.99, AT_CHANCE, 0.99)}
    result = {keep: measured.by_width(table(best), TOP, keep_collapsed=keep) for keep in (False, True)}
    assert list(result[False]["num_seeds"]) == [2, 2]
    assert list(result[True]["num_seeds"]) == [3, 3]


def test_cautions_say_that_runs_collapsed_and_which_choice_they_are_in():
    assert {"collapsed"} == names(table()) & {"collapsed", "collapsed_best", "collapsed_base"}
    best = table({0.0: METRIC[0.0], 0.3: (1.0, AT_CHANCE, 1.0)})
    assert {"collapsed", "collapsed_best"} <= names(best)
    assert results.part(best).widths[0].best_rho == 0.3
    base = table({0.0: (AT_CHANCE, 0.9, 0.9), 0.1: METRIC[0.1]})
    assert {"collapsed", "collapsed_base"} <= names(base)
    (text,) = (caution.text for caution in cautions.cautions(base) if caution.name == "collapsed")
    assert text.startswith("2 runs are no better than a prediction that ignores its inputs")
    assert not names(table(dataset="their_own")) & {"collapsed", "collapsed_best", "collapsed_base"}


def test_a_column_of_the_users_own_is_kept_and_checked():
    runs = table(dataset="their_own")
    runs["is_collapsed"] = runs["test_metric"] == AT_CHANCE
    assert list(gain_by_width(runs)["num_collapsed"]) == [1, 1]
    with pytest.raises(ValueError, match=r"'is_collapsed' holds 'maybe': expected true, false or nothing"):
        fields.with_collapsed(runs.assign(is_collapsed="maybe"))


def test_unknown_is_neither_true_nor_false():
    result = fields.with_collapsed(table(dataset="their_own"))["is_collapsed"]
    assert result.dtype == "boolean"
    assert result.isna().all()
