"""Snapshots of the network during training: their steps and files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flatwide.runs.directory import RunDirectory

_FILE = re.compile(r"(epoch|step)-(\d+)\.(npz|orbax)")


def wanted(config: Mapping[str, Any], *, num_steps: int, steps_per_epoch: int) -> tuple[int, ...]:
    """List the steps, ascending, at which a config requests a snapshot; the final network is in the last checkpoint.

    Args:
      config: `measure_epochs`, and optionally `measure_every_steps`; step 0 is the initial network.
    """
    steps = {epoch * steps_per_epoch for epoch in config["measure_epochs"]}
    if every := config.get("measure_every_steps"):
        steps |= set(range(0, num_steps, every))
    return tuple(sorted(step for step in steps if step < num_steps))


def path(directory: RunDirectory, step: int, steps_per_epoch: int) -> Path:
    """Return the file of the network after a step; it is named after the epoch if one ends there.

    A run with a sharded state writes a directory beside it instead: `checkpoints.existing`.
    """
    if step % steps_per_epoch == 0:
        return directory.snapshot(step // steps_per_epoch)
    return directory.snapshot(0).with_name(f"step-{step}.npz")


def kept(directory: RunDirectory, steps_per_epoch: int) -> list[int]:
    """List the steps, ascending, of existing snapshots."""
    matches = (_FILE.fullmatch(path.name) for path in directory.path.glob("snapshots/*"))
    return sorted({int(match[2]) * (steps_per_epoch if match[1] == "epoch" else 1) for match in matches if match})


def epoch(step: int, steps_per_epoch: int) -> float:
    """Return the number of passes over the training examples after a step; an integer at the end of an epoch."""
    return step // steps_per_epoch if step % steps_per_epoch == 0 else step / steps_per_epoch
