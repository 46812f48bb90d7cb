"""Kill flatwide and damage its files at random, and compare what it leaves with an undisturbed run: `make soak`.

    python tests/soak [--seconds=600] [--seed=0] [--workdir=DIR] [--only=run,study,ray,measure,report]
                      [--until_failure]

Each trial gives a command a few times, disturbs it each time, and then lets it finish. It survives if no command shows
a traceback or hangs, `report` and the table of runs name each damaged file that they read while it is in place
(`damages.py`), and in the end every byte is that of an undisturbed run, times excluded (`contents.py`). The seed
decides what is tried; where in the program a kill arrives is up to the machine.
Exit codes: 0 all trials survived, 1 one did not: its work directory is kept, and its name is printed.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import contents
from damages import Damage, unnamed
from disturbances import Failure, disturbed, finish
from subjects import Subject, subjects


def main() -> int:
    """Try for as long as is asked; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--until_failure", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","))
    flags = parser.parse_args()
    root = flags.workdir or Path(tempfile.mkdtemp(prefix="flatwide-soak-"))
    root.mkdir(parents=True, exist_ok=True)
    deadline, choose, tally = time.monotonic() + flags.seconds, random.Random(flags.seed), Counter[str]()
    chosen = [subject for subject in subjects(root) if not flags.only or subject.name in flags.only]
    print(f"seed {flags.seed}, {', '.join(subject.name for subject in chosen)}, in {root}", flush=True)
    undisturbed = {subject.name: _undisturbed(subject, root) for subject in chosen}
    for number in range(10**9):
        if number > 0 and (time.monotonic() > deadline or (flags.until_failure and tally["failed"])):
            break
        subject = chosen[number % len(chosen)]
        tally += _trial(subject, root / f"trial-{number}", choose, *undisturbed[subject.name])
    return _report(tally)


def _undisturbed(subject: Subject, root: Path) -> tuple[contents.Contents, float]:
    """Return what an undisturbed command writes, and how long it takes."""
    workdir = root / f"undisturbed-{subject.name}"
    subject.prepare(workdir)
    began = time.monotonic()
    finish(subject, workdir, damages=[])
    seconds = time.monotonic() - began
    print(f"{subject.name}: undisturbed in {seconds:.0f} s", flush=True)
    return contents.read(workdir), seconds


def _trial(
    subject: Subject, workdir: Path, choose: random.Random, expected: contents.Contents, seconds: float
) -> Counter[str]:
    """Disturb a command one to three times, let it finish, and compare; return what to add to the counts."""
    subject.prepare(workdir)
    done: list[str] = []
    tally: Counter[str] = Counter(trials=1)
    damages: list[Damage] = []
    try:
        for _ in range(choose.randint(1, 3)):
            event, new = disturbed(subject, workdir, choose, seconds=seconds)
            done.append(", ".join([event, *map(str, new)]))
            tally["disturbances"] += 1
            tally[event.partition(" ")[0]] += 1
            damages += new
            tally["damaged files"] += len(new)
            if silent := unnamed(workdir, damages):
                raise Failure("; ".join(silent))
        tally["damages refused by name"] += finish(subject, workdir, damages=damages)
        differing = contents.differences(expected, contents.read(workdir))
    except Failure as failure:
        differing = [str(failure)]
    verdict = "the same to the last byte" if not differing else "FAILED: " + "; ".join(differing)
    print(f"{workdir.name} {subject.name}: {'; '.join(done)}: {verdict}", flush=True)
    if differing:
        return tally + Counter({"failed": 1})
    shutil.rmtree(workdir, ignore_errors=True)
    return tally + Counter({"survived": 1, f"of {subject.name}": 1})


def _report(tally: Counter[str]) -> int:
    """Print the counts; return the exit code."""
    print(f"tried {tally['trials']}, survived {tally['survived']}, with a difference or a fault {tally['failed']}")
    names = sorted(name for name in tally if name not in ("trials", "survived", "failed"))
    print(", ".join(f"{name}: {tally[name]}" for name in names))
    return 1 if tally["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
