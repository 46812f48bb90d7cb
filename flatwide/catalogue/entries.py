"""The types of catalogue entries: plain data for tables, figures and reports."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

# Roles of a quantity, each shown in fewer outputs than the one before it.
HEADLINE = "headline"  # the main quantity of its measurement: in sentences, and alone if there are many settings
DRAWN = "drawn"  # in the figures of its measurement
LISTED = "listed"  # in the table of a report
DETAIL = "detail"  # the accuracy or context of another quantity: a column to look up, not to compare


class Quantity(NamedTuple):
    """One number that a measurement computes.

    name: of its column; in an entry without the measurement's, "trace", and elsewhere "curvature.trace". A name that
      ends in "*" describes all columns with this prefix, and "{}" in the title is the rest of their names.
    symbol: as in docs/glossary.md.
    is_signed: zero is not an end of its scale, so two values are compared by their difference even if both are
      positive, and no axis is logarithmic.
    is_flatness: smaller is flatter, and the metric is plotted against it.
    compared_with: another quantity of the same measurement, whose value is plotted with it.
    """

    name: str
    title: str
    unit: str = ""
    symbol: str = ""
    role: str = DRAWN
    is_signed: bool = False
    is_flatness: bool = False
    compared_with: str = ""

    @property
    def measurement(self) -> str:
        """Return the name of the measurement, the first part of the column's name."""
        return self.name.partition(".")[0]

    @property
    def label(self) -> str:
        """Return the title of an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


class ArrayFigure(NamedTuple):
    """A figure of the arrays of a measurement, of single runs.

    kind: "density", "line", "plane", "contour" or "function".
    name: of its files.
    arrays: the arrays that it needs, in the order of its kind: grid and density; positions and losses; x, y and losses;
      the same, coordinates and offsets of the marked points; grid and outputs.
    title, caption: "{base}" in them is the base optimizer, "{runs}" a sentence on which runs are shown.
    arms: the arms whose arrays it shows.
    has_all_widths: whether it shows every width, or evenly spaced ones if there are many; otherwise the smallest and
      the largest.
    has_all_seeds: whether it shows every seed; otherwise one at each width.
    """

    kind: str
    name: str
    arrays: tuple[str, ...]
    title: str
    caption: str
    arms: tuple[str, ...] = ("base", "sam")
    has_all_widths: bool = False
    has_all_seeds: bool = False


class Measurement(NamedTuple):
    """The entry of a measurement.

    section: its heading in reports and galleries, a key of SECTIONS.
    sentence: what it measures; the first sentence of the captions of its figures.
    quantities: its results, in the order in which they are shown.
    figures: of its arrays.
    terms: technical terms and their explanations, for the pages that use them.
    version: incremented when a change of the definition changes numbers, so that old files are measured again.
    num_param_arrays: arrays with an entry for each parameter in each of its files, for the estimate of disk space.
    function: "module:attribute", where it is not `flatwide.measurements.<name>:<name>`.
    """

    section: str
    sentence: str
    quantities: tuple[Quantity, ...]
    figures: tuple[ArrayFigure, ...] = ()
    terms: Mapping[str, str] = MappingProxyType({})
    version: int = 1
    num_param_arrays: int = 0
    function: str = ""


CURVATURE, UNIFORMITY, DYNAMICS = "Curvature of the minima", "Uniformity and stability", "Dynamics"
LANDSCAPE, OTHER = "Landscape", "Other measurements"
# In the order of a page: heading -> explanation of its terms.
SECTIONS = {
    CURVATURE: (
        "The Hessian is the matrix of second derivatives of the training loss by the weights. Its top eigenvalue is "
        "the curvature of the loss in the sharpest direction, its trace is the sum over all directions; "
        "sharpness is how far the loss rises within a small distance. SAM is designed to find minima where they are "
        "small. They depend on the scale of the weights, so compare them between runs of one network, and between "
        "widths with care."
    ),
    UNIFORMITY: (
        "The non-uniformity s_k measures how much the Hessians of single training examples differ from their mean, as "
        "the k-th root of the top eigenvalue of mean(H_i^k) − mean(H_i)^k: zero if all examples have the same "
        "Hessian. A minimum is linearly stable if small distances from it do not grow on average as training "
        "continues; the largest stable learning rate is the largest at which an optimizer stays there. This is "
        "computed for the learning rate of the last step, which a schedule may have made small, and without momentum."
    ),
    DYNAMICS: (
        "The dynamics of training: the norm of the gradient shows how far a network is from a minimum, the smoothness "
        "constant β how fast the gradient can change, and the PL constant α how steep the loss is relative to its "
        "height. Together they bound how fast the loss can fall."
    ),
    LANDSCAPE: (
        "The training loss on lines and planes through trained weights. A barrier is how far it rises on the "
        "straight line from one minimum to the other; without one both lie in the same basin. These are only a few of "
        "very many directions."
    ),
    OTHER: "Other measurements, including your own.",
}
