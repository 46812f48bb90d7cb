"""Description of a run without training it, for `--dry_run`."""

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flatwide import catalogue, data, models, optimizers, registry, sparsify, trees, workloads
from flatwide import config as configs
from flatwide.runs import build, division, jax_settings
from flatwide.runs.identity import unread_fields
from flatwide.runs.parts import (
    Targets,
    init_shapes,
    load_dataset,
    model_of,
    num_gradients,
    objective_of,
    variant_of,
    width_field,
)
from flatwide.training import devices, sources
from flatwide.types import Batch, Dataset, Model, PyTree


class Outline(NamedTuple):
    """Facts about the data of a run: from the data if they are on this machine, else declared ones.

    batch: shapes of a prepared batch, as the step sees it; example: of one example's inputs.
    """

    num_train: int
    num_test: int
    num_outputs: int
    example: PyTree
    batch: Batch
    num_bytes: int  # held in memory


def describe(config: Mapping[str, Any]) -> str:
    """Describe a run: data, network, optimizer, length and expected memory, and the fields that are not at defaults.

    Args:
      config: a resolved config. Nothing is downloaded: if the data are not on this machine, declared facts are used.
    Raises: ConfigError if the config does not fit the data.
    """
    outline = _outline(config)
    model = model_of(config, outline.example, outline.num_outputs)
    params, stats = init_shapes(model)
    num_devices = devices.count(devices.over_devices())
    num_examples, num_steps, steps_per_epoch = build.lengths(config, outline.num_train, num_devices=num_devices)
    num_nonzero = sparsify.num_kept(
        params, pruner=config["pruner"], sparsity=config["sparsity"], layer_density=config["layer_density"]
    )
    width = width_field(config)
    divided = _division(config, params, num_devices)
    rows = {
        "data": f"{config['dataset']}, {num_examples:,} training and {outline.num_test:,} test examples",
        "model": f"{config['model']}, {width}={config[width]}" if width else config["model"],
        "parameters": f"{trees.size(params):,}",
        "nonzero parameters": f"{num_nonzero:,} ({config['pruner']})" if config["sparsity"] > 0 else "",
        "optimizer": _optimizer_text(config),
        "rule": _rule_text(config),
        "steps": f"{num_steps:,} ({steps_per_epoch:,} per epoch, {num_steps / steps_per_epoch:g} epochs)",
        "gradients per step": _gradients_per_step(config, num_steps),
        "measurements": measurements_text(config) or "none",
        "devices": _devices_text(config, params, num_devices, divided),
        "expected memory": f"{readable(_memory(config, model, params, stats, num_devices))} of arrays"
        + (" on each device" if num_devices > 1 else ""),
        "warning": divided.fault,
        "not at their defaults": _changed_text(config),
    }
    return "\n".join(f"{name}: {value}" for name, value in rows.items() if value)


def _division(config: Mapping[str, Any], params: PyTree, num_devices: int) -> division.Division:
    """Return how a step is divided over devices, from the shapes of the parameters."""
    return division.divide(config, num_devices, ascent_state=_ascent_state(config, params))


def _ascent_state(config: Mapping[str, Any], params: PyTree) -> PyTree:
    """Return the shapes of the state of the SAM rule, which most rules do not have."""
    return jax.eval_shape(variant_of(config)(1.0).init, params) if has_ascent(config) else ()


def _devices_text(config: Mapping[str, Any], params: PyTree, num_devices: int, divided: division.Division) -> str:
    """Describe what each device takes of a batch and of the parameters; "" for one that is not asked to share them."""
    if num_devices == 1:
        return "1, so config.shard_parameters=True changes nothing" if config["shard_parameters"] else ""
    share = _bytes(params, num_devices) / _bytes(params) if config["shard_parameters"] else 1.0
    return f"{num_devices}; each {divided.text}, with {'all' if share == 1 else f'{share:.2g} of the'} parameters"


def _optimizer_text(config: Mapping[str, Any]) -> str:
    name = configs.base_optimizer(config)
    fields = [f"momentum={config['momentum']}"] if name == "sgd" else [f"adam_betas={config['adam_betas']}"]
    fields = [f"learning_rate={config['learning_rate']}", *fields, f"weight_decay={config['weight_decay']}"]
    return f"{name}, {', '.join(fields)}, lr_scheduler={config['lr_scheduler']}, batch_size={config['batch_size']}"


def _rule_text(config: Mapping[str, Any]) -> str:
    if configs.effective_rho(config) == 0:
        return "none (rho = 0 is the base optimizer)"
    schedule = "" if config["rho_schedule"] == "constant" else f", rho_schedule={config['rho_schedule']}"
    return f"SAM, {config['sam_variant']}, rho={config['rho']}{schedule}"


def measurements_text(config: Mapping[str, Any]) -> str:
    """Describe the measurements of a config; "" if there are none."""
    if not config["measurements"]:
        return ""
    during = f" and at epochs {', '.join(map(str, config['measure_epochs']))}" if config["measure_epochs"] else ""
    during += f" and every {config['measure_every_steps']} steps" if config["measure_every_steps"] else ""
    return f"at the end{during}: {', '.join(map(catalogue.title, config['measurements']))}"


def _changed_text(config: Mapping[str, Any]) -> str:
    """List the fields that a run reads and that differ from their defaults, and those that a user's files add."""
    defaults = {name: configs.SCHEMA[name].default for name in configs.SCHEMA}
    read = set(config) - unread_fields(config)
    changed = [name for name in read if name not in defaults or config[name] != defaults[name]]
    return ", ".join(f"{name}={config[name]!r}" for name in sorted(changed)) or "none"


def _gradients_per_step(config: Mapping[str, Any], num_steps: int) -> str:
    """Describe how many gradients a step computes, on average over a run."""
    if configs.effective_rho(config) == 0:
        return "1"
    count = num_gradients(config, build.rho_schedule(config, num_steps), num_steps)
    return "1 or 2 (SAM)" if count is None else f"{count / num_steps:.4g} (SAM)"


class Sizes(NamedTuple):
    """Sizes of a run: `params` is a pytree of shapes and dtypes; optimizer steps of the run and of an epoch."""

    params: PyTree
    num_steps: int
    steps_per_epoch: int


def sizes(config: Mapping[str, Any]) -> Sizes:
    """Compute the sizes of a resolved config's run; its data need not be on this machine."""
    outline = _outline(config)
    lengths = build.lengths(config, outline.num_train)
    builder = registry.find("config.model", config["model"], models.MODELS)
    names = ("model", "linearized", "output_scale", *registry.fields(builder))
    read = tuple((name, config[name]) for name in names if name in config)
    content = registry.content_digest(config["model"]), jax_settings.is_double()
    leaves, structure = jax.tree.flatten(outline.example)
    params = _params(read, content, tuple(leaves), structure, outline.num_outputs)
    return Sizes(params=params, num_steps=lengths.num_steps, steps_per_epoch=lengths.steps_per_epoch)


def is_local(config: Mapping[str, Any]) -> bool:
    """Whether the data set is on this machine, and not on a hub."""
    builder = registry.find("config.dataset", config["dataset"], data.DATASETS)
    return config["data_dir"] is not None or "data_dir" not in registry.fields(builder)


@functools.lru_cache(maxsize=256)
def _params(read: tuple, content: tuple, leaves: tuple, structure: Any, num_outputs: int) -> PyTree:
    """Trace a network's parameters once for all runs of a study with the same network.

    Args:
      read: the config fields that determine the network, with their values. content: the digest of the file of a
        user's model, and whether numbers have 64 bits.
      leaves, structure: one example's inputs.
    """
    model = model_of(dict(read), jax.tree.unflatten(structure, leaves), num_outputs)
    return init_shapes(model)[0]


def _outline(config: Mapping[str, Any], num_rows: int | None = None) -> Outline:
    """Collect the facts about the data of a run.

    Args:
      num_rows: of the batch; None for a piece whose gradient is computed at a time.
    """
    declared = data.INFO.get(config["dataset"])
    piece = num_rows or division.piece_size(config)
    if declared is None:
        return _outline_of(load_dataset(config), piece)
    if is_local(config):
        with contextlib.suppress(data.DataError):
            return _outline_of(load_dataset(config), piece)
    example = jax.ShapeDtypeStruct(declared.input_shape, jax.dtypes.canonicalize_dtype(float))
    targets = jax.ShapeDtypeStruct((piece,), jnp.int32)
    batch = {"inputs": jax.ShapeDtypeStruct((piece, *example.shape), example.dtype), "targets": targets}
    num_bytes = (math.prod(declared.input_shape) + 4) * (declared.num_train + declared.num_test)
    held = 0 if declared.is_streamed else num_bytes
    return Outline(
        num_train=declared.num_train,
        num_test=declared.num_test,
        num_outputs=declared.num_outputs,
        example=example,
        batch=batch,
        num_bytes=held,
    )


def _outline_of(dataset: Dataset, piece: int) -> Outline:
    splits = (dataset.train, dataset.test)
    raw = sources.raw_shapes(dataset.train, dataset.example, piece)
    batch = jax.eval_shape(lambda batch: dataset.prepare(batch, jax.random.key(0), train=True), raw)
    held = sum(_bytes(split.arrays) for split in splits if isinstance(split, data.Resident))
    counts = [split.num_examples for split in splits]
    return Outline(
        num_train=counts[0],
        num_test=counts[1],
        num_outputs=dataset.num_outputs,
        example=dataset.example,
        batch=batch,
        num_bytes=held,
    )


class RunLengths(NamedTuple):
    """The length of a run: examples, optimizer steps, and gradients of a batch."""

    num_train: int
    num_validation: int
    num_test: int
    num_steps: int
    eval_every_steps: int
    num_gradients: int


def lengths(config: Mapping[str, Any]) -> RunLengths:
    """Compute the length of a run; a rule that decides at each step counts two gradients per step."""
    outline = _outline(config)
    num_examples, num_steps, steps_per_epoch = build.lengths(config, outline.num_train)
    rho_schedule = build.rho_schedule(config, num_steps) if has_ascent(config) else None
    gradients = num_gradients(config, rho_schedule, num_steps)
    return RunLengths(
        num_train=num_examples,
        num_validation=round(config["validation_fraction"] * outline.num_train),
        num_test=outline.num_test,
        num_steps=num_steps,
        eval_every_steps=config["eval_every_steps"] or steps_per_epoch,
        num_gradients=2 * num_steps if gradients is None else gradients,
    )


def has_ascent(config: Mapping[str, Any]) -> bool:
    """Whether steps of a resolved config have an ascent."""
    return configs.effective_rho(config) > 0


def operations(config: Mapping[str, Any]) -> float:
    """Count the floating-point operations of the gradient of a batch, in the traced program of one of its pieces.

    XLA counts the body of a loop once. Where the gradient has loops, such as those over the pixels of a filter, it is
    counted as three forward passes. Loops of the forward pass itself, over words or blocks, are not corrected for.
    """
    outline = _outline(config)
    model = model_of(config, outline.example, outline.num_outputs)
    shapes = (*init_shapes(model), outline.batch)
    loss = _loss(config, outline, model)
    lowered, factor = jax.jit(jax.grad(loss)).lower(*shapes), 1
    if "while" in lowered.as_text():
        lowered, factor = jax.jit(loss).lower(*shapes), 3
    count = float((lowered.cost_analysis() or {}).get("flops", 0.0))
    return factor * count * config["batch_size"] / division.piece_size(config)


def _loss(config: Mapping[str, Any], outline: Outline, model: Model) -> Callable[..., jax.Array]:
    """Return the training loss of prepared batches: (params, stats, batch) -> loss."""
    are_real = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(outline.batch["targets"]))
    objective = objective_of(config, Targets(outline.num_outputs, are_real))
    workload = workloads.Workload(lambda batch, key, train: batch, model, objective)

    def loss(params: PyTree, stats: PyTree, batch: Batch) -> jax.Array:
        return workloads.loss(workload, params, batch, stats=stats, train=True, key=jax.random.key(0))[0]

    return loss


def device_memory(config: Mapping[str, Any], num_devices: int | None = None) -> int:
    """Estimate the bytes that each device of a run holds at the peak of a step of a resolved config.

    Args:
      num_devices: that train the run; None for all of this process.
    """
    outline = _outline(config)
    model = model_of(config, outline.example, outline.num_outputs)
    return _memory(config, model, *init_shapes(model), num_devices or devices.count(devices.over_devices()))


def device_fault(config: Mapping[str, Any], num_devices: int) -> str:
    """Return why each of several devices does all the work of a step, or ""."""
    return _division(config, sizes(config).params, num_devices).fault


def _memory(config: Mapping[str, Any], model: Model, params: PyTree, stats: PyTree, num_devices: int) -> int:
    """Estimate the bytes alive on a device at the peak of a step: data, state, gradient, ascent and activations.

    Sharded weights are gathered for each pass, so they are there once as a whole too. The runs of a group share only
    their data.
    """
    outline = _outline(config, _division(config, params, num_devices).num_rows)
    is_sharded, is_averaged = config["shard_parameters"] and num_devices > 1, config["weight_average"] != "none"
    weights, gradient = [params] * (1 + is_averaged + has_ascent(config)), params
    state = (weights, gradient, _optimizer_state(config, params), _ascent_state(config, params))
    num_bytes = _bytes(state, num_devices if is_sharded else 1) + (1 + is_averaged) * _bytes(stats)
    num_bytes += _num_whole(config, num_devices) * _bytes(params)
    num_bytes += _activation_bytes(config, outline, model, params, stats)
    return outline.num_bytes + config["group_size"] * num_bytes


def _num_whole(config: Mapping[str, Any], num_devices: int) -> int:
    """Return how many trees like the parameters a step holds in whole besides its state and a gradient."""
    has_pieces = config["accumulation_steps"] > 1
    if num_devices == 1:  # sums of the gradients of pieces, and of microbatches
        return has_pieces + (division.num_microbatches(config) > 1)
    if config["shard_parameters"]:
        return 1  # gathered weights
    return 2 * has_pieces  # all gradients of a piece, before and after their sum over the devices


def _activation_bytes(config: Mapping[str, Any], outline: Outline, model: Model, params: PyTree, stats: PyTree) -> int:
    """Count what a backward pass needs besides the weights, before the compiler fuses some of it away."""
    loss = _loss(config, outline, model)

    def backward(params, stats, batch):
        return jax.vjp(lambda params: loss(params, stats, batch), params)[1]

    program = jax.make_jaxpr(backward)(params, stats, outline.batch).jaxpr
    weights = program.invars[: len(jax.tree.leaves(params))]
    return _bytes([out.aval for out in program.outvars if not any(out is weight for weight in weights)])


def optimizer_bytes(config: Mapping[str, Any], params: PyTree) -> int:
    """Return the bytes of the optimizer state of a resolved config.

    Args:
      params: shapes and dtypes are enough.
    """
    return _bytes(_optimizer_state(config, params))


def _optimizer_state(config: Mapping[str, Any], params: PyTree) -> PyTree:
    return jax.eval_shape(_optimizer(configs.base_optimizer(config), config["momentum"]).init, params)


@functools.lru_cache(maxsize=64)
def _optimizer(name: str, momentum: float) -> optimizers.Optimizer:
    """Build an optimizer once, so that its `init` is traced once for each network."""
    return optimizers.build(name, momentum=momentum)


def _bytes(tree: PyTree, num_parts: int = 1) -> int:
    """Count the bytes of arrays on a device, the large ones split into parts as those of a sharded state."""

    def of_leaf(leaf) -> int:
        is_split = devices.split_axis(leaf.shape, num_parts) is not None
        return math.prod(leaf.shape) * leaf.dtype.itemsize // (num_parts if is_split else 1)

    return sum(map(of_leaf, jax.tree.leaves(tree)))


def readable(num_bytes: float) -> str:
    """Write a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
