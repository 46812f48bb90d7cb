"""Load the network that a run trained."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from flatwide import checkpoints, experiment, runs
from flatwide.types import PyTree


class Trained(NamedTuple):
    """A trained network, in evaluation mode.

    apply(inputs) -> outputs: `inputs` [B, ...] as the model sees them, such as pixels in [0, 1]; pruned weights are 0.
    """

    config: Mapping[str, Any]
    params: PyTree
    stats: PyTree
    apply: Callable[[PyTree], PyTree]


def load_run(path: str | os.PathLike) -> Trained:
    """Load a trained network from its run directory.

    Raises: ValueError if there is no such run or it has no checkpoint yet; DataError if its data set, which settles the
      shapes, is not where `config.data_dir` says.
    """
    directory = runs.RunDirectory(Path(path))
    config = directory.read_config()
    del config["identity"]
    built = experiment.build(config)
    state = checkpoints.load_newest(directory.checkpoints, built.init()).tree
    if state is None:
        raise ValueError(f"{directory.path}: expected a checkpoint in {directory.checkpoints}; train the run first.")

    @jax.jit
    def apply(inputs: PyTree) -> PyTree:
        return built.workload.model.apply(state.params, state.stats, inputs, train=False, key=None)[0]

    return Trained(built.config, state.params, state.stats, apply)
