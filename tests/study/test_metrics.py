"""A study of several metrics, and of scores that are means over evaluations, from its config to its answers."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import flatwide
from flatwide import cli, runner
from flatwide.decide import command, design
from flatwide.decide.course import Run

STUDY = """
from flatwide.config import default
def get_config():
    config = default()
    config.num_epochs, config.batch_size, config.learning_rate = 4, 64, 0.05
    config.study.axes = {"num_neurons": ((4,), (8,)), "rho": (0.0, 0.1), "seed": (0, 1, 2)}
    config.study.metrics, config.study.average_last = ("test_metric", "test_loss"), 3
    return config
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the work directory of the study, and what its command printed."""
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "study.py").write_text(STUDY)
    assert cli.main([f"--workdir={folder}/w", f"--config={folder}/study.py"]) == 0
    return folder / "w"


def means(workdir, metric):
    """Average the last three evaluations of each run by its metrics.csv: {(num_params, rho, seed): mean}."""
    runs = flatwide.load(workdir)
    curves = {run: pd.read_csv(workdir / "runs" / run / "metrics.csv")[metric] for run in runs["run"]}
    assert {len(curve) for curve in curves.values()} == {4}
    return {
        (size, rho, seed): float(np.mean(curves[run][-3:]))
        for run, size, rho, seed in runs[["run", "num_params", "rho", "seed"]].itertuples(index=False)
    }


def interval(workdir, metric, size, level):
    """Compute the paired t interval of the gain at the only radius."""
    of = means(workdir, metric)
    gains = [(of[size, 0.1, seed] - of[size, 0.0, seed]) * (-1 if metric == "test_loss" else 1) for seed in range(3)]
    return scipy.stats.ttest_1samp(gains, 0).confidence_interval(level)


def test_each_metric_has_its_answer_on_the_page_with_intervals_for_both(trained):
    page = (trained / "report.html").read_text()
    assert page.count("hold for both metrics together: where they say 95 %, each metric has 97.5 %") == 1
    assert page.count("Each run is scored by the mean of its last 3 evaluations") == 1
    assert "<strong>test loss</strong>: " in page
    assert "In short, by test loss" in page
    with open(trained / "summary.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["corrected_gain"]]
    for row in rows:
        low, high = interval(trained, "test_metric", int(row["num_params"]), 0.975)
        assert [float(row["corrected_low"]), float(row["corrected_high"])] == pytest.approx([low, high])
    assert len(rows) == len({row["num_params"] for row in rows}) == 2


def test_the_answer_has_the_intervals_of_both(trained):
    text = flatwide.answer(trained)
    assert text.count("By test accuracy:") == text.count("By test loss:") == 1
    assert "each metric has 97.5 %" in text
    sizes = sorted(set(flatwide.load(trained)["num_params"]))
    alone = flatwide.answer(trained, metric="test_loss")
    for size in sizes:  # joint over both widths
        low, high = interval(trained, "test_loss", size, math.sqrt(0.975))
        assert f"(joint 95 % interval {low:+.4f} to {high:+.4f}) at {size:,} parameters" in text
        low, high = interval(trained, "test_loss", size, math.sqrt(0.95))
        assert f"(joint 95 % interval {low:+.4f} to {high:+.4f}) at {size:,} parameters" in alone


def test_the_terminal_has_both_and_a_flag_replaces_them(trained, capsys):
    capsys.readouterr()
    assert cli.main(["report", str(trained)]) == 0
    printed = capsys.readouterr().out
    joint = interval(trained, "test_loss", max(flatwide.load(trained)["num_params"]), math.sqrt(0.975))
    words = " ".join(printed.split())
    assert "- By test loss (intervals hold for both metrics together): " in words
    assert f"joint 95 % interval {joint[0]:.4g} to {joint[1]:.4g}." in words
    assert len(printed.splitlines()) <= 12
    stored = (trained / "report.json").read_text()
    assert json.loads(stored)["metric"] == ["test_metric", "test_loss"]
    assert cli.main(["report", str(trained), "--metric=test_loss"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Compared by test_loss")
    assert "together" not in printed
    assert cli.main(["report", str(trained), "--metric=test_metric,test_loss"]) == 0
    assert (trained / "report.json").read_text() == stored


def test_the_table_keeps_the_last_evaluation(trained):
    runs = flatwide.load(trained)
    for run, score in runs[["run", "test_metric"]].itertuples(index=False):
        assert score == pd.read_csv(trained / "runs" / run / "metrics.csv")["test_metric"].iloc[-1]
        assert json.loads((trained / "runs" / run / "result.json").read_text())["test_metric"] == score


def test_a_plan_is_of_the_same_scores(trained, capsys):
    assert cli.main(["plan", str(trained)]) == 0
    (trained / "report.json").rename(trained / "kept.json")
    planned = capsys.readouterr().out
    assert cli.main(["plan", str(trained)]) == 0
    assert capsys.readouterr().out != planned
    (trained / "kept.json").rename(trained / "report.json")


def test_more_evaluations_than_a_run_has_cannot_be_averaged(trained, capsys):
    text = (trained / "report.json").read_text()
    (trained / "report.json").write_text(text.replace('"average_last": 3', '"average_last": 5'))
    assert cli.main(["report", str(trained)]) != 0
    errors = capsys.readouterr().err
    assert "average_last=5: " in errors
    assert "has 4 evaluations; expected at most so many." in errors
    (trained / "report.json").write_text(text)


def test_a_study_that_steers_itself_compares_the_means_of_its_first_metric(tmp_path):
    axes = {"num_neurons": ((4,),), "rho": (0.0, 0.1), "seed": (3,)}
    study = {"axes": axes, "decide": "gain", "metrics": ("test_loss", "test_metric"), "average_last": 3}
    fields = {"model": "MLP", "dataset": "digits", "optimizer": "sam", "num_epochs": 3, "study": study}
    read = design.read(fields)
    run = Run(num_params=read.design.sizes[0], setting=(0.1,), seed=3)
    runner.run({**fields, "study": {}} | read.point(run), tmp_path, quiet=True)
    found = command._Store(read, tmp_path)([run])
    (path,) = tmp_path.glob("runs/*/metrics.csv")
    losses = pd.read_csv(path)["test_loss"]
    assert found[run].value == pytest.approx(-float(losses.mean()))
    assert len(set(losses)) == 3
