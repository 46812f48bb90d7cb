"""Tell what a run would do, without training: `--dry_run`."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import config as configs
from flatwide import data, experiment, objectives, registry, sparsify, trees, workloads
from flatwide.types import Info, Model, PyTree


def describe(config: Mapping[str, Any]) -> str:
    """Describe a run: its resolved config, parameters, steps and expected memory.

    Args:
      config: a resolved config. Nothing is downloaded: where data are not on this machine, declared facts stand in.
    """
    info = _info(config)
    model = _model(config, info)
    params, stats = _shapes(model)
    num_train = _num_train(config, info)
    num_steps, steps_per_epoch = experiment.lengths(config, num_train)
    kept = sparsify.num_kept(
        params, pruner=config["pruner"], sparsity=config["sparsity"], layer_density=config["layer_density"]
    )
    rows = {
        "training examples": f"{num_train:,}",
        "test examples": f"{info.num_test:,}",
        "parameters": f"{trees.size(params):,}",
        "nonzero parameters": f"{kept:,}",
        "steps": f"{num_steps:,} ({steps_per_epoch:,} an epoch, {num_steps / steps_per_epoch:g} epochs)",
        "gradients a step": "1" if configs.effective_rho(config) == 0 else "2 (SAM)",
        "expected memory": f"{readable(_memory(config, info, model, params, stats, num_train))} of arrays",
    }
    resolved = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in sorted(config.items()))
    return "config:\n" + resolved + "\n" + "\n".join(f"{name}: {value}" for name, value in rows.items())


class Sizes(NamedTuple):
    """What a run will hold: params is a pytree of shapes and dtypes, num_steps counts optimizer steps."""

    params: PyTree
    num_steps: int


def sizes(config: Mapping[str, Any]) -> Sizes:
    """Tell the sizes of a resolved config's run, without its data where they are not on this machine."""
    info = _info(config)
    num_steps, _ = experiment.lengths(config, _num_train(config, info))
    return Sizes(_shapes(_model(config, info))[0], num_steps)


def is_local(config: Mapping[str, Any]) -> bool:
    """Tell whether the data set is on this machine, and not on a hub."""
    builder = registry.find("config.dataset", config["dataset"], data.DATASETS)
    return config["data_dir"] is not None or "data_dir" not in registry.fields(builder)


def is_double() -> bool:
    """Tell whether real numbers have 64 bits here."""
    return jax.dtypes.canonicalize_dtype(float).itemsize == 8


def _model(config: Mapping[str, Any], info: Info) -> Model:
    example = jax.ShapeDtypeStruct(info.input_shape, jax.dtypes.canonicalize_dtype(float))
    return experiment.model_of(config, example, info.num_outputs)


def _shapes(model: Model) -> tuple[PyTree, PyTree]:
    return jax.eval_shape(lambda: model.init(jax.random.key(0)))


def _info(config: Mapping[str, Any]) -> Info:
    """Tell sizes and shapes from the data where they are here, else from what is declared of a known data set."""
    declared = data.INFO.get(config["dataset"])
    try:
        if declared is not None and not is_local(config):
            return declared
        dataset = experiment.load_dataset(config)
    except data.DataError:
        if declared is None:
            raise
        return declared
    return Info(
        dataset.train.num_examples,
        dataset.test.num_examples,
        jax.tree.leaves(dataset.example)[0].shape,
        dataset.num_outputs,
        is_streamed=not isinstance(dataset.train, data.Resident),
    )


def _num_train(config: Mapping[str, Any], info: Info) -> int:
    remaining = info.num_train - round(config["validation_fraction"] * info.num_train)
    return config["train_examples"] or remaining


def _memory(config, info: Info, model, params: PyTree, stats: PyTree, num_train: int) -> int:
    """Estimate the bytes alive at the peak of a step: state, data, and what the backward pass keeps.

    The values kept for the backward pass are counted from the traced gradient, before the compiler fuses some away.
    """
    objective = registry.find("config.loss", config["loss"], objectives.OBJECTIVES)(info.num_outputs)
    workload = workloads.Workload(lambda batch, key, train: batch, model, objective)
    piece = config["microbatch"] or config["batch_size"] // config["accumulation_steps"]
    floats = jax.dtypes.canonicalize_dtype(float)
    batch = {
        "inputs": jax.ShapeDtypeStruct((piece, *info.input_shape), floats),
        "targets": jax.ShapeDtypeStruct((piece,), jnp.int32),
    }

    def backward(params, stats, batch):
        def loss_fn(params):
            return workloads.loss(workload, params, batch, stats=stats, train=True, key=jax.random.key(0))[0]

        return jax.vjp(loss_fn, params)[1]

    kept_for_backward = _bytes(jax.eval_shape(backward, params, stats, batch))
    copies = 3 + {"sgd": config["momentum"] > 0, "adam": 2, "adamw": 2}[configs.base_optimizer(config)]
    copies += configs.effective_rho(config) > 0
    example_bytes = int(np.prod(info.input_shape)) + 4
    examples = 0 if info.is_streamed else num_train + info.num_test
    return copies * _bytes(params) + _bytes(stats) + kept_for_backward + examples * example_bytes


def _bytes(tree: PyTree) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def readable(num_bytes: float) -> str:
    """Write a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
