"""Loading of trained networks."""

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flatwide import trees
from flatwide.runs import checkpoints
from flatwide.runs.build import build
from flatwide.runs.directory import FILE_VERSION, IDENTITY, STARTED_ON, UNREAD, RunDirectory, run_directories
from flatwide.runs.experiment import Experiment
from flatwide.runs.identity import identity
from flatwide.training.state import State
from flatwide.types import Model, PyTree


class Trained(NamedTuple):
    """A trained network, in evaluation mode.

    apply(inputs) -> outputs: `inputs` [B, ...] as the model takes them, such as pixels in [0, 1]; pruned weights are 0.
    """

    config: Mapping[str, Any]
    params: PyTree
    stats: PyTree
    apply: Callable[[PyTree], PyTree]

    def flat(self) -> dict[str, np.ndarray]:
        """Return the arrays of params and stats by flat names, such as `params/Dense_0/kernel`."""
        leaves = jax.tree.leaves_with_path({"params": self.params, "stats": self.stats})
        return {trees.path_name(path): np.asarray(leaf) for path, leaf in leaves}

    def write_safetensors(self, path: str | os.PathLike) -> None:
        """Write the arrays by their flat names as a safetensors file, with the config as JSON in its metadata.

        Raises: FileExistsError if there is such a file; ImportError without the extra `safetensors`.
        """
        try:
            from safetensors.numpy import save
        except ImportError as error:
            raise ImportError("writing safetensors needs its package: pip install 'flatwide[safetensors]'.") from error
        content = save(self.flat(), metadata={"config": json.dumps(dict(self.config))})
        with open(path, "xb") as file:
            file.write(content)

    def __repr__(self) -> str:
        """Return a line without the weights, which a notebook would print in full."""
        leaves = jax.tree.leaves(self.params)
        fields = ", ".join(f"{name}={self.config[name]!r}" for name in ("model", "dataset", "rho", "seed"))
        return f"Trained({fields}; {sum(leaf.size for leaf in leaves):,} parameters in {len(leaves)} arrays)"


def load_run(path: str | os.PathLike) -> Trained:
    """Load a trained network from its run directory.

    Raises: FileNotFoundError if there is no such folder; ValueError if it holds no finished run, or a Python
      file of yours or the data have changed; DataError if its data set, which determines the shapes, is not in
      `config.data_dir`.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{os.fspath(path)!r}: there is no such folder; expected a run directory.")
    directory = RunDirectory(Path(path))
    built = rebuild(directory)
    state = final_state(directory, built)
    apply = functools.partial(_compiled_apply(built.model), state.params, state.stats)
    return Trained(built.config, state.params, state.stats, apply)


def read_fields(directory: RunDirectory) -> dict[str, Any]:
    """Read the config fields of a run, without the other entries of its config.json.

    Measurements and hooks are left out: they are not part of any identity, and their files may be gone.
    """
    stored = directory.read_config()
    left_out = {IDENTITY, FILE_VERSION, UNREAD, *STARTED_ON, "measurements", "on_metrics"}
    return {name: stored[name] for name in stored.keys() - left_out}


def rebuild(directory: RunDirectory) -> Experiment:
    """Build the parts of a finished run as it was trained.

    Raises: as `load_run`.
    """
    status = directory.status()
    if status == "new":
        runs = run_directories(directory.path)
        example = f"{runs[0].path.parent}, such as {runs[0].name}" if runs else "W/runs of a work directory W"
        raise ValueError(f"{directory.path}: there is no run here; expected a directory in {example}.")
    if status != "finished":
        raise ValueError(f"{directory.path}: the run is {status}; expected a finished one. Finish its training first.")
    recorded, config = directory.read_config()[IDENTITY], read_fields(directory)
    # The number of threads is recorded for every run, but is part of the identity of only some.
    built = build(config | {"threads": recorded.get("threads")}, is_local=True)
    # The weights that it started from are known, though their run may be gone.
    now = identity(built.config, built.data.fingerprint, initial_weights=recorded.get("initial_weights"))
    if changed := sorted(name for name in recorded.keys() | now.keys() if recorded.get(name) != now.get(name)):
        raise ValueError(
            f"{directory.path}: {', '.join(changed)} changed since the run was trained (a file of yours, the data, "
            "64-bit mode, or JAX's matmul precision); load it with the same as in training."
        )
    return built


def final_state(directory: RunDirectory, built: Experiment) -> State:
    """Load the final state of a finished run.

    Raises: ValueError if its final checkpoint is missing or damaged.
    """
    wanted = directory.checkpoints / checkpoints.FINAL
    path = checkpoints.existing(wanted)
    if path is None:
        raise ValueError(f"{wanted}: expected the final checkpoint; restore it from a copy, or train the run again.")
    return checkpoints.load(path, built.state_shapes(), step=built.num_steps, fault=directory.identity_fault)[0]


@functools.lru_cache(maxsize=8)
def _compiled_apply(model: Model) -> Callable[[PyTree, PyTree, PyTree], PyTree]:
    """Compile a model's outputs, with the weights as arguments, so that all runs of a shape share one program."""

    def apply(params: PyTree, stats: PyTree, inputs: PyTree) -> PyTree:
        return model.apply(params, stats, inputs, train=False, key=None)[0]

    return jax.jit(apply)
