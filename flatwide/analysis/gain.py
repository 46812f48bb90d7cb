"""The gain of SAM over its base optimizer at each width.

The gain is the mean over seeds of SAM - base, signed so that positive means that SAM is better. Both runs of a seed
start from the same weights, see the same data in the same order and differ only in rho, so they are compared in pairs.
The best of many values of rho beats one base run even where SAM has no effect, because it is selected for its noise;
the corrected gain scores each seed at the rho that the other seeds choose.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flatwide.analysis import arms, estimates, fields, widths
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd

_NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def gain_by_width(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Compute the gain of SAM over its base optimizer at every width.

    Args:
      runs: rows of the results table that differ only in width, rho and seed; incomplete runs are ignored.
      width: the column that identifies the width.
      metric: the column that is compared. The best rho has its best mean over seeds; one with a diverged or
        missing seed cannot be the best. Chosen by the same numbers that are compared, as in the paper, it biases the
        gain upward somewhat: `corrected_gain` removes this bias.
      choose_by: the column that rho is chosen by; None is the validation metric where every run has one, else `metric`.
    Returns: one row for each width, the smallest first: the width, `num_params`, `base`, `best_rho`, `sam` (means over
      the seeds that both have), `gain`, its `standard_error` and 95 % t interval `low`, `high` (NaN for one seed),
      `num_seeds` (pairs), `num_diverged` and `num_collapsed` (runs).
    Raises: ValueError if a column is missing, a width has no base run, or two runs differ in another field.
    """
    import pandas as pd

    return pd.DataFrame(of_widths(widths.by_width(runs, width=width, metric=metric, choose_by=choose_by), width=width))


def of_widths(cells: Iterable[widths.Width], *, width: str) -> list[dict[str, Any]]:
    """Return the rows of `gain_by_width` for runs that are already arranged."""
    rows = []
    for cell in cells:
        seed_pairs = pairs(cell)
        gain = estimates.mean([pair["gain"] for pair in seed_pairs])
        rows.append(
            {
                width: cell.value,
                "num_params": cell.num_params,
                "base": estimates.mean([pair["base"] for pair in seed_pairs]).value,
                "best_rho": cell.best_rho,
                "sam": estimates.mean([pair["sam"] for pair in seed_pairs]).value,
                "gain": gain.value,
                "standard_error": gain.error,
                "low": gain.low,
                "high": gain.high,
                "num_seeds": len(seed_pairs),
                "num_diverged": cell.num_diverged,
                "num_collapsed": cell.num_collapsed,
            }
        )
    return rows


def corrected_gain(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Compute the gain at every width, each seed scored at the rho that the other seeds choose.

    Args, Raises: as for `gain_by_width`.
    Returns: one row for each width: the width, `num_params`, `corrected_gain`, `corrected_standard_error`,
      `corrected_low`, `corrected_high` (95 %), `selection_bias` (the plain gain of the same seeds minus the corrected
      one), `corrected_num_seeds` and `num_rhos` (that the choice was made from: without a diverged or missing run).
    """
    import pandas as pd

    return pd.DataFrame(
        corrected_of_widths(widths.by_width(runs, width=width, metric=metric, choose_by=choose_by), width=width)
    )


def corrected_of_widths(cells: Iterable[widths.Width], *, width: str) -> list[dict[str, Any]]:
    """Return the rows of `corrected_gain` for runs that are already arranged."""
    rows = []
    for cell in cells:
        comparison = cell.comparison
        corrected = arms.estimate(comparison)
        bias = math.nan
        if comparison.is_usable:
            _, best = comparison.chosen
            plain = comparison.sign * (comparison.sam.values[:, best] - comparison.base.values[:, 0])
            bias = float(plain.mean()) - corrected.value
        rows.append(
            {
                width: cell.value,
                "num_params": cell.num_params,
                "corrected_gain": corrected.value,
                "corrected_standard_error": corrected.error,
                "corrected_low": corrected.low,
                "corrected_high": corrected.high,
                "selection_bias": bias,
                "corrected_num_seeds": len(comparison.seeds),
                "num_rhos": len(cell.candidates),
            }
        )
    return rows


def pair_seeds(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Pair each seed's SAM run at the best rho of its width with its base run; `gain_by_width` averages these.

    Args, Raises: as for `gain_by_width`.
    Returns: one row for each width and seed: the width, `num_params`, `best_rho`, `seed`, `base`, `sam`, `gain`.
    """
    import pandas as pd

    columns = list(dict.fromkeys([width, "num_params", "best_rho", "seed", "base", "sam", "gain"]))
    rows = [
        {width: cell.value, "num_params": cell.num_params, "best_rho": cell.best_rho, **pair}
        for cell in widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)
        for pair in pairs(cell)
    ]
    return pd.DataFrame(rows, columns=columns)


def pairs(cell: widths.Width) -> list[dict[str, Any]]:
    """List `seed`, `base`, `sam` and `gain` of each seed of a width that has a base run and one at the best rho."""
    if cell.best is None:
        return []
    base, sam = cell.values[:, 0], cell.values[:, 1 + cell.best]
    return [
        {"seed": seed, "base": float(b), "sam": float(s), "gain": float(cell.sign * (s - b))}
        for seed, b, s in zip(cell.seeds, base, sam, strict=True)
        if math.isfinite(b) and math.isfinite(s)
    ]


def base_name(runs: "pd.DataFrame", *, unknown: str = "its base optimizer") -> str:
    """Return the name of the base optimizer of some runs for a table or figure, such as SGD.

    Args:
      unknown: the name where the table does not have it.
    """
    if not {"optimizer", "base_optimizer"} <= set(runs.columns):
        return unknown
    with_optimizer = [
        run for run in fields.records(runs, ["optimizer", "base_optimizer"]) if run["optimizer"] is not None
    ]
    used = {fields.value(run, "base_optimizer") for run in with_optimizer}
    return " and ".join(sorted(_NAMES.get(name, str(name)) for name in used))


def metric_name(runs: "pd.DataFrame") -> str:
    """Return the name of the metric of some runs, such as accuracy."""
    names = runs["metric_name"].dropna() if "metric_name" in runs.columns else []
    return str(next(iter(names), "metric"))


def format_table(table: "pd.DataFrame", *, metric_name: str = "accuracy", base: str = "SGD") -> str:
    """Write the table of `gain_by_width` as text, fractions as percentages and their gains as percentage points.

    Args:
      metric_name: name of the metric, as in the results table.
      base: name of the base optimizer.
    """
    is_percent = metric_name in FRACTION_METRICS
    factor, digits = (100, 2) if is_percent else (1, 4)
    unit, points = (" (%)", " (points)") if is_percent else ("", "")

    def number(value: float, sign: str = "") -> str:
        return format(factor * value, f"{sign}.{digits}f") if math.isfinite(value) else "-"

    width = table.columns[0]
    lines = [
        [str(width), "parameters", f"{base} {metric_name}{unit}", f"SAM {metric_name}{unit}", "best rho"]
        + [f"gain ± standard error{points}", "seeds"]
    ]
    for row in table.to_dict("records"):
        gain = f"{number(row['gain'], '+')} ± {number(row['standard_error'])}"
        rho = f"{row['best_rho']:g}" if math.isfinite(row["best_rho"]) else "-"
        counted = [rho, gain, str(row["num_seeds"])]
        lines.append([str(row[width]), f"{row['num_params']:,}", number(row["base"]), number(row["sam"]), *counted])
    lines = [line[1:] for line in lines] if width == "num_params" else lines
    text = aligned(lines)
    if diverged := sum(table["num_diverged"]):
        text.append(f"{diverged} of the runs diverged; a rho with a diverged seed is never the best.")
    return "\n".join(text)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Write rows of cells as lines of text with right-aligned columns."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(size) for cell, size in zip(row, sizes, strict=True)) for row in rows]
