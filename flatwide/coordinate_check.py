"""The command `coordinate_check`: whether training, and SAM's perturbation, do the same at every width.

A network is trained for five steps at growing widths. In a parameterization that keeps one regime, the features of every
hidden layer move by as much at every width, and so does each layer's output under its part of the perturbation: on
logarithmic axes their slopes in the width are 0.
"""

import argparse
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import config as configs
from flatwide import parameterization, streams, trees, workloads
from flatwide.analysis import intervals
from flatwide.measure import layer_outputs as layers
from flatwide.runs import build, parts
from flatwide.runs.experiment import Experiment
from flatwide.training.state import State
from flatwide.types import Array, Batch, PyTree

USAGE = """python main.py coordinate_check --config=F [--config.field=value ...]
                         [--widths=256,512,1024,2048 or "(256,128),(512,256)"] [--seeds=5] [--output=DIR]"""
NUM_STEPS = 5
MULTIPLES = (8, 16, 32, 64)  # of the base width: nearer to it slopes are not yet those of the limit
LARGEST_SLOPE = 0.15  # of what is as it should be, in size
_ROUNDING = 1e-5  # of the largest change of its kind: what is smaller may be rounding, and has no slope

FEATURES, PERTURBATION, OUTPUTS, SHARE = "features", "perturbation", "outputs", "share"
TITLES = {
    FEATURES: "change of the output of",
    PERTURBATION: "effect of the perturbation on the output of",
    OUTPUTS: "change of the outputs of the network",
    SHARE: "share of the squared perturbation in",
}


class Quantity(NamedTuple):
    """What is followed over widths: of which kind, and of which leaf or layer; "" for the network."""

    kind: str
    name: str

    @property
    def title(self) -> str:
        return f"{TITLES[self.kind]} {self.name}".strip()


class Slope(NamedTuple):
    """How a quantity changes with the width.

    values: [widths, seeds]. slope: of log value in log width, a line for each seed; low, high: 95 % interval over seeds.
    expected: slope where training is the same at every width; None where none is known. is_judged: whether another one
    is a fault.
    """

    quantity: Quantity
    values: np.ndarray
    slope: float
    low: float
    high: float
    expected: float | None
    is_judged: bool

    @property
    def is_off(self) -> bool:
        """Whether the slope is a fault: larger than `LARGEST_SLOPE` in size with an interval without 0, or no number."""
        if not self.is_judged:
            return False
        excludes = self.low > 0 or self.high < 0
        return not math.isfinite(self.slope) or (abs(self.slope) > LARGEST_SLOPE and excludes)


class Check(NamedTuple):
    """Widths, the multiple of the base width that each is, and a slope for each quantity."""

    widths: list[Any]
    multiples: list[float]
    slopes: list[Slope]

    @property
    def is_off(self) -> bool:
        return any(slope.is_off for slope in self.slopes)


class Request(NamedTuple):
    """What is asked on the command line; widths are in the terms of the model's field, None for `MULTIPLES`."""

    config_path: str
    assignments: list[tuple[str, str]]
    widths: list[tuple[int, ...]] | None
    num_seeds: int
    output: Path | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise configs.ConfigError([f"{message}; usage:\n{USAGE}"])


def read(arguments: Sequence[str]) -> tuple[Request | None, list[str]]:
    """Read what follows `coordinate_check` on the command line, without the assignments to config fields.

    Returns: the request, None where help is asked for; and the arguments that are left.
    Raises: ConfigError with every fault of the flags.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name in ("config", "widths", "seeds", "output"):
        parser.add_argument(f"--{name}")
    for name in ("--help", "-h"):
        parser.add_argument(name, action="store_true")
    flags, rest = parser.parse_known_args(arguments)
    if flags.help or flags.h:
        return None, []
    faults = [] if flags.config else [f"--config is missing; usage:\n{USAGE}"]
    widths, num_seeds = None, 5
    if flags.widths is not None and (widths := _widths(flags.widths)) is None:
        faults.append(f"--widths={flags.widths}: expected two or more widths such as 256,512,1024, all of one length.")
    if flags.seeds is not None:
        num_seeds = int(flags.seeds) if flags.seeds.isdigit() else 0
        if num_seeds < 2:
            faults.append(f"--seeds={flags.seeds}: expected an integer >= 2, since intervals are over seeds.")
    if faults:
        raise configs.ConfigError(faults)
    return Request(flags.config, [], widths, num_seeds, Path(flags.output) if flags.output else None), rest


def _widths(text: str) -> list[tuple[int, ...]] | None:
    try:
        entries = configs.literal(f"[{text}]")
    except ValueError:
        return None
    found = [entry if isinstance(entry, tuple) else (entry,) for entry in entries]
    is_good = len(found) > 1 and len({len(entry) for entry in found}) == 1 and len(set(found)) == len(found)
    return found if is_good and all(type(size) is int and size >= 1 for entry in found for size in entry) else None


def run(
    config: Mapping[str, Any], *, widths: Sequence[tuple[int, ...]] | None = None, num_seeds: int = 5, say: Callable = print
) -> Check:
    """Train at each width and seed, and fit the slopes.

    Args:
      config: a resolved config; its own width is the base where there is no `base_width`.
      widths: None for `MULTIPLES` of the base width.
      say: hears of each width as it is done.
    Raises: ConfigError if the model has no width, or a width does not fit the base width.
    """
    name = parts.width_field(config)
    if not name:
        raise configs.ConfigError([f"config.model={config['model']!r} reads no field that makes a width."])
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
    """Train for `NUM_STEPS` steps, and measure what they moved and what the perturbation that comes next would move.

    The network runs as in training, on the first batch, with the same dropout before and after.

    Returns: root mean squares over the entries of an array [B, ...]: of the change of what each leaf's product adds
      (`features`), of the change of the network's outputs, and of the change of what each leaf adds if its own part of
      the perturbation alone moves it, with its inputs as they are (`perturbation`; none at rho 0). And the share of
      each layer in the squared length of the perturbation.
    """
    state = built.init()
    before = jax.tree.map(jnp.copy, (state.params, state.stats))
    batches = [built.batch(step) for step in range(NUM_STEPS)]
    for batch in batches:
        state, _ = built.train_step(state, batch)
    rule = parts.scaled_ascent(built.config, built.factors)
    rho = configs.effective_rho(built.config)
    program = _program(built.workload, rule if rho > 0 else None)
    found = jax.device_get(program(before, state, batches[0], built.values))
    values = {Quantity(kind, name): float(value) for kind, of in found.items() for name, value in of.items()}
    return values


@functools.lru_cache(maxsize=8)
def _program(workload: workloads.Workload, variant: Callable | None) -> Callable:
    """Compile what `movement` measures."""

    def program(before: tuple[PyTree, PyTree], state: State, batch: Batch, values: Any) -> dict[str, dict[str, Array]]:
        key = streams.key(values.seed, "dropout")
        batch = workload.prepare(batch, None, train=False)

        def network(stats: PyTree) -> Callable:
            def outputs(params: PyTree, inputs: PyTree) -> PyTree:
                kept = trees.apply_mask(params, state.mask)
                return workload.model.apply(kept, stats, inputs, train=True, key=key)[0]

            return outputs

        def loss(params: PyTree) -> Array:
            options: dict[str, Any] = {"stats": state.stats, "mask": state.mask, "train": True, "key": key}
            return workloads.loss(workload, params, batch, **options)[0]

        perturbation = jax.tree.map(jnp.zeros_like, state.params)
        if variant is not None:
            perturbation, _ = variant(values.rho).perturb(jax.grad(loss)(state.params), state.params, state.ascent, values.rho)
        moved = trees.add(state.params, perturbation)
        after, outputs = layers.layer_outputs(network(state.stats), state.params, moved, batch["inputs"])
        start, first = layers.layer_outputs(network(before[1]), before[0], before[0], batch["inputs"])
        changes = {
            name: _root_mean_square([_difference(a.value, b.value) for a, b in zip(met, start[name], strict=True) if a.is_product])
            for name, met in after.items()
            if any(one.is_product for one in met)
        }
        pairs = zip(jax.tree.leaves(outputs), jax.tree.leaves(first), strict=True)
        found = {FEATURES: changes, OUTPUTS: {"": _root_mean_square([_difference(*pair) for pair in pairs])}}
        if variant is None:
            return found
        effects = {name: _root_mean_square([_difference(one.moved, one.value) for one in met]) for name, met in after.items()}
        return found | {PERTURBATION: effects, SHARE: _shares(perturbation)}

    return jax.jit(program)


def _difference(a: Array, b: Array) -> Array:
    dtype = jnp.promote_types(a.dtype, jnp.float32)  # of networks that multiply in half precision
    return a.astype(dtype) - b.astype(dtype)


def _root_mean_square(arrays: list[Array]) -> Array:
    return jnp.sqrt(sum(jnp.sum(array**2) for array in arrays) / sum(array.size for array in arrays))


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
    """Fit a line for each quantity and seed, in logarithms, and judge it."""
    orders, shares = {leaf.name: leaf.order for leaf in grown}, expected_shares(grown, config)
    values = {name: np.array([[of[name] for of in row] for row in moved]) for name in moved[0][0]}
    largest = {kind: max(array.max() for name, array in values.items() if name.kind == kind) for kind in TITLES if any(name.kind == kind for name in values)}
    found = []
    for quantity, array in values.items():
        kind, first = quantity.kind, quantity.name.partition(" + ")[0]
        is_rounding = array.max() <= _ROUNDING * largest[kind]
        is_judged = not is_rounding and (kind == PERTURBATION or (kind == FEATURES and orders.get(first) != 1))
        expected = shares.get(quantity.name) if kind == SHARE else 0.0
        mean = intervals.NONE if is_rounding else intervals.mean(_fitted(multiples, array))
        found.append(
            Slope(
                quantity=quantity,
                values=array,
                slope=mean.mean,
                low=mean.low,
                high=mean.high,
                expected=None if is_rounding else expected,
                is_judged=is_judged,
            )
        )
    return found


def _fitted(multiples: Sequence[float], values: np.ndarray) -> np.ndarray:
    """Fit log value = a + slope log multiple for each seed [widths, seeds]; NaN where a value is not positive and finite."""
    at = np.log(multiples) - np.mean(np.log(multiples))
    with np.errstate(divide="ignore", invalid="ignore"):
        return at @ np.log(values) / (at @ at)


def expected_shares(grown: Sequence[parameterization.Leaf], config: Mapping[str, Any]) -> dict[str, float]:
    """Derive the slope of each layer's share in the squared perturbation; none in the standard parameterization.

    Equation: |eps_l|^2 ~ (o / i)^(2 f) i / o, with f = 1 for layerwise factors, else 0, relative to the largest; of a layer, that of
      its leaf with the largest.
    """
    if config["parameterization"] != "mup":
        return {}
    sign = -1 if config["perturbation_scaling"] == "layerwise" else 1
    powers: dict[str, float] = {}
    for leaf in grown:
        layer = _layer(leaf.name)
        powers[layer] = max(powers.get(layer, -math.inf), sign * leaf.order)
    return {layer: power - max(powers.values()) for layer, power in powers.items()}
