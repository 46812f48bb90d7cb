"""A SAM step of the tagging Transformer (AdamW, batch 64, dropout 0.3) against PyTorch on the same batches and cores.

Run:     python benchmarks/transformer_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 64 128 256] [--num_layers 6] [--data_dir TREEBANK] [--threads 1] [--repeats 7]
Does:    trains as a run does: one compiled loop over batches of like length, cut to the levels of the data set. PyTorch
         gets the same weights and the same cut batches, in the same order. Without dropout the losses of the first
         steps must agree; with it, blocks of steps are timed in turn, so that other load hits both. Without data_dir
         the sentences are made: 2,000 of the lengths of prose, over 33,000 words.
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

BATCH, RHO, LEARNING_RATE = 64, 0.05, 1e-4  # as in peers/torch_transformer.py
CHECKED_STEPS = 4
BLOCK_STEPS = 8
NUM_SENTENCES, NUM_WORDS, NUM_TAGS = 2_000, 33_000, 17


class Block(NamedTuple):
    """One timed block of steps: wall and processor seconds of all, and the loss of each."""

    wall: float
    processor: float
    losses: list[float]


class Peer:
    """A PyTorch process that trains when it is told to."""

    def __init__(self, python: str, threads: int, folder: Path, dropout: float):
        script = Path(__file__).parent / "peers" / "torch_transformer.py"
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


def made_treebank(*, size_window: int = 16):
    """Make sentences of the lengths of prose whose words are as many as a large treebank has."""
    from flatwide.data import conllu, words

    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(2.5, 0.6, NUM_SENTENCES).astype(int), 1, 100)
    text = [[str(word) for word in random.integers(0, NUM_WORDS, length)] for length in lengths]
    rows = [(own, [str(int(word) % NUM_TAGS) for word in own]) for own in text]
    known = {str(word): words.FIRST_WORD + word for word in range(NUM_WORDS)}
    tags = [str(tag) for tag in range(NUM_TAGS)]
    return conllu.dataset(rows, rows[:BATCH], known=known, tags=tags, size_window=size_window)


def build(flags, hidden_size: int, dropout: float):
    """Build the run that is timed."""
    from flatwide import experiment

    is_made = flags.data_dir is None
    data = {"dataset": f"{Path(__file__).resolve()}:made_treebank" if is_made else "conllu", "data_dir": flags.data_dir}
    fields = {"model": "TaggingTransformer", "hidden_size": hidden_size, "num_layers": flags.num_layers, "rho": RHO}
    fields |= {"base_optimizer": "adamw", "adam_betas": (0.9, 0.98), "adam_epsilon": 1e-9, "weight_decay": 0.1}
    fields |= {"learning_rate": LEARNING_RATE, "lr_scheduler": "constant", "batch_size": BATCH, "num_epochs": 100}
    return experiment.build(fields | data | {"dropout": dropout, "size_window": flags.size_window})


def write(built, folder: Path, num_steps: int) -> float:
    """Write weights and batches for the peer, each cut as ours; returns which part of them is padding."""
    import jax

    from flatwide import trees

    state, padding = built.init(), built.data.padding
    leaves = {trees.path_name(name): np.asarray(leaf) for name, leaf in jax.tree.leaves_with_path(state.params)}
    np.savez(folder / "weights.npz", **leaves)
    batches, real, computed = {}, 0, 0
    for step in range(num_steps):
        batch = built.batch(step)
        sizes = padding.sizes(batch)
        level = next(level for level in padding.levels if level >= sizes.max())
        batches |= {f"{step}/{name}": np.asarray(array) for name, array in padding.cut(batch, level).items()}
        real, computed = real + sizes.sum(), computed + level * len(sizes)
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
            Ours(build(flags, hidden_size, 0.3)),
            Peer(flags.peer_python, flags.threads, Path(directory), 0.3),
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
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--num_layers", type=int, default=6)
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--size_window", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    os.environ["NPROC"] = str(flags.threads)

    import jax

    device = jax.local_devices()[0].device_kind
    print(
        f"{device}, {flags.threads} threads, jax {jax.__version__}, {flags.num_layers} layers, batch {BATCH}, "
        f"{flags.repeats} pairs of blocks",
        flush=True,
    )
    for hidden_size in flags.hidden_size:
        compare(hidden_size, flags)


if __name__ == "__main__":
    main()
