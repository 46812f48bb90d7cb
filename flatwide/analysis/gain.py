"""The gain of SAM over its base optimizer at each width.

The gain is the mean over seeds of SAM - base, signed so that positive means that SAM is better. Both runs of a seed
start from the same weights, see the same data in the same order and differ only in rho, so they are compared in pairs.
The best of many values of rho beats one base run even where SAM has no effect, because it is selected for its noise;
the corrected gain scores each seed at the rho that the other seeds choose.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flatwide.analysis import arms, estimates, table
from flatwide.analysis.estimates import Scores
from flatwide.analysis.widths import Width
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd


@table.for_part
def gain_by_width(part: table.Part) -> "pd.DataFrame":
    """Compute the gain of SAM over its base optimizer at every width.

    Where rho is chosen by the same numbers that are compared, as in the paper, the gain is biased upward somewhat:
    `corrected_gain` removes this bias.

    Returns: one row for each width, the smallest first: the width, `num_params`, `base`, `best_rho`, `sam` (means over
      the seeds that both have), `gain`, its `standard_error` and 95 % t interval `low`, `high` (NaN for one seed),
      `num_seeds` (pairs), `num_diverged` and `num_collapsed` (runs).
    Raises: ValueError if a column is missing, a width has no base run, or two runs differ in another field.
    """
    import pandas as pd

    return pd.DataFrame(rows(part))


def rows(part: table.Part) -> list[dict[str, Any]]:
    """Return the rows of `gain_by_width`."""
    rows_of_widths = []
    for width in part.widths:
        seed_pairs = pairs(width)
        gain = estimates.mean([pair["gain"] for pair in seed_pairs])
        rows_of_widths.append(
            {
                part.question.width: width.value,
                "num_params": width.num_params,
                "base": estimates.mean([pair["base"] for pair in seed_pairs]).value,
                "best_rho": width.best_rho,
                "sam": estimates.mean([pair["sam"] for pair in seed_pairs]).value,
                "gain": gain.value,
                "standard_error": gain.error,
                "low": gain.low,
                "high": gain.high,
                "num_seeds": len(seed_pairs),
                "num_diverged": width.num_diverged,
                "num_collapsed": width.num_collapsed,
            }
        )
    return rows_of_widths


@table.for_part
def corrected_gain(part: table.Part) -> "pd.DataFrame":
    """Compute the gain at every width, each seed scored at the rho that the other seeds choose.

    Returns: one row for each width: the width, `num_params`, `corrected_gain`, `corrected_standard_error`,
      `corrected_low`, `corrected_high` (95 %), `selection_bias` (the plain gain of the same seeds minus the corrected
      one), `corrected_num_seeds` and `num_rhos` (that the choice was made from: without a diverged or missing run).
    Raises: as `gain_by_width`.
    """
    import pandas as pd

    return pd.DataFrame(corrected_rows(part))


def corrected_rows(part: table.Part) -> list[dict[str, Any]]:
    """Return the rows of `corrected_gain`."""
    rows_of_widths = []
    for width in part.widths:
        comparison, gain = width.comparison, width.comparison.gain
        bias = math.nan
        if comparison.is_usable:
            _, best = comparison.chosen
            plain = comparison.sign * (comparison.sam.values[:, best] - comparison.base.values[:, 0])
            bias = float(plain.mean()) - gain.value
        rows_of_widths.append(
            {
                part.question.width: width.value,
                "num_params": width.num_params,
                "corrected_gain": gain.value,
                "corrected_standard_error": gain.error,
                "corrected_low": gain.low,
                "corrected_high": gain.high,
                "selection_bias": bias,
                "corrected_num_seeds": len(comparison.seeds),
                "num_rhos": len(width.candidates),
            }
        )
    return rows_of_widths


@table.for_part
def pair_seeds(part: table.Part) -> "pd.DataFrame":
    """Pair each seed's SAM run at the best rho of its width with its base run; `gain_by_width` averages these.

    Returns: one row for each width and seed: the width, `num_params`, `best_rho`, `seed`, `base`, `sam`, `gain`.
    """
    import pandas as pd

    name = part.question.width
    columns = list(dict.fromkeys([name, "num_params", "best_rho", "seed", "base", "sam", "gain"]))
    rows_of_seeds = [
        {name: width.value, "num_params": width.num_params, "best_rho": width.best_rho, **pair}
        for width in part.widths
        for pair in pairs(width)
    ]
    return pd.DataFrame(rows_of_seeds, columns=columns)


def pairs(width: Width) -> list[dict[str, Any]]:
    """List `seed`, `base`, `sam` and `gain` of each seed of a width that has a base run and one at the best rho."""
    if width.best is None:
        return []
    base, sam = width.values[:, 0], width.values[:, 1 + width.best]
    return [
        {"seed": seed, "base": float(b), "sam": float(s), "gain": float(width.sign * (s - b))}
        for seed, b, s in zip(width.seeds, base, sam, strict=True)
        if math.isfinite(b) and math.isfinite(s)
    ]


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


@table.for_part
def scores_of_sam(part: table.Part) -> Scores:
    """Score SAM itself, against zero, at the widths that have a gain; larger is better."""
    return arms.scores([width.comparison.sam_alone for width in part.widths])
