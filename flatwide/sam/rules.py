"""Ascent rules: the perturbation at which the second gradient is taken."""

import math
import re
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flatwide import trees
from flatwide.types import Array, PyTree

# The rules by their names in a config: variant(rho, *, <the config fields it reads>) -> AscentRule.
VARIANTS: dict[str, str] = {
    "normalized": "flatwide.sam:normalized",
    "functional": "flatwide.sam:functional",
    "unnormalized": "flatwide.sam:unnormalized",
    "adaptive": "flatwide.sam:adaptive",
    "layerwise": "flatwide.sam:layerwise",
    "norm_layers": "flatwide.sam:norm_layers",
    "subset": "flatwide.sam:subset",
    "friendly": "flatwide.sam:friendly",
    "gsam": "flatwide.sam:gsam",
    "momentum": "flatwide.sam:momentum_sam",
}

_TINY = 1e-12  # added to norms, as in the paper's code: a zero gradient gives a zero perturbation
_ADAPTIVE_FLOOR = 0.01  # so that weights at zero can move
_SCALE_FORM = '"pattern=factor", a regular expression and a finite number >= 0, such as ".*/kernel=0.5"'
_PATTERN_FORM = 'regular expressions that match whole names of leaves, such as ".*/kernel"'


class AscentRule(NamedTuple):
    """A perturbation, and a combination of the clean and the perturbed gradient.

    A rule that needs no clean gradient takes one gradient a step, and value, aux and statistics are those of its
    perturbed pass.

    rho: radius, >= 0. A Python 0 selects the one-pass program, which is the base optimizer and keeps the state; with a
      traced value, runs that differ in rho share one compiled program.
    perturb(clean_gradient, params, state, rho) -> (perturbation, state): both trees as `params`.
    init(params) -> state: a pytree of arrays, so that it can be saved; () for a rule without state.
    combine(clean_gradient, perturbed_gradient, params, state) -> (gradient, state): by default the perturbed one.
    is_due(state) -> bool scalar: whether this step takes the second gradient; called before `perturb`. If it is false,
      `combine` gets the clean gradient as the perturbed one. None: every step takes it.
    needs_clean_gradient: false if `perturb` reads the state only. Then there is no clean pass: `perturb` and `combine`
      get None as the clean gradient, and `is_due` must be None.
    keeps_criterion: whether the perturbed gradient has the loss's derivative at the outputs of the clean pass, and only
      their Jacobian at the perturbed point; the loss must be a `SplitLoss`.
    """

    rho: float | Array
    perturb: Callable[[PyTree, PyTree, PyTree, Any], tuple[PyTree, PyTree]]
    init: Callable[[PyTree], PyTree] = lambda params: ()
    combine: Callable[[PyTree, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]] = lambda _, p, w, state: (p, state)
    is_due: Callable[[PyTree], Array] | None = None
    needs_clean_gradient: bool = True
    keeps_criterion: bool = False


def checked_radius(rho: float | Array) -> float | Array:
    """Return a radius unchanged; a traced one cannot be checked.

    Raises: ValueError if it is a number that is not finite or negative.
    """
    if isinstance(rho, Real) and not 0 <= rho < math.inf:
        raise ValueError(f"rho={rho}: expected a finite number >= 0 (0 is the base optimizer).")
    return rho


def normalized(rho: float | Array) -> AscentRule:
    """Ascend by a step of length rho along the gradient: SAM.

    Equation: eps = rho g / (|g| + 1e-12), with one norm over all leaves.
    Source: Foret et al. (2021), arXiv 2010.01412, equation 2.
    """

    def perturb(gradient, params, state, rho):
        del params
        return _of_length(rho, gradient), state

    return AscentRule(checked_radius(rho), perturb)


def unnormalized(rho: float | Array) -> AscentRule:
    """Ascend by rho times the gradient: the rule of the paper's theory.

    Equation: eps = rho g.
    Source: Andriushchenko and Flammarion (2022), arXiv 2206.06232.
    """

    def perturb(gradient, params, state, rho):
        del params
        return trees.scale(rho, gradient), state

    return AscentRule(checked_radius(rho), perturb)


def functional(rho: float | Array) -> AscentRule:
    """Ascend as `normalized`, and differentiate the outputs there, but the loss at the outputs of w: functional SAM.

    The loss must be a `SplitLoss`.

    Equation: gradient = J(w + eps)' l'(f(w)), with outputs f, their Jacobian J and the criterion l of the outputs.
    Cost: 2 gradients.
    Source: Singh et al. (2025), arXiv 2502.02407.
    """
    return normalized(rho)._replace(keeps_criterion=True)


def adaptive(rho: float | Array) -> AscentRule:
    """Ascend within a region that is scaled by the magnitude of each weight: ASAM.

    Equation: eps = rho T^2 g / (|T g| + 1e-12), T = |w| + 0.01 for kernels (`trees.kernels`), 1 for all other leaves.
    Source: Kwon et al. (2021), arXiv 2102.11600; like its authors' code, biases and norm scales are not scaled.
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

    return AscentRule(checked_radius(rho), perturb)


def layerwise(rho: float | Array, scales: PyTree = None, *, layer_scales: tuple[str, ...] = ()) -> AscentRule:
    """Ascend along the gradient, scaled by one factor for each leaf.

    Args:
      scales: pytree like the parameters, with one factor a leaf.
      layer_scales: alternatively, "pattern=factor" texts. A leaf (named as by
        `trees.path_name`, such as "Dense_0/kernel") gets the factor of the first pattern, a regular expression, that
        matches its whole name; 1 if none does.
    Raises: ValueError at once if a text is malformed or not exactly one of the two is given; in `init` and `perturb` if
      a text determines the factor of no leaf.
    Equation: eps_l = rho s_l g_l / (|g| + 1e-12), with one norm over all leaves.
    """
    if (scales is None) == (not layer_scales):
        raise ValueError(
            f"layer_scales={layer_scales!r} and {'no' if scales is None else 'a'} tree of scales: expected one of the "
            f"two; give entries {_SCALE_FORM} (for equal factors use the rule `normalized`)."
        )
    patterns = tuple(_parse_scale(text) for text in layer_scales)

    def resolve(params):
        return _match_scales(params, patterns) if scales is None else scales

    def init(params):
        resolve(params)  # so that a pattern without effect fails before the first step
        return ()

    def perturb(gradient, params, state, rho):
        factor = rho / (trees.norm(gradient) + _TINY)
        scaled = jax.tree.map(lambda g, s: (factor * s * g).astype(g.dtype), gradient, resolve(params))
        return scaled, state

    return AscentRule(checked_radius(rho), perturb, init)


def norm_layers(rho: float | Array) -> AscentRule:
    """Ascend in the normalization layers only: SAM-ON.

    These are the leaves named scale and the biases of the same modules, for batch norm and layer norm.

    Raises: ValueError in `init` and `perturb` if there are none.
    Equation: eps_N = rho g_N / (|g_N| + 1e-12) on the leaves N of norm layers, with one norm over these; 0 elsewhere.
    Cost: 2 gradients; the first is needed for the leaves N only, which saves nothing here.
    Source: Mueller et al. (2023), arXiv 2306.04226. The authors' code selects parameters by "norm" or "bn" in
      their names, which with other names misses norm layers or selects other layers, and adds 1e-16 to the norm.
    """
    return _ascend_on(rho, _norm_leaves)


def subset(rho: float | Array, *, ascent_layers: tuple[str, ...] = ()) -> AscentRule:
    """Ascend in selected leaves only.

    Args:
      ascent_layers: regular expressions. A leaf is perturbed if one of them matches its whole name (as by
        `trees.path_name`, such as "Dense_0/kernel").
    Raises: ValueError at once without an expression, or if one is malformed; in `init` and `perturb` if one matches no
      leaf.
    Equation: eps_S = rho g_S / (|g_S| + 1e-12) on the selected leaves S, with one norm over these; 0 elsewhere.
      `layerwise` with factors 0 and 1 differs in its norm, which is over all leaves.
    Cost: 2 gradients.
    Source: the rule of `norm_layers`, for any leaves.
    """
    if not ascent_layers:
        raise ValueError(f"ascent_layers={ascent_layers!r}: expected one or more {_PATTERN_FORM}.")
    patterns = tuple(_compile_pattern(text) for text in ascent_layers)

    def select(params):
        names = _leaf_names(params)
        for pattern in patterns:
            if not any(map(pattern.fullmatch, names)):
                raise ValueError(
                    f"ascent_layers pattern {pattern.pattern!r} matches no leaf: expected one of the {_PATTERN_FORM}. "
                    f"Leaves: {', '.join(names)}."
                )
        chosen = [any(pattern.fullmatch(name) for pattern in patterns) for name in names]
        return jax.tree.unflatten(jax.tree.structure(params), chosen)

    return _ascend_on(rho, select)


def friendly(rho: float | Array, *, mean_gradient_weight: float = 1.0, mean_gradient_decay: float = 0.9) -> AscentRule:
    """Ascend along the difference of a batch's gradient from the running mean of gradients: Friendly SAM.

    Args:
      mean_gradient_weight: sigma, the multiple of the mean that is subtracted; 0 is `normalized`.
      mean_gradient_decay: lambda in [0, 1), the decay rate of the mean.
    Equation: m_t = lambda m_(t-1) + (1 - lambda) g_t with m_0 = 0; d = g_t - sigma m_t; eps = rho d / (|d| + 1e-12).
      With sigma = 1, d = lambda (g_t - m_(t-1)).
    Cost: 2 gradients, and one copy of the parameters.
    Source: Li et al. (2024), arXiv 2403.12350. The authors' code (and ports of it) uses m_(t-1) where the paper has
      m_t, which changes the direction unless sigma = 1, and starts the mean at the first gradient.
    """
    sigma, decay = mean_gradient_weight, mean_gradient_decay

    def perturb(gradient, params, state, rho):
        del params
        mean = jax.tree.map(lambda m, g: (decay * m + (1 - decay) * g).astype(g.dtype), state, gradient)
        noise = jax.tree.map(lambda g, m: (g - sigma * m).astype(g.dtype), gradient, mean)
        return _of_length(rho, noise), mean

    return AscentRule(checked_radius(rho), perturb, init=_zeros)


def gsam(rho: float | Array, *, surrogate_gap_weight: float = 0.4) -> AscentRule:
    """Descend the perturbed loss, and orthogonally to its gradient the gap between it and the loss: GSAM.

    Args:
      surrogate_gap_weight: alpha >= 0; 0 is `normalized`.
    Equation: eps as `normalized`; with g at w and p at w + eps, the gradient is p - alpha (g - p <g, p> / <p, p>): the
      component of the clean gradient orthogonal to the perturbed one is subtracted.
    Cost: 2 gradients.
    Source: Zhuang et al. (2022), arXiv 2203.08065, algorithm 1. The authors' code also makes rho follow the learning
      rate (here `config.rho_schedule`), and with `minimize_fp=False`, which is not in the paper, decomposes the
      perturbed gradient along the clean one instead.
    """

    def combine(clean, perturbed, params, state):
        del params
        square = _inner(perturbed, perturbed)
        along = jnp.where(square > 0, _inner(clean, perturbed) / jnp.where(square > 0, square, 1), 0)
        # At rho 0 the two are equal; do not amplify the rounding error of their difference.
        weight = jnp.where(rho > 0, surrogate_gap_weight, 0)
        reduced = jax.tree.map(lambda g, p: (p - weight * (g - along * p)).astype(p.dtype), clean, perturbed)
        return reduced, state

    return normalized(rho)._replace(combine=combine)


def momentum_sam(rho: float | Array, *, momentum: float = 0.9) -> AscentRule:
    """Perturb against the momentum of the previous steps, so that a step costs one gradient: Momentum-SAM.

    Value, aux and statistics are those of the only, perturbed pass. The first step is not perturbed.

    Args:
      momentum: mu of SGD with momentum, whose buffer v is.
    Equation: eps = -rho v / (|v| + 1e-12), p the gradient at w + eps, then v <- mu v + p, from v = 0.
      The sign is the source's: w + eps lies in the direction of Nesterov's look-ahead point, at another distance.
    Cost: 1 gradient, and one copy of the parameters.
    Source: Becker et al. (2024), arXiv 2401.12033. The authors' code puts weight decay into v; here v has gradients
      only, since the optimizer's decay and clipping come after SAM. With AdamW they use Adam's first moment, whose
      direction is that of v at mu = beta_1.
    """

    def perturb(gradient, params, state, rho):
        del gradient, params
        return _of_length(-rho, state), state

    def combine(clean, perturbed, params, state):
        del clean, params
        return perturbed, jax.tree.map(lambda v, g: (momentum * v + g).astype(g.dtype), state, perturbed)

    return AscentRule(checked_radius(rho), perturb, init=_zeros, combine=combine, needs_clean_gradient=False)


def _of_length(rho: float | Array, direction: PyTree) -> PyTree:
    return trees.scale(rho / (trees.norm(direction) + _TINY), direction)


def _zeros(params: PyTree) -> PyTree:
    return jax.tree.map(jnp.zeros_like, params)


def _inner(a: PyTree, b: PyTree) -> Array:
    return sum((trees.inner(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)), jnp.zeros(()))


def _ascend_on(rho: float | Array, select: Callable[[PyTree], PyTree]) -> AscentRule:
    """Build the rule that ascends by rho in the leaves that `select(params)` marks, with a norm over these only."""

    def init(params):
        select(params)  # so that an empty selection fails before the first step
        return ()

    def perturb(gradient, params, state, rho):
        chosen = jax.tree.map(lambda g, is_chosen: g if is_chosen else jnp.zeros_like(g), gradient, select(params))
        return _of_length(rho, chosen), state

    return AscentRule(checked_radius(rho), perturb, init)


def _leaf_names(params: PyTree) -> list[str]:
    return [trees.path_name(path) for path, _ in jax.tree.leaves_with_path(params)]


def _norm_leaves(params: PyTree) -> PyTree:
    """Mark the leaves named scale and the biases of the same modules; ValueError if there are none."""
    names = _leaf_names(params)
    modules = {module for module, _, leaf in (name.rpartition("/") for name in names) if leaf == "scale"}
    if not modules:
        raise ValueError(
            "sam_variant='norm_layers': the network has no norm layers; expected leaves named scale. Choose another "
            f"rule, such as 'subset' with patterns of your own. Leaves: {', '.join(names)}."
        )
    chosen = [leaf in ("scale", "bias") and module in modules for module, _, leaf in (n.rpartition("/") for n in names)]
    return jax.tree.unflatten(jax.tree.structure(params), chosen)


def _compile_pattern(text: str) -> re.Pattern:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"ascent_layers entry {text!r}: {error}; expected one of the {_PATTERN_FORM}.") from None
    if not text:
        raise ValueError(f"ascent_layers entry '': expected one of the {_PATTERN_FORM}.")
    return pattern


def _parse_scale(text: str) -> tuple[re.Pattern, float]:
    """Read "pattern=factor"; the pattern may itself contain "="."""
    pattern, equals, factor_text = text.rpartition("=")
    try:
        pattern, factor = re.compile(pattern), float(factor_text)
    except (re.error, ValueError) as error:
        raise ValueError(f"layer_scales entry {text!r}: {error}; expected {_SCALE_FORM}.") from None
    if not equals or not pattern.pattern or not 0 <= factor < math.inf:
        raise ValueError(f"layer_scales entry {text!r}: expected {_SCALE_FORM}.")
    return pattern, factor


def _match_scales(params: PyTree, patterns: tuple[tuple[re.Pattern, float], ...]) -> PyTree:
    """Return for each leaf the factor of the first pattern that matches its whole name, 1 if none does."""
    names = _leaf_names(params)
    deciding = [next((i for i, (pattern, _) in enumerate(patterns) if pattern.fullmatch(name)), None) for name in names]
    for i, (pattern, _) in enumerate(patterns):
        if i not in deciding:
            raise ValueError(
                f"layer_scales pattern {pattern.pattern!r} decides no leaf: expected a regular expression that matches "
                f"the whole name of a leaf that no earlier pattern matches. Leaves: {', '.join(names)}."
            )
    factors = [1.0 if i is None else patterns[i][1] for i in deciding]
    return jax.tree.unflatten(jax.tree.structure(params), factors)
