"""Processor time and memory of a work directory with up to a hundred thousand finished runs.

Run:     python benchmarks/many_runs.py [--runs=100000] [--workdir=DIR]   (100,000: 20 minutes, 2.5 GB of disk)
Makes:   finished runs of a study of widths x rho x seeds x label noise, through the writers that training uses, with
         synthetic results and 20 evaluations each, and a quarter as many. They stay in --workdir if given.
Prints:  for both: seconds of the processor, imports included, and peak memory, each in its own process, of
           table     rebuilding results.csv from the run directories           (must be < 90 s per 100,000 runs)
           rewrite   rebuilding it in a process that has done so before, once 100 runs have changed
           dry_run   what --dry_run prints of the study, whose runs are done   (must be < 60 s per 100,000 runs)
           report    writing report.html, summary.csv and figures
         the size of the page, and by how much the larger number takes more per run than the smaller one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMITS = {"table": 90.0, "rewrite": None, "dry_run": 60.0, "report": None}  # seconds per 100,000 runs
RHOS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
WIDTHS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
NOISES = (0.0, 0.2, 0.4, 0.6, 0.8)


def study(num_runs: int) -> dict:
    """Make a config whose study has that many runs: some seeds of each width, rho and label noise."""
    from flatwide.config import default, plain

    seeds = max(1, num_runs // (len(RHOS) * len(WIDTHS) * len(NOISES)))
    axes = {"num_neurons": tuple((width,) for width in WIDTHS), "rho": RHOS, "label_noise": NOISES}
    config = plain(default())
    config |= {"learning_rate": 0.05, "batch_size": 32, "num_epochs": 20, "threads": 1}
    return config | {"study": {"axes": axes | {"seed": tuple(range(seeds))}}}


def make(workdir: Path, num_runs: int) -> int:
    """Write the files of every run of the study; return their number."""
    import numpy as np

    from flatwide.runs.identity import locate
    from flatwide.study import plan

    planned = plan.expand(study(num_runs)).runs
    random = np.random.default_rng(0)
    os.fsync = lambda descriptor: None  # nothing here has to survive a power failure
    for run in planned:
        config = run.config
        directory, identity = locate(config, workdir)
        if directory.status() == "finished":
            continue
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.write_config(config, identity=identity)
        (width,), rho = config["num_neurons"], config["rho"]
        accuracy = 0.9 - config["label_noise"] * (0.3 - 0.05 * np.log2(width) * min(rho, 0.3)) + 0.01 * random.normal()
        directory.append_metrics(
            *(
                {"step": 46 * epoch, "epoch": float(epoch), "running_train_loss": 2 / epoch, "train_loss": None}
                | {"test_loss": 1 / epoch, "test_metric": accuracy - 0.3 / epoch}
                for epoch in range(1, 21)
            )
        )
        size = 75 * width + 10
        directory.write_result(
            {"status": "finished", "num_params": size, "num_nonzero_params": size, "epochs": 20.0, "steps": 920}
            | {"seconds": 0.3, "metric_name": "accuracy", "higher_is_better": True, "train_loss": 0.1}
            | {"train_metric": 1 - config["label_noise"] / 2, "test_loss": 0.4, "test_metric": accuracy}
            | {"test_metric_best": accuracy + 0.01, "best_epoch": 12.0, "device": "cpu", "num_devices": 1, "threads": 1}
            | {"x64": False, "versions": {"python": "3.11.7", "jax": "0.10.2", "flatwide": "0.1.0"}}
            | {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:01+00:00"}
        )
    return len(planned)


def table(workdir: Path, num_runs: int) -> float:
    """Rebuild the table."""
    from flatwide.runs.table import write_results

    write_results(workdir)
    return time.process_time()


def rewrite(workdir: Path, num_runs: int) -> float:
    """Rebuild the table again, after some files have changed."""
    from flatwide.runs.directory import run_directories
    from flatwide.runs.table import write_results

    write_results(workdir)
    for run in run_directories(workdir)[:100]:
        run.metrics_file.touch()
    began = time.process_time()
    write_results(workdir)
    return time.process_time() - began


def report(workdir: Path, num_runs: int) -> float:
    """Write the report and its figures."""
    from flatwide import report

    report.write(workdir)
    return time.process_time()


def dry_run(workdir: Path, num_runs: int) -> float:
    """Plan the study and look up every run."""
    from flatwide.study import command

    text = command.dry_run(study(num_runs), workdir)
    assert ", 0 to do" in text, text
    return time.process_time()


def measure(task: str, workdir: Path, num_runs: int) -> tuple[float, float]:
    """Run a task in a separate process; return its seconds of the processor, imports included, and peak MB."""
    command = [sys.executable, __file__, f"--task={task}", f"--workdir={workdir}", f"--runs={num_runs}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{task} failed:\n{done.stderr}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main(folder: Path, num_runs: int) -> bool:
    """Make the runs, measure, print; return whether every limit holds."""
    import jax

    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; disk cache warm: the runs were just written")
    fine, taken = True, {}
    for number in (num_runs // 4, num_runs):
        workdir = folder / f"runs_{number}"
        made, _ = measure("make", workdir, number)  # in a process of its own, whose memory a child would inherit
        print(f"{made:,} runs")
        for task, limit in LIMITS.items():
            seconds, peak = measure(task, workdir, number)
            taken[task, number] = seconds, peak
            is_within = limit is None or seconds < limit * made / 100_000
            fine &= is_within or number < num_runs  # imports and compiling weigh more in fewer runs
            verdict = "" if limit is None else f"{'<' if is_within else 'NOT <'} {limit * made / 100_000:.1f} s"
            print(f"  {task:7s} {seconds:6.1f} s of CPU  {peak:6.0f} MB  {verdict}", flush=True)
        print(f"  page    {(workdir / 'report.html').stat().st_size / 1e6:6.1f} MB")
    for task in LIMITS:
        (few, few_peak), (many, many_peak) = taken[task, num_runs // 4], taken[task, num_runs]
        print(f"  {task:7s} 4 times the runs: {many / few:.2f} times the time, {many_peak / few_peak:.2f} the memory")
    return fine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--task", choices=["make", *LIMITS], help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.task:
        import resource

        tasks = {"make": make, "table": table, "rewrite": rewrite, "dry_run": dry_run, "report": report}
        seconds = tasks[flags.task](flags.workdir, flags.runs)
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
    elif flags.workdir:
        sys.exit(0 if main(flags.workdir, flags.runs) else 1)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            sys.exit(0 if main(Path(temporary), flags.runs) else 1)
