"""Kills, and damages between them."""

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from damages import Damage, damage
from subjects import Subject

_MOST_SECONDS = 600.0  # of one command; longer is a hang
_TRIES = 3  # after a damaged file was restored


class Failure(Exception):
    """A command that showed a traceback, hung, or does not finish."""


def disturbed(subject: Subject, workdir: Path, choose: random.Random, *, seconds: float) -> tuple[str, list[Damage]]:
    """Run the command, end it at a random instant, and damage some files or pairs of them.

    Args:
      seconds: that it takes undisturbed.
    Returns: what was done.
    Raises: Failure.
    """
    how = choose.choice(("all", "command", "worker", "SIGTERM", "SIGINT"))
    # Starting takes most of the time of so small a command, so most kills wait until it trains.
    is_training, share = subject.trains and choose.random() < 0.75, choose.random()
    instant = share * (0.2 if is_training else 1.1) * seconds
    # A command that trains nothing ends sooner, and reads more files: more of them are damaged at a time.
    num_damages, seed = choose.randint(*((0, 3) if subject.trains else (2, 6))), choose.random()
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
    choose = random.Random(seed)
    damages = [item for _ in range(num_damages) for item in damage(workdir, choose)]
    return f"{how} ended at {instant:.1f} s{' of training' if is_training else ''}", damages


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
            named = ", ".join(map(str, left))
            raise Failure(f"exit code {code}, which names none of {named}: {text.strip().splitlines()[-1:]}")
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
