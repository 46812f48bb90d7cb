"""Too little memory: seen before a run has a directory where its state alone is too large, and said in one line."""

from collections.abc import Mapping
from typing import Any

import jax

from flatwide import config as configs
from flatwide import machine
from flatwide.runs import preview
from flatwide.runs.experiment import Experiment
from flatwide.runs.identity import unread_fields
from flatwide.training import devices

_EXHAUSTED = "RESOURCE_EXHAUSTED"  # what XLA's errors of this kind begin with


class OutOfMemoryError(MemoryError):
    """A run does not fit into memory; the message says what to make smaller."""


def check(built: Experiment) -> None:
    """Compare the parameters, what the optimizer keeps of each and one gradient with the memory of the device.

    Raises: OutOfMemoryError. A run that passes may still be too large, since a step keeps more.
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
            f"out of memory: the network and its optimizer take {needed / 1e9:,.1f} GB, and there are "
            f"{available / 1e9:,.1f} GB; {advice(config)}."
        )


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of this process or of a device."""
    return isinstance(error, MemoryError) or str(error).startswith(_EXHAUSTED)


def explain(error: BaseException, config: Mapping[str, Any]) -> str:
    """Write in one line what was asked for, and what to make smaller."""
    if isinstance(error, OutOfMemoryError):
        return str(error)
    return f"out of memory ({configs.one_line(error) or type(error).__name__}); {advice(config)}."


def advice(config: Mapping[str, Any]) -> str:
    """Name the fields that decide how much memory a run takes."""
    unread = unread_fields(config)
    shape = [name for name, field in configs.SCHEMA.items() if field.shape and name not in unread]
    large = [name for name in shape if config[name] is not None]
    return "make " + " or ".join(f"config.{name}={config[name]}" for name in (*large, "batch_size")) + " smaller"


def _available() -> int:
    """Return the bytes of the device that trains: its own, or this machine's where it is a CPU."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    return (stats or {}).get("bytes_limit") or machine.memory()
