"""What a training step reads and writes."""

from typing import NamedTuple

from flatwide.types import Array, PyTree


class State(NamedTuple):
    """Everything that a step changes, and the mask that it must keep: what a checkpoint holds."""

    step: Array  # int32, steps taken
    params: PyTree
    stats: PyTree  # the model's own state, such as batch-norm averages
    optimizer: PyTree
    ascent: PyTree  # state of the SAM variant; () for the stateless ones
    mask: PyTree | None  # None without pruning
    source: PyTree = ()  # what the plan of the batches remembers, such as games that are being played
    average: PyTree = ()  # params and stats averaged along training, as in `averaging`; () where nothing is averaged

    def averaged(self) -> "State":
        """Return the state whose network is the average, to be scored."""
        return self._replace(params=self.average["params"], stats=self.average["stats"])


class Values(NamedTuple):
    """Scalars that may differ between runs of one compiled program; all are traced."""

    rho: Array
    learning_rate: Array
    weight_decay: Array
    seed: Array  # uint32; streams of dropout, augmentation and data order fold from it
