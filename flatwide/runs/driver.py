"""Train runs: from a config and a work directory to the files that a finished run leaves."""

import contextlib
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

_SEGMENT_SECONDS = 10.0  # a signal is heard, and a checkpoint can be made, at least this often
_SMALL_CALL_SECONDS = 1.0  # the same for whole epochs in one program, whose calls cost a thousandth of that

_REMOVING_SECONDS = 1.0  # that removing a folder may take, from its first file to itself


class Outcome(NamedTuple):
    """How a run ended.

    status: "finished", "diverged", "failed", or "busy" where another process trains it; problem: what went wrong.
    waits_for: the run that is to be finished before this one can be measured.
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
    """Train what a resolved config describes, or finish what an earlier call began; nothing is measured.

    Args and raises: as for `flatwide.run`.
    Returns: the content of `result.json`; at once if the run is done already.
    """
    directory, identity, wanted = _find(config, workdir)
    num_devices, was_there = None, processes.is_first() and os.path.isdir(workdir)
    if processes.agreed(directory.read_result) is None:
        # All that can be wrong with a config is found here, before the run has a directory.
        threads = jax_settings.start(wanted)
        built, state = _build(config)
        num_devices = devices.count(built.sharding)
    if was_there:  # compiling takes a while
        disk.check_is_there(workdir)
    with _opened(directory, config, identity, wanted, num_devices):
        on_start()
        if (result := processes.agreed(directory.read_result)) is not None:
            say(f"{directory.path}: done already.", quiet=quiet)
            return result
        with _errors_kept(directory):
            recording = Recording(built, directory, state, threads=threads, should_stop=should_stop, quiet=quiet)
            with recording.watched(quiet=quiet, tensorboard=tensorboard):
                for taken in _steps(built, recording.state):
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
        for place, config in enumerate(group):
            try:
                directory, identity, wanted = _find(config, workdir)
                threads = jax_settings.start(wanted)
                built, state = _build(config)
                stack.enter_context(_opened(directory, config, identity, wanted, devices.count(built.sharding)))
                if (result := directory.read_result()) is not None:
                    outcomes[place] = Outcome(result["status"])
                    continue
                recording = Recording(built, directory, state, threads=threads, should_stop=lambda: False, quiet=True)
                stack.enter_context(recording.watched(quiet=True, tensorboard=tensorboard))
                opened[place] = (built, recording)
            except BusyError as error:
                outcomes[place] = Outcome("busy", str(error))
            except Exception as error:
                if disk.is_full(error):
                    raise  # no other run would fare better
                outcomes[place] = _failed(config, workdir, error)
        for place, outcome in _train_together(opened, should_stop):
            outcomes[place] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def _train_together(
    opened: Mapping[int, tuple[Experiment, Recording]], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, Outcome]]:
    """Advance opened runs until each has ended, and tell how."""
    open_places = {place for place, (_, recording) in opened.items()}
    states = [recording.state for _, recording in opened.values()]
    calls = _group_steps([built for built, _ in opened.values()], states) if opened else iter(())
    for found in calls:
        for (place, (built, recording)), epochs in zip(opened.items(), found, strict=True):
            if place not in open_places:
                continue
            try:
                for taken in epochs:
                    recording.feed(taken)
                if recording.is_over:
                    yield place, Outcome(recording.finish()["status"])
                    open_places.discard(place)
            except Exception as error:
                if disk.is_full(error):
                    raise
                yield place, _failed(built.config, recording.directory.path.parents[1], error)
                open_places.discard(place)
        if open_places and should_stop():
            for place in open_places:
                opened[place][1].save()
            raise Stopped("stopped; every run of the group is saved, and the same command goes on from there.")
    for place in open_places:  # was at its end already when it was opened
        built, recording = opened[place]
        try:
            outcome = Outcome(recording.finish()["status"])
        except Exception as error:  # its metrics.csv was changed meanwhile
            if disk.is_full(error):
                raise
            outcome = _failed(built.config, recording.directory.path.parents[1], error)
        yield place, outcome


def keep_error(config: Mapping[str, Any], workdir: str | os.PathLike, text: str) -> None:
    """Write what went wrong beside a run that could not do so itself."""
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
    """Find the directory of a run, its identity, and the number of threads that it is to have."""
    wanted = config["threads"] or jax_settings.available_threads()
    if not jax_settings.has_started():
        os.environ.setdefault("NPROC", str(wanted))  # in case a user's own data set uses JAX
    directory, identity = locate(config, workdir)
    _check_same(directory)
    if processes.agreed((directory.path / "config.json").exists):
        wanted = processes.agreed(lambda: directory.read_config().get("threads")) or wanted
    return directory, identity, wanted


def _check_same(directory: RunDirectory) -> None:
    """Raise ConfigError where this process would train another run than process 0."""
    if directory.name != (first := processes.agreed(lambda: directory.name)):
        raise configs.ConfigError(
            [
                f"{directory.name}: process 0 trains {first}. Expected the same config, the same data and the same "
                "files of yours for every process; compare what --config and config.data_dir name on each machine."
            ]
        )


def _build(config: Mapping[str, Any]) -> tuple[Experiment, State]:
    built = assemble(config)
    if config["group_size"] > 1 and not built.has_whole_epochs:
        raise configs.ConfigError(
            [
                f"config.group_size={config['group_size']}: expected 1 here. Runs advance together where the data are "
                "held in memory, on one device, and each epoch ends with the one evaluation of it "
                "(eval_every_steps and steps_per_eval at None, whole epochs, measure_every_steps at None or at whole "
                "epochs)."
            ]
        )
    _check_devices(built)
    if warning := built.device_warning:
        say(f"warning: {warning}")
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
            [
                f"{dataset}: expected a data set that several processes can share. Its games are played by one process "
                "between the steps; leave --distributed out."
            ]
        )
    if built.config["shard_parameters"]:
        raise configs.ConfigError(
            [
                f"config.shard_parameters=True with {dataset}: its games are played between the steps, one action at a "
                "time, which would gather the whole network for each; set config.shard_parameters=False."
            ]
        )


@contextlib.contextmanager
def _opened(
    directory: RunDirectory,
    config: Mapping[str, Any],
    identity: Mapping[str, Any],
    threads: int,
    num_devices: int | None,
) -> Iterator[None]:
    """Hold a run's lock, and see to its config.json; num_devices is None where the run is done and none is needed."""
    with directory.lock():
        if not config["restore_checkpoint"] and processes.agreed(directory.status) in ("unfinished", "failed"):
            raise configs.ConfigError(
                [
                    f"config.restore_checkpoint=False: {directory.path} holds this run, unfinished. Leave the field at "
                    "True to go on with it, or choose another --workdir or config.seed."
                ]
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
                f"warning: {directory.path} was started on {began_on} device(s) and goes on with {num_devices}: the "
                "result may differ in its last bits. Go on with as many as before."
            )
        yield


@contextlib.contextmanager
def _errors_kept(directory: RunDirectory) -> Iterator[None]:
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            time.sleep(_REMOVING_SECONDS)
        if directory.is_written:
            disk.check_is_there(directory.path)
        with contextlib.suppress(OSError):  # a full disk: what went wrong first is what a user must know
            directory.write_error(traceback.format_exc())
        raise


def _steps(built: Experiment, state: State) -> Iterator[Taken]:
    """Take the steps of a run, in calls that last until a signal must be heard."""
    if built.config["group_size"] > 1:
        return (taken for found in _group_steps([built], [state]) for taken in found[0])
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
