"""Build the pieces of a run from its config; runs of one shape get the very same functions."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from flatwide import averaging, data, models, objectives, optimizers, registry, rho_schedules, schedules, trees
from flatwide import config as configs
from flatwide.runs import jax_settings
from flatwide.runs.experiment import Experiment, hashable
from flatwide.runs.identity import unread_fields
from flatwide.runs.jax_settings import is_double
from flatwide.runs.parts import (
    Targets,
    factors_of,
    fields_for,
    load_dataset,
    model_of,
    objective_of,
    scaled_ascent,
    with_precision,
)
from flatwide.training import devices, sources
from flatwide.training.plans import Shuffled
from flatwide.training.state import Values
from flatwide.training.step import make_step
from flatwide.types import Dataset, Padding
from flatwide.workloads import Workload


def build(
    config: Mapping[str, Any] | str | os.PathLike, *, matmul_precision: str | None = None, is_local: bool = False
) -> Experiment:
    """Build the pieces of one run; no setting of JAX is changed.

    Args:
      config: some config fields, as a ConfigDict or a mapping, the others are at their defaults; or a config file.
      matmul_precision: how exactly the network's float32 products are computed, in JAX's words; None for JAX's setting
        `jax_default_matmul_precision`, or "highest" where nobody has chosen one.
      is_local: use the devices of this process alone, although it trains together with others.
    Raises: ConfigError with every fault of the config; DataError if the data is missing or damaged.
    """
    return assemble(configs.resolve(config), matmul_precision=matmul_precision, is_local=is_local)


def assemble(
    config: Mapping[str, Any],
    *,
    matmul_precision: str | None = None,
    is_local: bool = False,
    dataset: Dataset | None = None,
) -> Experiment:
    """Build the pieces of a run whose config is resolved already; see `build`.

    Args:
      dataset: None for the one that the config names.
    """
    precision = matmul_precision or jax_settings.matmul_precision()
    dataset = dataset or load_dataset(config)
    sharding = devices.over_devices(is_local=is_local)
    _, num_steps, steps_per_epoch = lengths(config, dataset.train.num_examples, num_devices=devices.count(sharding))
    train, validation = dataset.train, None
    if config["validation_fraction"] > 0:
        train, validation = data.hold_out(train, config["validation_fraction"], seed=config["seed"])
    if config["train_examples"] is not None:
        train = data.subset(train, config["train_examples"], seed=config["seed"])
    if config["label_noise"] > 0:
        train = data.add_label_noise(train, config["label_noise"], num_classes=dataset.num_outputs, seed=config["seed"])
    example = hashable(dataset.example)
    real, number = jax.dtypes.canonicalize_dtype(float), cast(Any, np.asarray)  # faster on the host
    targets = Targets(dataset.num_outputs, dataset.has_real_targets)
    program = _program(
        _static(config),
        num_steps,
        steps_per_epoch if config["weight_average"] == "swa" else 0,
        dataset.prepare,
        dataset.padding,
        example,
        targets,
        precision,
        sharding,
    )
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
        values=Values(
            rho=number(configs.effective_rho(config), real),
            learning_rate=number(config["learning_rate"], real),
            weight_decay=number(config["weight_decay"], real),
            seed=number(config["seed"], np.uint32),
        ),
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        eval_every_steps=config["eval_every_steps"] or steps_per_epoch,
        sharding=sharding,
    )


class Lengths(NamedTuple):
    """The length of a run; num_examples are the training examples without the validation split, after any subset."""

    num_examples: int
    num_steps: int
    steps_per_epoch: int


def lengths(config: Mapping[str, Any], num_examples: int, *, num_devices: int = 1) -> Lengths:
    """Derive the number of training examples and of steps.

    Args:
      num_examples: training examples of the whole data set.
    Raises: ConfigError with every field that does not fit the data or the devices.
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
    if config["sparsity"] > 0 and config["pruner"] == "snip" and config["snip_batches"] > steps_per_epoch:
        faults.append(
            f"config.snip_batches={config['snip_batches']}: expected at most the {steps_per_epoch} batches of an "
            "epoch, which have every training example; make it smaller."
        )
    last = max(config["measure_epochs"], default=0)
    if config["num_train_steps"] and last * steps_per_epoch > num_steps:
        faults.append(
            f"config.measure_epochs={config['measure_epochs']}: expected epochs up to {num_steps / steps_per_epoch:g}, "
            f"since config.num_train_steps={num_steps} and an epoch has {steps_per_epoch} steps."
        )
    for make in (
        lambda: _average(config, num_steps, steps_per_epoch),
        lambda: configs.effective_rho(config) > 0 and rho_schedule(config, num_steps),
    ):
        try:
            make()
        except ValueError as error:
            faults.append(str(error))
    if num_steps >= 2**31:
        faults.append(f"config.num_epochs={config['num_epochs']}: {num_steps} steps; expected fewer than 2^31.")
    if faults:
        raise configs.ConfigError(faults)
    return Lengths(num_train, num_steps, steps_per_epoch)


def shape(config: Mapping[str, Any]) -> tuple:
    """Return the key of a resolved config's compiled programs: runs with equal keys share them."""
    sizes = ("num_epochs", "num_train_steps", "train_examples", "validation_fraction", "eval_every_steps")
    masked = ("is_masked", config["sparsity"] > 0)
    return *_static(config), *((name, config[name]) for name in (*sizes, "steps_per_eval", "group_size")), masked


def _static(config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Pick what a compiled program depends on, in hashable form."""
    one_pass, unread = configs.effective_rho(config) == 0, unread_fields(config)
    defaults = {name: configs.SCHEMA[name].default for name in unread if name in configs.SCHEMA}
    # As in the identity, sgd is SAM without an ascent; fields that a run does not read do not change its program.
    canonical = {**config, **defaults, "optimizer": "sam", "base_optimizer": configs.base_optimizer(config)}
    static = {
        name: value
        for name, value in canonical.items()
        if (configs.SCHEMA[name].compiled if name in configs.SCHEMA else name not in unread)
    }
    files = {f"{name}_file": registry.content_digest(config[name]) for name in configs.MAY_BE_OWN}
    mode = {"one_pass": one_pass, "double": is_double()}
    return tuple(sorted({**static, **files, **mode}.items()))


@functools.lru_cache(maxsize=64)
def _workload(
    read: tuple, prepare: Callable, padding: Padding | None, example: tuple, targets: Targets, precision: str
) -> Workload:
    """Bind data, model and objective: the same object for all runs of one network, whatever the optimizer."""
    fields = dict(read)
    model = model_of(fields, jax.tree.unflatten(example[1], example[0]), targets.num_outputs)
    model = model._replace(apply=with_precision(model.apply, precision))
    return Workload(prepare, model, objective_of(fields, targets), padding)


@functools.lru_cache(maxsize=64)
def _program(
    static: tuple,
    num_steps: int,
    steps_per_epoch: int,
    prepare: Callable,
    padding: Padding | None,
    example: tuple,
    targets: Targets,
    precision: str,
    sharding: devices.Sharding,
) -> dict[str, Any]:
    """Build the functions that do not depend on values, cached so that runs of one shape share them.

    Args:
      steps_per_epoch: 0 if no step depends on it.
    """
    fields = dict(static)
    always = ("model", "model_file", "loss", "loss_file", "linearized", "output_scale", "double")
    always += ("parameterization", "base_width")
    read = {name: fields[name] for name in always}
    read |= fields_for(registry.find("config.model", fields["model"], models.MODELS), fields)
    read |= fields_for(registry.find("config.loss", fields["loss"], objectives.OBJECTIVES), fields)
    workload = _workload(tuple(sorted(read.items())), prepare, padding, example, targets, precision)
    inputs = jax.tree.unflatten(example[1], example[0])
    factors = factors_of(fields, inputs, targets.num_outputs, one_pass=fields["one_pass"])
    optimizer = optimizers.build(
        configs.base_optimizer(fields),
        decay_mask=trees.kernels if fields["weight_decay_on"] == "kernels" else None,
        factors=factors,
        **_shipped_fields(optimizers.build, fields),
    )
    schedule = _learning_rate_schedule(fields, num_steps)
    variant = scaled_ascent(fields, factors)
    step = make_step(
        workload,
        optimizer=optimizer,
        variant=variant,
        schedule=schedule,
        one_pass=fields["one_pass"],
        microbatch=fields["microbatch"],
        accumulation_steps=fields["accumulation_steps"],
        sharding=sharding,
        shard_parameters=fields["shard_parameters"],
        average=_average(fields, num_steps, steps_per_epoch),
        rho_schedule=rho_schedule(fields, num_steps),
    )
    # Set the precision of the step too: custom derivatives of models are traced outside of `apply`.
    return {
        "workload": workload,
        "optimizer": optimizer,
        "schedule": schedule,
        "rho_schedule": rho_schedule(fields, num_steps),
        "step": with_precision(step, precision),
        "factors": factors,
        "variant": variant,
    }


def _average(fields: Mapping[str, Any], num_steps: int, steps_per_epoch: int) -> Callable | None:
    return averaging.build(
        fields["weight_average"],
        decay=fields["average_decay"],
        start=fields["average_start"],
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
    )


def rho_schedule(config: Mapping[str, Any], num_steps: int) -> Callable | None:
    """Build the factor of rho at each step of a run with SAM, or None if it is always 1.

    Args:
      config: a resolved config, or the fields that the program reads. num_steps: of the whole run.
    Raises: ValueError if the run is too short for its schedule.
    """
    is_wsd = config["lr_scheduler"] == "wsd"
    return rho_schedules.build(
        config["rho_schedule"],
        switch=config["rho_switch"],
        every=config["rho_every"],
        num_steps=num_steps,
        schedule=_learning_rate_schedule(config, num_steps),
        decay_start=schedules.decay_start(num_steps, config["decay_fraction"]) if is_wsd else None,
    )


def _learning_rate_schedule(fields: Mapping[str, Any], num_steps: int) -> Callable:
    return schedules.build(fields["lr_scheduler"], num_steps=num_steps, **_shipped_fields(schedules.build, fields))


def _shipped_fields(builder: Callable, config: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the fields that a builder declares; a user's field may have the name of another of its keywords."""
    return {name: value for name, value in fields_for(builder, config).items() if name in configs.SCHEMA}
