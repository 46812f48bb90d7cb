"""Settings of JAX: threads, precision, processes, and the cache of compiled programs."""

import contextlib
import functools
import hashlib
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

# There is no public interface for incomplete cache entries, whether JAX has started, or the store that processes share.
from jax._src import compilation_cache, distributed, xla_bridge
from jax._src.clusters import slurm_cluster

from flatwide import machine, processes
from flatwide.config import ConfigError
from flatwide.runs.logs import say

_HEARTBEAT_SECONDS = 15  # a killed process is noticed after this, if no collective has failed before
_JOIN_SECONDS = 300  # seconds that processes wait until all have joined
_PATIENCE_SECONDS = 10.0  # of this wait before a message
_SLACK_SECONDS = 60  # by which JAX waits longer, since it would abort with a trace

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_ENTRY_DIGEST_BYTES = 32  # of SHA-256

EXACT = "highest"  # true float32 products on any device; otherwise some GPUs round the factors to 10 bits (TF32)


def is_double() -> bool:
    """Whether JAX uses 64-bit numbers."""
    return jax.dtypes.canonicalize_dtype(float).itemsize == 8


def matmul_precision() -> str:
    """Return JAX's precision of products of 32-bit numbers; "highest" if it was not set."""
    chosen = getattr(jax.config, "jax_default_matmul_precision", None)
    return EXACT if chosen in (None, "float32") else chosen


def has_started() -> bool:
    """Whether JAX has chosen its devices, after which its number of threads is fixed."""
    return xla_bridge.backends_are_initialized()


def stay_on_cpu() -> None:
    """Keep this process, which only plans and supervises, off the GPUs: its JAX would take most of their memory."""
    if not has_started():
        jax.config.update("jax_platforms", "cpu")


class UnknownHostError(ConfigError):
    """The name of the machine of process 0 does not resolve on this one."""


def start_processes(
    coordinator: str | None = None,
    num_processes: int | None = None,
    index: int | None = None,
    *,
    timeout: int | None = None,
    advice: str = "",
) -> None:
    """Join the other processes of a run, before JAX has chosen its devices.

    If not all join within `timeout` seconds (300 if None), this process ends with exit code 1 and a message.

    Args:
      coordinator: HOST:PORT on which process 0 serves the others; all None if JAX detects Slurm or Open MPI.
      num_processes, index: how many processes there are, and which this is.
      timeout: in seconds.
      advice: what the user can do if the processes do not join, a sentence for the end of each message.
    Raises: ConfigError if all are None and no such job is detected, or if the address cannot be used.
    """
    timeout = timeout or _JOIN_SECONDS
    slurm = slurm_cluster.SlurmCluster  # where JAX chooses the address
    of_slurm = slurm.get_coordinator_address(None, None) if slurm.is_env_present() else ""
    _check_resolves(coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS") or of_slurm)
    if coordinator is not None and index == 0:
        _check_is_free(coordinator)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update(
        "jax_enable_preemption_service", False
    )  # it would intercept SIGTERM, on which a run saves and stops
    options: dict[str, Any] = {
        "heartbeat_timeout_seconds": _HEARTBEAT_SECONDS,
        "initialization_timeout": timeout + _SLACK_SECONDS,
    }
    if coordinator is not None:
        options |= {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": index}
        options |= {"cluster_detection_method": "deactivate"}
    try:
        with _ended_after(timeout, advice):
            jax.distributed.initialize(**options)
    except (ValueError, RuntimeError) as error:
        text = f"the processes did not find each other ({' '.join(str(error).split())}). {advice}"
        raise ConfigError([text.rstrip()]) from error
    state = distributed.global_state
    processes.join(state.client, index=state.process_id, count=state.num_processes, shut_down=jax.distributed.shutdown)


def _check_resolves(address: str) -> None:
    """Raise UnknownHostError for a host without an address, for which JAX would wait as for one that is late."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        socket.getaddrinfo(host or None, 0)
    except (OSError, UnicodeError) as error:
        text = f"{address}: {socket.gethostname()} does not know the host {host!r} of process 0 ({error})."
        raise UnknownHostError([f"{text} Set JAX_COORDINATOR_ADDRESS=IP:PORT, or make the name resolve."]) from None


def _check_is_free(coordinator: str) -> None:
    """Raise ConfigError if process 0 cannot serve others on the port of an address, where JAX would crash.

    JAX's server listens on this port of all interfaces, whatever the host; a port whose last connections have just been
    closed is free for it, as for a socket with SO_REUSEADDR.
    """
    port = int(coordinator.rpartition(":")[2])
    is_dual = socket.has_dualstack_ipv6()
    family, host = (socket.AF_INET6, "::") if is_dual else (socket.AF_INET, "0.0.0.0")
    try:
        with socket.socket(family) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_dual:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind((host, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{coordinator}: process 0 cannot listen on port {port} ({error}). Expected one that no program uses."
        ) from None


@contextlib.contextmanager
def _ended_after(timeout: int, advice: str) -> Iterator[None]:
    """Announce the wait for other processes if it is long, and end this process if they have not joined in time."""
    has_joined, is_decided = threading.Event(), threading.Lock()

    def watch() -> None:
        patience = min(_PATIENCE_SECONDS, timeout)
        if has_joined.wait(patience):
            return
        state = distributed.global_state
        expected = f"{state.num_processes} processes at {state.coordinator_address}"
        say(f"process {state.process_id} waits up to {timeout} seconds until all of {expected} have joined")
        if has_joined.wait(timeout - patience):
            return
        with is_decided:  # either it ends here, or it has joined
            if has_joined.is_set():
                return
            text = (
                f"not all of {expected} joined within {timeout} seconds: one has failed, was never started, or cannot "
                f"reach this address. Look at the output of each. {advice}"
            )
            say(text.rstrip())
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    threading.Thread(target=watch, name="flatwide-joining", daemon=True).start()
    try:
        yield
    finally:
        with is_decided:
            has_joined.set()


def available_threads() -> int:
    """Return the number of threads that XLA may use: NPROC, or one per core.

    Raises: ConfigError if NPROC is not a positive integer.
    """
    text = os.environ.get("NPROC")
    if text is None:
        return machine.available()
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"NPROC={text!r}: expected a number of threads >= 1 in this environment variable.")
    return int(text)


def start(threads: int) -> int:
    """Set, for this process, what the last bits of a result depend on, and the cache of compiled programs.

    The number of XLA's CPU threads can be set only before JAX starts. The precision of products becomes "highest",
    unless another one was chosen.
    Returns: the number of threads in effect.
    """
    if not has_started():
        os.environ["NPROC"] = str(threads)
    in_effect = available_threads()
    if in_effect != threads:
        say(
            f"warning: this run needs {threads} threads, but JAX has started with {in_effect}: the result may differ "
            "in its last bits. Train it in a separate process."
        )
    if getattr(jax.config, "jax_default_matmul_precision", None) is None:
        jax.config.update("jax_default_matmul_precision", EXACT)
    _remove_torn_entries()
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        if (folder := _cache_folder()) is None:
            return in_effect  # every process compiles again
        _bind_entries()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return in_effect


def _cache_folder() -> Path | None:
    """Create the folder of compiled programs; None if there is no home directory, or it is not writable."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "flatwide" / "compiled"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        is_private = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & _WRITABLE_BY_OTHERS
        if is_private and not folder.is_symlink():
            folder.chmod(0o700)  # earlier versions let others read it
    except (OSError, RuntimeError):  # the latter if there is no home directory
        return None
    if not is_private:
        say(
            f"warning: {folder} is not used, so programs are compiled again: expected a folder of this user in which "
            "nobody else can write, since compiled programs are executed. Remove it, or set XDG_CACHE_HOME."
        )
        return None
    return folder if os.access(folder, os.W_OK) else None


@functools.cache
def _remove_torn_entries() -> None:
    """Make JAX remove unreadable entries of its cache, in this process from now on.

    A process that is killed while JAX writes an entry leaves an incomplete one. JAX would warn of it at every later
    start, compile again, and not replace it. Versions of JAX without this private function still do so.
    """
    read_compiled = getattr(compilation_cache, "get_executable_and_time", None)
    if read_compiled is None:
        return

    def read_or_remove(cache_key: str, *args, **options):
        try:
            return read_compiled(cache_key, *args, **options)
        except Exception:
            folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
            path = Path(folder or "") / f"{cache_key}-cache"
            if path.is_file():
                path.unlink(missing_ok=True)
            return None, None

    compilation_cache.get_executable_and_time = read_or_remove


@functools.cache
def _bind_entries() -> None:
    """Make JAX store each entry of its cache with a digest of its key and content, and check it.

    A file under the name of another entry would be executed in its place, and its error would return at every rerun.
    Versions of JAX without this private function do not check.
    """
    find_cache = getattr(compilation_cache, "_get_cache", None)
    if find_cache is not None:
        compilation_cache._get_cache = lambda backend: (cache := find_cache(backend)) and _Bound(cache)


class _Bound:
    """JAX's cache with entries that begin with the SHA-256 of their key and content."""

    def __init__(self, cache: Any):
        self._cache = cache

    def get(self, key: str) -> bytes | None:
        """Return the content of an entry; None if there is none.

        Raises: ValueError if it is not what was stored under this key.
        """
        entry = self._cache.get(key)
        if entry is None:
            return None
        if entry[:_ENTRY_DIGEST_BYTES] != _entry_digest(key, entry[_ENTRY_DIGEST_BYTES:]):
            raise ValueError(f"{key}: the compiled program is not that of its key.")
        return entry[_ENTRY_DIGEST_BYTES:]

    def put(self, key: str, value: bytes) -> None:
        """Store an entry."""
        self._cache.put(key, _entry_digest(key, value) + value)


def _entry_digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + content).digest()


class _Compiling:
    """The time spent on tracing and compiling; traces within traces are counted once."""

    def __init__(self):
        self._total, self._spans = 0.0, list[tuple[float, float]]()
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        del kwargs
        if event.startswith("/jax/core/compile/"):
            now = time.monotonic()
            while self._spans and self._spans[-1][0] >= now - duration_secs:
                self._spans.pop()
            self._spans.append((now - duration_secs, now))

    def seconds(self) -> float:
        """Return the total; must not be called within a trace."""
        self._total += sum(end - start for start, end in self._spans)
        self._spans.clear()
        return self._total


_compiling = functools.cache(_Compiling)  # one per process


def compile_seconds() -> float:
    """Return the seconds that this process has spent on tracing and compiling since the first call."""
    return _compiling().seconds()
