"""Coordination of the processes of one run: decisions, writing of files, and a common end if one fails.

Process 0 makes every decision that depends on a clock, a signal or a file, and only process 0 writes. Processes
communicate through the key-value store of JAX's distributed runtime, which process 0 serves; arrays of a step use JAX's
collectives. Without `join` there is one process, and nothing here has an effect.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

_TOGETHER_SECONDS = 2.0  # for the others to notice a failure, before the process that serves them ends
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
_reactions: list[Callable[[str], None]] = []  # of process 0 to the failure of another one
_exit_lock = threading.Lock()  # only one thread ends this process


def join(client: Any, *, index: int, count: int, shut_down: Callable[[], None]) -> None:
    """Join a run over several processes; called by `runs.jax_settings.start_processes`.

    Args:
      client: of JAX's distributed runtime. shut_down: ends it, once all processes have called it.
    """
    global _group
    watcher = threading.Thread(target=_watch, name="flatwide-failures", daemon=True)
    _group = _Group(
        client=client, index=index, count=count, shut_down=shut_down, is_left=threading.Event(), watcher=watcher
    )
    watcher.start()


def count() -> int:
    """Return the number of processes that train together."""
    return 1 if _group is None else _group.count


def is_first() -> bool:
    """Whether this process decides and writes: it is process 0, or the only one."""
    return _group is None or _group.index == 0


def agreed(compute: Callable[[], Any]) -> Any:
    """Compute a value in process 0 and return it in all, each of which must call this in the same order.

    Args:
      compute: called only in process 0; returns a JSON value. Its errors are raised only there.
    Cost: about a millisecond; the store keeps each value, so use it for small ones.
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
    """Notify process 0 of a signal that another process received; it may stop all at the next `agreed`.

    Args:
      received: signals of this process, in order; process 0 appends that of another.
    """
    if _group is None:
        return
    if _group.index > 0 and received:
        _group.client.key_value_set(_SIGNAL, str(received[0]), allow_overwrite=True)
    elif _group.index == 0 and not received and (number := _stored(_group.client, _SIGNAL)):
        received.append(int(number))


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process died during a collective."""
    return _group is not None and "Gloo" in str(error)


@contextlib.contextmanager
def reacting_to_failures(react: Callable[[str], None]) -> Iterator[None]:
    """Call a function with the error of another process, in process 0 and before that ends.

    Args:
      react: called in another thread while the main one may wait for a collective. A process that was killed, or lost
        another one, has no error.
    """
    _reactions.append(react)
    try:
        yield
    finally:
        _reactions.remove(react)


def leave(code: int, text: str = "") -> None:
    """End this process's part of the run; with an exit code that is not 0, end all processes with that code.

    Args:
      text: the error, which the others print; "" if there is none.
    """
    if _group is None:
        return
    if code == 0:
        agreed(lambda: None)  # process 0 may write files for longer than JAX's barrier waits
        _group.is_left.set()
        _group.watcher.join()
        _group.shut_down()
        return
    with contextlib.suppress(Exception):  # another process ended first, or process 0 is gone
        _group.client.key_value_set(_ENDING, json.dumps({"index": _group.index, "code": code, "text": text}))
    _exit(code)


def _watch() -> None:
    """End this process once another one announces its end: a collective would wait for it for minutes."""
    assert _group is not None
    while not _group.is_left.wait(_WATCH_SECONDS):
        ending = json.loads(_stored(_group.client, _ENDING) or "null")
        if ending and ending["index"] != _group.index:
            if ending["text"]:
                text = f"process {ending['index']} of {_group.count} failed: {ending['text']}"
                sys.stderr.write(f"{text}\n")
                _react(text)
            _exit(ending["code"])


def _react(text: str) -> None:
    for react in reversed(_reactions) if is_first() else ():
        with contextlib.suppress(Exception):  # this process must end, even if the disk is full
            react(text)


def _exit(code: int) -> NoReturn:
    """End this process without JAX's barrier at exit, which would wait for processes that have failed."""
    assert _group is not None
    with _exit_lock:  # held until the process ends
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(Exception):  # a process is missing: it was killed
            _group.client.wait_at_barrier("flatwide/ended", int(1000 * _TOGETHER_SECONDS))
        if _group.index == 0:
            time.sleep(_WATCH_SECONDS)  # serve the others until they are gone
        os._exit(code)


def _stored(client: Any, key: str) -> str | None:
    """Return a value of the store; None if there is none or process 0 is gone, which JAX reports."""
    try:
        return client.key_value_try_get(key)
    except Exception:
        return None
