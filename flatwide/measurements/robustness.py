"""The effect of small errors in the weights: noise and rounding to few bits."""

import functools
import operator

import jax
import numpy as np

from flatwide import measure, workloads
from flatwide.measurements.subject import Measured, Subject
from flatwide.types import Batch, Objective, PyTree
from flatwide.workloads import Scores, Workload


def robustness(
    subject: Subject,
    *,
    key: jax.Array,
    noise: tuple[float, ...] = (0.05, 0.1, 0.2),
    num_draws: int = 20,
    bits: tuple[int, ...] = (8, 4),
    num_resamples: int = 200,
    batch_size: int = 1000,
) -> Measured:
    """Measure the changes of loss and metric under errors in the weights.

    Args:
      noise: sizes of normal noise, relative to each tensor. num_draws: of each size.
      bits: of rounded kernels, with one spacing per tensor, and with one per channel.
      num_resamples: of the examples, for the errors of the changes by rounding.
      batch_size: examples in memory at once.
    Returns: loss and metric of the unchanged network; noise_<percent>_loss_rise and noise_<percent>_metric_change,
      means over the draws with their standard errors; rounded_<bits>_tensor_… and rounded_<bits>_channel_…, with
      bootstrap standard errors over the examples, which the clean and rounded network share. The metric of a game,
      which is not played again, is omitted.
    Cost: one pass over the examples each, about 70 in all; each recorded as a quarter of a Hessian-vector product.
    """
    objective = subject.built.workload.objective
    scores = functools.partial(scores_of, subject, batch_size)
    noise_key, resample_key = jax.random.split(key)
    clean = scores(subject.params)
    values, errors, num_passes = summary(objective, clean), {}, 1
    for index, size in enumerate(noise):
        keys = jax.random.split(jax.random.fold_in(noise_key, index), num_draws)
        drawn = [
            change(objective, clean, scores(measure.noisy_weights(subject.params, size=size, key=k, mask=subject.mask)))
            for k in keys
        ]
        for name in drawn[0]:
            changes = np.array([draw[name] for draw in drawn])
            values[f"noise_{round(100 * size)}_{name}"] = float(changes.mean())
            errors[f"noise_{round(100 * size)}_{name}"] = float(changes.std(ddof=1) / num_draws**0.5)
        num_passes += num_draws
    random = np.random.default_rng(np.asarray(jax.random.bits(resample_key, (4,), "uint32")))
    for count in bits:
        for kind in ("tensor", "channel"):
            rounded = scores(measure.rounded_weights(subject.params, bits=count, per_channel=kind == "channel"))
            spread = bootstrap(objective, clean, rounded, random, num_resamples)
            for name, value in change(objective, clean, rounded).items():
                values[f"rounded_{count}_{kind}_{name}"] = value
                errors[f"rounded_{count}_{kind}_{name}"] = spread[name]
            num_passes += 1
    return Measured(values, errors, cost=num_passes / 4)


def held_out_robustness(subject: Subject, *, key: jax.Array) -> Measured:
    """Measure `robustness` on as many test examples."""
    return robustness(subject.on_test_examples(subject.num_examples), key=key)


def averaged_robustness(subject: Subject, *, key: jax.Array) -> Measured:
    """Measure `held_out_robustness` of the average of a run's weights, of which only the last is saved.

    Raises: NotApplicableError for a run that did not average its weights, and for a snapshot.
    """
    return held_out_robustness(subject.averaged(), key=key)


def scores_of(subject: Subject, batch_size: int, params: PyTree) -> Scores:
    """Compute the scores of every example, as arrays on the host."""
    workload = subject.built.workload
    parts = [jax.device_get(_scores(workload, params, subject.stats, batch)) for batch in subject.batches(batch_size)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@functools.partial(jax.jit, static_argnames="workload")
def _scores(workload: Workload, params: PyTree, stats: PyTree, batch: Batch) -> Scores:
    return workloads.score(workload, params, stats, batch, train=False, key=None)[0]


def summary(objective: Objective, scores: Scores) -> dict[str, float]:
    """Return loss and metric; that of a game, which is not played again, is omitted."""
    values = {"loss": float(np.sum(scores.losses, dtype=np.float64) / np.sum(scores.weights, dtype=np.float64))}
    if objective.metric_name != "score":  # the scores of games do not depend on the perturbed weights
        values["metric"] = float(objective.metric(scores.predictions, np.asarray(scores.weights)))
    return values


def change(objective: Objective, clean: Scores, changed: Scores) -> dict[str, float]:
    """Return loss_rise and metric_change."""
    before, after = summary(objective, clean), summary(objective, changed)
    names = {"loss": "loss_rise", "metric": "metric_change"}
    return {names[name]: after[name] - before[name] for name in before}


def bootstrap(
    objective: Objective, clean: Scores, changed: Scores, random: np.random.Generator, num_resamples: int
) -> dict[str, float]:
    """Estimate the standard errors of the changes by resampling the examples with replacement."""
    total, resampled = len(clean.weights), []
    for _ in range(num_resamples):
        take = operator.itemgetter(random.integers(0, total, total))
        resampled.append(change(objective, jax.tree.map(take, clean), jax.tree.map(take, changed)))
    return {name: float(np.std([changes[name] for changes in resampled], ddof=1)) for name in resampled[0]}
