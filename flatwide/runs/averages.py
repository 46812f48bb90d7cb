"""The scores of runs as means over their last evaluations."""

from pathlib import Path
from typing import TYPE_CHECKING

from flatwide.runs import rows
from flatwide.runs.directory import RunDirectory, run_directories

if TYPE_CHECKING:
    import pandas as pd

_NAMES = tuple(name for name in rows.COLUMNS if name.startswith(("validation_", "test_")))


def mean_of_last(run: RunDirectory, last: int) -> dict[str, float]:
    """Return the mean of each validation and test score over the last evaluations of a run.

    Raises: ValueError if the run has fewer, or its `metrics.csv` is damaged.
    """
    every = run.read_metrics()
    if len(every) < last:
        raise ValueError(f"average_last={last}: {run.path} has {len(every)} evaluations; expected at most so many.")
    found = {name: [row[name] for row in every[-last:]] for name in _NAMES if name in every[0]}
    return {
        name: sum(known) / last
        for name, values in found.items()
        if len(known := [value for value in values if value is not None]) == last
    }


def averaged(workdir: Path | str, runs: "pd.DataFrame", last: int) -> "pd.DataFrame":
    """Replace the final scores of each finished run of a results table by means over its last evaluations.

    Raises: ValueError, see `mean_of_last`.
    Cost: reads a file for each run; none for `last` 1.
    """
    import pandas as pd

    if last == 1:
        return runs
    directories = {run.name: run for run in run_directories(workdir)}
    finished: pd.Series = runs.loc[runs["status"] == "finished", "run"]
    means = pd.DataFrame([mean_of_last(directories[name], last) for name in finished], index=finished.index)
    return runs.assign(**{name: means[name].reindex(runs.index).fillna(runs[name]) for name in means})
