"""The hooks of docs/howto/trackers.md, with the libraries and without a network."""

import json
import os
import re
import struct
import subprocess
import sys

import pandas as pd
import pytest
from numpy.testing import assert_allclose

from flatwide import report
from flatwide.runs.directory import run_directories

EXTRA = "the extra `trackers` is not installed"
STUDY = """
import flatwide


def get_config():
    config = flatwide.config.default()
    config.num_neurons, config.num_epochs, config.batch_size = (4,), 2, 256
    config.study.axes = {"rho": (0.0, 0.1), "seed": (0, 1, 2)}
    config.study.workers = 1
    return config
"""


def train(root, folder, *, library, **environment):
    """Train a study with the hook of a library, in a process of its own, and give its runs."""
    page = (root / "docs" / "howto" / "trackers.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (hook,) = (code for code in blocks if f"import {library}" in code or f"from {library}" in code)
    (folder / "hooks.py").write_text(hook)
    (folder / "study.py").write_text(STUDY)
    flags = (f"--workdir={folder / 'w'}", f"--config={folder / 'study.py'}", "--config.on_metrics=hooks.py:log")
    done = subprocess.run(
        [sys.executable, root / "main.py", *flags],
        env=os.environ | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "on_metrics" not in done.stderr
    runs = run_directories(folder / "w")
    assert len(runs) == 6
    return runs


def check_report(folder, table, runs):
    """Compare the report of an exported table with that of the runs, which knows that the metric is an accuracy."""
    table.to_csv(folder / "exported.csv", index=False)
    told: list[list[str]] = [[], []]
    report.write_table(folder / "exported.csv", tell=told[0].append)
    report.write(runs[0].path.parents[1], tell=told[1].append)
    exported, own = (
        [
            float(cell)
            for line in "\n".join(text).splitlines()
            if re.match(r"\s+310 ", line)
            for cell in line.split()[:4]
        ]
        for text in told
    )
    size, *scores = exported
    assert_allclose([size, *(100 * score for score in scores)], own, atol=0.06)  # the report of runs has one decimal


def messages(content):
    """Yield the messages of a file of W&B: frames of checksum, size and kind in blocks of 32 KiB, after 7 bytes."""
    at, message = 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left  # no frame begins there
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        at += 7 + size
        message += content[at - size : at]
        if kind in (1, 4):  # whole, or the last part
            yield message
            message = b""


def wandb_run(path):
    """Read the name, settings, history and last values of a run from its file."""
    from wandb.proto import wandb_internal_pb2

    def values(items):
        return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}

    name, config, history, summary = "", {}, [], {}
    for message in messages(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(message)
        if record.HasField("run"):
            name, config = record.run.display_name, values(record.run.config.update)
        elif record.HasField("history"):
            history.append(values(record.history.item))
        elif record.HasField("summary"):
            summary |= values(record.summary.update)
    return name, config, history, summary


@pytest.mark.slow
def test_runs_reach_wandb_and_its_table_the_report(root, tmp_path):
    pytest.importorskip("wandb", reason=EXTRA)
    (tmp_path / "tracked").mkdir()
    runs = train(root, tmp_path, library="wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path / "tracked"))
    tracked = [wandb_run(path) for path in sorted(tmp_path.glob("tracked/wandb/offline-*/*.wandb"))]
    table = []
    for run in runs:
        ((_, config, history, summary),) = (found for found in tracked if found[0] == run.name)
        assert config["seed"] == run.read_config()["seed"]
        assert [row["test_metric"] for row in history] == [row["test_metric"] for row in run.read_metrics()]
        assert summary["num_params"] == run.read_result()["num_params"]
        table.append({"Name": run.name, "State": "finished"} | config | summary)
    check_report(tmp_path, pd.DataFrame(table), runs)


@pytest.mark.slow
def test_runs_reach_mlflow_and_its_table_the_report(root, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason=EXTRA)
    store = {"MLFLOW_TRACKING_URI": (tmp_path / "tracked").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    runs = train(root, tmp_path, library="mlflow", **store)
    table = mlflow.search_runs()
    assert sorted(table["tags.mlflow.runName"]) == [run.name for run in runs]
    for run in runs:
        row = table[table["tags.mlflow.runName"] == run.name].iloc[0]
        history = mlflow.MlflowClient().get_metric_history(row["run_id"], "test_loss")
        assert [(metric.step, metric.value) for metric in history[:2]] == [
            (row["step"], row["test_loss"]) for row in run.read_metrics()
        ]
    check_report(tmp_path, table, runs)
