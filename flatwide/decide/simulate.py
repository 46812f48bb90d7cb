"""Simulated studies: with how many runs a design decides."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flatwide.decide.course import Course, Design, Result, Run, Setting, follow

Means = Callable[[int, Setting], float]


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


def study(design: Design, mean: Means, generator: np.random.Generator) -> Course:
    """Simulate a study whose runs have independent normal noise of 1 sd."""

    def supply(runs: Sequence[Run]) -> Mapping[Run, Result]:
        noise = generator.standard_normal(len(runs)).tolist()
        drawn = [mean(run.num_params, run.setting) + each for run, each in zip(runs, noise, strict=True)]
        return {run: Result(value, value) for run, value in zip(runs, drawn, strict=True)}

    return follow(design, supply)


def expected_runs(design: Design, gain: float, *, num_studies: int = 100) -> float:
    """Return the mean number of runs of a design where the gain grows from 0 to a number of sd at the largest width."""
    generator = np.random.default_rng(0)
    mean = hump(design, np.linspace(0.0 if len(design.sizes) > 1 else gain, gain, len(design.sizes)).tolist())
    return float(np.mean([len(study(design, mean, generator).runs) for _ in range(num_studies)]))
