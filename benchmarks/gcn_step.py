"""A SAM step of the graph network (Adam, batch 256, dropout 0.1) against PyTorch on the same batches and cores.

Run:     python benchmarks/gcn_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 128 256] [--num_layers 5] [--threads 1] [--repeats 7]
Does:    trains as a run does: one compiled loop over batches of RDKit's molecules, packed into the rooms of the data
         set. PyTorch gets the same weights and batches, in the same order, without padding, and each batch's sparse
         matrix made beforehand. Without dropout the losses of the first steps must agree; with it, blocks of steps are
         timed in turn, so that other load hits both.
Prints:  how much of what is computed is padding; for each width PyTorch's seconds a step, ours, and the ratio ours /
         PyTorch as a median with its range, of wall time and of processor time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

BATCH, RHO, LEARNING_RATE = 256, 0.05, 1e-3  # as in peers/torch_gcn.py
DROPOUT = 0.1
CHECKED_STEPS = 3
BLOCK_STEPS = 5


class Block(NamedTuple):
    """One timed block of steps: wall and processor seconds of all, and the loss of each."""

    wall: float
    processor: float
    losses: list[float]


class Peer:
    """A PyTorch process that trains when it is told to."""

    def __init__(self, python: str, threads: int, folder: Path, dropout: float):
        script = Path(__file__).parent / "peers" / "torch_gcn.py"
        command = [python, str(script), str(threads), str(folder), str(dropout)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.version = self.process.stdout.readline().strip()
        if not self.version:
            raise SystemExit(f"--peer_python={python}: it needs torch: pip install 'flatwide[peers]'.")

    def run(self, steps: int) -> Block:
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        wall, processor, *losses = map(float, self.process.stdout.readline().split())
        return Block(wall, processor, losses)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """The program of a run, stopped after so many steps."""

    def __init__(self, built):
        self.segment, self.values, self.state = built.segment(), built.values, built.init()

    def run(self, steps: int) -> Block:
        wall, processor = time.perf_counter(), time.process_time()
        self.state, losses = self.segment(self.values, self.state, int(self.state.step) + steps)
        return Block(time.perf_counter() - wall, time.process_time() - processor, losses.tolist())


def build(flags, hidden_size: int, dropout: float):
    """Build the run that is timed."""
    from flatwide import experiment

    fields = {"model": "GCN", "hidden_size": hidden_size, "num_layers": flags.num_layers, "dropout": dropout}
    fields |= {"dataset": "made_molecules", "loss": "binary_cross_entropy", "batch_size": BATCH, "num_epochs": 100}
    fields |= {"base_optimizer": "adam", "learning_rate": LEARNING_RATE, "lr_scheduler": "constant", "rho": RHO}
    return experiment.build(fields)


def write(built, folder: Path, num_steps: int) -> float:
    """Write weights and batches for the peer, without padding; returns which part of our rows is padding."""
    import jax

    from flatwide import trees

    state, padding = built.init(), built.data.padding
    leaves = {trees.path_name(name): np.asarray(leaf) for name, leaf in jax.tree.leaves_with_path(state.params)}
    np.savez(folder / "weights.npz", **leaves)
    batches, real, computed = {}, 0, 0
    for step in range(num_steps):
        batch = jax.tree.map(np.asarray, built.batch(step))
        inputs, counts = batch["inputs"], batch["inputs"]["num_nodes"].astype(np.int64)
        first = np.cumsum(counts) - counts
        graphs = list(zip(inputs["nodes"], counts, inputs["edges"], inputs["num_edges"], first, strict=True))
        batches |= {
            f"{step}/nodes": np.concatenate([nodes[:size] for nodes, size, *_ in graphs]),
            f"{step}/edges": np.concatenate([edges[:size] + at for *_, edges, size, at in graphs]),
            f"{step}/num_nodes": counts,
            f"{step}/targets": batch["targets"],
        }
        level = next(level for level in padding.levels if level >= padding.sizes(batch).max())
        real, computed = real + counts.sum(), computed + level * len(counts)
    np.savez(folder / "batches.npz", **batches)
    return 1 - real / computed


def compare(hidden_size: int, flags) -> None:
    exact = build(flags, hidden_size, 0.0)
    num_steps = exact.steps_per_epoch
    with tempfile.TemporaryDirectory() as directory:
        padding = write(exact, Path(directory), num_steps)
        theirs = Peer(flags.peer_python, flags.threads, Path(directory), 0.0)
        pair = Ours(exact).run(CHECKED_STEPS).losses, theirs.run(CHECKED_STEPS).losses
        theirs.stop()
        off = max(abs(mine / their - 1) for mine, their in zip(*pair, strict=True))
        if off > 1e-3:
            raise SystemExit(f"the two do not compute the same steps: losses of ours and of PyTorch {pair}.")
        ours, theirs = (
            Ours(build(flags, hidden_size, DROPOUT)),
            Peer(flags.peer_python, flags.threads, Path(directory), DROPOUT),
        )
        began = time.process_time()
        ours.run(1)
        compile_seconds = time.process_time() - began
        theirs.run(1)
    steps = min(BLOCK_STEPS, num_steps - 1)
    pairs = []
    for _ in range(flags.repeats):
        if int(ours.state.step) % num_steps + steps > num_steps:  # a call of ours ends with its epoch
            rest = num_steps - int(ours.state.step) % num_steps
            ours.run(rest), theirs.run(rest)
        pairs.append((ours.run(steps), theirs.run(steps)))
    theirs.stop()
    print(
        f"hidden_size={hidden_size}: losses of {CHECKED_STEPS} steps agree to {off:.0e}; "
        f"{padding:.0%} of an epoch is padding; compiled in {compile_seconds:.0f} s"
    )
    for clock in ("wall", "processor"):
        seconds = [(getattr(mine, clock) / steps, getattr(their, clock) / steps) for mine, their in pairs]
        ratios = sorted(mine / their for mine, their in seconds)
        print(
            f"  {clock}: ours {statistics.median(mine for mine, _ in seconds):.3f} s, {theirs.version} "
            f"{statistics.median(their for _, their in seconds):.3f} s a step; "
            f"ours / PyTorch {statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--num_layers", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    os.environ["NPROC"] = str(flags.threads)

    import jax

    device = jax.local_devices()[0].device_kind
    print(
        f"{device}, {flags.threads} threads, jax {jax.__version__}, {flags.num_layers} steps of message "
        f"passing, batch {BATCH}, {flags.repeats} pairs of blocks",
        flush=True,
    )
    for hidden_size in flags.hidden_size:
        compare(hidden_size, flags)


if __name__ == "__main__":
    main()
