"""The paper's own numbers, to lay over those of a study."""

import csv
import math
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("base", "sam", "gain", "gain_band", "best_rho")


def paper_values(workload: str | None = None, *, setting: str | None = None) -> "pd.DataFrame":
    """Read the gains and best rhos of the paper's figures.

    Args:
      workload: such as "mnist", "cifar10" or "imagenet"; None is all.
      setting: "" for the plain study of widths, else such as "label_noise=0.5"; None is all.
    Returns: one row a size: `workload`, `setting`, `num_params` (of the dense network), `metric`, `unit`, `base`,
      `sam`, `gain`, `gain_band` (half of the printed band), `best_rho` (NaN where the figures do not tell), `source`.
      Accuracies are fractions. The values were read off vector graphics, to three or four digits.
    """
    import pandas as pd

    text = resources.files("flatwide.analysis").joinpath("paper.csv").read_text()
    rows = [
        row
        | {name: float(row[name]) if row[name] else math.nan for name in _NUMBERS}
        | {"num_params": int(row["num_params"])}
        for row in csv.DictReader(text.splitlines())
        if workload in (None, row["workload"]) and setting in (None, row["setting"])
    ]
    return pd.DataFrame(rows, columns=None if rows else ["workload", "setting", "num_params", *_NUMBERS, "source"])
