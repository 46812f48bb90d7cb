"""The paper's own numbers, to lay over those of a study."""

import csv
import math
from importlib import resources
from typing import TYPE_CHECKING, Any

from flatwide.analysis import fields

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("base", "sam", "gain", "gain_band", "best_rho")
_COLUMNS = ["workload", "setting", "num_params", "metric", "unit", *_NUMBERS, "source"]
_WORKLOADS = {  # dataset, model
    ("mnist", "MLP"): "mnist",
    ("cifar10", "ResNet18"): "cifar10",
    ("imagenet2012", "ResNet50"): "imagenet",
    ("teacher_student", "MLP"): "teacher_student",
}

_WEIGHT_DECAY = {  # where a setting says nothing; its table 2
    "mnist": 1e-4,
    "cifar10": 5e-4,
    "imagenet2012": 1e-4,
    "teacher_student": 0.0,
}


def paper_values(workload: str | None = None, *, setting: str | None = None) -> "pd.DataFrame":
    """Read the gains and best rhos of the paper's figures.

    Args:
      workload: mnist, cifar10, imagenet, teacher_student, sst2, pos, molpcba or breakout; None is all.
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
    return pd.DataFrame(rows, columns=_COLUMNS)


def beside(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Find what the paper has for the very sizes and settings of some runs, which differ in width, rho and seed only.

    Returns: rows of `paper_values`, at most one a size; none for other data or models. Epochs and more may differ.
    """
    import pandas as pd

    columns = ["dataset", "model", "num_params", "sam_variant", "label_noise", "weight_decay", "pruner", "sparsity"]
    rows = {row["num_params"]: row for row in fields.done(runs, columns) if _is_papers(row)}
    workloads = {(str(row.get("dataset")), str(row.get("model"))) for row in rows.values()}
    values = paper_values(_WORKLOADS.get(workloads.pop(), "none") if len(workloads) == 1 else "none")
    settings = {size: _setting(row) for size, row in rows.items()}
    for size, setting in settings.items():
        if setting == "" and not ((values["num_params"] == size) & (values["setting"] == "")).any():
            settings[size] = "depth"
    keys = zip(values["num_params"], values["setting"], strict=True)
    return pd.DataFrame(values[[settings.get(size) == setting for size, setting in keys]]) if len(values) else values


def measured_values() -> "pd.DataFrame":
    """Read what the paper measured on its minima.

    Returns: one row a value: `workload`, `num_params`, `loss`, `quantity` (the column that measures the same), `rho` (0
      is SGD; NaN where the paper does not say), `value`, `band` (half of the printed one, NaN where there is none),
      `source`. The paper does not state whether its loss is summed or averaged over outputs, which decides the scale.
    """
    import pandas as pd

    text = resources.files("flatwide.analysis").joinpath("paper_measured.csv").read_text()
    rows = [
        row
        | {name: float(row[name]) if row[name] else math.nan for name in ("rho", "value", "band")}
        | {"num_params": int(row["num_params"])}
        for row in csv.DictReader(text.splitlines())
    ]
    return pd.DataFrame(rows)


def measured_beside(runs: "pd.DataFrame", quantity: str) -> list[dict[str, Any]]:
    """Find what the paper measured at the very sizes of some runs, with its data, model and loss.

    Returns: rows of `measured_values`, with None for what is missing; none for others. Epochs, learning rate and more
      may differ.
    """
    columns = ["dataset", "model", "num_params", "loss", "sam_variant"]
    known = [row for row in fields.done(runs, columns) if _is_papers(row | {"rho": row["rho"] or 1.0})]
    places = {
        (_WORKLOADS.get((str(row.get("dataset")), str(row.get("model")))), row["num_params"], row.get("loss"))
        for row in known
    }
    rows = fields.records(measured_values())
    here = [row for row in rows if row["quantity"] == quantity]
    return [row for row in here if (row["workload"], row["num_params"], row["loss"]) in places]


def _is_papers(run: dict[str, Any]) -> bool:
    """Tell whether a run is SAM as the paper has it: around SGD, with a normalized ascent, and settings in numbers."""
    variant, base = run.get("sam_variant"), run.get("base_optimizer")
    if any(isinstance(run.get(name), str) for name in ("label_noise", "weight_decay", "sparsity")):
        return False  # somebody's table may have words there
    return fields.effective_rho(run) > 0 and variant in (None, "normalized") and base in (None, "sgd")


def _setting(run: dict[str, Any]) -> str:
    """Name the setting of a run as the file does."""
    if run.get("label_noise"):
        return f"label_noise={run['label_noise']:g}" + (
            f", sparsity={run['sparsity']:.2g}" if run.get("sparsity") else ""
        )
    if run.get("sparsity"):
        return f"pruner={run.get('pruner')}, sparsity={run['sparsity']:.2g}"
    decay, usual = run.get("weight_decay"), _WEIGHT_DECAY.get(str(run.get("dataset")))
    return "" if decay in (None, usual) else f"weight_decay={decay:.1f}" if decay == 0 else f"weight_decay={decay:g}"
