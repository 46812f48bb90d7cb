"""One run over several processes: who decides, who writes, and how all end when one fails.

What a clock, a signal or a file decides, process 0 decides, and only process 0 writes. Processes talk through the
key-value store of JAX's distributed runtime, which process 0 serves; arrays of a step go by JAX's own collectives.
Without `join` there is one process, and everything here does nothing.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

_TOGETHER_SECONDS = 2.0  # that the others have to hear of a failure, before the process that serves them ends
_WATCH_SECONDS = 0.25
_FOREVER_MS = 10**9  # 11 days: others wait while process 0 measures; a failure ends the wait at once
_ENDING, _SIGNAL = "flatwide/ending", "flatwide/signal"


class _Group(NamedTuple):
    client: Any  # of JAX's distributed runtime
    index: int
    count: int
    shut_down: Callable[[], None]
    is_left: threading.Event
    watcher: threading.Thread


_group: _Group | None = None
_num_agreed = 0
_exit_lock = threading.Lock()  # the first thread to end this process ends it


def join(client: Any, *, index: int, count: int, shut_down: Callable[[], None]) -> None:
    """Take part in a run over several processes; `runs.jax_settings.start_processes` calls it.

    Args:
      client: of JAX's distributed runtime. shut_down: ends it, once all processes call it.
    """
    global _group
    watcher = threading.Thread(target=_watch, name="flatwide-failures", daemon=True)
    _group = _Group(
        client=client, index=index, count=count, shut_down=shut_down, is_left=threading.Event(), watcher=watcher
    )
    watcher.start()


def count() -> int:
    """Count the processes that train together."""
    return 1 if _group is None else _group.count


def is_first() -> bool:
    """Whether this process decides and writes: it is process 0, or alone."""
    return _group is None or _group.index == 0


def agreed(compute: Callable[[], Any]) -> Any:
    """Compute a value in process 0 and return it in all, each of which must call this in the same order.

    Args:
      compute: is called in process 0 only; returns what JSON can hold. What it raises is raised there.
    Cost: about a millisecond; the store keeps each value, so that it is for small ones.
    """
    global _num_agreed
    if _group is None:
        return compute()
    key = f"flatwide/agreed/{_num_agreed}"
    _num_agreed += 1
    if _group.index == 0:
        _group.client.key_value_set(key, json.dumps(compute()))
    return json.loads(_group.client.blocking_key_value_get(key, _FOREVER_MS))


def share_signals(received: list[int]) -> None:
    """Let process 0 know of a signal that another process has received; it may stop all at the next `agreed`.

    Args:
      received: signals of this process, in their order; process 0 adds that of another.
    """
    if _group is None:
        return
    if _group.index > 0 and received:
        _group.client.key_value_set(_SIGNAL, str(received[0]), allow_overwrite=True)
    elif _group.index == 0 and not received and (number := _stored(_group.client, _SIGNAL)):
        received.append(int(number))


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process has ended without a word, in the middle of a collective."""
    return _group is not None and "Gloo" in str(error)


def leave(code: int, text: str = "") -> None:
    """End this process's part of the run; with an exit code that is not 0, end all processes with that code.

    Args:
      text: what went wrong, which the others print; "" where nothing did.
    """
    if _group is None:
        return
    if code == 0:
        agreed(lambda: None)  # process 0 may have files to write for longer than JAX's own barrier waits
        _group.is_left.set()
        _group.watcher.join()
        _group.shut_down()
        return
    with contextlib.suppress(Exception):  # another process was first, or process 0 is gone
        _group.client.key_value_set(_ENDING, json.dumps({"index": _group.index, "code": code, "text": text}))
    _exit(code)


def _watch() -> None:
    """End this process once another one has said that it ends: a collective would wait for it for minutes."""
    assert _group is not None
    while not _group.is_left.wait(_WATCH_SECONDS):
        ending = json.loads(_stored(_group.client, _ENDING) or "null")
        if ending and ending["index"] != _group.index:
            if ending["text"]:
                sys.stderr.write(f"process {ending['index']} of {_group.count} failed: {ending['text']}\n")
            _exit(ending["code"])


def _exit(code: int) -> NoReturn:
    """End this process without JAX's barrier at exit, which would wait for processes that have failed."""
    assert _group is not None
    with _exit_lock:  # kept until the process ends
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(Exception):  # not all are there: one was killed
            _group.client.wait_at_barrier("flatwide/ended", int(1000 * _TOGETHER_SECONDS))
        if _group.index == 0:
            time.sleep(_WATCH_SECONDS)  # it serves the others until they are gone
        os._exit(code)


def _stored(client: Any, key: str) -> str | None:
    """Return a value of the store, None where there is none or process 0 is gone, which JAX itself reports."""
    try:
        return client.key_value_try_get(key)
    except Exception:
        return None
