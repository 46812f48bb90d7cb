"""Changes of a network by training and by SAM's perturbation, at increasing widths.

A network is trained for five steps at increasing widths. In a parameterization that preserves the regime, the features
of every hidden layer move equally at every width, and so does each layer's output under its part of the perturbation:
on logarithmic axes their slopes in the width are 0.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import config as configs
from flatwide import parameterization, streams, trees, workloads
from flatwide.analysis import estimates
from flatwide.coordinate_check import layer_outputs as layers
from flatwide.runs import build, parts
from flatwide.runs.experiment import Experiment
from flatwide.training.state import State
from flatwide.types import Array, Batch, PyTree

NUM_STEPS = 5
MULTIPLES = (8, 16, 32, 64)  # of the base width: closer to it slopes are not yet those of the limit
LARGEST_SLOPE = 0.15  # in absolute value, of a quantity that behaves as expected
_ROUNDING = 1e-5  # of the largest change of its kind: a smaller change may be rounding, and has no slope

FEATURES, PERTURBATION, OUTPUTS, SHARE = "features", "perturbation", "outputs", "share"
TITLES = {
    FEATURES: "change of the output of",
    PERTURBATION: "effect of the perturbation on the output of",
    OUTPUTS: "change of the outputs of the network",
    SHARE: "share of the squared perturbation in",
}


class Quantity(NamedTuple):
    """A quantity followed over widths: its kind, and its leaf or layer; "" for the network."""

    kind: str
    name: str

    @property
    def title(self) -> str:
        return f"{TITLES[self.kind]} {self.name}".strip()


class Slope(NamedTuple):
    """The change of a quantity with the width.

    values: [widths, seeds]. slope: of log value in log width, the mean over seeds; low, high: its 95 % interval.
    expected: slope if training is the same at every width; None if unknown. is_judged: whether other slopes are faults.
    is_certain: whether the interval excludes 0 at the level at which those of all judged slopes hold jointly.
    """

    quantity: Quantity
    values: np.ndarray
    slope: float
    low: float
    high: float
    expected: float | None
    is_judged: bool
    is_certain: bool

    @property
    def is_off(self) -> bool:
        """Whether the slope is a fault: beyond `LARGEST_SLOPE` with an interval without 0, or not a number."""
        if not self.is_judged:
            return False
        excludes = self.low > 0 or self.high < 0
        return not math.isfinite(self.slope) or (abs(self.slope) > LARGEST_SLOPE and excludes)

    @property
    def may_be_chance(self) -> bool:
        """Whether the slope is off, but one of so many judged slopes may be by chance."""
        return self.is_off and math.isfinite(self.slope) and not self.is_certain


class Check(NamedTuple):
    """Widths, their multiples of the base width, and a slope for each quantity."""

    widths: list[Any]
    multiples: list[float]
    slopes: list[Slope]

    @property
    def is_off(self) -> bool:
        return any(slope.is_off for slope in self.slopes)


def run(
    config: Mapping[str, Any],
    *,
    widths: Sequence[tuple[int, ...]] | None = None,
    num_seeds: int = 5,
    say: Callable[[str], None] = print,
) -> Check:
    """Train at each width and seed, and fit the slopes.

    Args:
      config: a resolved config; its width is the base width unless it has a `base_width`.
      widths: None for `MULTIPLES` of the base width.
      say: called with a message after each width.
    Raises: ConfigError if the model has no width, or a width does not fit the base width.
    """
    name = parts.width_field(config)
    if not name:
        raise configs.ConfigError([f"config.model={config['model']!r} reads no field that sets a width."])
    is_tuple = isinstance(config[name], tuple)
    base = config["base_width"] or (config[name] if is_tuple else (config[name],))
    widths = widths or [tuple(multiple * size for size in base) for multiple in MULTIPLES]
    shown = [width if is_tuple else width[0] for width in widths]
    moved: list[list[dict[Quantity, float]]] = []
    for width in shown:
        sized = {**config, name: width, "base_width": base, "measurements": ()}
        experiments = [build.build(sized | {"seed": seed}) for seed in range(num_seeds)]
        moved.append([movement(built) for built in experiments])
        say(f"{name}={width}: {NUM_STEPS} steps with each of {num_seeds} seeds")
    last = experiments[-1]
    grown, _ = parts.growth(last.config, last.data.example, last.data.num_outputs)
    multiples = [width[0] / base[0] for width in widths]
    return Check(widths=shown, multiples=multiples, slopes=_slopes(moved, multiples, grown, config))


def movement(built: Experiment) -> dict[Quantity, float]:
    """Train for `NUM_STEPS` steps, and measure the changes by these and by the next perturbation.

    The network runs as in training, on the first batch, with the same dropout before and after.

    Returns: root mean squares over the entries of an array [B, ...]: of the change of the product of each leaf
      (`features`), of the change of the network's outputs, and of the change of each product if only its leaf is
      perturbed and its inputs are fixed (`perturbation`; none at rho 0). Further the share of each layer in the squared
      length of the perturbation.
    """
    state = built.init()
    before = jax.tree.map(jnp.copy, (state.params, state.stats))
    batches = [built.batch(step) for step in range(NUM_STEPS)]
    for batch in batches:
        state, _ = built.train_step(state, batch)
    program = _program(built.workload, built.variant if configs.effective_rho(built.config) > 0 else None)
    measured = jax.device_get(program(before, state, batches[0], built.values))
    return {Quantity(kind, name): float(value) for kind, of in measured.items() for name, value in of.items()}


@functools.lru_cache(maxsize=8)
def _program(workload: workloads.Workload, variant: Callable | None) -> Callable:
    """Compile the measurements of `movement`."""

    def program(before: tuple[PyTree, PyTree], state: State, batch: Batch, values: Any) -> dict[str, dict[str, Array]]:
        key = streams.key(values.seed, "dropout")
        batch = workload.prepare(batch, None, train=False)

        def network(stats: PyTree) -> Callable:
            def outputs(params: PyTree, inputs: PyTree) -> PyTree:
                masked = trees.apply_mask(params, state.mask)
                return workload.model.apply(masked, stats, inputs, train=True, key=key)[0]

            return outputs

        def loss(params: PyTree) -> Array:
            options: dict[str, Any] = {"stats": state.stats, "mask": state.mask, "train": True, "key": key}
            return workloads.loss(workload, params, batch, **options)[0]

        perturbation = jax.tree.map(jnp.zeros_like, state.params)
        if variant is not None:
            slope, rule = jax.grad(loss)(state.params), variant(values.rho)
            perturbation, _ = rule.perturb(slope, state.params, state.ascent, values.rho)
        moved = trees.add(state.params, perturbation)
        after, outputs = layers.layer_outputs(network(state.stats), state.params, moved, batch["inputs"])
        start, first = layers.layer_outputs(network(before[1]), before[0], before[0], batch["inputs"])
        changes = {
            name: _root_mean_square(
                [(a.value, b.value) for a, b in zip(calls, start[name], strict=True) if a.is_product]
            )
            for name, calls in after.items()
            if any(layer.is_product for layer in calls)
        }
        pairs = list(zip(jax.tree.leaves(outputs), jax.tree.leaves(first), strict=True))
        measured = {FEATURES: changes, OUTPUTS: {"": _root_mean_square(pairs)}}
        if variant is None:
            return measured
        effects = {
            name: _root_mean_square([(layer.moved, layer.value) for layer in calls]) for name, calls in after.items()
        }
        return measured | {PERTURBATION: effects, SHARE: _shares(perturbation)}

    return jax.jit(program)


def _root_mean_square(pairs: Sequence[tuple[Array, Array]]) -> Array:
    """Compute the root mean square of the differences of pairs of arrays, over all entries."""
    # In at least 32 bits, since networks may multiply in half precision.
    dtypes = [jnp.promote_types(a.dtype, jnp.float32) for a, _ in pairs]
    squares = [jnp.sum((a.astype(d) - b.astype(d)) ** 2) for (a, b), d in zip(pairs, dtypes, strict=True)]
    return jnp.sqrt(sum(squares, jnp.zeros(())) / sum(a.size for a, _ in pairs))


def _shares(perturbation: PyTree) -> dict[str, Array]:
    """Compute the share of each layer, the leaves of one parent, in the squared length of a perturbation."""
    squares: dict[str, Array] = {}
    for path, leaf in jax.tree.leaves_with_path(perturbation):
        layer = _layer(trees.path_name(path))
        squares[layer] = squares.get(layer, 0) + jnp.sum(leaf**2)
    total = sum(squares.values())
    return {layer: square / jnp.where(total > 0, total, 1) for layer, square in squares.items()}


def _layer(leaf: str) -> str:
    return leaf.rpartition("/")[0] or leaf


def _slopes(
    moved: Sequence[Sequence[Mapping[Quantity, float]]],
    multiples: Sequence[float],
    grown: Sequence[parameterization.Leaf],
    config: Mapping[str, Any],
) -> list[Slope]:
    """Fit a line for each quantity and seed, in logarithms, and judge those of kernels and embeddings."""
    orders, shares = {leaf.name: leaf.order for leaf in grown}, expected_shares(grown, config)
    values = {name: np.array([[of[name] for of in row] for row in moved]) for name in moved[0][0]}
    largest: dict[str, float] = {}
    for quantity, array in values.items():
        largest[quantity.kind] = max([largest.get(quantity.kind, 0.0), *array[np.isfinite(array)].tolist()])
    products = {quantity.name for quantity in values if quantity.kind == FEATURES}
    # False if a value is infinite or NaN.
    is_rounding = {q: bool(array.max() <= _ROUNDING * largest[q.kind]) for q, array in values.items()}

    def judges(quantity: Quantity) -> bool:  # biases and norms, whose slopes are those of their kernels, are only shown
        first = quantity.name.partition(" + ")[0]
        is_hidden = quantity.kind == FEATURES and orders.get(first) != 1
        return not is_rounding[quantity] and (
            is_hidden or (quantity.kind == PERTURBATION and quantity.name in products)
        )

    # Of dozens of slopes, some are off by chance: those that a joint interval does not confirm are marked.
    joint = estimates.sidak(sum(map(judges, values)))

    def slope(quantity: Quantity, array: np.ndarray) -> Slope:
        expected = shares.get(quantity.name) if quantity.kind == SHARE else 0.0
        fits = _fitted(multiples, array)
        mean, wide = (
            estimates.NONE if is_rounding[quantity] else estimates.mean(fits, level=level) for level in (0.95, joint)
        )
        return Slope(
            quantity=quantity,
            values=array,
            slope=mean.value,
            low=mean.low,
            high=mean.high,
            expected=None if is_rounding[quantity] else expected,
            is_judged=judges(quantity),
            is_certain=wide.low > 0 or wide.high < 0,
        )

    return list(itertools.starmap(slope, values.items()))


def _fitted(multiples: Sequence[float], values: np.ndarray) -> np.ndarray:
    """Fit the slopes of log values [widths, seeds] in log multiples; not finite if a value is not positive."""
    at = np.log(multiples) - np.mean(np.log(multiples))
    with np.errstate(divide="ignore", invalid="ignore"):
        return at @ np.log(values) / (at @ at)


def expected_shares(grown: Sequence[parameterization.Leaf], config: Mapping[str, Any]) -> dict[str, float]:
    """Derive the slope of each layer's share in the squared perturbation; none in the standard parameterization.

    Equation: |eps_l|^2 ~ (o / i)^(2 f) i / o, with f = 1 for layerwise factors, else 0, relative to the largest; a
      layer has that of its largest leaf.
    """
    if config["parameterization"] != "mup":
        return {}
    sign = -1 if config["perturbation_scaling"] == "layerwise" else 1
    powers: dict[str, float] = {}
    for leaf in grown:
        layer = _layer(leaf.name)
        powers[layer] = max(powers.get(layer, -math.inf), sign * leaf.order)
    return {layer: power - max(powers.values()) for layer, power in powers.items()}
