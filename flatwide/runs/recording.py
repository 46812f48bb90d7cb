"""Keep a run's files while it trains: rows of metrics, checkpoints, and the result last."""

import contextlib
import datetime
import functools
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flatwide import data, machine, sparsify, trees
from flatwide.runs import checkpoints, logs
from flatwide.runs.directory import RunDirectory, best_evaluations
from flatwide.runs.experiment import Experiment
from flatwide.runs.jax_settings import is_double, matmul_precision
from flatwide.training import devices
from flatwide.training.evaluate import Evaluation, Interrupted, summarize
from flatwide.training.loop import Taken
from flatwide.training.state import State

Evaluate = Callable[[State], Evaluation]


class Stopped(Exception):
    """The run was asked to stop; it has saved its state, and the same command goes on from there."""


class Memory(NamedTuple):
    """What a run remembers beside its state, so that it goes on as if it had never stopped."""

    started: str
    seconds: float = 0.0  # spent before this process
    loss_total: float = 0.0  # of the steps since the last evaluation, added up in their order
    loss_count: int = 0


class Recording:
    """The files of one run in training, fed with what its steps gave."""

    def __init__(
        self,
        built: Experiment,
        directory: RunDirectory,
        state: State,
        *,
        threads: int,
        should_stop: Callable[[], bool],
        quiet: bool,
    ):
        self.directory = directory
        self._built, self._threads, self._should_stop = built, threads, should_stop
        state, self._memory = _restore(directory, state, quiet=quiet)
        self._evaluation = _evaluators(built, should_stop)
        self._saved_at = self._began = time.monotonic()
        self.taken = Taken(int(state.step), state, np.zeros(1))  # the last that was fed
        self._rows: list[dict[str, float | None]] = []  # not yet in the file: those of one call go there together
        self._progress: Any = None
        self._board: Any = None

    @property
    def state(self) -> State:
        """The state after the last steps."""
        assert self.taken.state is not None  # the last of a call has it
        return self.taken.state

    @property
    def is_over(self) -> bool:
        """Tell whether all steps are taken, or the loss is not finite."""
        return self.taken.step >= self._built.num_steps or not np.isfinite(self.taken.losses[-1])

    @contextlib.contextmanager
    def watched(self, *, quiet: bool, tensorboard: bool) -> Iterator[None]:
        """Open the progress line and the event file, and close them however the run ends."""
        built, directory = self._built, self.directory
        self._progress = logs.Progress(
            built.num_steps,
            steps_per_epoch=built.steps_per_epoch,
            every_steps=built.config["log_every_steps"],
            stream=io.StringIO() if quiet else None,
        )
        was_begun = tensorboard and any(directory.path.glob("events.out.*"))
        purge_step = self.taken.step + 1 if was_begun else None
        self._board = logs.TensorBoard(directory.path if tensorboard else None, purge_step=purge_step)
        try:
            self._keep_snapshot()
            for path in self._passed():
                logs.say(f"warning: {no_snapshot(path)}", quiet=quiet)
            if self.taken.step > 0 and self._is_due(self.taken.step) and not self._has_row(self.taken.step):
                self._record()  # it was stopped before this evaluation
                self._write_rows()
            yield
        finally:
            self._progress.close()
            self._board.close()

    def feed(self, taken: Taken) -> None:
        """Take in a segment: evaluate and write a row where one is due, and save where the last checkpoint is old.

        Raises: Stopped, once the state is saved.
        """
        self.taken = taken
        self._memory = _remember(self._memory, taken.losses)
        self._log_losses()
        if not np.isfinite(taken.losses[-1]):
            self._write_rows()
            return
        row = self._record() if self._is_due(taken.step) else None
        self._progress.update(taken.step, self._in_sight(row))
        if taken.state is None:
            return
        self._write_rows()
        self._keep_snapshot()
        if self.is_over:
            return
        every = self._built.config["checkpoint_every_seconds"]
        if (stopping := self._should_stop()) or time.monotonic() - self._saved_at >= every:
            self.save()
        if stopping:
            raise self._stopped()

    def save(self) -> None:
        """Write a checkpoint, after the rows that lead to it."""
        self.directory.sync_metrics()
        memory = self._memory._replace(seconds=self._seconds())
        checkpoints.save(self.directory.checkpoints, self.taken.step, self.state, extra=memory._asdict())
        self._saved_at = time.monotonic()

    def finish(self) -> dict[str, Any]:
        """Write the final checkpoint, and last the result."""
        built, directory, taken, state = self._built, self.directory, self.taken, self.state
        rows, objective = directory.read_metrics(), built.workload.objective
        last = rows[-1] if rows else {}
        at_the_end = [taken.losses[-1], last.get("train_loss"), last.get("test_loss")]
        finite = all(loss is not None and np.isfinite(loss) for loss in at_the_end)
        memory = self._memory._replace(seconds=self._seconds())
        result = {
            "status": "finished" if finite else "diverged",
            "num_params": trees.size(state.params),
            "num_nonzero_params": sparsify.num_nonzero_params(state.params, state.mask),
            "epochs": taken.step / built.steps_per_epoch,
            "steps": taken.step,
            "seconds": memory.seconds,
            "metric_name": objective.metric_name,
            "higher_is_better": objective.higher_is_better,
            "num_devices": devices.count(built.sharding),
            "threads": self._threads,
            **where(),
            "started": memory.started,
            "finished": now(),
        }
        if finite:
            columns = ("train_loss", "train_metric", "test_loss", "test_metric", "validation_loss", "validation_metric")
            result |= {name: last[name] for name in columns}
            result |= best_evaluations(rows, higher_is_better=objective.higher_is_better)
            checkpoints.save(directory.checkpoints, taken.step, state, extra=memory._asdict(), final=True)
        else:
            result["diverged_at_step"] = taken.step - 1
        directory.write_result(result)
        return directory.read_result() or {}

    def _record(self) -> dict[str, float | None]:
        """Evaluate; it may take long, so a signal is heard before and, where data stream, within it."""
        if self.taken.scores is None:
            if self._should_stop():
                self.save()
                raise self._stopped()
            if not data.is_compiled(self._built.test):
                self.save()
        try:
            row = self._row()
        except Interrupted:
            raise self._stopped() from None
        self._rows.append(row)
        self._board.write(self.taken.step, row)
        self._memory = self._memory._replace(loss_total=0.0, loss_count=0)
        return row

    def _write_rows(self) -> None:
        if self._rows:
            self.directory.append_metrics(*self._rows)
            self._rows = []

    def _row(self) -> dict[str, float | None]:
        """Evaluate; the training split, the largest, only at the end."""
        built, taken, memory = self._built, self.taken, self._memory
        row: dict[str, float | None] = {
            "step": taken.step,
            "epoch": taken.step / built.steps_per_epoch,
            "learning_rate": built.learning_rate(taken.step - 1),
            "running_train_loss": memory.loss_total / memory.loss_count if memory.loss_count else None,
        }
        for name in ("train", "validation", "test"):
            found = None
            if taken.scores and name in taken.scores:
                found = summarize(built.workload, taken.scores[name])
            elif evaluate := self._evaluation(name, taken.step == built.num_steps):
                found = evaluate(self.state)
            row |= {f"{name}_loss": found and found.loss, f"{name}_metric": found and found.metric}
        return row

    def _keep_snapshot(self) -> None:
        """Keep the network where one is wanted at this step; one that is kept already is that of the same steps."""
        epoch = self._built.snapshot_steps.get(self.taken.step)
        if epoch is None or (path := self.directory.snapshot(epoch)).exists():
            return
        checkpoints.write(path, self.taken.step, network(self.state), extra={"epoch": epoch})

    def _passed(self) -> list[Path]:
        """List the snapshots that are wanted and whose steps are over."""
        steps = self._built.snapshot_steps
        paths = [self.directory.snapshot(epoch) for step, epoch in steps.items() if step < self.taken.step]
        return [path for path in paths if not path.exists()]

    def _seconds(self) -> float:
        return self._memory.seconds + time.monotonic() - self._began

    def _is_due(self, step: int) -> bool:
        """Tell whether there is an evaluation after so many steps."""
        return step % self._built.eval_every_steps == 0 or step == self._built.num_steps

    def _has_row(self, step: int) -> bool:
        return any(row["step"] == step for row in self.directory.read_metrics())

    def _stopped(self) -> Stopped:
        return Stopped(
            f"stopped at step {self.taken.step} of {self._built.num_steps}, saved in {self.directory.checkpoints}; "
            "the same command goes on from there."
        )

    def _log_losses(self) -> None:
        taken, every = self.taken, self._built.config["log_every_steps"]
        first = taken.step - len(taken.losses)
        for step in range((first // every + 1) * every, taken.step + 1, every):
            self._board.write(step, {"batch_loss": float(taken.losses[step - first - 1])})

    def _in_sight(self, row: Mapping[str, float | None] | None) -> dict[str, float | None]:
        """Choose what the progress line shows: the last evaluation once there is one."""
        if row is None:
            return {}
        return {
            "running_train_loss": row["running_train_loss"],
            f"test_{self._built.workload.objective.metric_name}": row["test_metric"],
        }


def network(state: State) -> dict[str, Any]:
    """Pick what a snapshot holds of a state: all that the network's outputs depend on."""
    return {"params": state.params, "stats": state.stats, "mask": state.mask}


def no_snapshot(path: Path) -> str:
    """Say that a run has passed an epoch whose network was not asked for then."""
    return (
        f"{path}: there is no such snapshot, since config.measure_epochs did not name this epoch when the run passed "
        "it. Train the run again, with the epoch in config.measure_epochs, in another --workdir."
    )


def _restore(directory: RunDirectory, state: State, *, quiet: bool) -> tuple[State, Memory]:
    """Go on from the newest checkpoint that is whole, or start."""
    newest = checkpoints.load_newest(directory.checkpoints, state)
    for warning in newest.warnings:
        logs.say(f"warning: {warning}", quiet=quiet)
    if (directory.path / "metrics.csv").exists():
        directory.truncate_metrics(newest.step)
    if newest.tree is None:
        return state, Memory(started=now())
    logs.say(f"{directory.path}: going on from step {newest.step}.", quiet=quiet)
    return newest.tree, Memory(**newest.extra)


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


def _remember(memory: Memory, losses: np.ndarray) -> Memory:
    """Add losses one by one, so that the sum does not depend on how the steps were cut into segments."""
    total = memory.loss_total
    for loss in losses.tolist():
        total += loss
    return memory._replace(loss_total=total, loss_count=memory.loss_count + len(losses))


def where() -> dict[str, Any]:
    """Tell what numbers are computed with, and how exactly."""
    return {
        "device": _device(),
        "x64": is_double(),
        "matmul_precision": matmul_precision(),
        "versions": _versions(),
    }


@functools.cache  # reading them takes longer than an epoch of a small network
def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "flatwide")
    return {"python": sys.version.split()[0], **{name: metadata.version(name) for name in packages}}


@functools.cache
def _device() -> str:
    kind = jax.local_devices()[0].device_kind
    return f"cpu: {machine.model_name()}" if kind == "cpu" else kind


def now() -> str:
    """Give the time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
