"""An estimate of the duration of a run before it starts, from some of its own steps."""

import time
from typing import NamedTuple

from flatwide import config as configs
from flatwide import data
from flatwide.runs import driver, jax_settings, memory
from flatwide.runs.experiment import Experiment
from flatwide.types import Split

_ENOUGH_SECONDS = 3.0  # of steps that are timed, after compiling; one step, if it takes longer
_FORWARD = 1 / 3  # operations of a forward pass relative to those of a gradient


class Estimate(NamedTuple):
    """The estimated duration of a run, without measurements.

    seconds: of the run, once its programs are compiled. compile_seconds: for compiling them, or loading them if an
    earlier run has compiled them. num_bytes: of the compiled program, on each device.
    """

    seconds: float
    compile_seconds: float
    num_bytes: int


def estimate(built: Experiment) -> Estimate:
    """Estimate the duration of a run on this machine, as in `seconds` of its result, and its memory.

    The run's own program trains for some seconds; nothing is written but the cache of compiled programs.

    Raises: OutOfMemoryError if the network, or the program of its steps, does not fit into memory.
    Cost: compiling, and some seconds of steps, at least one.
    """
    compiled = jax_settings.compile_seconds()
    memory.check(built)
    num_bytes = memory.of_program(built)
    memory.fit(built.config, num_bytes, "the program of the steps needs")
    seconds = _step_seconds(built)
    compile_seconds = jax_settings.compile_seconds() - compiled
    total = seconds * built.num_steps
    if not (built.is_small or built.config["group_size"] > 1):  # else the program of the steps scores too
        passes = 1 if configs.effective_rho(built.config) == 0 else 2
        total += seconds * _FORWARD / passes * num_scored(built)
    return Estimate(seconds=total, compile_seconds=compile_seconds, num_bytes=num_bytes)


def _step_seconds(built: Experiment) -> float:
    """Train for a while, and return the seconds per step without compiling."""
    state = built.init()
    began, compiled = time.monotonic(), jax_settings.compile_seconds()
    first: tuple[int, float] | None = None
    step = seconds = 0
    for taken in driver.steps(built, state):
        if taken.state is None:
            continue  # within a call, which has taken all its steps already
        step, seconds = taken.step, time.monotonic() - began - (jax_settings.compile_seconds() - compiled)
        if seconds - (first[1] if first else 0.0) >= _ENOUGH_SECONDS:
            break
        first = first or (step, seconds)
    if first is not None and step > first[0]:
        return (seconds - first[1]) / (step - first[0])
    return max(0.0, seconds) / max(step, 1)


def num_scored(built: Experiment) -> int:
    """Count the batches in all evaluations of a run, also with averaged weights; only the last scores a whole split."""
    num_evaluations, copies = -(-built.num_steps // built.eval_every_steps), 1 + built.has_average

    def batches(split: Split | None, num_evaluations: int) -> int:
        if not isinstance(split, data.Resident | data.Streamed):  # none, or a game, as long as the policy is good
            return 0
        whole = -(-split.num_examples // built.config["batch_size"])
        return whole + (num_evaluations - 1) * min(built.config["steps_per_eval"] or whole, whole)

    often = sum(batches(split, num_evaluations) for split in (built.test, built.validation))
    return copies * often + batches(built.scored_train, 1)
