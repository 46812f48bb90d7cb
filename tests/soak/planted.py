"""Plant faults into copies of the package, one at a time, and print how long the soak takes to find each.

    python tests/soak/planted.py [--seconds=900] [--seed=0] [--only=WORDS]

Exit codes: 0 the soak finds all of them, 1 it does not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

from mutant import Mutant, find  # noqa: E402

_COPIED = ("flatwide", "configs", "tests/soak")
FAULTS = (
    Mutant(
        "a checkpoint's checksum is ignored",
        "if _digest(file, size - _DIGEST_BYTES) != file.read():",
        "if not _digest(file, size - _DIGEST_BYTES):",
        (),
    ),
    Mutant(
        "resumption skips a step",
        "return newest.tree, memory, rows.Digest(content)",
        "return newest.tree._replace(step=newest.tree.step + 1), memory, rows.Digest(content)",
        (),
    ),
    Mutant(
        "damaged runs are dropped from the table",
        'return Reading({"run": run.name, "status": "damaged", "problem": str(error)})',
        "return Reading({})",
        (),
    ),
    Mutant(
        "a measurement's checksum is ignored",
        "found = _checksum_fault(content, is_required=is_unsealed and not self.is_earlier)",
        "found = _checksum_fault(content, is_required=False) if path.parent == self.path else ''",
        (),
    ),
)


def main() -> int:
    """Try the soak on each fault; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", default="900")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", default="")
    flags = parser.parse_args()
    faults = [fault for fault in FAULTS if flags.only in fault.what]
    codes = [_try(fault, ["--seconds", flags.seconds, "--seed", flags.seed]) for fault in faults]
    return 0 if all(codes) else 1


def _try(fault: Mutant, arguments: list[str]) -> int:
    """Return the exit code of the soak on a copy of the package with a fault: 1 if it finds it."""
    with tempfile.TemporaryDirectory(prefix="flatwide-planted-") as folder:
        for name in _COPIED:
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "main.py", folder)
        path = find(fault.old, Path(folder))
        path.write_text(path.read_text().replace(fault.old, fault.new))
        command = [sys.executable, "tests/soak", "--until_failure", "--workdir", f"{folder}/w", *arguments]
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": folder}, capture_output=True, text=True
        )
        lines = [line for line in done.stdout.splitlines() if "FAILED" in line or line.startswith("tried")]
        # Without a line of what failed, it is the soak that broke.
        verdict = {0: "NOT FOUND", 1: "found"}.get(done.returncode if lines else -1, "UNCLEAR")
        print(f"{verdict} after {time.monotonic() - began:.0f} s: {fault.what}", flush=True)
        print("\n".join(f"    {line}" for line in lines or [done.stderr[-2000:]]), flush=True)
    return done.returncode if verdict == "found" else 0


if __name__ == "__main__":
    sys.exit(main())
