"""A work directory of an earlier version, written by the code of commit a02649f, opens, resumes and is measured."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatwide
from flatwide import runner
from flatwide.report.command import report
from flatwide.runs.directory import run_directories

ARCHIVE = Path(__file__).parent / "work_directory_of_a02649f.tar.gz"
# Its runs: seed 0 was stopped after the first of three epochs, and seed 1 has ended and was measured.
CONFIG = {"dataset": "digits", "num_neurons": (2,), "num_epochs": 3, "threads": 1, "rho": 0.1, "optimizer": "sam"}
CONFIG |= {"measure_epochs": (1,), "measurements": ("gradient",)}


@pytest.fixture
def workdir(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_it_is_read_and_said_to_be_older(workdir, capsys):
    runs = flatwide.load(workdir)
    assert runs["status"].tolist() == ["unfinished", "finished"]
    assert runs["test_metric"][1] == 0.08169014084507042  # the number that is in its result.json
    assert np.isfinite(runs["gradient.gradient_norm"][1])
    assert "problem" not in runs.columns
    printed = report([str(workdir), "--formats="])
    assert "1 of 2 runs are not done and are excluded: 1 unfinished" in printed
    assert "no base run (rho=0) at " in printed
    assert "2 runs are of an earlier version of flatwide" in capsys.readouterr().err


def test_its_run_resumes_and_is_measured_as_a_new_one(workdir, tmp_path_factory, capsys):
    new = tmp_path_factory.mktemp("new")
    results = [runner.run(CONFIG, folder, tensorboard=False) for folder in (workdir, new)]
    assert "resuming from step 12" in capsys.readouterr().err
    old, new = (run_directories(folder)[0] for folder in (workdir, new))
    assert old.name == new.name
    assert old.is_earlier
    # Another type of CPU may differ from the one that took the first steps in the last bits.
    for before, after in zip(old.read_metrics(), new.read_metrics(), strict=True):
        assert_allclose(
            [v for v in before.values() if v is not None], [v for v in after.values() if v is not None], 1e-3
        )
    assert results[0]["steps"] == results[1]["steps"] == 36
    names = [sorted(path.name for path in (run.path / "measurements").iterdir()) for run in (old, new)]
    assert names[0] == names[1] == ["gradient-epoch1.json", "gradient.json"]
