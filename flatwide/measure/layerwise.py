"""Curvature and sharpness of parts of a network, such as its layers, with the other parameters fixed."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flatwide import trees
from flatwide.measure import inputs
from flatwide.measure.inputs import Problem
from flatwide.measure.loss_rise import ascent_direction, check_radius, climbed, sizes_within
from flatwide.measure.operators import Operator, hessian_operator
from flatwide.measure.spectrum.eigenvalues import top_eigenvalues
from flatwide.measure.spectrum.trace import Estimate, grouped_traces
from flatwide.types import Array, PyTree

Groups = Mapping[str, str | Sequence[str]]


class Layer(NamedTuple):
    """Measurements of one group of parameters, with all others fixed.

    num_params: kept entries.
    top_eigenvalue: largest eigenvalue of the group's block of the Hessian, in loss per squared unit of parameter.
    residual: of its eigenvector, |B v - value v|.
    trace: of the block.
    ascent_share: the group's share of the squared length of SAM's perturbation, in [0, 1].
    sharpness: largest rise of the loss that gradient ascent reached within the radius, perturbing only the group's
      parameters; units of loss.
    """

    num_params: int
    top_eigenvalue: float
    residual: float
    trace: Estimate
    ascent_share: float
    sharpness: float


class Layers(NamedTuple):
    """The groups of a network by name; cost: in Hessian-vector products over the data set, all groups together."""

    layers: dict[str, Layer]
    cost: float


def layers(
    problem: Problem,
    *,
    key: Array,
    rho: float,
    groups: Groups | None = None,
    adaptive: bool = False,
    scales: PyTree | None = None,
    num_probes: int = 20,
    num_deflated: int = 15,
    num_steps: int = 20,
) -> Layers:
    """Measure the sharpness of the loss in each layer of a network.

    Args:
      problem: of batches. key: PRNG key; the same key gives the same result.
      rho: radius of each group's ball, > 0, in parameter units.
      groups: name -> pattern of the names of its leaves (`block_0/*`, as in a shell), or several; groups may overlap.
        None: leaves with the same parent form a group, that is a layer; layers that are masked entirely are omitted.
      adaptive: SAM's perturbation is that of ASAM. scales: factors of it, a number for each leaf; None: all 1.
      num_probes, num_deflated: of the traces, as for `trace`; all groups share the same products.
      num_steps: of the ascent, at most; it starts from SAM's point.
    Returns: Layers.
    Raises: ValueError for a pattern that matches no leaf, or an option out of range.
    Equation: with H_gg the rows and columns of group g: lambda_max(H_gg), tr H_gg, |eps_g|^2 / |eps|^2, and the maximum
      of L(w + eps_g) - L(w) over |eps_g| <= rho, a lower bound of it. The traces and shares of disjoint groups add up
      to those of the network; the eigenvalues are at most that of the network.
    Cost: num_probes + num_deflated products for the traces, one gradient for the shares; for each group tens of
      products and up to num_steps + 2 gradients.
    Source: as `top_eigenvalues`, `block_traces`, `ascent_shares` and `sharpness`.
    """
    check_radius(rho)
    inputs.check_at_least(1, num_steps=num_steps)
    hessian, names = hessian_operator(problem), group_names(problem.params, groups, problem.mask)
    probe_key, *keys = jax.random.split(inputs.random_key(key), len(names) + 1)
    traces = block_traces(hessian, groups, key=probe_key, num_probes=num_probes, num_deflated=num_deflated)
    shares = ascent_shares(problem, groups=groups, adaptive=adaptive, scales=scales)
    measured, cost = {}, next(iter(traces.values())).cost + 0.5
    for layer_key, (name, block) in zip(keys, blocks(hessian, groups).items(), strict=True):
        top = top_eigenvalues(block, 1, key=layer_key, which="largest")
        climb = climbed(
            problem,
            sizes_within(problem, names[name], adaptive=False),
            rho=rho,
            key=layer_key,
            num_starts=1,
            num_steps=num_steps,
        )
        measured[name] = Layer(
            num_params=block.size,
            top_eigenvalue=float(top.values[0]),
            residual=float(top.residuals[0]),
            trace=traces[name],
            ascent_share=shares[name],
            sharpness=climb.value,
        )
        cost += top.cost + climb.num_evaluations / 2
    return Layers(layers=measured, cost=cost)


def blocks(operator: Operator, groups: Groups | None = None) -> dict[str, Operator]:
    """Return the diagonal blocks of a symmetric matrix: the rows and columns of each group of parameters.

    Args:
      operator: of any kind. groups: as for `layers`.
    Returns: name of a group -> operator; its vectors are like params, and 0 outside the group. Unlike with a `mask` of
      the Hessian, the loss is evaluated at all of the network's weights.
    Raises: ValueError for a pattern that matches no leaf, or a group that the operator's mask removes entirely.
    Equation: B_g = M_g S M_g, with M_g the projection onto the entries of the group.
    Cost: each product costs one of the whole matrix; all blocks share their compiled programs.
    """
    return {
        name: replace(operator, mask=inputs.selected(operator.params, operator.mask, members))
        for name, members in group_names(operator.params, groups, operator.mask).items()
    }


def block_traces(
    operator: Operator,
    groups: Groups | None = None,
    *,
    key: Array,
    num_probes: int = 20,
    num_deflated: int = 15,
) -> dict[str, Estimate]:
    """Estimate the traces of all diagonal blocks of a symmetric matrix from the same products.

    Args:
      operator, groups: as for `blocks`.
      key, num_probes, num_deflated: as for `trace`.
    Returns: name of a group -> Estimate, whose products and cost are those of all groups together.
    Raises: ValueError as `blocks` and `trace`.
    Equation: tr B_g = sum over the group's entries i of the estimate of S_ii by `diagonal`.
    Cost: num_deflated + num_probes products, whatever the number of groups.
    """
    names = [trees.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(operator.params)]
    members = group_names(operator.params, groups, operator.mask)
    leaf_indices = {name: [names.index(leaf) for leaf in leaves] for name, leaves in members.items()}
    return grouped_traces(operator, leaf_indices, key=key, num_probes=num_probes, num_deflated=num_deflated)


def ascent_shares(
    problem: Problem, *, groups: Groups | None = None, adaptive: bool = False, scales: PyTree | None = None
) -> dict[str, float]:
    """Compute the share of SAM's perturbation that lies in each group of parameters.

    Args:
      problem: of batches. groups, adaptive, scales: as for `layers`.
    Returns: name of a group -> |eps_g|^2 / |eps|^2; 0 for all groups if the gradient is 0.
    Raises: ValueError for a pattern that matches no leaf.
    Equation: eps = rho T^2 g / |T g| as in `sharpness`; the shares do not depend on rho.
    Cost: one gradient.
    Source: Foret et al. (2021), arXiv 2010.01412, for the perturbation.
    """
    members = group_names(problem.params, groups, problem.mask)
    squares = _squares(problem, adaptive)
    squares = squares if scales is None else jax.tree.map(lambda square, scale: scale**2 * square, squares, scales)
    by_name = {trees.path_name(path): float(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(squares)}
    total = sum(by_name.values())
    return {name: sum(by_name[leaf] for leaf in leaves) / (total or 1.0) for name, leaves in members.items()}


@functools.partial(jax.jit, static_argnames="adaptive")
def _squares(problem: Problem, adaptive: bool) -> PyTree:
    direction = ascent_direction(problem.params, problem.gradient(problem.params), adaptive)
    # Relative to the largest entry, so that squares stay within the type's range.
    largest = functools.reduce(jnp.maximum, [jnp.max(abs(leaf)) for leaf in jax.tree.leaves(direction)])
    scale = jnp.where(largest > 0, largest, 1)
    return jax.tree.map(lambda leaf: jnp.sum((leaf / scale) ** 2), direction)


def group_names(params: PyTree, groups: Groups | None, mask: PyTree | None) -> dict[str, tuple[str, ...]]:
    """Return the names of the leaves of each group; layers that the mask removes entirely are omitted.

    Raises: ValueError for no group, or a pattern that matches no leaf.
    """
    names = [trees.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if groups is None:
        members: dict[str, tuple[str, ...]] = {}
        for name in names:
            parent = name.rpartition("/")[0] or name
            members[parent] = (*members.get(parent, ()), name)
        return {name: leaves for name, leaves in members.items() if inputs.keeps(params, mask, leaves)}
    if not groups:
        raise ValueError("groups={}: expected at least one group, or None for the layers.")
    return {name: trees.matching(names, patterns) for name, patterns in groups.items()}
