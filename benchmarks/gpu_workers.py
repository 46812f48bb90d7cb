"""One worker a GPU, on a host that has GPUs: what each worker sees, and how a study's time falls with their number.

Run:     python benchmarks/gpu_workers.py [--workers_per_gpu=1] [--runs=4]      (some minutes; needs NVIDIA GPUs)
Makes:   studies of an MLP on digits, `runs` for each worker, with one GPU (CUDA_VISIBLE_DEVICES) and with all.
Prints:  for both: workers, the devices that runs trained on, runs a minute, and whether all runs agree to the last bit
         with those on one GPU.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flatwide
from flatwide import machine

ROOT = Path(__file__).parents[1]
UNEQUAL = ["seconds", "started", "finished"]


def train(workdir: Path, gpus: tuple[str, ...], *, num_runs: int, workers_per_gpu: int) -> float:
    """Train a study on some GPUs in a separate process; return its seconds."""
    flags = ["--config=digits_mlp", "--config.num_neurons=(300,100)", "--config.num_epochs=50", "--config.rho=0.1"]
    flags += [f"--config.study.axes.seed=range({num_runs})", f"--config.study.workers_per_gpu={workers_per_gpu}"]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "main.py"), f"--workdir={workdir}", *flags],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def main(folder: Path, runs_per_worker: int, workers_per_gpu: int) -> bool:
    """Train on one GPU and on all, print both, and return whether the runs agree."""
    gpus = machine.gpus()
    if not gpus:
        sys.exit("no GPU: JAX finds none here (python main.py doctor says why)")
    print("; ".join(f"{facts.name}, driver {facts.driver}" for facts in machine.gpu_facts()))
    num_runs, tables = runs_per_worker * workers_per_gpu * len(gpus), []
    for used in (gpus[:1], gpus):
        workdir = folder / f"on_{len(used)}"
        train(workdir / "warm", used, num_runs=1, workers_per_gpu=1)  # compiles for both
        seconds = train(workdir, used, num_runs=num_runs, workers_per_gpu=workers_per_gpu)
        runs = flatwide.load(workdir)
        tables.append(runs.drop(columns=UNEQUAL).sort_values("run", ignore_index=True))
        trained_on = runs.groupby(["device", "num_devices"]).size().to_dict()
        speed = f"{60 * num_runs / seconds:.1f} runs a minute"
        print(f"{len(used)} GPU(s), {workers_per_gpu * len(used)} workers: {speed}, {trained_on}", flush=True)
    is_equal = tables[0].equals(tables[1])
    print("runs are", "equal to the last bit" if is_equal else "NOT equal")
    return is_equal


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers_per_gpu", type=int, default=1)
    parser.add_argument("--runs", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(0 if main(Path(temporary), given.runs, given.workers_per_gpu) else 1)
