"""How JAX is set up for every test, before the first import of it."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Through the environment, so that the processes that tests start have them too.
for name, value in {
    "JAX_PLATFORMS": "cpu",
    # A result's last bits depend on the number of XLA's threads: the same on every machine.
    "NPROC": "1",
    # Most of the suite's time is compilation.
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # No test may depend on a hub's mood.
    "HF_HUB_OFFLINE": "1",
}.items():
    os.environ.setdefault(name, value)

import jax  # noqa: E402
import pytest  # noqa: E402

# A [B] against a [B, 1] is a mistake, not a [B, B].
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def float64() -> Iterator[None]:
    """Let this test's arrays be 64 bits wide, so that an oracle can be compared to a dozen digits."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """Find the repository: its configs, docs and examples."""
    return ROOT
