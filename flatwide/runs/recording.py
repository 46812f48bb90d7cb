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

from flatwide import chance, data, machine, optimizers, processes, sparsify, trees
from flatwide.config import digest
from flatwide.runs import checkpoints, disk, logs, rows, snapshots
from flatwide.runs.directory import IDENTITY, RunDirectory, best_evaluations
from flatwide.runs.experiment import Experiment
from flatwide.runs.jax_settings import is_double, matmul_precision
from flatwide.training import devices
from flatwide.training.evaluate import Evaluation, Interrupted, summarize
from flatwide.training.loop import Taken
from flatwide.training.state import State
from flatwide.training.stretch import AVERAGE

Evaluate = Callable[[State], Evaluation]

SECOND_MOMENTS = "second_moments"  # in a snapshot, of Adam
_MOST_WARNINGS = 3  # of snapshots that are missing


class Stopped(Exception):
    """The run was asked to stop; it has saved its state, and the same command goes on from there."""


class Memory(NamedTuple):
    """What a run remembers beside its state, so that it goes on as if it had never stopped."""

    started: str
    seconds: float = 0.0  # spent before this process
    loss_total: float = 0.0  # of the steps since the last evaluation, added up in their order
    loss_count: int = 0
    learning_rate: float | None = None  # that the last step used; None before the first
    identity: str = ""  # of the run; checkpoints of earlier versions have neither it nor the rest
    metrics_rows: int | None = None  # of metrics.csv, up to this state
    metrics_sha256: str = ""  # of its header and those rows


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
        state, self._memory, self._written = _restore(directory, state, quiet=quiet)
        self._evaluation = _evaluators(built, self._is_to_stop)
        self._snapshot_steps = frozenset(built.snapshot_steps)
        self._saved_at = self._began = time.monotonic()
        learning_rate, step = self._memory.learning_rate, int(state.step)
        if learning_rate is None and step > 0:  # a checkpoint of before it was saved
            learning_rate = built.learning_rate(step - 1)
        # The last that was fed.
        self.taken = Taken(step=step, state=state, losses=np.zeros(1), learning_rate=learning_rate)
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
            stream=io.StringIO() if quiet or not directory.is_written else None,
        )
        tensorboard = tensorboard and directory.is_written
        was_begun = tensorboard and any(directory.path.glob("events.out.*"))
        purge_step = self.taken.step + 1 if was_begun else None
        self._board = logs.TensorBoard(directory.path if tensorboard else None, purge_step=purge_step)
        try:
            self._keep_snapshot()
            passed = self._passed()
            for path in passed[:_MOST_WARNINGS]:
                logs.say(f"warning: {no_snapshot(path)}", quiet=quiet)
            if len(passed) > _MOST_WARNINGS:
                logs.say(f"warning: and {len(passed) - _MOST_WARNINGS} more snapshots are missing.", quiet=quiet)
            is_due = self.taken.step > 0 and self._is_due(self.taken.step)
            if is_due and not processes.agreed(lambda: self._has_row(self.taken.step)):
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
        self._memory = _remember(self._memory, taken)
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
        if (stopping := self._is_to_stop()) or time.monotonic() - self._saved_at >= every:
            self.save()
        if stopping:
            raise self._stopped()

    def save(self) -> None:
        """Write a checkpoint, after the rows that lead to it."""
        self._write_rows()
        self.directory.sync_metrics()
        checkpoints.save(self.directory.checkpoints, self.taken.step, self.state, extra=self._remembered()._asdict())
        self._saved_at = time.monotonic()

    def finish(self) -> dict[str, Any]:
        """Write the final checkpoint, and last the result."""
        built, directory, taken, state = self._built, self.directory, self.taken, self.state
        evaluations, objective = processes.agreed(self._evaluations), built.workload.objective
        last = evaluations[-1] if evaluations else {}
        at_the_end = [taken.losses[-1], last.get("train_loss"), last.get("test_loss")]
        finite = all(loss is not None and np.isfinite(loss) for loss in at_the_end)
        memory = self._remembered()
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
        return processes.agreed(directory.read_result) or {}

    def _record(self) -> dict[str, float | None]:
        """Evaluate; it may take long, so a signal is heard before and, where data stream, within it."""
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
        self._memory = self._memory._replace(loss_total=0.0, loss_count=0)
        return row

    def _is_to_stop(self) -> bool:
        """Whether process 0 was asked to stop; all others do as it does."""
        is_asked = self._should_stop()
        return processes.agreed(lambda: is_asked)

    def _write_rows(self) -> None:
        if self._rows:
            self._written.update(self.directory.append_metrics(*self._rows))
            self._rows = []

    def _evaluations(self) -> list[rows.Row]:
        """Read back what was written, from which the best evaluation is chosen.

        Raises: ValueError if somebody has changed it meanwhile.
        """
        path = self.directory.metrics_file
        content = disk.read(path) or b""
        if rows.Digest(content).hexdigest() != self._written.hexdigest():
            raise ValueError(
                f"{path}: the file was changed while the run trained. The same command goes on from the last "
                "checkpoint whose rows are unchanged."
            )
        return rows.decode(path, content)

    def _remembered(self) -> Memory:
        """Say what a checkpoint of this moment remembers."""
        return self._memory._replace(
            seconds=self._seconds(), metrics_rows=self._written.num_rows, metrics_sha256=self._written.hexdigest()
        )

    def _row(self) -> dict[str, float | None]:
        """Evaluate; the training split, the largest, only at the end, and never with the averaged weights."""
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
        """Evaluate one split, with the averaged weights where asked."""
        taken, found = self.taken, None
        if taken.scores and name + average in taken.scores:
            found = summarize(self._built.workload, taken.scores[name + average])
        elif evaluate := self._evaluation(name, taken.step == self._built.num_steps):
            found = evaluate(self.state.averaged() if average else self.state)
        return {f"{name}_loss{average}": found and found.loss, f"{name}_metric{average}": found and found.metric}

    def _keep_snapshot(self) -> None:
        """Keep the network where one is wanted at this step; one that is kept already is that of the same steps."""
        step, each = self.taken.step, self._built.steps_per_epoch
        if step not in self._snapshot_steps:
            return
        path = snapshots.path(self.directory, step, each)
        if processes.agreed(lambda: checkpoints.existing(path) is not None):
            return
        extra = {"epoch": snapshots.epoch(step, each), "identity": self._memory.identity}
        checkpoints.write(path, step, snapshot(self.state), extra=extra)

    def _passed(self) -> list[Path]:
        """List the snapshots that are wanted and whose steps are over."""
        passed = [step for step in self._built.snapshot_steps if step < self.taken.step]
        paths = [snapshots.path(self.directory, step, self._built.steps_per_epoch) for step in passed]
        return [path for path in paths if checkpoints.existing(path) is None]

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


def _chance(built: Experiment) -> dict[str, Any]:
    """Return the fields of the result that say what a prediction without inputs scores on the test split."""
    name = built.workload.objective.metric_name
    if name not in chance.METRICS:  # a game has no targets
        return {}
    weights = getattr(built.test, "arrays", {}).get("weights")
    found = chance.constant(built.test.targets, weights, metric_name=name)
    return {} if found is None else {"test_chance_metric": found.metric, "num_test_items": found.num_items}


def network(state: State) -> dict[str, Any]:
    """Pick of a state all that the network's outputs depend on."""
    return {"params": state.params, "stats": state.stats, "mask": state.mask}


def snapshot(state: State) -> dict[str, Any]:
    """Pick what a snapshot holds of a state: the network, and under Adam what scales its steps."""
    moments = optimizers.second_moments(state.optimizer)
    return network(state) | ({} if moments is None else {SECOND_MOMENTS: moments})


def no_snapshot(path: Path) -> str:
    """Say that a run has passed an epoch or a step whose network was not asked for then."""
    is_step = path.name.startswith("step-")
    asked = "measure_every_steps did not ask for this step" if is_step else "measure_epochs did not name this epoch"
    return (
        f"{path}: there is no such snapshot, since config.{asked} when the run passed it. Train the run again, with a "
        "config that asks for it, in another --workdir."
    )


def _restore(directory: RunDirectory, state: State, *, quiet: bool) -> tuple[State, Memory, rows.Digest]:
    """Go on from the newest checkpoint that is whole and whose rows of metrics are unchanged, or start.

    Rows after it are dropped unread, since their steps are done again.
    """
    identity = processes.agreed(lambda: digest(directory.read_config()[IDENTITY]))
    path = directory.metrics_file
    written = disk.read(path)
    fault = functools.partial(_fault, identity, path, written)
    newest = checkpoints.load_newest(directory.checkpoints, state, fault=fault)
    for warning in newest.warnings:
        logs.say(f"warning: {warning}", quiet=quiet)
    if newest.tree is None:
        directory.replace_metrics(b"")
        return checkpoints.of_first(state), Memory(started=now(), identity=identity), rows.Digest()
    memory = Memory(**newest.extra)._replace(identity=identity)
    logs.say(f"{directory.path}: going on from step {newest.step}.", quiet=quiet)
    if not directory.is_written:
        return newest.tree, memory, rows.Digest()
    if memory.metrics_rows is None:
        kept = rows.until(path, written or b"", newest.step)
    else:
        kept = rows.first(written or b"", memory.metrics_rows) or b""
    directory.replace_metrics(kept)
    return newest.tree, memory, rows.Digest(kept)


def _fault(identity: str, path: Path, written: bytes | None, checkpoint: Path, extra: Mapping[str, Any]) -> str:
    """Say why a run cannot go on from a checkpoint: it is of another run, or its rows of metrics are not there.

    Args:
      path, written: `metrics.csv` and what it holds.
    """
    if fault := checkpoints.identity_fault(extra, identity):
        return f"{checkpoint}: {fault}."
    num_rows = extra.get("metrics_rows")
    if num_rows is None:  # of an earlier version
        return ""
    kept = rows.first(written or b"", num_rows)
    if kept is not None and rows.Digest(kept).hexdigest() == extra["metrics_sha256"]:
        return ""
    wrong = "are not all there" if kept is None else "were changed after they were written"
    return f"{path}: the first {num_rows} rows, which lead to {checkpoint.name}, {wrong}."


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


def _remember(memory: Memory, taken: Taken) -> Memory:
    """Add losses one by one, so that the sum does not depend on how the steps were cut into segments."""
    total = memory.loss_total
    for loss in taken.losses.tolist():
        total += loss
    count = memory.loss_count + len(taken.losses)
    return memory._replace(loss_total=total, loss_count=count, learning_rate=taken.learning_rate)


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
