"""The pieces of one run, to be driven by `flatwide.run` or stepped by hand."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import config as configs
from flatwide import data, optimizers, registry, sam, sparsify, streams, trees, workloads
from flatwide.parameterization import Factors
from flatwide.runs import division, pretrained, snapshots, start
from flatwide.runs.parts import init_shapes, model_of, num_gradients
from flatwide.training import compiled_epochs, devices, sources
from flatwide.training.compiled_epochs import Member
from flatwide.training.evaluate import Evaluation
from flatwide.training.loop import Taken
from flatwide.training.segments import Segment, compiled_segment, compiled_step
from flatwide.training.sources import Source
from flatwide.training.state import State, Values
from flatwide.training.step import Metrics, Step
from flatwide.types import Batch, Dataset, Model, PyTree, Split
from flatwide.workloads import Workload

_SMALL_EPOCH = 10**9  # examples times parameters: some seconds of one core at most
_EVALUATION_BATCH = 128  # at least; evaluation keeps no activations, so it can take more than a training batch


@dataclass(frozen=True)
class Experiment:
    """The pieces of one run, to be driven by `flatwide.run` or stepped by hand.

    config: the resolved config.
    data: the data set as loaded; train, validation, test: its splits, with label noise in the training labels;
      validation may be None.
    workload: data preparation, model and objective.
    source: the examples of each step: those of a split, or what was played.
    schedule: step -> factor of the learning rate. rho_schedule: step -> factor of rho; None is always 1.
    num_steps, steps_per_epoch, eval_every_steps: in optimizer steps.
    sharding: how a batch lies on the devices; None on one.
    values: the scalar arguments of the compiled program.
    factors: of each leaf in a step, from the parameterization and the scaling of perturbations; None where all are 1.
    variant: rho -> the ascent rule of the steps, with those factors.
    """

    config: Mapping[str, Any]
    data: Dataset
    train: Split
    validation: Split | None
    test: Split
    workload: Workload
    source: Source
    optimizer: optimizers.Optimizer
    schedule: Callable
    rho_schedule: Callable | None
    step: Step
    values: Values
    num_steps: int
    steps_per_epoch: int
    eval_every_steps: int
    sharding: devices.Sharding
    factors: Factors | None
    variant: Callable[..., sam.AscentRule]

    @property
    def model(self) -> Model:
        """The network: `init(key)` and `apply(params, stats, inputs, train=..., key=...)`."""
        return self.workload.model

    @property
    def num_params(self) -> int:
        """The number of parameters; none is drawn."""
        return trees.size(self.param_shapes)

    @property
    def param_shapes(self) -> PyTree:
        """The shapes and dtypes of the parameters; none is drawn."""
        return init_shapes(self.model)[0]

    def loss(self, params: PyTree, stats: PyTree, batch: Batch, *, train: bool = False) -> jax.Array:
        """Compute the mean loss of a raw batch, without augmentation or dropout."""
        batch = self.workload.prepare(batch, None, train=False)
        return workloads.loss(self.workload, params, batch, stats=stats, train=train, key=None)[0]

    def init(self, key: jax.Array | None = None, *, params: PyTree = None, stats: PyTree = None) -> State:
        """Make the state before the first step.

        Args:
          key: PRNG key of the weights; None for the key of `config.seed`.
          params, stats: your own initial weights and model state in place of the model's. A model that stores its
            initial weights stores `params`, unless you pass `stats` too.
        Returns: a state whose pruned weights are zero.
        """
        key = start.weights_key(self.values.seed) if key is None else key
        has_stats = stats is not None
        if params is None or stats is None:
            drawn_params, drawn_stats = self._drawn(key)
            params = drawn_params if params is None else params
            stats = drawn_stats if stats is None else stats
        if self.model.restart is not None and not has_stats:
            stats = self.model.restart(params, stats)
        parts = self._parts(params, stats, self._mask(params, stats))
        begin = self._start(restart=None if has_stats else self.model.restart)
        if self.is_sharded:
            shardings = self.shardings(jax.eval_shape(begin, *parts))
            return start.compiled_start(begin, hashable(shardings))(*parts)
        return devices.copy_to_all(start.compiled_start(begin)(*parts), self.sharding)

    @property
    def is_sharded(self) -> bool:
        """Whether parameters, optimizer state and perturbation are split over several devices."""
        return self.config["shard_parameters"] and self.sharding is not None

    @property
    def division(self) -> division.Division:
        """How a step is divided over the devices, and why each does all of it, if no piece of a batch divides."""
        num_devices = devices.count(self.sharding)
        ascent_state = self.state_shapes().ascent if num_devices > 1 else ()
        return division.divide(self.config, num_devices, ascent_state=ascent_state)

    def shardings(self, state: State) -> State:
        """Return the sharding of each leaf of a sharded run's state.

        Args:
          state: arrays, or shapes and dtypes.
        """
        assert self.sharding is not None
        everywhere = jax.sharding.NamedSharding(self.sharding.mesh, jax.sharding.PartitionSpec())
        split = devices.state_shardings(state._replace(source=()), self.sharding)
        return split._replace(source=jax.tree.map(lambda _: everywhere, state.source))

    def state_shapes(self) -> State:
        """Return the shapes and dtypes of a state, and the shardings of a sharded one, without drawing or pruning."""

        def state() -> State:
            params, stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), init_shapes(self.model))
            mask = None if self.config["sparsity"] == 0 else sparsify.full_mask(params)
            return self._state(params, stats, mask)

        shapes = jax.eval_shape(state)
        if not self.is_sharded:
            return shapes
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self.shardings(shapes),
        )

    def check(self, state: State) -> None:
        """Trace the loss, so that a network that does not fit its data or its loss fails before training starts.

        Files of the user are not checked here: their faults are reported by the run, with a traceback.

        Args:
          state: arrays, or shapes and dtypes, as of `state_shapes()`.
        Raises: ValueError.
        """
        if any(registry.is_own_file(self.config[name]) for name in ("model", "dataset", "loss")):
            return
        raw = sources.raw_shapes(self.train, self.data.example, self.config["batch_size"])
        whole = (state.params, state.stats, raw)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), whole)
        _traced_loss(self.workload, hashable(shapes))

    def train_step(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one compiled step on a raw batch, such as `batch(step)`.

        The memory of the old state is donated.
        Returns: the new state, and the metrics of the clean pass.
        """
        return compiled_step(self.step)(self.values, state, batch)

    def batch(self, step: int) -> Batch:
        """Return the raw batch of a training step.

        Raises: ValueError for a step after the first epoch of a game, whose batch depends on the trained network.
        """
        return self.source.batch(self.values, step, self.init)

    def examples(self, num_examples: int) -> Callable[[Callable[[], tuple[PyTree, PyTree, PyTree | None]]], Batch]:
        """Draw raw training examples, without augmentation; with one seed, fewer are a part of more.

        Returns: network -> num_examples of them, or all if there are fewer; `network` returns params, stats and mask of
          the network that plays, if the data set is a game, and is not called otherwise.
        """
        draw = self.source.draw(self.values, num_examples)
        return lambda network: draw(lambda: self._state(*network()))

    def test_examples(self, num_examples: int) -> Batch:
        """Draw raw test examples; with one seed, fewer are a part of more."""
        return sources.some(self.test, self.values, num_examples)

    def evaluate(self, state: State, split: Split) -> Evaluation:
        """Score every example of a split once."""
        return self.evaluator(split)(state)

    def evaluator(
        self, split: Split, *, num_batches: int | None = None, interrupt: Callable[[], bool] = lambda: False
    ) -> Callable[[State], Evaluation]:
        """Build the function that scores a split; a game is scored by whole games."""
        return sources.evaluator(
            self.workload,
            split,
            batch_size=self._evaluation_batch if num_batches is None else self.config["batch_size"],
            num_batches=num_batches,
            sharding=self.sharding,
            interrupt=interrupt,
        )

    def compiled(self) -> jax.stages.Compiled:
        """Compile the program that takes the steps of the run, or of its group; nothing is drawn or trained."""
        state, group_size = self.state_shapes(), self.config["group_size"]
        if self.is_small or group_size > 1:
            runs = self._member(), state
            return compiled_epochs.compiled(
                self.step, self.workload, *runs, plan=self.source.plan, group_size=group_size
            )
        if data.is_compiled(self.train):
            run = compiled_segment(self.step, plan=self.source.plan, sharding=self.sharding)
            return run.lower(self.values, state, self.source.arrays, np.int32(0)).compile()
        raw = sources.raw_shapes(self.train, self.data.example, self.config["batch_size"])
        return compiled_step(self.step).lower(self.values, state, raw).compile()

    def segment(self) -> Segment:
        """Build the program that takes many steps."""
        return self.source.segment(self.step, self.sharding)

    @property
    def is_small(self) -> bool:
        """Whether epochs are so short that leaving the compiled program after each would take much of the time."""
        return self.has_whole_epochs and self.train.num_examples * max(self.num_params, 1_000) <= _SMALL_EPOCH

    @property
    def has_whole_epochs(self) -> bool:
        """Whether a run has whole epochs, each evaluated at its end, of data that a program on one device holds."""
        splits = [self.train, self.test, *([self.validation] if self.validation else [])]
        is_whole = self.eval_every_steps == self.steps_per_epoch and self.num_steps % self.steps_per_epoch == 0
        is_whole = is_whole and self.config["steps_per_eval"] is None and self.sharding is None
        is_whole = is_whole and all(step % self.steps_per_epoch == 0 for step in self.snapshot_steps)
        return is_whole and all(map(data.is_compiled, splits))

    def take_epochs(self, state: State, *, seconds: float) -> Iterator[Taken]:
        """Take whole epochs with their evaluations in one program, in calls of about `seconds`."""
        for (taken,) in take_epochs_together([self], [state], group_size=1, seconds=seconds):
            yield from taken

    @functools.cached_property
    def scored_train(self) -> Split:
        """The training examples that are scored at the end: all, or some that the seed draws."""
        count = self.config["train_eval_examples"]
        if count is None or count >= self.train.num_examples:
            return self.train
        return self.train.take(sources.chosen(self.values, self.train.num_examples, count))

    @property
    def has_average(self) -> bool:
        """Whether the run averages its weights along training."""
        return self.config["weight_average"] != "none"

    @functools.cached_property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps, ascending, whose network a run keeps; that of the end is in the final checkpoint."""
        return snapshots.wanted(self.config, num_steps=self.num_steps, steps_per_epoch=self.steps_per_epoch)

    @property
    def _evaluation_batch(self) -> int:
        return max(self.config["batch_size"], _EVALUATION_BATCH)

    def _member(self) -> Member:
        splits = {"validation": self.validation, "test": self.test}
        scored = {
            name: sources.scored(split, batch_size=self._evaluation_batch)
            for name, split in splits.items()
            if split is not None
        }
        arrays = self.source.arrays
        is_whole = self.validation is None and self.config["train_examples"] is None
        shared = {"test", *(set(arrays) - {"targets"} if is_whole else ())}  # label noise moves targets
        stops = tuple(step // self.steps_per_epoch for step in self.snapshot_steps)
        return Member(values=self.values, train=arrays, splits=scored, shared=frozenset(shared), stops=stops)

    def learning_rate(self, step: int) -> float:
        """Compute the learning rate of a step; metrics.csv has the value that the step reports."""
        return float(self.values.learning_rate * self.schedule(step))

    def rho(self, step: int) -> float:
        """Compute the rho of a step."""
        rho = configs.effective_rho(self.config)
        return rho if self.rho_schedule is None else rho * float(self.rho_schedule(step))

    def num_gradients(self, num_steps: int) -> int | None:
        """Count the gradients of the first num_steps steps; None if the SAM variant decides as it runs."""
        return num_gradients(self.config, self.rho_schedule, num_steps)

    def _drawn(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Draw or load initial parameters and state, in parts if they are sharded and the host makes no mask."""
        if self.config["initialize_from"] is not None:
            return pretrained.weights(self.config, start.compiled_init(self.workload.model)(key), self._head)
        if not self.is_sharded or self.config["sparsity"] > 0:
            return start.compiled_init(self.workload.model)(key)
        assert self.sharding is not None
        shardings = devices.state_shardings(init_shapes(self.model), self.sharding)
        return start.compiled_init(self.workload.model, hashable(shardings))(key)

    @property
    def _head(self) -> PyTree:
        """Mark the parameters whose shapes depend on the number of outputs."""
        larger = model_of(self.config, self.data.example, self.data.num_outputs + 1)
        return jax.tree.map(lambda a, b: a.shape != b.shape, self.param_shapes, init_shapes(larger)[0])

    def _start(self, *, restart: Callable[[PyTree, PyTree], PyTree] | None) -> start.Start:
        return start.Start(
            restart=restart,
            optimizer=self.optimizer,
            variant=None if configs.effective_rho(self.config) == 0 else self.variant,
            has_average=self.has_average,
        )

    def _parts(self, params: PyTree, stats: PyTree, mask: PyTree | None) -> tuple[PyTree, ...]:
        """Return the arguments of `Start`."""
        return self.values.rho, params, stats, mask, self.source.plan.start(self.values.seed)

    def _state(self, params: PyTree, stats: PyTree, mask: PyTree | None) -> State:
        return self._start(restart=None)(*self._parts(params, stats, mask))

    def _mask(self, params: PyTree, stats: PyTree) -> PyTree | None:
        config = self.config
        if config["sparsity"] == 0:
            return None
        gradients = None
        if config["pruner"] == "snip":
            key = streams.key(config["seed"], "mask")
            drawn = (
                self.source.batch(self.values, step, lambda: self._state(params, stats, None))
                for step in range(config["snip_batches"])
            )
            batches = (
                _Drawn(batch, stats, *jax.random.split(jax.random.fold_in(key, step)))
                for step, batch in enumerate(drawn)
            )
            gradients = sparsify.snip_gradient(_training_loss(self.workload), params, batches)
        return sparsify.make_mask(
            params,
            pruner=config["pruner"],
            sparsity=config["sparsity"],
            layer_density=config["layer_density"],
            key=streams.key(config["seed"], "mask"),
            gradients=gradients,
        )


def take_epochs_together(
    group: Sequence[Experiment], states: Sequence[State], *, group_size: int, seconds: float
) -> Iterator[list[list[Taken]]]:
    """Advance runs of one shape together in one program of `group_size` runs, in calls of about `seconds`."""
    first = group[0]
    return compiled_epochs.take_epochs(
        first.step,
        first.workload,
        [built._member() for built in group],
        states,
        group_size=group_size,
        plan=first.source.plan,
        num_epochs=first.num_steps // first.steps_per_epoch,
        seconds=seconds,
    )


class _Drawn(NamedTuple):
    """A raw batch and the other arguments of a step's loss that differ between runs, so that one program serves all."""

    batch: Batch
    stats: PyTree
    augmentation: jax.Array  # a key
    dropout: jax.Array


@functools.lru_cache(maxsize=64)
def _training_loss(workload: Workload) -> Callable[[PyTree, _Drawn], jax.Array]:
    def loss(params: PyTree, drawn: _Drawn) -> jax.Array:
        batch = workload.prepare(drawn.batch, drawn.augmentation, train=True)
        return workloads.loss(workload, params, batch, stats=drawn.stats, train=True, key=drawn.dropout)[0]

    return loss


@functools.lru_cache(maxsize=64)
def _traced_loss(workload: Workload, shapes: tuple) -> None:
    params, stats, raw = jax.tree.unflatten(shapes[1], shapes[0])
    key = jax.random.key(0)
    jax.eval_shape(_training_loss(workload), params, _Drawn(raw, stats, key, key))


def hashable(tree: PyTree) -> tuple:
    """Return the leaves and the structure of a tree, as the key of a cache."""
    leaves, structure = jax.tree.flatten(tree)
    return tuple(leaves), structure
