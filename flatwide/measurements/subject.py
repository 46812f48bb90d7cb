"""The argument of a measurement, a saved network of a run with examples, and its result."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import measure, optimizers, workloads
from flatwide.config import effective_rho
from flatwide.measurements.errors import NotApplicableError, WaitingError
from flatwide.runs import checkpoints, recording, records, snapshots
from flatwide.runs.directory import RunDirectory
from flatwide.runs.experiment import Experiment
from flatwide.runs.identity import locate
from flatwide.runs.load import final_state, rebuild
from flatwide.runs.records import Measured as Measured
from flatwide.training.state import State
from flatwide.types import Array, Batch, PyTree
from flatwide.workloads import Workload


@dataclass(frozen=True)
class OfWorkload:
    """A function of a workload; those of equal workloads are equal, so that all runs of a network share programs."""

    workload: Workload


class MeanLoss(OfWorkload):
    """The mean loss of a prepared batch in evaluation mode: loss(params, batch, stats)."""

    def __call__(self, params: PyTree, batch: Batch, stats: PyTree) -> Array:
        """Compute the loss: sum of losses / sum of weights."""
        return workloads.loss(self.workload, params, batch, stats=stats, train=False, key=None)[0]


class ExampleLoss(OfWorkload):
    """The loss of one prepared example, without a batch axis, in evaluation mode: loss(params, example, stats)."""

    def __call__(self, params: PyTree, example: Batch, stats: PyTree) -> Array:
        """Compute the mean loss over the scored items of the example."""
        batch = jax.tree.map(lambda leaf: leaf[None], example)
        return workloads.loss(self.workload, params, batch, stats=stats, train=False, key=None)[0]


class Weights(OfWorkload):
    """The scored items of a prepared batch: weigh(batch)."""

    def __call__(self, batch: Batch) -> float:
        """Count the items."""
        return float(jnp.sum(self.workload.objective.weights(batch)))


class Outputs(OfWorkload):
    """The outputs of the network for a prepared batch in evaluation mode: outputs(params, batch, stats)."""

    def __call__(self, params: PyTree, batch: Batch, stats: PyTree) -> PyTree:
        """Compute the outputs."""
        return self.workload.model.apply(params, stats, batch["inputs"], train=False, key=None)[0]


@dataclass(frozen=True, eq=False)
class Subject:
    """A saved network of a run, and examples to measure it on.

    built: the pieces of the run; `built.config` has its learning rate, rho and batch size.
    params: pruned weights are 0. stats: batch-norm averages, or {}. mask: None, or booleans like params (True is kept).
    epoch: number of passes over the training examples when the network was saved.
    examples: prepared batch of at most `measure_examples` training examples: inputs, targets, with their label noise.
    saved: the run on disk; None for a network that is not from a run, which has no history.
    snapshot: epoch of the snapshot, possibly a fraction; None for the end.
    """

    built: Experiment
    params: PyTree
    stats: PyTree
    mask: PyTree | None
    epoch: float
    examples: Batch
    saved: "Saved | None" = None
    snapshot: float | None = None

    @property
    def num_examples(self) -> int:
        """Count the examples."""
        return len(jax.tree.leaves(self.examples)[0])

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the examples in batches of at most a size."""
        for first in range(0, self.num_examples, size):
            yield jax.tree.map(lambda leaf, at=first: leaf[at : at + size], self.examples)

    @property
    def loss_fn(self) -> MeanLoss:
        """Return loss(params, batch, stats)."""
        return MeanLoss(self.built.workload)

    @property
    def per_example_loss(self) -> ExampleLoss:
        """Return loss(params, example, stats) of one example, which has no batch axis."""
        return ExampleLoss(self.built.workload)

    @property
    def weigh(self) -> Weights:
        """Return weigh(batch), the number of scored items of a prepared batch, its weight in a mean over batches."""
        return Weights(self.built.workload)

    @property
    def outputs(self) -> Outputs:
        """Return outputs(params, batch, stats)."""
        return Outputs(self.built.workload)

    def on_test_examples(self, num_examples: int) -> "Subject":
        """Return the same network with test examples, all if there are at most num_examples.

        Raises: NotApplicableError for a game.
        """
        if self.built.workload.objective.metric_name == "score":
            raise NotApplicableError(f"config.dataset={self.built.config['dataset']!r}: a game has no test examples.")
        raw = self.built.test_examples(num_examples)
        return dataclasses.replace(self, examples=_prepared(self.built.workload.prepare)(raw))

    def averaged(self) -> "Subject":
        """Return the network of the average of the run's weights.

        Raises: NotApplicableError if the run did not average them, or the network is a snapshot, which has no average.
        """
        if not self.built.has_average or self.snapshot is not None:
            raise NotApplicableError(
                f"config.weight_average={self.built.config['weight_average']!r}: expected the end of a run with 'ema' "
                "or 'swa'; snapshots have no average."
            )
        state = final_state(self._saved.directory, self.built).averaged()
        return dataclasses.replace(self, params=state.params, stats=state.stats)

    def problem(self, batch_size: int) -> measure.Problem:
        """Return the mean loss over the examples for `flatwide.measure`, with at most batch_size of them in memory."""
        options: dict[str, Any] = {"mask": self.mask, "extra": self.stats, "weigh": self.weigh}
        return measure.problem(self.loss_fn, self.params, self.examples, batch_size=batch_size, **options)

    def example_problem(self) -> measure.Problem:
        """Return the losses of single examples for `flatwide.measure`."""
        return measure.example_problem(
            self.per_example_loss, self.params, self.examples, mask=self.mask, extra=self.stats
        )

    def hessian(self, batch_size: int) -> measure.Operator:
        """Return the Hessian of the mean loss over the examples, restricted to the kept weights."""
        return measure.hessian_operator(self.problem(batch_size))

    @functools.cached_property
    def initial(self) -> State:
        """Compute the initial state of the run: params, stats, mask."""
        return self.built.init()

    @property
    def history(self) -> list[dict[str, float | None]]:
        """Read the rows of the run's `metrics.csv` up to this epoch.

        Raises: ValueError for a network that is not from a run.
        """
        return [row for row in self._saved.directory.read_metrics() if (row["epoch"] or 0) <= self.epoch]

    def path(self) -> "Iterator[Subject]":
        """Load the snapshots of the run up to this network, which is the last.

        Raises: ValueError for a network that is not from a run.
        """
        for epoch in self._saved.kept_epochs:
            if epoch < self.epoch:
                yield self._saved.subject(epoch)
        yield self

    def second_moments(self) -> dict[str, PyTree] | None:
        """Load Adam's average of squared gradients at this network, in the form of `optimizers.second_moments`.

        Returns: None if the snapshot has none: those of earlier versions, and of other optimizers.
        Raises: ValueError for a network that is not from a run.
        """
        return self._saved.second_moments(self.snapshot)

    def before(self, measurement: str) -> Mapping[str, np.ndarray] | None:
        """Read the arrays of a measurement at the last snapshot before this network that has it.

        Raises: ValueError for a network that is not from a run.
        """
        return self._saved.arrays_before(measurement, self.epoch)

    def base(self, *, seed: int | None = None) -> "Subject | None":
        """Load the network of the same epoch from the same config at rho 0; None if that run diverged.

        Args:
          seed: of that run; None for the seed of this run.
        Raises: WaitingError if that run is not finished; ValueError for a network that is not from a run.
        """
        saved = self._saved.base(seed=seed)
        return saved and saved.subject(self.snapshot)

    @property
    def _saved(self) -> "Saved":
        if self.saved is None:
            raise ValueError("saved=None: expected a network of a run in a work directory; this network has no files.")
        return self.saved


class Saved(NamedTuple):
    """A finished run whose networks can be loaded.

    examples: network -> examples to measure it on; of a game, the network plays them. num_examples: requested number.
    """

    directory: RunDirectory
    built: Experiment
    examples: Callable[[Mapping[str, PyTree] | None], Batch]
    num_examples: int

    def subject(self, epoch: float | None) -> Subject:
        """Load the network of a snapshot, or with None that of the end.

        Raises: ValueError if there is no such snapshot or it is damaged.
        """
        built, directory = self.built, self.directory
        if epoch is None:
            network, at = (
                recording.network(final_state(directory, built)),
                built.num_steps / built.steps_per_epoch,
            )
        else:
            network, at = self._load(epoch, recording.network(built.state_shapes())), float(epoch)
        examples = self.examples(network)
        return Subject(
            built=built,
            params=network["params"],
            stats=network["stats"],
            mask=network["mask"],
            epoch=at,
            examples=examples,
            saved=self,
            snapshot=epoch,
        )

    @property
    def kept_epochs(self) -> list[float]:
        """Return the epochs of the snapshots, ascending; a fraction for a snapshot within an epoch."""
        each = self.built.steps_per_epoch
        return [snapshots.epoch(step, each) for step in snapshots.kept(self.directory, each)]

    def second_moments(self, epoch: float | None) -> dict[str, PyTree] | None:
        """Load Adam's average of squared gradients at a snapshot, or with None at the end; None if it was not saved.

        Raises: as `subject`.
        """
        if epoch is None:
            return optimizers.second_moments(final_state(self.directory, self.built).optimizer)
        like = optimizers.second_moments(self.built.state_shapes().optimizer)
        if like is None:
            return None
        try:
            return self._load(epoch, {recording.SECOND_MOMENTS: like})[recording.SECOND_MOMENTS]
        except checkpoints.DamagedError:
            raise
        except ValueError:  # of an earlier version
            return None

    def arrays_before(self, measurement: str, epoch: float) -> Mapping[str, np.ndarray] | None:
        """Read the arrays of a measurement at the last snapshot before an epoch that has it."""
        each = self.built.steps_per_epoch
        for step in reversed(snapshots.kept(self.directory, each)):
            if step < round(epoch * each):
                wanted = records.of_step(measurement, step, each, num_examples=self.num_examples)
                if (arrays := records.read_arrays(self.directory, wanted)) is not None:
                    return arrays
        return None

    def _load(self, epoch: float, like: dict[str, PyTree]) -> dict[str, PyTree]:
        """Load part of a snapshot."""
        each, directory = self.built.steps_per_epoch, self.directory
        wanted = snapshots.path(directory, step := round(epoch * each), each)
        path = checkpoints.existing(wanted)
        if path is None:
            raise ValueError(recording.no_snapshot(wanted))
        return checkpoints.load(path, like, step=step, fault=directory.identity_fault, is_part=True)[0]

    def base(self, *, seed: int | None = None) -> "Saved | None":
        """Return the run of the same config with rho 0 in the same work directory; None if it diverged.

        Args:
          seed: of that run; None for the seed of this run.
        Raises: WaitingError if it is not finished.
        """
        run_seed = self.built.config["seed"]
        seed = run_seed if seed is None else seed
        if effective_rho(self.built.config) == 0 and seed == run_seed:
            return self
        changes = {"rho": 0.0, "seed": seed}
        directory, _ = locate({**self.built.config, **changes}, self.directory.path.parent.parent)
        if (status := directory.status()) == "diverged":
            return None
        if status != "finished":
            other = "" if seed == run_seed else f" and seed {seed}"
            raise WaitingError(
                f"{self.directory.path}: is compared with its counterpart at rho 0{other}, which is {status}: "
                f"{directory.path}. Train that run, then rerun the same command to measure this one.",
                waits_for=directory.name,
            )
        return self._replace(directory=directory, built=rebuild(directory))


def examples_of(built: Experiment, num_examples: int) -> Callable[[Mapping[str, PyTree] | None], Batch]:
    """Draw the training examples for measurements, prepared without augmentation.

    With the same seed, a smaller number of examples is a subset of a larger one.

    Returns: network -> examples, all if there are at most num_examples. If the data set is a game, `network` plays
      them: params, stats and mask, as returned by `recording.network`, or None for the initial network.
    """
    draw, prepared = built.examples(num_examples), _prepared(built.workload.prepare)

    def examples(network: Mapping[str, PyTree] | None) -> Batch:
        def parts() -> tuple[PyTree, PyTree, PyTree | None]:
            state = recording.network(built.init()) if network is None else network
            return state["params"], state["stats"], state["mask"]

        return prepared(draw(parts))

    return examples


@functools.lru_cache(maxsize=8)
def _prepared(prepare: Callable[..., Batch]) -> Callable[[Batch], Batch]:
    return jax.jit(lambda batch: prepare(batch, None, train=False))
