"""All figures that a results table has data for, each with a caption for a reader who has not read the paper."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import gain, table
from flatwide.figures.gain import gain_against_width, metric_against_width
from flatwide.figures.tables import Table

if TYPE_CHECKING:
    import pandas as pd


class Figure(NamedTuple):
    """A chart, and what a page or a folder needs to show it."""

    name: str  # stem of its files, and the prefix of all names inside the chart
    title: str
    caption: str
    chart: Any
    data: Table  # what it shows, in the units of the files
    section: str  # heading that it belongs under


def gallery(
    runs: "pd.DataFrame",
    *,
    metric: str = "test_metric",
    choose_by: str | None = None,
    curves: Mapping[str, list[dict[str, Any]]] | None = None,
    interactive: bool = False,
) -> list[Figure]:
    """Draw every figure that a results table has data for.

    Args:
      runs: the results table.
      metric: the column that is compared.
      choose_by: the column that rho is chosen by; None is the validation metric where every run has one, else `metric`.
      curves: name of a run -> the rows of its `metrics.csv`.
      interactive: add what a page can do and a file cannot: tooltips, and a legend whose entries hide their series.
    """
    found = []
    for part in table.parts(runs):
        pairs = gain.pair_seeds(part.runs, metric=metric, choose_by=choose_by)
        found += [
            Figure("gain_by_width", "Gain of SAM", "Gain.", gain_against_width(pairs), pairs, "What SAM buys"),
            Figure("metric_by_width", "SGD and SAM", "Metric.", metric_against_width(pairs), pairs, "What SAM buys"),
        ]
    return found
