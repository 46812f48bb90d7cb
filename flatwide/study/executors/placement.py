"""Which devices each worker of a machine sees: environment variables that are set before JAX starts in it."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from flatwide import machine

_FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")  # the second is JAX's older name
_FRACTION = 0.75  # of a GPU's memory that JAX takes by default


class Share(NamedTuple):
    """What each worker of a study has.

    num_devices: over which it trains a run; None for all that its process finds. text: how workers and devices are
    matched, or "". num_bytes: memory that it may take of each device; None if unknown.
    """

    num_devices: int | None = None
    text: str = ""
    num_bytes: float | None = None


def per_run(study: Mapping[str, Any]) -> int:
    """Return the GPUs of a worker."""
    return study.get("devices_per_run") or 1


def per_gpu(study: Mapping[str, Any]) -> int:
    """Return the workers that share a GPU."""
    return study.get("workers_per_gpu", 1)


def slots(study: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """List the GPUs of each worker that this machine can run at once; none without GPUs."""
    gpus, count = machine.gpus(), per_run(study)
    sets = [gpus[first : first + count] for first in range(0, len(gpus) - count + 1, count)]
    return sets * per_gpu(study)


def environment(study: Mapping[str, Any], gpus: tuple[str, ...]) -> dict[str, str]:
    """Return the variables with which a worker sees its devices, and takes its part of their memory."""
    if gpus:
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} | memory_environment(study)
    return machine.with_cpu_devices(study["devices_per_run"]) if study.get("devices_per_run") else {}


def memory_environment(study: Mapping[str, Any]) -> dict[str, str]:
    """Divide the part of a GPU's memory that JAX takes, its default or the user's, among the workers that share it."""
    if per_gpu(study) == 1:
        return {}
    name = next((name for name in _FRACTIONS if os.environ.get(name)), _FRACTIONS[0])
    return {name: f"{memory_fraction() / per_gpu(study):.4g}"}


def memory_fraction() -> float:
    """Return the part of a GPU's memory that JAX takes."""
    return next((float(os.environ[name]) for name in _FRACTIONS if os.environ.get(name)), _FRACTION)


def share(study: Mapping[str, Any]) -> Share:
    """Describe what each worker of this machine has."""
    if not (each := slots(study)):
        return Share(num_devices=study.get("devices_per_run"))
    named = "; ".join(dict.fromkeys(",".join(gpus) for gpus in each))
    text = f"devices: {per_run(study)} GPU(s) a worker, {per_gpu(study)} worker(s) a GPU: {named}"
    least = min((facts.memory for facts in machine.gpu_facts()), default=None)
    held = None if least is None else least * memory_fraction() / per_gpu(study)
    return Share(num_devices=per_run(study), text=text, num_bytes=held)


def faults(study: Mapping[str, Any]) -> list[str]:
    """List which devices that a study asks for this machine does not have."""
    gpus, asked = machine.gpus(), study["devices_per_run"]
    kind, count = ("GPU(s)", len(gpus)) if gpus else ("CPU device(s)", machine.cpu_devices())
    found = []
    if not gpus and per_gpu(study) > 1:
        found.append(
            f"config.study.workers_per_gpu={per_gpu(study)}: expected 1 on this machine, where JAX finds no GPU; "
            "config.study.workers sets the number of workers."
        )
    if asked is not None and asked > count:
        hint = "" if gpus else "; XLA_FLAGS=--xla_force_host_platform_device_count=N divides a CPU into N devices"
        found.append(
            f"config.study.devices_per_run={asked}: expected at most the {count} {kind} of this machine{hint}."
        )
    most = len(slots(study))
    if gpus and not found and study["workers"] is not None and study["workers"] > most:
        needed = -(-study["workers"] // (count // per_run(study)))
        found.append(
            f"config.study.workers={study['workers']}: expected at most {most}, {per_gpu(study)} on each "
            f"{per_run(study)} of {count} GPU(s); config.study.workers_per_gpu={needed} shares them."
        )
    return found
