"""Detection of workers that show no sign of life, and what may be done about each."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from flatwide import machine
from flatwide.runs.logs import duration_text
from flatwide.study import orders
from flatwide.study.orders import Assigned, Orders

LEAST_SECONDS = 300.0  # without a sign of life before a warning
TIMES_MEDIAN = 10  # the same, in median durations of a run of that shape
_EVERY_SECONDS = 1.0  # between checks


class Stalled(NamedTuple):
    """A worker that has shown no sign of life for some time.

    is_here: whether it runs on this machine. is_idle: whether it uses no processor time, known on this machine only.
    """

    worker: str
    assigned: Assigned
    seconds: float
    is_here: bool
    is_idle: bool

    def text(self) -> str:
        """Return a warning that names the worker and says what happens next."""
        hand = self.assigned
        runs = f"it trains {hand.names[0]}" if hand.names else "it trains no run"
        more = f" and {len(hand.names) - 1} more" if len(hand.names) > 1 else ""
        text = (
            f"warning: worker {self.worker} (process {hand.pid} on {hand.host}) has shown no sign of life for "
            f"{duration_text(self.seconds)}; {runs}{more}. "
        )
        if self.is_idle:
            return text + "It uses no processor time, so it is killed, and another worker resumes from the checkpoint."
        if self.is_here:
            return (
                text + f"It uses the processor, as when compiling, so it is left alone. If it hangs: kill -9 {hand.pid}"
            )
        return text + (
            "Another worker replaces it, and resumes this run once its lock is free. If it hangs, end it there: "
            f"kill -9 {hand.pid}"
        )


class _Sign(NamedTuple):
    """The last sign of life of a worker, and when it was seen; due: seconds without one until the next warning."""

    beat: int
    seen: float
    activity: machine.Activity
    due: float


class Watch:
    """A record of which runs are in training, and which workers are stalled.

    A worker touches its file after every segment. Since clocks of machines differ, the time since then is measured by
    the clock of this process, from the moment when it saw the file's time change.

    Args:
      followed: the orders of the workers.
      patience: takes the names of a worker's current runs; returns the seconds before a warning about a worker that
        may be computing.
    """

    def __init__(self, followed: Orders, *, patience: Callable[[Iterable[str]], float] = lambda names: LEAST_SECONDS):
        self._orders, self._patience = followed, patience
        self._signs: dict[str, _Sign] = {}
        self._begun: dict[str, float] = {}
        self._checked = 0.0

    def training(self) -> dict[str, float]:
        """Return the runs in training, and the seconds since each began."""
        now = time.monotonic()
        return {name: now - began for name, began in self._begun.items()}

    def check(self, workers: Iterable[str]) -> list[Stalled]:
        """Check the files of workers that have not ended; list those that have been stalled for too long.

        Each is listed again when that time has doubled.
        """
        now = time.monotonic()
        if now - self._checked < _EVERY_SECONDS:
            return []
        self._checked = now
        hands = {worker: hand for worker in workers if (hand := self._orders.read_assigned(worker)) is not None}
        names = [name for hand in hands.values() for name in hand.names]
        self._begun = {name: self._begun.get(name, now) for name in names}
        self._signs = {worker: sign for worker, sign in self._signs.items() if worker in hands}
        found = (self._stalled(worker, hand, now) for worker, hand in hands.items())
        return [stalled for stalled in found if stalled is not None]

    def _stalled(self, worker: str, hand: Assigned, now: float) -> Stalled | None:
        beat, process = self._orders.last_beat(worker), find(hand)
        sign = self._signs.get(worker)
        if sign is None or sign.beat != beat:
            activity = sign.activity if sign else machine.Activity(now)
            sign = self._signs[worker] = _Sign(beat=beat, seen=now, activity=activity, due=LEAST_SECONDS)
        idle = sign.activity.idle_seconds(process, now) if process else 0.0
        seconds, is_idle = now - sign.seen, idle >= LEAST_SECONDS
        patience = LEAST_SECONDS if is_idle else max(sign.due, self._patience(hand.names))
        if seconds < patience:
            return None
        self._signs[worker] = sign._replace(due=2 * seconds)
        is_here = hand.host == socket.gethostname()
        return Stalled(worker=worker, assigned=hand, seconds=seconds, is_here=is_here, is_idle=is_idle)


class Orphans:
    """Workers of this machine whose command was killed, and which hold runs without using the processor.

    A stopped process does not notice that its command is gone. It is woken, and then saves and ends by itself; if it
    stays idle it is killed, and its last checkpoint remains.
    """

    def __init__(self):
        self._activity: dict[int, machine.Activity] = {}
        self._woken: set[int] = set()

    def end(self, holders: Iterable[str | None]) -> list[str]:
        """Wake or kill those that have been idle for `LEAST_SECONDS`; return a line for each.

        Args:
          holders: as `RunDirectory.holder` returns them.
        """
        lines, now = [], time.monotonic()
        for pid in {int(pid) for pid, host in map(_process_of, holders) if host == socket.gethostname()}:
            process = machine.process(pid)
            if process is None or not _is_orphan(pid):
                continue
            activity = self._activity.setdefault(pid, machine.Activity(now))
            if activity.idle_seconds(process, now) < LEAST_SECONDS:
                continue
            sent = signal.SIGKILL if pid in self._woken else signal.SIGCONT
            with contextlib.suppress(OSError):
                os.kill(pid, sent)
            self._woken.add(pid)
            del self._activity[pid]
            lines.append(
                f"process {pid}, a worker whose command is gone, used no processor time for "
                f"{duration_text(LEAST_SECONDS)} and was {'killed' if sent == signal.SIGKILL else 'woken'}"
            )
        return lines


def _process_of(holder: str | None) -> tuple[str, str]:
    """Split `12 on host`; the process is "0" where it is unknown."""
    pid, _, host = (holder or "").partition(" on ")
    return (pid, host) if pid.isdecimal() else ("0", "")


def _is_orphan(pid: int) -> bool:
    """Whether a process is a worker, started on this machine, of a command that is gone."""
    match machine.arguments(pid):
        case [*_, "-m", "flatwide.study.worker", path, _]:
            return not orders.have_command(Path(path))
    return False


def find(hand: Assigned) -> machine.Process | None:
    """Find the process of a worker; None if it is on another machine or has ended."""
    if hand.host != socket.gethostname() or not hand.pid:
        return None
    process = machine.process(hand.pid)
    return process if process and process.started == hand.started else None


def kill(stalled: Stalled) -> bool:
    """Kill a worker of this machine that uses no processor time, and return whether that was done.

    A run stays locked as long as its process lives, even a stopped one, so no other worker can take it. SIGKILL ends a
    stopped process too; the system then releases the lock, and no two workers ever train the same run. A worker of
    another machine cannot be killed from here, nor seen to be idle: its run is free once its lock is released.
    """
    if not stalled.is_idle or find(stalled.assigned) is None:
        return False
    try:
        os.kill(stalled.assigned.pid, signal.SIGKILL)
    except OSError:
        return False
    return True
