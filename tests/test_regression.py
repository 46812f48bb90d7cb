"""Real targets, where lower is better, from the config to the report."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatwide
from flatwide import config as configs
from flatwide import report, runner
from flatwide.analysis import gain
from flatwide.answers import answer
from flatwide.runs import preview
from flatwide.runs.directory import RunDirectory

FIELDS = {"dataset": "matrix_factorization", "model": "LinearNetwork", "loss": "squared", "num_epochs": 3}
FIELDS |= {"batch_size": 100, "learning_rate": 0.02, "momentum": 0.0, "lr_scheduler": "constant"}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("regression")
    for size in (2, 8):
        for rho in (0.0, 0.1):
            for seed in (0, 1):
                runner.run(FIELDS | {"num_neurons": (size,), "rho": rho, "seed": seed}, workdir, quiet=True)
    return workdir


def test_the_best_metric_is_the_lowest_and_equals_the_loss(workdir):
    runs = flatwide.load(workdir)
    assert set(runs["metric_name"]) == {"mean_squared_error"}
    assert not runs["higher_is_better"].any()
    assert_allclose(runs["test_metric"], runs["test_loss"], rtol=1e-6)
    assert np.all(runs["test_metric_best"] <= runs["test_metric"])
    for row in runs.to_dict("records"):
        rows = RunDirectory(workdir / "runs" / row["run"]).read_metrics()
        assert row["test_metric_best"] == min(metrics["test_metric"] for metrics in rows)


def test_a_gain_is_a_smaller_error(workdir):
    runs = flatwide.load(workdir)
    gains = gain.gain_by_width(runs)
    means = runs.groupby(["num_params", "rho"])["test_metric"].mean().unstack()
    assert_allclose(gains["gain"], means[0.0] - means[0.1], rtol=1e-9)
    assert "mean squared error" in answer.answer(runs)
    assert "points" not in answer.answer(runs)


def test_the_report_names_the_metric_without_percent(workdir):
    page = report.write(workdir).read_text()
    assert "mean squared error" in page
    assert "mean squared error (%)" not in page


def test_a_dry_run_counts_what_the_run_will_have(workdir):
    text = preview.describe(preview.assemble(configs.resolve(FIELDS | {"num_neurons": (8,)})))
    assert "data: matrix_factorization, 1,000 training and 1,000 test examples" in text
    assert f"parameters: {8 * 16:,}" in text
