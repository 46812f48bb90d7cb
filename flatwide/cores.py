"""How many CPU cores this process may use, and whether there is a GPU."""

import os
from pathlib import Path


def available() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Tell whether JAX, which must not start for this, would find an NVIDIA GPU."""
    return Path("/dev/nvidia0").exists() and os.environ.get("JAX_PLATFORMS", "") != "cpu"
