"""What is measured on trained networks, in words: `<measurement>.<quantity>` -> a title, a unit, a section."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import fields
from flatwide.columns import RESULT_FIELDS

if TYPE_CHECKING:
    import pandas as pd

CURVATURE, UNIFORMITY, DYNAMICS = "Curvature of the minima", "Uniformity and stability", "Dynamics"
LANDSCAPE, OTHER = "Landscape", "Other measurements"
SECTIONS = (CURVATURE, UNIFORMITY, DYNAMICS, LANDSCAPE, OTHER)

_SECTION_OF = {
    "curvature": CURVATURE,
    "spectrum": CURVATURE,
    "sharpness": CURVATURE,
    "layers": CURVATURE,
    "robustness": CURVATURE,
    "moments": UNIFORMITY,
    "stability": UNIFORMITY,
    "gradient": DYNAMICS,
    "convergence": DYNAMICS,
    "smoothness": DYNAMICS,
    "activations": DYNAMICS,
    "function": DYNAMICS,
    "barrier": LANDSCAPE,
    "landscape": LANDSCAPE,
    "trajectory": LANDSCAPE,
}
_ROBUSTNESS = (("loss_rise", "rise of the loss", "loss"), ("metric_change", "change of the metric", ""))
_CURVE, _RATE = "loss / parameter²", "learning rate"


class Quantity(NamedTuple):
    """One number that is measured on a network.

    is_signed: zero is no end of its scale, so two are compared by their difference even where all are positive.
    """

    name: str  # its column
    title: str
    unit: str = ""
    is_signed: bool = False

    @property
    def measurement(self) -> str:
        """Name what measured it."""
        return self.name.partition(".")[0]

    @property
    def section(self) -> str:
        """Name the heading that it belongs under."""
        return _SECTION_OF.get(self.measurement, OTHER)

    @property
    def label(self) -> str:
        """Title an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


# In the order in which a reader asks for them; what stands first in a measurement is shown first.
_KNOWN = (
    Quantity("curvature.top_eigenvalue", "top eigenvalue of the Hessian", _CURVE),
    Quantity("curvature.trace", "trace of the Hessian", _CURVE),
    Quantity("curvature.frobenius_norm", "Frobenius norm of the Hessian", _CURVE),
    Quantity("curvature.smallest_eigenvalue", "smallest eigenvalue of the Hessian", _CURVE, is_signed=True),
    *(Quantity(f"curvature.eigenvalue_{k}", f"eigenvalue {k} of the Hessian", _CURVE) for k in range(2, 6)),
    Quantity("sharpness.worst", "worst-case sharpness", "loss"),
    Quantity("sharpness.average", "average-case sharpness", "loss", is_signed=True),
    Quantity("sharpness.sam", "sharpness along SAM's perturbation", "loss", is_signed=True),
    Quantity("sharpness.adaptive_worst", "adaptive worst-case sharpness", "loss"),
    Quantity("sharpness.m_worst", "worst-case sharpness of batches", "loss"),
    Quantity("layers.largest_top_eigenvalue", "largest top eigenvalue of a layer", _CURVE),
    Quantity("layers.largest_ascent_share", "largest share of a layer in SAM's perturbation"),
    Quantity("layers.largest_sharpness", "largest sharpness of a layer", "loss"),
    *(
        Quantity(
            f"robustness.noise_{size}_{name}", f"{words} with {size} % of noise in the weights", unit, is_signed=True
        )
        for name, words, unit in _ROBUSTNESS
        for size in (5, 10, 20)
    ),
    *(
        Quantity(
            f"robustness.rounded_{bits}_{kind}_{name}", f"{words} with {bits} bits, one spacing a {kind}", unit, True
        )
        for name, words, unit in _ROBUSTNESS
        for bits in (8, 4)
        for kind in ("tensor", "channel")
    ),
    Quantity("robustness.loss", "training loss, as measured", "loss"),
    Quantity("robustness.metric", "training metric, as measured", is_signed=True),
    Quantity("spectrum.negative_share", "share of negative eigenvalues", is_signed=True),
    Quantity("spectrum.positive_share", "share of positive eigenvalues", is_signed=True),
    *(Quantity(f"moments.s_{k}", f"non-uniformity s_{k}", _CURVE) for k in (2, 3, 4)),
    *(
        Quantity(f"moments.smallest_{k}", f"smallest over largest eigenvalue of non-uniformity {k}", is_signed=True)
        for k in (2, 3, 4)
    ),
    Quantity("stability.largest_stable_learning_rate", "largest stable learning rate", _RATE),
    Quantity("stability.growth_factor", "growth of squared distances a step"),
    Quantity("stability.largest_stable_rho", "largest stable ρ of unnormalized SAM"),
    Quantity("stability.condition_margin", "margin of the paper's condition", is_signed=True),
    Quantity("stability.condition_learning_rate", "learning rate that the paper's condition allows", _RATE),
    Quantity("stability.condition_value", "value of the paper's condition"),
    Quantity("stability.edge_of_stability", "top eigenvalue at the edge of stability", _CURVE),
    Quantity("stability.bound_top_eigenvalue", "bound of the paper's condition on the top eigenvalue", _CURVE),
    *(Quantity(f"stability.bound_s_{k}", f"bound of the paper's condition on s_{k}", _CURVE) for k in (2, 3, 4)),
    Quantity("convergence.rate", "rate at which the loss fell", "1 / step", is_signed=True),
    Quantity("convergence.bound_rate", "rate that the theorem promises", "1 / step"),
    Quantity("convergence.smoothness", "largest smoothness of an example", _CURVE),
    Quantity("convergence.pl_constant", "PL constant α at the end", _CURVE, is_signed=True),
    Quantity("convergence.loss_smoothness", "smoothness of the mean loss", _CURVE),
    Quantity("convergence.effective_rho", "ρ of unnormalized SAM with the same steps", is_signed=True),
    Quantity("convergence.largest_rho", "largest ρ that the theorem allows"),
    Quantity("convergence.best_learning_rate", "learning rate that the theorem would choose", _RATE),
    Quantity("convergence.best_rate", "rate that the theorem promises with it", "1 / step"),
    Quantity("convergence.rate_per_epoch", "rate at which the loss fell, by epochs", "1 / epoch", is_signed=True),
    Quantity("convergence.bend", "bend of the loss's decay", "1 / step²", is_signed=True),
    Quantity("smoothness.smoothness", "smoothness constant β", _CURVE),
    Quantity("smoothness.pl_constant", "PL constant α", _CURVE),
    Quantity("smoothness.distance", "length of a step", "parameter units"),
    Quantity("activations.stability", "stability of activations"),
    Quantity("gradient.gradient_norm", "norm of the gradient", "loss / parameter"),
    Quantity("gradient.train_loss", "training loss, as measured", "loss"),
    Quantity("barrier.barrier", "barrier to the network at ρ = 0", "loss", is_signed=True),
    Quantity("barrier.distance", "distance from the network at ρ = 0", "parameter units", is_signed=True),
    Quantity("landscape.mean_rise", "mean rise of the loss over the plane", "loss", is_signed=True),
    Quantity("landscape.largest_rise", "largest rise of the loss over the plane", "loss", is_signed=True),
    Quantity("function.total_variation", "total variation of the function", "output units"),
    Quantity("function.slope_total_variation", "total variation of the function's slope", "output / input units"),
    Quantity("function.num_kinks", "number of kinks of the function", is_signed=True),
    Quantity("function.distance", "distance from the initial weights", "parameter units"),
    Quantity("trajectory.length", "length of the path of training", "parameter units"),
    Quantity("trajectory.distance", "distance from the start of the path", "parameter units"),
    Quantity("trajectory.explained_1", "share of the first principal component"),
)
_BY_NAME = {one.name: one for one in _KNOWN}
_ORDER = {name: place for place, name in enumerate(_BY_NAME)}
# One of each measurement says what there is to say in a sentence, or where there are many settings.
_HEADLINES = ("curvature.top_eigenvalue", "sharpness.worst", "moments.s_2", "stability.largest_stable_learning_rate")
_HEADLINES += (
    "layers.largest_top_eigenvalue",
    "robustness.noise_10_loss_rise",
    "convergence.rate",
    "barrier.barrier",
    "landscape.mean_rise",
)
NUM_EXAMPLES = "num_examples"  # `<measurement>.num_examples`: on how many it was measured
# How exact a measurement is: columns to look up, not to compare.
_EXACTNESS = {"curvature.largest_residual", "sharpness.worst_gap", "spectrum.width"}
_EXACTNESS |= {f"curvature.{name}" for name in ("top_hidden_gap", "smallest_hidden_gap", "is_saddle")}
_EXACTNESS |= {f"convergence.{name}" for name in ("num_evaluations", "rate_low", "rate_high", "is_linear")}
_EXACTNESS |= {f"stability.{name}" for name in ("growth_low", "growth_high", "is_stable", "is_exact", "learning_rate")}
_EXACTNESS |= {"stability.rho", "stability.condition_is_met", "stability.top_eigenvalue"}
_EXACTNESS |= {"trajectory.num_networks", "trajectory.largest_offset", "barrier.position"}
_EXACTNESS |= {f"moments.residual_{k}" for k in (2, 3, 4)}


def quantity(name: str) -> Quantity:
    """Describe a column; one that is not known by its own words."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    measurement, _, own = name.partition(".")
    words = own.replace("_", " ").strip() or measurement
    ending = "" if words.startswith(measurement) else f" ({measurement})"
    return Quantity(name, words + ending, is_signed="margin" in own or ("eigenvalue" in own and "top" not in own))


def measured(runs: "pd.DataFrame") -> list[Quantity]:
    """List the quantities that some run of a results table has, by section; within one the known ones first."""
    return in_order(str(name) for name in runs.columns if _is_measured(str(name)) and _has_numbers(runs[name]))


def in_order(names: Iterable[str]) -> list[Quantity]:
    """Describe measured columns in the order in which they are shown, without those that say how exact others are."""
    found = [quantity(name) for name in names if name not in _EXACTNESS]
    order = {section: place for place, section in enumerate(SECTIONS)}
    return sorted(found, key=lambda one: (order[one.section], _ORDER.get(one.name, len(_ORDER))))


def headlines(found: Iterable[Quantity]) -> list[Quantity]:
    """Keep of each known measurement the one quantity that says most, and of others all."""
    by_measurement: dict[str, list[Quantity]] = {}
    for one in found:
        by_measurement.setdefault(one.measurement, []).append(one)
    kept = []
    for measurement, group in by_measurement.items():
        named = [one for one in group if one.name in _HEADLINES]
        first = [] if measurement == "spectrum" else group[:1]  # that one is a picture
        kept += named or (first if measurement in _SECTION_OF else group)
    return kept


def num_examples(runs: "pd.DataFrame", measurement: str) -> list[int]:
    """List on how many training examples a measurement was made: one number, unless runs differ."""
    name = f"{measurement}.{NUM_EXAMPLES}"
    return sorted({int(value) for value in runs[name].dropna()}) if name in runs.columns else []


def _is_measured(name: str) -> bool:
    first, dot, own = name.partition(".")
    return bool(dot) and own != NUM_EXAMPLES and first != fields.ASIDE and first not in RESULT_FIELDS


def _has_numbers(column: Any) -> bool:
    return column.dtype.kind in "iuf" and bool(column.notna().any())
