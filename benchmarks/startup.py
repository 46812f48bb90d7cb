"""Time from the command to the first training step of `mnist_mlp`, by stage.

Run:     python benchmarks/startup.py
Prints:  seconds at which each stage was reached, with an empty compilation cache and with a warm one; the smallest of
         several starts, each in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

_CHILD = """
import sys, time
began = float(sys.argv[1])
marks = {"interpreter": time.time() - began}
from flatwide import config as configs
from flatwide import machine
machine.collect_garbage_rarely()
config = configs.load_file(sys.argv[2]) | {"dataset": sys.argv[3]}
config = configs.resolve(config)
marks["config resolved"] = time.time() - began
from flatwide.runs import jax_settings
from flatwide import experiment
from flatwide.runs.parts import load_dataset
marks["imports"] = time.time() - began
jax_settings.start(int(sys.argv[4]))
load_dataset(config)
marks["data"] = time.time() - began
built = experiment.build(config)
state = built.init()
marks["initial weights"] = time.time() - began
segment = built.segment()
state, _, _ = segment(built.values, state, 1)
marks["first step"] = time.time() - began
import json
print(json.dumps(marks))
"""


def start(threads: int, cache: str) -> dict[str, float]:
    """Start a process and return the seconds at which it reached each stage."""
    import time

    arguments = [str(time.time()), str(HERE.parent / "configs" / "mnist_mlp.py"), f"{HERE}/made_data.py:mnist_like"]
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    command = [sys.executable, "-c", _CHILD, *arguments, str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=5)
    flags = parser.parse_args()
    cold, warm = [], []
    for _ in range(flags.repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(start(flags.threads, cache))
            warm.append(start(flags.threads, cache))
    print(f"{flags.threads} threads, best of {flags.repeats} starts, seconds since the command was given")
    print(f"{'stage':>16}  cold  warm")
    for stage in cold[0]:
        print(f"{stage:>16}  {min(times[stage] for times in cold):4.2f}  {min(times[stage] for times in warm):4.2f}")


if __name__ == "__main__":
    main()
