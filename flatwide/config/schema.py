"""The fields of a config, with their defaults and allowed values."""

import ast
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from flatwide.registry import is_own_file, shown


class ConfigError(ValueError):
    """All faults of a configuration, one line each, or its only one."""

    def __init__(self, faults: list[str] | str):
        self.faults = [faults] if isinstance(faults, str) else faults
        super().__init__("\n".join(self.faults))


class Check(NamedTuple):
    """A range of valid values and its description."""

    holds: Callable[[Any], bool]
    expected: str


class Field(NamedTuple):
    """One config field.

    kind: "int", "float", "bool", "str", "ints", "floats" or "strs"; the plural ones are tuples; in STUDY also
      "mapping" and "mappings".
    identity: whether the field can change a result and so belongs to the run's hash; else it only affects monitoring.
    declared: whether it is read only if the model, data set, loss or SAM variant declares it as a keyword.
    compiled: whether it is part of the compiled program; else it is an argument of it, or used on the host only.
    shape: whether it sets the width or depth of a network, and so may vary with the number of parameters.
    ascent: whether runs without an ascent (rho = 0) serve as the base runs for every value of it.
    mask: the same for runs without a mask (sparsity = 0).
    """

    default: Any
    kind: str
    check: Check | None = None
    optional: bool = False
    identity: bool = True
    declared: bool = False
    compiled: bool = True
    shape: bool = False
    ascent: bool = False
    mask: bool = False


POSITIVE = Check(lambda v: v > 0, "a number > 0")
NOT_NEGATIVE = Check(lambda v: v >= 0, "a number >= 0")
RADIUS = Check(lambda v: v >= 0, "a number >= 0 (0 is the base optimizer alone)")
COUNT = Check(lambda v: 1 <= v < 2**31, "an integer in [1, 2^31)")
THREADS = Check(lambda v: 1 <= v <= 1024, "an integer in [1, 1024]")
AT_LEAST_ONE = Check(lambda v: v >= 1, "an integer >= 1")
EACH_NOT_NEGATIVE = Check(lambda v: all(n >= 0 for n in v), "integers >= 0")
EACH_AT_LEAST_ONE = Check(lambda v: all(n >= 1 for n in v), "integers >= 1")
SOME_AT_LEAST_ONE = Check(lambda v: len(v) > 0 and all(n >= 1 for n in v), "one or more integers >= 1")
BELOW_ONE = Check(lambda v: 0 <= v < 1, "a fraction in [0, 1)")
FRACTION = Check(lambda v: 0 <= v <= 1, "a fraction in [0, 1]")
TAG_COLUMN = Check(lambda v: v in ("upos", "xpos"), "upos or xpos")
OPEN_FRACTION = Check(lambda v: 0 < v < 1, "a fraction in (0, 1)")
ODD = Check(lambda v: v >= 1 and v % 2 == 1, "an odd integer >= 1")
TWO_OR_MORE = Check(lambda v: v >= 2, "an integer >= 2 (1 would be every step)")
RHO_SCHEDULE = Check(
    lambda v: v in ("constant", "late", "early", "every", "decay", "with_learning_rate"),
    "constant, late, early, every, decay or with_learning_rate",
)
TEST_SPLIT = Check(lambda v: v in ("every_tenth", "scaffold"), "every_tenth or scaffold")
AVERAGE = Check(lambda v: v in ("none", "ema", "swa"), "none, ema or swa")
TOKENIZER = Check(lambda v: v in ("bytes", "bpe", "none"), "bytes, bpe or none")
REINITIALIZED = Check(lambda v: v in ("none", "head"), "none or head")
DECAYED = Check(lambda v: v in ("all", "kernels"), "all or kernels")
OWN_FUNCTION = Check(is_own_file, "path/to/file.py:function")
TWO_BELOW_ONE = Check(lambda v: len(v) == 2 and all(0 <= b < 1 for b in v), "two numbers in [0, 1)")

_LONGEST_RANGE = 100_000  # values of an axis that is a `range`

SCHEMA: dict[str, Field] = {
    # Model, data set and loss.
    "model": Field("MLP", "str"),
    "dataset": Field("digits", "str"),
    "loss": Field("cross_entropy", "str"),
    # Data.
    "data_dir": Field(None, "str", optional=True, identity=False, compiled=False),
    "cache": Field(False, "bool", identity=False, compiled=False),
    "augment": Field(True, "bool", declared=True),
    "tag_column": Field(None, "str", TAG_COLUMN, optional=True, declared=True),
    "max_length": Field(None, "int", AT_LEAST_ONE, optional=True, declared=True),
    "context_length": Field(128, "int", AT_LEAST_ONE, declared=True),
    "tokenizer": Field("bytes", "str", TOKENIZER, declared=True),
    "vocab_size": Field(None, "int", AT_LEAST_ONE, optional=True, declared=True),
    "min_word_count": Field(1, "int", AT_LEAST_ONE, declared=True),
    "test_split": Field("every_tenth", "str", TEST_SPLIT, declared=True),
    "teacher_scale": Field(0.1, "float", NOT_NEGATIVE, declared=True),
    "size_window": Field(16, "int", AT_LEAST_ONE, declared=True),
    "train_examples": Field(None, "int", AT_LEAST_ONE, optional=True, compiled=False),
    "validation_fraction": Field(0.0, "float", BELOW_ONE, compiled=False),
    "label_noise": Field(0.0, "float", FRACTION, compiled=False),
    # Width and depth.
    "num_neurons": Field((300, 100), "ints", EACH_AT_LEAST_ONE, declared=True, shape=True),
    "kernel_scale": Field(1.0, "float", POSITIVE, declared=True),
    "num_filters": Field(64, "int", AT_LEAST_ONE, declared=True, shape=True),
    "num_blocks": Field(None, "ints", SOME_AT_LEAST_ONE, optional=True, declared=True, shape=True),
    "hidden_size": Field(128, "int", AT_LEAST_ONE, declared=True, shape=True),
    "num_layers": Field(None, "int", AT_LEAST_ONE, optional=True, declared=True, shape=True),
    "num_heads": Field(None, "int", AT_LEAST_ONE, optional=True, declared=True),
    "mlp_ratio": Field(4, "int", AT_LEAST_ONE, declared=True),
    "tie_embeddings": Field(False, "bool", declared=True),
    "patch_size": Field(4, "int", AT_LEAST_ONE, declared=True),
    "dropout": Field(None, "float", BELOW_ONE, optional=True, declared=True),
    "half_precision": Field(False, "bool", declared=True),
    # The weights of another run.
    "initialize_from": Field(None, "str", optional=True, identity=False, compiled=False),
    "pretraining_rho": Field(None, "float", RADIUS, optional=True, compiled=False),
    "reinitialize": Field("none", "str", REINITIALIZED, compiled=False),
    # Parameterization: scaling with width.
    "parameterization": Field("standard", "str"),
    "base_width": Field((), "ints", EACH_AT_LEAST_ONE),
    "perturbation_scaling": Field("none", "str", ascent=True),
    # Lazy training.
    "linearized": Field(False, "bool"),
    "output_scale": Field(None, "float", POSITIVE, optional=True),
    # Sparsity at initialization.
    "pruner": Field("none", "str", compiled=False, mask=True),
    "sparsity": Field(0.0, "float", BELOW_ONE, compiled=False),
    "layer_density": Field(None, "str", optional=True, compiled=False, mask=True),
    "snip_batches": Field(1, "int", AT_LEAST_ONE, compiled=False, mask=True),
    # SAM and its base optimizer.
    "optimizer": Field("sam", "str"),
    "base_optimizer": Field("sgd", "str"),
    "sam_variant": Field("normalized", "str", ascent=True),
    "rho": Field(0.05, "float", RADIUS, compiled=False),
    "rho_schedule": Field("constant", "str", RHO_SCHEDULE, ascent=True),
    "rho_switch": Field(0.5, "float", OPEN_FRACTION, ascent=True),
    "rho_every": Field(2, "int", TWO_OR_MORE, ascent=True),
    "layer_scales": Field((), "strs", declared=True, ascent=True),
    "ascent_layers": Field((), "strs", declared=True, ascent=True),
    "mean_gradient_weight": Field(1.0, "float", NOT_NEGATIVE, declared=True, ascent=True),
    "mean_gradient_decay": Field(0.9, "float", BELOW_ONE, declared=True, ascent=True),
    "surrogate_gap_weight": Field(0.4, "float", NOT_NEGATIVE, declared=True, ascent=True),
    "microbatch": Field(None, "int", AT_LEAST_ONE, optional=True, ascent=True),
    "accumulation_steps": Field(1, "int", AT_LEAST_ONE),
    "momentum": Field(0.9, "float", BELOW_ONE),
    "nesterov": Field(False, "bool"),
    "adam_betas": Field((0.9, 0.999), "floats", TWO_BELOW_ONE),
    "adam_epsilon": Field(1e-8, "float", POSITIVE),
    "weight_decay": Field(0.0, "float", NOT_NEGATIVE, compiled=False),
    "weight_decay_on": Field("all", "str", DECAYED),
    "weight_average": Field("none", "str", AVERAGE),
    "average_decay": Field(0.999, "float", OPEN_FRACTION),
    "average_start": Field(None, "float", BELOW_ONE, optional=True),
    "gradient_clip": Field(None, "float", POSITIVE, optional=True),
    # Length and learning rate.
    "learning_rate": Field(0.1, "float", NOT_NEGATIVE, compiled=False),
    "lr_scheduler": Field("step", "str"),
    "warmup_steps": Field(0, "int", NOT_NEGATIVE),
    "decay_fraction": Field(0.2, "float", OPEN_FRACTION),
    "final_factor": Field(0.0, "float", FRACTION),
    "batch_size": Field(128, "int", AT_LEAST_ONE),
    "num_epochs": Field(100, "int", COUNT, compiled=False),
    "num_train_steps": Field(None, "int", COUNT, optional=True, compiled=False),
    "num_tokens": Field(None, "int", AT_LEAST_ONE, optional=True, identity=False, compiled=False),
    "seed": Field(0, "int", Check(lambda v: 0 <= v < 2**32, "an integer in [0, 2^32)"), compiled=False),
    # Reinforcement learning.
    "num_envs": Field(8, "int", AT_LEAST_ONE, declared=True),
    "unroll_length": Field(128, "int", AT_LEAST_ONE, declared=True),
    "update_epochs": Field(3, "int", AT_LEAST_ONE, declared=True),
    "discount": Field(0.99, "float", FRACTION, declared=True),
    "gae_lambda": Field(0.95, "float", FRACTION, declared=True),
    "clip_ratio": Field(0.1, "float", POSITIVE, declared=True),
    "value_coefficient": Field(0.5, "float", NOT_NEGATIVE, declared=True),
    "entropy_coefficient": Field(0.01, "float", NOT_NEGATIVE, declared=True),
    "num_test_games": Field(32, "int", AT_LEAST_ONE, declared=True),
    # Evaluation, logs and checkpoints.
    "eval_every_steps": Field(None, "int", AT_LEAST_ONE, optional=True, compiled=False),
    "train_eval_examples": Field(None, "int", AT_LEAST_ONE, optional=True, compiled=False),
    "steps_per_eval": Field(None, "int", AT_LEAST_ONE, optional=True, compiled=False),
    "log_every_steps": Field(100, "int", AT_LEAST_ONE, identity=False, compiled=False),
    "checkpoint_every_seconds": Field(10.0, "float", NOT_NEGATIVE, identity=False, compiled=False),
    "on_metrics": Field(None, "str", OWN_FUNCTION, optional=True, identity=False, compiled=False),
    "restore_checkpoint": Field(True, "bool", identity=False, compiled=False),
    "threads": Field(None, "int", THREADS, optional=True, compiled=False),
    "group_size": Field(1, "int", AT_LEAST_ONE, compiled=False),
    "shard_parameters": Field(False, "bool", identity=False),
    # Measurements of the trained network.
    "measurements": Field((), "strs", identity=False, compiled=False),
    "measure_epochs": Field((), "ints", EACH_NOT_NEGATIVE, identity=False, compiled=False),
    "measure_every_steps": Field(None, "int", AT_LEAST_ONE, optional=True, identity=False, compiled=False),
    "measure_examples": Field(1000, "int", AT_LEAST_ONE, identity=False, compiled=False),
}

# The fields of `config.study`, which `flatwide/study` reads.
STUDY: dict[str, Field] = {
    "axes": Field({}, "mapping"),
    "points": Field((), "mappings"),
    "exclude": Field((), "mappings"),
    "parts": Field({}, "mapping"),
    "metric": Field("test_metric", "str"),
    "metrics": Field((), "strs"),
    "average_last": Field(1, "int", ODD),
    "tune": Field((), "strs"),
    "decide": Field("", "str"),
    "decide_error": Field(0.05, "float", OPEN_FRACTION),
    "decide_runs": Field(None, "int", AT_LEAST_ONE, optional=True),
    "decide_minutes": Field(None, "float", POSITIVE, optional=True),
    "executor": Field("local", "str"),
    "workers": Field(None, "int", AT_LEAST_ONE, optional=True),
    "workers_per_gpu": Field(1, "int", AT_LEAST_ONE),
    "devices_per_run": Field(None, "int", AT_LEAST_ONE, optional=True),
    "group_size": Field(None, "str", Check(lambda v: v == "auto", "'auto'"), optional=True),
    "address": Field(None, "str", optional=True),
    "slurm": Field({}, "mapping"),
    "tensorboard": Field(False, "bool"),
}


def default() -> Any:
    """Return a ConfigDict with every field at its default, locked against unknown fields, to start a config file."""
    fields: dict[str, Any] = {name: field.default for name, field in SCHEMA.items()}
    fields["study"] = {name: field.default for name, field in STUDY.items()}
    return ml_collections.ConfigDict(fields, type_safe=False).lock()


def field_like(value: Any) -> Field:
    """Infer the Field of a user-defined field from the value in the user's file."""
    if isinstance(value, list | tuple):
        return Field(tuple(value), {int: "ints", float: "floats"}.get(type(value[0]) if value else str, "strs"))
    return Field(value, {bool: "bool", int: "int", float: "float"}.get(type(value), "str"), optional=value is None)


SCALARS = {"int": int, "float": float, "bool": bool, "str": str, "ints": int, "floats": float, "strs": str}
_WORDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "ints": "integers such as (300,100)",
    "floats": "numbers such as (0.9,0.999)",
    "strs": "texts such as ('a','b')",
}


def describe(field: Field) -> str:
    """Describe the values that a field may have."""
    words = field.check.expected if field.check else _WORDS[field.kind]
    if field.check and field.kind == "int" and "integer" not in words:
        words = words.replace("a number", "an integer")
    return words + (" or None" if field.optional else "")


def plain(values: Any) -> dict[str, Any]:
    """Convert a ConfigDict, frozen or not, or another mapping to a dict; drop a `study` with default fields only."""
    plain_values = {name: _plain_study(values[name]) if name == "study" else values[name] for name in values}
    study = plain_values.get("study")
    if study is None or (isinstance(study, dict) and all(_is_default(name, value) for name, value in study.items())):
        plain_values.pop("study", None)
    return plain_values


def _is_default(name: object, value: Any) -> bool:
    """Whether a field of a study has its default."""
    default = STUDY[name].default if isinstance(name, str) and name in STUDY else ...
    return type(value) is type(default) and value == default


def _plain_study(value: Any) -> Any:
    """Convert nested ConfigDicts to dicts, and lists, ranges and NumPy arrays to tuples."""
    if isinstance(value, Mapping | ml_collections.ConfigDict):
        return {name: _plain_study(value[name]) for name in value}
    value = value.tolist() if hasattr(value, "tolist") else value
    value = tuple(value) if isinstance(value, range) and len(value[:_LONGEST_RANGE]) < _LONGEST_RANGE else value
    return tuple(_plain_study(item) for item in value) if isinstance(value, list | tuple) else value


def literal(text: str) -> Any:
    """Evaluate a Python literal.

    Raises: ValueError if it is not one, for each of the six ways in which Python's parser can fail.
    """
    try:
        value = ast.literal_eval(text)
        repr(value)  # fails for an integer of more than 4,300 digits, which no message could show
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, OverflowError) as error:
        raise ValueError(f"{shown(text)} is not a Python literal") from error
    return value


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."
