"""The configuration of one run: its fields, defaults, checks, and what of it is the run's identity.

JAX is not imported here: faults are found, and the number of threads is set, before it starts.
"""

import ast
import hashlib
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from flatwide import registry


class ConfigError(ValueError):
    """All faults found in a configuration, one line each."""

    def __init__(self, faults: list[str]):
        self.faults = faults
        super().__init__("\n".join(faults))


class Check(NamedTuple):
    """A range of valid values and the words for it."""

    holds: Callable[[Any], bool]
    expected: str


class Field(NamedTuple):
    """One config field.

    kind: "int", "float", "bool", "str", "ints", "floats" or "strs"; the plural ones are tuples.
    identity: whether the field can change a result, and so belongs to the run's hash.
    """

    default: Any
    kind: str
    check: Check | None = None
    optional: bool = False
    identity: bool = True


POSITIVE = Check(lambda v: v > 0, "a number > 0")
NOT_NEGATIVE = Check(lambda v: v >= 0, "a number >= 0")
AT_LEAST_ONE = Check(lambda v: v >= 1, "an integer >= 1")
EACH_AT_LEAST_ONE = Check(lambda v: all(n >= 1 for n in v), "integers >= 1")
SOME_AT_LEAST_ONE = Check(lambda v: len(v) > 0 and all(n >= 1 for n in v), "one or more integers >= 1")
BELOW_ONE = Check(lambda v: 0 <= v < 1, "a fraction in [0, 1)")
FRACTION = Check(lambda v: 0 <= v <= 1, "a fraction in [0, 1]")
TWO_BELOW_ONE = Check(lambda v: len(v) == 2 and all(0 <= b < 1 for b in v), "two numbers in [0, 1)")

SCHEMA: dict[str, Field] = {
    # What is trained on what.
    "model": Field("MLP", "str"),
    "dataset": Field("digits", "str"),
    "loss": Field("cross_entropy", "str"),
    # Data.
    "data_dir": Field(None, "str", optional=True, identity=False),
    "cache": Field(False, "bool", identity=False),
    "augment": Field(True, "bool"),
    "train_examples": Field(None, "int", AT_LEAST_ONE, optional=True),
    "validation_fraction": Field(0.0, "float", BELOW_ONE),
    "label_noise": Field(0.0, "float", FRACTION),
    # Width and depth.
    "num_neurons": Field((300, 100), "ints", EACH_AT_LEAST_ONE),
    "num_filters": Field(64, "int", AT_LEAST_ONE),
    "num_blocks": Field(None, "ints", SOME_AT_LEAST_ONE, optional=True),
    "half_precision": Field(False, "bool"),
    # Sparsity at initialization.
    "pruner": Field("none", "str"),
    "sparsity": Field(0.0, "float", BELOW_ONE),
    "layer_density": Field(None, "str", optional=True),
    "snip_batches": Field(1, "int", AT_LEAST_ONE),
    # SAM and the optimizer that it wraps.
    "optimizer": Field("sam", "str"),
    "base_optimizer": Field("sgd", "str"),
    "sam_variant": Field("normalized", "str"),
    "rho": Field(0.05, "float", Check(lambda v: v >= 0, "a number >= 0 (0 is the base optimizer alone)")),
    "layer_scales": Field((), "strs"),
    "microbatch": Field(None, "int", AT_LEAST_ONE, optional=True),
    "accumulation_steps": Field(1, "int", AT_LEAST_ONE),
    "momentum": Field(0.9, "float", BELOW_ONE),
    "nesterov": Field(False, "bool"),
    "adam_betas": Field((0.9, 0.999), "floats", TWO_BELOW_ONE),
    "adam_epsilon": Field(1e-8, "float", POSITIVE),
    "weight_decay": Field(0.0, "float", NOT_NEGATIVE),
    "gradient_clip": Field(None, "float", POSITIVE, optional=True),
    # Length and learning rate.
    "learning_rate": Field(0.1, "float", NOT_NEGATIVE),
    "lr_scheduler": Field("step", "str"),
    "warmup_steps": Field(0, "int", NOT_NEGATIVE),
    "batch_size": Field(128, "int", AT_LEAST_ONE),
    "num_epochs": Field(100, "int", AT_LEAST_ONE),
    "num_train_steps": Field(None, "int", AT_LEAST_ONE, optional=True),
    "seed": Field(0, "int", Check(lambda v: 0 <= v < 2**32, "an integer in [0, 2^32)")),
    # Evaluation, logs, checkpoints: what only watches the run.
    "eval_every_steps": Field(None, "int", AT_LEAST_ONE, optional=True),
    "steps_per_eval": Field(None, "int", AT_LEAST_ONE, optional=True),
    "log_every_steps": Field(100, "int", AT_LEAST_ONE, identity=False),
    "checkpoint_every_seconds": Field(10.0, "float", NOT_NEGATIVE, identity=False),
    "restore_checkpoint": Field(True, "bool", identity=False),
    "threads": Field(None, "int", AT_LEAST_ONE, optional=True),
}

_DERIVED_BY_MINUS_ONE = ("num_train_steps", "steps_per_eval")


def default() -> ml_collections.ConfigDict:
    """Make a config with every field at its default, locked against unknown fields: the start of a config file."""
    config = ml_collections.ConfigDict({name: field.default for name, field in SCHEMA.items()}, type_safe=False)
    return config.lock()


def load_file(path: str) -> dict[str, Any]:
    """Read a config file `path.py`, or `path.py:argument` for `get_config(argument)`, into plain values.

    Raises: ConfigError if the file is missing, defines no `get_config`, or fails.
    """
    file, _, argument = path.partition(".py:")
    file = file + ".py" if ".py:" in path else file
    if not Path(file).is_file():
        raise ConfigError([f"--config={path}: there is no file {file!r}; give a config file such as configs/digits_mlp.py."])
    spec = importlib.util.spec_from_file_location("flatwide_config_file", file)
    if spec is None or spec.loader is None:
        raise ConfigError([f"--config={path}: expected a Python file ending in .py that defines get_config()."])
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(file).resolve().parent))  # so that a variant can import its parent beside it
    try:
        spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
    except Exception as error:
        raise ConfigError([f"--config={path}: the file fails with {type(error).__name__}: {_one_line(error)}"]) from error
    finally:
        sys.path.pop(0)
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
        raise ConfigError([f"--config={path}: get_config() gave {type(config).__name__}; expected a ConfigDict."])
    return _plain(config)


def override(values: Mapping[str, Any], assignments: list[tuple[str, str]]) -> tuple[dict[str, Any], list[str]]:
    """Apply flags `--config.field=text` to plain values.

    Returns: the new values, and the faults of those flags that could not be read.
    """
    values, faults = dict(values), []
    for name, text in assignments:
        if name not in SCHEMA and name not in values:
            faults.append(registry.unknown("config field", name, [*SCHEMA, *values]))
            continue
        field = SCHEMA.get(name) or _field_like(values[name])
        try:
            values[name] = _parse(text, field)
        except ValueError:
            faults.append(f"config.{name}={text!r}: expected {_describe(field)}.")
    return values, faults


def resolve(values: Mapping[str, Any]) -> ml_collections.FrozenConfigDict:
    """Fill in defaults, put every value into its canonical form, and check all of it.

    Args:
      values: some of the fields, as a ConfigDict or any mapping; fields of the user's own model, data set or SAM
        variant are allowed where its builder has a keyword-only parameter of that name.
    Returns: a frozen config with every field.
    Raises: ConfigError with every fault found.
    """
    given, faults = _plain(values), []
    config = {name: field.default for name, field in SCHEMA.items()} | given
    for name, value in config.items():
        field = SCHEMA.get(name) or _field_like(value)
        value = None if name in _DERIVED_BY_MINUS_ONE and value == -1 else _canonical(value, field)
        config[name] = value
        if fault := _fault(name, value, field):
            faults.append(fault)
    faults += _unknown_names(config) if not faults else []
    faults += _contradictions(config) if not faults else []
    if faults:
        raise ConfigError(faults)
    return ml_collections.FrozenConfigDict(_without_aliases(config))


def identity(config: Mapping[str, Any], *, irrelevant: set[str], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Select what makes this run this run: the fields that can change a result and differ from their defaults.

    Args:
      config: a resolved config.
      irrelevant: fields that the chosen model, data set, optimizer and variant do not read.
      extra: facts from outside the config, such as the fingerprint of the data.
    """
    config = dict(config)
    irrelevant = irrelevant | {"num_epochs"} if config["num_train_steps"] is not None else set(irrelevant)
    if effective_rho(config) == 0:
        irrelevant |= {"rho", "sam_variant", "layer_scales", "microbatch"}
    if config["sparsity"] == 0:
        irrelevant |= {"pruner", "sparsity", "layer_density", "snip_batches"}
    elif config["pruner"] != "snip":
        irrelevant |= {"snip_batches"}
    if config["microbatch"] == config["batch_size"]:
        irrelevant |= {"microbatch"}
    canonical = config | {"base_optimizer": base_optimizer(config), "optimizer": "sam", "rho": effective_rho(config)}
    if canonical["rho"] == 0:
        irrelevant = irrelevant - {"rho"}
    chosen = {
        name: value
        for name, value in canonical.items()
        if name not in irrelevant
        and (name not in SCHEMA or (SCHEMA[name].identity and value != SCHEMA[name].default))
    }
    return json.loads(json.dumps(chosen | dict(extra), sort_keys=True))


def digest(identity_fields: Mapping[str, Any]) -> str:
    """Hash an identity into eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity_fields, sort_keys=True).encode()).hexdigest()[:8]


def effective_rho(config: Mapping[str, Any]) -> float:
    """Give the rho that is really used: 0 for anything but SAM."""
    return config["rho"] if config["optimizer"] == "sam" else 0.0


def base_optimizer(config: Mapping[str, Any]) -> str:
    """Give the optimizer that takes the step."""
    return config["base_optimizer"] if config["optimizer"] == "sam" else config["optimizer"]


def _plain(values: Mapping[str, Any] | ml_collections.ConfigDict | ml_collections.FrozenConfigDict) -> dict[str, Any]:
    if isinstance(values, ml_collections.FrozenConfigDict):
        values = values.as_configdict()
    if isinstance(values, ml_collections.ConfigDict):
        values = {name: values[name] for name in values}
    return dict(values)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _field_like(value: Any) -> Field:
    """Describe a field of the user's own from the value that their file gives it."""
    if isinstance(value, list | tuple):
        return Field(tuple(value), {int: "ints", float: "floats"}.get(type(value[0]) if value else str, "strs"))
    return Field(value, {bool: "bool", int: "int", float: "float"}.get(type(value), "str"), optional=value is None)


_SCALARS = {"int": int, "float": float, "bool": bool, "str": str, "ints": int, "floats": float, "strs": str}
_WORDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "ints": "integers such as (300,100)",
    "floats": "numbers such as (0.9,0.999)",
    "strs": "texts such as ('a','b')",
}


def _describe(field: Field) -> str:
    words = field.check.expected if field.check else _WORDS[field.kind]
    if field.check and field.kind == "int" and "integer" not in words:
        words = words.replace("a number", "an integer")
    return words + (" or None" if field.optional else "")


def _parse(text: str, field: Field) -> Any:
    if field.optional and text.lower() == "none":
        return None
    if field.kind == "bool":
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(text)
        return text.lower() in ("true", "1", "yes")
    if field.kind == "int":
        return int(text, 0)
    if field.kind == "float":
        return float(text)
    if field.kind == "str":
        return text
    try:
        found = ast.literal_eval(text) if text.strip() else ()
    except (ValueError, SyntaxError):
        if field.kind != "strs":
            raise ValueError(text) from None
        found = tuple(part.strip() for part in text.strip("()").split(","))
    return tuple(found) if isinstance(found, list | tuple) else (found,)


def _canonical(value: Any, field: Field) -> Any:
    """Turn lists into tuples, whole floats given for float fields into floats; leave wrong types for the check."""
    scalar = _SCALARS[field.kind]

    def convert(entry):
        if scalar is float and isinstance(entry, int) and not isinstance(entry, bool):
            return float(entry)
        return entry

    if field.kind in ("ints", "floats", "strs"):
        if isinstance(value, list | tuple):
            return tuple(convert(entry) for entry in value)
        return value if value is None else (convert(value),)
    return convert(value)


def _fault(name: str, value: Any, field: Field) -> str | None:
    """Say what is wrong with one value, or None."""
    wrong = f"config.{name}={value!r}: expected {_describe(field)}."
    if value is None:
        return None if field.optional else wrong
    scalar = _SCALARS[field.kind]
    entries = value if field.kind in ("ints", "floats", "strs") else (value,)
    if any(type(entry) is not scalar for entry in entries):
        return wrong
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


MAY_BE_OWN = ("model", "dataset", "sam_variant")


def _without_aliases(config: dict[str, Any]) -> dict[str, Any]:
    for name, (_, aliases) in _registries().items():
        config[name] = aliases.get(config[name], config[name])
    return config


def _unknown_names(config: dict[str, Any]) -> list[str]:
    """Check every name against its registry, and every field that is not in the schema against the user's builders."""
    faults, own_fields, builders_found = [], set(), True
    for name, (known, aliases) in _registries().items():
        value = config[name]
        if value is None or value in known or value in aliases:
            continue
        if name not in MAY_BE_OWN or not registry.is_own_file(value):
            own = " Your own: path/to/file.py:name." if name in MAY_BE_OWN else ""
            faults.append(registry.unknown(f"config.{name}", value, [*known, *aliases]) + own)
            continue
        try:
            own_fields |= set(registry.fields(registry.find(f"config.{name}", value, {})))
        except Exception as error:
            builders_found = False
            found = _one_line(error)
            faults.append(found if isinstance(error, ValueError) else f"config.{name}={value!r}: {type(error).__name__}: {found}")
    if builders_found:
        strangers = [name for name in config if name not in SCHEMA and name not in own_fields]
        faults += [registry.unknown("config field", name, [*SCHEMA, *own_fields]) for name in strangers]
    return faults


def _contradictions(config: dict[str, Any]) -> list[str]:
    """Check fields against each other."""
    faults = []
    batch_size, microbatch, pieces = config["batch_size"], config["microbatch"], config["accumulation_steps"]
    shared = batch_size if microbatch is None else microbatch  # examples that share a perturbation
    if microbatch is not None and batch_size % microbatch:
        faults.append(f"config.microbatch={microbatch}: expected a divisor of config.batch_size={batch_size}.")
    if shared % pieces:
        whole = "batch_size" if microbatch is None else "microbatch"
        faults.append(f"config.accumulation_steps={pieces}: expected a divisor of config.{whole}={shared}.")
    if config["sparsity"] > 0 and config["pruner"] == "none":
        faults.append(
            f"config.sparsity={config['sparsity']} with config.pruner='none': nothing would be pruned; "
            "choose a pruner (random, snip, magnitude) or set sparsity to 0."
        )
    if config["nesterov"] and config["momentum"] == 0:
        faults.append("config.nesterov=True with config.momentum=0.0: Nesterov needs a momentum > 0.")
    if config["layer_scales"] and config["sam_variant"] == "normalized":
        faults.append("config.layer_scales with config.sam_variant='normalized': only sam_variant='layerwise' reads it.")
    return faults
