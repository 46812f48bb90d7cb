"""A full disk, a removed folder and what a kill left half written are dealt with and named."""

import os
import socket
import subprocess

import pytest

from flatwide.runs import disk
from flatwide.runs.directory import sweep, write_json


def test_what_killed_processes_left_half_written_is_swept(run, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = socket.gethostname()
    names = {
        name: f"{name}.csv.{host}.{pid}.tmp"
        for name, host, pid in (
            ("dead", here, ended.pid),
            ("alive", here, os.getppid()),
            ("elsewhere", f"not-{here}", ended.pid),
            ("old", "n", 1),
        )
    }
    folders = [tmp_path, tmp_path / "figures", run.path, run.path / "measurements"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        for name in names.values():
            (folder / name).write_text("half")
        os.utime(folder / names["old"], (0, 0))
        (folder / "a.tmp.csv").write_text("a user's")
    sweep(tmp_path)
    with run.lock():
        pass
    for folder in folders:
        left = {path.name for path in folder.iterdir() if "tmp" in path.name}
        assert left == {names["alive"], names["elsewhere"], "a.tmp.csv"}


def test_a_lock_says_who_holds_it_and_is_not_taken_by_asking(run):
    run.path.rmdir()
    assert run.holder() is None
    assert not run.path.exists()
    with run.lock():
        assert run.holder() == f"{os.getpid()} on {socket.gethostname()}"
    assert run.holder() is None


def test_a_folder_that_was_removed_is_not_made_again(run, tmp_path):
    with pytest.raises(FileNotFoundError):
        write_json(tmp_path / "gone" / "figures" / "a.json", {})
    assert not (tmp_path / "gone").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_full_disk_is_named_with_its_file(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(OSError) as fault, disk.named(path), open("/dev/full", "wb", buffering=0) as file:
        file.write(b"1")
    assert disk.is_full(fault.value)
    text = disk.full_text(fault.value, tmp_path)
    assert text.startswith(f"{path}: it could not be written (No space left on device). Free some space, and rerun the")
