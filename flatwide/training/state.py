"""The state and the scalar arguments of a training step."""

from typing import NamedTuple

from flatwide.types import Array, PyTree


class State(NamedTuple):
    """Everything that a step changes, and the mask, which it does not: the content of a checkpoint."""

    step: Array  # int32, steps taken
    params: PyTree
    stats: PyTree  # the model's own state, such as batch-norm averages
    optimizer: PyTree
    ascent: PyTree  # state of the SAM variant; () for the stateless ones
    mask: PyTree | None  # None without pruning
    source: PyTree = ()  # state of the plan of batches, such as games under way
    average: PyTree = ()  # averaged params and stats, as in `averaging`; () without averaging

    def averaged(self) -> "State":
        """Return the state with the averaged network, for evaluation."""
        return self._replace(params=self.average["params"], stats=self.average["stats"])


class Values(NamedTuple):
    """Scalars that may differ between runs of one compiled program; all are traced."""

    rho: Array
    learning_rate: Array
    weight_decay: Array
    seed: Array  # uint32; the keys of dropout, augmentation and data order derive from it
