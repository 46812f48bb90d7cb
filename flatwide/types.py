"""The interfaces between packages: data, model, objective.

A batch is a dict of arrays (or of pytrees of arrays) with one leading axis of B examples. The model reads `inputs`, the
objective compares with `targets`; a workload may have more keys for its objective.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

PyTree = Any
Array = jax.Array
Batch = dict[str, Any]


class Model(NamedTuple):
    """A network as two pure functions.

    init(key) -> (params, stats): trainable parameters, and state that training updates without a gradient
      (batch-norm averages; an empty dict for most models).
    apply(params, stats, inputs, *, train, key) -> (outputs, stats): `key` may be None if nothing is random.
    restart(params, stats) -> stats: for a model whose `stats` store the initial weights: the same for other initial
      weights, such as pruned ones; None if it stores none.
    preactivations(params, stats, inputs) -> {layer: [B, ...]}: the inputs of each hidden ReLU, in evaluation mode; None
      if the model does not provide them.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[PyTree, PyTree]]
    restart: Callable[[PyTree, PyTree], PyTree] | None = None
    preactivations: Callable[[PyTree, PyTree, PyTree], dict[str, Array]] | None = None


class Objective(NamedTuple):
    """A loss to minimize and a metric to report.

    The loss of a batch is sum(losses) / sum(weights): `losses` [B] are totals over an example's scored items and
    `weights` [B] count those items: 1 for an image, a padded sentence's real tokens, the labels that a molecule has.

    losses(outputs, batch) -> [B]; weights(batch) -> [B];
    predictions(outputs, batch) -> pytree of [B, ...]: the input of the metric for each example;
    metric(predictions, weights) -> float: from the predictions [N, ...] and weights [N] of a whole split, in NumPy.
    """

    losses: Callable[[PyTree, Batch], Array]
    weights: Callable[[Batch], Array]
    predictions: Callable[[PyTree, Batch], PyTree]
    metric: Callable[[Any, np.ndarray], float]
    metric_name: str
    higher_is_better: bool


class Split(Protocol):
    """A split of a data set: held in memory (`data.Resident`) or read when needed (`data.Streamed`)."""

    @property
    def num_examples(self) -> int: ...

    @property
    def targets(self) -> np.ndarray: ...

    def take(self, indices: np.ndarray) -> "Split": ...

    def with_targets(self, targets: np.ndarray) -> "Split": ...

    def batches(
        self, batch_size: int, *, order: np.ndarray, seed: int, epoch: int, train: bool, first_batch: int = 0
    ) -> Iterator[Batch]: ...


class Info(NamedTuple):
    """Facts about a data set that are known before its examples are read."""

    num_train: int
    num_test: int
    input_shape: tuple[int, ...]  # of one example as the model takes it, without the batch axis
    num_outputs: int  # outputs of the model per example (or token): the number of classes, or of real targets
    is_streamed: bool = False  # read when needed, and not held in memory
    has_real_targets: bool = False  # regression targets, [num_outputs] each; else classes


@dataclass(frozen=True)
class Categories:
    """Integers in [0, num_values), such as words: used in `Dataset.example` instead of a `jax.ShapeDtypeStruct`.

    num_values: also the number of rows of their embedding.
    """

    shape: tuple[int, ...]
    num_values: int
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.int32))


@dataclass(frozen=True)
class Padding:
    """The padding with which examples of unequal size share one compiled program.

    Each is stored padded to the largest. A batch is cut to the smallest level that holds all its examples, and an epoch
    puts examples of similar size into one batch, so that little padding is computed.

    levels: ascending sizes; the last is that of the largest example.
    sizes: raw batch -> [B], the size of each example: words, nodes.
    cut: (raw batch, level) -> the same batch without the padding beyond that size.
    window: number of batches whose examples are sorted by size before they are split into batches, which are then
      shuffled; 1 makes each batch a uniform draw.
    """

    levels: tuple[int, ...]
    sizes: Callable[[Batch], Any]
    cut: Callable[[Batch, int], Batch]
    window: int = 1


class Dataset(NamedTuple):
    """A data set with its splits.

    prepare(batch, key, *, train) -> batch: runs on the device inside the compiled step: scales integers to floats,
      normalizes, augments when `train` (then `key` is a PRNG key). Float inputs are only augmented.
    example: the pytree of one prepared example's inputs, as `jax.ShapeDtypeStruct` or `Categories`, without the batch
      axis.
    fingerprint: a digest of the content, so that two different data sets can never share a run's identity.
    padding: for examples of unequal size; None if all have the same size.
    files: (name, content) of files that a run keeps beside its results, such as a trained tokenizer.
    """

    train: Split
    test: Split
    prepare: Callable[..., Batch]
    example: PyTree
    num_outputs: int
    fingerprint: str
    padding: Padding | None = None
    files: tuple[tuple[str, str], ...] = ()

    @property
    def has_real_targets(self) -> bool:
        """Whether targets are real numbers for regression, and not classes."""
        return bool(np.issubdtype(np.asarray(self.train.targets).dtype, np.floating))
