"""Advice on rho and learning rate for a network that is too large to tune, from narrower ones.

Two rules extend the best settings of the measured widths to another width. *Carried over* takes those of the nearest
measured width; this is what transfer means, in any parameterization. *Power law* fits a line to the logarithm of the
best value against that of the number of parameters. Both rules are validated first: the largest measured width is held
out, each rule advises for it from the others, and its regret is the loss of that advice against that width's own
optimum, cross-fitted over seeds. The power law is used only where its advice was better there than the carried-over
settings, and the advice includes the regrets.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flatwide.analysis import arms, best_sets, estimates, fields, table, tuned
from flatwide.analysis.estimates import NONE, Estimate, Scores

if TYPE_CHECKING:
    import pandas as pd

CARRIED, POWER_LAW, MEASURED, BASE = "carried over", "power law", "measured", "base optimizer"
_LEAST_WIDTHS, _LEAST_SEEDS = 3, 2
_LEVEL = 0.95
_SHARE_LOST = 0.5  # of the gain at the held-out width: advice with a significant regret above this is refused


class Value(NamedTuple):
    """The advised value of a field, with a 95 % interval.

    exponent, exponent_error: of a power law in the number of parameters; NaN for the other rules.
    at_edge: "low" or "high" where the value it is based on lies at that end of the values tried, else "".
    """

    field: str
    value: float
    low: float
    high: float
    exponent: float = math.nan
    exponent_error: float = math.nan
    at_edge: str = ""


_NO_ASCENT = Value(field="rho", value=0.0, low=0.0, high=0.0)


class Advice(NamedTuple):
    """Settings for SAM at a width that was not trained.

    part: name of the part of the table. num_params: that the advice is for.
    rule: CARRIED, POWER_LAW, MEASURED (the width is in the table) or BASE (SAM hurts, so rho is 0).
    values: of rho and of each tuned field; empty where the advice is refused.
    tried_at: number of parameters of the largest measured width, where the regrets are measured.
    regrets: rule -> the metric lost at that width by its advice from the narrower ones, with a 95 % interval; positive
      where it is worse than that width's own optimum. NONE where the advice is that optimum, by all seeds together.
    measured_gain: at the largest measured width. expected_gain: at `num_params`, on the line through the gains of all
      widths. Both are corrected for the choice of settings and positive where SAM is better.
    refusal: why the data do not support advice; empty where there is advice.
    """

    part: str
    num_params: int
    rule: str = ""
    values: tuple[Value, ...] = ()
    tried_at: int = 0
    regrets: Mapping[str, Estimate] = MappingProxyType({})
    measured_gain: Estimate = NONE
    expected_gain: Estimate = NONE
    refusal: str = ""


def tuned_fields(runs: "pd.DataFrame", *, width: str = "num_params") -> tuple[str, ...]:
    """List the fields besides rho that can be advised: the learning rate, where it varies at one width."""
    return tuple(name for name in ("learning_rate",) if name in fields.varying(runs, width=width))


def parts(runs: "pd.DataFrame") -> list[table.Part]:
    """Split a table into the parts that advice is given for, as `tuned.parts` does."""
    return tuned.parts(runs, tune=tuned_fields(runs))


def advise(part: table.Part, *, num_params: int, metric: str = "test_metric", choose_by: str | None = None) -> Advice:
    """Compute advice on rho, and on the learning rate where it varies, for a number of parameters.

    Args:
      part: of a results table, from `parts`.
      num_params: of the network to train.
      metric, choose_by: as for `gain.gain_by_width`.
    Raises: ValueError if a column is missing.
    Equation: with x = log(parameters), y = log(best value): a power law's prediction y* = mean y + b (x* - mean x) has
      the variance (s^2 + d^2 / 12) (1 + 1 / n + (x* - mean x)^2 / sum (x - mean x)^2), with s^2 the residual variance
      on n - 2 degrees of freedom and d the step of the grid in the logarithm, since a best value is known to half a
      step; its interval is that of Student's t. Regret is the gain of the width's own optimum
      over the advised cell, rounded to the nearest of its grid.
    """
    tune = tuned_fields(part.runs)
    options = {"width": "num_params", "metric": metric, "choose_by": choose_by}
    candidates = tuned.comparisons(part.runs, tune=tune, names=[tuned.TUNED], **options)
    if not candidates:
        reason = f"no width has completed base and SAM runs of {_LEAST_SEEDS} seeds"
        return Advice(part=part.name, num_params=num_params, refusal=reason)
    # Where runs differ in length, the length with the most widths is the study.
    return _advise(
        max(candidates, key=lambda comparison: (len(comparison.widths), comparison.length)), num_params, part.name
    )


def _advise(comparison: tuned.Compared, num_params: int, part: str) -> Advice:
    """Compute the advice for one part of a table."""
    pairs, gains = comparison.widths, comparison.gains
    largest = pairs[-1].num_params
    last = gains[-1]
    advice = Advice(
        part=part,
        num_params=num_params,
        tried_at=largest,
        measured_gain=last,
        expected_gain=expected_gain(comparison.scores, num_params),
    )
    for pair, gain_there in zip(pairs, gains, strict=True):
        if pair.num_params == num_params:
            here = advice._replace(tried_at=num_params, measured_gain=gain_there)
            if gain_there.high < 0:
                return here._replace(rule=BASE, values=(_NO_ASCENT,))
            return here._replace(rule=MEASURED, values=carried_over([pair], num_params))
    if refusal := _too_little(pairs, num_params):
        return advice._replace(refusal=refusal)
    rules = [rule for rule in (CARRIED, POWER_LAW) if _can(rule, pairs[:-1])]
    cells = {rule: _cell(comparison, rule) for rule in rules}
    regrets = {rule: _regret(pairs[-1], cell) for rule, cell in cells.items()}
    advice = advice._replace(regrets=regrets)
    if last.high < 0:
        return advice._replace(rule=BASE, values=(_NO_ASCENT,))
    of_rules = pairs[-1].sam.choices[:, [cells[name] for name in rules]]
    rule = rules[int(estimates.choose(of_rules))]
    regret = regrets[rule]
    if regret.low > 0 and regret.value > _SHARE_LOST * max(last.value, 0.0):
        return advice._replace(
            refusal=f"when {largest:,} parameters were held out and advised from the narrower networks, the better of "
            "the two rules lost more than half of the gain of SAM"
        )
    values = _values(rule, pairs, gains, num_params)
    if all(value.at_edge for value in values if value.field == "rho"):
        edge = next(value for value in values if value.field == "rho")
        end_name = "smallest" if edge.at_edge == "low" else "largest"
        return advice._replace(
            refusal=f"the best rho at {largest:,} parameters, {edge.value:g}, is the {end_name} tried there, so a "
            "better one may lie beyond it"
        )
    return advice._replace(rule=rule, values=values)


def _too_little(pairs: Sequence[arms.Comparison], num_params: int) -> str:
    """Return why these widths do not support advice for another one; empty where they do."""
    sizes = [pair.num_params for pair in pairs]
    if len(pairs) < _LEAST_WIDTHS:
        return f"{len(pairs)} width(s) have base and SAM runs of {_LEAST_SEEDS} seeds; expected {_LEAST_WIDTHS} or more"
    span, beyond = sizes[-1] / sizes[0], max(num_params / sizes[-1], sizes[0] / num_params)
    if beyond > span:
        return (
            f"{num_params:,} parameters lie a factor of {beyond:,.3g} outside the measured widths, which span only a "
            f"factor of {span:,.3g}"
        )
    return ""


def _can(rule: str, pairs: Sequence[arms.Comparison]) -> bool:
    """Whether a rule is applicable: a line with an error needs three widths, and logarithms need positive values."""
    return rule == CARRIED or (
        len(pairs) >= _LEAST_WIDTHS and all(value > 0 for pair in pairs for value in _best(pair.sam).values())
    )


def _best(arm: arms.Arm) -> dict[str, float]:
    """Return the settings with the best mean over all seeds, the first of ties."""
    return {name: float(value) for name, value in arm.settings[int(estimates.choose(arm.choices))].items()}


def _values(
    rule: str, pairs: Sequence[arms.Comparison], gains: Sequence[Estimate], num_params: int
) -> tuple[Value, ...]:
    if rule == CARRIED:
        return carried_over(pairs, num_params)
    # Where SAM does not help, the best rho is only noise.
    helped = [pair for pair, gain_there in zip(pairs, gains, strict=True) if gain_there.low > 0]
    return _power_law(helped if len(helped) >= _LEAST_WIDTHS else pairs, num_params)


def carried_over(pairs: Sequence[arms.Comparison], num_params: int) -> tuple[Value, ...]:
    """Take the best settings of the nearest width.

    Their intervals span the cells indistinguishable from them, and half a step of the grid on either side, since the
    optimum may lie between the values tried.
    """
    arm = min(pairs, key=lambda pair: abs(math.log(pair.num_params / num_params))).sam
    best, edges = _best(arm), _edges(arm)
    (is_in,) = best_sets.best_set(arm.choices[None])
    cells = [settings for settings, is_member in zip(arm.settings, is_in, strict=True) if is_member]
    values = []
    for name, value in best.items():
        low, high = _with_half_steps(arm, name, [float(cell[name]) for cell in cells])
        values.append(Value(field=name, value=value, low=low, high=high, at_edge=edges.get(name, "")))
    return tuple(values)


def _with_half_steps(arm: arms.Arm, name: str, members: Sequence[float]) -> tuple[float, float]:
    """Extend the range of some values of a field to the geometric means with the neighbouring values tried."""
    tried = sorted({float(cell[name]) for cell in arm.tried})
    low, high = min(members), max(members)
    below = max((value for value in tried if value < low), default=low)
    above = min((value for value in tried if value > high), default=high)
    return math.sqrt(low * below) if below > 0 else low, math.sqrt(high * above)


def _edges(arm: arms.Arm) -> dict[str, str]:
    """Map each field whose best value lies at an end of the values tried to that end."""
    best = _best(arm)
    return {
        name: "low" if best[name] == min(float(cell[name]) for cell in arm.tried) else "high"
        for name in arm.edges(best)
    }


def _power_law(pairs: Sequence[arms.Comparison], num_params: int) -> tuple[Value, ...]:
    """Extrapolate the best settings of all widths along lines in the logarithms."""
    from scipy.special import stdtrit

    x = np.log([pair.num_params for pair in pairs])
    n, center = len(x), x.mean()
    spread = float(np.sum((x - center) ** 2))
    at = math.log(num_params) - center
    best = [_best(pair.sam) for pair in pairs]
    edges = [_edges(pair.sam) for pair in pairs]
    values = []
    for name in best[0]:
        y = np.log([settings[name] for settings in best])
        slope = float((x - center) @ y / spread)
        rest = y - y.mean() - slope * (x - center)
        # A best value is known to within a step of the grid: uniform over a step has the variance step^2 / 12.
        variance = float(rest @ rest) / (n - 2) + _step(pairs, name) ** 2 / 12
        limit = float(stdtrit(n - 2, (1 + _LEVEL) / 2))
        reach = limit * math.sqrt(variance * (1 + 1 / n + at**2 / spread))
        middle = y.mean() + slope * at
        ends = {edge[name] for edge in edges if name in edge}
        values.append(
            Value(
                field=name,
                value=_exp(middle),
                low=_exp(middle - reach),
                high=_exp(middle + reach),
                exponent=slope,
                exponent_error=math.sqrt(variance / spread),
                at_edge=edges[-1].get(name, "") if len(ends) == 1 else "",
            )
        )
    return tuple(values)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # larger exponents overflow


def _step(pairs: Sequence[arms.Comparison], name: str) -> float:
    """Return the mean step of the grid of a field, in the logarithm."""
    tried = sorted({float(cell[name]) for pair in pairs for cell in pair.sam.tried if cell[name] > 0})
    return math.log(tried[-1] / tried[0]) / (len(tried) - 1) if len(tried) > 1 else 0.0


def _cell(comparison: tuned.Compared, rule: str) -> int:
    """Return the index of the cell that a rule advises for the largest width from all other widths."""
    last = comparison.widths[-1]
    values = _values(rule, comparison.widths[:-1], comparison.gains[:-1], last.num_params)
    return _nearest(last.sam, {value.field: value.value for value in values})


def _regret(pair: arms.Comparison, cell: int) -> Estimate:
    """Compute the loss of a cell against the optimum of its width."""
    arm = pair.sam
    if cell == int(estimates.choose(arm.choices)):
        return NONE
    return arms.estimate(pair._replace(base=arm.only([cell]), same=None))


def _nearest(arm: arms.Arm, advised: dict[str, float]) -> int:
    """Return the index of the cell whose settings are nearest to the advised ones in the logarithm."""

    def distance(settings) -> float:
        return sum(math.log(max(float(settings[name]), 1e-300) / value) ** 2 for name, value in advised.items())

    return min(range(len(arm.settings)), key=lambda index: distance(arm.settings[index]))


def expected_gain(scores: Scores, num_params: int) -> Estimate:
    """Extend the line through the gains to a number of parameters.

    Equation: mean g + slope (x* - mean x), x = log10(parameters), a contrast of the widths.
    """
    if len(set(scores.num_params)) < 2 or not scores.seeds:
        return NONE
    x = np.log10(np.array(scores.num_params, dtype=float))
    weights = 1 / len(x) + estimates.slope_weights(scores.num_params) * (math.log10(num_params) - x.mean())
    return estimates.contrast(scores, weights)
