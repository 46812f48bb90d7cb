"""Advice on rho and learning rate for a network that is too large to tune, from narrower ones.

Two rules extend the best settings of the measured widths to another width. *Carried over* takes those of the nearest
measured width; this is what transfer means, in any parameterization. *Power law* fits a line to the logarithm of the
best value against that of the number of parameters. Both rules are tried first on the largest measured width, held out:
the regret of a rule is the loss of its advice against that width's own optimum. The power law is used only where its
advice was the better one there.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import arms, best_sets, comparisons, estimates, table
from flatwide.analysis.comparisons import Compared
from flatwide.analysis.estimates import NONE, Estimate, Scores

CARRIED, POWER_LAW, MEASURED, BASE = "carried over", "power law", "measured", "base optimizer"
_LEAST_WIDTHS, _LEAST_SEEDS = 3, 2
_LEVEL = 0.95
_SHARE_LOST = 0.5  # of the gain at the held-out width: advice with a significant regret above this is refused


class Value(NamedTuple):
    """The advised value of a field, with a 95 % interval.

    exponent, exponent_error: of a power law in the number of parameters; NaN for the other rules.
    at_edge: "low" or "high" where the value it is based on lies at that end of the values tried, else "".
    low, high: 0, or infinite, where the best value moves with the width to that end of the values tried.
    """

    field: str
    value: float
    low: float
    high: float
    exponent: float = math.nan
    exponent_error: float = math.nan
    at_edge: str = ""

    @property
    def text(self) -> str:
        """The value with its interval, or the only end of it that the values tried support."""
        if self.low == self.high == self.value:
            return f"{self.field} {self.value:.3g}"
        if self.at_edge and (math.isinf(self.high) or not self.low):
            is_larger = math.isinf(self.high)
            bound, further = (f"least {self.low:.3g}", "larger") if is_larger else (f"most {self.high:.3g}", "smaller")
            return f"{self.field} at {bound} (the best one moves to the end of the values tried: try {further})"
        return f"{self.field} {self.value:.3g} (95 % interval {self.low:.3g} to {self.high:.3g})"


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


def parts(domain: table.Domain) -> list[table.Part]:
    """List the parts that advice is given for: as `Domain.tuned`, with the learning rate tuned where it varies."""
    return domain.tuning(tuple(name for name in ("learning_rate",) if name in domain.axes)).tuned


def advise(part: table.Part, *, num_params: int) -> Advice:
    """Compute advice on rho, and on the learning rate where it varies, for a number of parameters.

    Args:
      part: from `parts`. num_params: of the network to train.
    Equation: with x = log(parameters), y = log(best value): a power law's prediction y* = mean y + b (x* - mean x) has
      the variance (s^2 + d^2 / 12) (1 + 1 / n + (x* - mean x)^2 / sum (x - mean x)^2), with s^2 the residual variance
      on n - 2 degrees of freedom and d the step of the grid in the logarithm, since a best value is known to half a
      step; its interval is that of Student's t. Regret is the gain of the width's own optimum over the advised setting,
      rounded to the nearest of its grid.
    """
    candidates = [compared for compared in part.comparisons if compared.kind == comparisons.TUNED]
    if part.not_learned or not candidates:
        refusal = part.not_learned or f"no width has completed base and SAM runs of {_LEAST_SEEDS} seeds"
        return Advice(part=part.name, num_params=num_params, refusal=refusal)
    # Where runs differ in length, the length with the most widths is the study.
    return from_comparison(
        max(candidates, key=lambda comparison: (len(comparison.widths), comparison.length)), num_params, part.name
    )


def from_comparison(comparison: Compared, num_params: int, part: str) -> Advice:
    """Compute the advice for one part of a table."""
    pairs = comparison.widths
    largest, last = pairs[-1].num_params, pairs[-1].gain
    advice = Advice(
        part=part,
        num_params=num_params,
        tried_at=largest,
        measured_gain=last,
        expected_gain=expected_gain(comparison.scores, num_params),
    )
    for pair in pairs:
        if pair.num_params == num_params:
            here = advice._replace(tried_at=num_params, measured_gain=pair.gain)
            if pair.gain.high < 0:
                return here._replace(rule=BASE, values=(_NO_ASCENT,))
            return here._replace(rule=MEASURED, values=carried_over([pair], num_params))
    if refusal := _too_little(pairs, num_params):
        return advice._replace(refusal=refusal)
    rules = [rule for rule in (CARRIED, POWER_LAW) if _can(rule, pairs[:-1])]
    # What each rule advises for the largest width from the others, and what that loses against its own optimum.
    indices = {rule: _nearest(pairs[-1].sam, _values(rule, pairs[:-1], largest)) for rule in rules}
    best, whole = int(estimates.choose(pairs[-1].sam.choices)), pairs[-1]
    regrets = {
        rule: NONE if index == best else dataclasses.replace(whole, base=whole.sam.only([index]), same=None).gain
        for rule, index in indices.items()
    }
    advice = advice._replace(regrets=regrets)
    if last.high < 0:
        return advice._replace(rule=BASE, values=(_NO_ASCENT,))
    rule = rules[int(estimates.choose(pairs[-1].sam.choices[:, [indices[name] for name in rules]]))]
    regret = regrets[rule]
    if regret.low > 0 and regret.value > _SHARE_LOST * max(last.value, 0.0):
        return advice._replace(
            refusal=f"when {largest:,} parameters were held out and advised from the narrower networks, the better of "
            "the two rules lost more than half of the gain of SAM"
        )
    values = _values(rule, pairs, num_params)
    tried = sorted({setting["rho"] for setting in pairs[-1].sam.tried})
    best = _best(pairs[-1].sam)["rho"]
    if len(tried) > 1 and best in (tried[0], tried[-1]) and all(v.at_edge for v in values if v.field == "rho"):
        return advice._replace(
            refusal=f"the best rho at {largest:,} parameters, {best:g}, is the "
            f"{'smallest' if best == tried[0] else 'largest'} tried there, so a better one may lie beyond it"
        )
    if _can(POWER_LAW, pairs):
        law = {value.field: value.value for value in _values(POWER_LAW, pairs, num_params)}
        values = tuple(_open_ended(value, law[value.field], pairs[-1].sam) for value in values)
    return advice._replace(rule=rule, values=values)


def _open_ended(value: Value, extrapolated: float, arm: arms.Arm) -> Value:
    """Open the interval at the end of the values tried that the best value moves to."""
    # Where the extrapolated value reaches the last half step, best values at smaller widths are cut off by the end of
    # the grid, and both rules then miss an optimum beyond it: `python benchmarks/transfers.py beyond`.
    tried = sorted({float(setting[value.field]) for setting in arm.tried})
    if len(tried) > 1 and ("high" in value.at_edge or extrapolated >= math.sqrt(tried[-2] * tried[-1])):
        return value._replace(high=math.inf, at_edge="high")
    if len(tried) > 1 and tried[0] > 0 and extrapolated <= math.sqrt(tried[0] * tried[1]):
        return value._replace(low=0.0, at_edge="low")
    return value


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


def _values(rule: str, pairs: Sequence[arms.Comparison], num_params: int) -> tuple[Value, ...]:
    if rule == CARRIED:
        return carried_over(pairs, num_params)
    # Where SAM does not help, the best rho is only noise.
    helped = [pair for pair in pairs if pair.gain.low > 0]
    return _power_law(helped if len(helped) >= _LEAST_WIDTHS else pairs, num_params)


def carried_over(pairs: Sequence[arms.Comparison], num_params: int) -> tuple[Value, ...]:
    """Take the best settings of the nearest width.

    Their intervals span the settings indistinguishable from them, and half a step of the grid on either side, since the
    optimum may lie between the values tried.
    """
    arm = min(pairs, key=lambda pair: abs(math.log(pair.num_params / num_params))).sam
    best, edges = _best(arm), arm.edges()
    (is_in,) = best_sets.best_set(arm.choices[None])
    members = [settings for settings, is_member in zip(arm.settings, is_in, strict=True) if is_member]
    values = []
    for name, value in best.items():
        chosen = [float(setting[name]) for setting in members]
        tried = sorted({float(setting[name]) for setting in arm.tried})
        low, high = min(chosen), max(chosen)
        below = max((other for other in tried if other < low), default=low)
        above = min((other for other in tried if other > high), default=high)
        low, high = math.sqrt(low * below) if below > 0 else low, math.sqrt(high * above)
        values.append(Value(field=name, value=value, low=low, high=high, at_edge=edges.get(name, "")))
    return tuple(values)


def _power_law(pairs: Sequence[arms.Comparison], num_params: int) -> tuple[Value, ...]:
    """Extrapolate the best settings of all widths along lines in the logarithms."""
    from scipy.special import stdtrit

    x = np.log([pair.num_params for pair in pairs])
    n, center = len(x), x.mean()
    spread = float(np.sum((x - center) ** 2))
    at = math.log(num_params) - center
    best = [_best(pair.sam) for pair in pairs]
    edges = [pair.sam.edges() for pair in pairs]
    values = []
    for name in best[0]:
        y = np.log([settings[name] for settings in best])
        slope = float((x - center) @ y / spread)
        rest = y - y.mean() - slope * (x - center)
        tried = sorted({float(setting[name]) for pair in pairs for setting in pair.sam.tried if setting[name] > 0})
        step = math.log(tried[-1] / tried[0]) / (len(tried) - 1) if len(tried) > 1 else 0.0
        # A best value is known to within a step of the grid: uniform over a step has the variance step^2 / 12.
        variance = float(rest @ rest) / (n - 2) + step**2 / 12
        limit = float(stdtrit(n - 2, (1 + _LEVEL) / 2))
        reach = limit * math.sqrt(variance * (1 + 1 / n + at**2 / spread))
        middle = y.mean() + slope * at
        ends = {edge[name] for edge in edges if name in edge}
        # Larger exponents overflow.
        low, value, high = (math.exp(min(end, 700.0)) for end in (middle - reach, middle, middle + reach))
        values.append(
            Value(
                field=name,
                value=value,
                low=low,
                high=high,
                exponent=slope,
                exponent_error=math.sqrt(variance / spread),
                at_edge=edges[-1].get(name, "") if len(ends) == 1 else "",
            )
        )
    return tuple(values)


def _nearest(arm: arms.Arm, advised: Sequence[Value]) -> int:
    """Return the index of the setting that is nearest to the advised values in the logarithm."""

    def distance(settings: Mapping[str, Any]) -> float:
        return sum(math.log(max(float(settings[each.field]), 1e-300) / each.value) ** 2 for each in advised)

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
