"""Drive one run: from a config and a work directory to the files that a finished run leaves."""

import contextlib
import datetime
import functools
import io
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src import xla_bridge  # nothing public tells whether JAX has started

from flatwide import checkpoints, cores, data, experiment, logs, runs, sparsify, trees
from flatwide import config as configs
from flatwide.experiment import Experiment
from flatwide.training import devices
from flatwide.training.evaluate import Evaluation, Interrupted
from flatwide.training.loop import Taken, take_steps
from flatwide.training.state import State

Evaluate = Callable[[State], Evaluation]

_SEGMENT_SECONDS = 10.0  # a signal is heard, and a checkpoint can be made, at least this often


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
) -> dict[str, Any]:
    """Train what a config describes, or finish what an earlier call began.

    Args:
      config: some config fields; the others are at their defaults.
      workdir: the run gets a directory of its own in `workdir/runs`.
      should_stop: asked after every segment; once it says yes, the state is saved and `Stopped` is raised.
      quiet: print nothing.
    Returns: the content of `result.json`; at once if the run is done already.
    Raises: ConfigError, DataError, BusyError, Stopped.
    """
    config = configs.resolve(config)
    wanted = config["threads"] or _available_threads()
    if not xla_bridge.backends_are_initialized():
        os.environ.setdefault("NPROC", str(wanted))  # in case a user's own data set uses JAX
    directory, identity = locate(config, workdir)
    if directory.status() != "new":
        wanted = directory.read_config().get("threads") or wanted
    if directory.read_result() is None:
        # All that can be wrong with a config is found here, before the run has a directory.
        threads = _start_jax(wanted)
        built = experiment.build(config)
        state = built.init()
    with directory.lock():
        if directory.status() in ("unfinished", "failed") and not config["restore_checkpoint"]:
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
        try:
            return _train(built, directory, state, threads=threads, should_stop=should_stop, quiet=quiet)
        except Stopped:
            raise
        except Exception:
            directory.write_error(traceback.format_exc())
            raise


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
    threads: int,
    should_stop: Callable[[], bool],
    quiet: bool,
) -> dict[str, Any]:
    """Train to the end and write the result."""
    config = built.config
    state, memory = _restore(directory, state, quiet=quiet)
    evaluation = _evaluators(built, should_stop)
    saved_at = began = time.monotonic()
    taken = Taken(int(state.step), state, np.zeros(1))

    def save(memory: Memory) -> None:
        directory.sync_metrics()
        spent = memory._replace(seconds=memory.seconds + time.monotonic() - began)
        checkpoints.save(directory.checkpoints, taken.step, taken.state, extra=spent._asdict())

    def stopped() -> Stopped:
        return Stopped(
            f"stopped at step {taken.step} of {built.num_steps}, saved in {directory.checkpoints}; "
            "the same command goes on from there."
        )

    def record(memory: Memory, board: logs.TensorBoard) -> dict[str, float | None]:
        """Evaluate; it may take long, so a signal is heard before and, where data stream, within it."""
        if should_stop():
            save(memory)
            raise stopped()
        if not isinstance(built.test, data.Resident):
            save(memory)
        try:
            row = _row(built, evaluation, taken, memory)
        except Interrupted:
            raise stopped() from None
        directory.append_metrics(row)
        board.write(taken.step, row)
        return row

    with _watchers(built, directory, first_step=taken.step, quiet=quiet) as (progress, board):
        if taken.step > 0 and _is_due(built, taken.step) and not _has_row(directory, taken.step):
            record(memory, board)  # it was stopped before this evaluation
            memory = memory._replace(loss_total=0.0, loss_count=0)
        for taken in take_steps(
            built.segment(),
            built.values,
            state,
            num_steps=built.num_steps,
            stop_at_multiples_of=(built.steps_per_epoch, built.eval_every_steps),
            seconds=_SEGMENT_SECONDS,
        ):
            memory = _remember(memory, taken.losses)
            _log_losses(board, taken, every=config["log_every_steps"])
            if not np.isfinite(taken.losses[-1]):
                break
            row = record(memory, board) if _is_due(built, taken.step) else None
            memory = memory if row is None else memory._replace(loss_total=0.0, loss_count=0)
            progress.update(taken.step, _in_sight(built, taken, row))
            stopping = should_stop() and taken.step < built.num_steps
            if stopping or time.monotonic() - saved_at >= config["checkpoint_every_seconds"]:
                save(memory)
                saved_at = time.monotonic()
            if stopping:
                raise stopped()
    memory = memory._replace(seconds=memory.seconds + time.monotonic() - began)
    return _finish(built, directory, taken, memory, threads=threads)


def _is_due(built: Experiment, step: int) -> bool:
    """Tell whether there is an evaluation after so many steps."""
    return step % built.eval_every_steps == 0 or step == built.num_steps


def _has_row(directory: runs.RunDirectory, step: int) -> bool:
    return any(row["step"] == step for row in directory.read_metrics())


def _finish(
    built: Experiment, directory: runs.RunDirectory, taken: Taken, memory: Memory, *, threads: int
) -> dict[str, Any]:
    """Write the final checkpoint, and last the result."""
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
        "num_devices": devices.count(built.sharding),
        "threads": threads,
        "x64": experiment.is_double(),
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


def _evaluators(built: Experiment, should_stop: Callable[[], bool]) -> Callable[[str, bool], Evaluate | None]:
    """Give the evaluation of a split by its name; the last one of a run scores whole splits, also the training one."""
    splits = {"train": built.train, "validation": built.validation, "test": built.test}
    limit = built.config["steps_per_eval"]

    @functools.cache
    def of(name: str, num_batches: int | None) -> Evaluate | None:
        split = splits[name]
        return split and built.evaluator(split, num_batches=num_batches, interrupt=should_stop)

    def evaluation(name: str, is_last: bool) -> Evaluate | None:
        return None if name == "train" and not is_last else of(name, None if is_last else limit)

    return evaluation


def _row(
    built: Experiment, evaluation: Callable[[str, bool], Evaluate | None], taken: Taken, memory: Memory
) -> dict[str, float | None]:
    """Evaluate; the training split, the largest, only at the end."""
    row: dict[str, float | None] = {
        "step": taken.step,
        "epoch": taken.step / built.steps_per_epoch,
        "learning_rate": float(built.values.learning_rate * built.schedule(taken.step - 1)),
        "running_train_loss": memory.loss_total / memory.loss_count if memory.loss_count else None,
    }
    for name in ("train", "validation", "test"):
        evaluate = evaluation(name, taken.step == built.num_steps)
        found = evaluate and evaluate(taken.state)
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
    built: Experiment, directory: runs.RunDirectory, *, first_step: int, quiet: bool
) -> Iterator[tuple[logs.Progress, logs.TensorBoard]]:
    """Open the progress line and the event file, and close them however the run ends."""
    progress = logs.Progress(
        built.num_steps,
        steps_per_epoch=built.steps_per_epoch,
        every_steps=built.config["log_every_steps"],
        stream=io.StringIO() if quiet else None,
    )
    was_begun = any(directory.path.glob("events.out.*"))
    board = logs.TensorBoard(directory.path, purge_step=first_step + 1 if was_begun else None)
    try:
        yield progress, board
    finally:
        progress.close()
        board.close()


def _available_threads() -> int:
    """Read how many threads XLA may use: NPROC, or one a core."""
    text = os.environ.get("NPROC")
    if text is None:
        return cores.available()
    if not text.isdecimal() or int(text) < 1:
        raise configs.ConfigError([f"NPROC={text!r}: expected a number of threads >= 1 in this environment variable."])
    return int(text)


def _start_jax(threads: int) -> int:
    """Set XLA's number of CPU threads, on which the last bits of a result depend, and where compiled programs are kept.

    The number can be set only until JAX starts.
    Returns: the number in effect.
    """
    if not xla_bridge.backends_are_initialized():
        os.environ["NPROC"] = str(threads)
    in_effect = _available_threads()
    if in_effect != threads:
        _say(
            f"warning: this run wants {threads} threads and JAX has started with {in_effect}: the result may differ in "
            "its last bits. Train it in a process of its own.",
            quiet=False,
        )
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "flatwide" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return in_effect


def _slug(config: Mapping[str, Any]) -> str:
    """Name a run for people: what is trained, how wide, and the two axes that every study has."""
    model = Path(config["model"].replace(":", "/")).name
    width = experiment.width(config)
    width = "x".join(map(str, width if isinstance(width, tuple) else (width,)))[:40]
    dataset = Path(config["dataset"].replace(":", "/")).name
    rho = f"rho{configs.effective_rho(config):g}"
    parts = [dataset, f"{model}{width}", rho, f"seed{config['seed']}"]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))


def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "flatwide")
    return {"python": sys.version.split()[0], **{name: metadata.version(name) for name in packages}}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)
