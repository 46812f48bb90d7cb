"""Description of a run without training it, for `--dry_run`."""

import contextlib
import functools
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import config as configs
from flatwide import data, models, optimizers, registry, sparsify, trees, workloads
from flatwide.runs import build, jax_settings
from flatwide.runs.parts import Targets, init_shapes, load_dataset, model_of, num_gradients, objective_of
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
    """Describe a run: its resolved config, parameters, steps and expected memory.

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
    rows = {
        "training examples": f"{num_examples:,}",
        "test examples": f"{outline.num_test:,}",
        "parameters": f"{trees.size(params):,}",
        "nonzero parameters": f"{num_nonzero:,}",
        "steps": f"{num_steps:,} ({steps_per_epoch:,} an epoch, {num_steps / steps_per_epoch:g} epochs)",
        "gradients a step": _gradients_a_step(config, num_steps),
        "expected memory": f"{readable(_memory(config, outline, model, params, stats))} of arrays",
    }
    resolved = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in sorted(config.items()))
    return "config:\n" + resolved + "\n" + "\n".join(f"{name}: {value}" for name, value in rows.items())


def _gradients_a_step(config: Mapping[str, Any], num_steps: int) -> str:
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


def _outline(config: Mapping[str, Any]) -> Outline:
    declared = data.INFO.get(config["dataset"])
    piece = config["microbatch"] or config["batch_size"] // config["accumulation_steps"]
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


def _memory(config: Mapping[str, Any], outline: Outline, model: Model, params: PyTree, stats: PyTree) -> int:
    """Estimate the bytes alive at the peak of a step: state, data, and the activations for the backward pass.

    The activations are counted in the traced gradient, before the compiler fuses some away.
    """
    are_real = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(outline.batch["targets"]))
    objective = objective_of(config, Targets(outline.num_outputs, are_real))
    workload = workloads.Workload(lambda batch, key, train: batch, model, objective)

    def backward(params, stats, batch):
        def loss_fn(params):
            return workloads.loss(workload, params, batch, stats=stats, train=True, key=jax.random.key(0))[0]

        return jax.vjp(loss_fn, params)[1]

    activations = _bytes(jax.eval_shape(backward, params, stats, outline.batch))
    state = optimizer_bytes(config, params)
    copies = 3 + (configs.effective_rho(config) > 0)
    average = (_bytes(params) + _bytes(stats)) * (config["weight_average"] != "none")
    return copies * _bytes(params) + state + _bytes(stats) + average + activations + outline.num_bytes


def optimizer_bytes(config: Mapping[str, Any], params: PyTree) -> int:
    """Return the bytes of the optimizer state of a resolved config.

    Args:
      params: shapes and dtypes are enough.
    """
    optimizer = optimizers.build(configs.base_optimizer(config), momentum=config["momentum"])
    return _bytes(jax.eval_shape(optimizer.init, params))


def _bytes(tree: PyTree) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def readable(num_bytes: float) -> str:
    """Write a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
