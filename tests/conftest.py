"""How JAX is set up for every test, before the first import of it."""

import atexit
import gc
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]

# Compilation takes most of the suite's time, and XLA's optimizations most of that, for programs too small to gain from
# them. A test of what they may change (the last bits of two programs, memory) is marked `optimized` and compiles as
# users do. With `XLA_FLAGS= pytest` all tests do.
FAST_AND_USUAL = {
    "xla_backend_optimization_level": (0, 3),
    "xla_llvm_disable_expensive_passes": (True, False),
    "xla_cpu_use_fusion_emitters": (False, True),
    "xla_cpu_parallel_codegen_split_count": (1, 32),
}
FAST_FLAGS = " ".join(f"--{name}={fast}" for name, (fast, _) in FAST_AND_USUAL.items())

# Through the environment, so that the processes that tests start have them too.
for name, value in {
    "JAX_PLATFORMS": "cpu",
    # A result's last bits depend on the number of threads, so use the same on every machine. NumPy's threads also
    # busy-wait for each other, which takes twenty times as long where other workers have the cores.
    "NPROC": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": FAST_FLAGS,
    # All processes of a session share their compiled programs; the next session starts without any, as a fresh clone.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # No test may depend on the network.
    "HF_HUB_OFFLINE": "1",
}.items():
    os.environ.setdefault(name, value)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # xdist's workers inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="flatwide-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax  # noqa: E402
import pytest  # noqa: E402
from jax._src import compiler  # noqa: E402  (nothing public sets the options of all programs of a process anew)

# Adding a [B] to a [B, 1] is a mistake, not a [B, B].
jax.config.update("jax_numpy_rank_promotion", "raise")

STARTED_FAST = os.environ["XLA_FLAGS"] == FAST_FLAGS
fast_options = compiler.get_compile_options


def usual_options(*args, env_options_overrides=None, **options):
    usual = {name: value for name, (_, value) in FAST_AND_USUAL.items()}
    return fast_options(*args, env_options_overrides=usual | (env_options_overrides or {}), **options)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Compile as users do, here and in processes that the test starts, if the test is marked `optimized`."""
    is_marked = item.get_closest_marker("optimized") is not None
    options, flags = (usual_options, "") if is_marked else (fast_options, FAST_FLAGS)
    if STARTED_FAST and compiler.get_compile_options is not options:
        compiler.get_compile_options = options
        os.environ["XLA_FLAGS"] = flags
        jax.clear_caches()


def pytest_collection_finish() -> None:
    """Exclude imported objects from garbage collection, which took a twentieth of the suite's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def float64() -> Iterator[None]:
    """Use 64-bit arrays in this test, so that an oracle can be compared to a dozen digits."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the repository: its configs, docs and examples."""
    return ROOT


_NUMBERS = """
import os
import jax
import numpy as np
from flatwide.data import Streamed
from flatwide.types import Dataset

def read(index, generator):
    if generator is not None and index >= 16 and os.environ[PROCESS] == FAILING:
        raise OSError(f"example {index} cannot be read")
    return np.full(2, index / 32, np.float32)

def prepare(batch, key, *, train):
    return batch

def numbers():
    split = Streamed(read, np.arange(32) % 2)
    return Dataset(split, split, prepare, jax.ShapeDtypeStruct((2,), np.float32), 2, "numbers")
"""


@pytest.fixture(scope="session")
def load_script(root: Path) -> Callable[[str], ModuleType]:
    """Import Python files of the repository that are not in the package, by path; they may import their neighbours."""

    def load(path: str) -> ModuleType:
        file = root / path
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(file.parent)
            spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def unreadable_numbers(tmp_path: Path) -> Callable[[str, int], str]:
    """Write a streamed data set whose later examples one of several processes cannot read; return its name.

    The function that is returned takes the environment variable with the index of a process, and the failing index.
    """

    def write(variable: str, index: int) -> str:
        file = tmp_path / "numbers.py"
        file.write_text(f"PROCESS, FAILING = {variable!r}, '{index}'{_NUMBERS}")
        return f"{file}:numbers"

    return write


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """Free the compiled programs of a file of tests: thousands of them would stay in a worker's memory."""
    yield
    jax.clear_caches()
