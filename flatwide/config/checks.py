"""Fill in defaults and find every fault at once."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import ml_collections

from flatwide import catalogue, registry
from flatwide.config.own import MAY_BE_OWN, own_defaults, own_fields
from flatwide.config.schema import SCALARS, SCHEMA, ConfigError, Field, describe, field_like, one_line, plain
from flatwide.registry import shown

_WITHOUT_EXAMPLES = {
    "validation_fraction": "hold out",
    "train_examples": "draw a subset of",
    "label_noise": "disturb",
    "steps_per_eval": "score a part of",
}
_DERIVED_BY_MINUS_ONE = ("num_train_steps", "steps_per_eval")


def resolve(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in defaults, put every value into its canonical form, and check all of it.

    Args:
      values: some of the fields, as a ConfigDict or any mapping; fields of the user's own model, data set, loss or
        SAM variant are allowed where its builder has a keyword-only parameter of that name.
    Returns: a frozen config with every field; `config.rho` and `config["rho"]` both work.
    Raises: ConfigError with every fault found.
    """
    return cast(Mapping[str, Any], ml_collections.FrozenConfigDict(resolve_fields(values)))


def resolve_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Do what `resolve` does into a plain dict, four times as fast: a study resolves thousands of configs."""
    given = plain(values)
    wrong: dict[str, str] = {}
    if given.pop("study", None) is not None:
        wrong["study"] = "config.study: expected one run here, and not a study of many; train it with the command."
    config = {name: field.default for name, field in SCHEMA.items()} | own_defaults(given) | given
    for name, value in config.items():
        config[name], fault = check_field(name, value, SCHEMA.get(name) or field_like(value))
        if fault:
            wrong[name] = fault
    # What is wrong by itself, and may be of any type, stays out of the comparisons of fields.
    compared = config | {name: field.default for name, field in SCHEMA.items() if name in wrong}
    faults = [*wrong.values(), *_unknown_names(config), *_contradictions(compared, wrong.keys())]
    faults += [] if "measurements" in wrong else catalogue.faults("config.measurements", config["measurements"])
    if faults:
        raise ConfigError(faults)
    return _final_names(config)


def check_field(name: str, value: Any, field: Field) -> tuple[Any, str | None]:
    """Put one value into its canonical form, and say what is wrong with it, or None."""
    value = _canonical(value, field)
    if name in _DERIVED_BY_MINUS_ONE and type(value) is int and value == -1:
        value = None
    return value, _fault(name, value, field)


def _canonical(value: Any, field: Field) -> Any:
    """Turn lists into tuples, whole floats given for float fields into floats; leave wrong types for the check."""
    scalar = SCALARS[field.kind]

    def convert(entry):
        entry = _plain_number(entry)
        if scalar is float and isinstance(entry, int) and not isinstance(entry, bool):
            return float(entry) if abs(entry) < 2**1023 else math.inf  # no float: the check says so
        return entry

    if field.kind in ("ints", "floats", "strs"):
        value = _plain_number(value)
        if isinstance(value, list | tuple):
            return tuple(convert(entry) for entry in value)
        return value if value is None else (convert(value),)
    return convert(value)


def _plain_number(value: Any) -> Any:
    """Turn NumPy's scalars and arrays into Python's; an array of one number is that number."""
    if not (hasattr(value, "item") and hasattr(value, "tolist")):
        return value
    return value.item() if value.size == 1 else value.tolist()


def _fault(name: str, value: Any, field: Field) -> str | None:
    """Say what is wrong with one value, or None."""
    wrong = f"config.{name}={shown(value)}: expected {describe(field)}."
    if value is None:
        return None if field.optional else wrong
    scalar = SCALARS[field.kind]
    entries = value if field.kind in ("ints", "floats", "strs") else (value,)
    if any(type(entry) is not scalar for entry in entries):
        return wrong
    if scalar is int and any(abs(entry) >= 2**32 for entry in entries):
        return f"{wrong} No integer of a config is 2^32 or more."
    if scalar is float and not all(math.isfinite(entry) for entry in entries):
        return wrong
    return wrong if field.check and not field.check.holds(value) else None


def _registries() -> dict[str, tuple[Mapping[str, Any], Mapping[str, str]]]:
    """List, for each field that names a thing, the known names and their aliases."""
    from flatwide import data, models, objectives, optimizers, sam, schedules, sparsify

    names = {
        "model": (models.MODELS, models.ALIASES),
        "dataset": (data.DATASETS, data.ALIASES),
        "loss": (objectives.OBJECTIVES, {}),
        "sam_variant": (sam.VARIANTS, {}),
        "lr_scheduler": (dict.fromkeys(schedules.SCHEDULES), schedules.ALIASES),
        "base_optimizer": (dict.fromkeys(optimizers.OPTIMIZERS), {}),
        "optimizer": (dict.fromkeys((*optimizers.OPTIMIZERS, "sam")), {}),
        "pruner": (dict.fromkeys(sparsify.PRUNERS), {}),
        "layer_density": (dict.fromkeys(sparsify.LAYER_DENSITIES), {}),
    }
    return names


def _final_names(config: dict[str, Any]) -> dict[str, Any]:
    """Replace aliases by what they stand for, and paths of own files by absolute ones."""
    for name, (_, aliases) in _registries().items():
        config[name] = aliases.get(config[name], config[name])
    measured = dict.fromkeys(registry.absolute(name) for name in config["measurements"])
    epochs = tuple(sorted(set(config["measure_epochs"])))
    own = {name: registry.absolute(config[name]) for name in MAY_BE_OWN}
    return config | own | {"measurements": tuple(measured), "measure_epochs": epochs}


def _unknown_names(config: dict[str, Any]) -> list[str]:
    """Check every name against its registry, and every field that is not in the schema against the user's builders."""
    faults, fields, builders_found = [], {}, True
    for name, (known, aliases) in _registries().items():
        value = config[name]
        if not isinstance(value, str) or value in known or value in aliases:
            continue  # what is no text is a fault already
        if name not in MAY_BE_OWN or not registry.is_own_file(value):
            own = " Your own: path/to/file.py:name." if name in MAY_BE_OWN else ""
            faults.append(registry.unknown(f"config.{name}", value, [*known, *aliases]) + own)
            continue
        try:
            fields |= own_fields({name: value})
        except (Exception, SystemExit) as error:
            builders_found = False
            found = one_line(error)
            faults.append(
                found if isinstance(error, ValueError) else f"config.{name}={value!r}: {type(error).__name__}: {found}"
            )
    if builders_found:
        strangers = [name for name in config if name not in SCHEMA and name not in fields]
        faults += [registry.unknown("config field", name, [*SCHEMA, *fields]) for name in strangers]
        missing = [name for name in fields if name not in config]
        faults += [f"config.{name} is missing: your own file needs it and has no default for it." for name in missing]
    return faults


def _contradictions(config: dict[str, Any], wrong: Collection[str]) -> list[str]:
    """Check fields against each other, where each alone is right.

    Args:
      wrong: fields that have a fault of their own.
    """
    from flatwide import data, objectives

    batch_size, microbatch, pieces = config["batch_size"], config["microbatch"], config["accumulation_steps"]
    whole = "batch_size" if microbatch is None else "microbatch"  # the examples that share a perturbation
    declared = data.INFO.get(config["dataset"]) if isinstance(config["dataset"], str) else None
    is_game = config["dataset"] in data.GAMES
    own_parts = any(
        isinstance(config[name], str) and registry.is_own_file(config[name]) for name in ("loss", "dataset")
    )
    is_regression = declared is not None and declared.has_real_targets
    checks: list[tuple[tuple[str, ...], Callable[[], bool], str]] = [
        (
            ("microbatch", "batch_size"),
            lambda: microbatch is not None and batch_size % microbatch != 0,
            f"config.microbatch={microbatch}: expected a divisor of config.batch_size={batch_size}.",
        ),
        (
            ("accumulation_steps", whole),
            lambda: config[whole] % pieces != 0,
            f"config.accumulation_steps={pieces}: expected a divisor of config.{whole}={config[whole]}.",
        ),
        (
            ("sparsity", "pruner"),
            lambda: config["sparsity"] > 0 and config["pruner"] == "none",
            f"config.sparsity={config['sparsity']} with config.pruner='none': nothing would be pruned; "
            "choose a pruner (random, snip, magnitude) or set sparsity to 0.",
        ),
        (
            ("nesterov", "momentum"),
            lambda: config["nesterov"] and config["momentum"] == 0,
            "config.nesterov=True with config.momentum=0.0: Nesterov needs a momentum > 0.",
        ),
        (
            ("layer_scales", "sam_variant"),
            lambda: (
                bool(config["layer_scales"]) and config["sam_variant"] in ("normalized", "unnormalized", "adaptive")
            ),
            f"config.layer_scales with config.sam_variant={config['sam_variant']!r}: only 'layerwise' reads it.",
        ),
        (
            ("loss", "dataset"),
            lambda: is_regression and config["loss"] in objectives.FOR_CLASSES_ONLY,
            f"config.loss={config['loss']!r} with config.dataset={config['dataset']!r}: its targets are real numbers, "
            "and this loss scores classes; choose config.loss=squared.",
        ),
        (
            ("label_noise", "dataset"),
            lambda: is_regression and config["label_noise"] > 0,
            f"config.label_noise={config['label_noise']} with config.dataset={config['dataset']!r}: its targets are "
            "real numbers, and labels are moved among classes; set config.label_noise=0.",
        ),
        (
            ("loss", "dataset"),
            lambda: (config["loss"] == "ppo") != is_game and not own_parts,
            f"config.loss={config['loss']!r} with config.dataset={config['dataset']!r}: the loss 'ppo' is for games "
            f"({', '.join(data.GAMES)}), and games have no other.",
        ),
        *(
            (
                (field, "dataset"),
                lambda field=field: is_game and config[field] != SCHEMA[field].default,
                f"config.{field}={config[field]!r} with config.dataset={config['dataset']!r}: the examples of a game "
                f"come from playing it, so there is nothing to {why}; set config.{field}={SCHEMA[field].default!r}.",
            )
            for field, why in _WITHOUT_EXAMPLES.items()
        ),
        (
            ("measure_epochs", "num_epochs"),
            lambda: (
                config["num_train_steps"] is None and max(config["measure_epochs"], default=0) > config["num_epochs"]
            ),
            f"config.measure_epochs={config['measure_epochs']}: expected epochs up to "
            f"config.num_epochs={config['num_epochs']}.",
        ),
    ]
    return [message for fields, fails, message in checks if not set(fields) & set(wrong) and fails()]
