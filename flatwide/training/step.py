"""One optimization step: clean gradient, ascent, perturbed gradient, descent."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flatwide import averaging, optimizers, sam, streams, trees, workloads
from flatwide.training.devices import Sharding, keep_sharded, keep_split
from flatwide.training.state import State, Values
from flatwide.types import Array, Batch
from flatwide.workloads import Workload

Metrics = dict[str, Array]
Step = Callable[[Values, State, Batch], tuple[State, Metrics]]


def make_step(
    workload: Workload,
    *,
    optimizer: optimizers.Optimizer,
    variant: Callable[[float | Array], sam.AscentRule],
    schedule: Callable[[Array], Array],
    one_pass: bool,
    microbatch: int | None = None,
    accumulation_steps: int = 1,
    sharding: Sharding = None,
    shard_parameters: bool = False,
    average: Callable[[Array], Array] | None = None,
    rho_schedule: Callable[[Array], Array] | None = None,
) -> Step:
    """Build the training step, the same for every workload.

    Args:
      workload: data preparation, model and objective.
      optimizer: turns the gradient at w (after SAM) into a direction.
      variant: rho -> ascent rule.
      schedule: step -> factor of the learning rate.
      one_pass: omit the ascent (rho = 0), so that a step costs one gradient.
      microbatch, accumulation_steps: as in `sam.value_and_grad`.
      sharding: of a batch over the devices; it divides the work and changes no result.
      shard_parameters: split large leaves of parameters, perturbation and state over the devices of `sharding`
        (`devices.split_axis`), instead of a copy on each.
      average: steps taken -> the rate at which the average follows the weights; None without averaging.
      rho_schedule: step -> factor of rho; steps with factor 0 are those of the base optimizer. None: always 1.
    Returns: step(values, state, batch) -> (state, metrics): `loss`, of the clean pass, or of the only pass; and
      `learning_rate`.
    Cost: two gradients; one if `one_pass`, where `rho_schedule` is 0, or for a rule that needs no clean gradient. Under
      `vmap` two whatever the schedule.
    """

    parameter_sharding = sharding if shard_parameters else None

    def step(values: Values, state: State, batch: Batch) -> tuple[State, Metrics]:
        augmentation = jax.random.fold_in(streams.key(values.seed, "augmentation"), state.step)
        dropout = jax.random.fold_in(streams.key(values.seed, "dropout"), state.step)

        def outputs_of(params, examples, stats, key):
            examples = keep_split(examples, sharding)
            params = trees.apply_mask(keep_sharded(params, parameter_sharding), state.mask)
            return workload.model.apply(params, stats, examples["inputs"], train=True, key=key)

        def criterion(outputs, examples, stats, key):
            del stats, key
            return workloads.criterion(workload.objective, outputs, keep_split(examples, sharding))

        rho = values.rho if rho_schedule is None else values.rho * rho_schedule(state.step)
        value_and_grad = sam.stateful_value_and_grad(
            sam.SplitLoss(outputs_of, criterion),
            variant(0 if one_pass else rho),
            has_aux=True,
            microbatch=microbatch,
            accumulation_steps=accumulation_steps,
            weigh=lambda examples: jnp.sum(workload.objective.weights(examples)),
            skip_at_zero=rho_schedule is not None,
            # Whole microbatches on each device would need whole parameters there.
            sharding=None if shard_parameters else sharding,
        )

        def gradient_of(batch: Batch):
            batch = workload.prepare(batch, augmentation, train=True)
            return value_and_grad(state.params, state.ascent, batch, state.stats, dropout)

        (loss, stats), gradient, ascent = workloads.cut_to_fit(workload.padding, batch, gradient_of)
        learning_rate = values.learning_rate * schedule(state.step)
        direction, optimizer_state = optimizer.update(gradient, state.optimizer, state.params, values.weight_decay)
        params = optimizers.apply(state.params, direction, learning_rate)
        new = State(
            step=state.step + 1,
            params=params,
            stats=stats,
            optimizer=optimizer_state,
            ascent=ascent,
            mask=state.mask,
            source=state.source,
        )
        if average is not None:
            new = new._replace(average=averaging.update(state.average, params, stats, average(new.step)))
        sharded = keep_sharded(new._replace(source=()), parameter_sharding)
        return sharded._replace(source=new.source), {"loss": loss, "learning_rate": learning_rate}

    return step
