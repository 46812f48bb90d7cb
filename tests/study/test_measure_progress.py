"""The expected cost of measurements before they are taken, and what is shown while they are."""

import io

import pytest

from flatwide.runs import records
from flatwide.runs.directory import RunDirectory
from flatwide.runs.records import Measured, Wanted
from flatwide.study import measure_progress
from flatwide.study.measure_progress import TYPICAL_PRODUCTS, Progress
from flatwide.study.orders import Task

RESULT = {"status": "finished", "num_params": 100, "steps": 50, "num_gradients": 100, "seconds": 20.0}
CURVATURE, GRADIENT = (Wanted(name, None, 1000) for name in ("curvature", "gradient"))


@pytest.fixture
def runs(tmp_path):
    directories = [RunDirectory(tmp_path / "runs" / name) for name in ("a", "b")]
    for directory in directories:
        directory.path.mkdir(parents=True)
        directory.write_config({"batch_size": 10}, identity={"seed": 0})
        directory.write_result(RESULT)
    return directories


def test_a_cost_is_derived_from_the_training_of_the_run(runs):
    cost = measure_progress.expected({run: [CURVATURE, GRADIENT] for run in runs}, runs=runs)
    products = TYPICAL_PRODUCTS["curvature"] + TYPICAL_PRODUCTS["gradient"]
    assert cost.products == 2 * products
    # 100 gradients of 10 examples in 20 seconds: 0.02 seconds an example; a product takes two gradients of 1,000.
    assert cost.seconds == pytest.approx(2 * products * 2 * 1000 * 0.02)
    assert cost.num_unknown == 0


def test_a_cost_is_that_of_an_earlier_measurement_of_the_same_size(runs):
    facts = {"seconds": 7.0, "measured": "2026-11-28"}
    records.write(runs[0], CURVATURE, Measured({"trace": 1.0}, cost=50), epoch=1.0, num_examples=1000, facts=facts)
    cost = measure_progress.expected({runs[1]: [CURVATURE]}, runs=runs)
    assert cost.seconds == 7.0
    text = measure_progress.text(cost, workers=1)
    assert (
        text == f"expected cost: about {TYPICAL_PRODUCTS['curvature']:,.0f} Hessian-vector products, 7s on one worker"
    )


def test_a_measurement_of_the_user_has_an_unknown_cost(runs):
    cost = measure_progress.expected({runs[0]: [CURVATURE._replace(name="mine.py:flat")]}, runs=runs)
    assert (cost.products, cost.seconds, cost.num_unknown) == (0, 0, 1)
    assert measure_progress.text(cost, workers=2).endswith("0s on 2 workers, and 1 measurements of unknown cost")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_counts_measurements_and_runs(monkeypatch):
    monkeypatch.setattr(measure_progress, "_LIVE_SECONDS", 0.0)
    monkeypatch.setattr(measure_progress, "_COUNT_SHARE", 0)
    left, stream = {"a": 3, "b": 3}, Terminal()
    tasks = [Task(name, {}, trains=False) for name in left]
    progress = Progress(tasks, num_missing=6, remaining=lambda task: left[task.name], stream=stream)
    left["a"] = 1
    progress.tick()
    assert "measurements 2/6  runs 0/2  about 0s left" in stream.getvalue()
    left["a"] = 0
    progress.ended("a")
    assert "measurements 3/6  runs 1/2  about 0s left" in stream.getvalue()
    left["b"] = 0
    progress.ended("b")
    progress.close()
    assert stream.getvalue().endswith("measurements 6/6  runs 2/2\x1b[K\n")
