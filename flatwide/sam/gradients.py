"""The two passes: a clean gradient, the ascent, and the gradient that the optimizer gets."""

import math
from collections.abc import Callable
from numbers import Integral, Real

import jax

from flatwide import trees
from flatwide.sam import pieces
from flatwide.sam.rules import AscentRule
from flatwide.types import Array, PyTree


def value_and_grad(
    loss_fn: Callable,
    rule: AscentRule,
    *,
    has_aux: bool = False,
    microbatch: int | None = None,
    accumulation_steps: int = 1,
    weigh: Callable[[PyTree], Array] | None = None,
) -> Callable:
    """Make the counterpart of `jax.value_and_grad(loss_fn, has_aux=has_aux)` for a rule without state.

    Value and aux are those of the first, clean pass; both passes get the same arguments, so the same dropout key.

    Args:
      loss_fn: (params, *arguments) -> mean loss, or (mean loss, aux) with `has_aux`. With pieces (below) the first
        argument is the batch, a pytree of arrays whose leading axes are the B examples.
      rule: such as `normalized(0.05)`.
      microbatch: m examples that share a perturbation; B = n m. Rows are taken in order, each m of them are perturbed
        by their own gradient, and the n results are averaged. Memory is that of one microbatch. None: the whole batch.
      accumulation_steps: k pieces in which whatever shares a perturbation is computed, for memory only: one sweep for
        the clean gradient, one perturbation, a second sweep.
      weigh: weight of a piece in these averages, such as its number of real tokens, so that the mean over all items is
        exact; pieces of weight 0 are ignored whatever they hold, and all 0 gives 0. None: all pieces alike.
    Returns: a function of `loss_fn`'s arguments that gives (value, gradient), or ((value, aux), gradient).
      With pieces, each leaf of aux is the weighted mean over the pieces, and PRNG keys (`jax.random.key`) among the
      arguments after the batch are folded with the number of the piece, so that no two pieces share a dropout mask.
    Raises: ValueError if an option is out of range, the batch cannot be cut so, an aux leaf is not floating, or the
      rule has a state.
    Cost: 2 gradients of the batch; 1 if rho is the Python number 0.
    """
    step = stateful_value_and_grad(
        loss_fn, rule, has_aux=has_aux, microbatch=microbatch, accumulation_steps=accumulation_steps, weigh=weigh
    )

    # Keywords are handed on as jax.value_and_grad hands them on.
    def sam_value_and_grad(params, *arguments, **keywords):
        state = rule.init(params)
        if jax.tree.leaves(state):
            raise ValueError(
                "rule: expected an ascent rule without a state; use sam.stateful_value_and_grad, which takes the "
                "state of this rule and gives the next one."
            )
        value, gradient, _ = step(params, state, *arguments, **keywords)
        return value, gradient

    return sam_value_and_grad


def stateful_value_and_grad(
    loss_fn: Callable,
    rule: AscentRule,
    *,
    has_aux: bool = False,
    microbatch: int | None = None,
    accumulation_steps: int = 1,
    weigh: Callable[[PyTree], Array] | None = None,
) -> Callable:
    """Make the function (params, ascent_state, *arguments) -> (value or (value, aux), gradient, ascent_state).

    Serves every rule; the first state is `rule.init(params)`. All else is as in `value_and_grad`. With `microbatch`
    the state passes from each microbatch to the next.
    """
    if isinstance(rule.rho, Real) and not 0 <= rule.rho < math.inf:
        raise ValueError(f"rho={rule.rho}: expected a finite number >= 0 (0 is the base optimizer).")
    _check_count("microbatch", 1 if microbatch is None else microbatch, "None for the whole batch")
    _check_count("accumulation_steps", accumulation_steps, "1 for the whole batch at once")

    differentiate = jax.value_and_grad(loss_fn, has_aux=has_aux)
    if accumulation_steps > 1:
        differentiate = pieces.accumulated(differentiate, accumulation_steps, weigh)
    step = _ascended(differentiate, rule)
    return step if microbatch is None else pieces.in_microbatches(step, microbatch, weigh)


def _ascended(differentiate: Callable, rule: AscentRule) -> Callable:
    """Turn a gradient function into the rule's: clean pass, perturbation, second pass."""

    def step(params, state, *arguments, **keywords):
        value, clean = differentiate(params, *arguments, **keywords)
        if isinstance(rule.rho, Real) and rule.rho == 0:
            return value, clean, state
        perturbation, new_state = rule.perturb(clean, params, state, rule.rho)

        def ascend():
            return differentiate(trees.add(params, perturbation), *arguments, **keywords)[1]

        perturbed = ascend() if rule.is_due is None else jax.lax.cond(rule.is_due(state), ascend, lambda: clean)
        gradient, new_state = rule.combine(clean, perturbed, params, new_state)
        return value, gradient, new_state

    return step


def _check_count(name: str, value: int, otherwise: str) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r}: expected an integer >= 1, or {otherwise}.")
