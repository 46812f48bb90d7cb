"""The answer in two sentences, with numbers."""

import math
from typing import TYPE_CHECKING, NamedTuple

from flatwide.analysis import decomposition, domains, fields, gain, overview, rho, selection, table, trend, widths
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd


def answer(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> str:
    """Say whether the gain grows with the number of parameters, and what best rho does.

    Args: as for `gain.gain_by_width`, but the runs may differ in other columns: each of their values has its two
      sentences, in a paragraph of its own. Where there are several domains, the first paragraph is about all of them.
    """
    found = table.parts(fields.narrow(runs, width=width), width=width)
    if not found:
        return "There is no gain yet: no width has both a base run (rho=0) and a SAM run that are done."
    texts = [(part.name, _part(part.runs, width=width, metric=metric, choose_by=choose_by)) for part in found]
    all_of_them = []
    if len(domains.domains(runs)) > 1:
        entries = overview.overview(runs, width=width, metric=metric, choose_by=choose_by)
        all_of_them.append(overview.sentences(entries))
    return "\n\n".join([*all_of_them, *(f"{name}: {text}" if name else text for name, text in texts)])


class _Units(NamedTuple):
    """How the numbers of a metric read."""

    factor: int
    digits: int
    unit: str  # of a difference; "" where the metric's name is enough
    name: str
    lower_is_better: bool

    def number(self, value: float, sign: str = "+") -> str:
        return f"{self.factor * value:{sign}.{self.digits}f}"

    def amount(self, gain: float) -> str:
        """Write a gain, positive where SAM is better: less of what should be low."""
        if not self.lower_is_better:
            return f"{self.number(gain)} {self.unit or self.name}"
        return f"{self.number(abs(gain), '')} {self.unit} {'less' if gain >= 0 else 'more'} {self.name}".replace(
            "  ", " "
        )

    def change(self, slope: float) -> str:
        return f"{self.number(slope)} {self.unit or ('of ' if self.lower_is_better else '') + self.name}"


def _units(runs: "pd.DataFrame", metric: str) -> _Units:
    name, loss = gain.metric_name(runs), metric.endswith("loss")
    lower = loss or not all(runs["higher_is_better"].dropna())
    if name in FRACTION_METRICS and not loss:
        return _Units(100, 2, "points", name, lower)
    return _Units(1, 3, "", "loss" if loss else name.replace("_", " "), lower)


def _part(runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str | None) -> str:
    options = {"width": width, "metric": metric, "choose_by": choose_by}
    gains = selection.corrected_gain(runs, **options).dropna(subset=["corrected_gain"])
    units = _units(runs, metric)
    base = gain.base_name(runs) if {"optimizer", "base_optimizer"} <= set(runs.columns) else "its base optimizer"
    if not len(gains):
        plain = gain.gain_by_width(runs, **options).dropna(subset=["gain"])
        if not len(plain):
            return "There is no gain yet: every rho has a diverged seed, or no seed has both runs."
        last = plain.iloc[-1]
        seeds = "one seed" if last["num_seeds"] == 1 else f"{int(last['num_seeds'])} seeds"
        return (
            f"With {seeds}, SAM differs from {base} by {units.amount(last['gain'])} at {int(last['num_params']):,} "
            "parameters. That cannot be told from luck: finish at least three seeds at every rho."
        )
    slope = trend.trend(runs, **options)
    first = f"{_growth(gains, slope, units, base)} "
    return first + _best(runs, options, metric, base, sizes=list(gains[width]), grows=slope.low > 0)


def _growth(gains: "pd.DataFrame", slope: trend.Trend, units: _Units, base: str) -> str:
    """Say in one sentence how the gain, corrected for the choice of rho, depends on the number of parameters."""
    first, last = gains.iloc[0], gains.iloc[-1]
    helps = max(first["corrected_gain"], last["corrected_gain"]) > 0

    def no_help(rows: "pd.DataFrame") -> str:
        return "SAM does not help" if max(rows["corrected_high"].tolist()) <= 0 else "SAM is not seen to help"

    def at(row) -> str:
        ends = f"{units.number(row['corrected_low'])} to {units.number(row['corrected_high'])}"
        size = f"{int(row['num_params']):,} parameters"
        return f"{units.amount(row['corrected_gain'])} (95 % interval {ends}) at {size}"

    if first["num_params"] == last["num_params"]:
        subject = f"The gain of SAM over {base} is" if helps else f"{no_help(gains)} here: its gain over {base} is"
        seeds = f"{int(last['corrected_num_seeds'])} seeds"
        return f"{subject} {at(last)}, {seeds}, corrected for the choice of rho."
    verdict = "shows no clear trend with width"
    seems = slope.num_seeds < 3 or slope.num_widths < 3
    if slope.low > 0:
        verdict = "seems to grow with width" if seems else "grows with width"
    elif slope.high < 0:
        verdict = "seems to shrink with width" if seems else "shrinks with width"
    rate = f"{units.change(slope.slope)} for ten times the parameters"
    if math.isfinite(slope.low):
        ends = f"{units.number(slope.low)} to {units.number(slope.high)}"
        rate += f", 95 % interval {ends}, {slope.num_seeds} seeds"
    subject, comma = f"The gain of SAM over {base}", ":"
    if not helps:
        is_everywhere = max(gains["corrected_gain"].tolist()) <= 0
        where = "any width" if is_everywhere else "the smallest width or the largest"
        verb = no_help(gains if is_everywhere else gains.iloc[[0, -1]])
        subject, comma = f"{verb} at {where} here: its gain over {base}", ","
    return f"{subject} {verdict}{comma} from {at(first)} to {at(last)} ({rate}; corrected for the choice of rho)."


def _best(runs: "pd.DataFrame", options: dict, metric: str, base: str, *, sizes: list, grows: bool) -> str:
    """Say in one sentence which rho is best at the widths that have a gain, and whose the growth is, if any."""
    best = rho.best_rho(runs, **options)
    best = best[best[options["width"]].isin(sizes)]

    def one(row) -> str:
        low, high = row["best_rho_low"], row["best_rho_high"]
        return f"{row['best_rho']:g}" + (f" (from {low:g} to {high:g} the seeds cannot tell)" if low < high else "")

    ends = [one(best.iloc[0]), one(best.iloc[-1])] if len(best) > 1 else [one(best.iloc[0])]
    chosen_by = options["choose_by"] or widths.choice_column(runs, metric=metric)
    text = f"The best rho, chosen by {chosen_by.replace('_', ' ')}, is {' at the smallest width and '.join(ends)}"
    text += " at the largest" if len(ends) > 1 else ""
    growth = decomposition.decompose(runs, **options)
    # The slope counts networks too small to learn, growth does not: it may be none where the slope has one.
    if not grows or not growth["gain_growth_low"].iloc[-1] > 0:
        return text + "."
    share = decomposition.share_of_sam(growth)
    if share > 1:
        return text + f"; {base} gets better with width too, so all of the growth is SAM getting better."
    text += f"; from {int(growth['num_params'].iloc[0]):,} parameters on, where {base} is best, "
    if share < 0:
        return text + f"all of the growth is {base} getting worse, for SAM gets worse too."
    return text + f"{100 * share:.0f} % of the growth is SAM getting better, the rest {base} getting worse."
