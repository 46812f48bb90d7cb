"""The identity of a run, and the path of its directory."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flatwide import averaging, models, objectives, optimizers, registry, rho_schedules, sam, schedules, sparsify
from flatwide import config as configs
from flatwide.runs import pretrained
from flatwide.runs.directory import RunDirectory
from flatwide.runs.jax_settings import EXACT, is_double, matmul_precision
from flatwide.runs.parts import dataset_builder, load_dataset, width_field


def identity(config: Mapping[str, Any], fingerprint: str, *, initial_weights: str | None = None) -> dict[str, Any]:
    """Select the fields that identify a run (see `config.identity`), with the digests of data, weights and user files.

    Args:
      initial_weights: the digest of the weights that it starts from; None to read them, if they are of another run.
    """
    extra: dict[str, Any] = {"data": fingerprint}
    if config["initialize_from"] is not None:
        extra["initial_weights"] = initial_weights or pretrained.digest(config)
    if is_double():
        extra["x64"] = True
    if matmul_precision() != EXACT:
        extra["matmul_precision"] = matmul_precision()
    for field in configs.MAY_BE_OWN:
        if registry.is_own_file(config[field]) and (field != "sam_variant" or configs.effective_rho(config) > 0):
            # By name and content, so that the file may move.
            extra[field] = f"{registry.own_file(config[field]).name}:{config[field].rpartition(':')[2]}"
            extra[f"{field}_file"] = registry.content_digest(config[field])
    return configs.identity(config, irrelevant=without_effect(config), extra=extra)


def width(config: Mapping[str, Any]) -> Any:
    """Return the width of the model: the first field that its builder reads, or "" if it reads none."""
    name = width_field(config)
    return config[name] if name else ""


def without_effect(config: Mapping[str, Any]) -> set[str]:
    """Return the fields without effect: those that are not read, and those equal to what holds by default."""
    fields = unread_fields(config) - {"rho", "base_optimizer"}  # the identity has their effective values
    if config["layer_density"] == sparsify.PRUNERS[config["pruner"]].layer_density:
        fields.add("layer_density")  # the pruner's default, so naming it has no effect
    if config["num_blocks"] == models.NUM_BLOCKS.get(config["model"]):
        fields.add("num_blocks")  # likewise the default of the model family
    if config["microbatch"] == config["batch_size"]:
        fields.add("microbatch")
    if config["average_start"] == averaging.STARTS[config["weight_average"]]:
        fields.add("average_start")
    return fields


def unread_fields(config: Mapping[str, Any]) -> set[str]:
    """Return the fields that a run does not read, on which its result does not depend.

    Args:
      config: a resolved config.
    """
    unread = _unread_by_parts(config)
    if config["num_train_steps"] is not None:
        unread.add("num_epochs")
    if config["initialize_from"] is None:
        unread |= {"initialize_from", "pretraining_rho", "reinitialize"}
    if config["weight_decay"] == 0:
        unread.add("weight_decay_on")
    if config["optimizer"] != "sam":
        unread |= {"rho", "base_optimizer"}
    if configs.effective_rho(config) == 0:
        unread |= {"sam_variant", "rho_schedule", "perturbation_scaling"}
    is_scaled = config["perturbation_scaling"] != "none" and configs.effective_rho(config) > 0
    if config["parameterization"] == "standard" and not is_scaled:
        unread.add("base_width")
    if config["sparsity"] == 0:
        unread |= {name for name, field in configs.SCHEMA.items() if field.mask}
    elif config["pruner"] != "snip":
        unread.add("snip_batches")
    return unread


def _unread_by_parts(config: Mapping[str, Any]) -> set[str]:
    """Return the fields that some parts may read, but none of the parts of this run.

    Parts are builders, the optimizer, the weight average and the schedule of rho.
    """
    variant = registry.find("config.sam_variant", config["sam_variant"], sam.VARIANTS)
    builders = [
        registry.find("config.model", config["model"], models.MODELS),
        dataset_builder(config),
        registry.find("config.loss", config["loss"], objectives.OBJECTIVES),
    ]
    rho_schedule = "constant"
    if configs.effective_rho(config) > 0:
        builders.append(variant)
        rho_schedule = config["rho_schedule"]
    by_optimizer = set(optimizers.FIELDS[configs.base_optimizer(config)])
    if config["momentum"] == 0:
        by_optimizer.discard("nesterov")
    # A user's builder may declare a field of the optimizer, and then reads it with every optimizer.
    read = {name for builder in builders for name in registry.fields(builder)}
    read |= by_optimizer | set(averaging.FIELDS[config["weight_average"]]) | set(rho_schedules.FIELDS[rho_schedule])
    read |= set(schedules.FIELDS[config["lr_scheduler"]])
    read_by_some = {name for name, field in configs.SCHEMA.items() if field.declared} | registry.fields(variant).keys()
    fields_by_kind = (optimizers.FIELDS, averaging.FIELDS, rho_schedules.FIELDS, schedules.FIELDS)
    read_by_some |= {name for kinds in fields_by_kind for names in kinds.values() for name in names}
    return read_by_some - read


def locate(config: Mapping[str, Any], workdir: str | os.PathLike) -> tuple[RunDirectory, dict[str, Any]]:
    """Return the directory of a run, and the identity whose hash is in its name.

    Args:
      config: a resolved config.
    """
    fields = identity(config, load_dataset(config).fingerprint)
    name = f"{_slug(config)}-{configs.digest(fields)}"
    return RunDirectory(Path(workdir) / "runs" / name), fields


def _slug(config: Mapping[str, Any]) -> str:
    """Return a readable name of a run: data, model, width, and the two axes that every study has."""
    model = Path(config["model"].replace(":", "/")).name
    sizes = width(config)
    sizes = "x".join(map(str, sizes if isinstance(sizes, tuple) else (sizes,)))[:40]
    dataset = Path(config["dataset"].replace(":", "/")).name
    rho = f"rho{configs.effective_rho(config):g}"
    parts = [dataset, f"{model}{sizes}", rho, f"seed{config['seed']}"]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))
