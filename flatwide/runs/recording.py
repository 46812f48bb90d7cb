"""The files of a run while it trains: rows of metrics, checkpoints, and last the result."""

import contextlib
import functools
import io
import math
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flatwide import chance, data, machine, optimizers, processes, sparsify, trees
from flatwide.runs import checkpoints, disk, hooks, logs, resuming, rows, snapshots
from flatwide.runs.directory import RunDirectory, write_atomically
from flatwide.runs.experiment import Experiment
from flatwide.runs.jax_settings import is_double, matmul_precision
from flatwide.runs.results import best_evaluations
from flatwide.runs.resuming import Memory, now
from flatwide.training import devices
from flatwide.training.compiled_epochs import AVERAGE
from flatwide.training.evaluate import Evaluation, Interrupted, summarize
from flatwide.training.loop import Taken
from flatwide.training.state import State

Evaluate = Callable[[State], Evaluation]

SECOND_MOMENTS = "second_moments"  # in a snapshot, of Adam
_MOST_WARNINGS = 3  # of snapshots that are missing


class Stopped(Exception):
    """A run or a study was stopped, and has saved its state; the same command resumes it."""


class Recording:
    """The files of one run in training, updated with the output of its steps."""

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
        state, self._memory, self._written = resuming.restore(directory, state, quiet=quiet)
        self._evaluation = _evaluators(built, self._is_to_stop)
        self._snapshot_steps = frozenset(built.snapshot_steps)
        self._saved_at = self._began = time.monotonic()
        learning_rate, step = self._memory.learning_rate, int(state.step)
        if learning_rate is None and step > 0:  # of a checkpoint from before this was saved
            learning_rate = built.learning_rate(step - 1)
        # The latest segment.
        self.taken = Taken(step=step, state=state, losses=np.zeros(1), learning_rate=learning_rate)
        self._rows: list[dict[str, float | None]] = []  # not yet in the file: the rows of a call are written together
        for name, content in built.data.files if directory.is_written else ():
            write_atomically(directory.path / name, content)
        self._hook = hooks.caller(built.config["on_metrics"] if directory.is_written else None, directory.path)
        self._progress: Any = None
        self._board: Any = None

    @property
    def state(self) -> State:
        """The state after the last steps."""
        assert self.taken.state is not None  # the last segment of a call has it
        return self.taken.state

    @property
    def is_over(self) -> bool:
        """Whether all steps are taken, or the loss is not finite."""
        return self.taken.step >= self._built.num_steps or not np.isfinite(self.taken.losses[-1])

    @contextlib.contextmanager
    def watched(self, *, quiet: bool, tensorboard: bool) -> Iterator[None]:
        """Open the progress line and the event file, and close them however the run ends."""
        built, directory = self._built, self.directory
        self._progress = logs.Progress(
            built.num_steps,
            steps_per_epoch=built.steps_per_epoch,
            every_steps=built.config["log_every_steps"],
            stream=io.StringIO() if quiet or not directory.is_written else None,
        )
        tensorboard = tensorboard and directory.is_written
        was_begun = tensorboard and any(directory.path.glob("events.out.*"))
        purge_step = self.taken.step + 1 if was_begun else None
        self._board = logs.TensorBoard(directory.path if tensorboard else None, purge_step=purge_step)
        try:
            self._keep_snapshot()
            missing = self._missing_snapshots()
            for path in missing[:_MOST_WARNINGS]:
                logs.say(f"warning: {no_snapshot(path)}", quiet=quiet)
            if len(missing) > _MOST_WARNINGS:
                logs.say(f"warning: and {len(missing) - _MOST_WARNINGS} more snapshots are missing.", quiet=quiet)
            is_due = self.taken.step > 0 and self._is_due(self.taken.step)
            if is_due and not processes.agreed(
                lambda: any(row["step"] == self.taken.step for row in self.directory.read_metrics())
            ):
                self._record()  # the run was stopped before this evaluation
                self._write_rows()
            yield
        finally:
            self._progress.close()
            self._board.close()

    def feed(self, taken: Taken) -> None:
        """Process a segment: evaluate and write a row if one is due, and save if the last checkpoint is old.

        Raises: Stopped, once the state is saved.
        """
        self.taken = taken
        self._memory = resuming.remember(self._memory, taken)
        self._log_losses()
        if not np.isfinite(taken.losses[-1]):
            self._write_rows()
            return
        row = self._record() if self._is_due(taken.step) else None
        name = f"test_{self._built.workload.objective.metric_name}"
        shown = {"running_train_loss": row["running_train_loss"], name: row["test_metric"]} if row else {}
        self._progress.update(taken.step, shown)
        if taken.state is None:
            return
        self._write_rows()
        self._keep_snapshot()
        if self.is_over:
            return
        is_due = time.monotonic() - self._saved_at >= self._built.config["checkpoint_every_seconds"]
        stopping = self._is_to_stop()
        if processes.agreed(lambda: is_due) or stopping:  # all write a sharded state together
            self.save()
        if stopping:
            raise self._stopped()

    def save(self) -> None:
        """Write a checkpoint, after the rows that lead to it."""
        self._write_rows()
        self.directory.sync_metrics()
        checkpoints.save(
            self.directory.checkpoints, self.taken.step, self.state, extra=self._checkpoint_memory()._asdict()
        )
        self._saved_at = time.monotonic()

    def finish(self) -> dict[str, Any]:
        """Write the final checkpoint, and last the result."""
        built, directory, taken, state = self._built, self.directory, self.taken, self.state
        evaluations, objective = processes.agreed(self._evaluations), built.workload.objective
        last = evaluations[-1] if evaluations else {}
        at_the_end = [taken.losses[-1], last.get("train_loss"), last.get("test_loss")]
        finite = all(loss is not None and np.isfinite(loss) for loss in at_the_end)
        memory = self._checkpoint_memory()
        result = {
            "status": "finished" if finite else "diverged",
            "num_params": trees.size(state.params),
            "num_nonzero_params": sparsify.num_nonzero_params(state.params, devices.to_host(state.mask)),
            "epochs": taken.step / built.steps_per_epoch,
            "steps": taken.step,
            "num_gradients": built.num_gradients(taken.step),
            "seconds": memory.seconds,
            "metric_name": objective.metric_name,
            "higher_is_better": objective.higher_is_better,
            **_chance(built),
            "num_devices": devices.count(built.sharding),
            "threads": self._threads,
            **where(),
            "started": memory.started,
            "finished": now(),
        }
        if finite:
            columns = ("train_loss", "train_metric", "test_loss", "test_metric", "validation_loss", "validation_metric")
            result |= {name: last[name] for name in columns} | {name: last.get(name) for name in rows.AVERAGED}
            result |= best_evaluations(evaluations, higher_is_better=objective.higher_is_better)
            directory.sync_metrics()
            checkpoints.save(directory.checkpoints, taken.step, state, extra=memory._asdict(), final=True)
        else:
            result["diverged_at_step"] = taken.step - 1
        directory.write_result(result)
        self._hook(taken.step, result if finite else {**result, "test_metric": math.nan})  # in place of its last one
        return processes.agreed(directory.read_result) or {}

    def _record(self) -> dict[str, float | None]:
        """Evaluate; since this may take long, handle signals before it and, for streamed data, during it."""
        if self.taken.scores is None:
            if self._is_to_stop():
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
        self._hook(self.taken.step, row)
        self._memory = self._memory._replace(loss_total=0.0, loss_count=0)
        return row

    def _is_to_stop(self) -> bool:
        """Whether process 0 was asked to stop; all processes stop together."""
        is_stopping = self._should_stop()
        return processes.agreed(lambda: is_stopping)

    def _write_rows(self) -> None:
        if self._rows:
            self._written.update(self.directory.append_metrics(*self._rows))
            self._rows = []

    def _evaluations(self) -> list[rows.Row]:
        """Read back the written rows, from which the best evaluation is chosen.

        Raises: ValueError if they were changed meanwhile.
        """
        path = self.directory.metrics_file
        content = disk.read(path) or b""
        if rows.Digest(content).hexdigest() != self._written.hexdigest():
            raise ValueError(
                f"{path}: the file was changed while the run trained. Rerun the same command to resume from the "
                "last checkpoint whose rows are unchanged."
            )
        return rows.decode(path, content)

    def _checkpoint_memory(self) -> Memory:
        """Return the memory that a checkpoint stores now."""
        return self._memory._replace(
            seconds=self._memory.seconds + time.monotonic() - self._began,
            metrics_rows=self._written.num_rows,
            metrics_sha256=self._written.hexdigest(),
        )

    def _row(self) -> dict[str, float | None]:
        """Evaluate; the training split, the largest, only at the end and never with averaged weights."""
        built, taken, memory = self._built, self.taken, self._memory
        row: dict[str, float | None] = {
            "step": taken.step,
            "epoch": taken.step / built.steps_per_epoch,
            "learning_rate": taken.learning_rate,
            "running_train_loss": memory.loss_total / memory.loss_count if memory.loss_count else None,
        }
        for name in ("train", "validation", "test"):
            row |= self._scored(name)
        for name in ("validation", "test") if built.has_average else ():
            row |= self._scored(name, AVERAGE)
        return row

    def _scored(self, name: str, average: str = "") -> dict[str, float | None]:
        """Evaluate one split, optionally with averaged weights."""
        taken, evaluation = self.taken, None
        if taken.scores and name + average in taken.scores:
            evaluation = summarize(self._built.workload, taken.scores[name + average])
        elif evaluate := self._evaluation(name, taken.step == self._built.num_steps):
            evaluation = evaluate(self.state.averaged() if average else self.state)
        return {
            f"{name}_loss{average}": evaluation and evaluation.loss,
            f"{name}_metric{average}": evaluation and evaluation.metric,
        }

    def _keep_snapshot(self) -> None:
        """Write a snapshot if one is due at this step; an existing one is of the same steps."""
        step, each = self.taken.step, self._built.steps_per_epoch
        if step not in self._snapshot_steps:
            return
        path = snapshots.path(self.directory, step, each)
        if processes.agreed(lambda: checkpoints.existing(path) is not None):
            return
        extra = {"epoch": snapshots.epoch(step, each), "identity": self._memory.identity}
        checkpoints.write(path, step, snapshot(self.state), extra=extra)

    def _missing_snapshots(self) -> list[Path]:
        """List the requested snapshots that are missing although their steps are over."""
        steps = [step for step in self._built.snapshot_steps if step < self.taken.step]
        paths = [snapshots.path(self.directory, step, self._built.steps_per_epoch) for step in steps]
        return [path for path in paths if checkpoints.existing(path) is None]

    def _is_due(self, step: int) -> bool:
        """Whether there is an evaluation after `step` steps."""
        return step % self._built.eval_every_steps == 0 or step == self._built.num_steps

    def _stopped(self) -> Stopped:
        return Stopped(
            f"stopped at step {self.taken.step} of {self._built.num_steps}, saved in {self.directory.checkpoints}. "
            "Rerun the same command to resume."
        )

    def _log_losses(self) -> None:
        taken, every = self.taken, self._built.config["log_every_steps"]
        first = taken.step - len(taken.losses)
        for step in range((first // every + 1) * every, taken.step + 1, every):
            self._board.write(step, {"batch_loss": float(taken.losses[step - first - 1])})


def _chance(built: Experiment) -> dict[str, Any]:
    """Return the result fields with the test score of a constant prediction."""
    name = built.workload.objective.metric_name
    if name not in chance.METRICS:  # a game has no targets
        return {}
    arrays = getattr(built.test, "arrays", {})
    constant = chance.constant(
        built.test.targets, arrays.get("weights"), metric_name=name, num_bytes=arrays.get("num_bytes", 1)
    )
    return {} if constant is None else {"test_chance_metric": constant.metric, "num_test_items": constant.num_items}


def network(state: State) -> dict[str, Any]:
    """Select the parts of a state on which the network's outputs depend."""
    return {"params": state.params, "stats": state.stats, "mask": state.mask}


def snapshot(state: State) -> dict[str, Any]:
    """Select the parts of a state for a snapshot: the network, and Adam's second moments."""
    moments = optimizers.second_moments(state.optimizer)
    return network(state) | ({} if moments is None else {SECOND_MOMENTS: moments})


def no_snapshot(path: Path) -> str:
    """Return the message that a snapshot is missing because it was not requested while the run trained."""
    is_step = path.name.startswith("step-")
    reason = "measure_every_steps did not include this step" if is_step else "this epoch was not in measure_epochs"
    return (
        f"{path}: there is no such snapshot, since {reason} while this run trained. Train the run again, with a config "
        "that includes it, in another --workdir."
    )


def _evaluators(built: Experiment, should_stop: Callable[[], bool]) -> Callable[[str, bool], Evaluate | None]:
    """Return a function that maps a split's name to its evaluation; only the last one of a run scores all examples."""
    splits = {"train": built.scored_train, "validation": built.validation, "test": built.test}
    limit = built.config["steps_per_eval"]

    @functools.cache
    def of(name: str, num_batches: int | None) -> Evaluate | None:
        split = splits[name]
        return split and built.evaluator(split, num_batches=num_batches, interrupt=should_stop)

    def evaluation(name: str, is_last: bool) -> Evaluate | None:
        return None if name == "train" and not is_last else of(name, None if is_last else limit)

    return evaluation


def where() -> dict[str, Any]:
    """Return the device, precision and package versions of this process."""
    kind = jax.local_devices()[0].device_kind
    return {
        "device": f"cpu: {machine.model_name()}" if kind == "cpu" else kind,
        "x64": is_double(),
        "matmul_precision": matmul_precision(),
        "versions": _versions(),
    }


@functools.cache  # reading them takes longer than an epoch of a small network
def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "flatwide")
    return {"python": sys.version.split()[0], **{name: metadata.version(name) for name in packages}}
