"""The expected cost of measurements, and progress while they are taken."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from flatwide import catalogue
from flatwide.runs import records
from flatwide.runs.directory import RunDirectory
from flatwide.runs.logs import StatusLine, duration_text
from flatwide.runs.records import Wanted
from flatwide.study.orders import Task

# Hessian-vector products of a measurement at its default options; a forward pass counts as a sixth. From the `cost` of
# measurements of small MLPs: medians of 72 or more for edge, curvature and convergence, else of one to six, or counted
# from the options. Searches for eigenvalues take a third to three times as many, depending on the spectrum.
TYPICAL_PRODUCTS: Mapping[str, float] = {
    "activations": 0.3,
    "averaged_robustness": 16,
    "barrier": 7,
    "convergence": 48,
    "curvature": 150,
    "edge": 9,
    "forgetting": 1.75,
    "function": 0.2,
    "gradient": 0.5,
    "held_out_robustness": 16,
    "landscape": 80,
    "layers": 70,
    "minima_plane": 167,
    "moments": 98,
    "robustness": 16,
    "sharpest_plane": 117,
    "sharpness": 118,
    "smoothness": 6,
    "spectrum": 250,
    "stability": 97,
    "trajectory": 74,
}

_EVERY_SECONDS, _QUIET_SECONDS = 10.0, 60.0  # between progress lines: while measurements end, and while none ends
_LIVE_SECONDS = 1.0  # between them on a terminal
_COUNT_SHARE = 20  # counting takes at most one part in this many of the time

_GRADIENTS_PER_PRODUCT = 2.0  # in time: one forward-mode derivative of the gradient


class Cost(NamedTuple):
    """The expected cost of some measurements.

    products: Hessian-vector products over the examples. seconds: on one worker, compiling included only for those
    measurements that earlier ones resemble. num_unknown: measurements of unknown cost, such as a user's own.
    """

    products: float
    seconds: float
    num_unknown: int


def expected(missing: Mapping[RunDirectory, Sequence[Wanted]], *, runs: Iterable[RunDirectory]) -> Cost:
    """Estimate the cost of missing measurements.

    A measurement lasts as long as the same one of a network with as many parameters did, or else as long as its typical
    number of Hessian-vector products takes, by the time per gradient in the training of the run.

    Args:
      missing: the missing measurements of each finished run. runs: those whose measurements to look up.
    """
    seen: dict[tuple[Any, ...], list[float]] = {}
    for directory in runs:
        size = (directory.read_result() or {}).get("num_params")
        for record in records.read(directory)[0]:
            if record.seconds is not None:
                seen.setdefault((record.name, size, record.num_examples), []).append(record.seconds)
    products = seconds = 0.0
    num_unknown = 0
    for directory, targets in missing.items():
        result = directory.read_result() or {}
        gradients = (result.get("num_gradients") or 2 * result["steps"]) * directory.read_config()["batch_size"]
        per_product = _GRADIENTS_PER_PRODUCT * result["seconds"] / gradients  # of one example, from those of training
        for target in targets:
            count = TYPICAL_PRODUCTS.get(target.name)
            earlier = seen.get((catalogue.title(target.name), result.get("num_params"), target.num_examples))
            if earlier is None and count is None:
                num_unknown += 1
                continue
            products += count or 0.0
            by_products = (count or 0.0) * per_product * target.num_examples
            seconds += statistics.median(earlier) if earlier else by_products
    return Cost(products=products, seconds=seconds, num_unknown=num_unknown)


def text(cost: Cost, *, workers: int) -> str:
    """Describe a cost."""
    time = duration_text(cost.seconds / workers)
    where = "one worker" if workers == 1 else f"{workers} workers"
    line = f"expected cost: about {cost.products:,.0f} Hessian-vector products, {time} on {where}"
    return line + (f", and {cost.num_unknown} measurements of unknown cost" if cost.num_unknown else "")


class Progress(StatusLine):
    """Progress of measurements: a line that is updated in place on a terminal, elsewhere a line from time to time.

    Args:
      tasks: the runs to measure. num_missing: number of their missing measurements at the start.
      remaining: returns how many measurements of a task are missing now.
    """

    def __init__(self, tasks: Sequence[Task], *, num_missing: int, remaining: Callable[[Task], int], stream: TextIO):
        super().__init__(stream)
        self._remaining = remaining
        self._open = {task.name: task for task in tasks}
        self._num_runs, self._total = len(tasks), num_missing
        self._began = self._shown_at = self._counted_at = time.monotonic()
        self._count_seconds = 0.0
        self._taken = self._shown = 0

    def ended(self, name: str) -> None:
        """Count a run whose measurements have ended."""
        del self._open[name]
        self.tick(is_last=not self._open)

    def tick(self, *, is_last: bool = False) -> None:
        """Show progress, if it is time."""
        now = time.monotonic()
        interval = _LIVE_SECONDS if self.is_live else _EVERY_SECONDS
        if not is_last and now - self._counted_at < max(interval, _COUNT_SHARE * self._count_seconds):
            return
        self._taken = self._total - sum(map(self._remaining, self._open.values()))
        self._counted_at = time.monotonic()
        self._count_seconds = self._counted_at - now
        has_news = self.is_live or self._taken > self._shown
        if is_last or has_news or now - self._shown_at >= _QUIET_SECONDS:
            self._shown, self._shown_at = self._taken, now
            self.show(self._text(now))

    def _text(self, now: float) -> str:
        num_done = self._num_runs - len(self._open)
        line = f"measurements {self._taken}/{self._total}  runs {num_done}/{self._num_runs}"
        if 0 < self._taken < self._total:
            line += f"  about {duration_text((now - self._began) * (self._total / self._taken - 1))} left"
        return line
