"""The table of SAM settings to train next at a larger width."""

import math

from flatwide.analysis import advice, fields, table
from flatwide.report.key_table import KeyTable, is_missing

_TIMES = 4  # the largest width that was trained


def advice_table(domain: table.Domain, *, are_ours: bool) -> KeyTable:
    """Return the advised rho for a network with four times the parameters of the largest trained one.

    Args:
      are_ours: whether flatwide trained the runs, so that the note may name the command for other widths.
    """
    write, rows = domain.units, []
    for part in advice.parts(domain):
        num_params = _TIMES * max(int(row["num_params"]) for row in fields.records(part.runs, ["num_params"]))
        recommendation = advice.advise(part, num_params=num_params)
        values = "; ".join(value.text for value in recommendation.values)
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
                part.name_in_domain or "all",
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
        columns=["part", "parameters", "advice", "rule", f"lost{write.gain_unit}", f"gain{write.gain_unit}"],
        rows=rows,
    )
