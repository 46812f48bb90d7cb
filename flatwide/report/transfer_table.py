"""The table of the regret of using the settings of the smallest width at the others."""

from flatwide.analysis import table, transfer
from flatwide.report.key_table import KeyTable, is_missing


def transfer_table(domain: table.Domain) -> KeyTable:
    """Compare the settings chosen at the smallest width with those of each other width, for both arms."""
    write = domain.units
    regrets = [(part, row) for part in domain.tuned for row in transfer.rows(part)]
    names = list(dict.fromkeys(name for part, _ in regrets for name in part.settings))
    rows = [
        [
            *(str(part.settings.get(name, "")) for name in names),
            row["arm"],
            f"{int(row['num_params']):,}",
            row["carried"],
            row["own"],
            "–" if is_missing(row["regret"]) else write.gain(row["regret"]),
            write.interval(row["regret_low"], row["regret_high"]),
            write.value(row["margin"]),
            row["decision"],
        ]
        for part, row in regrets
    ]
    return KeyTable(
        name="transfer",
        title="Do the settings of the smallest network transfer?",
        caption="Regret of using the settings chosen at the smallest width",
        note="Regret is the loss at a width from using the settings chosen at the smallest width instead of its own, "
        "each chosen by the other seeds. The settings transfer if the whole 95 % interval lies below the margin, a "
        "quarter of the gain of SAM at that width; they do not if it lies above, or if a run with them diverged.",
        columns=[*names, "arm", "parameters", "carried settings", "own settings"]
        + [f"regret{write.gain_unit}", "95 % interval", f"margin{write.gain_unit}", "decision"],
        rows=rows,
    )
