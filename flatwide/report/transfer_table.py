"""The table of the regret of using the settings of the smallest width at the others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flatwide.analysis import fields, transfer
from flatwide.report.key_table import KeyTable, is_missing, units

if TYPE_CHECKING:
    import pandas as pd


def transfer_table(runs: "pd.DataFrame", *, tune: Sequence[str], metric: str, choose_by: str | None) -> KeyTable:
    """Compare the settings chosen at the smallest width with those of each other width, for both arms.

    Args: as for `analysis.tuned.tuned_gain`; the runs are of one domain.
    """
    write = units(fields.records(runs, ["metric_name"]), metric=metric)
    regrets = transfer.regret_table(runs, tune=tune, metric=metric, choose_by=choose_by)
    names = [name for name in regrets.columns if name in runs.columns and name != "num_params"]
    rows = [
        [
            *(str(row.get(name, "")) for name in names),
            row["arm"],
            f"{int(row['num_params']):,}",
            row["carried"],
            row["own"],
            "–" if is_missing(row["regret"]) else write.gain(row["regret"]),
            write.interval(row["regret_low"], row["regret_high"]),
            write.value(row["margin"]),
            row["decision"],
        ]
        for row in fields.records(regrets)
    ]
    return KeyTable(
        name="transfer",
        title="Do the settings of the smallest network transfer?",
        caption="Regret of using the settings chosen at the smallest width",
        note="Regret is the loss at a width from using the settings chosen at the smallest width instead of its own, "
        "each chosen by the other seeds. The settings transfer if the whole 95 % interval lies below the margin, a "
        "quarter of the gain of SAM at that width; they do not if it lies above, or if a run with them diverged.",
        columns=[*names, "arm", "parameters", "carried settings", "own settings"]
        + [f"regret{write.points}", "95 % interval", f"margin{write.points}", "decision"],
        rows=rows,
    )
