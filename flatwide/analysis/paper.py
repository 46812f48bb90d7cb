"""The paper's own numbers, to lay over those of a study."""

import csv
import math
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import fields

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("base", "sam", "gain", "base_band", "sam_band", "gain_band", "best_rho", "width")
_COLUMNS = ["workload", "setting", "num_params", "width", "metric", "unit", *_NUMBERS[:-1], "source"]


class _Workload(NamedTuple):
    """What the paper trained under a name: the settings of one network and its widths begin with `setting`."""

    name: str
    base: str
    setting: str = ""
    width: str = ""  # the field of its widths, where the sizes that it prints are rounded


_WORKLOADS = {  # dataset, model
    ("mnist", "MLP"): _Workload("mnist", "sgd"),
    ("cifar10", "ResNet18"): _Workload("cifar10", "sgd"),
    ("cifar10", "ViT"): _Workload("cifar10", "sgd", setting="model=ViT", width="hidden_size"),
    ("imagenet2012", "ResNet50"): _Workload("imagenet", "sgd"),
    ("teacher_student", "MLP"): _Workload("teacher_student", "sgd"),
    ("two_layer_teacher", "TwoLayerFrozenHead"): _Workload("two_layer_teacher", "sgd"),
    ("sst2", "LSTM"): _Workload("sst2", "sgd", width="hidden_size"),
    ("conllu", "TaggingTransformer"): _Workload("pos", "adamw", width="hidden_size"),
    ("ogbg_molpcba", "GCN"): _Workload("molpcba", "adam", width="hidden_size"),
    ("atari_breakout", "ActorCritic"): _Workload("breakout", "adam", width="num_filters"),
}
_ROUNDED = 0.25  # a printed size of one digit, and a network that the paper does not tell whole, are off by less

_WEIGHT_DECAY = {  # where a setting says nothing; its table 2
    "mnist": 1e-4,
    "cifar10": 5e-4,
    "model=ViT": 1e-4,
    "imagenet": 1e-4,
    "teacher_student": 0.0,
    "two_layer_teacher": 0.0,
    "sst2": 3e-6,
    "pos": 0.1,
    "molpcba": 0.0,
    "breakout": 0.0,
}
_BEST_EPOCH = ("test_metric_best", "test_metric_at_best_validation")


def paper_values(workload: str | None = None, *, setting: str | None = None) -> "pd.DataFrame":
    """Read the gains and best rhos of the paper's figures.

    Args:
      workload: mnist, cifar10, imagenet, teacher_student, sst2, pos, molpcba, breakout or two_layer_teacher (of which
        the paper has SAM alone); None is all.
      setting: "" for the plain study of widths, else such as "label_noise=0.5"; None is all.
    Returns: one row a size: `workload`, `setting`, `num_params` (of the dense network), `width` (where sizes are
      rounded: the field that makes them), `metric`, `unit`, `base`, `sam`, `gain`, `base_band`, `sam_band` and
      `gain_band` (halves of the printed bands), `best_rho` (all NaN where the figures do not tell), `source`.
      Accuracies are fractions. The values were read off vector graphics, to three or four digits.
    """
    found: Any = _read("paper.csv", workload, setting)
    return found[_COLUMNS]


def rho_values(workload: str | None = None) -> "pd.DataFrame":
    """Read the accuracies of every rho of the paper's figures 8 to 11; rho 0 is SGD.

    Args:
      workload: mnist, cifar10, imagenet or sst2; None is all.
    Returns: one row a size and rho: `workload`, `setting`, `num_params`, `width`, `metric`, `rho`, `value`, `source`.
    """
    return _read("paper_by_rho.csv", workload, None)


def _read(name: str, workload: str | None, setting: str | None) -> "pd.DataFrame":
    """Read a file of the paper's numbers, with NaN where it has none."""
    import io

    import pandas as pd

    text = resources.files("flatwide.analysis").joinpath(name).read_text()
    found: Any = pd.read_csv(io.StringIO(text), dtype={"setting": str}, keep_default_na=True)
    found["setting"] = found["setting"].fillna("")
    numbers = [column for column in (*_NUMBERS, "rho", "value") if column in found.columns]
    found[numbers] = found[numbers].astype(float)
    kept = [
        workload in (None, row) and setting in (None, own)
        for row, own in zip(found["workload"], found["setting"], strict=True)
    ]
    return found[kept].reset_index(drop=True)


def beside(runs: "pd.DataFrame", *, metric: str = "test_metric") -> "pd.DataFrame":
    """Find what the paper has for the very sizes and settings of some runs, which differ in width, rho and seed only.

    Where it prints rounded sizes (SST-2, part-of-speech tags, molpcba, Breakout, ViT), a network of the same width and
    about the same size is the same, and the row has the size of ours.

    Args:
      metric: the column that is compared: for part-of-speech tags the best epoch and the last one have values of
        their own.
    Returns: rows of `paper_values`, at most one a size; none for other data or models. Epochs and more may differ.
    """
    return _beside(runs, paper_values(), metric=metric)


def rho_beside(runs: "pd.DataFrame", *, metric: str = "test_metric") -> "pd.DataFrame":
    """Find the paper's accuracies by rho for the sizes of some runs, as `beside` does.

    Returns: rows of `rho_values`.
    """
    return _beside(runs, rho_values(), metric=metric)


def equal_compute_beside(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Find the paper's gains over SGD of twice the length (figure 20) for the sizes of some runs.

    Returns: rows of `paper_values`, whose `base` is that of the longer runs.
    """
    plain = {(row["workload"], row["num_params"]) for row in fields.records(beside(runs)) if row["setting"] == ""}
    values: Any = paper_values(setting="equal_compute")
    return values[[key in plain for key in zip(values["workload"], values["num_params"], strict=True)]]


def _beside(runs: "pd.DataFrame", values: Any, *, metric: str) -> "pd.DataFrame":
    """Select the values of the sizes and settings of some runs, with the sizes of ours."""
    import pandas as pd

    columns = ["dataset", "model", "num_params", "sam_variant", "label_noise", "weight_decay", "pruner", "sparsity"]
    known = [row for row in fields.done(runs, [*columns, "hidden_size", "num_filters"]) if _is_papers(row)]
    rows = {row["num_params"]: row for row in known}
    pairs = {(str(row.get("dataset")), str(row.get("model"))) for row in rows.values()}
    if len(pairs) != 1:
        return values[:0]
    workload = _WORKLOADS[pairs.pop()]
    here = fields.records(values[values["workload"] == workload.name])
    found = []
    for size, row in rows.items():
        wanted = _setting(row, workload, metric)
        # Figure 17 has sizes of its own, by depth, among those of the widths.
        for setting in (wanted, "depth") if wanted == "" else (wanted,):
            same = [one for one in here if one["setting"] == setting and _is_size(one, row, workload)]
            if same:
                found += [one | {"num_params": size} for one in same]
                break
    return pd.DataFrame(found, columns=values.columns)


def _is_size(value: dict[str, Any], run: dict[str, Any], workload: _Workload) -> bool:
    """Whether a run has the network of a value."""
    if not workload.width:
        return value["num_params"] == run["num_params"]
    is_alike = abs(run["num_params"] / value["num_params"] - 1) < _ROUNDED
    return is_alike and value["width"] == run.get(workload.width)


def measured_values() -> "pd.DataFrame":
    """Read what the paper measured on its minima.

    The constants of its figure 21 are means of the last ten epochs, of a network whose optimizer it does not tell.

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
        (_WORKLOADS[str(row.get("dataset")), str(row.get("model"))].name, row["num_params"], row.get("loss"))
        for row in known
    }
    rows = fields.records(measured_values())
    here = [row for row in rows if row["quantity"] == quantity]
    return [row for row in here if (row["workload"], row["num_params"], row["loss"]) in places]


def _is_papers(run: dict[str, Any]) -> bool:
    """Whether a run is SAM as the paper has it: base, data and network, a normalized ascent, settings in numbers."""
    variant, base = run.get("sam_variant"), run.get("base_optimizer")
    if any(isinstance(run.get(name), str) for name in ("label_noise", "weight_decay", "sparsity")):
        return False  # somebody's table may have words there
    workload = _WORKLOADS.get((str(run.get("dataset")), str(run.get("model"))))
    if workload is None or base not in (None, workload.base):
        return False
    return fields.effective_rho(run) > 0 and variant in (None, "normalized")


def _setting(run: dict[str, Any], workload: _Workload, metric: str) -> str:
    """Name the setting of a run as the file does."""
    if run.get("label_noise"):
        return f"label_noise={run['label_noise']:g}" + (
            f", sparsity={run['sparsity']:.2g}" if run.get("sparsity") else ""
        )
    if run.get("sparsity"):
        return f"pruner={run.get('pruner')}, sparsity={run['sparsity']:.2g}"
    decay, usual = run.get("weight_decay"), _WEIGHT_DECAY[workload.setting or workload.name]
    if decay not in (None, usual):
        return f"weight_decay={decay:.1f}" if decay == 0 else f"weight_decay={decay:g}"
    if workload.name == "pos" and metric not in _BEST_EPOCH:
        return "last_step"
    return workload.setting
