"""Description of a run without training it, for `--dry_run`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from flatwide import catalogue, sparsify
from flatwide import config as configs
from flatwide.runs import build, division
from flatwide.runs.experiment import Experiment
from flatwide.runs.identity import unread_fields
from flatwide.runs.parts import param_shapes, planned_dataset, width_field
from flatwide.training import devices
from flatwide.types import PyTree


def assemble(config: Mapping[str, Any]) -> Experiment:
    """Build the pieces of a resolved config's run, whose data need not be on this machine; nothing is downloaded.

    Raises: ConfigError if the config does not fit the data.
    """
    return build.assemble(config, dataset=planned_dataset(config))


def describe(built: Experiment) -> str:
    """Describe a run: data, network, optimizer, length, and the fields that are not at their defaults."""
    config = built.config
    num_nonzero = sparsify.num_kept(
        built.param_shapes,
        pruner=config["pruner"],
        sparsity=config["sparsity"],
        layer_density=config["layer_density"],
    )
    width = width_field(config)
    epochs = f"{built.steps_per_epoch:,} per epoch, {built.num_steps / built.steps_per_epoch:g} epochs"
    rows = {
        "data": f"{config['dataset']}, {built.train.num_examples:,} training and {built.test.num_examples:,} test "
        "examples",
        "model": f"{config['model']}, {width}={config[width]}" if width else config["model"],
        "parameters": f"{built.num_params:,}",
        "nonzero parameters": f"{num_nonzero:,} ({config['pruner']})" if config["sparsity"] > 0 else "",
        "optimizer": _optimizer_text(config),
        "rule": _rule_text(config),
        "steps": f"{built.num_steps:,} ({epochs})",
        "gradients per step": _gradients_per_step(built),
        "measurements": measurements_text(config) or "none",
        "devices": _devices_text(built),
        "warning": built.division.fault,
        "not at their defaults": _changed_text(config),
    }
    return "\n".join(f"{name}: {value}" for name, value in rows.items() if value)


def device_fault(config: Mapping[str, Any], num_devices: int) -> str:
    """Return why each of several devices does all the work of a step, or ""."""
    if num_devices == 1:
        return ""
    return division.divide(config, num_devices, ascent_state=assemble(config).state_shapes().ascent).fault


def _devices_text(built: Experiment) -> str:
    """Describe what each device takes of a batch and of the parameters; "" for one that is not asked to share them."""
    is_sharded, num_devices = built.config["shard_parameters"], devices.count(built.sharding)
    if num_devices == 1:
        return "1, so config.shard_parameters=True changes nothing" if is_sharded else ""
    leaves = jax.tree.leaves(built.param_shapes)
    held = (
        sum(
            leaf.size / (num_devices if devices.split_axis(leaf.shape, num_devices) is not None else 1)
            for leaf in leaves
        )
        if is_sharded
        else built.num_params
    )
    share = "all" if held == built.num_params else f"{held / built.num_params:.2g} of the"
    return f"{num_devices}; each {built.division.text}, with {share} parameters"


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


def _gradients_per_step(built: Experiment) -> str:
    """Describe how many gradients a step computes, on average over a run."""
    if configs.effective_rho(built.config) == 0:
        return "1"
    count = built.num_gradients(built.num_steps)
    return "1 or 2 (SAM)" if count is None else f"{count / built.num_steps:.4g} (SAM)"


class Sizes(NamedTuple):
    """Sizes of a run: `params` is a pytree of shapes and dtypes; its number of optimizer steps."""

    params: PyTree
    num_steps: int


def sizes(config: Mapping[str, Any]) -> Sizes:
    """Compute the sizes of a resolved config's run; its data need not be on this machine."""
    dataset = planned_dataset(config)
    return Sizes(param_shapes(config, dataset), build.lengths(config, dataset.train.num_examples).num_steps)


def readable(num_bytes: float) -> str:
    """Write a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
