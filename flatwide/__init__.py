"""flatwide: how does sharpness-aware minimization depend on overparameterization?

    flatwide.run(config, workdir)   train one run, or finish it
    flatwide.load(workdir)          the table of all its runs, a pandas DataFrame
    flatwide.load_measurements(workdir)   what was measured on its networks, one row a value
    flatwide.load_run(path)         the network of one run: params, stats, apply

`flatwide.sam` is for people with a training loop of their own; `flatwide.experiment.build` gives the pieces of a run.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

    from flatwide.runner import run as run
    from flatwide.runs.load import load_run as load_run

_WHERE = {"run": "flatwide.runner", "load_run": "flatwide.runs.load"}


def load(workdir: str | os.PathLike) -> "pandas.DataFrame":
    """Load the results table of a work directory: one row a run, every config and result field, and measurements."""
    from flatwide.runs.table import collect

    return collect(os.fspath(workdir))


def load_measurements(workdir: str | os.PathLike) -> "pandas.DataFrame":
    """Load what was measured on the networks of a work directory, at every epoch: one row a value."""
    from flatwide.runs.table import collect_measurements

    return collect_measurements(os.fspath(workdir))


def __getattr__(name: str):
    """Import on first use, so that the command can set the number of threads before JAX is there."""
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'flatwide' has no attribute {name!r}")
