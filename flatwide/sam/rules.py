"""Ascent rules: where the second gradient is taken."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flatwide import trees
from flatwide.types import Array, PyTree

# A rule as found by its name in a config: variant(rho, *, <the config fields it reads>) -> AscentRule.
VARIANTS: dict[str, str] = {
    "normalized": "flatwide.sam:normalized",
    "unnormalized": "flatwide.sam:unnormalized",
    "adaptive": "flatwide.sam:adaptive",
    "layerwise": "flatwide.sam:layerwise",
}

_TINY = 1e-12  # added to norms, as in the paper's code: a zero gradient gives a zero perturbation
_ADAPTIVE_FLOOR = 0.01  # keeps weights at zero movable
_SCALE_FORM = '"pattern=factor", a regular expression and a finite number >= 0, such as ".*/kernel=0.5"'


def _stateless(params: PyTree) -> tuple[()]:
    del params
    return ()


def _take_perturbed(clean: PyTree, perturbed: PyTree, params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
    del clean, params
    return perturbed, state


class AscentRule(NamedTuple):
    """Where the second gradient is taken, and what becomes of the two.

    rho: radius, >= 0. A Python 0 selects the one-pass program, which is the base optimizer and leaves the state alone;
      a traced value lets runs that differ in rho share one compiled program.
    perturb(clean_gradient, params, state, rho) -> (perturbation, state): both trees as `params`.
    init(params) -> state: a pytree of arrays, so that it can be saved; () for a rule without memory.
    combine(clean_gradient, perturbed_gradient, params, state) -> (gradient, state): default, the perturbed one.
    is_due(state) -> bool scalar: whether this step takes the second gradient; asked before `perturb`. Where it is
      false, `combine` gets the clean gradient as the perturbed one. None: every step does.
    """

    rho: float | Array
    perturb: Callable[[PyTree, PyTree, PyTree, Any], tuple[PyTree, PyTree]]
    init: Callable[[PyTree], PyTree] = _stateless
    combine: Callable[[PyTree, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]] = _take_perturbed
    is_due: Callable[[PyTree], Array] | None = None


def normalized(rho: float | Array) -> AscentRule:
    """Ascend by a step of length rho along the gradient: SAM.

    Equation: eps = rho g / (|g| + 1e-12), with one norm over all leaves.
    Source: Foret et al. (2021), arXiv 2010.01412, equation 2.
    """

    def perturb(gradient, params, state, rho):
        del params
        return trees.scale(rho / (trees.norm(gradient) + _TINY), gradient), state

    return AscentRule(rho, perturb)


def unnormalized(rho: float | Array) -> AscentRule:
    """Ascend by rho times the gradient: the rule that the paper's theory is about.

    Equation: eps = rho g.
    Source: Andriushchenko and Flammarion (2022), arXiv 2206.06232.
    """

    def perturb(gradient, params, state, rho):
        del params
        return trees.scale(rho, gradient), state

    return AscentRule(rho, perturb)


def adaptive(rho: float | Array) -> AscentRule:
    """Ascend within a region that is scaled by the size of each weight: ASAM.

    Equation: eps = rho T^2 g / (|T g| + 1e-12), T = |w| + 0.01 for kernels (`trees.kernels`), 1 for all other leaves.
    Source: Kwon et al. (2021), arXiv 2102.11600; like its authors' code, biases and norm scales are left unscaled.
    """

    def perturb(gradient, params, state, rho):
        sizes = jax.tree.map(
            lambda w, is_kernel: jnp.abs(w) + _ADAPTIVE_FLOOR if is_kernel else jnp.ones_like(w),
            params,
            trees.kernels(params),
        )
        scaled = jax.tree.map(jnp.multiply, sizes, gradient)
        twice = jax.tree.map(jnp.multiply, sizes, scaled)
        return trees.scale(rho / (trees.norm(scaled) + _TINY), twice), state

    return AscentRule(rho, perturb)


def layerwise(rho: float | Array, scales: PyTree = None, *, layer_scales: tuple[str, ...] = ()) -> AscentRule:
    """Ascend along the gradient with a factor of its own for each leaf.

    Args:
      scales: pytree as the parameters with one factor a leaf.
      layer_scales: the same as text, instead of `scales`: "pattern=factor" entries. A leaf (named as by
        `trees.path_name`, such as "Dense_0/kernel") gets the factor of the first pattern, a regular expression, that
        matches its whole name; 1 if none does.
    Raises: ValueError at once if an entry is malformed or not exactly one of the two is given; in `init` and `perturb`
      if an entry decides no leaf.
    Equation: eps_l = rho s_l g_l / (|g| + 1e-12), with one norm over all leaves.
    """
    if (scales is None) == (not layer_scales):
        raise ValueError(
            f"layer_scales={layer_scales!r} and {'no' if scales is None else 'a'} tree of scales: expected one of the "
            f"two; give entries {_SCALE_FORM} (for equal factors there is the rule `normalized`)."
        )
    entries = tuple(_parse_scale(entry) for entry in layer_scales)

    def resolve(params):
        return _match_scales(params, entries) if scales is None else scales

    def init(params):
        resolve(params)  # a pattern that decides nothing is heard of before the first step
        return ()

    def perturb(gradient, params, state, rho):
        factor = rho / (trees.norm(gradient) + _TINY)
        scaled = jax.tree.map(lambda g, s: (factor * s * g).astype(g.dtype), gradient, resolve(params))
        return scaled, state

    return AscentRule(rho, perturb, init)


def _parse_scale(entry: str) -> tuple[re.Pattern, float]:
    """Read "pattern=factor"; the pattern may itself contain "="."""
    pattern, equals, factor_text = entry.rpartition("=")
    try:
        pattern, factor = re.compile(pattern), float(factor_text)
    except (re.error, ValueError) as error:
        raise ValueError(f"layer_scales entry {entry!r}: {error}; expected {_SCALE_FORM}.") from None
    if not equals or not pattern.pattern or not 0 <= factor < math.inf:
        raise ValueError(f"layer_scales entry {entry!r}: expected {_SCALE_FORM}.")
    return pattern, factor


def _match_scales(params: PyTree, entries: tuple[tuple[re.Pattern, float], ...]) -> PyTree:
    """Give each leaf the factor of the first entry whose pattern matches its whole name, 1 if none does."""
    names = [trees.path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
    deciding = [next((i for i, (pattern, _) in enumerate(entries) if pattern.fullmatch(name)), None) for name in names]
    for i, (pattern, _) in enumerate(entries):
        if i not in deciding:
            raise ValueError(
                f"layer_scales pattern {pattern.pattern!r} decides no leaf: expected a regular expression that matches "
                f"the whole name of a leaf that no earlier pattern matches. Leaves: {', '.join(names)}."
            )
    factors = [1.0 if i is None else entries[i][1] for i in deciding]
    return jax.tree.unflatten(jax.tree.structure(params), factors)
