"""All figures of a table of runs: those of the gallery, and those of separately tuned arms and of data sizes."""

from typing import Any

from flatwide.analysis import table
from flatwide.figures.fair import tuned_figures
from flatwide.figures.gallery import GAIN, gallery
from flatwide.figures.pieces import Figure
from flatwide.figures.scaling import scaling_figures


def every_figure(split: table.Split, *, interactive: bool, **sources: Any) -> list[Figure]:
    """Draw every figure that a table has data for, those of separately tuned arms first.

    Args:
      sources: `curves`, `series`, `arrays` and `are_ours` of `gallery`.
    """
    drawn = tuned_figures(split, interactive=interactive, section=GAIN) if split.question.tune else []
    scaled = scaling_figures(split, interactive=interactive, section=GAIN)
    return [*drawn, *gallery(split, interactive=interactive, **sources), *scaled]
