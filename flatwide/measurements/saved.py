"""A finished run on the disk: its networks, the history of its losses, and the run that it is compared with."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from flatwide import config as configs
from flatwide.measurements.subject import Subject
from flatwide.runs import checkpoints, driver, recording
from flatwide.runs.directory import IDENTITY, RunDirectory
from flatwide.runs.experiment import Experiment
from flatwide.runs.load import final_state, rebuild
from flatwide.types import Batch, PyTree


class MeasurementError(RuntimeError):
    """Some measurements of a run failed; their tracebacks are in `measurements/error.txt` beside it."""


class WaitingError(MeasurementError):
    """A measurement compares a run with another one that is not finished yet: `waits_for` is its name."""

    def __init__(self, message: str, *, waits_for: str):
        super().__init__(message)
        self.waits_for = waits_for


class Saved(NamedTuple):
    """A finished run whose networks can be loaded.

    examples: network -> what it is measured on; a network that plays makes them itself.
    """

    directory: RunDirectory
    built: Experiment
    examples: Callable[[Mapping[str, PyTree] | None], Batch]

    def subject(self, epoch: int | None) -> Subject:
        """Load the network of a snapshot, or with None that of the end.

        Raises: ValueError if it was not kept or is damaged.
        """
        built, directory = self.built, self.directory
        if epoch is None:
            network, at = (
                recording.network(final_state(directory, built)),
                built.num_steps / built.steps_per_epoch,
            )
        else:
            path, at = directory.snapshot(epoch), float(epoch)
            if not path.exists():
                raise ValueError(recording.no_snapshot(path))
            identity = configs.digest(directory.read_config()[IDENTITY])
            network, _ = checkpoints.load(path, recording.network(built.state_shapes()), identity=identity)
        examples = self.examples(network)
        return Subject(built, network["params"], network["stats"], network["mask"], at, examples, self, epoch)

    @property
    def kept_epochs(self) -> list[int]:
        """List the epochs whose snapshots are there, ascending."""
        return sorted(
            int(path.stem.removeprefix("epoch-")) for path in self.directory.path.glob("snapshots/epoch-*.npz")
        )

    def base(self) -> "Saved | None":
        """Find the run of the same config with rho 0 in the same work directory; None where it diverged.

        Raises: WaitingError if it is not finished.
        """
        if configs.effective_rho(self.built.config) == 0:
            return self
        directory, _ = driver.locate({**self.built.config, "rho": 0.0}, self.directory.path.parent.parent)
        if (status := directory.status()) == "diverged":
            return None
        if status != "finished":
            raise WaitingError(
                f"{self.directory.path}: it is compared with its counterpart at rho 0, which is {status}: "
                f"{directory.path}. Train that one, then measure this one by the same command again.",
                waits_for=directory.name,
            )
        return Saved(directory, rebuild(directory), self.examples)
