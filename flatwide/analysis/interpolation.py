"""Where networks interpolate the training labels, against where the gain rises."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import best_sets, estimates, fields, table
from flatwide.analysis.estimates import Scores
from flatwide.columns import FRACTION_METRICS

# One error per thousand training examples, and a loss of a hundredth of a nat (or of a unit variance).
METRIC_NEEDED, LOSS_NEEDED = 0.999, 0.01
_COLUMNS = ("train_loss", "train_metric", "metric_name")


class Peak(NamedTuple):
    """The size at which the gain is largest, compared with the size from which the base fits its training labels.

    Its intervals hold jointly in 95 % of studies. An end is 0 or infinite where no width of the study bounds it; all
    fields are NaN or empty where nothing is known.

    largest_gain: parameters of the width with the largest mean gain, each seed at the rho that the others choose.
    peak_low, peak_high: the widths next to those that are indistinguishable from it, between which the gain peaks if it
      has a single peak.
    onset: parameters from which the base fits, its mean on a log scale over seeds; infinite where no seed fits at the
      largest width. onset_low, onset_high: its interval.
    ratio_low, ratio_high: the interval of the ratio of the peak to the onset.
    """

    largest_gain: int | None = None
    peak_low: float = math.nan
    peak_high: float = math.nan
    onset: float = math.nan
    onset_low: float = math.nan
    onset_high: float = math.nan
    ratio_low: float = math.nan
    ratio_high: float = math.nan


@table.Rows
@table.for_part
def training_fit(part: table.Part) -> Iterator[dict[str, Any]]:
    """Compute at each width how well the base, and SAM at its best rho, fit the labels that they were trained on.

    A run interpolates if its training metric, a fraction, is at least 0.999; with another metric, if its loss is
    at most 0.01.

    Returns: one row for each width: the width, `num_params`, then `base_train_loss`, `base_train_metric` and
      `base_interpolates` (the share of seeds), and the same of `sam`, means over seeds; NaN where the table has neither
      `train_metric` nor `train_loss`.
    """
    name = part.question.width
    arms: dict[tuple[Any, float], list[dict[str, Any]]] = {}
    for run in fields.done(part.runs, (name, *_COLUMNS)):
        if run["status"] == "finished":
            arms.setdefault((run[name], fields.effective_rho(run)), []).append(run)
    for width in part.widths:
        row = {name: width.value, "num_params": width.num_params}
        for arm, rho in (("base", 0.0), ("sam", width.best_rho)):
            runs = arms.get((width.value, rho), [])
            row |= {
                f"{arm}_train_loss": _mean(run.get("train_loss") for run in runs),
                f"{arm}_train_metric": _mean(run.get("train_metric") for run in runs),
                f"{arm}_interpolates": _mean(None if gap is None else gap <= 0 for gap in map(_gap, runs)),
            }
        yield row


@table.for_part
def fits_from(part: table.Part, *, arm: str = "base") -> float:
    """Find the smallest size, in parameters, at which and above which more than half of the seeds interpolate, or NaN.

    Args:
      arm: "base", or "sam" at its best rho.
    """
    smallest = math.nan
    for row in reversed(list(training_fit.rows(part))):
        if not row[f"{arm}_interpolates"] > 0.5:
            break
        smallest = float(row["num_params"])
    return smallest


@table.for_part
def peak(part: table.Part) -> Peak:
    """Compare the size at which the gain is largest with the size from which the base fits its training labels.

    Returns: NaN below three widths or two seeds with a gain, or where the table does not have the fit of the base.
    Equation: for each seed, the size at which its training metric last crosses 0.999 (or the logarithm of its loss that
      of 0.01), interpolated linearly between neighbouring widths in log10 of the size; the mean over seeds has a t
      interval. Seeds that fit nowhere, or everywhere, count as the last width, or the first, and leave that end open.
    """
    ends = [width.num_params for width in (*part.widths[:1], *part.widths[-1:])]
    return locate_peak(part.scores, onsets(part), ends)


def locate_peak(scores: Scores, onsets: Mapping[int, float], ends: Sequence[int]) -> Peak:
    """Compute `peak` from the scores of the gain and, for each seed, log10 of the size from which its base fits.

    Args:
      ends: parameters of the smallest and largest width searched.
    """
    sizes = scores.num_params
    if len(sizes) < 3 or len(scores.seeds) < 2 or len(onsets) < 2:
        return Peak()
    level = estimates.sidak(2)
    (is_in,) = best_sets.best_set(scores.values.T[None], level=level, stretch=scores.stretch)
    first, last = np.flatnonzero(is_in)[[0, -1]]
    peak_low = 0.0 if first == 0 else float(sizes[first - 1])
    peak_high = math.inf if last == len(sizes) - 1 else float(sizes[last + 1])
    values = np.array(list(onsets.values()))
    onset_interval = estimates.mean(np.clip(values, *np.log10(ends)), level=level)
    onset = math.inf if np.isposinf(values).all() else 10**onset_interval.value
    onset_low = 0.0 if np.isneginf(values).any() else 10**onset_interval.low
    onset_high = math.inf if np.isposinf(values).any() else 10**onset_interval.high
    return Peak(
        largest_gain=sizes[int(scores.values.mean(axis=1).argmax())],
        peak_low=peak_low,
        peak_high=peak_high,
        onset=onset,
        onset_low=onset_low,
        onset_high=onset_high,
        ratio_low=peak_low / onset_high,
        ratio_high=peak_high / onset_low if onset_low else math.inf,
    )


@table.for_part
def onsets(part: table.Part) -> dict[int, float]:
    """Compute log10 of the size from which the base of each seed fits its training labels.

    Returns: -inf where it fits already at the smallest width, inf where it does not at the largest; without the seeds
      that lack a width, or whose fit is not in the table.
    """
    name = part.question.width
    gaps_of_seeds: dict[int, dict[Any, float]] = {}
    for run in fields.done(part.runs, (name, "seed", *_COLUMNS)):
        if run["status"] == "finished" and fields.effective_rho(run) == 0 and (gap := _gap(run)) is not None:
            gaps_of_seeds.setdefault(int(run["seed"]), {}).setdefault(run[name], gap)
    sizes = np.log10([width.num_params for width in part.widths])
    by_width = {seed: [gaps.get(width.value) for width in part.widths] for seed, gaps in sorted(gaps_of_seeds.items())}
    return {seed: _crossing(sizes, np.array(gaps)) for seed, gaps in by_width.items() if None not in gaps}


def _gap(run: dict[str, Any]) -> float | None:
    """Compute how far a run is from fitting its training labels, 0 or less where it fits; None if unknown."""
    metric, loss = run.get("train_metric"), run.get("train_loss")
    if metric is not None and run.get("metric_name", "accuracy") in FRACTION_METRICS:
        return METRIC_NEEDED - metric
    return None if loss is None else math.log(max(loss, 1e-30) / LOSS_NEEDED)


def _crossing(sizes: np.ndarray, gaps: np.ndarray) -> float:
    """Compute the size at which gaps last cross zero, interpolated linearly."""
    lacking = np.flatnonzero(gaps > 0)
    if not len(lacking):
        return -math.inf
    last = int(lacking[-1])
    if last == len(sizes) - 1:
        return math.inf
    share = gaps[last] / (gaps[last] - gaps[last + 1])
    return float(sizes[last] + share * (sizes[last + 1] - sizes[last]))


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan
