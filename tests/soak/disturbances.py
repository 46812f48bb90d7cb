"""Kills and damaged files."""

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from subjects import Subject

_MOST_SECONDS = 600.0  # of one command; longer is a hang
_TRIES = 3  # after a damaged file was restored


class Failure(Exception):
    """A command that showed a traceback, hung, or does not finish."""


class Damage(NamedTuple):
    """A damaged file: what it held, and what it holds now (None: it was deleted)."""

    path: Path
    how: str
    before: bytes
    after: bytes | None

    def __str__(self) -> str:
        """Name the damage and the file."""
        return f"{self.how} {self.path.parent.name}/{self.path.name}"

    def is_left(self) -> bool:
        """Whether nothing has written the file since."""
        return (self.path.read_bytes() if self.path.exists() else None) == self.after

    def undo(self) -> None:
        """Put the file back, as from a backup."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self.before)


def disturbed(subject: Subject, workdir: Path, choose: random.Random, *, seconds: float) -> tuple[str, Damage | None]:
    """Run the command, end it at a random instant, and damage a file every other time.

    Args:
      seconds: that it takes undisturbed.
    Returns: what was done.
    Raises: Failure.
    """
    how = choose.choice(("all", "command", "worker", "SIGTERM", "SIGINT"))
    # Starting takes most of the time of so small a command, so every other kill waits until it trains.
    is_training, share = choose.random() < 0.5, choose.random()
    instant = share * (0.2 if is_training else 1.1) * seconds
    is_damaging, seed = choose.random() < 0.5, choose.random()
    output = _output(workdir)
    process = subject.start(workdir, output)
    if is_training:
        _await_rows(process, workdir)
    try:
        process.wait(instant)
    except subprocess.TimeoutExpired:
        _end(process, how)
    _awaited(process, output)
    _await_workers(process)
    damage = _damage(workdir, random.Random(seed)) if is_damaging else None
    return f"{how} ended at {instant:.1f} s{' of training' if is_training else ''}", damage


def finish(subject: Subject, workdir: Path, *, damages: list[Damage]) -> int:
    """Run the command until it succeeds; restore a damaged file that it refuses by name.

    Returns: how many were refused.
    Raises: Failure.
    """
    num_refused = 0
    for _ in range(_TRIES + len(damages)):
        output = _output(workdir)
        process = subject.start(workdir, output)
        code, text = _awaited(process, output), output.read_text(errors="replace")
        left = [damage for damage in damages if damage.is_left()]
        if code == 0:
            for damage in left:  # what nobody reads again, such as the checkpoint of a finished run
                damage.undo()
            if not left:
                return num_refused
        elif refused := [damage for damage in left if damage.path.name in text or damage.path.parent.name in text]:
            num_refused += len(refused)
            for damage in refused:
                damage.undo()
        elif left:
            left[-1].undo()
        else:
            raise Failure(f"exit code {code}, and no file is damaged: {text.strip().splitlines()[-1:]}")
    raise Failure(f"exit code {code} after every damaged file was restored: {text.strip().splitlines()[-1:]}")


def _await_rows(process: subprocess.Popen, workdir: Path) -> None:
    """Wait until a command writes evaluations, or ends."""
    began = time.time()
    while process.poll() is None:
        if any(path.stat().st_mtime > began for path in workdir.glob("runs/*/metrics.csv")):
            return
        time.sleep(0.01)


def _output(workdir: Path) -> Path:
    """Name a file for what the next command prints."""
    return workdir.with_name(f"{workdir.name}-{len(list(workdir.parent.glob(f'{workdir.name}-*.log')))}.log")


def _awaited(process: subprocess.Popen, output: Path) -> int:
    """Wait for the end of a command, and return its exit code."""
    try:
        code = process.wait(_MOST_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        raise Failure(f"no end after {_MOST_SECONDS:.0f} s, see {output}") from None
    if "Traceback (most recent call last)" in output.read_text(errors="replace"):
        raise Failure(f"a traceback in {output}")
    return code


def _await_workers(process: subprocess.Popen) -> None:
    """Wait until the workers of a killed command have saved and ended, so that no file is damaged while it is written.

    One that is still there after a minute is killed.
    """
    deadline = time.monotonic() + _MOST_SECONDS / 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    _kill_group(process)


def _end(process: subprocess.Popen, how: str) -> None:
    """Kill all processes of a command at once, the command alone, or one worker, or ask the command to stop."""
    if how == "all":
        _kill_group(process)
    elif how == "command":  # its workers take notice, or are still there when it is given again
        process.kill()
    elif how == "worker":
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(workers[-1]) if workers else process.pid, signal.SIGKILL)
    else:
        process.send_signal(signal.Signals[how])


def _kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _damage(workdir: Path, choose: random.Random) -> Damage | None:
    """Damage a file as disks, editors and power failures do."""
    files = sorted(path for path in workdir.rglob("*") if path.is_file() and path.name != "lock")
    if not files:
        return None
    path = choose.choice(files)
    before = path.read_bytes()
    how = choose.choice(("flipped a byte of", "cut", "emptied", "zeroed the end of", "deleted"))
    at = choose.randrange(len(before)) if before else 0
    after = {
        "flipped a byte of": before[:at] + bytes([before[at] ^ (1 << choose.randrange(8))]) + before[at + 1 :]
        if before
        else b"",
        "cut": before[:at],
        "emptied": b"",
        "zeroed the end of": before[:at] + bytes(len(before) - at),
        "deleted": None,
    }[how]
    path.unlink()
    if after is not None:
        path.write_bytes(after)
    return Damage(path, how, before, after)
