"""Turn a config into the pieces of one run; below this room no function knows a config."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import config as configs
from flatwide import data, models, objectives, optimizers, registry, sam, schedules, sparsify, streams, trees, workloads
from flatwide.models import lazy
from flatwide.training import devices, sources, stretch
from flatwide.training.evaluate import Evaluation
from flatwide.training.loop import Taken
from flatwide.training.plans import Shuffled
from flatwide.training.segments import Segment, compiled_step
from flatwide.training.sources import Source
from flatwide.training.state import State, Values
from flatwide.training.step import Metrics, Step, make_step
from flatwide.training.stretch import Member
from flatwide.types import Batch, Dataset, Model, Objective, Padding, PyTree, Split
from flatwide.workloads import Workload

_SMALL_EPOCH = 10**9  # examples times parameters: some seconds of one core at most
_EXACT = "highest"  # a float32 product is one on any device; some GPUs else round its factors to 10 bits (TF32)
_EVALUATION_BATCH = 128  # at least; evaluation keeps no activations, so it can take more than a training batch


@dataclass(frozen=True)
class Experiment:
    """The pieces of one run, to be driven by `flatwide.run` or stepped by hand.

    config: the resolved config.
    data: the data set as it was loaded; train, validation, test: its splits, with label noise in the training labels.
      validation is None without one.
    workload: data preparation, model and objective.
    source: which examples each step trains on: those of a split, or what was played.
    schedule: step -> factor of the learning rate.
    num_steps, steps_per_epoch, eval_every_steps: in optimizer steps.
    sharding: how a batch lies on this process's devices.
    values: the scalars that one compiled program takes as arguments.
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
    step: Step
    values: Values
    num_steps: int
    steps_per_epoch: int
    eval_every_steps: int
    sharding: devices.Sharding

    @property
    def model(self) -> Model:
        """Give the network: `init(key)` and `apply(params, stats, inputs, train=..., key=...)`."""
        return self.workload.model

    def loss(self, params: PyTree, stats: PyTree, batch: Batch, *, train: bool = False) -> jax.Array:
        """Compute the mean loss of a raw batch, without augmentation or dropout."""
        batch = self.workload.prepare(batch, None, train=False)
        return workloads.loss(self.workload, params, batch, stats=stats, train=train, key=None)[0]

    def init(self, key: jax.Array | None = None, *, params: PyTree = None, stats: PyTree = None) -> State:
        """Make the state before the first step.

        Args:
          key: PRNG key of the weights; None for the key of `config.seed`.
          params, stats: your own initial weights and model state, instead of the model's. A model that remembers its
            initial weights remembers `params`, unless you give `stats` too.
        Returns: a state whose pruned weights are zero.
        """
        key = streams.key(self.config["seed"], "weights") if key is None else key
        are_own = stats is not None
        if params is None or stats is None:
            drawn_params, drawn_stats = _compiled_init(self.workload.model)(key)
            params = drawn_params if params is None else params
            stats = drawn_stats if stats is None else stats
        stats = stats if are_own else _restarted(self.model, params, stats)
        state = self._state(params, stats, self._mask(params, stats))
        if not are_own:
            state = state._replace(stats=_restarted(self.model, state.params, state.stats))
        # A copy of each leaf, since a step donates its state's memory.
        return devices.copy_to_all(_copied(state), self.sharding)

    def state_shapes(self) -> State:
        """Give the shapes and dtypes of a state; nothing is drawn and no mask is made."""

        def state() -> State:
            params, stats = self.model.init(streams.key(self.config["seed"], "weights"))
            mask = None if self.config["sparsity"] == 0 else sparsify.full_mask(params)
            return self._state(params, stats, mask)

        return jax.eval_shape(state)

    def check(self, state: State) -> None:
        """Trace the loss, so that a network that does not fit its data or its loss is told of before it is trained.

        Files of the user's own are left alone: a fault in them is that of their run, which keeps its traceback.

        Args:
          state: shapes and dtypes are enough, such as `state_shapes()` gives.
        Raises: ValueError.
        """
        if any(registry.is_own_file(self.config[name]) for name in ("model", "dataset", "loss")):
            return
        raw = sources.raw_shapes(self.train, self.data.example, self.config["batch_size"])
        whole = (state.params, state.stats, raw)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), whole)
        _traced_loss(self.workload, _hashable(shapes))

    def train_step(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one compiled step on a raw batch, such as `batch(step)` gives.

        The state that goes in is used up (its memory is donated).
        Returns: the new state, and the metrics of the clean pass.
        """
        return compiled_step(self.step)(self.values, state, batch)

    def batch(self, step: int) -> Batch:
        """Give the raw batch that the run trains on at a step.

        Raises: ValueError for a step after the first epoch of a game, where it depends on what was learned.
        """
        return self.source.batch(self.values, step, self.init)

    def examples(self, num_examples: int) -> Callable[[Callable[[], tuple[PyTree, PyTree, PyTree | None]]], Batch]:
        """Draw raw training examples, without augmentation; with one seed, fewer are a part of more.

        Returns: network -> as many examples, or all where there are fewer; `network` gives params, stats and mask of
          what plays them, if the data set is a game, and is not asked else.
        """
        draw = self.source.draw(self.values, num_examples)
        return lambda network: draw(lambda: self._state(*network()))

    def evaluate(self, state: State, split: Split) -> Evaluation:
        """Score every example of a split once."""
        return self.evaluator(split)(state)

    def evaluator(
        self, split: Split, *, num_batches: int | None = None, interrupt: Callable[[], bool] = lambda: False
    ) -> Callable[[State], Evaluation]:
        """Build the function that scores a split; one that comes from playing by whole games."""
        return sources.evaluator(
            self.workload,
            split,
            batch_size=self._evaluation_batch if num_batches is None else self.config["batch_size"],
            num_batches=num_batches,
            sharding=self.sharding,
            interrupt=interrupt,
        )

    def segment(self) -> Segment:
        """Build the program that takes many steps."""
        return self.source.segment(self.step, self.sharding)

    @property
    def is_small(self) -> bool:
        """Tell whether epochs are so short that leaving the compiled program after each would take much of the time."""
        return self.has_whole_epochs and self.train.num_examples * max(_size(self.model), 1_000) <= _SMALL_EPOCH

    @property
    def has_whole_epochs(self) -> bool:
        """Tell whether a run is epochs of what a program on one device holds or plays, each evaluated at its end."""
        splits = [self.train, self.test, *([self.validation] if self.validation else [])]
        is_whole = self.eval_every_steps == self.steps_per_epoch and self.num_steps % self.steps_per_epoch == 0
        is_whole = is_whole and self.config["steps_per_eval"] is None and self.sharding is None
        return is_whole and all(map(data.is_compiled, splits))

    def take_epochs(self, state: State, *, seconds: float) -> Iterator[Taken]:
        """Take whole epochs and their evaluations in one program, for about `seconds` a call."""
        return stretch.take_epochs(
            self.step,
            self.workload,
            self._member(),
            state,
            plan=self.source.plan,
            num_epochs=self.num_steps // self.steps_per_epoch,
            seconds=seconds,
        )

    @property
    def snapshot_steps(self) -> dict[int, int]:
        """Map step -> epoch for the snapshots that a run keeps; its end is in its final checkpoint."""
        steps = {epoch * self.steps_per_epoch: epoch for epoch in self.config["measure_epochs"]}
        return {step: epoch for step, epoch in steps.items() if step < self.num_steps}

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
        stops = tuple(sorted(self.snapshot_steps.values()))
        return Member(self.values, arrays, scored, frozenset(shared), stops)

    def learning_rate(self, step: int) -> float:
        """Give the learning rate of a step."""
        factors = _factors(self.schedule, self.num_steps)
        return float(factors.dtype.type(self.config["learning_rate"]) * factors[step])

    def _state(self, params: PyTree, stats: PyTree, mask: PyTree | None) -> State:
        params = trees.apply_mask(params, mask)
        rule = _variant(self.config)(configs.effective_rho(self.config))
        return State(
            step=jnp.zeros((), jnp.int32),
            params=params,
            stats=stats,
            optimizer=self.optimizer.init(params),
            ascent=() if configs.effective_rho(self.config) == 0 else rule.init(params),
            mask=mask,
            source=self.source.plan.start(self.values.seed),
        )

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
    """Advance runs of one shape together, in one program of `group_size` runs; for about `seconds` a call."""
    first = group[0]
    return stretch.take_epochs_together(
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
    """A raw batch, and what else a step's loss differs by between runs: arguments, so that one program serves all."""

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


def _restarted(model: Model, params: PyTree, stats: PyTree) -> PyTree:
    return stats if model.restart is None else model.restart(params, stats)


@functools.lru_cache(maxsize=64)
def _size(model: Model) -> int:
    return trees.size(jax.eval_shape(lambda: model.init(jax.random.key(0)))[0])


@functools.lru_cache(maxsize=64)
def _factors(schedule: Callable, num_steps: int) -> np.ndarray:
    """Tabulate a schedule at once: a call to the device for each row of metrics would take longer than an epoch."""
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(num_steps)), jnp.zeros(()).dtype)


@functools.lru_cache(maxsize=64)
def _compiled_init(model: Model) -> Callable:
    """Compile a model's init without optimizing it on a CPU: it runs once, and compiles five times faster so.

    The weights differ in their last bit from those of an optimized program, so it is always done.
    """
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(model.init, compiler_options=options)


def build(config: Mapping[str, Any]) -> Experiment:
    """Build the pieces of one run.

    Args:
      config: some config fields, as a ConfigDict or a mapping; the others are at their defaults.
    Returns: the pieces. Where nobody has chosen JAX's `jax_default_matmul_precision`, it is "highest" from now on.
    Raises: ConfigError with every fault of the config; DataError where the data is missing or damaged.
    """
    return assemble(configs.resolve(config))


def assemble(config: Mapping[str, Any]) -> Experiment:
    """Do what `build` does for a config that is resolved already."""
    if getattr(jax.config, "jax_default_matmul_precision", None) is None:
        jax.config.update("jax_default_matmul_precision", _EXACT)
    dataset = load_dataset(config)
    sharding = devices.over_local_devices()
    _, num_steps, steps_per_epoch = lengths(config, dataset.train.num_examples, num_devices=devices.count(sharding))
    train, validation = dataset.train, None
    if config["validation_fraction"] > 0:
        train, validation = data.hold_out(train, config["validation_fraction"], seed=config["seed"])
    if config["train_examples"] is not None:
        train = data.subset(train, config["train_examples"], seed=config["seed"])
    if config["label_noise"] > 0:
        train = data.add_label_noise(train, config["label_noise"], num_classes=dataset.num_outputs, seed=config["seed"])
    example = _hashable(dataset.example)
    targets = Targets(dataset.num_outputs, dataset.has_real_targets)
    program = _program(_static(config), num_steps, dataset.prepare, dataset.padding, example, targets, sharding)
    return Experiment(
        config=config,
        data=dataset,
        train=train,
        validation=validation,
        test=dataset.test,
        **program,
        source=sources.source_of(
            train, program["workload"], batch_size=config["batch_size"], schedule=program["schedule"]
        ),
        values=_values(config),
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        eval_every_steps=config["eval_every_steps"] or steps_per_epoch,
        sharding=sharding,
    )


def load_dataset(config: Mapping[str, Any]) -> Dataset:
    """Load the data set that a resolved config names; the same fields give the same object again."""
    fields = tuple(_fields_for(_dataset_builder(config), config).items())
    return _load_dataset(config["dataset"], registry.content_digest(config["dataset"]), is_double(), fields)


def model_of(config: Mapping[str, Any], example: PyTree, num_outputs: int) -> Model:
    """Build the model that a resolved config names, for inputs like `example`."""
    builder = registry.find("config.model", config["model"], models.MODELS)
    model = builder(example, num_outputs, **_fields_for(builder, config))
    if not isinstance(model, Model):
        raise configs.ConfigError([f"config.model={config['model']!r} gave {type(model).__name__}; expected a Model."])
    if config["linearized"]:
        return lazy.linearize(model, scale=config["output_scale"])
    return model if config["output_scale"] is None else lazy.centre(model, scale=config["output_scale"])


class Targets(NamedTuple):
    """What a data set wants of each example: `num_outputs` real numbers, or one of so many classes."""

    num_outputs: int
    are_real: bool


def objective_of(config: Mapping[str, Any], targets: Targets) -> Objective:
    """Build the objective that a resolved config names."""
    builder = registry.find("config.loss", config["loss"], objectives.OBJECTIVES)
    fields = _fields_for(builder, config)
    objective = builder(targets.num_outputs, real_targets=targets.are_real, **fields)
    scale = config["output_scale"]
    return objective if scale is None else objectives.scale_loss(objective, scale**-2)


class Lengths(NamedTuple):
    """How long a run is; num_examples are those trained on, after the validation split and the subset."""

    num_examples: int
    num_steps: int
    steps_per_epoch: int


def lengths(config: Mapping[str, Any], num_examples: int, *, num_devices: int = 1) -> Lengths:
    """Derive how many examples are trained on, and for how many steps.

    Args:
      num_examples: training examples of the whole data set.
    Raises: ConfigError with everything that does not fit the data and the devices.
    """
    batch_size, warmup, faults = config["batch_size"], config["warmup_steps"], []
    held_out = round(config["validation_fraction"] * num_examples)
    left = num_examples - held_out
    if config["validation_fraction"] > 0 and not 0 < held_out < num_examples:
        faults.append(
            f"config.validation_fraction={config['validation_fraction']}: holds out {held_out} of {num_examples} "
            "training examples; expected at least 1 held out and 1 left."
        )
    if config["train_examples"] is not None and config["train_examples"] > left:
        faults.append(
            f"config.train_examples={config['train_examples']}: expected at most the {left} training examples."
        )
    num_train = min(left, config["train_examples"] or left)
    if batch_size > num_train:
        faults.append(
            f"config.batch_size={batch_size}: expected at most the {num_train} training examples; make it smaller."
        )
    if batch_size % num_devices:
        faults.append(f"config.batch_size={batch_size}: expected a multiple of the {num_devices} devices.")
    steps_per_epoch = Shuffled(max(num_train, 1), batch_size).steps_per_epoch
    num_steps = config["num_train_steps"] or config["num_epochs"] * steps_per_epoch
    if warmup >= num_steps:
        faults.append(f"config.warmup_steps={warmup}: expected fewer than the {num_steps} steps of the run.")
    last = max(config["measure_epochs"], default=0)
    if config["num_train_steps"] and last * steps_per_epoch > num_steps:
        faults.append(
            f"config.measure_epochs={config['measure_epochs']}: expected epochs up to {num_steps / steps_per_epoch:g}, "
            f"since config.num_train_steps={num_steps} and an epoch has {steps_per_epoch} steps."
        )
    if num_steps >= 2**31:
        faults.append(f"config.num_epochs={config['num_epochs']}: {num_steps} steps; expected fewer than 2^31.")
    if faults:
        raise configs.ConfigError(faults)
    return Lengths(num_train, num_steps, steps_per_epoch)


def identity(config: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    """Select the fields that make this run this run (see `config.identity`), with the digests of data and own files."""
    extra: dict[str, Any] = {"data": fingerprint}
    if is_double():
        extra["x64"] = True
    if matmul_precision() != _EXACT:
        extra["matmul_precision"] = matmul_precision()
    for field in configs.MAY_BE_OWN:
        if registry.is_own_file(config[field]) and (field != "sam_variant" or configs.effective_rho(config) > 0):
            # By name and content, so that the file may move.
            extra[field] = f"{registry.own_file(config[field]).name}:{config[field].rpartition(':')[2]}"
            extra[f"{field}_file"] = registry.content_digest(config[field])
    return configs.identity(config, irrelevant=irrelevant_fields(config), extra=extra)


def is_double() -> bool:
    """Tell whether numbers have 64 bits, by JAX's own flag."""
    return jax.dtypes.canonicalize_dtype(float).itemsize == 8


def matmul_precision() -> str:
    """Tell how exactly real numbers of 32 bits are multiplied, by JAX's own setting; "highest" where nobody chose."""
    chosen = getattr(jax.config, "jax_default_matmul_precision", None)
    return _EXACT if chosen in (None, "float32") else chosen


def width(config: Mapping[str, Any]) -> Any:
    """Give the width of the model: the first field that its builder reads, or "" if it reads none."""
    builder = registry.find("config.model", config["model"], models.MODELS)
    return next(iter(_fields_for(builder, config).values()), "")


def irrelevant_fields(config: Mapping[str, Any]) -> set[str]:
    """List the fields that the chosen model, data set, SAM variant and optimizer do not read."""
    variant = registry.find("config.sam_variant", config["sam_variant"], sam.VARIANTS)
    read_by_some = {name for name, field in configs.SCHEMA.items() if field.declared}
    read_by_some |= set(registry.fields(variant))  # an own one has fields of its own
    read_by_some |= {field for fields in optimizers.FIELDS.values() for field in fields}
    read = set(optimizers.FIELDS[configs.base_optimizer(config)])
    if config["momentum"] == 0:
        read.discard("nesterov")
    if config["layer_density"] == sparsify.PRUNERS[config["pruner"]].layer_density:
        read_by_some.add("layer_density")  # the pruner's own default, so naming it changes nothing
    builders = [
        registry.find("config.model", config["model"], models.MODELS),
        _dataset_builder(config),
        registry.find("config.loss", config["loss"], objectives.OBJECTIVES),
    ]
    if configs.effective_rho(config) > 0:
        builders.append(variant)
    for builder in builders:
        read |= set(registry.fields(builder))
    if config["num_blocks"] == models.NUM_BLOCKS.get(config["model"]):
        read.discard("num_blocks")  # likewise the family's own
    return read_by_some - read


def _dataset_builder(config: Mapping[str, Any]) -> Callable[..., Dataset]:
    return registry.find("config.dataset", config["dataset"], data.DATASETS)


@functools.lru_cache(maxsize=4)
def _load_dataset(name: str, content: str, double: bool, fields: tuple[tuple[str, Any], ...]) -> Dataset:
    del content, double  # only part of the key: an edited file, and 64-bit numbers, make another data set
    dataset = registry.find("config.dataset", name, data.DATASETS)(**dict(fields))
    if not isinstance(dataset, Dataset):
        raise configs.ConfigError([f"config.dataset={name!r} gave {type(dataset).__name__}; expected a Dataset."])
    return dataset


def _fields_for(builder: Callable, config: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the config fields that a builder declares as keyword-only parameters; others keep the builder's default."""
    return {name: config[name] for name in registry.fields(builder) if name in config}


def _variant(config: Mapping[str, Any]) -> Callable[..., sam.AscentRule]:
    builder = registry.find("config.sam_variant", config["sam_variant"], sam.VARIANTS)
    return functools.partial(builder, **_fields_for(builder, config))


def _values(config: Mapping[str, Any]) -> Values:
    real, number = jax.dtypes.canonicalize_dtype(float), cast(Any, np.asarray)  # the host makes them faster
    return Values(
        rho=number(configs.effective_rho(config), real),
        learning_rate=number(config["learning_rate"], real),
        weight_decay=number(config["weight_decay"], real),
        seed=number(config["seed"], np.uint32),
    )


@jax.jit
def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


# Fields that are arguments of a compiled program, or only steer the host: the others are part of the program.
_NOT_STATIC = {"rho", "learning_rate", "weight_decay", "seed", "label_noise", "validation_fraction", "train_examples"}
_NOT_STATIC |= {"sparsity", "pruner", "layer_density", "snip_batches", "num_epochs", "num_train_steps"}
_NOT_STATIC |= {"data_dir", "cache", "threads", "eval_every_steps", "steps_per_eval", "log_every_steps"}
_NOT_STATIC |= {"checkpoint_every_seconds", "restore_checkpoint", "group_size"}
_NOT_STATIC |= {"measurements", "measure_epochs", "measure_examples"}


def shape(config: Mapping[str, Any]) -> tuple:
    """Give what the programs of a resolved config are compiled for: equal for runs that can share them."""
    sizes = ("num_epochs", "num_train_steps", "train_examples", "validation_fraction", "eval_every_steps")
    masked = ("is_masked", config["sparsity"] > 0)
    return *_static(config), *((name, config[name]) for name in (*sizes, "steps_per_eval", "group_size")), masked


def _static(config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Pick what a compiled program depends on, in hashable form."""
    one_pass = configs.effective_rho(config) == 0
    # As in the identity: sgd is SAM without ascent, whatever the variant.
    optimizer = {"optimizer": "sam", "base_optimizer": configs.base_optimizer(config)}
    ascent = {name: configs.SCHEMA[name].default for name in ("sam_variant", "layer_scales")} if one_pass else {}
    config = {**config, **optimizer, **ascent}
    static = {name: value for name, value in config.items() if name not in _NOT_STATIC}
    files = {f"{name}_file": registry.content_digest(config[name]) for name in configs.MAY_BE_OWN}
    mode = {"one_pass": one_pass, "double": is_double()}
    return tuple(sorted({**static, **files, **mode}.items()))


def _hashable(tree: PyTree) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return tuple(leaves), structure


@functools.lru_cache(maxsize=64)
def _workload(read: tuple, prepare: Callable, padding: Padding | None, example: tuple, targets: Targets) -> Workload:
    """Bind data, model and objective; the same object for runs of one network, whatever optimizer trains it."""
    fields = dict(read)
    model = model_of(fields, jax.tree.unflatten(example[1], example[0]), targets.num_outputs)
    return Workload(prepare, model, objective_of(fields, targets), padding)


@functools.lru_cache(maxsize=64)
def _program(
    static: tuple,
    num_steps: int,
    prepare: Callable,
    padding: Padding | None,
    example: tuple,
    targets: Targets,
    sharding: devices.Sharding,
) -> dict[str, Any]:
    """Build the functions that do not depend on values; the same ones again for runs of one shape."""
    fields = dict(static)
    always = ("model", "model_file", "loss", "loss_file", "linearized", "output_scale", "double")
    read = {name: fields[name] for name in always}
    read |= _fields_for(registry.find("config.model", fields["model"], models.MODELS), fields)
    read |= _fields_for(registry.find("config.loss", fields["loss"], objectives.OBJECTIVES), fields)
    workload = _workload(tuple(sorted(read.items())), prepare, padding, example, targets)
    optimizer = optimizers.build(
        configs.base_optimizer(fields),
        momentum=fields["momentum"],
        nesterov=fields["nesterov"],
        adam_betas=fields["adam_betas"],
        adam_epsilon=fields["adam_epsilon"],
        gradient_clip=fields["gradient_clip"],
    )
    schedule = schedules.build(fields["lr_scheduler"], num_steps=num_steps, warmup_steps=fields["warmup_steps"])
    step = make_step(
        workload,
        optimizer=optimizer,
        variant=_variant(fields),
        schedule=schedule,
        one_pass=fields["one_pass"],
        microbatch=fields["microbatch"],
        accumulation_steps=fields["accumulation_steps"],
        sharding=sharding,
    )
    return {"workload": workload, "optimizer": optimizer, "schedule": schedule, "step": step}
