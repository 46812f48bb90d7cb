"""The gain at equal compute: SAM against a base trained longer, with the same number of gradients."""

from typing import TYPE_CHECKING

from flatwide.analysis import fields, gain

if TYPE_CHECKING:
    import pandas as pd


def equal_compute_gain(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Compute the gain of SAM over base runs with the same number of gradients, at every width that has such runs.

    These are base runs of twice its length where SAM takes two gradients a step, and of 1.1 times its length where SAM
    is active in a tenth of the steps.

    Args:
      runs: rows of the results table that differ in width, rho, seed and length (`num_epochs`, or `num_train_steps`).
      width, metric, choose_by: as for `gain.gain_by_width`.
    Returns: the table of `gain.gain_by_width`, with a column `length` of SAM's epochs or steps; no rows if there are no
      such runs.
    """
    import pandas as pd

    rows = fields.done(runs, [width, *fields.LENGTHS, "num_gradients", "steps"])
    gains = []
    for length in sorted({fields.length(row) for row in rows if fields.effective_rho(row) > 0}):
        name, steps = length
        sam = [row for row in rows if fields.length(row) == length and fields.effective_rho(row) > 0]
        # A diverged run may have ended before SAM was switched on or off.
        gradients = next((fields.gradients_a_step(row) for row in sam if row["status"] == "finished"), 2)
        as_many = (name, fields.length_of_as_many(gradients, steps))
        base = [row for row in rows if fields.length(row) == as_many and fields.effective_rho(row) == 0]
        shared = {row[width] for row in sam} & {row[width] for row in base}
        indices = [row["row_index"] for row in sam + base if row[width] in shared]
        if indices and steps:
            part = runs.iloc[indices].assign(**{name: steps for name in fields.LENGTHS if name in runs.columns})
            gains.append(gain.gain_by_width(part, width=width, metric=metric, choose_by=choose_by).assign(length=steps))
    return pd.concat(gains, ignore_index=True) if gains else pd.DataFrame()
