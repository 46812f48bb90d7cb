"""The weights of another run, from which a run starts."""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flatwide import config as configs
from flatwide import trees
from flatwide.runs import checkpoints
from flatwide.runs.directory import RunDirectory
from flatwide.types import PyTree


def source(config: Mapping[str, Any]) -> RunDirectory:
    """Return the finished run whose weights a run starts from; nothing is written to it.

    `config.initialize_from` is that run's directory, or a work directory: then it is the run of the same model, width,
    depth and seed whose rho is `config.pretraining_rho`.

    Raises: ConfigError if there is none, several match, or it is not finished.
    """
    path = Path(config["initialize_from"]).expanduser()
    given, rho = f"config.initialize_from={str(path)!r}", config["pretraining_rho"]
    if (path / "config.json").is_file():
        found = [RunDirectory(path)]
        if rho is not None and _rho(found[0]) != rho:
            raise configs.ConfigError(f"{given}: has rho {_rho(found[0])}, not config.pretraining_rho={rho}.")
    elif (path / "runs").is_dir():
        if rho is None:
            raise configs.ConfigError(f"{given}: is a work directory; give config.pretraining_rho, such as 0.")
        found = list(_matching(config, path))
    else:
        raise configs.ConfigError(f"{given}: expected the directory of a run, or a work directory.")
    if len(found) != 1:
        asked = f"config.pretraining_rho={rho}, config.seed={config['seed']} and these sizes"
        named = f": {', '.join(directory.name for directory in found[:3])}" if found else ""
        raise configs.ConfigError(
            f"{given}: {len(found)} runs have {asked}{named}; expected one, or give the directory of a run."
        )
    if (status := found[0].status()) != "finished":
        raise configs.ConfigError(f"config.initialize_from: {found[0].path} is {status}; expected a finished run.")
    return found[0]


def digest(config: Mapping[str, Any]) -> str:
    """Hash the weights and the model's state that a run starts from."""
    path = _checkpoint(source(config))
    facts = os.stat(path)
    return _digest(path, facts.st_mtime_ns, facts.st_size)


def weights(config: Mapping[str, Any], drawn: tuple[PyTree, PyTree], head: PyTree) -> tuple[PyTree, PyTree]:
    """Load the weights and the model's state that a run starts from.

    Args:
      drawn: parameters and state as the model draws them.
      head: booleans like the parameters: whether a leaf belongs to the head, which stays as drawn if
        `config.reinitialize` is "head".
    Raises: ConfigError, naming the leaf, if the shapes differ.
    """
    names = [trees.path_name(path) for path, _ in jax.tree.leaves_with_path(drawn[0])]
    leaves, structure = jax.tree.flatten(drawn[0])
    is_new = jax.tree.leaves(head) if config["reinitialize"] == "head" else [False] * len(leaves)
    wanted = {name: leaf for name, leaf, new in zip(names, leaves, is_new, strict=True) if not new}
    try:
        loaded, _ = checkpoints.load(_checkpoint(source(config)), {"params": wanted, "stats": drawn[1]}, is_part=True)
    except checkpoints.DamagedError:
        raise
    except ValueError as error:
        raise configs.ConfigError(
            f"config.initialize_from: {error} A head of another size starts anew with config.reinitialize=head."
        ) from None
    params = [loaded["params"].get(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(structure, params), loaded["stats"]


def _matching(config: Mapping[str, Any], workdir: Path) -> Iterator[RunDirectory]:
    """Yield the runs of a work directory that have the asked rho, and the seed, model and sizes of a config."""
    same = ["model", "seed", *(name for name, field in configs.SCHEMA.items() if field.shape)]
    for path in sorted((workdir / "runs").iterdir()):
        directory = RunDirectory(path)
        if not (path / "config.json").is_file():
            continue
        stored = directory.read_config()
        is_same = all(_plain(stored.get(name, configs.SCHEMA[name].default)) == _plain(config[name]) for name in same)
        if is_same and _rho(directory) == config["pretraining_rho"]:
            yield directory


def _rho(directory: RunDirectory) -> float:
    return configs.effective_rho(directory.read_config())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _checkpoint(directory: RunDirectory) -> Path:
    path = directory.checkpoints / checkpoints.FINAL
    if not path.is_file():
        raise configs.ConfigError(f"config.initialize_from: {path} is missing; expected the network in one file.")
    return path


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, modified: int, size: int) -> str:
    del modified, size  # only part of the cache key
    hashed = hashlib.sha256()
    for name, array in sorted(checkpoints.arrays(path).items()):
        if name.startswith(("params/", "stats/")):
            hashed.update(f"{name} {array.dtype} {array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()[:16]
