"""The answer in two sentences, with numbers."""

import math
from typing import TYPE_CHECKING

from flatwide import runs as files
from flatwide.analysis import decomposition, fields, gain, rho, selection, table, trend, widths

if TYPE_CHECKING:
    import pandas as pd


def answer(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> str:
    """Say whether the gain grows with the number of parameters, and what best rho does.

    Args: as for `gain.gain_by_width`, but the runs may differ in other columns: each of their values has its two
      sentences, in a paragraph of its own.
    """
    found = table.parts(fields.narrow(runs, width=width), width=width)
    if not found:
        return "There is no gain yet: no width has both a base run (rho=0) and a SAM run that are done."
    texts = [(part.name, _part(part.runs, width=width, metric=metric, choose_by=choose_by)) for part in found]
    return "\n\n".join(f"{name}: {text}" if name else text for name, text in texts)


def _part(runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str | None) -> str:
    options = {"width": width, "metric": metric, "choose_by": choose_by}
    gains = selection.corrected_gain(runs, **options).dropna(subset=["corrected_gain"])
    name = gain.metric_name(runs)
    loss = metric.endswith("loss")
    factor, unit = (100, "points") if name in files.FRACTION_METRICS and not loss else (1, "of loss" if loss else name)

    def number(value: float, sign: str = "+") -> str:
        return f"{factor * value:{sign}.{2 if factor == 100 else 3}f}"

    base = gain.base_name(runs) if {"optimizer", "base_optimizer"} <= set(runs.columns) else "its base optimizer"
    if not len(gains):
        plain = gain.gain_by_width(runs, **options).dropna(subset=["gain"])
        if not len(plain):
            return "There is no gain yet: every rho has a diverged seed, or no seed has both runs."
        last = plain.iloc[-1]
        seeds = "one seed" if last["num_seeds"] == 1 else f"{int(last['num_seeds'])} seeds"
        return (
            f"With {seeds}, SAM differs from {base} by {number(last['gain'])} {unit} at {int(last['num_params']):,} "
            "parameters. That cannot be told from luck: finish at least three seeds at every rho."
        )
    first, last = gains.iloc[0], gains.iloc[-1]
    return f"{_growth(runs, first, last, number, unit, base, options)} {_best(runs, options, metric, base)}"


def _growth(runs, first, last, number, unit: str, base: str, options: dict) -> str:
    """Say in one sentence how the gain, corrected for the choice of rho, depends on the number of parameters."""

    def at(row) -> str:
        ends = f"{number(row['corrected_low'])} to {number(row['corrected_high'])}"
        return f"{number(row['corrected_gain'])} {unit} (95 % interval {ends}) at {int(row['num_params']):,} parameters"

    if first["num_params"] == last["num_params"]:
        return f"The gain of SAM over {base} is {at(last)}, {int(last['corrected_num_seeds'])} seeds."
    slope = trend.trend(runs, **options)
    verdict = "shows no clear trend with width"
    if slope.low > 0:
        verdict = "grows with width"
    elif slope.high < 0:
        verdict = "shrinks with width"
    rate = f"{number(slope.slope)} {unit} for ten times the parameters"
    if math.isfinite(slope.low):
        rate += f", 95 % interval {number(slope.low)} to {number(slope.high)}, {slope.num_seeds} seeds"
    return f"The gain of SAM over {base} {verdict}: from {at(first)} to {at(last)} ({rate})."


def _best(runs: "pd.DataFrame", options: dict, metric: str, base: str) -> str:
    """Say in one sentence which rho is best, how much its choice flatters, and whose the growth is."""
    best = rho.best_rho(runs, **options).dropna(subset=["best_rho"])

    def one(row) -> str:
        low, high = row["best_rho_low"], row["best_rho_high"]
        return f"{row['best_rho']:g}" + (f" (from {low:g} to {high:g} the seeds cannot tell)" if low < high else "")

    ends = [one(best.iloc[0]), one(best.iloc[-1])] if len(best) > 1 else [one(best.iloc[0])]
    chosen_by = options["choose_by"] or widths.choice_column(runs, metric=metric)
    text = f"The best rho, chosen by {chosen_by.replace('_', ' ')}, is {' at the smallest width and '.join(ends)}"
    text += " at the largest" if len(ends) > 1 else ""
    growth = decomposition.decompose(runs, **options)
    share = decomposition.share_of_sam(growth)
    if not math.isfinite(share):
        return text + "."
    if share > 1:
        return text + f"; {base} gets better with width too, so all of the growth is SAM getting better."
    text += f"; from {int(growth['num_params'].iloc[0]):,} parameters on, where {base} is best, "
    if share < 0:
        return text + f"all of the growth is {base} getting worse, for SAM gets worse too."
    return text + f"{100 * share:.0f} % of the growth is SAM getting better, the rest {base} getting worse."
