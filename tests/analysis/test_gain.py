"""The gain of SAM, worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.analysis import fields, gain
from flatwide.config import digest
from flatwide.runs.directory import RunDirectory
from flatwide.runs.table import collect


def row(num_params, rho, seed, metric, **more):
    return {
        "run": f"{num_params}-{rho}-{seed}",
        "status": "finished" if metric is not None else "diverged",
        "optimizer": "sam",
        "base_optimizer": "sgd",
        "num_neurons": f"({num_params // 10},)",
        "label_noise": 0.0,
        "rho": rho,
        "seed": seed,
        "num_params": num_params,
        "higher_is_better": True,
        "test_metric": metric,
    } | more


# Width 10: rho 0.1 has mean 0.65, rho 0.5 has 0.75. Width 20: rho 0.5 would have 0.9, but one of its seeds diverged.
RUNS = [
    *(row(10, 0.0, seed, metric) for seed, metric in enumerate((0.5, 0.6, 0.7))),
    *(row(10, 0.1, seed, metric) for seed, metric in enumerate((0.6, 0.65, 0.7))),
    *(row(10, 0.5, seed, metric) for seed, metric in enumerate((0.7, 0.75, 0.8))),
    *(row(20, 0.0, seed, metric) for seed, metric in enumerate((0.5, 0.5, 0.6))),
    *(row(20, 0.1, seed, metric) for seed, metric in enumerate((0.4, 0.6, 0.5))),
    *(row(20, 0.5, seed, metric) for seed, metric in enumerate((0.9, None, 0.9))),
]


def table(rows, **options):
    return gain.gain_by_width(pd.DataFrame(rows), **options)


def test_by_hand():
    gains = table(RUNS[::-1])  # the order of the runs does not matter
    assert list(gains["num_params"]) == [10, 20]
    assert list(gains["best_rho"]) == [0.5, 0.1]
    assert_allclose(gains["base"], [0.6, 1.6 / 3])
    assert_allclose(gains["sam"], [0.75, 0.5])
    assert_allclose(gains["gain"], [0.15, -0.1 / 3])  # pairs 0.2 0.15 0.1, and -0.1 0.1 -0.1
    assert_allclose(gains["standard_error"], [0.05 / math.sqrt(3), math.sqrt(0.04 / 3) / math.sqrt(3)])
    low, high = scipy.stats.t.interval(0.95, 2, loc=gains["gain"], scale=gains["standard_error"])
    assert_allclose(gains[["low", "high"]].T, [low, high])
    assert list(gains["num_seeds"]) == [3, 3]
    assert list(gains["num_diverged"]) == [0, 1]


def test_agrees_with_a_paired_test_of_scipy():
    generator = np.random.default_rng(0)
    base = generator.normal(0.6, 0.1, 7)
    sam = base + generator.normal(0.02, 0.01, 7)
    runs = [row(10, rho, seed, v) for rho, values in ((0.0, base), (0.1, sam)) for seed, v in enumerate(values)]
    gains = table(runs).iloc[0]
    oracle = scipy.stats.ttest_rel(sam, base)
    assert_allclose(gains["gain"] / gains["standard_error"], oracle.statistic, rtol=1e-9)
    assert_allclose((gains["low"], gains["high"]), oracle.confidence_interval(0.95), rtol=1e-9)


def test_lower_is_better_turns_the_sign_and_the_choice():
    gains = table([run | {"higher_is_better": False} for run in RUNS])
    assert list(gains["best_rho"]) == [0.1, 0.1]
    assert_allclose(gains["gain"], [-0.05, 0.1 / 3])


def test_another_width_and_metric():
    runs = [run | {"test_metric_best": 1.0} for run in RUNS]
    gains = table(runs, width="num_neurons", metric="test_metric_best")
    assert list(gains["num_neurons"]) == ["(1,)", "(2,)"]
    assert list(gains.columns[:2]) == ["num_neurons", "num_params"]
    assert list(gains["gain"]) == [0, 0]
    assert list(gains["best_rho"]) == [0.1, 0.1]  # of equals the smallest


def test_only_seeds_that_both_have_are_paired():
    runs = [row(10, 0.0, 0, 0.5), row(10, 0.0, 1, 0.9), row(10, 0.1, 0, 0.6), row(10, 0.1, 2, 0.4)]
    gains = table(runs).iloc[0]
    assert (gains["num_seeds"], gains["base"], gains["sam"]) == (1, 0.5, 0.6)
    assert gains["gain"] == pytest.approx(0.1)
    assert np.isnan([gains["standard_error"], gains["low"], gains["high"]]).all()


def test_a_diverged_base_has_no_pair():
    runs = [row(10, 0.0, 0, None), row(10, 0.0, 1, 0.5), row(10, 0.1, 0, 0.6), row(10, 0.1, 1, 0.7)]
    gains = table(runs).iloc[0]
    assert (gains["num_seeds"], gains["base"], gains["num_diverged"]) == (1, 0.5, 1)


def test_a_width_where_every_rho_diverged_has_no_gain():
    gains = table([row(10, 0.0, 0, 0.5), row(10, 0.1, 0, None), *RUNS[9:]])
    assert np.isnan(gains[["best_rho", "base", "sam", "gain"]].iloc[0].astype(float)).all()
    assert list(gains["num_seeds"]) == [0, 3]
    assert gains["gain"][1] == table(RUNS)["gain"][1]


def test_the_rho_of_plain_sgd_is_zero_whatever_its_config_says():
    runs = [row(10, 0.05, 0, 0.5, optimizer="sgd"), row(10, 0.05, 0, 0.6)]
    gains = table(runs).iloc[0]
    assert (gains["base"], gains["sam"], gains["best_rho"]) == (0.5, 0.6, 0.05)


def test_runs_that_are_not_done_are_left_out():
    others = [row(10, 0.9, 0, 0.99, status=status) for status in ("unfinished", "failed")]
    damaged = {"run": "x", "status": "damaged", "problem": "torn"}
    pd.testing.assert_frame_equal(table([*RUNS, *others, damaged]), table(RUNS))


def test_a_width_without_a_base_run_is_named():
    with pytest.raises(ValueError, match=r"num_params=20 has no base run .* rho=0"):
        table([run for run in RUNS if (run["num_params"], run["rho"]) != (20, 0)])


def test_runs_that_differ_in_more_are_refused_by_name():
    with pytest.raises(
        ValueError, match=r"num_params=10, rho=0 and seed=0; they differ in label_noise \(0\.0 and 0\.5\)"
    ):
        table([*RUNS, row(10, 0.0, 0, 0.4, label_noise=0.5)])


def test_runs_that_differ_in_more_are_refused_where_none_share_rho_and_seed():
    noisy = [run | {"label_noise": 0.5 if run["rho"] else 0.0} for run in RUNS]
    with pytest.raises(ValueError, match=r"runs of one num_params differ in label_noise \(0\.0, 0\.5\).*table\.split"):
        table(noisy)
    optimizers = [run | {"base_optimizer": "adam" if run["rho"] else "sgd"} for run in RUNS]
    with pytest.raises(ValueError, match=r"differ in base_optimizer \(sgd, adam\)"):
        table(optimizers)


def test_what_only_some_runs_read_and_what_only_watches_may_differ():
    rows = [run | {"sam_variant": "adaptive" if run["rho"] else "normalized"} for run in RUNS]
    rows = [
        run | {"data_dir": str(run["seed"]), "seconds": 1.0 + run["seed"], "versions.jax": run["run"]} for run in rows
    ]
    pd.testing.assert_frame_equal(table(rows), table(RUNS))


def test_networks_of_two_sizes_in_one_width_are_refused():
    with pytest.raises(ValueError, match=r"num_neurons=\(1,\) has networks of \[10, 11\] parameters"):
        table([*RUNS, row(11, 0.1, 7, 0.5)], width="num_neurons")


def test_two_directions_are_refused():
    with pytest.raises(ValueError, match="higher_is_better"):
        table([*RUNS, row(30, 0.0, 0, 0.5, higher_is_better=False)])


def test_unknown_columns_name_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'num_params'"):
        table(RUNS, width="num_param")
    with pytest.raises(ValueError, match="metric='test_acc' is not known"):
        table(RUNS, metric="test_acc")


def test_no_values_at_all():
    with pytest.raises(ValueError, match="none of the 18 runs is complete"):
        table([run | {"status": "unfinished"} for run in RUNS])


def test_where_all_runs_diverged_there_is_no_gain_and_no_fault():
    gains = table([run | {"status": "diverged", "test_metric": None} for run in RUNS])
    assert gains["gain"].isna().all()
    assert gains["num_diverged"].sum() == len(RUNS)
    first = RUNS[0] | {"status": "diverged", "test_metric": None}
    with pytest.raises(ValueError, match="none of the 18 runs is complete and has it"):
        table([first, *(run | {"test_metric": None} for run in RUNS[1:])])


def test_pairs_are_what_the_table_is_the_mean_of():
    pairs = gain.pair_seeds(pd.DataFrame(RUNS))
    assert list(pairs.columns) == ["num_params", "best_rho", "seed", "base", "sam", "gain"]
    assert pairs.to_dict("records")[1] == {
        "num_params": 10,
        "best_rho": 0.5,
        "seed": 1,
        "base": 0.6,
        "sam": 0.75,
        "gain": pytest.approx(0.15),
    }
    means = pairs.groupby("num_params")[["base", "sam", "gain"]].mean()
    assert_allclose(means, table(RUNS)[["base", "sam", "gain"]])
    by_neurons = gain.pair_seeds(pd.DataFrame(RUNS), width="num_neurons")
    assert list(by_neurons.columns[:2]) == ["num_neurons", "num_params"]


def test_base_names():
    assert fields.base_name(pd.DataFrame(RUNS)) == "SGD"
    mixed = [row(1, 0.1, 0, 0.5, base_optimizer="adamw"), row(1, 0, 0, 0.5, optimizer="adam"), {"status": "damaged"}]
    assert fields.base_name(pd.DataFrame(mixed)) == "Adam and AdamW"


def test_from_run_directories_to_the_gain(tmp_path):
    """The missing values and dtypes of a real results table do not get in the way."""
    fields = ("optimizer", "base_optimizer", "num_neurons", "label_noise", "rho", "seed")
    identities = {run["run"]: {name: run[name] for name in fields} for run in RUNS} | {"new": {}}
    identities = {
        name: fields | {"rho": fields["rho"] * (fields["optimizer"] == "sam")} if fields else {}
        for name, fields in identities.items()
    }
    named = {name: f"{name}-{digest(fields)}" for name, fields in identities.items()}
    for run in RUNS:
        directory = RunDirectory(tmp_path / "runs" / named[run["run"]])
        directory.write_config({name: run[name] for name in fields}, identity=identities[run["run"]])
        done = ("status", "num_params", "test_metric")
        result = {name: run[name] for name in done} | {"metric_name": "accuracy", "higher_is_better": True}
        directory.write_result(result)
    (tmp_path / "runs" / named["10-0.0-0"] / "result.json").write_text("torn")
    RunDirectory(tmp_path / "runs" / named["new"]).write_config({"rho": 0.3, "seed": 0}, identity={})
    gains = gain.gain_by_width(collect(tmp_path))
    assert list(gains["num_seeds"]) == [2, 3]
    assert_allclose(gains[["gain", "standard_error"]].iloc[0], [0.125, 0.025])
