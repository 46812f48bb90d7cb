"""The parts of a run that a config names: data set, model, objective and SAM variant."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from flatwide import config as configs
from flatwide import data, models, objectives, registry, rho_schedules, sam
from flatwide.models import lazy
from flatwide.runs.jax_settings import is_double
from flatwide.types import Dataset, Model, Objective, PyTree


def load_dataset(config: Mapping[str, Any]) -> Dataset:
    """Load the data set that a resolved config names; the same fields give the same object again."""
    fields = tuple(fields_for(dataset_builder(config), config).items())
    return _load_dataset(config["dataset"], registry.content_digest(config["dataset"]), is_double(), fields)


@functools.lru_cache(maxsize=4)
def _load_dataset(name: str, content: str, double: bool, fields: tuple[tuple[str, Any], ...]) -> Dataset:
    del content, double  # only part of the key: an edited file, and 64-bit numbers, make another data set
    dataset = registry.find("config.dataset", name, data.DATASETS)(**dict(fields))
    if not isinstance(dataset, Dataset):
        raise configs.ConfigError([f"config.dataset={name!r} gave {type(dataset).__name__}; expected a Dataset."])
    return dataset


def model_of(config: Mapping[str, Any], example: PyTree, num_outputs: int) -> Model:
    """Build the model that a resolved config names, for inputs like `example`."""
    builder = registry.find("config.model", config["model"], models.MODELS)
    model = builder(example, num_outputs, **fields_for(builder, config))
    if not isinstance(model, Model):
        raise configs.ConfigError([f"config.model={config['model']!r} gave {type(model).__name__}; expected a Model."])
    if config["linearized"]:
        return lazy.linearize(model, scale=config["output_scale"])
    return model if config["output_scale"] is None else lazy.centre(model, scale=config["output_scale"])


def with_precision(function: Callable, precision: str) -> Callable:
    """Return a function whose products have one precision wherever it is traced, whatever JAX is set to.

    Args:
      precision: in JAX's words, such as "highest".
    """

    @functools.wraps(function)
    def precise(*operands, **options):
        # JAX writes the precision into each product as it is traced, so the setting is needed only then.
        with jax.default_matmul_precision(precision):
            return function(*operands, **options)

    return precise


class Targets(NamedTuple):
    """What a data set wants of each example: `num_outputs` real numbers, or one of so many classes."""

    num_outputs: int
    are_real: bool


def objective_of(config: Mapping[str, Any], targets: Targets) -> Objective:
    """Build the objective that a resolved config names."""
    builder = registry.find("config.loss", config["loss"], objectives.OBJECTIVES)
    fields = fields_for(builder, config)
    objective = builder(targets.num_outputs, real_targets=targets.are_real, **fields)
    scale = config["output_scale"]
    return objective if scale is None else objectives.scale_loss(objective, scale**-2)


def variant_of(config: Mapping[str, Any]) -> Callable[..., sam.AscentRule]:
    """Return the SAM variant that a resolved config names: rho -> ascent rule."""
    builder = registry.find("config.sam_variant", config["sam_variant"], sam.VARIANTS)
    return functools.partial(builder, **fields_for(builder, config))


def num_gradients(config: Mapping[str, Any], rho_schedule: Callable | None, num_steps: int) -> int | None:
    """Count the gradients of a whole batch that the first so many steps of a run compute.

    Args:
      config: a resolved config. rho_schedule: step -> factor of rho; None is always 1.
    Returns: None where a SAM variant decides at each step, by a state of its own, whether it takes a second gradient.
    """
    rho = configs.effective_rho(config)
    if rho == 0 or not (rule := variant_of(config)(rho)).needs_clean_gradient:
        return num_steps
    if config["group_size"] > 1:  # `vmap` computes both branches for every run
        return 2 * num_steps
    return None if rule.is_due is not None else num_steps + rho_schedules.num_ascents(rho_schedule, num_steps)


def dataset_builder(config: Mapping[str, Any]) -> Callable[..., Dataset]:
    """Return the function that loads the data set of a resolved config."""
    return registry.find("config.dataset", config["dataset"], data.DATASETS)


def fields_for(builder: Callable, config: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the config fields that a builder declares as keyword-only parameters; others keep the builder's default."""
    return {name: config[name] for name in registry.fields(builder) if name in config}
