"""Output while a run is trained: progress on a terminal or in a log file, and TensorBoard events."""

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from flatwide import processes
from flatwide.columns import FRACTION_METRICS

_LIVE_SECONDS = 0.1
_ERASE_TO_END = "\x1b[K"  # of the line, on a terminal


def say(text: str, *, quiet: bool = False) -> None:
    """Print a message on standard error, in the first of several processes."""
    if not quiet and processes.is_first():
        print(text, file=sys.stderr, flush=True)


class TensorBoard:
    """A writer of scalars for TensorBoard.

    Args:
      directory: for the event file; None for no events.
      purge_step: when a run resumes, the first repeated step: TensorBoard then drops the killed process's events from
        that step on, and shows nothing twice.
    """

    def __init__(self, directory: Path | str | None, *, purge_step: int | None = None):
        self._directory, self._purge_step = directory, purge_step
        self._writer = None

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write the values that are not None at a step."""
        if self._directory is None:
            return
        self._writer = self._writer or self._open()
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out buffered events and close the file."""
        if self._writer:
            self._writer.close()

    def _open(self):
        """Open the file at the first value, so that the first step does not wait a third of a second for the import."""
        from tensorboardX import SummaryWriter

        if not Path(str(self._directory)).is_dir():  # the library would recreate it
            raise FileNotFoundError(f"{self._directory}: the folder was removed while it was in use.")

        # The library names a file by the second: a run that resumes within one would overwrite its own events.
        suffix = f".{time.time_ns()}"
        return SummaryWriter(str(self._directory), purge_step=self._purge_step, filename_suffix=suffix)


class StatusLine:
    """A status line that is updated in place on a terminal; elsewhere each update is a line."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = sys.stderr if stream is None else stream
        self.is_live = self._stream.isatty()
        self._line = ""  # the line that is shown

    def show(self, line: str) -> None:
        """Show a line; on a terminal it replaces the previous one."""
        if self.is_live:
            self._line = line[: shutil.get_terminal_size().columns - 1]  # a line that wraps could not be overwritten
            self._write(f"\r{self._line}{_ERASE_TO_END}")
        else:
            self._write(f"{line}\n")

    def message(self, text: str) -> None:
        """Print a line that stays."""
        self._write(f"\r{text}{_ERASE_TO_END}\n{self._line}" if self._line else f"{text}\n")

    def close(self) -> None:
        """Leave the live line in sight and go to the next one."""
        if self._line:
            self._write("\n")
        self._line = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Progress(StatusLine):
    """Progress of a run: a line that is updated in place on a terminal, elsewhere a line from time to time.

    Args:
      num_steps: steps of the whole run.
      steps_per_epoch: steps of one pass over the training examples.
      every_steps: minimum number of steps between two plain lines; every_seconds: minimum seconds between them.
      stream: output, None for standard error; clock: seconds since an arbitrary instant.
    """

    def __init__(
        self,
        num_steps: int,
        *,
        steps_per_epoch: int,
        every_steps: int = 1,
        every_seconds: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._num_steps, self._steps_per_epoch = num_steps, steps_per_epoch
        super().__init__(stream)
        self._clock = clock
        self._every_steps, self._every_seconds = (1, _LIVE_SECONDS) if self.is_live else (every_steps, every_seconds)
        self._first: tuple[int, float] | None = None  # step and time of the first update, after compiling
        self._shown: tuple[int, float] | None = None  # step and time of the last line
        self._values: Mapping[str, float | None] = {}

    def update(self, step: int, values: Mapping[str, float | None] | None = None) -> None:
        """Show that `step` steps are done, with values that stay until new ones replace them."""
        now = self._clock()
        self._values = values or self._values
        self._first = self._first or (step, now)
        if not self._is_due(step, now):
            return
        self._shown = step, now
        self.show(self._text(step, now))

    def _is_due(self, step: int, now: float) -> bool:
        if self._shown is None:
            return True
        last_step, last_time = self._shown
        if step >= self._num_steps:
            return last_step < step
        return step - last_step >= self._every_steps and now - last_time >= self._every_seconds

    def _text(self, step: int, now: float) -> str:
        """Write a line such as `epoch 3/100  step 1407/46900  458 steps/s  1m40s left  train_loss 0.1234`."""
        epoch, num_epochs = (math.ceil(n / self._steps_per_epoch) for n in (step, self._num_steps))
        parts = [f"epoch {epoch}/{num_epochs}", f"step {step}/{self._num_steps}"]
        first_step, first_time = self._first or (step, now)
        if step > first_step and now > first_time:
            rate = (step - first_step) / (now - first_time)
            parts += [f"{rate:.3g} steps/s", f"{duration_text((self._num_steps - step) / rate)} left"]
        return "  ".join([*parts, values_text(self._values)]).rstrip()


def values_text(values: Mapping[str, float | None]) -> str:
    """Write names and values for a line of text."""
    return "  ".join(f"{name} {value_text(name, value)}" for name, value in values.items() if value is not None)


def value_text(name: str, value: float) -> str:
    """Write one value: in percent if the metric is a fraction, else with four significant digits.

    Args:
      name: such as test_accuracy; it ends with the name of the metric.
    """
    if any(name == metric or name.endswith(f"_{metric}") for metric in FRACTION_METRICS):
        return f"{100 * value:.2f} %"
    return f"{value:.4g}"


def runs_text(number: int) -> str:
    """Write a number of runs, such as 1 run or 2,000 runs."""
    return f"{number:,} run{'s' if number != 1 else ''}"


def duration_text(seconds: float) -> str:
    """Write a duration with its two largest units, such as 8s, 1m40s, 2h05m or 3d04h."""
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    if minutes:
        return f"{minutes}m{whole % 60:02}s"
    return f"{whole}s"
