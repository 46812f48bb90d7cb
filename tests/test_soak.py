"""The soak test notices what it is there to notice: `make soak` tries kills and damages."""

import io
import itertools
import json
import random
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from flatwide import runner
from flatwide.runs import table

SOAK = Path(__file__).parent / "soak"
PLANTED = runpy.run_path(str(SOAK / "planted.py"))


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(SOAK)
    yield lambda name: runpy.run_path(str(SOAK / f"{name}.py"))
    for name in ("contents", "damages", "disturbances", "subjects"):
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
    damage = load("damages")["Damage"](tmp_path / "a", "cut", b"whole", b"wh")
    damage.path.write_bytes(b"wh")
    assert damage.is_left()
    damage.path.write_bytes(b"written again")
    assert not damage.is_left()
    damage.undo()
    assert damage.path.read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.csv", "gradient.json"])
def test_a_damage_that_neither_the_report_nor_the_table_names_is_noticed(load, workdir, tmp_path, monkeypatch, name):
    damages = load("damages")
    shutil.copytree(workdir, tmp_path / "w")
    (path,) = (tmp_path / "w").rglob(name)
    before = path.read_bytes()
    path.write_bytes(before.replace(b"1", b"3", 1))
    damage = damages["Damage"](path, "changed a number in", before, path.read_bytes())
    assert damages["unnamed"](tmp_path / "w", [damage]) == []
    monkeypatch.setattr(table, "_read", lambda run, state: table.Reading({}))
    silent = damages["unnamed"](tmp_path / "w", [damage])
    assert [line for line in silent if "does not name" in line] == [
        f"{where} does not name {path}" for where in ("the table", "report")
    ]


def test_files_stay_valid_where_a_number_changes_and_where_two_are_swapped(load, workdir, tmp_path):
    damages = load("damages")
    shutil.copytree(workdir, tmp_path / "w")
    (checkpoint,) = (tmp_path / "w").rglob("final.npz")
    before = checkpoint.read_bytes()
    changed = damages["_changed"](checkpoint, "changed a number in", before, random.Random(0))
    was, now = (np.load(io.BytesIO(content)) for content in (before, changed))
    assert sum(not np.array_equal(was[name], now[name]) for name in was.files if name != "metadata.json") == 1
    other = checkpoint.parents[2] / "other" / "checkpoints" / "final.npz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of another run")
    swapped = []
    for seed in itertools.count():
        if len(swapped) == 2:
            break
        swapped = damages["damage"](tmp_path / "w", random.Random(seed))
    assert {damage.path: damage.path.read_bytes() for damage in swapped} == {
        checkpoint: b"of another run",
        other: before,
    }
    for damage in swapped:
        damage.undo()
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize("fault", PLANTED["FAULTS"], ids=lambda fault: fault.what)
def test_a_planted_fault_fits_one_place_of_the_package(fault):
    path = PLANTED["find"](fault.old)
    compile(path.read_text().replace(fault.old, fault.new), str(path), "exec")


@pytest.mark.slow
def test_a_kill_and_a_damage_leave_every_byte(load, monkeypatch, tmp_path, capsys):
    main = load("__main__")["main"]
    monkeypatch.setattr(sys, "argv", ["soak", "--seconds=1", f"--workdir={tmp_path}", "--only=run"])
    assert main() == 0
    assert "tried 1, survived 1, with a difference or a fault 0" in capsys.readouterr().out
