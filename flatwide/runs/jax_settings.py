"""JAX's own settings: threads, precision, and where compiled programs are kept."""

import os
from pathlib import Path

import jax
from jax._src import xla_bridge  # nothing public tells whether JAX has started

from flatwide import machine
from flatwide.config import ConfigError
from flatwide.runs.logs import say

EXACT = "highest"  # a float32 product is one on any device; some GPUs else round its factors to 10 bits (TF32)


def is_double() -> bool:
    """Tell whether numbers have 64 bits, by JAX's own flag."""
    return jax.dtypes.canonicalize_dtype(float).itemsize == 8


def matmul_precision() -> str:
    """Tell how exactly real numbers of 32 bits are multiplied, by JAX's own setting; "highest" where nobody chose."""
    chosen = getattr(jax.config, "jax_default_matmul_precision", None)
    return EXACT if chosen in (None, "float32") else chosen


def has_started() -> bool:
    """Whether JAX has chosen its devices, after which its number of threads is settled."""
    return xla_bridge.backends_are_initialized()


def available_threads() -> int:
    """Return how many threads XLA may use: NPROC, or one a core.

    Raises: ConfigError if NPROC is no positive number.
    """
    text = os.environ.get("NPROC")
    if text is None:
        return machine.available()
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError([f"NPROC={text!r}: expected a number of threads >= 1 in this environment variable."])
    return int(text)


def start(threads: int) -> int:
    """Settle, for this process, what the last bits of a result depend on, and where compiled programs are kept.

    The number of XLA's CPU threads can be set only until JAX starts; the precision of products is "highest" from now on
    where nobody has chosen another one.
    Returns: the number of threads in effect.
    """
    if not has_started():
        os.environ["NPROC"] = str(threads)
    in_effect = available_threads()
    if in_effect != threads:
        say(
            f"warning: this run wants {threads} threads and JAX has started with {in_effect}: the result may differ in "
            "its last bits. Train it in a process of its own."
        )
    if getattr(jax.config, "jax_default_matmul_precision", None) is None:
        jax.config.update("jax_default_matmul_precision", EXACT)
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "flatwide" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return in_effect
