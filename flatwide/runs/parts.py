"""The parts of a run named in its config: data set, model, objective and SAM variant."""

import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import config as configs
from flatwide import data, models, objectives, parameterization, registry, rho_schedules, sam
from flatwide.models import lazy
from flatwide.parameterization import Leaf
from flatwide.runs.jax_settings import is_double
from flatwide.types import Batch, Dataset, Info, Model, Objective, PyTree, Split


def load_dataset(config: Mapping[str, Any]) -> Dataset:
    """Load the data set of a resolved config; the same fields return the same object again."""
    fields = tuple(fields_for(dataset_builder(config), config).items())
    content = registry.content_digest(config["dataset"]), _written(config["data_dir"])
    return _load_dataset(config["dataset"], content, is_double(), fields)


def is_local(config: Mapping[str, Any]) -> bool:
    """Whether the data set is on this machine, and not on a hub."""
    return config["data_dir"] is not None or "data_dir" not in registry.fields(dataset_builder(config))


def planned_dataset(config: Mapping[str, Any]) -> Dataset:
    """Load the data set of a resolved config, or make one of zeros of its published sizes if it is not here."""
    declared = data.INFO.get(config["dataset"])
    if declared is None or is_local(config):
        try:
            return load_dataset(config)
        except data.DataError:
            if declared is None:
                raise
    return _zeros(declared, is_double())


@functools.lru_cache(maxsize=4)
def _zeros(declared: Info, double: bool) -> Dataset:
    del double  # part of the key

    def split(count: int) -> Split:
        targets = np.zeros(count, np.int32)
        if declared.is_streamed:
            return data.Streamed(lambda index, generator: np.zeros(declared.input_shape, np.uint8), targets)
        return data.Resident({"inputs": np.zeros((count, *declared.input_shape), np.uint8), "targets": targets})

    return Dataset(
        train=split(declared.num_train),
        test=split(declared.num_test),
        prepare=_as_floats,
        example=jax.ShapeDtypeStruct(declared.input_shape, jax.dtypes.canonicalize_dtype(float)),
        num_outputs=declared.num_outputs,
        fingerprint="",
    )


def _as_floats(batch: Batch, key: jax.Array | None, *, train: bool) -> Batch:
    del key, train
    return batch | {"inputs": jnp.asarray(batch["inputs"], float) / 255}


def _written(data_dir: str | None) -> tuple[tuple[str, int, int], ...]:
    """Return the names, times and sizes of a file or of those in a folder, which change when data are replaced."""
    with suppress(OSError):  # the data set's reader reports it
        path = Path(data_dir).expanduser() if data_dir else None
        files = [] if path is None else sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((file.name, stat.st_mtime_ns, stat.st_size) for file in files for stat in [file.lstat()])
    return ()


@functools.lru_cache(maxsize=4)
def _load_dataset(name: str, content: tuple, double: bool, fields: tuple[tuple[str, Any], ...]) -> Dataset:
    del content, double  # only part of the cache key: edited files or 64-bit numbers make a different data set
    dataset = registry.find("config.dataset", name, data.DATASETS)(**dict(fields))
    if not isinstance(dataset, Dataset):
        raise configs.ConfigError(f"config.dataset={name!r} returned {type(dataset).__name__}; expected a Dataset.")
    return dataset


def model_of(config: Mapping[str, Any], example: PyTree, num_outputs: int) -> Model:
    """Build the model of a resolved config, for inputs like `example`."""
    model = _network(config, example, num_outputs)
    if config.get("parameterization") == "mup":
        base, probe = _other_widths(config, example, num_outputs)
        model = model._replace(init=ScaledInit(unscaled=model.init, base=base, probe=probe))
    if config["linearized"]:
        return lazy.linearize(model, scale=config["output_scale"])
    return model if config["output_scale"] is None else lazy.centre(model, scale=config["output_scale"])


def param_shapes(config: Mapping[str, Any], dataset: Dataset) -> PyTree:
    """Trace the parameters of the network of a config, once for all configs with the same network."""
    return _shapes(_network(config, dataset.example, dataset.num_outputs))


def width_field(config: Mapping[str, Any]) -> str:
    """Return the field that sets the width of a model: the first one that its builder reads, or "" if none."""
    builder = registry.find("config.model", config["model"], models.MODELS)
    return next(iter(fields_for(builder, config)), "")


def growth(config: Mapping[str, Any], example: PyTree, num_outputs: int) -> tuple[tuple[Leaf, ...], PyTree]:
    """Derive how each leaf of a network grows from `config.base_width`.

    Returns: one `Leaf` per leaf, and the shapes of the parameters at the base width.
    Raises: ConfigError if the widths do not fit, or no factors exist for the way in which the network grows.
    """
    others = _other_widths(config, example, num_outputs)
    shapes = [_shapes(model) for model in (*others, _network(config, example, num_outputs))]
    try:
        return parameterization.leaves(*shapes), shapes[0]
    except ValueError as error:
        raise configs.ConfigError(f"config.base_width={config['base_width']}: {error}") from None


def scaled_ascent(config: Mapping[str, Any], factors: parameterization.Factors | None) -> Callable[..., sam.AscentRule]:
    """Return `variant_of` with perturbations multiplied leaf by leaf."""
    variant = variant_of(config)
    if factors is None:
        return variant
    return lambda rho: parameterization.scale_perturbation(variant(rho), factors.perturbation)


def factors_of(
    config: Mapping[str, Any], example: PyTree, num_outputs: int, *, one_pass: bool
) -> parameterization.Factors | None:
    """Compute the factors of each leaf in a run's steps; None if they are all 1 by definition.

    Args:
      one_pass: whether nothing is perturbed.
    Raises: ConfigError as `growth`.
    """
    is_scaled = config["perturbation_scaling"] != "none" and not one_pass
    if config["parameterization"] == "standard" and not is_scaled:
        return None
    grown, shapes = growth(config, example, num_outputs)
    kind = parameterization.ascent_kind(variant_of(config)(1.0), shapes) if is_scaled else (0, None, None)
    return parameterization.factors(
        grown,
        jax.tree.structure(shapes),
        parameterization=config["parameterization"],
        perturbation_scaling=config["perturbation_scaling"] if is_scaled else "none",
        optimizer=configs.base_optimizer(config),
        degree=kind[0],
        ascended=kind[1],
        perturbed=kind[2],
    )


def with_precision(function: Callable, precision: str) -> Callable:
    """Return a function whose products have a fixed precision, whatever JAX's setting when it is traced.

    Args:
      precision: as JAX names it, such as "highest".
    """

    @functools.wraps(function)
    def precise(*operands, **options):
        # JAX writes the precision into each product as it is traced, so the setting is needed only then.
        with jax.default_matmul_precision(precision):
            return function(*operands, **options)

    return precise


class Targets(NamedTuple):
    """The targets of each example: `num_outputs` real numbers, or one of `num_outputs` classes."""

    num_outputs: int
    are_real: bool


def _network(config: Mapping[str, Any], example: PyTree, num_outputs: int) -> Model:
    """Build the network of a config, without linearization, output scale or muP; the same object for the same one."""
    builder = registry.find("config.model", config["model"], models.MODELS)
    fields = tuple(sorted(fields_for(builder, config).items()))
    leaves, structure = jax.tree.flatten(example)
    content = registry.content_digest(config["model"]), is_double()
    return _cached_network(config["model"], content, fields, tuple(leaves), structure, num_outputs)


@functools.lru_cache(maxsize=256)
def _cached_network(
    name: str, content: tuple, fields: tuple, leaves: tuple, structure: PyTree, num_outputs: int
) -> Model:
    del content  # only part of the cache key
    builder = registry.find("config.model", name, models.MODELS)
    model = builder(jax.tree.unflatten(structure, leaves), num_outputs, **dict(fields))
    if not isinstance(model, Model):
        raise configs.ConfigError(registry.not_a_model(name, f"returned {type(model).__name__}"))
    return model


def _other_widths(config: Mapping[str, Any], example: PyTree, num_outputs: int) -> tuple[Model, Model]:
    """Build a network at its base width and at a multiple of it.

    Raises: ConfigError if the model has no width, or the run's is not a multiple of the base width.
    """
    name, base = width_field(config), config["base_width"]
    if not name:
        raise configs.ConfigError(
            f"config.base_width={base}: config.model={config['model']!r} reads no field that sets a width."
        )
    is_tuple = isinstance(config[name], tuple)
    sizes = config[name] if is_tuple else (config[name],)
    if len(sizes) != len(base) or len({Fraction(*of) for of in zip(sizes, base, strict=True)}) != 1:
        shown_base = base if is_tuple or len(base) > 1 else base[0]
        fault = "expected as many sizes as the network has, all in the same ratio to them."
        raise configs.ConfigError(f"config.base_width={shown_base} with config.{name}={config[name]}: {fault}")
    read = {name: value for name, value in config.items() if name not in ("base_width", "parameterization")}

    def at(multiple: int) -> Model:
        width = tuple(multiple * size for size in base)
        return _network(read | {name: width if is_tuple else width[0]}, example, num_outputs)

    return at(1), at(parameterization.PROBE)


@dataclass(frozen=True)
class ScaledInit:
    """An `init` whose initial weights have the standard deviations of muP.

    unscaled: the network's `init`. base, probe: the network at other widths, as in `parameterization.leaves`.
    """

    unscaled: Callable[[jax.Array], tuple[PyTree, PyTree]]
    base: Model
    probe: Model

    def __call__(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Draw the weights, and scale them."""
        params, stats = self.unscaled(key)
        grown = parameterization.leaves(_shapes(self.base), _shapes(self.probe), params)
        if all(leaf.fan_in == leaf.fan_out == 1 for leaf in grown):
            return params, stats
        exponents = _exponents(self.base, self.probe)
        numbers = [parameterization.initial_factor(leaf, e) for leaf, e in zip(grown, exponents, strict=True)]
        return parameterization.multiply(jax.tree.unflatten(jax.tree.structure(params), numbers), params), stats


@functools.lru_cache(maxsize=256)
def init_shapes(model: Model) -> tuple[PyTree, PyTree]:
    """Trace the shapes and dtypes of `model.init`, without measuring standard deviations."""
    init = model.init.unscaled if isinstance(model.init, ScaledInit) else model.init
    return jax.eval_shape(lambda: init(jax.random.key(0)))


@functools.lru_cache(maxsize=64)
def _exponents(base: Model, probe: Model) -> tuple[float, ...]:
    shapes = _shapes(base), _shapes(probe)
    return parameterization.initial_exponents(base.init, probe.init, parameterization.leaves(*shapes, shapes[1]))


def _shapes(model: Model) -> PyTree:
    return init_shapes(model)[0]


def objective_of(config: Mapping[str, Any], targets: Targets) -> Objective:
    """Build the objective of a resolved config."""
    builder = registry.find("config.loss", config["loss"], objectives.OBJECTIVES)
    fields = fields_for(builder, config)
    objective = builder(targets.num_outputs, real_targets=targets.are_real, **fields)
    scale = config["output_scale"]
    return objective if scale is None else objectives.scale_loss(objective, scale**-2)


def variant_of(config: Mapping[str, Any]) -> Callable[..., sam.AscentRule]:
    """Return the SAM variant of a resolved config: rho -> ascent rule."""
    builder = registry.find("config.sam_variant", config["sam_variant"], sam.VARIANTS)
    return functools.partial(builder, **fields_for(builder, config))


def num_gradients(config: Mapping[str, Any], rho_schedule: Callable | None, num_steps: int) -> int | None:
    """Count the gradients of a batch that the first `num_steps` steps of a run compute.

    Args:
      config: a resolved config. rho_schedule: step -> factor of rho; None is always 1.
    Returns: None if a SAM variant decides at each step, from its state, whether it computes a second gradient.
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
