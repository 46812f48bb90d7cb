"""The parts of one run, for a user's files and notebooks: `flatwide.experiment.build(config)`."""

from flatwide.runs.build import build
from flatwide.runs.experiment import Experiment

__all__ = ["Experiment", "build"]
