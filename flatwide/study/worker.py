"""A process that trains the runs it is handed, one after another, so that runs of one shape compile once.

It reads one JSON object a line: first {"workdir", "tensorboard"}, then {"number", "config"} for each run; it writes
{"event": "ready" | "start" | "end", ...}. On SIGTERM, and when its input ends, as it does when the parent is killed, it
saves the run that it trains and exits.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, TextIO

from flatwide import config as configs
from flatwide import driver, runs

STOPPED = 143


def main() -> int:
    """Train what comes over standard input; give the exit code."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not garble the answers
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopping.set())
    inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(inbox, stopping), daemon=True).start()
    settings = inbox.get()
    if settings is None:
        return STOPPED
    _say(answers, event="ready")
    while (task := _next(inbox, stopping)) is not None:
        _say(answers, event="start", number=task["number"])
        try:
            status = _train(task["config"], settings, stopping)
        except driver.Stopped:
            return STOPPED
        _say(answers, event="end", number=task["number"], **status)
    return STOPPED if stopping.is_set() else 0


def _listen(inbox: queue.SimpleQueue, stopping: threading.Event) -> None:
    """Pass on what the parent hands over; {"last": true} ends the work, and an input that ends without it stops it."""
    for line in sys.stdin:
        message = json.loads(line)
        inbox.put(None if message.get("last") else message)
        if message.get("last"):
            return
    stopping.set()
    inbox.put(None)


def _next(inbox: queue.SimpleQueue, stopping: threading.Event) -> dict[str, Any] | None:
    while not stopping.is_set():
        try:
            return inbox.get(timeout=0.2)
        except queue.Empty:
            continue
    return None


def _train(config: dict[str, Any], settings: dict[str, Any], stopping: threading.Event) -> dict[str, Any]:
    """Train one run; whatever goes wrong with it is its own business and written beside it."""
    try:
        result = driver.run(
            config,
            settings["workdir"],
            should_stop=stopping.is_set,
            quiet=True,
            tensorboard=settings["tensorboard"],
        )
        return {"status": result["status"], "seconds": result["seconds"]}
    except driver.Stopped:
        raise
    except runs.BusyError:
        return {"status": "busy"}
    except Exception as error:
        directory, identity = driver.locate(configs.resolve(config), settings["workdir"])
        with directory.lock():
            directory.write_config(config, identity=identity)
            directory.write_error(traceback.format_exc())
        return {"status": "failed", "problem": f"{type(error).__name__}: {error}".splitlines()[0]}


def _say(answers: TextIO, **message: Any) -> None:
    try:
        answers.write(json.dumps(message) + "\n")
        answers.flush()
    except BrokenPipeError:  # the parent is gone; the end of the input says so too
        pass


if __name__ == "__main__":
    sys.exit(main())
