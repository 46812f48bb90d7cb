"""The share of training in the time of a study, and the benefit of shared programs and worker processes.

Run:   python benchmarks/study_throughput.py [--seeds=2] [--epochs=60]

The runs of the digits study, each way with a cache of compiled programs of its own, as on a new machine:
  as one study: one-thread workers, a core each, report included;
  as a plain loop of one-run training in one process, which shares programs too; also the seconds within runs by width;
  as separate `main.py` processes, one a core at a time: one of each program compiles it, the others read the cache;
  as one study with a single worker of as many threads as there are cores: what one-thread processes are worth;
  as a loop that forgets its programs after each run, but reads them from a warm cache: what sharing them is worth.
Before that, the share of time outside compiled training, in one process that has compiled its programs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "studies" / "digits_width.py"
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SAMPLE = 14

INSIDE = """
import functools, json, sys, time
import jax
from flatwide import runner
from flatwide.runs import build, start
from flatwide.study import plan
from flatwide.training import evaluate, segments, compiled_epochs

spent, original = [0.0], compiled_epochs._program

@functools.cache
def timed(program):
    def run(*inputs):
        started = time.monotonic()
        found = jax.block_until_ready(program.run(*inputs))
        spent[0] += time.monotonic() - started
        return found
    return compiled_epochs._Program(run)

def forget():
    drawn, compiled = (start.compiled_init, start.compiled_start), (evaluate.compiled_scores, segments.compiled_step)
    for cached in (original, build._program, *drawn, *compiled):
        cached.cache_clear()
    jax.clear_caches()

workdir, mode, first = sys.argv[1], sys.argv[2], int(sys.argv[4])
runs = plan.expand(json.loads(sys.argv[3])).runs[:first]
if mode == "measure":
    for run in {run.shape: run for run in runs}.values():
        runner.run(dict(run.config) | {"seed": 10**6}, workdir + "/warm", quiet=True, tensorboard=False)
    compiled_epochs._program = lambda *arguments, **options: timed(original(*arguments, **options))
started = time.monotonic()
for run in runs:
    if mode == "unshared":
        forget()
    runner.run(run.config, workdir, quiet=True, tensorboard=False)
print(json.dumps({"wall": time.monotonic() - started, "inside": spent[0], "runs": len(runs)}))
"""


def environment(folder: Path) -> dict[str, str]:
    """Return an environment with a separate cache of compiled programs."""
    return os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}


def in_process(values: str, folder: Path, *, mode: str, workdir: str = "", first: int = 10**9) -> dict:
    command = [sys.executable, "-c", INSIDE, str(folder / workdir), mode, values, str(first)]
    done = subprocess.run(command, env=environment(folder) | {"NPROC": "1"}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def command(folder: Path, flags: list[str]) -> float:
    """Run `main.py` in a folder; return its seconds."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *flags], env=environment(folder), check=True, cwd=folder, **QUIET
    )
    return time.monotonic() - started


def as_study(folder: Path, flags: list[str]) -> float:
    folder.mkdir()
    return command(folder, [f"--workdir={folder}", f"--config={CONFIG}", *flags])


def as_processes(configs: list[dict], folder: Path, *, at_a_time: int) -> float:
    """Train runs as separate commands, as a shell loop would; return the seconds."""
    folder.mkdir(exist_ok=True)
    single = ROOT / "configs" / "digits_mlp.py"
    started, running = time.monotonic(), []
    for config in configs:
        flags = [f"--config.{name}={value}" for name, value in config.items()]
        arguments = [sys.executable, str(ROOT / "main.py"), f"--workdir={folder}", f"--config={single}", *flags]
        running.append(subprocess.Popen(arguments, env=environment(folder) | {"NPROC": "1"}, **QUIET))
        if len(running) == at_a_time:
            running.pop(0).wait()
    for process in running:
        process.wait()
    return time.monotonic() - started


def seconds_by_width(folder: Path) -> pd.Series:
    """Add up the time that the runs of each width took."""
    import flatwide

    return flatwide.load(folder).groupby("num_params")["seconds"].sum()


def one_of_each_shape(runs: list, seed: int) -> list[dict]:
    """Return the flags of one run of each program, with a separate seed."""
    shapes = {run.shape: dict(run.config) for run in runs}
    return [{n: c[n] for n in ("num_neurons", "rho", "num_epochs")} | {"seed": seed} for c in shapes.values()]


def main(seeds: int, epochs: int) -> None:
    from flatwide import config as configs
    from flatwide.runs.table import write_results
    from flatwide.study import plan

    axes = {"seed": tuple(range(seeds))}
    values, _ = configs.override(configs.load_file(str(CONFIG)), [("num_epochs", str(epochs))])
    values["study"]["axes"] |= axes
    runs, cores, text = list(plan.expand(values).runs), len(os.sched_getaffinity(0)), json.dumps(values)
    print(
        f"{len(runs)} runs of digits_width, {epochs} epochs, {cores} cores, load {os.getloadavg()[0]:.1f}", flush=True
    )
    flags = [f"--config.num_epochs={epochs}", f"--config.study.axes.seed={axes['seed']}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inside = in_process(text, folder / "inside", mode="measure")
        share = 1 - inside["inside"] / inside["wall"]
        print(f"one process, programs compiled: {inside['wall']:.1f} s, {100 * share:.1f} % outside compiled training")
        study = as_study(folder / "study", flags)
        report = command(folder, ["report", str(folder / "study")])
        print(
            f"study: {study:.1f} s, its report about {report:.1f} s of it; {3600 * len(runs) / study:.0f} runs an hour"
        )
        whole = 1 - inside["inside"] / cores / study
        print(f"  {100 * whole:.0f} % of its wall is not compiled training: start-up, compiling and report included")
        loop = in_process(text, folder / "loop", mode="plain")
        write_results(folder / "loop")
        print(f"plain loop in one process: {loop['wall']:.1f} s: {loop['wall'] / study:.2f}x the study's time")
        ratios = seconds_by_width(folder / "loop") / (seconds_by_width(folder / "study") / cores)
        text_of = ", ".join(f"{size:,}: {ratio:.2f}x" for size, ratio in ratios.items())
        print(f"  seconds within runs, the loop's against the study's on {cores} cores, by parameters: {text_of}")
        cold, warm = (
            as_processes(one_of_each_shape(runs, seed), folder / "separate", at_a_time=cores) for seed in (1000, 1001)
        )
        num_programs = len({run.shape for run in runs})
        separate = cold + warm * (len(runs) / num_programs - 1)
        print(
            f"separate commands: {separate:.0f} s: {separate / study:.1f}x the study's time. {num_programs} compiling"
        )
        print(f"  took {cold:.1f} s, and {num_programs} that find their programs in the cache {warm:.1f} s")
        threaded = as_study(folder / "threaded", [*flags, "--config.study.workers=1", f"--config.threads={cores}"])
        print(f"study with one worker of {cores} threads: {threaded:.1f} s: {threaded / study:.2f}x")
        for attempt in ("first", "second"):  # the first fills the cache
            shared, unshared = (
                in_process(text, folder / "sharing", mode=mode, workdir=f"{mode}-{attempt}", first=SAMPLE)["wall"]
                for mode in ("plain", "unshared")
            )
        print(
            f"loop of {SAMPLE} runs that share two programs: {shared:.1f} s; reading them from the cache for each run:"
        )
        print(f"  {unshared:.1f} s: {unshared / shared:.1f}x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs)
