"""Simulated studies: how often a design decides, and with how many runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flatwide.analysis import estimates
from flatwide.analysis.arms import Comparison
from flatwide.analysis.planning import GROWTH
from flatwide.decide.course import Design, Result, Run, Setting, Verdict, follow

Means = Callable[[int, Setting], float]


class Outcome(NamedTuple):
    """What a simulated study concluded on a question: its verdict, and the true values of its estimates."""

    verdict: Verdict
    truths: tuple[float, ...]
    num_runs: int


def hump(design: Design, gains: Sequence[float]) -> Means:
    """Return true means, in sd of a run: SAM has the whole gain of a width in the middle of the radii.

    Where both arms are tuned, the second rate is the best for both, and each further one is worth a sd less.
    """
    middle = len(design.rhos) // 2
    of_size = dict(zip(design.sizes, gains, strict=True))

    def mean(size: int, setting: Setting) -> float:
        of_rate = -abs(design.rates.index(setting[1:]) - min(1, len(design.rates) - 1))
        if not setting[0]:
            return float(of_rate)
        return of_rate + of_size[size] * (1 - abs(design.rhos.index(setting[0]) - middle) / (middle or 1))

    return mean


def study(design: Design, mean: Means, generator: np.random.Generator) -> list[Outcome]:
    """Simulate a study whose runs have independent normal noise of 1 sd."""

    def supply(runs: Sequence[Run]) -> Mapping[Run, Result]:
        noise = generator.standard_normal(len(runs)).tolist()
        drawn = [mean(run.num_params, run.setting) + each for run, each in zip(runs, noise, strict=True)]
        return {run: Result(value, value) for run, value in zip(runs, drawn, strict=True)}

    course = follow(design, supply)
    return [Outcome(verdict, _truths(verdict, mean), len(course.runs)) for verdict in course.verdicts]


def expected_runs(design: Design, gain: float, *, num_studies: int = 100) -> float:
    """Return the mean number of runs of a design where the gain grows from 0 to a number of sd at the largest width."""
    generator = np.random.default_rng(0)
    mean = hump(design, np.linspace(0.0 if len(design.sizes) > 1 else gain, gain, len(design.sizes)).tolist())
    return float(np.mean([study(design, mean, generator)[0].num_runs for _ in range(num_studies)]))


def _truths(verdict: Verdict, mean: Means) -> tuple[float, ...]:
    """Return the true values of the estimates of a verdict: at the settings that each seed was scored at."""
    gains = [_true_gain(comparison, mean) for comparison in verdict.comparisons]
    if not gains or verdict.question != GROWTH:
        return tuple(gains)
    slope = estimates.slope_weights([comparison.num_params for comparison in verdict.comparisons]) @ gains
    return float(slope), gains[-1] - gains[0]


def _true_gain(comparison: Comparison, mean: Means) -> float:
    chosen = estimates.choose_both(comparison.base.choices, comparison.sam.choices)
    means = [
        [mean(comparison.num_params, tuple(arm.settings[column].values())) for column in columns[:-1]]
        for arm, columns in zip((comparison.base, comparison.sam), chosen, strict=True)
    ]
    return float(np.mean(means[1]) - np.mean(means[0]))
