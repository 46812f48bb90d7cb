"""Scaling of initial weights, steps and perturbations with width: the maximal update parameterization (muP, muP²).

In the standard parameterization a wider network at the same learning rate and rho trains in a different regime. Here
each leaf of the parameters has factors derived from its growth relative to a network of a base width, so that one step,
and one perturbation of SAM, move the features of every layer equally at every width. At the base width all are 1.

The growth of a leaf is derived from its shapes at the base width and at a multiple of it. The factors are those of
`factors` and `initial_factor`, with i and o the ratios of a leaf's fan-in and fan-out to those at the base width, and m
the ratio of widths:

    leaf                               i   o   initial std   rate SGD, Adam   perturbation, by one global norm
    input kernel, embedding            1   m   1             m, 1             m^(3/2)
    hidden kernel                      m   m   m^(-1/2)      1, 1/m           m^(1/2)
    output kernel                      m   1   1/m           1/m, 1/m         m^(-1/2)
    bias, norm scale, of width         1   m   1             m, 1             m^(3/2)
    output bias                        1   1   1             1, 1             m^(1/2)

Sources: Yang and Hu (2021), arXiv 2011.14522; Yang et al. (2022), arXiv 2203.03466; for perturbations Haas et al.
(2024), arXiv 2411.00075. The exponents are derived here and confirmed by `coordinate_check`.
"""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.types import PyTree

PARAMETERIZATIONS = ("standard", "mup")
PERTURBATION_SCALINGS = ("none", "global", "layerwise")
PROBE = 4  # width of the second network, which shows what grows, in multiples of the base width

_FEW_PARAMS = 100_000  # up to this size an initial scale is averaged over many draws, since leaves are small


class Leaf(NamedTuple):
    """The growth of one leaf with the width.

    fan_in, fan_out: ratios i and o to the sizes at the base width; 1 if they do not grow.
    order: 1 if only the fan-in grows with the width (output kernels), -1 if only the fan-out does, else 0.
    """

    name: str
    fan_in: float
    fan_out: float
    order: int


class Factors(NamedTuple):
    """Factors of a training step: pytrees of numbers like the parameters, and the factor of the clipping threshold.

    rate: of the learning rate. decay: of weight_decay. gradient: of the gradient in Adam's moments, which divides its
    epsilon. perturbation: of SAM's perturbation.
    """

    rate: PyTree
    decay: PyTree
    gradient: PyTree
    perturbation: PyTree
    clip: float


def leaves(base: PyTree, probe: PyTree, params: PyTree) -> tuple[Leaf, ...]:
    """Derive the growth of each leaf.

    The last axis of a kernel is its output, as in Flax. If two axes grow, the first is an input and the second an
    output. Leaves named bias, scale or embedding have no fan-in that grows.

    Args:
      base, probe, params: shapes at the base width, at `PROBE` times the base width, and at the trained width.
    Raises: ValueError if the three have different leaves, more than two axes of a leaf grow, or no leaf maps a growing
      input to an output that does not grow.
    """
    if len({jax.tree.structure(tree) for tree in (base, probe, params)}) > 1:
        raise ValueError(
            "the network has different parameters at the base width: expected widths that change only shapes."
        )
    shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (base, probe, params)]
    names = [trees.path_name(path) for path, _ in jax.tree.leaves_with_path(base)]
    grown = [_leaf(*of) for of in zip(names, jax.tree.leaves(trees.kernels(base)), *shapes, strict=True)]
    if not any(leaf.order == 1 for leaf in grown):
        raise ValueError(
            "no trained kernel maps units whose number grows with the width to outputs whose number does not, so "
            f"no factor can keep the size of the outputs constant. Leaves: {', '.join(names)}."
        )
    return tuple(grown)


def factors(
    grown: Sequence[Leaf],
    structure: PyTree,
    *,
    parameterization: str,
    perturbation_scaling: str,
    optimizer: str,
    degree: int = 0,
    ascended: Sequence[bool] | None = None,
    perturbed: Sequence[bool] | None = None,
) -> Factors:
    """Compute the factors of a training step, leaf by leaf.

    Args:
      grown: from `leaves`, in their order. structure: of the parameters, from `jax.tree.structure`.
      optimizer: "sgd", "adam" or "adamw".
      degree, ascended, perturbed: of the ascent rule, from `ascent_kind`; None: every leaf.
    Equation: with g = max(i / o) over the leaves that dominate as the width grows, so that |gradient| ~ g^(1/2):
      rate          o / i (sgd), 1 / i (adam, adamw): a step moves each layer's output equally at every width;
      decay         i / o (sgd, adam; it is part of the gradient), i (adamw): a step shrinks w by the same share,
                    with Adam to within a quarter up to 16 times the base width, since it normalizes the sum;
      gradient      1 (sgd), o (adam, adamw): entries of the gradient fall as 1 / o, and so does Adam's epsilon then;
      clip          g^(1/2), g over all leaves;
      perturbation  layerwise: (o / i) g^((1 - d) / 2) for a perturbation of degree d in the gradient, g over the
                    ascended leaves: (o / i) m^(1/2) for normalized SAM, o / i for the unnormalized rule;
                    global: the least of these over the perturbed leaves of highest order, the same for all leaves:
                    that of an output kernel, m^(-1/2) or 1 / m, where it is perturbed; none: 1.
      All except the perturbation are 1 in the standard parameterization.
    """
    is_mup, is_adam = parameterization == "mup", optimizer != "sgd"
    every = [True] * len(grown)
    norm = _gradient_growth(list(itertools.compress(grown, ascended or every)))
    scaled = [leaf.fan_out / leaf.fan_in * norm ** ((1 - degree) / 2) for leaf in grown]
    moved = list(itertools.compress(zip(grown, scaled, strict=True), perturbed or every))
    top = max(leaf.order for leaf, _ in moved)
    steepest = min(factor for leaf, factor in moved if leaf.order == top)

    def tree(of: Callable[[Leaf], float]) -> PyTree:
        return jax.tree.unflatten(structure, [of(leaf) if is_mup else 1.0 for leaf in grown])

    perturbation = {"none": [1.0] * len(grown), "global": [steepest] * len(grown), "layerwise": scaled}
    return Factors(
        rate=tree(lambda leaf: 1 / leaf.fan_in if is_adam else leaf.fan_out / leaf.fan_in),
        decay=tree(lambda leaf: leaf.fan_in if optimizer == "adamw" else leaf.fan_in / leaf.fan_out),
        gradient=tree(lambda leaf: leaf.fan_out if is_adam else 1.0),
        perturbation=jax.tree.unflatten(structure, perturbation[perturbation_scaling]),
        clip=_gradient_growth(grown) ** 0.5 if is_mup else 1.0,
    )


def initial_factor(leaf: Leaf, exponent: float) -> float:
    """Compute the factor of a leaf's initial weights.

    Args:
      exponent: e, the power of the width to which their standard deviation grows in the standard parameterization, from
        `initial_exponents`.
    Equation: (i^(-1/2) min(1, o / i)^(1/2)) / s^e, with s = i where the fan-in grows, else o. Of kernels with e = -1/2
      (of LeCun, He): 1 for hidden ones, m^(-1/2) for output kernels.
    Source: the numerator, Yang, Simon and Bernstein (2023), arXiv 2310.17813.
    """
    target = leaf.fan_in**-0.5 * min(1.0, leaf.fan_out / leaf.fan_in) ** 0.5
    return target / _size(leaf) ** exponent


def initial_exponents(base: Callable, probe: Callable, at_probe: Sequence[Leaf]) -> tuple[float, ...]:
    """Measure the power of the width with which the initial weights of each leaf grow, to the nearest half.

    Args:
      base, probe: `Model.init` at the base width and at `PROBE` times it.
      at_probe: from `leaves`, with the probe as the trained width.
    Returns: one exponent per leaf; 0 if it does not grow, or starts at 0.
    Cost: some draws of both networks; it runs at once, even within a function that is being traced.
    """

    def exponent(leaf: Leaf, small: float, large: float) -> float:
        if _size(leaf) == 1 or small == 0 or large == 0:
            return 0.0
        return round(2 * math.log(large / small) / math.log(_size(leaf))) / 2

    is_double = jax.config.read("jax_enable_x64")

    def measured(init: Callable) -> list[float]:
        with jax.enable_x64(is_double):
            return _deviations(init)

    # In another thread JAX is not affected by a trace in this one, and computes numbers.
    with ThreadPoolExecutor(1) as outside:
        small, large = outside.map(measured, (base, probe))
    return tuple(map(exponent, at_probe, small, large))


def ascent_kind(rule, shapes: PyTree) -> tuple[int, list[bool], list[bool]]:
    """Compute how an ascent rule depends on the gradient, by evaluating it.

    Args:
      rule: `sam.AscentRule` with rho 1. shapes: of the parameters.
    Returns: the degree of its perturbation in the gradient (0 for a normalized rule, 1 for an unnormalized one), and
      for each leaf whether its gradient affects the perturbation, and whether the leaf is perturbed. A leaf that is
      not perturbed may still be part of the norm, as one with factor 0 of `layerwise`. A rule that does not move at its
      first step counts as normalized, and as one that perturbs every leaf.
    Cost: 2 perturbations, and one more for each leaf that is not perturbed.
    """
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
    state, (leaves_of_ones, structure) = rule.init(ones), jax.tree.flatten(ones)

    def largest(factors: Sequence[float]) -> list[float]:
        gradient = jax.tree.unflatten(structure, map(operator.mul, factors, leaves_of_ones))
        return [float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(rule.perturb(gradient, ones, state, 1.0)[0])]

    count = len(leaves_of_ones)
    once, twice = largest([1.0] * count), largest([2.0] * count)
    if max(once) == 0:
        return 0, [True] * count, [True] * count

    def affects(index: int) -> bool:
        # So large that a few weights outweigh all others in a norm.
        grown = largest([1e6 if i == index else 1.0 for i in range(count)])
        return not np.allclose(grown, once, rtol=1e-3, atol=0)

    affecting = [size > 0 or affects(index) for index, size in enumerate(once)]
    return round(math.log2(max(twice) / max(once))), affecting, [size > 0 for size in once]


def scale_perturbation(rule, perturbation: PyTree):
    """Return the ascent rule with its perturbation multiplied leaf by leaf."""

    def perturb(gradient, params, state, rho):
        unscaled, state = rule.perturb(gradient, params, state, rho)
        return multiply(perturbation, unscaled), state

    return rule._replace(perturb=perturb)


def multiply(numbers: PyTree, tree: PyTree) -> PyTree:
    """Multiply each leaf by its number in the leaf's dtype; a leaf whose number is 1 is unchanged."""
    return jax.tree.map(lambda number, leaf: leaf if number == 1 else (number * leaf).astype(leaf.dtype), numbers, tree)


def _leaf(name: str, is_kernel: bool, base: tuple, probe: tuple, shape: tuple) -> Leaf:
    """Compare the shapes of one leaf."""
    axes = [axis for axis in range(len(base)) if probe[axis] != base[axis]]
    ratios = [shape[axis] / base[axis] for axis in axes]
    if not axes:
        return Leaf(name, fan_in=1.0, fan_out=1.0, order=0)
    if not is_kernel:
        return Leaf(name, fan_in=1.0, fan_out=math.prod(ratios), order=-1)
    if len(axes) > 2:
        raise ValueError(
            f"{name}: {len(axes)} axes of {base} grow with the width; expected at most an input and an output."
        )
    if len(axes) == 2:
        return Leaf(name, fan_in=ratios[0], fan_out=ratios[1], order=0)
    is_output = axes[0] == len(base) - 1
    return Leaf(name, 1.0, ratios[0], order=-1) if is_output else Leaf(name, ratios[0], 1.0, order=1)


def _gradient_growth(grown: Sequence[Leaf]) -> float:
    """Compute the growth of the squared norm of the gradient of some leaves: i / o of those with the fastest growth."""
    top = max(leaf.order for leaf in grown)
    return max(leaf.fan_in / leaf.fan_out for leaf in grown if leaf.order == top)


def _size(leaf: Leaf) -> float:
    return leaf.fan_out if leaf.fan_in == 1 else leaf.fan_in


def _deviations(init: Callable) -> list[float]:
    """Compute the root mean square of each leaf's initial weights, over some draws."""

    def squares(key):
        return [jnp.mean(jnp.square(leaf)) for leaf in jax.tree.leaves(init(key)[0])]

    num_params = trees.size(jax.eval_shape(init, jax.random.key(0))[0])
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    compiled = jax.jit(squares, compiler_options=options)
    drawn = [jax.device_get(compiled(jax.random.key(draw))) for draw in range(16 if num_params < _FEW_PARAMS else 2)]
    return [math.sqrt(sum(map(float, of)) / len(of)) for of in zip(*drawn, strict=True)]
