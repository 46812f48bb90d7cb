"""Out-of-memory checks: before a run starts if its state alone is too large, and one-line messages."""

from collections.abc import Mapping
from typing import Any

import jax

from flatwide import config as configs
from flatwide import machine
from flatwide.runs import preview
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
    config, params = built.config, built.param_shapes
    itemsize = jax.dtypes.canonicalize_dtype(float).itemsize
    needed = 2 * built.num_params * itemsize + preview.optimizer_bytes(config, params)
    if built.is_sharded:
        # The devices of a CPU share the machine's memory.
        num_parts = jax.local_device_count() if jax.local_devices()[0].platform == "cpu" else 1
        needed = needed * num_parts // devices.count(built.sharding)
    if needed > (available := _available()):
        raise OutOfMemoryError(
            f"out of memory: the network and its optimizer need {needed / 1e9:,.1f} GB of "
            f"{available / 1e9:,.1f} GB; {advice(config)}."
        )


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


def _available() -> int:
    """Return the memory in bytes of the training device; that of the machine if it is a CPU."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    return (stats or {}).get("bytes_limit") or machine.memory()
