"""Facts about this machine: CPU cores, their model, processes, memory, a GPU; and settings of this process."""

import functools
import gc
import itertools
import os
import platform
import re
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process of this machine.

    started: clock ticks since boot; distinguishes a process from a later one with the same id.
    cpu_seconds: of all its threads. waits_for_disk: whether a thread is in an uninterruptible system call.
    """

    started: int
    cpu_seconds: float
    waits_for_disk: bool


class Activity:
    """A record of how long a process has been idle: it neither used a processor nor waited for a disk."""

    def __init__(self, now: float):
        self._cpu_seconds, self._at = 0.0, now

    def idle_seconds(self, process: Process, now: float) -> float:
        """Update the record with the state of the process now, and return for how long it has been idle."""
        used = process.cpu_seconds - self._cpu_seconds
        if process.waits_for_disk or used > _IDLE_SHARE * (now - self._at):
            self._cpu_seconds, self._at = process.cpu_seconds, now
        return now - self._at


_IDLE_SHARE = 0.01  # of the time on a processor: a process below this share counts as idle


def process(pid: int) -> Process | None:
    """Look up a process; None if it does not exist, has ended, or the system has no `/proc`."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threads = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return None
    if state in "ZX":
        return None
    ticks = int(fields[10]) + int(fields[11])
    seconds = ticks / os.sysconf("SC_CLK_TCK")
    return Process(started=int(fields[18]), cpu_seconds=seconds, waits_for_disk="D" in threads)


def arguments(pid: int) -> list[str]:
    """Return the command line of a process; empty if it is unknown."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return []


def available() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect_garbage_rarely() -> None:
    """Let Python look for cyclic garbage 70 times less often, for a process of ours.

    Importing and tracing make hundreds of thousands of objects that stay. To go through them again and again takes a
    sixth of the processor time of a short run; reference counts free arrays in any case.
    """
    gc.set_threshold(50_000, 20, 100)


def model_name() -> str:
    """Return the model name of the CPU."""
    names = (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _lines(path: str) -> list[str]:
    """Read the lines of a file of the system; none if it does not exist."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def gpus() -> tuple[str, ...]:
    """List the NVIDIA GPUs that JAX would find, by their names in CUDA_VISIBLE_DEVICES, without starting JAX."""
    num_gpus = len(gpu_files()) if has_cuda_plugin() and not is_cpu_only() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(num_gpus))))

    def exists(name: str) -> bool:
        return name.startswith(("GPU-", "MIG-")) or (name.isdecimal() and int(name) < num_gpus)

    # CUDA ignores the first unknown name and all that follow it.
    return tuple(itertools.takewhile(exists, (name.strip() for name in named.split(","))))


def is_cpu_only() -> bool:
    """Whether the user has chosen that JAX uses no GPU, on this machine or on others."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return platforms != "" and not {"cuda", "gpu"} & set(platforms.split(","))


def gpu_files() -> list[Path]:
    """List the devices of this machine's NVIDIA GPUs, whether or not JAX can use them."""
    return list(Path("/dev").glob("nvidia[0-9]*"))


@functools.cache
def has_cuda_plugin() -> bool:
    """Whether JAX's plugin for NVIDIA GPUs is installed."""
    return any("cuda" in plugin.name for plugin in entry_points(group="jax_plugins"))


class GpuFacts(NamedTuple):
    """What the driver says of a GPU; memory in bytes."""

    name: str
    driver: str
    memory: int
    free: int


def gpu_facts() -> list[GpuFacts]:
    """Ask the driver about all GPUs of this machine; empty if it does not answer."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=_DRIVER_SECONDS, check=True).stdout
        rows = [[cell.strip() for cell in line.split(",")] for line in lines.splitlines()]
        return [GpuFacts(name, driver, int(total) << 20, int(free) << 20) for name, driver, total, free in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


_DRIVER_SECONDS = 20.0  # a driver that does not answer within this time hangs
_FORCED_CPU_DEVICES = re.compile(r"--xla_force_host_platform_device_count=(\d+)")


def cpu_devices() -> int:
    """Count the devices into which JAX would divide the CPU."""
    forced = _FORCED_CPU_DEVICES.findall(os.environ.get("XLA_FLAGS", ""))
    count = os.environ.get("JAX_NUM_CPU_DEVICES", forced[-1] if forced else "1")
    return int(count) if count.isdecimal() else 1


def with_cpu_devices(count: int) -> dict[str, str]:
    """Return the environment of a process whose JAX divides the CPU into so many devices."""
    flags = _FORCED_CPU_DEVICES.sub("", os.environ.get("XLA_FLAGS", "")).strip()  # JAX refuses both settings
    return {"XLA_FLAGS": flags, "JAX_NUM_CPU_DEVICES": str(count)}


def free_memory() -> int:
    """Return the bytes of memory that new arrays can take without others being swapped out."""
    found = [int(line.split()[1]) << 10 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    return min([memory(), *found])


def memory() -> int:
    """Return the bytes of memory of this machine, or of this process's control group if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limits += [int(line) for line in _lines(path) if line.isdecimal()]  # "max" is none
    return min(limits)
