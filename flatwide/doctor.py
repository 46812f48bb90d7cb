"""The command that checks a machine before a first study: what it has, what is expected, and how to fix the rest.

python main.py doctor [W] [--data_dir=D]
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp

from flatwide import machine
from flatwide.checklist import Check
from flatwide.config import ConfigError
from flatwide.config.parser import FlagParser
from flatwide.runs import jax_settings
from flatwide.runs.preview import readable
from flatwide.study import orders

_USAGE = "python main.py doctor [W] [--data_dir=D]"
# The oldest driver of each CUDA version, from NVIDIA's table of minor version compatibility.
_LEAST_DRIVER = {"cuda12": 525, "cuda13": 580}
_SHARED = ("nfs", "nfs4", "lustre", "beegfs", "gpfs", "ceph", "cifs", "smb3", "fuse", "9p", "afs")  # file systems
_FREE_SHARE = 0.9  # of a GPU's memory; a desktop takes less than the rest
_SIZE, _TIMES = 4096, 10  # of the timed product
_ANSWER_SECONDS = 10.0  # of Slurm


def read(arguments: Sequence[str]) -> tuple[Path, Path | None]:
    """Read the command line: the work directory, and the data folder or None.

    Raises: ConfigError.
    """
    parser = FlagParser(_USAGE, description=__doc__ or "", example="python main.py doctor runs")
    parser.add_argument("workdir", nargs="?", default=".", metavar="W", help="folder of work directories (default: .)")
    parser.add_argument("--data_dir", metavar="D", help="folder of the data")
    given = parser.parse_args(arguments)
    folders = Path(given.workdir), Path(given.data_dir) if given.data_dir else None
    for name, folder in zip(("W", "--data_dir"), folders, strict=True):
        if folder is not None and not folder.is_dir():
            raise ConfigError([f"{name}={str(folder)!r}: expected a folder that exists."])
    return folders


def examine(workdir: Path, data_dir: Path | None) -> Iterator[Check]:
    """Check this machine; JAX starts in this process, and takes no more of a GPU than it needs."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    threads = jax_settings.start(jax_settings.available_threads())
    is_on_gpu = jax.local_devices()[0].platform == "gpu"
    yield _devices(is_on_gpu)
    yield from _driver()
    yield _precision(is_on_gpu)
    yield from _memory()
    cache = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    yield _cache(Path(cache) if cache else None)
    yield Check("threads", f"{threads} of XLA on {machine.available()} cores", "NPROC unset, or at most the cores",
                "" if threads <= machine.available() else "unset NPROC")  # fmt: skip
    if data_dir is not None:
        kind = _file_system(data_dir)
        fix = "copy the data to a local disk, and set config.data_dir to it" if _is_shared(kind) else ""
        yield Check("data", f"{data_dir} on {kind}", "a local disk", fix)
    yield _determinism(is_on_gpu)
    yield _slurm()
    yield Check("Ray", "installed" if find_spec("ray") else "not installed", "installed where a study uses Ray")
    yield _locks(workdir)


def _devices(is_on_gpu: bool) -> Check:
    found = ", ".join(f"{device.device_kind} ({device.platform})" for device in jax.local_devices())
    num_gpus, expected, fix = len(machine.gpu_files()), "the devices that you want to train on", ""
    if num_gpus and not is_on_gpu:
        found, expected = f"{found}, beside {num_gpus} NVIDIA GPU(s) that JAX does not use", "the GPUs"
        fix = "unset JAX_PLATFORMS, or set it to cuda"
        if not machine.has_cuda_plugin():
            fix = f"pip install 'jax[cuda12]=={jax.__version__}'"
    return Check("devices", found, expected, fix)


def _driver() -> Iterator[Check]:
    """Compare the versions of JAX and its CUDA plugins, and of the driver and CUDA."""
    versions = {each.metadata["Name"].lower().replace("_", "-"): each.version for each in distributions()}
    for cuda, least in _LEAST_DRIVER.items():
        plugin = versions.get(f"jax-{cuda}-plugin")
        if plugin is None:
            continue
        fix = "" if plugin == jax.lib.__version__ else f"pip install 'jax[{cuda}]=={jax.__version__}'"
        yield Check("JAX", f"{cuda} plugin {plugin}", f"that of jaxlib {jax.lib.__version__}", fix)
        for driver in sorted({facts.driver for facts in machine.gpu_facts()}):
            is_old = int(driver.partition(".")[0]) < least
            fix = f"install an NVIDIA driver of version {least} or later" if is_old else ""
            yield Check("driver", driver, f"{least} or later, for {cuda}", fix)


def _precision(is_on_gpu: bool) -> Check:
    """Report the precision of products, and on a GPU how much longer exact ones take."""
    found = jax_settings.matmul_precision()
    if is_on_gpu:
        cost = _product_seconds("highest") / _product_seconds("tensorfloat32")
        found += f"; exact float32 products take {cost:.1f} times as long as those of tensorfloat32"
    return Check(
        "precision", found, "highest for numbers as on a CPU; JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32 for speed"
    )


def _product_seconds(precision: str) -> float:
    """Time products of square matrices."""
    matrix = jnp.ones((_SIZE, _SIZE), jnp.float32)
    product = jax.jit(lambda matrix: jnp.matmul(matrix, matrix, precision=precision))
    product(matrix).block_until_ready()
    began = time.perf_counter()
    for _ in range(_TIMES):
        product(matrix).block_until_ready()
    return time.perf_counter() - began


def _memory() -> Iterator[Check]:
    for index, facts in enumerate(machine.gpu_facts()):
        found = f"{readable(facts.free)} free of {readable(facts.memory)}"
        fix = "end the other processes on it (nvidia-smi lists them), or omit it in CUDA_VISIBLE_DEVICES"
        fix = "" if facts.free >= _FREE_SHARE * facts.memory else fix
        yield Check(f"GPU {index}", found, "free: JAX takes 75 % at its start (XLA_CLIENT_MEM_FRACTION)", fix)
    if not machine.gpu_facts():
        yield Check(
            "memory", f"{readable(machine.memory())} of this machine", "more than --dry_run prints, times the workers"
        )


def _cache(folder: Path | None) -> Check:
    name, expected = "compiled programs", "a local folder, as many processes write it at once"
    if folder is None:
        return Check(name, "no cache: the home directory is not writable", expected, "set XDG_CACHE_HOME to a folder")
    kind = _file_system(folder)
    fix = "set XDG_CACHE_HOME to a folder on a local disk" if _is_shared(kind) else ""
    return Check(name, f"{folder} on {kind}", expected, fix)


def _determinism(is_on_gpu: bool) -> Check:
    name, flag = "determinism", "--xla_gpu_deterministic_ops=true"
    if not is_on_gpu:
        return Check(name, "products and sums of this CPU repeat to the last bit", "the same number of threads")
    is_set = flag in os.environ.get("XLA_FLAGS", "")
    fix = "" if is_set else f"export XLA_FLAGS='{flag}' if runs must repeat to the last bit; some steps take longer"
    return Check(name, f"XLA_FLAGS={os.environ.get('XLA_FLAGS', '')!r}", flag, fix)


def _slurm() -> Check:
    """Report the partitions; a Slurm that does not answer is a fault only of the studies that use it."""
    expected = "a controller that answers where a study uses Slurm"
    if shutil.which("sbatch") is None:
        return Check("Slurm", "no sbatch", expected)
    try:
        command = ["sinfo", "--noheader", "--format=%P"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("Slurm", f"sinfo: {error}", expected)
    said = (done.stderr.strip() or "no answer").splitlines()[-1]
    return Check("Slurm", said if done.returncode else f"partitions {', '.join(done.stdout.split())}", expected)


def _locks(workdir: Path) -> Check:
    kind, fix = _file_system(workdir), ""
    with tempfile.TemporaryDirectory(dir=workdir, prefix=".doctor-") as folder:
        try:
            orders.check_flock(Path(folder) / "lock", workdir)
        except ConfigError as error:
            fix = str(error)
    shared = "; each worker tests that other machines respect them" if _is_shared(kind) else ""
    return Check("locks", f"{workdir.resolve()} on {kind}{shared}", "files that can be locked", fix)


def _file_system(path: Path) -> str:
    """Return the type of the file system of a path, such as ext4 or nfs4; "an unknown file system" without /proc."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "an unknown file system"
    inside = [(len(Path(where).parts), kind) for where, kind in mounts if path.resolve().is_relative_to(where)]
    return max(inside, default=(0, "an unknown file system"), key=lambda each: each[0])[1]


def _is_shared(kind: str) -> bool:
    return kind.startswith(_SHARED)
