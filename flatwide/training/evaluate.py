"""Score every example of a split exactly once, whatever the batch size or the number of devices."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees, workloads
from flatwide.data import Resident
from flatwide.training.devices import Sharding, copy_to_all, count, keep_split, split_over_all
from flatwide.training.state import State
from flatwide.types import Split
from flatwide.workloads import Scores, Workload


class Interrupted(Exception):
    """The evaluation was asked to stop before its end."""


class Evaluation(NamedTuple):
    """The loss and the metric of a split, in natural units (an accuracy is a fraction)."""

    loss: float
    metric: float


def make_evaluate(
    workload: Workload,
    split: Split,
    *,
    batch_size: int,
    num_batches: int | None = None,
    sharding: Sharding = None,
    interrupt: Callable[[], bool] = lambda: False,
) -> Callable[[State], Evaluation]:
    """Build state -> evaluation of a split, in evaluation mode and without augmentation.

    Args:
      batch_size: examples at a time; it changes memory and speed only.
      num_batches: score only the first of the batches; None for the whole split.
      interrupt: asked after each batch of a split that streams; once it says yes, `Interrupted` is raised.
    """
    num_scored = split.num_examples if num_batches is None else min(split.num_examples, num_batches * batch_size)
    batch_size = -(-min(batch_size, num_scored) // count(sharding)) * count(sharding)
    if isinstance(split, Resident):
        scores_of = _resident_scores(workload, split, num_scored=num_scored, batch_size=batch_size, sharding=sharding)
    else:
        scores_of = _streamed_scores(
            workload, split, num_scored=num_scored, batch_size=batch_size, sharding=sharding, interrupt=interrupt
        )

    def evaluate(state: State) -> Evaluation:
        return summarize(workload, scores_of(state))

    return evaluate


def summarize(workload: Workload, scores: Scores) -> Evaluation:
    """Reduce the scores of every example to the mean loss and the metric, in float64."""
    weights = np.asarray(scores.weights, np.float64)
    total = float(np.sum(np.asarray(scores.losses, np.float64)))
    loss = total / float(np.sum(weights)) if np.sum(weights) > 0 else 0.0
    return Evaluation(loss, float(workload.objective.metric(scores.predictions, weights)))


def score_batch(workload: Workload, state: State, batch) -> Scores:
    """Score one raw batch in evaluation mode."""
    batch = workload.prepare(batch, None, train=False)
    params = trees.apply_mask(state.params, state.mask)
    return workloads.score(workload, params, state.stats, batch, train=False, key=None)[0]


def _resident_scores(workload: Workload, split: Resident, *, num_scored: int, batch_size: int, sharding: Sharding):
    run = compiled_scores(workload, num_scored=num_scored, batch_size=batch_size, sharding=sharding)
    arrays = copy_to_all(jax.tree.map(lambda array: array[:num_scored], split.arrays), sharding)
    return lambda state: jax.device_get(run(state, arrays))


@functools.lru_cache(maxsize=64)
def compiled_scores(workload: Workload, *, num_scored: int, batch_size: int, sharding: Sharding):
    """Compile `run(state, arrays) -> scores` of the first `num_scored` examples."""

    def run(state: State, arrays) -> Scores:
        return resident_scores(workload, state, arrays, num_scored=num_scored, batch_size=batch_size, sharding=sharding)

    return jax.jit(run)


def resident_scores(
    workload: Workload, state: State, arrays, *, num_scored: int, batch_size: int, sharding: Sharding = None
) -> Scores:
    """Trace the scores of the first `num_scored` examples."""
    num_batches = -(-num_scored // batch_size)
    # The last batch is completed with examples that were scored already; their second scores are cut off.
    index = jnp.arange(num_batches * batch_size).reshape(num_batches, batch_size) % num_scored

    def one(chosen):
        batch = jax.tree.map(lambda array: array[chosen], arrays)
        return score_batch(workload, state, keep_split(batch, sharding))

    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_scored], jax.lax.map(one, index))


def _streamed_scores(
    workload: Workload,
    split: Split,
    *,
    num_scored: int,
    batch_size: int,
    sharding: Sharding,
    interrupt: Callable[[], bool],
):
    compiled = jax.jit(lambda state, batch: score_batch(workload, state, batch))

    def scores_of(state: State) -> Scores:
        parts = []
        order = np.resize(np.arange(num_scored), -(-num_scored // batch_size) * batch_size)
        for batch in split.batches(batch_size, order=order, seed=0, epoch=0, train=False):
            if interrupt():
                raise Interrupted
            parts.append(jax.device_get(compiled(state, split_over_all(batch, sharding))))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_scored], *parts)

    return scores_of
