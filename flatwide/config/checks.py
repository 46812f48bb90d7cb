"""Defaults and checks of a config, which report every fault at once."""

import math
import os
from collections.abc import Collection, Mapping
from typing import Any, cast

import ml_collections

from flatwide import catalogue, registry
from flatwide.config.files import read
from flatwide.config.own import MAY_BE_OWN, own_defaults, own_fields
from flatwide.config.schema import SCALARS, SCHEMA, ConfigError, Field, describe, field_like, one_line
from flatwide.registry import shown

_WITHOUT_EXAMPLES = {
    "validation_fraction": "hold out",
    "train_examples": "draw a subset of",
    "label_noise": "corrupt",
    "steps_per_eval": "score a part of",
    "train_eval_examples": "score a part of",
}
_OF_LAYERS = ("layer_scales", "ascent_layers")  # fields of one SAM variant, which no other variant reads
_DERIVED_BY_MINUS_ONE = ("num_train_steps", "steps_per_eval")


def resolve(values: Mapping[str, Any] | str | os.PathLike) -> Mapping[str, Any]:
    """Fill in defaults, convert every value to its canonical form, and check them all.

    Args:
      values: some of the fields, as a ConfigDict or any mapping, or what `--config` may name; other fields are allowed
        if the builder of a user's model, data set, loss or SAM variant has a keyword-only parameter of that name.
    Returns: a frozen config with every field; `config.rho` and `config["rho"]` both work.
    Raises: ConfigError that lists every fault.
    """
    return cast(Mapping[str, Any], ml_collections.FrozenConfigDict(resolve_fields(values)))


def resolve_fields(values: Mapping[str, Any] | str | os.PathLike) -> dict[str, Any]:
    """Resolve into a plain dict, four times as fast as `resolve`: a study resolves thousands of configs."""
    given = read(values)
    wrong: dict[str, str] = {}
    if given.pop("study", None) is not None:
        wrong["study"] = "config.study: expected a single run here; train a study with flatwide.run_study."
    config = {name: field.default for name, field in SCHEMA.items()} | own_defaults(given) | given
    for name, value in config.items():
        if name in SCHEMA and value is SCHEMA[name].default:
            continue  # most fields of most runs; a study has up to a hundred thousand
        config[name], fault = check_field(name, value, SCHEMA.get(name) or field_like(value))
        if fault:
            wrong[name] = fault
    # A field that is wrong by itself may have any type, so it is left out of the comparisons of fields.
    compared = config | {name: field.default for name, field in SCHEMA.items() if name in wrong}
    faults = [*wrong.values(), *_unknown_names(config), *_contradictions(compared, wrong.keys())]
    faults += [] if "measurements" in wrong else catalogue.faults("config.measurements", config["measurements"])
    if config["on_metrics"] and "on_metrics" not in wrong:
        faults += filter(None, [registry.fault("config.on_metrics", config["on_metrics"], {})])
    if faults:
        raise ConfigError(faults)
    return _final_names(config)


def check_field(name: str, value: Any, field: Field) -> tuple[Any, str | None]:
    """Convert one value to its canonical form; return it and its fault, or None."""
    value = _canonical(value, field)
    if name in _DERIVED_BY_MINUS_ONE and type(value) is int and value == -1:
        value = None
    return value, _fault(name, value, field)


def _canonical(value: Any, field: Field) -> Any:
    """Convert lists to tuples, and integers in float fields to floats; leave wrong types to the check."""
    scalar = SCALARS[field.kind]

    def convert(item):
        item = _plain_number(item)
        if scalar is float and isinstance(item, int) and not isinstance(item, bool):
            return float(item) if abs(item) < 2**1023 else math.inf  # not a finite float: the check reports it
        return item

    if field.kind in ("ints", "floats", "strs"):
        value = _plain_number(value)
        if isinstance(value, list | tuple):
            return tuple(convert(item) for item in value)
        return value if value is None else (convert(value),)
    return convert(value)


def _plain_number(value: Any) -> Any:
    """Convert NumPy scalars and arrays to Python values; an array of one number becomes that number."""
    if not (hasattr(value, "item") and hasattr(value, "tolist")):
        return value
    return value.item() if value.size == 1 else value.tolist()


def _fault(name: str, value: Any, field: Field) -> str | None:
    """Return what is wrong with one value, or None."""
    scalar, is_large = SCALARS[field.kind], False
    if value is None:
        is_right = field.optional
    else:
        items = value if field.kind in ("ints", "floats", "strs") else (value,)
        is_right = all(type(item) is scalar for item in items)
        is_large = is_right and scalar is int and any(abs(item) >= 2**32 for item in items)
        is_right = is_right and not is_large and (scalar is not float or all(math.isfinite(item) for item in items))
        is_right = is_right and (not field.check or field.check.holds(value))
    if is_right:
        return None
    wrong = f"config.{name}={shown(value)}: expected {describe(field)}."
    return f"{wrong} Integers in a config must be below 2^32." if is_large else wrong


def _registries() -> dict[str, tuple[Mapping[str, Any], Mapping[str, str]]]:
    """Map each field that holds a registered name to the registered names and their aliases."""
    from flatwide import data, models, objectives, optimizers, parameterization, sam, schedules, sparsify

    return {
        "model": (models.MODELS, models.ALIASES),
        "dataset": (data.DATASETS, data.ALIASES),
        "loss": (objectives.OBJECTIVES, {}),
        "sam_variant": (sam.VARIANTS, {}),
        "lr_scheduler": (dict.fromkeys(schedules.SCHEDULES), schedules.ALIASES),
        "base_optimizer": (dict.fromkeys(optimizers.OPTIMIZERS), {}),
        "optimizer": (dict.fromkeys((*optimizers.OPTIMIZERS, "sam")), {}),
        "pruner": (dict.fromkeys(sparsify.PRUNERS), {}),
        "layer_density": (dict.fromkeys(sparsify.LAYER_DENSITIES), {}),
        "parameterization": (dict.fromkeys(parameterization.PARAMETERIZATIONS), {}),
        "perturbation_scaling": (dict.fromkeys(parameterization.PERTURBATION_SCALINGS), {}),
    }


def _final_names(config: dict[str, Any]) -> dict[str, Any]:
    """Replace aliases by the names they stand for, a number of tokens by one of steps, and make paths absolute."""
    for name, (_, aliases) in _registries().items():
        config[name] = aliases.get(config[name], config[name])
    measured = dict.fromkeys(registry.absolute(name) for name in config["measurements"])
    epochs = tuple(sorted(set(config["measure_epochs"])))
    if config["num_tokens"] is not None:
        tokens_per_step = config["batch_size"] * config["context_length"]
        config |= {"num_train_steps": -(-config["num_tokens"] // tokens_per_step), "num_tokens": None}
    user_files = {name: registry.absolute(config[name]) for name in (*MAY_BE_OWN, "on_metrics") if config[name]}
    return config | user_files | {"measurements": tuple(measured), "measure_epochs": epochs}


def _unknown_names(config: dict[str, Any]) -> list[str]:
    """Check every name against its registry, and every field that is not in the schema against the user's builders."""
    faults, fields, all_imported = [], {}, True
    for name, (members, aliases) in _registries().items():
        value = config[name]
        if not isinstance(value, str) or value in members or value in aliases:
            continue  # a value that is not text has been reported already
        if name not in MAY_BE_OWN or not registry.is_own_file(value):
            hint = " Your own: path/to/file.py:name." if name in MAY_BE_OWN else ""
            faults.append(registry.unknown(f"config.{name}", value, [*members, *aliases]) + hint)
            continue
        try:
            fields |= own_fields({name: value})
        except (Exception, SystemExit) as error:
            all_imported = False
            message = one_line(error)
            faults.append(
                message
                if isinstance(error, ValueError)
                else f"config.{name}={value!r}: {type(error).__name__}: {message}"
            )
    if all_imported:
        unknown = [name for name in config if name not in SCHEMA and name not in fields]
        faults += [registry.unknown("config field", name, [*SCHEMA, *fields]) for name in unknown]
        missing = [name for name in fields if name not in config]
        faults += [f"config.{name} is missing: your file requires it and has no default for it." for name in missing]
    return faults


def _contradictions(config: dict[str, Any], wrong: Collection[str]) -> list[str]:
    """Check fields that are each valid against each other; not those in `wrong`, which are invalid by themselves."""
    return [
        message.format_map(config)
        for fields, is_broken, message in _rules(config)
        if is_broken and not set(fields) & set(wrong)
    ]


_Rules = list[tuple[tuple[str, ...], Any, str]]


def _rules(config: dict[str, Any]) -> _Rules:
    """List the rules: the fields that each compares, whether they contradict each other, and the message if so."""
    return [*_on_batches(config), *_on_widths(config), *_on_data(config), *_on_lengths(config)]


def _on_batches(config: dict[str, Any]) -> _Rules:
    whole = "batch_size" if config["microbatch"] is None else "microbatch"  # the examples that share a perturbation
    return [
        (
            ("microbatch", "batch_size"),
            config["microbatch"] is not None and config["batch_size"] % config["microbatch"],
            "config.microbatch={microbatch}: expected a divisor of config.batch_size={batch_size}.",
        ),
        (
            ("accumulation_steps", "microbatch", "batch_size"),
            config[whole] % config["accumulation_steps"],
            f"config.accumulation_steps={{accumulation_steps}}: expected a divisor of config.{whole}={{{whole}}}.",
        ),
        (
            ("shard_parameters", "group_size"),
            config["shard_parameters"] and config["group_size"] > 1,
            "config.shard_parameters=True with config.group_size={group_size}: a group trains many small networks on "
            "one device, and a sharded network is split over several; set one of them to its default.",
        ),
        (
            ("sparsity", "pruner"),
            config["sparsity"] > 0 and config["pruner"] == "none",
            "config.sparsity={sparsity} with config.pruner='none': nothing would be pruned; choose a pruner (random, "
            "snip, magnitude) or set sparsity to 0.",
        ),
        (
            ("nesterov", "momentum"),
            config["nesterov"] and config["momentum"] == 0,
            "config.nesterov=True with config.momentum=0.0: Nesterov needs a momentum > 0.",
        ),
    ]


def _on_widths(config: dict[str, Any]) -> _Rules:
    is_mup, is_scaled = config["parameterization"] == "mup", config["perturbation_scaling"] != "none"
    return [
        (
            ("parameterization", "base_width", "perturbation_scaling"),
            not config["base_width"] and (is_mup or is_scaled),
            "config.base_width is missing: config.parameterization={parameterization!r} with config."
            "perturbation_scaling={perturbation_scaling!r} scales a network relative to one of a base width, where "
            "both equal the standard ones; set it to the width at which learning rate and rho were tuned, in the "
            "format of the model's width field, such as --config.base_width=64.",
        ),
        (
            ("parameterization", "perturbation_scaling"),
            config["perturbation_scaling"] == "layerwise" and not is_mup,
            "config.perturbation_scaling='layerwise' with config.parameterization={parameterization!r}: its factors "
            "are those of gradients in muP; set config.parameterization=mup, or config.perturbation_scaling=none (or "
            "global).",
        ),
        (
            ("parameterization", "output_scale"),
            is_mup and config["output_scale"] is not None,
            "config.output_scale={output_scale} with config.parameterization='mup': a multiplier of the outputs "
            "changes gradients and so SAM's perturbation, and muP has its factor in the output weights already; set "
            "config.output_scale=None.",
        ),
        (
            ("sam_variant", "perturbation_scaling"),
            is_scaled and config["sam_variant"] == "adaptive",
            "config.sam_variant='adaptive' with config.perturbation_scaling={perturbation_scaling!r}: its sizes |w| + "
            "0.01 approach the floor of 0.01 as weights shrink with width, so no factor makes it the same at every "
            "width; choose another variant, or config.perturbation_scaling=none.",
        ),
        *(((field, "sam_variant"), *_unread_layers(field, config)) for field in _OF_LAYERS),
    ]


def _on_data(config: dict[str, Any]) -> _Rules:
    from flatwide import data, objectives

    declared, is_game = data.INFO.get(config["dataset"]), config["dataset"] in data.GAMES
    has_real_targets = declared is not None and declared.has_real_targets
    has_own_file = any(registry.is_own_file(config[name]) for name in ("loss", "dataset"))
    return [
        (
            ("loss", "dataset"),
            has_real_targets and config["loss"] in objectives.FOR_CLASSES_ONLY,
            "config.loss={loss!r} with config.dataset={dataset!r}: its targets are real numbers, and this loss needs "
            "classes; choose config.loss=squared.",
        ),
        (
            ("label_noise", "dataset"),
            has_real_targets and config["label_noise"] > 0,
            "config.label_noise={label_noise} with config.dataset={dataset!r}: its targets are real numbers, and label "
            "noise needs classes; set config.label_noise=0.",
        ),
        (
            ("loss", "dataset"),
            not has_own_file and (config["loss"] == "ppo") != is_game,
            "config.loss={loss!r} with config.dataset={dataset!r}: the loss 'ppo' is for games "
            f"({', '.join(data.GAMES)}), and games have no other loss.",
        ),
        *(
            (
                (field, "dataset"),
                is_game and config[field] != SCHEMA[field].default,
                f"config.{field}={{{field}!r}} with config.dataset={{dataset!r}}: the examples of a game come from "
                f"playing it, so there is nothing to {action}; set config.{field}={SCHEMA[field].default!r}.",
            )
            for field, action in _WITHOUT_EXAMPLES.items()
        ),
    ]


def _on_lengths(config: dict[str, Any]) -> _Rules:
    has_steps, is_mup = config["num_train_steps"] is not None, config["parameterization"] == "mup"
    return [
        (
            ("num_tokens", "num_train_steps", "dataset"),
            config["num_tokens"] is not None and has_steps,
            "config.num_tokens={num_tokens} with config.num_train_steps={num_train_steps}: each is the length of the "
            "run; set one of them to None.",
        ),
        (
            ("num_tokens", "num_train_steps", "dataset"),
            config["num_tokens"]
            and not has_steps
            and config["dataset"] != "text"
            and not registry.is_own_file(config["dataset"]),
            "config.num_tokens={num_tokens} with config.dataset={dataset!r}: expected a data set whose examples are "
            "windows of config.context_length tokens, such as text; set config.num_train_steps instead.",
        ),
        (
            ("parameterization", "tie_embeddings", "model"),
            config["model"] == "GPT" and is_mup and config["tie_embeddings"],
            "config.tie_embeddings=True with config.parameterization='mup': the output kernel must be scaled unlike "
            "the tokens' vectors as the width grows; set config.tie_embeddings=False.",
        ),
        (
            ("measure_epochs", "num_epochs", "num_train_steps"),
            not has_steps
            and config["num_tokens"] is None
            and max(config["measure_epochs"], default=0) > config["num_epochs"],
            "config.measure_epochs={measure_epochs}: expected epochs up to config.num_epochs={num_epochs}.",
        ),
    ]


def _unread_layers(field: str, config: dict[str, Any]) -> tuple[bool, str]:
    """Whether a field of the SAM rules that treat layers unequally is set with a rule that ignores it; the message."""
    from flatwide import sam

    if not config[field] or config["sam_variant"] not in sam.VARIANTS:
        return False, ""
    variants = {name: registry.find("config.sam_variant", name, sam.VARIANTS) for name in sam.VARIANTS}
    readers = [name for name, variant in variants.items() if field in registry.fields(variant)]
    return config["sam_variant"] not in readers, (
        f"config.{field}={{{field}}} with config.sam_variant={{sam_variant!r}}, which does not read it; set "
        f"config.sam_variant={' or '.join(map(repr, readers))}, or config.{field}=()."
    )
