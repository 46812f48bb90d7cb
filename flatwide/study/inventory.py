"""The state of a study's planned runs, read from their directories alone."""

import os
from typing import NamedTuple

from flatwide import config as configs
from flatwide import data, registry
from flatwide.columns import DONE
from flatwide.runs import disk, records
from flatwide.runs.build import assemble
from flatwide.runs.directory import IDENTITY, RunDirectory, run_directories
from flatwide.runs.identity import locate
from flatwide.study.plan import Plan, Planned

UNMEASURED = "unmeasured"
REFUSED = ("damaged", "unreadable", "mismatch")  # neither trained nor overwritten: the user must look


class RunState(NamedTuple):
    """A planned run and the state of its directory.

    status: that of the directory; "mismatch" if it holds another run than its name says; "unmeasured" if the run is
      finished and a measurement is missing.
    seconds: duration of the run, once it is done; problem: what is wrong with its files.
    """

    run: Planned
    directory: RunDirectory
    status: str
    seconds: float | None = None
    problem: str = ""


class Inventory(NamedTuple):
    """The planned runs in the plan's order, and the names of runs that are not part of the study."""

    states: tuple[RunState, ...]
    others: tuple[str, ...]

    def count(self, *statuses: str) -> int:
        """Count the planned runs with one of these statuses."""
        return sum(state.status in statuses for state in self.states)

    def to_do(self) -> list[RunState]:
        """List the runs that are to be trained or measured."""
        return [state for state in self.states if state.status not in (*DONE, *REFUSED)]


def take(plan: Plan, workdir: str | os.PathLike) -> Inventory:
    """Look up every planned run.

    Raises: DataError that names all missing data sets; their content is part of each run's identity.
    """
    states, missing = [], {}
    for run in plan.runs:
        if run.config["dataset"] in missing:
            continue
        try:
            states.append(_look_up(run, workdir))
        except data.DataError as error:
            missing[run.config["dataset"]] = str(error)
    if missing:
        raise data.DataError("\n".join(missing.values()))
    names = {state.directory.name for state in states}
    others = tuple(run.name for run in run_directories(os.fspath(workdir)) if run.name not in names)
    return Inventory(tuple(states), others)


def check(stored: Inventory) -> None:
    """Trace the loss of one run for each combination of model, data set and loss that will be trained.

    Runs that use a Python file of the user are left out: their faults are reported by the run itself.

    Raises: ValueError if a network does not fit its data or its loss.
    """
    configs_of_kinds = {}
    for state in stored.to_do():
        config = state.run.config
        is_own = any(registry.is_own_file(config[field]) for field in configs.MAY_BE_OWN)
        if state.status != UNMEASURED and not is_own:
            configs_of_kinds[config["model"], config["dataset"], config["loss"]] = config
    for config in configs_of_kinds.values():
        built = assemble(config)
        built.check(built.state_shapes())


def _look_up(run: Planned, workdir: str | os.PathLike) -> RunState:
    directory, identity = locate(run.config, workdir)
    try:
        status, result = directory.status_and_result()
        if status == "new":
            return RunState(run, directory, status)
        path = directory.path / "config.json"  # a run that failed at once has none
        if (result or path.exists()) and directory.read_config()[IDENTITY] != identity:
            return RunState(run, directory, "mismatch", problem=f"{path}: it is that of another run.")
        status = UNMEASURED if records.missing(directory, run.config) else status
    except disk.UnreadableError as error:
        return RunState(run, directory, "unreadable", problem=str(error))
    except ValueError as error:
        return RunState(run, directory, "damaged", problem=str(error))
    return RunState(run, directory, status, seconds=result.get("seconds"))
