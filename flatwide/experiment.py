"""The pieces of one run, for files and notebooks of the user's own: `flatwide.experiment.build(config)`."""

from flatwide.runs.experiment import Experiment, build

__all__ = ["Experiment", "build"]
