"""The table of SAM settings to train next at a larger width."""

import math
from typing import TYPE_CHECKING

from flatwide.analysis import advice, fields
from flatwide.report.key_table import KeyTable, is_missing, units

if TYPE_CHECKING:
    import pandas as pd

_TIMES = 4  # the largest width that was trained


def advice_table(runs: "pd.DataFrame", *, metric: str, choose_by: str | None, are_ours: bool) -> KeyTable:
    """Return the advised rho for a network with four times the parameters of the largest trained one.

    Args:
      are_ours: whether flatwide trained the runs, so that the note may name the command for other widths.
    """
    config_columns = fields.narrow(runs)
    write = units(fields.records(runs, ["metric_name"]), metric=metric)
    rows = []
    for part in advice.parts(config_columns):
        num_params = _TIMES * max(int(row["num_params"]) for row in fields.records(part.runs, ["num_params"]))
        recommendation = advice.advise(part, num_params=num_params, metric=metric, choose_by=choose_by)
        values = "; ".join(f"{v.field} {v.value:.3g} ({v.low:.3g} to {v.high:.3g})" for v in recommendation.values)
        lost = "; ".join(
            f"{rule}: {'none' if math.isnan(regret.value) else write.gain(regret.value)}"
            + ("" if math.isnan(regret.value) else f" ({write.interval(regret.low, regret.high)})")
            for rule, regret in recommendation.regrets.items()
        )
        gain = recommendation.expected_gain
        expected = f"{write.gain(gain.value)} ({write.interval(gain.low, gain.high)})" if values else "–"
        expected = "–" if is_missing(gain.value) else expected
        rows.append(
            [
                part.name or "all",
                f"{num_params:,}",
                values or recommendation.refusal,
                recommendation.rule or "–",
                lost or "–",
                expected,
            ]
        )
    return KeyTable(
        name="advice",
        title="A larger network",
        caption="Advised settings of SAM for a larger network",
        note="Settings of SAM for four times the parameters of the largest width, with 95 % intervals. Lost: the loss "
        "from the setting that each rule advises for the largest width, given only the narrower ones, compared with "
        "that width's own optimum. The gain extrapolates the trend."
        + (" Other widths: python main.py advise W --at=FIELD=VALUE." if are_ours else ""),
        columns=["part", "parameters", "advice", "rule", f"lost{write.points}", f"gain{write.points}"],
        rows=rows,
    )
