"""What is disturbed: a command each, small enough for many trials, with all that a user's has."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_SMALL = ("--config.num_neurons=8", "--config.checkpoint_every_seconds=0.1", "--config.measure_epochs=(0,100)")
# Long enough that most kills come while it trains, and not while it starts.
_RUN = (*_SMALL, "--config.num_epochs=1000")
_STUDY = (
    *_SMALL,
    "--config.num_epochs=300",
    "--config.study.axes.rho=(0.0,0.1)",
    "--config.study.axes.seed=(0,1)",
    "--config.study.workers=2",
)
_MEASURED = "--config.measurements=gradient"


class Subject(NamedTuple):
    """A command.

    arguments: of a work directory, what follows `python main.py`. prepare: makes that work directory as it is before.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    prepare: Callable[[Path], None]

    @property
    def trains(self) -> bool:
        """Whether it writes evaluations."""
        return self.arguments(Path())[0].startswith("--workdir")

    def start(self, workdir: Path, output: Path) -> subprocess.Popen:
        """Start the command in a session of its own, so that a kill reaches it alone or with all its workers."""
        with output.open("w") as file:
            command = [sys.executable, str(ROOT / "main.py"), *self.arguments(workdir)]
            return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)


def subjects(root: Path) -> list[Subject]:
    """List the commands; Ray's where it is installed. Those of trained runs begin with a copy of a study in `root`."""

    def trains(name: str, *flags: str) -> Subject:
        config = f"--config={ROOT}/configs/digits_mlp.py"
        return Subject(name, lambda workdir: [f"--workdir={workdir}", config, *flags], lambda workdir: workdir.mkdir())

    study = trains("study", *_STUDY, _MEASURED)

    def trained(workdir: Path) -> None:
        source = root / "trained"
        if not source.exists():
            source.mkdir()
            study_alone = trains("trained", *_STUDY, _MEASURED)
            if study_alone.start(source, root / "trained.log").wait() != 0:
                sys.exit((root / "trained.log").read_text())
        shutil.copytree(source, workdir)

    every = [
        trains("run", *_RUN, _MEASURED),
        study,
        Subject("measure", lambda workdir: ["measure", str(workdir), "--measurements=spectrum"], trained),
        Subject("report", lambda workdir: ["report", str(workdir), "--formats=svg,latex"], trained),
    ]
    has_ray = importlib.util.find_spec("ray") is not None
    return every + ([trains("ray", *_STUDY, "--config.study.executor=ray")] if has_ray else [])
