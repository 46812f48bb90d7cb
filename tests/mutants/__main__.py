"""Break the package in one place at a time, and list the breaks that no test notices: `make mutants`.

Each break is applied to a copy of the tree, and only the tests that should notice it run there. What is
broken is wiring: such a mistake changes results and raises no error.
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import recording
import training
from mutant import ROOT, Mutant, find

MUTANTS = (*training.MUTANTS, *recording.MUTANTS)
COPIED = ("flatwide", "tests", "configs", "main.py", "pyproject.toml")
TIMEOUT = 900.0  # seconds; a break that makes a test wait for ever is noticed too


class Copy:
    """A copy of the tree, for one break at a time."""

    def __init__(self, folder: Path, compiled: Path):
        self.root = folder
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, folder / name)
        self.environment = os.environ | {"PYTHONPATH": str(folder), "JAX_COMPILATION_CACHE_DIR": str(compiled)}
        self.written = int(time.time())

    def test(self, tests: Iterable[str]) -> tuple[int, str]:
        """Run tests up to the first failure; the exit code of pytest, and its output."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(
                command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            return 1, f"no end after {TIMEOUT:g} s"
        return done.returncode, done.stdout + done.stderr

    def write(self, path: Path, text: str) -> None:
        """Write a file with a new second of modification: Python judges byte code by that second and the size."""
        path.write_text(text)
        self.written += 1
        os.utime(path, (self.written, self.written))

    def judge(self, mutant: Mutant) -> str:
        """Apply a break, run its tests and undo it: "noticed", "SURVIVED" or "UNCLEAR", where no test could run."""
        path = find(mutant.old, self.root)
        text = path.read_text()
        try:
            self.write(path, text.replace(mutant.old, mutant.new))
            code, output = self.test(mutant.tests)
        finally:
            self.write(path, text)
        if code in (0, 1):
            return ("SURVIVED", "noticed")[code]
        print(output)
        return "UNCLEAR"


def judge_all(mutants: Iterable[Mutant], workers: int) -> list[str]:
    """Judge each break in one of as many copies as there are workers."""
    copies: queue.Queue[Copy] = queue.Queue()
    with tempfile.TemporaryDirectory(prefix="flatwide-mutants-") as name:
        for number in range(workers):
            (folder := Path(name) / str(number)).mkdir()
            copies.put(Copy(folder, Path(name) / "compiled"))

        def judge(mutant: Mutant) -> str:
            copy, began = copies.get(), time.monotonic()
            try:
                verdict = copy.judge(mutant)
            finally:
                copies.put(copy)
            where = find(mutant.old).relative_to(ROOT)
            print(f"{verdict:9} {time.monotonic() - began:5.0f} s  {where}: {mutant.what}", flush=True)
            return verdict

        check_unbroken(copies.queue[0], mutants)
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(judge, mutants))


def check_unbroken(copy: Copy, mutants: Iterable[Mutant]) -> None:
    """Check that the tests pass without a break, on the copy: else their failures mean nothing.

    Raises: SystemExit with the output of pytest if they do not.
    """
    code, output = copy.test(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    if code:
        raise SystemExit(f"{output}\nThe tests fail without a break.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="how many breaks are tried at a time")
    parser.add_argument("--only", default="", help="try the breaks whose description contains this text")
    flags = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if flags.only in mutant.what]
    verdicts = judge_all(mutants, flags.workers)
    noticed = verdicts.count("noticed")
    print(f"{noticed} of {len(mutants)} breaks noticed")
    return 0 if noticed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
