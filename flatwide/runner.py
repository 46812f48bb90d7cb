"""Training of runs and measuring of their networks, for `flatwide.run` and the workers of a study."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flatwide import config as configs
from flatwide import processes
from flatwide.runs import driver, records
from flatwide.runs.directory import BusyError, RunDirectory
from flatwide.runs.driver import Outcome
from flatwide.runs.identity import locate


def run(
    config: Mapping[str, Any] | str | os.PathLike,
    workdir: str | os.PathLike,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_start: Callable[[], None] = lambda: None,
    quiet: bool = False,
    tensorboard: bool = True,
) -> dict[str, Any]:
    """Train the run of a config, or resume it, and take its measurements.

    Args:
      config: some config fields, the others have their defaults; or a config file, or the name of one that ships.
      workdir: the run gets its own directory in `workdir/runs`.
      should_stop: called after every segment; once it returns True, the state is saved and `Stopped` is raised.
      on_start: called once the config has been checked and the run has its directory, before the first step.
      quiet: print nothing.
      tensorboard: write an event file, which takes a tenth of the time for a small network.
    Returns: the content of `result.json`; at once if the run is already done. Of several processes that train together,
      process 0 measures, and the others return before it.
    Raises: ConfigError, DataError, BusyError, Stopped; MeasurementError if the run is done and a measurement failed.
    """
    config = configs.resolve_fields(config)
    options: dict[str, Any] = {"should_stop": should_stop, "quiet": quiet}
    result = driver.train(config, workdir, on_start=on_start, tensorboard=tensorboard, **options)
    if config["measurements"] and processes.is_first():  # on its own devices
        measure_run(locate(config, workdir)[0], config, **options)
    return result


def run_together(
    group: Sequence[Mapping[str, Any]],
    workdir: str | os.PathLike,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = True,
) -> list[Outcome]:
    """Train runs of one shape at once, in one program of `config.group_size` runs.

    A run that fails, diverges or is trained by another process does not affect the others.

    Args: as for `run`; at most `group_size` configs, which differ only in values.
    Returns: the outcome of each; a failed measurement counts as a failure of its run.
    Raises: Stopped, once all are saved.
    """
    group = [configs.resolve_fields(config) for config in group]
    outcomes = driver.train_together(group, workdir, should_stop=should_stop, tensorboard=tensorboard)
    return [_measured(*ended, workdir, should_stop) for ended in zip(outcomes, group, strict=True)]


def measure_run(
    directory: RunDirectory,
    config: Mapping[str, Any],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    quiet: bool = False,
) -> None:
    """Take the missing measurements of a finished run that a config requests.

    Args and raises: as for `measurements.measuring.measure`, which is imported only if a measurement is missing.
    """
    if records.missing(directory, config):
        from flatwide.measurements import measuring

        measuring.measure(directory, config, should_stop=should_stop, quiet=quiet)


def _measured(
    outcome: Outcome, config: Mapping[str, Any], workdir: str | os.PathLike, should_stop: Callable[[], bool]
) -> Outcome:
    """Measure a run if it is finished; return its outcome."""
    if outcome.status != "finished" or not config["measurements"]:
        return outcome
    try:
        measure_run(locate(config, workdir)[0], config, should_stop=should_stop, quiet=True)
    except BusyError as error:
        return Outcome("busy", str(error))
    except RuntimeError as error:
        return Outcome("failed", str(error), getattr(error, "waits_for", ""))
    return outcome
