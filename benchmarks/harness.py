"""Shared code of the comparisons with other libraries; not a program.

A comparison of steps has the config of a run, a program of peers/ that builds the same network in PyTorch, and the form
in which the peer receives a batch. `compare` does the rest, the same for all: the peer receives our weights and our
batches, in our order; losses and weights must agree after the first steps, without dropout; compilation is not timed;
blocks of steps are timed in turn, so that other load affects both; a ratio is printed with its range.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
CHECKED_STEPS = 3
BLOCK_SECONDS = 2.0  # of processor time, which other load changes little
REST_SECONDS = 0.3  # PyTorch's threads spin for a while after their work, on cores that ours need


class Block(NamedTuple):
    """A block of steps: wall and processor seconds, each step's loss, and how far the weights are from their start."""

    wall: float
    processor: float
    distance: float
    losses: list[float]


class Tolerance(NamedTuple):
    """Relative tolerances of the losses and distances of the first steps."""

    num_steps: int
    loss: float
    distance: float


CLOSE = Tolerance(num_steps=CHECKED_STEPS, loss=1e-5, distance=1e-3)


def arguments(description: str | None, *, repeats: int) -> argparse.ArgumentParser:
    """Make the flags that every comparison with a peer has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable, help="a Python with what flatwide[peers] installs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=repeats)
    return parser


def start(flags: argparse.Namespace) -> str:
    """Set the threads of JAX, which must not have been imported yet; returns device, threads and version in words."""
    os.environ["NPROC"] = str(flags.threads)
    import jax

    return f"{jax.local_devices()[0].device_kind}, {flags.threads} threads, jax {jax.__version__}"


class Peer:
    """A program of peers/ in a separate Python, which answers a line with a line."""

    def __init__(self, flags: argparse.Namespace, script: str, *arguments: str):
        command = [flags.peer_python, str(HERE / "peers" / script), *arguments]
        threads = {"OMP_NUM_THREADS": str(flags.threads), "NPROC": str(flags.threads)}
        self._command = f"{flags.peer_python} benchmarks/peers/{script}"
        self._process = subprocess.Popen(
            command, env=os.environ | threads, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = self._answer()

    def ask(self, request: object) -> str:
        """Send a line; returns the line that comes back."""
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()
        return self._answer()

    def run(self, steps: int) -> Block:
        """Take steps of training."""
        wall, processor, distance, *losses = map(float, self.ask(steps).split())
        return Block(wall, processor, distance, losses)

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        line = self._process.stdout.readline().strip()
        if not line:
            raise SystemExit(
                f"{self._command} ended without an answer: its message is above. --peer_python needs the packages of "
                "pip install 'flatwide[peers]'."
            )
        return line


class TrainingRun:
    """A run as in training, which trains repeatedly on the batches of its first epoch, as its peer does.

    loop: "scan" for one compiled loop over the steps, as in training; "call" for one compiled step at a time.
    """

    def __init__(self, built, *, loop: str = "scan"):
        import jax

        self._built, self.state, self._segment, self._within = built, built.init(), built.segment(), 0
        self._initial = jax.tree.map(np.asarray, self.state.params)
        self._batches = [built.batch(step) for step in range(built.steps_per_epoch)] if loop == "call" else []

    def run(self, steps: int) -> Block:
        """Take steps of training."""
        wall, processor = time.perf_counter(), time.process_time()
        losses: list[Any] = []
        while len(losses) < steps:
            losses += self._advance(steps - len(losses))
        losses = [float(loss) for loss in losses]
        seconds = time.perf_counter() - wall, time.process_time() - processor
        if not np.isfinite(losses).all():
            raise SystemExit(f"the run that is timed diverged: its losses are {losses}.")
        return Block(*seconds, self._distance(), losses)

    def _advance(self, most: int) -> Sequence:
        """Take some steps of the epoch, which starts again after its last; returns their losses."""
        built = self._built
        if self._within == 0:
            self.state = self.state._replace(step=np.int32(0))
        if self._batches:
            self.state, metrics = built.train_step(self.state, self._batches[self._within])
            losses = [metrics["loss"]]
        else:
            stop = min(self._within + most, built.steps_per_epoch)
            self.state, losses, _ = self._segment(built.values, self.state, stop)
        self._within = (self._within + len(losses)) % built.steps_per_epoch
        return list(losses)

    def _distance(self) -> float:
        import jax

        squares = jax.tree.map(lambda a, b: np.sum((a - np.asarray(b)) ** 2), self._initial, self.state.params)
        return float(sum(jax.tree.leaves(squares))) ** 0.5


def cut_to_level(padding, batch) -> dict[str, np.ndarray]:
    """Cut a batch as training does, so that the peer computes the same padding."""
    if padding is None:
        return batch
    return padding.cut(batch, next(level for level in padding.levels if level >= np.max(padding.sizes(batch))))


def first_batches(built, *, most: int | None = None) -> list[dict]:
    """Collect the raw batches of the first epoch, or of its first steps."""
    import jax

    steps = built.steps_per_epoch if most is None else most
    return [jax.tree.map(np.asarray, built.batch(step)) for step in range(steps)]


def carry_over(built, batches: Iterable[dict], folder: Path, *, write: Callable = cut_to_level) -> None:
    """Write config, initial weights and batches for a peer.

    Args:
      write: (padding, batch) -> the arrays of the batch that the peer reads.
    """
    import jax

    from flatwide import trees

    leaves = jax.tree.leaves_with_path(built.init().params)
    arrays = {
        f"{step}/{name}": array
        for step, batch in enumerate(batches)
        for name, array in write(built.data.padding, batch).items()
    }
    np.savez(folder / "weights.npz", **{trees.path_name(path): np.asarray(leaf) for path, leaf in leaves})
    np.savez(folder / "batches.npz", **arrays)
    (folder / "config.json").write_text(json.dumps(dict(built.config)))


def first_steps(side: TrainingRun | Peer) -> list[Block]:
    """Take the first steps one by one; the first of ours compiles."""
    return [side.run(1) for _ in range(CHECKED_STEPS)]


def check_agreement(our_blocks: list[Block], peer_blocks: list[Block], *, tolerance: Tolerance = CLOSE) -> str:
    """Compare the first steps, before rounding errors have grown; stops where they differ.

    Distances and later losses show what the first loss does not: that gradients were perturbed and applied in the same
    way. With Adam, a peer without the ascent differs by only 2e-5 in its losses and 1e-3 to 2e-3 in its distance.
    """
    pairs = list(zip(our_blocks, peer_blocks, strict=True))[: tolerance.num_steps]
    loss = max(abs(our_block.losses[0] / peer_block.losses[0] - 1) for our_block, peer_block in pairs)
    distance = max(abs(our_block.distance / peer_block.distance - 1) for our_block, peer_block in pairs)
    if not (loss <= tolerance.loss and distance <= tolerance.distance):
        shown = "\n".join(f"  ours {our_block}\n  peer {peer_block}" for our_block, peer_block in pairs)
        raise SystemExit(f"losses differ by {loss:.0e} and distances by {distance:.0e}; expected {tolerance}:\n{shown}")
    return f"losses of {len(pairs)} steps agree to {loss:.0e}, distances of the weights to {distance:.0e}"


def describe_padding(padding, batches: list[dict], num_items: Callable) -> str:
    """Write the share of padding: as computed, cut to the longest example of each batch, and not cut."""
    sizes = np.array([padding.sizes(batch) for batch in batches])
    longest, levels = sizes.max(axis=1), np.asarray(padding.levels)
    real = sum(int(np.sum(num_items(batch))) for batch in batches) / sizes.shape[1]
    computed = {"as computed": levels[np.searchsorted(levels, longest)], "cut to the longest of each batch": longest}
    computed["not cut"] = np.full_like(longest, levels[-1])
    shares = ", ".join(f"{1 - real / size.sum():.1%} {name}" for name, size in computed.items())
    return f"  padding: {shares}; levels {padding.levels}"


def ratio(numerators: Iterable[float], denominators: Iterable[float]) -> str:
    """Write the median of ratios with its range."""
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})"


def compare(
    title: str,
    fields: dict,
    script: str,
    flags: argparse.Namespace,
    *,
    ways: Sequence[str] = ("PyTorch",),
    loop: str = "scan",
    tolerance: Tolerance = CLOSE,
    write: Callable = cut_to_level,
    num_items: Callable | None = None,
) -> None:
    """Time the step of a run against a program of peers/, and print the results.

    Args:
      fields: of the run's config.
      ways: names of the peer's ways to compute the same, each in a separate process; ratios are to the fastest.
      loop: as `TrainingRun`.
      write: as `carry_over`.
      num_items: batch -> the true number of items of each example; None for the sizes of the padding.
    """
    from flatwide import experiment

    built = experiment.build(fields | ({"dropout": 0.0} if "dropout" in fields else {}))
    batches = first_batches(built)
    with tempfile.TemporaryDirectory() as folder:

        def begin(built) -> tuple[TrainingRun, dict[str, Peer]]:
            carry_over(built, batches, Path(folder), write=write)
            return TrainingRun(built, loop=loop), {way: Peer(flags, script, folder, way) for way in ways}

        training_run, peers = begin(built)
        checked = first_steps(training_run)
        agreement = {
            way: check_agreement(checked, first_steps(peer), tolerance=tolerance) for way, peer in peers.items()
        }
        if "dropout" in fields:
            for peer in peers.values():
                peer.stop()
            training_run, peers = begin(experiment.build(fields))
            checked = first_steps(training_run)
            for peer in peers.values():
                first_steps(peer)
    print(f"{title}, {peers[ways[0]].versions}:")
    print("\n".join(f"  {way}: {text}" for way, text in agreement.items()))
    if built.data.padding is not None:
        print(describe_padding(built.data.padding, batches, num_items or built.data.padding.sizes))
    blocks, steps = time_in_turn({"ours": training_run, **peers}, flags.repeats)
    for peer in peers.values():
        peer.stop()
    compiling = checked[0].processor - checked[-1].processor
    print(f"  compiled in {compiling:.0f} s of processor time; {flags.repeats} blocks of {steps} steps")
    for clock in ("wall", "processor"):
        seconds = {name: [getattr(block, clock) / steps for block in values] for name, values in blocks.items()}
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        fastest = min(ways, key=medians.__getitem__)
        text = ", ".join(f"{name} {median:.4f} s" for name, median in medians.items())
        print(f"  {clock}: {text} a step; ours / {fastest} {ratio(seconds['ours'], seconds[fastest])}", flush=True)


def time_in_turn(sides: dict[str, Any], repeats: int) -> tuple[dict[str, list[Block]], int]:
    """Run blocks of each side in turn; returns the blocks by side, and their number of steps."""
    slowest = max(side.run(1).processor for side in sides.values())
    steps = max(1, round(BLOCK_SECONDS / slowest))
    blocks: dict[str, list[Block]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            blocks[name].append(side.run(steps))
        time.sleep(REST_SECONDS)
    return blocks, steps
