"""A small work directory like those that training writes, and a browser to open its report."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatwide import config as configs
from flatwide import report
from flatwide.analysis.summary import summary
from flatwide.report import content, csv_table
from flatwide.report import workdir as workdirs
from flatwide.runs import commands
from flatwide.runs.directory import RunDirectory

WIDTHS, RHOS, SEEDS = (4, 16, 64), (0.0, 0.05, 0.1, 0.2), (0, 1, 2)
VERSIONS = {"python": "3.11.7", "jax": "0.10.2", "flatwide": "0.1.0"}


def make_run(
    workdir: Path,
    width: int,
    rho: float,
    seed: int,
    *,
    status: str = "finished",
    metric_name: str = "accuracy",
    **fields: Any,
) -> str:
    """Write the files of one synthetic run; SAM gains more the wider its network is. A lower error is better."""
    config = {name: field.default for name, field in configs.SCHEMA.items()}
    config |= {"num_neurons": (width,), "rho": rho, "seed": seed, "threads": 1, "label_noise": 0.5} | fields
    random = np.random.default_rng([width, round(1000 * rho), seed, round(100 * config["label_noise"])])
    accuracy = 0.8 + 0.02 * np.log(width) * (rho > 0) * (1 - abs(rho - 0.1)) + 0.004 * random.standard_normal()
    accuracy = 1 - accuracy if metric_name.endswith("error") else accuracy
    name = "-".join([str(config["dataset"]), str(config["model"])])
    identity = {"data": "c0ffee", "num_neurons": [width], "rho": rho, "seed": seed, "threads": 1}
    identity |= {"label_noise": config["label_noise"], **fields}
    name = f"{name}{width}-rho{rho:g}-seed{seed}-{configs.digest(identity)}"
    directory = RunDirectory(workdir / "runs" / name)
    directory.path.mkdir(parents=True)
    directory.write_config(config, identity=identity)
    for epoch in (1, 2, 3):
        row = {"step": 10 * epoch, "epoch": epoch, "running_train_loss": 1 / epoch, "train_loss": None}
        directory.append_metrics(row | {"test_loss": 1.1 / epoch, "test_metric": accuracy - 0.1 / epoch})
    result = {
        "status": status,
        "num_params": 75 * width + 10,
        "num_nonzero_params": 75 * width + 10,
        "seconds": 2.0,
        "metric_name": metric_name,
        "higher_is_better": not metric_name.endswith("error"),
        "device": "cpu",
        "num_devices": 1,
        "threads": 1,
        "x64": False,
        "versions": VERSIONS,
        "started": "2026-01-02T03:04:05+00:00",
        "finished": f"2026-01-02T03:04:{10 + seed}+00:00",
    }
    if status == "finished":
        result |= {"test_metric": accuracy, "test_metric_best": accuracy + 0.01, "best_epoch": 2.0, "test_loss": 0.4}
        result |= {"train_metric": 0.999 if width > 4 else 0.7, "train_loss": 0.02, "epochs": 3.0, "steps": 30}
    directory.write_result(result)
    return directory.name


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> Path:
    """Make a work directory with a complete study, one of whose runs diverged."""
    folder = tmp_path_factory.mktemp("study")
    for width, rho, seed in itertools.product(WIDTHS, RHOS, SEEDS):
        gone = (width, rho, seed) == (4, 0.2, 1)
        make_run(folder, width, rho, seed, status="diverged" if gone else "finished")
    return folder


@pytest.fixture(scope="session")
def page(workdir) -> Path:
    """Write its report."""
    commands.keep(
        workdir,
        ["--workdir=W", "--config=study.py", "--config.sam_variant=own rule"],
        config_path="study.py",
        config_text="# a study\ndef get_config():\n    return 1 < 2\n",
        config={"rho": 0.1},
    )
    return report.write(workdir, num_planned=40)


@pytest.fixture(scope="session")
def make():
    """Return the function that makes one run."""
    return make_run


@pytest.fixture
def content_of(monkeypatch):
    """Return a function that gives the content of the page of a work directory or a table, but for its figures."""

    def written(split, source, **options):
        return content.content(split, summary(split), [], source)

    monkeypatch.setattr(csv_table, "export", written)
    monkeypatch.setattr(workdirs, "export", written)

    def read(source: Path, **options: Any) -> content.Content:
        return (report.write if source.is_dir() else report.write_table)(source, **options)

    return read


@pytest.fixture
def content_of_table(content_of, tmp_path):
    """Return a function that gives the same of a table in memory."""

    def read(table: Any, **options: Any) -> content.Content:
        table.to_csv(tmp_path / "mine.csv", index=False)
        return content_of(tmp_path / "mine.csv", **options)

    return read


@pytest.fixture(scope="session")
def embedded():
    """Return a function that reads the data of a page by element id."""

    def read(text: str, name: str) -> Any:
        start = text.index(">", text.index(f'id="{name}"')) + 1
        return json.loads(text[start : text.index("</script>", start)])

    return read


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start Chromium without a window."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
