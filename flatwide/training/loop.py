"""The training loop: the steps of a run, a segment at a time; the caller records each segment."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from flatwide import processes
from flatwide.training.segments import Segment
from flatwide.training.state import State, Values
from flatwide.workloads import Scores

GROWTH = 8  # largest growth of the length from one segment to the next


class Taken(NamedTuple):
    """The outcome of a segment.

    step: steps since the start of the run; state: after them, or None within a longer program; losses: of the clean
    pass, one for each step of the segment; learning_rate: of its last step; scores: of each split at its end, if the
    program scored them.
    """

    step: int
    state: State | None
    losses: np.ndarray
    learning_rate: float | None
    scores: dict[str, Scores] | None = None


def take_steps(
    segment: Segment,
    values: Values,
    state: State,
    *,
    num_steps: int,
    stop_at_multiples_of: tuple[int, ...],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Taken]:
    """Take the steps up to `num_steps`, or to the first loss that is not finite.

    Args:
      stop_at_multiples_of: step counts whose multiples end a segment: an epoch, the interval of evaluations.
      seconds: approximate duration of a segment.
    """
    step, length = int(state.step), 1
    while step < num_steps:
        stop = min([num_steps, step + length, *((step // every + 1) * every for every in stop_at_multiples_of)])
        started = clock()
        state, losses, learning_rate = segment(values, state, stop)
        step += len(losses)
        yield Taken(step=step, state=state, losses=losses, learning_rate=learning_rate)
        if not np.isfinite(losses[-1]):
            return
        rate = len(losses) / max(clock() - started, 1e-9)
        longest = min(length * GROWTH, seconds * rate)
        length = processes.agreed(lambda longest=longest: max(1, int(longest)))
