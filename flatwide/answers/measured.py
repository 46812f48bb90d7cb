"""Sentences on how SAM changes a measured quantity, and how that depends on width and rho."""

import math
from collections.abc import Sequence

import numpy as np

from flatwide.analysis import estimates, measured
from flatwide.analysis.estimates import Estimate
from flatwide.catalogue.entries import Quantity


def sentence(widths_measured: Sequence[measured.Measured], quantity: Quantity, *, base: str = "the base") -> str:
    """Write how SAM changes a quantity at the largest width, and whether that depends on width; empty without a pair.

    Args:
      widths_measured: one for each width, the smallest first.
      base: name of the base optimizer.
    """
    with_pairs = [each for each in widths_measured if each.pairs]
    if not with_pairs:
        return ""
    comparison = measured.compared_by(widths_measured, quantity)
    last, at = measured.means(with_pairs[-1], comparison=comparison), with_pairs[-1].width
    seeds = "one seed, which has no interval" if last.num_seeds == 1 else f"{last.num_seeds} seeds"
    unit = f" {quantity.unit}" if quantity.unit else ""
    text = (
        f"At {at.num_params:,} parameters the {quantity.title} is {last.base:.3g}{unit} for {base} and {last.sam:.3g} "
        f"for SAM at ρ = {at.best_rho:g} ({_effect(last, base)}, {seeds})."
    )
    trend_with_width = measured.change(widths_measured, comparison=comparison)
    if trend_with_width.num_widths < 2 or not math.isfinite(trend_with_width.value):
        return text
    neutral = 1.0 if comparison == measured.RATIO else 0.0
    verdict = "shows no clear change with width"
    if trend_with_width.low > neutral or trend_with_width.high < neutral:
        seems = "seems to " if trend_with_width.num_seeds < 3 or trend_with_width.num_widths < 3 else ""
        verb = "rise" if trend_with_width.low > neutral else "fall"
        verdict = f"{seems}{verb}{'' if seems else 's'} with width"
    sign = "×" if comparison == measured.RATIO else ""
    number = "{:.3g}" if comparison == measured.RATIO else "{:+.3g}"
    reach = (
        f", 95 % interval {sign}{number.format(trend_with_width.low)} to {sign}{number.format(trend_with_width.high)}"
    )
    reach += f", {trend_with_width.num_seeds} seeds"
    reach = reach if math.isfinite(trend_with_width.low) else ""
    rate = f"{sign}{number.format(trend_with_width.value)} per tenfold increase in parameters{reach}"
    radii = sorted({each.width.best_rho for each in with_pairs})
    # A radius that grows with width flattens by itself: the reader must not attribute that to width.
    differs = f", with ρ from {radii[0]:g} to {radii[-1]:g}" if len(radii) > 1 else ""
    return f"{text} The {comparison} {verdict} ({rate}, {trend_with_width.num_widths} widths{differs})."


def axes_sentence(widths_measured: Sequence[measured.Measured], quantity: Quantity, *, base: str = "the base") -> str:
    """Write how a quantity of the base alone changes with width, and how it changes along rho at the largest width.

    It rises or falls where the intervals of the slope and of the last value minus the first both show it. Along rho
    every value counts, the base being rho 0, so nothing was selected. Empty where there are fewer than two seeds, two
    widths and three values of rho.
    """
    is_log = measured.compared_by(widths_measured, quantity) == measured.RATIO
    texts = []
    with np.errstate(divide="ignore", invalid="ignore"):
        arrays = [np.log(each.values) if is_log else each.values for each in widths_measured]
    by_seed = [
        dict(zip(each.width.seeds, numbers[:, 0], strict=True))
        for each, numbers in zip(widths_measured, arrays, strict=True)
    ]
    with_base = [
        (each.width.num_params, by_seed_of_width)
        for each, by_seed_of_width in zip(widths_measured, by_seed, strict=True)
        if np.isfinite([*by_seed_of_width.values()]).any()
    ]
    seeds = (
        [
            seed
            for seed in widths_measured[0].width.seeds
            if all(np.isfinite(by_seed_of_width.get(seed, math.nan)) for _, by_seed_of_width in with_base)
        ]
        if with_base
        else []
    )
    if estimates.span([size for size, _ in with_base]) and len(seeds) > 1:
        values = np.array([[by_seed_of_width[seed] for seed in seeds] for _, by_seed_of_width in with_base])
        weights = estimates.slope_weights([size for size, _ in with_base])
        text = _line(weights @ values, values, is_log=is_log, unit="per tenfold increase in parameters")
        texts.append(f"For {base} alone the {quantity.title} {text.replace(' along it', ' with width')}.")
    last = widths_measured[-1] if widths_measured else None
    if last is not None and len(last.width.rhos) > 1:
        whole = arrays[-1][np.isfinite(arrays[-1]).all(axis=1)]
        positions = np.array([0.0, *last.width.rhos])
        if len(whole) > 1:
            centered = positions - positions.mean()
            slopes = 0.1 * whole @ centered / (centered @ centered)
            text = _line(slopes, whole.T, is_log=is_log, unit="per increase of 0.1 in ρ")
            at = f"at {last.width.num_params:,} parameters, {base} being ρ = 0"
            texts.append(f"Along ρ ({positions[0]:g} to {positions[-1]:g}, {at}) it {text.replace(' along it', '')}.")
    return " ".join(texts)


def _line(slopes: np.ndarray, values: np.ndarray, *, is_log: bool, unit: str) -> str:
    """Write whether values rise or fall along an axis, and the slope with its interval.

    Args:
      slopes: [seeds]. values: [positions, seeds].
    """
    slope, rise = estimates.mean(slopes), estimates.mean(values[-1] - values[0])
    verb = "shows no clear change along it"
    if min(slope.low, rise.low) > 0:
        verb = "rises along it"
    elif max(slope.high, rise.high) < 0:
        verb = "falls along it"

    def numbers(estimate: Estimate) -> tuple[str, str]:
        mean, low, high = (
            f"×{math.exp(end):.3g}" if is_log else f"{end:+.3g}"
            for end in (estimate.value, estimate.low, estimate.high)
        )
        return mean, f"95 % interval {low} to {high}"

    (mean, ends), (last, last_ends) = numbers(slope), numbers(rise)
    return f"{verb} ({mean} {unit}, {ends}; from the first to the last {last}, {last_ends}; {len(slopes)} seeds)"


def _effect(compared: measured.Means, base: str) -> str:
    if compared.comparison == measured.RATIO:
        words, ends = f"ratio {compared.effect:.3g}", f"{compared.low:.3g} to {compared.high:.3g}"
    else:
        words, ends = f"SAM − {base} {compared.effect:+.3g}", f"{compared.low:+.3g} to {compared.high:+.3g}"
    return words + (f", 95 % interval {ends}" if math.isfinite(compared.low) else "")
