"""Cutting a run into segments."""

import numpy as np

from flatwide.training.loop import take_steps
from flatwide.training.state import State, Values

VALUES = Values(*(np.float32(0),) * 4)


def state_at(step):
    return State(np.int32(step), {}, {}, (), (), None)


def counting(first_bad=None):
    """A segment that counts; its loss is not finite from step `first_bad` on."""

    def segment(values, state, stop):
        losses = []
        for step in range(int(state.step), stop):
            losses.append(np.inf if step == first_bad else float(step))
            if step == first_bad:
                break
        return state_at(int(state.step) + len(losses)), np.array(losses), 0.1 / (int(state.step) + len(losses))

    return segment


def taken(segment, **options):
    segments = list(take_steps(segment, VALUES, state_at(options.pop("first", 0)), **options))
    return [each.step for each in segments], np.concatenate([each.losses for each in segments])


def test_stops_at_every_multiple_and_at_the_end():
    steps, losses = taken(counting(), num_steps=25, stop_at_multiples_of=(10, 4), seconds=10.0)
    assert {4, 8, 10, 12, 16, 20, 24, 25} <= set(steps)
    assert losses.tolist() == list(range(25))


def test_resumes_in_the_middle():
    steps, losses = taken(counting(), first=7, num_steps=12, stop_at_multiples_of=(10,), seconds=10.0)
    assert losses.tolist() == [7, 8, 9, 10, 11]
    assert 10 in steps


def test_a_slow_segment_stays_short():
    now = [0.0]

    def slow(values, state, stop):
        now[0] += 2.0 * (stop - int(state.step))
        return counting()(values, state, stop)

    steps, _ = taken(slow, num_steps=40, stop_at_multiples_of=(40,), seconds=10.0, clock=lambda: now[0])
    assert max(np.diff([0, *steps])) == 5


def test_ends_at_a_loss_that_is_not_finite():
    steps, losses = taken(counting(first_bad=5), num_steps=100, stop_at_multiples_of=(10,), seconds=10.0)
    assert steps[-1] == 6
    assert not np.isfinite(losses[-1])
