"""The table of what to train next at a larger width."""

import math
from typing import TYPE_CHECKING

from flatwide.analysis import advice, fields
from flatwide.report.key_table import KeyTable, is_missing, units

if TYPE_CHECKING:
    import pandas as pd

_TIMES = 4  # the largest width that was trained


def advice_table(runs: "pd.DataFrame", *, metric: str, choose_by: str | None, are_ours: bool) -> KeyTable:
    """Advise rho for a network of four times the parameters of the largest that was trained.

    Args:
      are_ours: whether flatwide trained the runs, so that a command can say more.
    """
    known = fields.narrow(runs)
    write = units(fields.records(runs, ["metric_name"]), metric=metric)
    rows = []
    for part in advice.parts(known):
        num_params = _TIMES * max(int(row["num_params"]) for row in fields.records(part.runs, ["num_params"]))
        one = advice.advise(part, num_params=num_params, metric=metric, choose_by=choose_by)
        values = "; ".join(f"{v.field} {v.value:.3g} ({v.low:.3g} to {v.high:.3g})" for v in one.values)
        lost = "; ".join(
            f"{rule}: {'none' if math.isnan(regret.mean) else write.gain(regret.mean)}"
            + ("" if math.isnan(regret.mean) else f" ({write.interval(regret.low, regret.high)})")
            for rule, regret in one.regrets.items()
        )
        gain = one.expected_gain
        expected = f"{write.gain(gain.mean)} ({write.interval(gain.low, gain.high)})" if values else "–"
        expected = "–" if is_missing(gain.mean) else expected
        rows.append(
            [part.name or "all", f"{num_params:,}", values or one.refusal, one.rule or "–", lost or "–", expected]
        )
    return KeyTable(
        name="advice",
        title="A larger network",
        note="Settings of SAM for four times the parameters of the largest width, with 95 % intervals. What was lost: "
        "each rule advised for the largest width from the narrower ones, against that width's own optimum. The gain is "
        "where the trend leads if it continues."
        + (" Other widths: python main.py advise W --at=FIELD=VALUE." if are_ours else ""),
        columns=["part", "parameters", "advice", "rule", f"lost{write.points}", f"gain{write.points}"],
        rows=rows,
    )
