"""The networks that a run keeps along training: after which steps, and in which files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flatwide.runs.directory import RunDirectory

_FILE = re.compile(r"(epoch|step)-(\d+)\.(npz|orbax)")


def wanted(config: Mapping[str, Any], *, num_steps: int, steps_per_epoch: int) -> tuple[int, ...]:
    """List the steps, ascending, after which a config asks for the network; that of the end is in the last checkpoint.

    Args:
      config: `measure_epochs`, and `measure_every_steps` where it is known; 0 steps is the initial network.
    """
    steps = {epoch * steps_per_epoch for epoch in config["measure_epochs"]}
    if every := config.get("measure_every_steps"):
        steps |= set(range(0, num_steps, every))
    return tuple(sorted(step for step in steps if step < num_steps))


def path(directory: RunDirectory, step: int, steps_per_epoch: int) -> Path:
    """Return the file of the network after a step: named after the epoch where one ends there, whoever asked for it.

    A run with a sharded state writes a directory beside it instead: `checkpoints.existing`.
    """
    if step % steps_per_epoch == 0:
        return directory.snapshot(step // steps_per_epoch)
    return directory.snapshot(0).with_name(f"step-{step}.npz")


def kept(directory: RunDirectory, steps_per_epoch: int) -> list[int]:
    """List the steps, ascending, whose networks are there."""
    found = (_FILE.fullmatch(path.name) for path in directory.path.glob("snapshots/*"))
    return sorted({int(match[2]) * (steps_per_epoch if match[1] == "epoch" else 1) for match in found if match})


def epoch(step: int, steps_per_epoch: int) -> float:
    """Return the passes over the training examples after a step: an integer where an epoch ends there."""
    return step // steps_per_epoch if step % steps_per_epoch == 0 else step / steps_per_epoch
