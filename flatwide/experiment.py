"""The pieces of one run, for files and notebooks of the user's own: `flatwide.experiment.build(config)`."""

from flatwide.runs.build import build
from flatwide.runs.experiment import Experiment

__all__ = ["Experiment", "build"]
