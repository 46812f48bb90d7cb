"""What of a study is there already, by its run directories alone."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide import data, registry
from flatwide.columns import DONE
from flatwide.runs import disk, records
from flatwide.runs.build import assemble
from flatwide.runs.directory import IDENTITY, RunDirectory, run_directories
from flatwide.runs.identity import locate
from flatwide.study.plan import Plan, Planned

UNMEASURED = "unmeasured"
REFUSED = ("damaged", "unreadable", "mismatch")  # neither trained nor overwritten: a person must look


class Known(NamedTuple):
    """A planned run and the state of its directory.

    status: that of the directory, "mismatch" where it holds another run than its name says, or "unmeasured" where the
      run is finished and a measurement is missing.
    seconds: time the run took, once it is done; problem: what is wrong with its files.
    """

    run: Planned
    directory: RunDirectory
    status: str
    seconds: float | None = None
    problem: str = ""


class Inventory(NamedTuple):
    """The planned runs in the plan's order, and the names of runs that are no part of the study."""

    known: tuple[Known, ...]
    others: tuple[str, ...]

    def count(self, *statuses: str) -> int:
        """Count the planned runs of some statuses."""
        return sum(known.status in statuses for known in self.known)

    def to_do(self) -> list[Known]:
        """List the runs that are to be trained or measured."""
        return [known for known in self.known if known.status not in (*DONE, *REFUSED)]


def take(plan: Plan, workdir: str | os.PathLike) -> Inventory:
    """Look up every planned run.

    Raises: DataError naming all data sets, whose content is part of each run's identity, that are not there.
    """
    found, missing = [], {}
    for run in plan.runs:
        if run.config["dataset"] in missing:
            continue
        try:
            found.append(_look_up(run, workdir))
        except data.DataError as error:
            missing[run.config["dataset"]] = str(error)
    if missing:
        raise data.DataError("\n".join(missing.values()))
    known = tuple(found)
    names = {entry.directory.name for entry in known}
    others = tuple(found.name for found in run_directories(os.fspath(workdir)) if found.name not in names)
    return Inventory(known, others)


def check(found: Inventory) -> None:
    """Trace the loss of a run of each model, data set and loss that is to be trained.

    Not of one with a file of the user's own, whose faults are those of its run.

    Raises: ValueError where a network does not fit its data or its loss.
    """
    configs_of_kinds = {}
    for known in found.to_do():
        config = known.run.config
        is_own = any(registry.is_own_file(config[field]) for field in configs.MAY_BE_OWN)
        if known.status != UNMEASURED and not is_own:
            configs_of_kinds[config["model"], config["dataset"], config["loss"]] = config
    for config in configs_of_kinds.values():
        built = assemble(config)
        built.check(built.state_shapes())


def _look_up(run: Planned, workdir: str | os.PathLike) -> Known:
    directory, identity = locate(run.config, workdir)
    try:
        status = directory.status()
        if status == "new":
            return Known(run, directory, status)
        if _differs(directory, identity):
            return Known(run, directory, "mismatch", problem=f"{directory.path}: config.json is that of another run.")
        result = directory.read_result() or {}
        status = UNMEASURED if records.missing(directory, run.config) else status
    except disk.UnreadableError as error:
        return Known(run, directory, "unreadable", problem=str(error))
    except ValueError as error:
        return Known(run, directory, "damaged", problem=str(error))
    return Known(run, directory, status, seconds=result.get("seconds"))


def _differs(directory: RunDirectory, identity: Mapping[str, Any]) -> bool:
    """Tell whether a directory is that of another run; one without a config, which has failed at once, is not."""
    has_config = (directory.path / "config.json").exists() or directory.status() in DONE
    return has_config and directory.read_config()[IDENTITY] != identity
