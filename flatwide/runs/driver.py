"""Training of runs, from a config and a work directory to the files of a finished run."""

import contextlib
import itertools
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide import data, processes
from flatwide.runs import disk, jax_settings, memory
from flatwide.runs.build import assemble
from flatwide.runs.directory import BusyError, RunDirectory
from flatwide.runs.experiment import Experiment, take_epochs_together
from flatwide.runs.identity import locate, unread_fields
from flatwide.runs.logs import say
from flatwide.runs.recording import Recording, Stopped
from flatwide.training import devices
from flatwide.training.loop import Taken, take_steps
from flatwide.training.state import State

_SEGMENT_SECONDS = 10.0  # a signal is handled, and a checkpoint can be written, at least this often
_SMALL_CALL_SECONDS = 1.0  # the same for whole epochs in one program, whose calls have a thousandth of the overhead

_REMOVING_SECONDS = 1.0  # that the removal of a folder may take


class Outcome(NamedTuple):
    """The end of a run.

    status: "finished", "diverged", "failed", or "busy" if another process trains it; problem: what went wrong.
    waits_for: the run that must finish before this one can be measured.
    """

    status: str
    problem: str = ""
    waits_for: str = ""


def train(
    config: Mapping[str, Any],
    workdir: str | os.PathLike,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_start: Callable[[], None] = lambda: None,
    quiet: bool = False,
    tensorboard: bool = True,
) -> dict[str, Any]:
    """Train the run of a resolved config, or resume it; nothing is measured.

    Args and raises: as for `flatwide.run`.
    Returns: the content of `result.json`; at once if the run is already done.
    """
    directory, identity, num_threads = _find(config, workdir)
    num_devices, has_workdir = None, processes.is_first() and os.path.isdir(workdir)
    if processes.agreed(directory.read_result) is None:
        # All faults of a config are found here, before the run has a directory.
        threads = jax_settings.start(num_threads)
        built, state = _build(config)
        num_devices = devices.count(built.sharding)
    if has_workdir:  # compiling takes a while
        disk.check_is_there(workdir)
    with _open(directory, config, identity, num_threads, num_devices):
        on_start()
        if (result := processes.agreed(directory.read_result)) is not None:
            say(f"{directory.path}: already done.", quiet=quiet)
            return result
        with _recorded_errors(directory):
            recording = Recording(built, directory, state, threads=threads, should_stop=should_stop, quiet=quiet)
            with recording.watched(quiet=quiet, tensorboard=tensorboard):
                for taken in steps(built, recording.state):
                    recording.feed(taken)
            return recording.finish()


def train_together(
    group: Sequence[Mapping[str, Any]],
    workdir: str | os.PathLike,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = True,
) -> list[Outcome]:
    """Train runs of one shape at once, in one program of `config.group_size` runs; nothing is measured.

    Args, returns and raises: as for `runner.run_together`, of resolved configs.
    """
    outcomes: list[Outcome | None] = [None] * len(group)
    with contextlib.ExitStack() as stack:
        opened: dict[int, tuple[Experiment, Recording]] = {}
        for index, config in enumerate(group):
            try:
                directory, identity, num_threads = _find(config, workdir)
                threads = jax_settings.start(num_threads)
                built, state = _build(config)
                stack.enter_context(_open(directory, config, identity, num_threads, devices.count(built.sharding)))
                if (result := directory.read_result()) is not None:
                    outcomes[index] = Outcome(result["status"])
                    continue
                recording = Recording(built, directory, state, threads=threads, should_stop=lambda: False, quiet=True)
                stack.enter_context(recording.watched(quiet=True, tensorboard=tensorboard))
                opened[index] = (built, recording)
            except BusyError as error:
                outcomes[index] = Outcome("busy", str(error))
            except Exception as error:
                if disk.is_full(error):
                    raise  # other runs would fail too
                outcomes[index] = _failed(config, workdir, error)
        for index, outcome in _train_together(opened, should_stop):
            outcomes[index] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def _train_together(
    opened: Mapping[int, tuple[Experiment, Recording]], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, Outcome]]:
    """Advance opened runs until each has ended, and yield the outcome of each."""
    open_runs = {index for index, (_, recording) in opened.items()}
    if not opened:
        return
    states = [recording.state for _, recording in opened.values()]
    none: list[list[Taken]] = [[]] * len(opened)  # a run may be at its end when it is opened
    for segments in itertools.chain([none], _group_steps([built for built, _ in opened.values()], states)):
        for (index, (built, recording)), epochs in zip(opened.items(), segments, strict=True):
            if index not in open_runs:
                continue
            try:
                for taken in epochs:
                    recording.feed(taken)
                if recording.is_over:
                    yield index, Outcome(recording.finish()["status"])
                    open_runs.discard(index)
            except Exception as error:
                if disk.is_full(error):
                    raise
                yield index, _failed(built.config, recording.directory.path.parents[1], error)
                open_runs.discard(index)
        if segments is not none and open_runs and should_stop():
            for index in open_runs:
                opened[index][1].save()
            raise Stopped("stopped; every run of the group is saved. Rerun the same command to resume.")


def keep_error(config: Mapping[str, Any], workdir: str | os.PathLike, text: str) -> None:
    """Write an error beside a run that could not write it itself."""
    config = configs.resolve(config)
    directory, identity = locate(config, workdir)
    if not (directory.path / "config.json").exists():
        with contextlib.suppress(BusyError), directory.lock():
            threads = config["threads"] or jax_settings.available_threads()
            directory.write_config({**config, "threads": threads}, identity=identity, unread=unread_fields(config))
    directory.write_error(text)


def _failed(config: Mapping[str, Any], workdir: str | os.PathLike, error: Exception) -> Outcome:
    disk.check_is_there(workdir)
    keep_error(config, workdir, "".join(traceback.format_exception(error)))
    return Outcome("failed", f"{type(error).__name__}: {error}")


def _find(config: Mapping[str, Any], workdir: str | os.PathLike) -> tuple[RunDirectory, dict[str, Any], int]:
    """Return the directory of a run, its identity, and its number of threads."""
    num_threads = config["threads"] or jax_settings.available_threads()
    if not jax_settings.has_started():
        os.environ.setdefault("NPROC", str(num_threads))  # in case a user's data set uses JAX
    directory, identity = locate(config, workdir)
    if directory.name != (first := processes.agreed(lambda: directory.name)):
        raise configs.ConfigError(
            f"{directory.name}: process 0 trains {first}. Expected the same config, data and Python files of "
            "yours in every process; compare --config and config.data_dir on all machines."
        )
    if processes.agreed((directory.path / "config.json").exists):
        num_threads = processes.agreed(lambda: directory.read_config().get("threads")) or num_threads
    return directory, identity, num_threads


def _build(config: Mapping[str, Any]) -> tuple[Experiment, State]:
    built = assemble(config)
    if config["group_size"] > 1 and not built.has_whole_epochs:
        raise configs.ConfigError(
            f"config.group_size={config['group_size']}: expected 1 here. Runs can be trained together if the data "
            "are held in memory, on one device, and each epoch ends with its only evaluation (eval_every_steps and "
            "steps_per_eval None, a whole number of epochs, measure_every_steps None or a whole number of epochs)."
        )
    _check_devices(built)
    if fault := built.division.fault:
        say(f"warning: {fault}")
    memory.check(built)
    state = built.init()
    built.check(state)
    return built, state


def _check_devices(built: Experiment) -> None:
    """Raise ConfigError for a run that several processes or devices cannot share."""
    if not isinstance(built.train, data.Played) or data.is_compiled(built.train):
        return
    dataset = f"config.dataset={built.config['dataset']!r}"
    if processes.count() > 1:
        raise configs.ConfigError(
            f"{dataset}: expected a data set that several processes can share. Its games are played by one process "
            "between steps; omit --distributed."
        )
    if built.config["shard_parameters"]:
        raise configs.ConfigError(
            f"config.shard_parameters=True with {dataset}: its games are played between the steps, one action at a "
            "time, which would gather the whole network for each; set config.shard_parameters=False."
        )


@contextlib.contextmanager
def _open(
    directory: RunDirectory,
    config: Mapping[str, Any],
    identity: Mapping[str, Any],
    threads: int,
    num_devices: int | None,
) -> Iterator[None]:
    """Hold a run's lock, and write or check its config.json; num_devices is None if the run is done."""
    with directory.lock():
        if not config["restore_checkpoint"] and processes.agreed(directory.status) in ("unfinished", "failed"):
            raise configs.ConfigError(
                f"config.restore_checkpoint=False: {directory.path} holds this run, unfinished. Set the field to "
                "True to resume it, or choose another --workdir or config.seed."
            )
        started_on = {"num_devices": num_devices, "matmul_precision": jax_settings.matmul_precision()}
        directory.write_config(
            {**config, "threads": threads},
            identity=identity,
            unread=unread_fields(config),
            started_on=started_on if num_devices else None,
        )
        began_on = processes.agreed(lambda: directory.read_config().get("num_devices"))
        if num_devices and began_on not in (None, num_devices):
            say(
                f"warning: {directory.path} was started on {began_on} device(s) and resumes on {num_devices}: the "
                "result may differ in its last bits. Resume on as many devices as before to avoid this."
            )
        yield


@contextlib.contextmanager
def _recorded_errors(directory: RunDirectory) -> Iterator[None]:
    try:
        with processes.reacting_to_failures(directory.write_error):
            yield
    except Stopped:
        raise
    except Exception as error:
        if processes.is_lost(error):
            raise  # no fault of the run
        if isinstance(error, FileNotFoundError):
            time.sleep(_REMOVING_SECONDS)
        if directory.is_written:
            disk.check_is_there(directory.path)
        with contextlib.suppress(OSError):  # on a full disk, the user must see the first error
            directory.write_error(traceback.format_exc())
        raise


def steps(built: Experiment, state: State) -> Iterator[Taken]:
    """Take the steps of a run, in calls short enough to respond to signals."""
    if built.config["group_size"] > 1:
        return (taken for segments in _group_steps([built], [state]) for taken in segments[0])
    if built.is_small:
        return built.take_epochs(state, seconds=_call_seconds(built))
    return take_steps(
        built.segment(),
        built.values,
        state,
        num_steps=built.num_steps,
        stop_at_multiples_of=(
            built.steps_per_epoch,
            built.eval_every_steps,
            built.config["measure_every_steps"] or built.steps_per_epoch,
        ),
        seconds=_SEGMENT_SECONDS,
    )


def _group_steps(group: list[Experiment], states: list[State]) -> Iterator[list[list[Taken]]]:
    first = group[0]
    return take_epochs_together(group, states, group_size=first.config["group_size"], seconds=_call_seconds(first))


def _call_seconds(built: Experiment) -> float:
    return min(_SMALL_CALL_SECONDS, built.config["checkpoint_every_seconds"])
