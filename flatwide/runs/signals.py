"""Handlers of stop signals: the process saves on the first, and ends at once on a second Ctrl-C."""

import os
import signal
import threading

from flatwide.runs.logs import say

_wakeup: int | None = None  # write end of the pipe of the latest call, which Python writes to on a signal


def heard(*others: int, quiet: bool = False) -> list[int]:
    """Return a list to which SIGTERM, SIGINT and some other signals are added from now on.

    Python runs a handler only between two bytecode instructions, and a program may compile for minutes within one.
    Therefore a thread listens for the second SIGINT. It ends the process at once; files are written atomically, so only
    the time since the last checkpoint is lost.

    Args:
      quiet: print nothing on the second SIGINT, as in a worker, whose command prints the message.
    """
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, *others):
        signal.signal(number, lambda number, frame: received.append(number))
    _end_at_second_interrupt(quiet=quiet)
    return received


def _end_at_second_interrupt(*, quiet: bool) -> None:
    global _wakeup
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if _wakeup is not None:
        os.close(_wakeup)  # its thread ends
    _wakeup = writer

    def listen() -> None:
        count = 0
        while numbers := os.read(reader, 64):
            count += numbers.count(signal.SIGINT)
            if count > 1:
                say("ended at once; rerun the same command to resume from the last checkpoint.", quiet=quiet)
                os._exit(128 + signal.SIGINT)
        os.close(reader)

    threading.Thread(target=listen, daemon=True).start()
