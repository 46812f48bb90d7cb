"""What the catalogue says of a measurement: plain data, read by tables, figures and reports."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

# Roles of a quantity, each shown in fewer outputs than the one before it.
HEADLINE = "headline"  # says most of its measurement: in sentences, and alone where there are many settings
DRAWN = "drawn"  # in the figures of its measurement
LISTED = "listed"  # in the table of a report
DETAIL = "detail"  # how exact or how large another one is: a column to look up, not to compare


class Quantity(NamedTuple):
    """One number that a measurement yields.

    name: of its column, in an entry without the measurement's: "trace", and "curvature.trace" elsewhere. A name that
      ends in "*" describes all columns that begin so, and "{}" in the title is the rest of theirs.
    symbol: as in docs/glossary.md.
    is_signed: zero is not an end of its scale, so two values are compared by their difference even if both are
      positive, and no axis is logarithmic.
    is_flatness: smaller is flatter, and the metric is drawn against it.
    compared_with: another quantity of the same measurement, whose value is drawn beside it.
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
        """Return the name of the measurement in that of the column."""
        return self.name.partition(".")[0]

    @property
    def label(self) -> str:
        """Return the title of an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


class ArrayFigure(NamedTuple):
    """A figure of the arrays of a measurement, of single runs.

    kind: how it is drawn: "density", "line", "plane", "contour" or "function".
    name: of its files.
    arrays: the arrays that it needs, in the order of its kind: grid and density; positions and losses; x, y and losses;
      the same, coordinates and offsets of what is marked; grid and outputs.
    title, caption: "{base}" in them is the base optimizer, "{runs}" which runs are shown.
    arms: whose arrays it shows.
    has_all_widths: whether it shows every width, or evenly chosen ones of many; otherwise the smallest and the largest.
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
    """One measurement.

    function: "module:attribute".
    section: the heading of reports and galleries that it belongs under, a key of SECTIONS.
    sentence: what it measures, as the caption of its figures begins.
    quantities: what it yields, in the order in which they are shown.
    figures: of its arrays.
    terms: words of its own, explained on the pages that use them.
    version: raised by one where a change of the definition changes numbers, so that old files are not taken for new.
    """

    function: str
    section: str
    sentence: str
    quantities: tuple[Quantity, ...]
    figures: tuple[ArrayFigure, ...] = ()
    terms: Mapping[str, str] = MappingProxyType({})
    version: int = 1


CURVATURE, UNIFORMITY, DYNAMICS = "Curvature of the minima", "Uniformity and stability", "Dynamics"
LANDSCAPE, OTHER = "Landscape", "Other measurements"
# In the order of a page: heading -> what its words mean.
SECTIONS = {
    CURVATURE: (
        "The Hessian is the matrix of second derivatives of the training loss by the weights. Its top eigenvalue "
        "says how strongly the loss curves in the sharpest direction, its trace is the sum over all directions; "
        "sharpness is how far the loss rises within a small distance. SAM is meant to end where they are small. "
        "They depend on how the weights are scaled, so compare them between runs of one network, and between widths "
        "with care."
    ),
    UNIFORMITY: (
        "The non-uniformity s_k says how much the Hessians of single training examples differ from their mean, as "
        "the k-th root of the top eigenvalue of mean(H_i^k) − mean(H_i)^k: zero where all examples curve the loss "
        "alike. A minimum is linearly stable if small distances from it do not grow on average as training goes on; "
        "the largest stable learning rate is that up to which an optimizer stays there. This is computed for the "
        "learning rate of the last step, which a schedule may have made small, and without momentum."
    ),
    DYNAMICS: (
        "How training moves: the norm of the gradient says how far a network is from a minimum, the smoothness "
        "constant β how fast the gradient can change, and the PL constant α how steep the loss is for its height. "
        "Together they bound how fast the loss can fall."
    ),
    LANDSCAPE: (
        "The training loss on lines and planes through trained weights. A barrier is how far it rises on the "
        "straight line from one minimum to the other; without one both lie in one basin. These are a few directions "
        "of very many."
    ),
    OTHER: "What else was measured, your own measurements among it.",
}
