"""Tables of the settings to use at widths other than those at which they were chosen."""

from flatwide.analysis import advice, fields, table, transfer
from flatwide.report.key_table import KeyTable, bracketed, is_missing, key_table

_TIMES = 4  # the largest width that was trained


def advised(domain: table.Domain, *, are_ours: bool) -> KeyTable:
    """Return the advised settings for a network with four times the parameters of the largest trained one.

    Args:
      are_ours: whether flatwide trained the runs, so that the note may name the command for other widths.
    """
    write, rows = domain.units, []
    for part in advice.parts(domain):
        num_params = _TIMES * max(int(row["num_params"]) for row in fields.records(part.runs, ["num_params"]))
        found = advice.advise(part, num_params=num_params)
        values, gain = "; ".join(value.text for value in found.values), found.expected_gain
        lost = "; ".join(
            f"{rule}: {'none' if is_missing(regret.value) else bracketed(write, regret.value, regret.low, regret.high)}"
            for rule, regret in found.regrets.items()
        )
        has_gain = values and not is_missing(gain.value)
        rows.append(
            [
                ("part", part.name_in_domain or "all"),
                ("parameters", f"{num_params:,}"),
                ("advice", values or found.refusal),
                ("rule", found.rule or "–"),
                (f"lost{write.gain_unit}", lost or "–"),
                (f"gain{write.gain_unit}", bracketed(write, gain.value, gain.low, gain.high) if has_gain else "–"),
            ]
        )
    return key_table(
        "advice",
        rows,
        title="A larger network",
        caption="Advised settings of SAM for a larger network",
        note="Settings of SAM for four times the parameters of the largest width, with 95 % intervals. Lost: the loss "
        "from the setting that each rule advises for the largest width, given only the narrower ones, compared with "
        "that width's own optimum. The gain extrapolates the trend."
        + (" Other widths: python main.py advise W --at=FIELD=VALUE." if are_ours else ""),
    )


def transferred(domain: table.Domain) -> KeyTable:
    """Compare the settings chosen at the smallest width with those of each other width, for both arms."""
    write = domain.units
    regrets = [(part, row) for part in domain.tuned for row in transfer.rows(part)] if domain.question.tune else []
    names = list(dict.fromkeys(name for part, _ in regrets for name in part.settings))
    rows = [
        [
            *((name, str(part.settings.get(name, ""))) for name in names),
            ("arm", row["arm"]),
            ("parameters", f"{int(row['num_params']):,}"),
            ("carried settings", row["carried"]),
            ("own settings", row["own"]),
            (f"regret{write.gain_unit}", write.gain(row["regret"])),
            ("95 % interval", write.interval(row["regret_low"], row["regret_high"])),
            (f"margin{write.gain_unit}", write.value(row["margin"])),
            ("decision", row["decision"]),
        ]
        for part, row in regrets
    ]
    return key_table(
        "transfer",
        rows,
        title="Do the settings of the smallest network transfer?",
        caption="Regret of using the settings chosen at the smallest width",
        note="Regret is the loss at a width from using the settings chosen at the smallest width instead of its own, "
        "each chosen by the other seeds. The settings transfer if the whole 95 % interval lies below the margin, a "
        "quarter of the gain of SAM at that width; they do not if it lies above, or if a run with them diverged.",
    )
