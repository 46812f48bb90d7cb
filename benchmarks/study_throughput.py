"""How much of a study's time is training, and what are shared programs and worker processes worth?

Run:   python benchmarks/study_throughput.py [--seeds=2] [--epochs=60]

The runs of the digits study: as one study (one-thread workers); as a plain loop of one-run training in one process; as
separate `main.py` processes, one a core at a time (a sample of runs). Each way compiles its programs anew, as on a new
machine. Before that, the share of time in compiled programs, measured inside one process that has compiled them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "studies" / "digits_width.py"

INSIDE = """
import sys, time, json
from flatwide import config as configs, driver
from flatwide.study import plan
from flatwide.training import stretch

spent, compiling = [0.0], [0.0]
original = stretch._program

def timed(*arguments):
    program = original(*arguments)
    def run(*inputs):
        import jax
        started = time.monotonic()
        found = jax.block_until_ready(program.run(*inputs))
        spent[0] += time.monotonic() - started
        return found
    return program._replace(run=run)

workdir, events, values = sys.argv[1], sys.argv[2] == "1", json.loads(sys.argv[3])
runs = plan.expand(values).runs
if sys.argv[4] == "measure":
    stretch._program = timed
    for shape in {run.shape: run for run in runs}.values():
        driver.run(dict(shape.config) | {"seed": 10**6}, workdir + "/warm", quiet=True, tensorboard=events)
    spent[0] = 0.0
started = time.monotonic()
by_width = {}
for run in runs:
    began = time.monotonic()
    driver.run(run.config, workdir, quiet=True, tensorboard=events)
    width = str(run.config["num_neurons"])
    by_width[width] = by_width.get(width, 0.0) + time.monotonic() - began
wall = time.monotonic() - started
print(json.dumps({"wall": wall, "inside": spent[0], "by_width": by_width, "runs": len(runs)}))
"""


def environment(folder: Path) -> dict[str, str]:
    """Give each way its own cache of compiled programs."""
    return os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}


def in_process(values: str, folder: Path, *, mode: str) -> dict:
    import json

    command = [sys.executable, "-c", INSIDE, str(folder), "0", values, mode]
    done = subprocess.run(command, env=environment(folder) | {"NPROC": "1"}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def as_study(flags: list[str], folder: Path) -> float:
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "main.py"), f"--workdir={folder}/w", f"--config={CONFIG}", *flags]
    subprocess.run(command, env=environment(folder), check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def as_processes(configs: list[dict], folder: Path, *, at_a_time: int) -> float:
    """Train runs as separate commands, as a shell loop would; give the seconds."""
    single = ROOT / "configs" / "digits_mlp.py"
    started, running = time.monotonic(), []
    for config in configs:
        flags = [f"--config.{name}={value}" for name, value in config.items()]
        command = [sys.executable, str(ROOT / "main.py"), f"--workdir={folder}/w", f"--config={single}", *flags]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running.append(subprocess.Popen(command, env=environment(folder) | {"NPROC": "1"}, **quiet))
        if len(running) == at_a_time:
            running.pop(0).wait()
    for process in running:
        process.wait()
    return time.monotonic() - started


def main(seeds: int, epochs: int) -> None:
    import json

    from flatwide import config as configs
    from flatwide.study import plan

    axes = {"seed": tuple(range(seeds))}
    values, _ = configs.override(configs.load_file(str(CONFIG)), [("num_epochs", str(epochs))])
    values["study"]["axes"] |= axes
    runs = plan.expand(values).runs
    cores = len(os.sched_getaffinity(0))
    print(
        f"{len(runs)} runs of digits_width, {epochs} epochs, {cores} cores, load {os.getloadavg()[0]:.1f}", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inside = in_process(json.dumps(values), place / "inside", mode="measure")
        share = 1 - inside["inside"] / inside["wall"]
        print(f"one process, programs compiled: {inside['wall']:.1f} s, {100 * share:.1f} % outside compiled training")
        study = as_study([f"--config.num_epochs={epochs}", f"--config.study.axes.seed={axes['seed']}"], place / "study")
        rate = 3600 * len(runs) / study
        print(f"study: {study:.1f} s, {rate:.0f} runs an hour, compiling and start-up included", flush=True)
        loop = in_process(json.dumps(values), place / "loop", mode="plain")
        ratio = loop["wall"] / study
        print(f"plain loop in one process: {loop['wall']:.1f} s, compiling included: {ratio:.2f}x the study's time")
        sample = [dict(run.config) for run in runs[:: max(1, len(runs) // 14)]]
        picked = [{n: c[n] for n in ("num_neurons", "rho", "seed", "num_epochs")} for c in sample]
        separate = as_processes(picked, place / "separate", at_a_time=cores) / len(picked) * len(runs)
        ratio = separate / study
        print(f"separate commands: {separate:.0f} s, extrapolated from {len(picked)}: {ratio:.1f}x the study's time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.epochs)
