"""Drive one run: from a config and a work directory to the files that a finished run leaves."""

import contextlib
import datetime
import functools
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flatwide import checkpoints, experiment, logs, runs, sparsify, trees
from flatwide import config as configs
from flatwide.experiment import Experiment
from flatwide.training.evaluate import Evaluation, summarize
from flatwide.training.loop import Taken, take_steps
from flatwide.training.segments import place
from flatwide.training.state import State

_SEGMENT_SECONDS = 10.0  # a signal is heard, and a checkpoint can be made, at least this often

_SMALL_CALL_SECONDS = 1.0  # the same for a small network, whose calls cost a thousandth of that


class Stopped(Exception):
    """The run was asked to stop; it has saved its state, and the same command goes on from there."""


class Memory(NamedTuple):
    """What a run remembers beside its state, so that it goes on as if it had never stopped."""

    started: str
    seconds: float = 0.0  # spent before this process
    loss_total: float = 0.0  # of the steps since the last evaluation, added up in their order
    loss_count: int = 0


def run(
    config: Mapping[str, Any],
    workdir: str | os.PathLike,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    quiet: bool = False,
    tensorboard: bool = True,
) -> dict[str, Any]:
    """Train what a config describes, or finish what an earlier call began.

    Args:
      config: some config fields; the others are at their defaults.
      workdir: the run gets a directory of its own in `workdir/runs`.
      should_stop: asked after every segment; once it says yes, the state is saved and `Stopped` is raised.
      quiet: print nothing.
      tensorboard: write its event file, which takes a small network a tenth of its time.
    Returns: the content of `result.json`; at once if the run is done already.
    Raises: ConfigError, DataError, BusyError, Stopped.
    """
    config = configs.resolve(config)
    directory, identity = locate(config, workdir)
    recorded = directory.read_config() if (directory.path / "config.json").exists() else config
    wanted = recorded["threads"] or int(os.environ.get("NPROC", 0)) or len(os.sched_getaffinity(0))
    if directory.read_result() is None:
        # All that can be wrong with a config is found here, before the run has a directory.
        threads = _start_jax(wanted)
        built, sharding = experiment.build(config), _sharding(config["batch_size"])
        state = place(built.init(), sharding)
    with directory.lock():
        if directory.status() == "unfinished" and not config["restore_checkpoint"]:
            raise configs.ConfigError(
                [
                    f"config.restore_checkpoint=False: {directory.path} holds this run, unfinished. Leave the field at "
                    "True to go on with it, or choose another --workdir or config.seed."
                ]
            )
        directory.write_config({**config, "threads": wanted}, identity=identity)
        if (result := directory.read_result()) is not None:
            _say(f"{directory.path}: done already.", quiet=quiet)
            return result
        return _train(
            built,
            directory,
            state,
            sharding=sharding,
            threads=threads,
            should_stop=should_stop,
            quiet=quiet,
            tensorboard=tensorboard,
        )


def locate(config: Mapping[str, Any], workdir: str | os.PathLike) -> tuple[runs.RunDirectory, dict[str, Any]]:
    """Find the directory of a run, and the identity that its name hashes.

    Args:
      config: a resolved config.
    """
    identity = experiment.identity(config, experiment.load_dataset(config).fingerprint)
    name = f"{_slug(config)}-{configs.digest(identity)}"
    return runs.RunDirectory(Path(workdir) / "runs" / name), identity


def _train(
    built: Experiment,
    directory: runs.RunDirectory,
    state: State,
    *,
    sharding: jax.sharding.NamedSharding | None,
    threads: int,
    should_stop: Callable[[], bool],
    quiet: bool,
    tensorboard: bool,
) -> dict[str, Any]:
    """Train to the end and write the result."""
    config = built.config
    state, memory = _restore(directory, state, quiet=quiet)
    evaluate = _evaluators(built, sharding)
    saved_at = began = time.monotonic()
    taken = Taken(int(state.step), state, np.zeros(1))
    with _watchers(built, directory, first_step=taken.step, quiet=quiet, tensorboard=tensorboard) as (progress, board):
        for taken in _steps(built, state, sharding):
            memory = _remember(memory, taken.losses)
            _log_losses(board, taken, every=config["log_every_steps"])
            if not np.isfinite(taken.losses[-1]):
                break
            row = None
            if taken.step % built.eval_every_steps == 0 or taken.step == built.num_steps:
                row = _row(built, evaluate, taken, memory)
                memory = memory._replace(loss_total=0.0, loss_count=0)
                directory.append_metrics(row)
                board.write(taken.step, row)
            progress.update(taken.step, _in_sight(built, taken, row))
            if taken.state is None:  # inside of a longer program
                continue
            stopping = should_stop() and taken.step < built.num_steps
            if stopping or time.monotonic() - saved_at >= config["checkpoint_every_seconds"]:
                directory.sync_metrics()
                spent = memory._replace(seconds=memory.seconds + time.monotonic() - began)
                checkpoints.save(directory.checkpoints, taken.step, taken.state, extra=spent._asdict())
                saved_at = time.monotonic()
            if stopping:
                raise Stopped(
                    f"stopped at step {taken.step} of {built.num_steps}, saved in {directory.checkpoints}; "
                    "the same command goes on from there."
                )
    memory = memory._replace(seconds=memory.seconds + time.monotonic() - began)
    return _finish(
        built, directory, taken, memory, threads=threads, num_devices=sharding.num_devices if sharding else 1
    )


def _steps(built: Experiment, state: State, sharding: jax.sharding.NamedSharding | None) -> Iterator[Taken]:
    """Take the steps of a run, in calls that last until a signal must be heard."""
    if built.is_small and sharding is None:
        seconds = min(_SMALL_CALL_SECONDS, built.config["checkpoint_every_seconds"])
        return built.take_epochs(state, seconds=seconds)
    return take_steps(
        built.segment(sharding=sharding),
        built.values,
        state,
        num_steps=built.num_steps,
        stop_at_multiples_of=(built.steps_per_epoch, built.eval_every_steps),
        seconds=_SEGMENT_SECONDS,
    )


def _finish(
    built: Experiment, directory: runs.RunDirectory, taken: Taken, memory: Memory, *, threads: int, num_devices: int
) -> dict[str, Any]:
    """Write the final checkpoint, and last the result."""
    assert taken.state is not None  # the last of a call has it
    rows, objective = directory.read_metrics(), built.workload.objective
    last = rows[-1] if rows else {}
    at_the_end = [taken.losses[-1], last.get("train_loss"), last.get("test_loss")]
    finite = all(loss is not None and np.isfinite(loss) for loss in at_the_end)
    result = {
        "status": "finished" if finite else "diverged",
        "num_params": trees.size(taken.state.params),
        "num_nonzero_params": sparsify.num_nonzero_params(taken.state.params, taken.state.mask),
        "epochs": taken.step / built.steps_per_epoch,
        "steps": taken.step,
        "seconds": memory.seconds,
        "metric_name": objective.metric_name,
        "higher_is_better": objective.higher_is_better,
        "device": jax.local_devices()[0].device_kind,
        "num_devices": num_devices,
        "threads": threads,
        "x64": jax.dtypes.canonicalize_dtype(float).itemsize == 8,
        "versions": _versions(),
        "started": memory.started,
        "finished": _now(),
    }
    if finite:
        columns = ("train_loss", "train_metric", "test_loss", "test_metric", "validation_loss", "validation_metric")
        result |= {name: last[name] for name in columns}
        result |= runs.summarize(rows, higher_is_better=objective.higher_is_better)
        checkpoints.save(directory.checkpoints, taken.step, taken.state, extra=memory._asdict(), final=True)
    else:
        result["diverged_at_step"] = taken.step - 1
    directory.write_result(result)
    return directory.read_result() or {}


def _evaluators(built: Experiment, sharding) -> dict[str, Callable[[State], Evaluation]]:
    limit = built.config["steps_per_eval"]
    splits = {"train": built.train, "validation": built.validation, "test": built.test}
    return {
        name: built.evaluator(split, num_batches=None if name == "train" else limit, sharding=sharding)
        for name, split in splits.items()
        if split is not None
    }


def _row(built: Experiment, evaluate: dict[str, Callable], taken: Taken, memory: Memory) -> dict[str, float | None]:
    """Evaluate; the training split, the largest, only at the end."""
    last = taken.step - 1
    row: dict[str, float | None] = {
        "step": taken.step,
        "epoch": taken.step / built.steps_per_epoch,
        "learning_rate": built.learning_rate(last),
        "running_train_loss": memory.loss_total / memory.loss_count,
    }
    for name in ("train", "validation", "test"):
        is_due = name in evaluate and (name != "train" or taken.step == built.num_steps)
        found = None
        if is_due and taken.scores and name in taken.scores:
            found = summarize(built.workload, taken.scores[name])
        elif is_due:
            found = evaluate[name](taken.state)
        row |= {f"{name}_loss": found and found.loss, f"{name}_metric": found and found.metric}
    return row


def _restore(directory: runs.RunDirectory, state: State, *, quiet: bool) -> tuple[State, Memory]:
    """Go on from the newest checkpoint that is whole, or start."""
    newest = checkpoints.load_newest(directory.checkpoints, state)
    for warning in newest.warnings:
        _say(f"warning: {warning}", quiet=quiet)
    if (directory.path / "metrics.csv").exists():
        directory.truncate_metrics(newest.step)
    if newest.tree is None:
        return state, Memory(started=_now())
    _say(f"{directory.path}: going on from step {newest.step}.", quiet=quiet)
    return newest.tree, Memory(**newest.extra)


def _remember(memory: Memory, losses: np.ndarray) -> Memory:
    """Add losses one by one, so that the sum does not depend on how the steps were cut into segments."""
    total = memory.loss_total
    for loss in losses.tolist():
        total += loss
    return memory._replace(loss_total=total, loss_count=memory.loss_count + len(losses))


def _log_losses(board: logs.TensorBoard, taken: Taken, *, every: int) -> None:
    first = taken.step - len(taken.losses)
    for step in range((first // every + 1) * every, taken.step + 1, every):
        board.write(step, {"batch_loss": float(taken.losses[step - first - 1])})


def _in_sight(built: Experiment, taken: Taken, row: Mapping[str, float | None] | None) -> dict[str, float | None]:
    """Choose what the progress line shows: the last evaluation once there is one."""
    if row is None:
        return {}
    return {
        "running_train_loss": row["running_train_loss"],
        f"test_{built.workload.objective.metric_name}": row["test_metric"],
    }


@contextlib.contextmanager
def _watchers(
    built: Experiment, directory: runs.RunDirectory, *, first_step: int, quiet: bool, tensorboard: bool
) -> Iterator[tuple[logs.Progress, logs.TensorBoard]]:
    """Open the progress line and the event file, and close them however the run ends."""
    progress = logs.Progress(
        built.num_steps,
        steps_per_epoch=built.steps_per_epoch,
        every_steps=built.config["log_every_steps"],
        stream=io.StringIO() if quiet else None,
    )
    purge_step = first_step + 1 if first_step else None
    board = logs.TensorBoard(directory.path if tensorboard else None, purge_step=purge_step)
    try:
        yield progress, board
    finally:
        progress.close()
        board.close()


def _sharding(batch_size: int) -> jax.sharding.NamedSharding | None:
    """Split batches over all local devices, if there are several.

    Raises: ConfigError if the batch cannot be split evenly.
    """
    devices = jax.local_devices()
    if len(devices) == 1:
        return None
    if batch_size % len(devices):
        raise configs.ConfigError(
            [f"config.batch_size={batch_size}: expected a multiple of the {len(devices)} local devices."]
        )
    axis_types = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=axis_types, devices=devices)
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))


_threads_fixed: list[int] = []


def _start_jax(threads: int) -> int:
    """Set XLA's number of CPU threads, on which the last bits of a result depend, and where compiled programs are kept.

    The number can be set once in a process, before JAX starts.
    Returns: the number in effect.
    """
    if not _threads_fixed:
        os.environ["NPROC"] = str(threads)
        _threads_fixed.append(threads)
    if _threads_fixed[0] != threads:
        _say(
            f"warning: this run was begun with {threads} threads and this process has {_threads_fixed[0]}: the result "
            "may differ in its last bits. Resume it in a process of its own.",
            quiet=False,
        )
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "flatwide" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return _threads_fixed[0]


def _slug(config: Mapping[str, Any]) -> str:
    """Name a run for people: what is trained, how wide, and the two axes that every study has."""
    model = Path(config["model"].replace(":", "/")).name
    width = experiment.width(config)
    width = "x".join(map(str, width if isinstance(width, tuple) else (width,)))
    dataset = Path(config["dataset"].replace(":", "/")).name
    rho = f"rho{configs.effective_rho(config):g}"
    parts = [dataset, f"{model}{width}", rho, f"seed{config['seed']}"]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))


@functools.cache  # reading them takes longer than an epoch of a small network
def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "flatwide")
    return {"python": sys.version.split()[0], **{name: metadata.version(name) for name in packages}}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)
