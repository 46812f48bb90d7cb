"""All figures of a table of runs: those of the gallery, and those of separately tuned arms and of data sizes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flatwide.figures.fair import tuned_figures
from flatwide.figures.gallery import GAIN, gallery
from flatwide.figures.pieces import Figure
from flatwide.figures.scaling import scaling_figures

if TYPE_CHECKING:
    import pandas as pd


def every_figure(
    runs: "pd.DataFrame",
    *,
    metric: str,
    choose_by: str | None,
    tune: Sequence[str],
    interactive: bool,
    **sources: Any,
) -> list[Figure]:
    """Draw every figure that a table has data for, those of separately tuned arms first.

    Args:
      tune: fields that base and SAM each choose for themselves; empty for none.
      sources: `curves`, `series`, `arrays` and `are_ours` of `gallery`, as the others.
    """
    options: Mapping[str, Any] = {"metric": metric, "choose_by": choose_by, "interactive": interactive}
    drawn = tuned_figures(runs, **options, tune=tune, section=GAIN) if tune else []
    return [*drawn, *gallery(runs, **options, **sources), *scaling_figures(runs, **options, section=GAIN)]
