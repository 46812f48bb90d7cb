"""The memory of a run, by its compiled program; the check before it starts, and one-line messages."""

from collections.abc import Mapping
from typing import Any

import jax

from flatwide import config as configs
from flatwide import machine, trees
from flatwide.runs.experiment import Experiment
from flatwide.runs.identity import unread_fields
from flatwide.training import devices

_EXHAUSTED = "RESOURCE_EXHAUSTED"  # prefix of XLA's errors of this kind


class OutOfMemoryError(MemoryError):
    """A run does not fit into memory; the message names the fields to reduce."""


def check(built: Experiment) -> None:
    """Compare the size of parameters, optimizer state and one gradient with the memory of the device.

    Raises: OutOfMemoryError. A run that passes may still be too large, since a step also stores activations.
    """
    params = built.param_shapes
    needed = trees.num_bytes((params, params, jax.eval_shape(built.optimizer.init, params)))
    if built.is_sharded:
        # The devices of a CPU share the machine's memory.
        num_parts = jax.local_device_count() if jax.local_devices()[0].platform == "cpu" else 1
        needed = needed * num_parts // devices.count(built.sharding)
    fit(built.config, needed, "the network and its optimizer need")


def fit(config: Mapping[str, Any], needed: float, what: str) -> None:
    """Raise OutOfMemoryError if a number of bytes is more than the memory of the training device.

    Args:
      what: the subject and the verb of the message.
    """
    if needed > (size := available()):
        sizes = f"{needed / 1e9:,.1f} GB of {size / 1e9:,.1f} GB"
        raise OutOfMemoryError(f"out of memory: {what} {sizes}; {advice(config)}.")


def of_program(built: Experiment) -> int:
    """Return the bytes that the compiled program of a run's steps holds on each device: data, state, temporary arrays.

    Cost: compiling, which the run then finds in the cache of compiled programs.
    """
    found = built.compiled().memory_analysis()
    assert found is not None  # CPUs and GPUs have it
    donated = found.alias_size_in_bytes  # the new state takes the memory of the old one
    return found.argument_size_in_bytes + found.temp_size_in_bytes + found.output_size_in_bytes - donated


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that this process or a device ran out of memory."""
    return isinstance(error, MemoryError) or str(error).startswith(_EXHAUSTED)


def explain(error: BaseException, config: Mapping[str, Any]) -> str:
    """Return a one-line message with the requested size and the fields to reduce."""
    if isinstance(error, OutOfMemoryError):
        return str(error)
    return f"out of memory ({configs.one_line(error) or type(error).__name__}); {advice(config)}."


def advice(config: Mapping[str, Any]) -> str:
    """Name the fields that determine the memory of a run."""
    unread = unread_fields(config)
    shape = [name for name, field in configs.SCHEMA.items() if field.shape and name not in unread]
    large = [name for name in shape if config[name] is not None]
    return "make " + " or ".join(f"config.{name}={config[name]}" for name in (*large, "batch_size")) + " smaller"


def available() -> int:
    """Return the memory in bytes of the training device; that of the machine if it is a CPU."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    return (stats or {}).get("bytes_limit") or machine.memory()
