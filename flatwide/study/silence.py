"""Notice workers that show no sign of life, and decide what may be done about each."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flatwide import machine
from flatwide.runs.logs import duration_text
from flatwide.study.orders import InHand, Orders

LEAST_SECONDS = 300.0  # of silence before anything is said
TIMES_MEDIAN = 10  # of silence, in times that a run of the shape takes
_EVERY_SECONDS = 1.0  # between looks


class Silent(NamedTuple):
    """A worker that has shown no sign of life for some time.

    is_here: whether it runs on this machine. is_idle: whether it computes nothing, which is known of this machine only.
    """

    worker: str
    in_hand: InHand
    seconds: float
    is_here: bool
    is_idle: bool

    def text(self) -> str:
        """Say who is silent, and what follows."""
        hand = self.in_hand
        runs = f"it has {hand.names[0]} in hand" if hand.names else "it has no run in hand"
        more = f" and {len(hand.names) - 1} more" if len(hand.names) > 1 else ""
        text = (
            f"warning: worker {self.worker} (process {hand.pid} on {hand.host}) has shown no sign of life for "
            f"{duration_text(self.seconds)}; {runs}{more}. "
        )
        if self.is_idle:
            return text + "It uses no processor time, so it is killed, and another worker goes on from the checkpoint."
        if self.is_here:
            return (
                text
                + f"It computes, as when it compiles or measures, so it is left alone. If it hangs: kill -9 {hand.pid}"
            )
        return text + (
            "Another worker takes its place, and this run once its lock is free. If it hangs, end it there: "
            f"kill -9 {hand.pid}"
        )


class _Sign(NamedTuple):
    """The last sign of life of a worker, and when it was seen; due: seconds of silence before it is told (again)."""

    beat: int
    seen: float
    activity: machine.Activity
    due: float


class Watch:
    """Know which runs are in training, and which workers are silent.

    A worker touches its file after every segment. How long ago that was is told by the clock of this process, from the
    moment when the file's time was seen to change, since clocks of machines differ.

    Args:
      orders: which the workers follow.
      patience: seconds of silence, for the names of the runs in hand, before a worker that may compute is told of.
    """

    def __init__(self, orders: Orders, *, patience: Callable[[Iterable[str]], float] = lambda names: LEAST_SECONDS):
        self._orders, self._patience = orders, patience
        self._signs: dict[str, _Sign] = {}
        self._begun: dict[str, float] = {}
        self._looked = 0.0

    def training(self) -> dict[str, float]:
        """Return the runs in training, and the seconds since each was begun."""
        now = time.monotonic()
        return {name: now - began for name, began in self._begun.items()}

    def look(self, workers: Iterable[str]) -> list[Silent]:
        """Look at the files of workers that have not ended; list those that have been silent for too long.

        Each is listed again when its silence has doubled.
        """
        now = time.monotonic()
        if now - self._looked < _EVERY_SECONDS:
            return []
        self._looked = now
        hands = {worker: hand for worker in workers if (hand := self._orders.read_in_hand(worker)) is not None}
        names = [name for hand in hands.values() for name in hand.names]
        self._begun = {name: self._begun.get(name, now) for name in names}
        self._signs = {worker: sign for worker, sign in self._signs.items() if worker in hands}
        found = (self._silence(worker, hand, now) for worker, hand in hands.items())
        return [silent for silent in found if silent is not None]

    def _silence(self, worker: str, hand: InHand, now: float) -> Silent | None:
        beat, process = self._orders.last_beat(worker), find(hand)
        sign = self._signs.get(worker)
        if sign is None or sign.beat != beat:
            activity = sign.activity if sign else machine.Activity(now)
            sign = self._signs[worker] = _Sign(beat=beat, seen=now, activity=activity, due=LEAST_SECONDS)
        idle = sign.activity.idle_seconds(process, now) if process else 0.0
        silent, is_idle = now - sign.seen, idle >= LEAST_SECONDS
        patience = LEAST_SECONDS if is_idle else max(sign.due, self._patience(hand.names))
        if silent < patience:
            return None
        self._signs[worker] = sign._replace(due=2 * silent)
        is_here = hand.host == socket.gethostname()
        return Silent(worker=worker, in_hand=hand, seconds=silent, is_here=is_here, is_idle=is_idle)


def find(hand: InHand) -> machine.Process | None:
    """Find the process of a worker; None where it is on another machine or has ended."""
    if hand.host != socket.gethostname() or not hand.pid:
        return None
    process = machine.process(hand.pid)
    return process if process and process.started == hand.started else None


def kill(silent: Silent) -> bool:
    """End a worker of this machine that computes nothing, and return whether that was done.

    Its run is locked as long as the process lives, even a stopped one, so that nobody else can take it. SIGKILL ends a
    stopped process too; the system then frees the lock, and no two workers ever train one run. A worker of another
    machine cannot be ended from here, nor seen to be idle: its run is free once its lock is.
    """
    if not silent.is_idle or find(silent.in_hand) is None:
        return False
    try:
        os.kill(silent.in_hand.pid, signal.SIGKILL)
    except OSError:
        return False
    return True
