"""The rise of the loss near given parameters: at the worst point of a ball, on average, or at SAM's ascent point."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measure import inputs
from flatwide.measure.inputs import Problem
from flatwide.types import Array, PyTree

Kind = Literal["worst", "average", "sam"]

_ADAPTIVE_FLOOR = 0.01  # as in the ascent rule `adaptive`: lets weights at zero move
_TINY = 1e-12  # as in the ascent rules: a zero gradient gives a zero perturbation
_MEMORY = 5  # a step may lower the loss, but not below the minimum of the last ones (Grippo et al., 1986)
_LONGEST = 3.0  # length of a step in radii, before projection onto the ball: more than its diameter, 2


class Sharpness(NamedTuple):
    """The rise of the loss near given parameters.

    value: L(w + eps) - L(w), in units of loss; by batch, its mean. inf where a perturbed loss is not finite.
    standard_error: of the average, over the pairs drawn; 0 for "sam"; NaN for "worst", a lower bound of the maximum,
      and for an infinite average.
    gap: of "worst", rho |grad| - <grad, eps>, in units of loss: the further rise within the ball if the loss were
      linear from here on; inf with an infinite value, NaN for the other kinds. It measures how well one maximum was
      climbed, but says nothing about others: it bounds the maximum only for a loss that is concave in the ball, which
      no loss is at a minimum. A higher peak, or an edge of the loss's domain, that no ascent reached goes undetected.
    values: one for each start ("worst", SAM's first) or pair ("average"). Starts that disagree show several maxima.
    loss: L(w).
    perturbation: eps of the value, like params; None for the average and by batch.
    num_evaluations: number of gradients over the data set; for the average, of losses.
    """

    value: float
    standard_error: float
    gap: float
    values: np.ndarray
    loss: float
    perturbation: PyTree | None
    num_evaluations: float


def sharpness(
    problem: Problem,
    *,
    rho: float,
    kind: Kind = "worst",
    adaptive: bool = False,
    is_by_batch: bool = False,
    key: Array | None = None,
    num_steps: int = 50,
    num_starts: int = 2,
    num_samples: int = 100,
    tolerance: float = 1e-3,
    within: str | Sequence[str] | None = None,
) -> Sharpness:
    """Measure the rise of the mean loss over a data set within a distance rho.

    Args:
      problem: of batches, at P kept weights.
      rho: radius, > 0; in units of parameters, or relative to them with `adaptive`.
      kind: "worst": the highest loss in the ball |T^-1 eps| <= rho that projected gradient ascent finds, from SAM's
        point and from random points; never below 0 and never below "sam". "average": the mean over eps = T z with z
        normal, E|z|^2 = rho^2. "sam": at the point of SAM's ascent step.
      adaptive: T = |w| + 0.01 for kernels, as ASAM; False: T = 1.
      is_by_batch: each batch of the problem gets a separate perturbation, and the results are averaged; with
        `batch_size=m` of the problem this is m-sharpness. Not for the average, which it would not change.
      key: PRNG key of random starts and samples; None if nothing is random ("sam", or a single start).
      num_steps: steps of ascent from a start at most, >= 1.
      num_starts: of the ascent, >= 1; the first is SAM's point.
      num_samples: pairs w + eps, w - eps of the average, >= 2.
      tolerance: the ascent stops when `gap` is at most this fraction of the value.
      within: pattern of the names of the leaves that are perturbed (`block_0/*`, as in a shell), or several; all others
        are fixed, and do not count in P. None: all.
    Returns: Sharpness. In 32 bits, rises of less than about 1e-6 of the loss are rounding errors.
    Raises: ValueError for an option out of range, or L(w) not finite.
    Equation: worst = max over |T^-1 eps| <= rho of L(w + eps) - L(w), a lower bound of it; for small rho it is
      rho |T g|, or rho^2 lambda_max(T H T) / 2 at a minimum. average = E L(w + eps) - L(w) = rho^2 tr(T H T) / (2 P) +
      O(rho^4), as the gradient's part cancels in each pair. sam: eps = rho T^2 g / (|T g| + 1e-12).
    Cost: worst: num_starts (num_steps + 1) + 1 gradients at most; average: 2 num_samples + 1 losses; sam: 2 gradients.
    Source: Foret et al. (2021), arXiv 2010.01412; Kwon et al. (2021), arXiv 2102.11600; Andriushchenko et al. (2023), A
      modern look at the relationship between sharpness and generalization; steps: Barzilai and Borwein (1988).
    """
    check_radius(rho)
    if kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}.")
    if is_by_batch and kind == "average":
        raise ValueError("is_by_batch=True with kind='average': the average does not depend on the batches; remove it.")
    inputs.check_at_least(1, num_steps=num_steps, num_starts=num_starts)
    inputs.check_at_least(2, num_samples=num_samples)
    inputs.check_at_least(0, tolerance=tolerance)
    if key is None and (kind == "average" or (kind == "worst" and num_starts > 1)):
        raise ValueError(f"key=None with kind={kind!r}: expected a PRNG key, such as jax.random.key(0).")
    sizes, key = sizes_within(problem, within, adaptive), inputs.random_key(0 if key is None else key)
    if kind == "average":
        num_moved = sum(np.count_nonzero(size) for size in jax.tree.leaves(sizes))
        values, loss = _average(problem, sizes, rho / math.sqrt(num_moved), key, num_samples)
        values = np.asarray(values, np.float64)
        # A pair outside the loss's domain makes the average infinite, and its error undefined.
        is_finite = bool(np.all(np.isfinite(values)))
        return Sharpness(
            value=float(np.mean(values)) if is_finite else math.inf,
            standard_error=float(np.std(values, ddof=1)) / math.sqrt(num_samples) if is_finite else math.nan,
            gap=math.nan,
            values=values,
            loss=_finite(loss),
            perturbation=None,
            num_evaluations=2 * num_samples + 1,
        )
    num_starts, num_steps = (num_starts, num_steps) if kind == "worst" else (1, 0)
    ascent = {"num_starts": num_starts, "num_steps": num_steps, "tolerance": tolerance}
    return climbed(problem, sizes, rho=rho, key=key, **ascent, is_by_batch=is_by_batch)


def sizes_within(problem: Problem, within: str | Sequence[str] | None, adaptive: bool) -> PyTree:
    """Return T, which scales the ball |T^-1 eps| <= rho: 0 for weights that are pruned, or not within a pattern."""
    moved = problem.mask if within is None else inputs.selected(problem.params, problem.mask, within)
    return trees.apply_mask(_sizes(problem.params, adaptive), moved)


def climbed(
    problem: Problem,
    sizes: PyTree,
    *,
    rho: float,
    key: Array,
    num_starts: int,
    num_steps: int,
    tolerance: float = 1e-3,
    is_by_batch: bool = False,
) -> Sharpness:
    """Find the worst point by ascent, or with no steps SAM's point, of all data or of each batch."""
    options = {"num_starts": num_starts, "num_steps": num_steps, "is_by_batch": is_by_batch}
    ended, perturbation = _worst(problem, sizes, rho, key, tolerance, **options)
    values = np.asarray(ended.values, np.float64)
    return Sharpness(
        value=float(ended.value if num_steps else values[0]),
        standard_error=math.nan if num_steps else 0.0,
        gap=float(ended.gap) if num_steps else math.nan,
        values=values,
        loss=_finite(ended.loss),
        perturbation=perturbation,
        num_evaluations=float(ended.num_gradients),
    )


def ascent_direction(params: PyTree, gradient: PyTree, adaptive: bool) -> PyTree:
    """Compute T^2 g, the direction of SAM's perturbation."""
    sizes = _sizes(params, adaptive)
    return _product(sizes, _product(sizes, gradient))


def _finite(loss: Array) -> float:
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss at params is {float(loss)}: expected a finite number; look for overflow in the loss or "
            "non-finite numbers in the data."
        )
    return float(loss)


def check_radius(rho: float) -> None:
    """Raise an error for an invalid radius.

    Raises: ValueError unless it is finite and > 0.
    """
    if not 0 < rho < math.inf:
        raise ValueError(f"rho={rho}: expected a finite number > 0.")


def _sizes(params: PyTree, adaptive: bool) -> PyTree:
    """Return T, which scales the ball |T^-1 eps| <= rho."""
    return jax.tree.map(
        lambda w, is_kernel: jnp.abs(w) + _ADAPTIVE_FLOOR if adaptive and is_kernel else jnp.ones_like(w),
        params,
        trees.kernels(params),
    )


@functools.partial(jax.jit, static_argnames="num_samples")
def _average(problem: Problem, sizes: PyTree, radius: Array, key: Array, num_samples: int) -> tuple[Array, Array]:
    def loss_at(params: PyTree) -> Array:
        return problem.mean(lambda batch: problem.loss(params, batch))

    loss = loss_at(problem.params)

    def pair(key: Array) -> Array:
        draw = _product(sizes, trees.scale(radius, trees.random_normal(key, problem.params)))
        rises = [loss_at(trees.add(problem.params, trees.scale(sign, draw))) - loss for sign in (1.0, -1.0)]
        rise = (rises[0] + rises[1]) / 2
        return jnp.where(jnp.isfinite(rise), rise, jnp.inf)

    return jax.lax.map(pair, jax.random.split(key, num_samples)), loss


class _Maximum(NamedTuple):
    value: Array
    gap: Array
    values: Array  # [num_starts]
    loss: Array
    num_gradients: Array


@functools.partial(jax.jit, static_argnames=("num_starts", "num_steps", "is_by_batch"))
def _worst(
    problem: Problem,
    sizes: PyTree,
    rho: Array,
    key: Array,
    tolerance: Array,
    *,
    num_starts: int,
    num_steps: int,
    is_by_batch: bool,
) -> tuple[_Maximum, PyTree | None]:
    rho = jnp.asarray(rho, jax.tree.leaves(problem.params)[0].dtype)

    search = functools.partial(_search, problem.params, sizes, rho, key, tolerance, num_starts, num_steps)

    def differentiate(at: PyTree, batch: PyTree) -> tuple[Array, PyTree]:
        return jax.value_and_grad(problem.loss)(at, batch)

    if is_by_batch:
        return problem.mean(lambda batch: search(lambda at: differentiate(at, batch))[0]), None
    return search(lambda at: problem.mean(lambda batch: differentiate(at, batch)))


class _Best(NamedTuple):
    value: Array
    gap: Array
    point: PyTree


class _Ascent(NamedTuple):
    """The state of one ascent, in the coordinates u = T^-1 eps, in which the ball is round."""

    point: PyTree
    gradient: PyTree  # reduced: without its component out of the ball
    step: Array
    recent: Array  # values of the last points
    best: _Best
    num_gradients: Array


def _search(
    params: PyTree,
    sizes: PyTree,
    rho: Array,
    key: Array,
    tolerance: Array,
    num_starts: int,
    num_steps: int,
    differentiate_at: Callable[[PyTree], tuple[Array, PyTree]],
) -> tuple[_Maximum, PyTree]:
    def differentiate(u: PyTree) -> tuple[Array, PyTree]:
        value, gradient = differentiate_at(trees.add(params, _product(sizes, u)))
        return value, _product(sizes, gradient)

    zero = jax.tree.map(jnp.zeros_like, params)
    loss, slope = differentiate(zero)
    is_movable = jax.tree.map(lambda size: size > 0, sizes)

    def rise(point: PyTree) -> tuple[Array, PyTree, Array]:
        value, gradient = differentiate(point)
        value = jnp.where(jnp.isfinite(value), value - loss, jnp.inf)
        gap = jnp.maximum(rho * trees.norm(gradient) - _dot(gradient, point), 0)
        return value, gradient, jnp.where(jnp.isfinite(value), gap, jnp.inf)

    def start(index: Array) -> PyTree:
        drawn = trees.apply_mask(trees.random_normal(jax.random.fold_in(key, index), params), is_movable)
        toward = jax.tree.map(lambda s, d: jnp.where(index == 0, s, d), slope, drawn)
        return trees.scale(rho / (trees.norm(toward) + _TINY), toward)

    def is_going_on(now: _Ascent) -> Array:
        is_done = now.best.gap <= tolerance * now.best.value  # at a zero gradient both are zero
        is_first = now.num_gradients == 0
        return is_first | ((now.num_gradients <= num_steps) & ~is_done & jnp.isfinite(now.best.value))

    def advance(now: _Ascent) -> _Ascent:
        trial = trees.add(now.point, trees.scale(now.step, now.gradient))
        trial = trees.scale(jnp.minimum(1, rho / (trees.norm(trial) + _TINY)), trial)
        value, gradient, gap = rise(trial)
        reduced = _reduced(trial, gradient, rho)
        moved, turned = trees.subtract(trial, now.point), trees.subtract(reduced, now.gradient)
        curvature = -_dot(moved, turned) / jnp.maximum(_dot(moved, moved), jnp.finfo(value.dtype).tiny)
        longest = _LONGEST * rho / (trees.norm(reduced) + _TINY)
        step = jnp.where(curvature * longest > 1, 1 / jnp.where(curvature > 0, curvature, 1), longest)
        is_taken = value >= jnp.min(now.recent)
        shifted = jnp.roll(now.recent, 1).at[0].set(value)
        return _Ascent(
            point=_choose(is_taken, trial, now.point),
            gradient=_choose(is_taken, reduced, now.gradient),
            step=jnp.where(is_taken, step, now.step / 4),
            recent=jnp.where(now.num_gradients == 0, value, jnp.where(is_taken, shifted, now.recent)),
            best=_choose(value > now.best.value, _Best(value, gap, trial), now.best),
            num_gradients=now.num_gradients + 1,
        )

    def climb(best: _Best, index: Array) -> tuple[_Best, tuple[Array, Array]]:
        point, nothing = start(index), jnp.zeros_like(loss)
        low = jnp.full(_MEMORY, -jnp.inf, loss.dtype)
        # The first step, of length 0, evaluates the start, so that the loss is compiled only once.
        begin = _Ascent(
            point=point,
            gradient=zero,
            step=nothing,
            recent=low,
            best=_Best(low[0], nothing, point),
            num_gradients=nothing,
        )
        end = jax.lax.while_loop(is_going_on, advance, begin)
        is_better = (end.best.value > best.value) | (num_steps == 0)  # without steps, the result is SAM's point itself
        return _choose(is_better, end.best, best), (end.best.value, end.num_gradients)

    nowhere = _Best(jnp.zeros_like(loss), rho * trees.norm(slope), zero)
    best, (values, nums) = jax.lax.scan(climb, nowhere, jnp.arange(num_starts))
    maximum = _Maximum(value=best.value, gap=best.gap, values=values, loss=loss, num_gradients=jnp.sum(nums) + 1)
    return maximum, _product(sizes, best.point)


def _reduced(point: PyTree, gradient: PyTree, rho: Array) -> PyTree:
    """Remove from a gradient its component out of the ball, at a point on the surface."""
    outward = jnp.maximum(_dot(gradient, point), 0) / rho**2
    is_inside = trees.norm(point) < rho * (1 - 1e-5)  # a norm in 32 bits is known to about 1e-6
    return jax.tree.map(lambda g, u: g - jnp.where(is_inside, 0, outward) * u, gradient, point)


def _product(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.multiply, a, b)


def _dot(a: PyTree, b: PyTree) -> Array:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)), start=jnp.zeros(()))


def _choose(condition: Array, a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)
