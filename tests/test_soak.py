"""The soak test notices what it is there to notice: `make soak` tries kills and damages."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from flatwide import runner

SOAK = Path(__file__).parent / "soak"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(SOAK)
    yield lambda name: runpy.run_path(str(SOAK / f"{name}.py"))
    for name in ("contents", "disturbances", "subjects"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soak")
    runner.run({"num_neurons": (4,), "num_epochs": 1, "measurements": ("gradient",)}, folder, quiet=True)
    return folder


@pytest.mark.parametrize("name", ["metrics.csv", "final.npz", "gradient.json", "config.json"])
def test_every_byte_but_times_is_compared(load, workdir, tmp_path, name):
    contents = load("contents")
    shutil.copytree(workdir, tmp_path / "w")
    expected = contents["read"](workdir)
    assert contents["differences"](expected, contents["read"](tmp_path / "w")) == []
    (path,) = (tmp_path / "w").rglob(name)
    if name == "final.npz":
        path.write_bytes(path.read_bytes().replace(b"params/output/bias", b"params/output/bjas"))
    else:
        path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    (difference,) = contents["differences"](expected, contents["read"](tmp_path / "w"))
    assert difference == str(path.relative_to(tmp_path / "w"))


def test_times_are_left_out(load, workdir, tmp_path):
    contents = load("contents")
    shutil.copytree(workdir, tmp_path / "w")
    (path,) = (tmp_path / "w").rglob("result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1e6, "started": "then"}))
    assert contents["differences"](contents["read"](workdir), contents["read"](tmp_path / "w")) == []


def test_a_damage_is_undone_unless_the_file_was_written_since(load, tmp_path):
    damage = load("disturbances")["Damage"](tmp_path / "a", "cut", b"whole", b"wh")
    damage.path.write_bytes(b"wh")
    assert damage.is_left()
    damage.path.write_bytes(b"written again")
    assert not damage.is_left()
    damage.undo()
    assert damage.path.read_bytes() == b"whole"


@pytest.mark.slow
def test_a_kill_and_a_damage_leave_every_byte(load, monkeypatch, tmp_path, capsys):
    main = load("__main__")["main"]
    monkeypatch.setattr(sys, "argv", ["soak", "--seconds=1", f"--workdir={tmp_path}", "--only=run"])
    assert main() == 0
    assert "tried 1, survived 1, with a difference or a fault 0" in capsys.readouterr().out
