"""Evaluation of a split: every example is scored exactly once, whatever the batch size or number of devices."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees, workloads
from flatwide.training.devices import Sharding, keep_split, local_rows, split_over_all, to_host
from flatwide.training.state import State
from flatwide.types import Batch, Split
from flatwide.workloads import Scores, Workload


class Interrupted(Exception):
    """The evaluation was interrupted before its end."""


# scorer(workload, state, arrays) -> scores of a split; equal scorers share a program.
Scorer = Callable[[Workload, State, Batch], Scores]


class Evaluation(NamedTuple):
    """The loss and the metric of a split, in natural units (an accuracy is a fraction)."""

    loss: float
    metric: float


def streamed_scores(
    workload: Workload,
    split: Split,
    num_scored: int,
    *,
    batch_size: int,
    sharding: Sharding,
    interrupt: Callable[[], bool],
) -> Callable[[State], Scores]:
    """Build state -> scores of the first examples of a split that is read batch by batch; see `sources.evaluator`."""
    compiled, rows = jax.jit(functools.partial(score_batch, workload)), local_rows(batch_size, sharding)
    order = np.resize(np.arange(num_scored), (-(-num_scored // batch_size), batch_size))[:, rows].reshape(-1)

    def scores_of(state: State) -> Scores:
        parts = []
        for batch in split.batches(len(rows), order=order, seed=0, epoch=0, train=False):
            if interrupt():
                raise Interrupted
            parts.append(to_host(compiled(state, split_over_all(batch, sharding, num_rows=batch_size))))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_scored], *parts)

    return scores_of


def summarize(workload: Workload, scores: Scores) -> Evaluation:
    """Reduce the scores of every example to the mean loss and the metric, in float64."""
    weights = np.asarray(scores.weights, np.float64)
    total = float(np.sum(np.asarray(scores.losses, np.float64)))
    loss = total / float(np.sum(weights)) if np.sum(weights) > 0 else 0.0
    return Evaluation(loss, float(workload.objective.metric(scores.predictions, weights)))


def score_batch(workload: Workload, state: State, batch: Batch) -> Scores:
    """Score one raw batch in evaluation mode."""
    params = trees.apply_mask(state.params, state.mask)

    def scores_of(batch: Batch) -> Scores:
        batch = workload.prepare(batch, None, train=False)
        return workloads.score(workload, params, state.stats, batch, train=False, key=None)[0]

    return workloads.cut_to_fit(workload.padding, batch, scores_of)


class Pass(NamedTuple):
    """Score the first `num_scored` examples of a split's arrays once, inside a compiled program."""

    num_scored: int
    batch_size: int
    sharding: Sharding = None

    def __call__(self, workload: Workload, state: State, arrays: Batch) -> Scores:
        """Trace the scores, [num_scored, ...]."""
        padding, num_batches = workload.padding, -(-self.num_scored // self.batch_size)
        order = jnp.arange(self.num_scored)
        if padding is not None:  # by size, so that batches have little padding
            order = jnp.argsort(jnp.asarray(padding.sizes(arrays))[: self.num_scored])
        # The last batch is completed with examples that are scored already; their second scores are dropped.
        index = jnp.resize(order, (num_batches, self.batch_size))

        def score_chosen(chosen):
            batch = jax.tree.map(lambda array: array[chosen], arrays)
            return score_batch(workload, state, keep_split(batch, self.sharding))

        scores = jax.lax.map(score_chosen, index)
        scores = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: self.num_scored], scores)
        if padding is None:
            return scores
        return jax.tree.map(lambda leaf: leaf[jnp.argsort(order)], scores)


@functools.lru_cache(maxsize=64)
def compiled_scores(workload: Workload, scorer: Scorer):
    """Compile `run(state, arrays) -> scores`."""
    return jax.jit(functools.partial(scorer, workload))
