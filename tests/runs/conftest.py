"""A run directory without any file."""

import pytest

from flatwide.runs.directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    (tmp_path / "runs").mkdir()
    return RunDirectory(tmp_path / "runs" / "digits-MLP-0123abcd")
