"""A run directory without any file."""

import pytest

from flatwide.runs.directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "runs" / "digits-MLP-0123abcd"
    path.mkdir(parents=True)
    return RunDirectory(path)
