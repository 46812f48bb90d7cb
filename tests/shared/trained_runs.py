"""What tests of single runs share: a small run with noise and validation, its directory, and a way to stop it."""

from flatwide import config as configs
from flatwide import runner
from flatwide.runs.identity import locate

FIELDS = {
    "num_neurons": (8,),
    "num_epochs": 4,
    "rho": 0.1,
    "label_noise": 0.2,
    "validation_fraction": 0.1,
    "checkpoint_every_seconds": 0.0,
}


def run(workdir, **fields):
    return runner.run(FIELDS | fields, workdir, quiet=True)


def directory_of(workdir, **fields):
    return locate(configs.resolve(FIELDS | fields), workdir)[0]


def without_times(result):
    """Leave out of a result what differs between two equal runs."""
    return {name: value for name, value in result.items() if name not in ("seconds", "started", "finished")}


class After:
    """A `should_stop` that returns True after a number of calls."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self):
        self.left -= 1
        return self.left < 0
