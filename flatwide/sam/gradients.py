"""The two passes of SAM: a clean gradient, the ascent, and the gradient for the optimizer."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flatwide import registry, trees
from flatwide.sam import pieces
from flatwide.sam.rules import AscentRule, checked_radius
from flatwide.types import Array, PyTree


class SplitLoss(NamedTuple):
    """A loss function in two parts, which is called as one and then returns (loss, aux): use it with `has_aux`.

    outputs: (params, *arguments) -> (outputs, aux), with outputs a pytree of floating-point arrays.
    criterion: (outputs, *arguments) -> mean loss, of the same arguments.
    """

    outputs: Callable
    criterion: Callable

    def __call__(self, params: PyTree, *arguments, **keywords) -> tuple[Array, PyTree]:
        outputs, aux = self.outputs(params, *arguments, **keywords)
        return self.criterion(outputs, *arguments, **keywords), aux


def value_and_grad(
    loss_fn: Callable,
    rule: AscentRule,
    *,
    has_aux: bool = False,
    microbatch: int | None = None,
    accumulation_steps: int = 1,
    weigh: Callable[[PyTree], Array] | None = None,
    skip_at_zero: bool = False,
    sharding: jax.sharding.NamedSharding | None = None,
) -> Callable:
    """Build the counterpart of `jax.value_and_grad(loss_fn, has_aux=has_aux)` for a rule without state.

    Value and aux are those of the first, clean pass; both passes get the same arguments, hence the same dropout key. A
    rule that needs no clean gradient has one pass, at the perturbed parameters, whose value and aux are returned.

    Args:
      loss_fn: (params, *arguments) -> mean loss, or (mean loss, aux) with `has_aux`. With pieces (below) the first
        argument is the batch, a pytree of arrays whose leading axes are the B examples.
        It may be a `SplitLoss`, which `functional` needs.
      rule: such as `normalized(0.05)`.
      microbatch: m examples that share a perturbation; B = n m. Rows are taken in order, m at a time, each group is
        perturbed by its own gradient, and the n results are averaged. Memory is that of one microbatch. None: the whole
        batch.
      accumulation_steps: k pieces of the examples that share a perturbation, to save memory: one sweep for the clean
        gradient, one perturbation, a second sweep.
      weigh: weight of a piece in these averages, such as its number of real tokens, so that the mean over all items is
        exact; pieces of weight 0 are ignored, and if all weights are 0 the result is 0. None: equal weights.
      skip_at_zero: if a traced rho is 0, skip the ascent at run time and keep the rule's state, so that a step at rho 0
        costs one gradient. Under `vmap` both branches are computed and nothing is saved. A rule of one pass has nothing
        to skip: its state includes the gradients of these steps as well.
      sharding: of the batch's rows, over one axis of a mesh. Where the number of microbatches divides by that of the
        devices and the rule has no state, each device takes whole microbatches, with a copy of the parameters. None:
        the compiler divides the work.
    Returns: a function of `loss_fn`'s arguments that returns (value, gradient), or ((value, aux), gradient).
      With pieces, each leaf of aux is the weighted mean over the pieces, and PRNG keys (`jax.random.key`) among the
      arguments after the batch are folded with the number of the piece, so that each piece has its own dropout mask.
    Raises: ValueError if an option is out of range, the batch cannot be divided this way, an aux leaf is not floating
      point, the rule has a state, or it needs a `SplitLoss` and gets another loss.
    Cost: 2 gradients of the batch; 1 if rho is the Python number 0 or the rule needs no clean gradient.
    """
    step = stateful_value_and_grad(
        loss_fn,
        rule,
        has_aux=has_aux,
        microbatch=microbatch,
        accumulation_steps=accumulation_steps,
        weigh=weigh,
        skip_at_zero=skip_at_zero,
        sharding=sharding,
    )

    # Keywords are passed to the loss, as by jax.value_and_grad.
    def sam_value_and_grad(params, *arguments, **keywords):
        state = rule.init(params)
        if jax.tree.leaves(state):
            raise ValueError(
                "rule: expected an ascent rule without a state; use sam.stateful_value_and_grad, which takes the "
                "state of this rule and returns the next one."
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
    skip_at_zero: bool = False,
    sharding: jax.sharding.NamedSharding | None = None,
) -> Callable:
    """Build a function (params, ascent_state, *arguments) -> (value or (value, aux), gradient, ascent_state).

    For every rule; the first state is `rule.init(params)`. Everything else is as in `value_and_grad`. With `microbatch`
    the state passes from each microbatch to the next.
    """
    if not isinstance(rule, AscentRule):
        raise ValueError(f"rule={registry.shown(rule)}: expected an ascent rule, such as sam.normalized(0.05).")
    checked_radius(rule.rho)
    _check_count("microbatch", 1 if microbatch is None else microbatch, "None for the whole batch")
    _check_count("accumulation_steps", accumulation_steps, "1 for the whole batch at once")

    if rule.is_due is not None and not rule.needs_clean_gradient:
        raise ValueError(
            "rule: is_due with needs_clean_gradient=False; expected one of the two, since there is one pass."
        )

    def derivative(function: Callable) -> Callable:
        whole = jax.value_and_grad(function, has_aux=has_aux)
        return whole if accumulation_steps == 1 else pieces.accumulated(whole, accumulation_steps, weigh)

    kept = None
    if rule.keeps_criterion:
        if not (isinstance(loss_fn, SplitLoss) and has_aux):
            raise ValueError(
                "rule: it differentiates outputs and criterion at different points, but this loss is one function; "
                "give sam.SplitLoss(outputs, criterion) and has_aux=True."
            )
        kept = derivative(_with_clean_slopes(loss_fn))
    differentiate = derivative(loss_fn)
    if rule.needs_clean_gradient:
        step = _two_passes(differentiate, kept, rule, skip_at_zero)
    else:
        step = _one_pass(differentiate, rule)
    return step if microbatch is None else pieces.in_microbatches(step, microbatch, weigh, sharding)


def _is_base(rule: AscentRule) -> bool:
    return isinstance(rule.rho, Real) and float(rule.rho) == 0


def _with_clean_slopes(loss: SplitLoss) -> Callable:
    """Replace the criterion by its linearization at the outputs of other parameters, which are a keyword."""

    def linear(params, *arguments, clean_params, **keywords):
        # The compiler merges these outputs with those of the clean pass.
        clean, _ = loss.outputs(clean_params, *arguments, **keywords)
        slopes = jax.grad(loss.criterion)(clean, *arguments, **keywords)
        outputs, aux = loss.outputs(params, *arguments, **keywords)
        return sum(map(jnp.vdot, jax.tree.leaves(slopes), jax.tree.leaves(outputs))), aux

    return linear


def _two_passes(differentiate: Callable, kept: Callable | None, rule: AscentRule, skip_at_zero: bool) -> Callable:
    """Build the step of a rule with two passes; `kept` is the second of a rule that keeps the criterion."""

    def step(params, state, *arguments, **keywords):
        value, clean = differentiate(params, *arguments, **keywords)
        if _is_base(rule):
            return value, clean, state

        def ascend():
            perturbation, new_state = rule.perturb(clean, params, state, rule.rho)

            def second_pass():
                perturbed = trees.add(params, perturbation)
                if kept is not None:
                    return kept(perturbed, *arguments, clean_params=params, **keywords)[1]
                return differentiate(perturbed, *arguments, **keywords)[1]

            if rule.is_due is None:
                perturbed = second_pass()
            else:
                perturbed = jax.lax.cond(rule.is_due(state), second_pass, lambda: clean)
            return rule.combine(clean, perturbed, params, new_state)

        if not skip_at_zero:
            return value, *ascend()
        return value, *jax.lax.cond(rule.rho > 0, ascend, lambda: (clean, state))

    return step


def _one_pass(differentiate: Callable, rule: AscentRule) -> Callable:
    """Build the step of a rule that perturbs by its state, with one pass at the perturbed point."""

    def step(params, state, *arguments, **keywords):
        if _is_base(rule):
            return *differentiate(params, *arguments, **keywords), state
        perturbation, new_state = rule.perturb(None, params, state, rule.rho)
        value, perturbed = differentiate(trees.add(params, perturbation), *arguments, **keywords)
        gradient, new_state = rule.combine(None, perturbed, params, new_state)
        return value, gradient, new_state

    return step


def _check_count(name: str, value: int, alternative: str) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r}: expected an integer >= 1, or {alternative}.")
