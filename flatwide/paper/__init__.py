"""The numbers of the paper, for comparison with those of a study."""

from collections.abc import Collection, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import fields

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("base", "sam", "gain", "base_band", "sam_band", "gain_band", "best_rho", "width")
_COLUMNS = ["workload", "setting", "num_params", "width", "metric", "unit", *_NUMBERS[:-1], "source"]


class _Workload(NamedTuple):
    """A workload of the paper: `setting` prefixes the settings of one network and its widths."""

    name: str
    base: str
    setting: str = ""
    width: str = ""  # the field of its widths, where the printed sizes are rounded
    variants: tuple[str, ...] = ("normalized",)  # of SAM; only its theory section states which


_EITHER = ("normalized", "unnormalized")
_WORKLOADS = {  # dataset, model
    ("mnist", "MLP"): _Workload("mnist", "sgd"),
    ("cifar10", "ResNet18"): _Workload("cifar10", "sgd"),
    ("cifar10", "ViT"): _Workload("cifar10", "sgd", setting="model=ViT", width="hidden_size"),
    ("cifar10", "VGG11"): _Workload("cifar10", "sgd", setting="model=VGG11"),
    ("imagenet2012", "ResNet50"): _Workload("imagenet", "sgd"),
    ("teacher_student", "MLP"): _Workload("teacher_student", "sgd"),
    ("matrix_factorization", "LinearNetwork"): _Workload("matrix_factorization", "sgd", variants=_EITHER),
    ("two_layer_teacher", "TwoLayerFrozenHead"): _Workload("two_layer_teacher", "sgd", variants=_EITHER),
    ("sst2", "LSTM"): _Workload("sst2", "sgd", width="hidden_size"),
    ("conllu", "TaggingTransformer"): _Workload("pos", "adamw", width="hidden_size"),
    ("ogbg_molpcba", "GCN"): _Workload("molpcba", "adam", width="hidden_size"),
    ("atari_breakout", "ActorCritic"): _Workload("breakout", "adam", width="num_filters"),
}
_ROUNDED = 0.25  # more than the error of a one-digit size, and of a network that the paper does not fully describe

_WEIGHT_DECAY = {  # where a setting does not state it; table 2 of the paper
    "mnist": 1e-4,
    "cifar10": 5e-4,
    "model=ViT": 1e-4,
    "model=VGG11": 0.0,
    "imagenet": 1e-4,
    "teacher_student": 0.0,
    "matrix_factorization": 0.0,
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
      workload: mnist, cifar10, imagenet, teacher_student, sst2, pos, molpcba, breakout or two_layer_teacher (for which
        the paper has only SAM); None is all.
      setting: "" for the plain study of widths, or for example "label_noise=0.5"; None is all.
    Returns: one row for each size: `workload`, `setting`, `num_params` (of the dense network), `width` (where sizes are
      rounded: the field that determines them), `metric`, `unit`, `base`, `sam`, `gain`, `base_band`, `sam_band` and
      `gain_band` (half-widths of the printed bands), `best_rho` (all NaN where not in the figures), `source`.
      Accuracies are fractions. The values were read off vector graphics, to three or four digits.
    """
    values: Any = _read("by_width.csv", workload, setting)
    return values[_COLUMNS]


def rho_values(workload: str | None = None) -> "pd.DataFrame":
    """Read the accuracies of every rho of the paper's figures 8 to 11 and 19; rho 0 is SGD.

    Args:
      workload: mnist, cifar10, imagenet or sst2; None is all.
    Returns: rows of `workload`, `setting`, `num_params`, `width`, `metric`, `rho`, `value`, `source`.
    """
    return _read("by_rho.csv", workload, None)


def _read(name: str, workload: str | None, setting: str | None) -> "pd.DataFrame":
    """Read a file of the paper's numbers, with NaN where it has no value."""
    import io

    import pandas as pd

    text = resources.files("flatwide.paper").joinpath(name).read_text()
    values: Any = pd.read_csv(io.StringIO(text), dtype={"setting": str, "arm": str}, keep_default_na=True)
    words = [column for column in ("setting", "arm") if column in values.columns]
    values[words] = values[words].fillna("")
    numbers = [column for column in (*_NUMBERS, "rho", "value", "band", "epoch") if column in values.columns]
    values[numbers] = values[numbers].astype(float)
    settings = values["setting"] if "setting" in words else [""] * len(values)
    is_wanted = [
        workload in (None, row) and setting in (None, row_setting)
        for row, row_setting in zip(values["workload"], settings, strict=True)
    ]
    return values[is_wanted].reset_index(drop=True)


def beside(runs: "pd.DataFrame", *, metric: str = "test_metric", axes: Sequence[str] = ()) -> "pd.DataFrame":
    """Find the paper's values at exactly the sizes and settings of some runs, which differ only in width, rho and seed.

    Where it prints rounded sizes (SST-2, part-of-speech tags, molpcba, Breakout, ViT), networks of the same width and
    about the same size match, and the row has the size of the run.

    Args:
      metric: the column that is compared: for part-of-speech tags, the best epoch and the last one have separate
        values.
      axes: the fields that the whole study varies besides width, rho and seed. The paper repeated its plain setting
        together with other weight decays, depths and sparse networks; such a study gets those values.
    Returns: rows of `paper_values`, at most one for each size; none for other data or models. Epochs and other fields
      may differ.
    """
    return _beside(runs, paper_values(), metric=metric, axes=axes)


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


def _beside(runs: "pd.DataFrame", values: Any, *, metric: str, axes: Sequence[str] = ()) -> "pd.DataFrame":
    """Select the values for the sizes and settings of some runs, with the sizes of these runs."""
    import pandas as pd

    columns = ["dataset", "model", "num_params", "sam_variant", "label_noise", "weight_decay", "pruner", "sparsity"]
    columns += ["output_scale", "hidden_size", "num_filters"]
    rows = {row["num_params"]: row for row in fields.done(runs, columns) if _is_papers(row)}
    pairs = {(str(row.get("dataset")), str(row.get("model"))) for row in rows.values()}
    if len(pairs) != 1:
        return values[:0]
    workload = _WORKLOADS[pairs.pop()]
    here = fields.records(values[values["workload"] == workload.name])
    printed: dict[int, dict[str, list[dict[str, Any]]]] = {size: {} for size in rows}
    for size, row in rows.items():
        for value in (value for value in here if _is_size(value, row, workload)):
            printed[size].setdefault(value["setting"], []).append(value | {"num_params": size})
    # The sizes of figure 17, by depth, lie among those of the widths.
    is_by_depth = any("depth" in settings and "" not in settings for settings in printed.values())
    pruners = {str(row["pruner"]) for row in rows.values() if row.get("sparsity") and "pruner" in row}
    selected = []
    for size, row in rows.items():
        names = [wanted := _setting(row, workload, metric)]
        if wanted == "":
            again = ["depth"] if is_by_depth else []
            again += [f"pruner={pruner}, sparsity=0" for pruner in pruners if len(pruners) == 1]
            decay = row.get("weight_decay") if "weight_decay" in axes else None
            names = [*again, *([] if decay is None else [f"weight_decay={decay:g}"]), ""]
        chosen = next((name for name in names if name in printed[size]), None)
        selected += [] if chosen is None else printed[size][chosen]
    return pd.DataFrame(selected, columns=values.columns)


def _is_size(value: dict[str, Any], run: dict[str, Any], workload: _Workload) -> bool:
    """Whether the network of a run is that of a value."""
    if not workload.width:
        return value["num_params"] == run["num_params"]
    is_alike = abs(run["num_params"] / value["num_params"] - 1) < _ROUNDED
    return is_alike and value["width"] == run.get(workload.width)


def measured_values() -> "pd.DataFrame":
    """Read the paper's measurements of its minima.

    The constants of its figure 21 are means over the last ten epochs, of a network whose optimizer it does not state.

    Returns: one row for each value: `workload`, `setting` ("output_scale=10", or ""), `num_params`, `loss`, `quantity`
      (the column that measures the same), `rho` (0 is SGD; NaN where the paper does not state it), `value`, `band`
      (half-width of the printed one, NaN where there is none), `source`. The paper does not state whether its loss is
      summed or averaged over outputs, which determines the scale.
    """
    return _read("measured.csv", None, None)


def measured_beside(runs: "pd.DataFrame", quantity: str) -> list[dict[str, Any]]:
    """Find the paper's measurements at exactly the sizes of some runs, with its data, model and loss.

    Returns: rows of `measured_values`, with None for missing values; no rows for other runs. Epochs, learning rate and
      other fields may differ.
    """
    columns = ["dataset", "model", "num_params", "loss", "sam_variant", "output_scale"]
    of_paper = [row for row in fields.done(runs, columns) if _is_papers(row | {"rho": row["rho"] or 1.0})]
    shown = {(_named(row), _scale(row), row["num_params"], row.get("loss")) for row in of_paper}
    return [
        row
        for row in fields.records(measured_values())
        if row["quantity"] == quantity and (row["workload"], row["setting"], row["num_params"], row["loss"]) in shown
    ]


def curve_values() -> "pd.DataFrame":
    """Read the paper's curves over epochs: the training loss of SAM in figure 6c, and the constants of figure 21.

    The loss is 2 to the printed power. The constants are means over 15 to 20 epochs, here at the middle one. The paper
    does not state rho, the learning rate or how the squared loss of the factorization is averaged.

    Returns: one row for each value: `workload`, `num_params`, `loss`, `arm` ("sam"; "" where not stated), `quantity`
      (the column of `metrics.csv`, or the one that measures the same), `epoch`, `value`, `source`.
    """
    return _read("curves.csv", None, None)


def curves_beside(runs: "pd.DataFrame", quantities: Collection[str]) -> list[dict[str, Any]]:
    """Find the paper's curves over epochs at exactly the sizes of some runs; its loss only for a constant rate.

    Args:
      quantities: those to return.
    Returns: rows of `curve_values`; none for other data, models or losses, or where labels are noisy or weights pruned.
    """
    columns = ["dataset", "model", "num_params", "loss", "lr_scheduler", "sam_variant", "label_noise", "sparsity"]
    shown: dict[tuple[Any, ...], bool] = {}  # -> whether the learning rate is constant
    for row in fields.done(runs, columns):
        is_plain = not row.get("label_noise") and not row.get("sparsity")
        if is_plain and _is_papers(row | {"rho": row["rho"] or 1.0}):
            shown[_named(row), row["num_params"], row.get("loss")] = row.get("lr_scheduler") == "constant"
    return [
        row
        for row in fields.records(curve_values())
        if row["quantity"] in quantities
        and (is_constant := shown.get((row["workload"], row["num_params"], row["loss"]))) is not None
        and (is_constant or row["quantity"] != "running_train_loss")
    ]


def best_weight_decay_beside(runs: "pd.DataFrame") -> list[dict[str, Any]]:
    """Find the paper's gains with the best weight decay for base and SAM each (figure 18), at the sizes of some runs.

    Returns: rows of `paper_values`.
    """
    rows = fields.done(runs, ["dataset", "model", "num_params", "sam_variant", "label_noise"])
    shown = {(_named(row), row["num_params"]) for row in rows if _is_papers(row) and not row.get("label_noise")}
    values = fields.records(paper_values(setting="best_weight_decay"))
    return [row for row in values if (row["workload"], row["num_params"]) in shown]


def _named(run: dict[str, Any]) -> str:
    """Return the name of the paper's workload of a run."""
    return _WORKLOADS[str(run.get("dataset")), str(run.get("model"))].name


def _scale(run: dict[str, Any]) -> str:
    """Return the output scale of a run as written in the files; empty for a plain network."""
    return f"output_scale={run['output_scale']:g}" if run.get("output_scale") else ""


def _is_papers(run: dict[str, Any]) -> bool:
    """Whether a run is SAM as in the paper: base, data and network, ascent rule, numeric settings."""
    variant, base = run.get("sam_variant"), run.get("base_optimizer")
    if any(isinstance(run.get(name), str) for name in ("label_noise", "weight_decay", "sparsity", "output_scale")):
        return False  # a user's table may have words there
    workload = _WORKLOADS.get((str(run.get("dataset")), str(run.get("model"))))
    if workload is None or base not in (None, workload.base):
        return False
    return fields.effective_rho(run) > 0 and variant in (None, *workload.variants)


def _setting(run: dict[str, Any], workload: _Workload, metric: str) -> str:
    """Return the setting of a run as written in the file."""
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
    return ", ".join(filter(None, [workload.setting, _scale(run)]))
