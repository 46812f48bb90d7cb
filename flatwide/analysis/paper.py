"""The paper's own numbers, to lay over those of a study."""

from collections.abc import Collection, Sequence
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
    variants: tuple[str, ...] = ("normalized",)  # of SAM; beside its theory it does not say which


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
_ROUNDED = 0.25  # a printed size of one digit, and a network that the paper does not tell whole, are off by less

_WEIGHT_DECAY = {  # where a setting says nothing; its table 2
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
    """Read the accuracies of every rho of the paper's figures 8 to 11 and 19; rho 0 is SGD.

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
    found: Any = pd.read_csv(io.StringIO(text), dtype={"setting": str, "arm": str}, keep_default_na=True)
    words = [column for column in ("setting", "arm") if column in found.columns]
    found[words] = found[words].fillna("")
    numbers = [column for column in (*_NUMBERS, "rho", "value", "band", "epoch") if column in found.columns]
    found[numbers] = found[numbers].astype(float)
    settings = found["setting"] if "setting" in words else [""] * len(found)
    kept = [
        workload in (None, row) and setting in (None, own) for row, own in zip(found["workload"], settings, strict=True)
    ]
    return found[kept].reset_index(drop=True)


def beside(runs: "pd.DataFrame", *, metric: str = "test_metric", axes: Sequence[str] = ()) -> "pd.DataFrame":
    """Find what the paper has for the very sizes and settings of some runs, which differ in width, rho and seed only.

    Where it prints rounded sizes (SST-2, part-of-speech tags, molpcba, Breakout, ViT), a network of the same width and
    about the same size is the same, and the row has the size of ours.

    Args:
      metric: the column that is compared: for part-of-speech tags the best epoch and the last one have values of
        their own.
      axes: what the whole study varies besides width, rho and seed. The paper trained its plain setting again beside
        other weight decays, depths and sparse networks; those are the values of such a study.
    Returns: rows of `paper_values`, at most one a size; none for other data or models. Epochs and more may differ.
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
    """Select the values of the sizes and settings of some runs, with the sizes of ours."""
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
    # Figure 17 has sizes of its own, by depth, among those of the widths.
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
    """Whether a run has the network of a value."""
    if not workload.width:
        return value["num_params"] == run["num_params"]
    is_alike = abs(run["num_params"] / value["num_params"] - 1) < _ROUNDED
    return is_alike and value["width"] == run.get(workload.width)


def measured_values() -> "pd.DataFrame":
    """Read what the paper measured on its minima.

    The constants of its figure 21 are means of the last ten epochs, of a network whose optimizer it does not tell.

    Returns: one row a value: `workload`, `setting` ("output_scale=10", or ""), `num_params`, `loss`, `quantity` (the
      column that measures the same), `rho` (0 is SGD; NaN where the paper does not say), `value`, `band` (half of the
      printed one, NaN where there is none), `source`. The paper does not state whether its loss is summed or averaged
      over outputs, which decides the scale.
    """
    return _read("paper_measured.csv", None, None)


def measured_beside(runs: "pd.DataFrame", quantity: str) -> list[dict[str, Any]]:
    """Find what the paper measured at the very sizes of some runs, with its data, model and loss.

    Returns: rows of `measured_values`, with None for what is missing; none for others. Epochs, learning rate and more
      may differ.
    """
    columns = ["dataset", "model", "num_params", "loss", "sam_variant", "output_scale"]
    known = [row for row in fields.done(runs, columns) if _is_papers(row | {"rho": row["rho"] or 1.0})]
    shown = {(_named(row), _scale(row), row["num_params"], row.get("loss")) for row in known}
    return [
        row
        for row in fields.records(measured_values())
        if row["quantity"] == quantity and (row["workload"], row["setting"], row["num_params"], row["loss"]) in shown
    ]


def curve_values() -> "pd.DataFrame":
    """Read what the paper draws against epochs: the training loss of SAM in figure 6c, and the constants of figure 21.

    The loss is 2 to the power that is printed. The constants are means over 15 to 20 epochs, here at the middle one.
    The paper does not state rho, the learning rate or how the squared loss of the factorization is averaged.

    Returns: one row a value: `workload`, `num_params`, `loss`, `arm` ("sam"; "" where it does not say), `quantity` (the
      column of `metrics.csv`, or that which measures the same), `epoch`, `value`, `source`.
    """
    return _read("paper_curves.csv", None, None)


def curves_beside(runs: "pd.DataFrame", quantities: Collection[str]) -> list[dict[str, Any]]:
    """Find what the paper draws against epochs at the very sizes of some runs, its loss with a constant rate only.

    Args:
      quantities: those that are wanted.
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


def best_decay_beside(runs: "pd.DataFrame") -> list[dict[str, Any]]:
    """Find the paper's gains where base and SAM each have their best weight decay (figure 18), for the sizes of runs.

    Returns: rows of `paper_values`.
    """
    rows = fields.done(runs, ["dataset", "model", "num_params", "sam_variant", "label_noise"])
    shown = {(_named(row), row["num_params"]) for row in rows if _is_papers(row) and not row.get("label_noise")}
    values = fields.records(paper_values(setting="best_weight_decay"))
    return [row for row in values if (row["workload"], row["num_params"]) in shown]


def _named(run: dict[str, Any]) -> str:
    """Return the name of the workload of a run that the paper has."""
    return _WORKLOADS[str(run.get("dataset")), str(run.get("model"))].name


def _scale(run: dict[str, Any]) -> str:
    """Name the output scale of a run as the files do; empty for a plain network."""
    return f"output_scale={run['output_scale']:g}" if run.get("output_scale") else ""


def _is_papers(run: dict[str, Any]) -> bool:
    """Whether a run is SAM as the paper has it: base, data and network, ascent rule, settings in numbers."""
    variant, base = run.get("sam_variant"), run.get("base_optimizer")
    if any(isinstance(run.get(name), str) for name in ("label_noise", "weight_decay", "sparsity", "output_scale")):
        return False  # somebody's table may have words there
    workload = _WORKLOADS.get((str(run.get("dataset")), str(run.get("model"))))
    if workload is None or base not in (None, workload.base):
        return False
    return fields.effective_rho(run) > 0 and variant in (None, *workload.variants)


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
    return ", ".join(filter(None, [workload.setting, _scale(run)]))
