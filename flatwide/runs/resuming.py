"""Resuming of a run: the values that a checkpoint stores beside the state, and the choice of a checkpoint."""

import datetime
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flatwide.runs import checkpoints, disk, logs, rows
from flatwide.runs.directory import RunDirectory
from flatwide.training.loop import Taken
from flatwide.training.state import State


class Memory(NamedTuple):
    """The values beside a run's state that a checkpoint stores, so that resuming changes nothing."""

    started: str
    seconds: float = 0.0  # spent before this process
    loss_total: float = 0.0  # sum over the steps since the last evaluation, in their order
    loss_count: int = 0
    learning_rate: float | None = None  # of the last step; None before the first
    identity: str = ""  # of the run; checkpoints of earlier versions lack it and the fields below
    metrics_rows: int | None = None  # number of rows of metrics.csv up to this state
    metrics_sha256: str = ""  # of the header and those rows


def restore(directory: RunDirectory, state: State, *, quiet: bool) -> tuple[State, Memory, rows.Digest]:
    """Resume from the newest intact checkpoint whose rows of metrics are unchanged, or start.

    Rows after it are dropped unread, since their steps are repeated.
    """
    identity = directory.identity
    path = directory.metrics_file
    written = disk.read(path)
    fault = functools.partial(_fault, directory, written)
    newest = checkpoints.load_newest(directory.checkpoints, state, fault=fault)
    for warning in newest.warnings:
        logs.say(f"warning: {warning}", quiet=quiet)
    if newest.tree is None:
        directory.replace_metrics(b"")
        return checkpoints.of_first(state), Memory(started=now(), identity=identity), rows.Digest()
    memory = Memory(**newest.extra)._replace(identity=identity)
    logs.say(f"{directory.path}: resuming from step {newest.step}.", quiet=quiet)
    if not directory.is_written:
        return newest.tree, memory, rows.Digest()
    if memory.metrics_rows is None:
        content = rows.until(path, written or b"", newest.step)
    else:
        content = rows.first(written or b"", memory.metrics_rows) or b""
    directory.replace_metrics(content)
    return newest.tree, memory, rows.Digest(content)


def _fault(directory: RunDirectory, written: bytes | None, checkpoint: Path, extra: Mapping[str, Any]) -> str:
    """Return why a run cannot resume from a checkpoint: it is of another run, or its rows of metrics are missing.

    Args:
      written: the content of `metrics.csv`.
    """
    if fault := directory.identity_fault(extra):
        return f"{checkpoint}: {fault}."
    num_rows = extra.get("metrics_rows")
    if num_rows is None:  # of an earlier version
        return ""
    content = rows.first(written or b"", num_rows)
    if content is not None and rows.Digest(content).hexdigest() == extra["metrics_sha256"]:
        return ""
    wrong = "are not complete" if content is None else "were changed after they were written"
    return f"{directory.metrics_file}: the first {num_rows} rows, which lead to {checkpoint.name}, {wrong}."


def remember(memory: Memory, taken: Taken) -> Memory:
    """Add losses one by one, so that the sum does not depend on the division of steps into segments."""
    total = memory.loss_total
    for loss in taken.losses.tolist():
        total += loss
    count = memory.loss_count + len(taken.losses)
    return memory._replace(loss_total=total, loss_count=count, learning_rate=taken.learning_rate)


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
