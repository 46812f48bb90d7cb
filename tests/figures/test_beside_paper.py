"""Every value of the paper in the package is drawn by a shipped study, next to the runs of its plan."""

import itertools
import math
from pathlib import Path

import pandas as pd
import pytest

from flatwide import paper
from flatwide.analysis import table
from flatwide.config.files import load_file
from flatwide.figures import gallery
from flatwide.figures.fair import tuned_figures
from flatwide.study.plan import expand

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / "configs" / "studies"
STUDIES = [  # those that repeat a figure of the paper
    *("mnist_width", "mnist_sparsity", "mnist_depth", "synthetic_width", "theory_generalization", "imagenet_width"),
    *("cifar10_width", "cifar10_label_noise", "cifar10_sparsity", "cifar10_weight_decay", "cifar10_depth"),
    *("cifar10_equal_compute", "cifar10_vit_width", "pos_width", "pos_early_stopping", "sst2_width", "molpcba_width"),
    *("atari_width", "linearized_regime", "theory_stability", "theory_smoothness_pl", "theory_convergence"),
    *("theory_convergence.py:mnist", "theory_convergence.py:cifar10"),
]
METRICS = {
    "teacher_student": "mean_squared_error",
    "two_layer_teacher": "mean_squared_error",
    "atari_breakout": "score",
}
METRICS |= {"ogbg_molpcba": "mean_average_precision"}
RESNET18 = {4: 44_622, 8: 176_402, 16: 701_466, 24: 1_575_202, 32: 2_797_610, 64: 11_173_962, 128: 44_662_922}
RESNET18 |= {256: 178_585_866}
RESNET50 = {16: 1_993_976, 32: 6_917_640, 48: 14_771_992, 64: 25_557_032, 80: 39_272_760}
PRINTED = {  # sizes that the paper rounds, by the field of its widths
    "LSTM": {32: 527_000, 64: 1_100_000, 128: 2_500_000, 256: 5_800_000, 384: 10_000_000, 512: 15_100_000},
    "TaggingTransformer": {128: 5_500_000, 256: 13_500_000, 384: 23_700_000, 512: 36_300_000, 640: 51_300_000},
    "GCN": {128: 200_000, 256: 700_000, 512: 2_700_000},
    "ActorCritic": {16: 400_000, 32: 1_700_000, 48: 3_800_000, 64: 6_700_000},
    "ViT": {32: 60_000, 64: 210_000, 128: 810_000, 256: 3_000_000, 512: 13_000_000, 1024: 51_000_000},
}


def size_of(run):
    """Return the number of parameters of a run's network, in closed form or as the paper prints it."""
    model = run["model"]
    if model in PRINTED:
        return PRINTED[model][run["num_filters" if model == "ActorCritic" else "hidden_size"]]
    if model == "ResNet18":
        deeper = {(1, 1, 1, 1): 4_903_242, (8, 8, 8, 8): 48_798_282}
        return deeper.get(tuple(run["num_blocks"] or ()), RESNET18[run["num_filters"]])
    if model == "ResNet50":
        return RESNET50[run["num_filters"]]
    if model == "VGG11":
        return 9_225_610
    ends = {
        "mnist": (784, 10),
        "teacher_student": (100, 1),
        "two_layer_teacher": (4, 1),
        "matrix_factorization": (6, 10),
    }
    first, last = ends[run["dataset"]]
    sizes = [first, *run["num_neurons"], last]
    if model == "TwoLayerFrozenHead":
        return first * sizes[1]
    return sum(a * b + (b if model == "MLP" else 0) for a, b in itertools.pairwise(sizes))


def table_of(study):
    """Return the results table of a study with few seeds and radii and arbitrary metrics."""
    config = load_file(str(CONFIGS / (study if ".py" in study else f"{study}.py")))
    axes = config["study"]["axes"]
    axes["seed"] = (0, 1) if config["study"]["tune"] else (0,)  # separate tuning leaves one seed out
    for name, most in {"rho": 3, "learning_rate": 2}.items():
        axes |= {name: axes[name][:most]} if name in axes else {}
    plan = expand(config)
    rows = []
    for number, planned in enumerate(plan.runs):
        run = {name: value for name, value in planned.config.items() if name != "measurements"}
        row = run | {"run": f"run-{number}", "status": "finished", "num_params": size_of(run)}
        row |= {"metric_name": METRICS.get(run["dataset"], "accuracy"), "train_loss": 0.5}
        row |= {"higher_is_better": row["metric_name"] != "mean_squared_error"}
        row |= dict.fromkeys(("test_metric", "test_metric_best"), 0.5 + 0.001 * number)
        for quantity in ("moments.s_2", "curvature.top_eigenvalue", "activations.stability"):
            if quantity.partition(".")[0] in planned.config["measurements"]:
                row[quantity] = 1.0 + run["seed"]
        if "smoothness" in planned.config["measurements"]:
            row |= {"smoothness.smoothness": 1.0 + run["seed"], "smoothness.pl_constant": 1.0}
        rows.append(row)
    return pd.DataFrame(rows), plan.settings


def figures_of(study):
    runs, settings = table_of(study)
    curve = [{"epoch": 1.0, "running_train_loss": 1.0, "test_metric": 0.5}]
    names = ("smoothness", "pl_constant")
    series = [
        {"measurement": "smoothness", "quantity": name, "epoch": float(epoch), "value": 1.0}
        for epoch in (1, 2)
        for name in names
    ]
    options = {"curves": {}, "series": {}}
    if study.startswith("theory_convergence"):
        options["curves"] = dict.fromkeys(runs["run"], curve)
    if study == "theory_smoothness_pl":
        options["series"] = dict.fromkeys(runs["run"], series)
    split = table.split(runs, metric=settings.metric, tune=settings.tune or ())
    figures = gallery.gallery(split, **options)
    return [*figures, *tuned_figures(split)] if settings.tune else figures


@pytest.fixture(scope="module")
def drawn():
    """List the hollow points of every study's figures: figure, horizontal position, value, and the ends of its band."""
    points = set()
    for study in STUDIES:
        for figure in figures_of(study):
            for name, rows in figure.chart.datasets.items():
                if name.endswith("_printed"):
                    size = int(name.split("_")[-2])
                    (column,) = {key for row in rows for key in row} - {"epoch", "shade"}
                    points |= {(column, size, row["epoch"], rounded(row[column])) for row in rows}
                elif "hollow" in name:
                    stem = figure.name.rstrip("0123456789").rstrip("_")
                    for row in rows:
                        points.add((stem, row["position"], rounded(row["value"]), rounded(row.get("low"))))
                        points.add((stem, rounded(row["value"])))
    return points


def rounded(value):
    return None if value is None else float(f"{value:.5g}")


def test_every_gain_mean_band_and_best_rho_of_the_paper_is_drawn(drawn):
    missed = []
    for row in paper.paper_values().to_dict("records"):
        factor = 100 if row["unit"] == "fraction" else 1
        wanted = [("best_rho_by_width", row["num_params"], rounded(row["best_rho"]), None)]
        for column, figures in (
            ("gain", ("gain_by_width", "gain_at_equal_compute", "tuned_gain")),
            ("base", ("metric_by_width", "metric_at_equal_compute")),
            ("sam", ("metric_by_width", "metric_at_equal_compute")),
        ):
            value, band = factor * row[column], factor * row.get(f"{column}_band", math.nan)
            low = None if math.isnan(band) else rounded(value - band)
            points = {(figure, row["num_params"], rounded(value), low) for figure in figures}
            if not math.isnan(value) and not points & drawn:
                missed.append((row["workload"], row["setting"], row["num_params"], column))
        if not math.isnan(row["best_rho"]) and not set(wanted) & drawn:
            missed.append((row["workload"], row["setting"], row["num_params"], "best_rho"))
    assert missed == []


def of_rho(row):
    return {("metric_by_rho", row["rho"], rounded(100 * row["value"]), None)}


def of_quantity(row):
    """Return the points in the figures of its measurement, or with several settings in those of the quantity itself."""
    stems = (row["quantity"].partition(".")[0], row["quantity"].replace(".", "_"))
    return {(f"{stem}_by_{axis}", rounded(row["value"])) for stem in stems for axis in ("width", "rho")}


def of_curve(row):
    return {(row["quantity"].replace(".", "_"), row["num_params"], row["epoch"], rounded(row["value"]))}


@pytest.mark.parametrize(
    ("values", "points"),
    [(paper.rho_values, of_rho), (paper.measured_values, of_quantity), (paper.curve_values, of_curve)],
)
def test_every_value_of_the_paper_is_drawn(drawn, values, points):
    assert [row for row in values().to_dict("records") if not points(row) & drawn] == []
