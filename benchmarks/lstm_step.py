"""A SAM step of the LSTM on texts of unequal length (batch 64) against PyTorch, on the same cores.

Run:     python benchmarks/lstm_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 32 128 256] [--threads 1] [--repeats 7] [--num_batches 16] [--clock wall|cpu]
Does:    gives all three the same weights and batches of made texts, put in order of length as in training, checks
         without dropout that losses and gradient norms agree, and times rounds over the batches in turn with dropout,
         so that other load on the machine hits all. Ours is the step of training: a compiled loop, each batch cut to
         the lowest of six lengths that holds it. PyTorch has a hand-written SAM, once with nn.LSTM on packed sequences
         and once on padded ones. `--clock cpu` counts each process's own processor time, which other load changes
         little.
Prints:  for each width seconds a step, and the ratio ours / PyTorch as a median with its range, for the faster of the
         two ways of PyTorch; and how much of what is computed is padding.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BATCH, CLASSES, NUM_WORDS, LONGEST = 64, 2, 13_521, 52  # words and lengths as in SST-2
RHO, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.1, 0.8, 3e-6  # as in peers/torch_lstm.py
WAYS = ("packed", "padded")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Block(NamedTuple):
    """Timed rounds over all batches; loss and perturbed gradient norm are those of the last step."""

    seconds: float
    loss: float
    gradient_norm: float


class Peer:
    """A PyTorch process that trains when it is told to."""

    def __init__(self, flags, weights: str, way: str, dropout: float):
        script = Path(__file__).parent / "peers" / "torch_lstm.py"
        command = [flags.peer_python, str(script), str(flags.threads), weights, way, str(dropout), flags.clock]
        environment = os.environ | {"OMP_NUM_THREADS": str(flags.threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.version = self.process.stdout.readline().strip()
        if not self.version:
            raise SystemExit(f"--peer_python={flags.peer_python}: it needs torch: pip install 'flatwide[peers]'.")

    def run(self, rounds: int) -> Block:
        self.process.stdin.write(f"{rounds}\n")
        self.process.stdin.flush()
        return Block(*map(float, self.process.stdout.readline().split()))

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def make_texts(num_batches: int):
    """Make texts of the lengths that sentences have, in order of length as a window of training has them."""
    import numpy as np

    random = np.random.default_rng(0)
    count = num_batches * BATCH
    lengths = np.clip(random.gamma(4.0, 5.0, count).round(), 2, LONGEST).astype(int)
    lengths.sort()
    rows = np.zeros((count, LONGEST), np.int32)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = random.integers(1, NUM_WORDS, length)
    order = random.permutation(num_batches)
    inputs = rows.reshape(num_batches, BATCH, LONGEST)[order]
    return inputs, random.integers(0, CLASSES, (num_batches, BATCH)).astype(np.int32), lengths


def compile_ours(model, padding, start: tuple, *, clock: Callable[[], float]) -> Callable[[int], Block]:
    """Compile rounds over all batches; returns run(rounds) -> Block."""
    import jax
    import jax.numpy as jnp

    from flatwide import objectives, sam, trees, workloads

    params, inputs, targets = start
    objective = objectives.cross_entropy(CLASSES)
    workload = workloads.Workload(lambda batch, key, train: batch, model, objective, padding)

    def step(state, batch):
        params, velocity, count, _ = state
        key = jax.random.fold_in(jax.random.key(0), count)

        def gradient_of(batch):
            def loss_fn(params):
                return workloads.loss(workload, params, batch, stats={}, train=True, key=key)[0]

            return sam.value_and_grad(loss_fn, sam.normalized(RHO))(params)

        loss, gradient = workloads.cut_to_fit(padding, batch, gradient_of)
        metrics = jnp.stack([loss, trees.norm(gradient)])
        velocity = jax.tree.map(lambda v, g, w: MOMENTUM * v + g + WEIGHT_DECAY * w, velocity, gradient, params)
        params = jax.tree.map(lambda w, v: w - LEARNING_RATE * v, params, velocity)
        return (params, velocity, count + 1, metrics), None

    def train(state, inputs, targets, rounds):
        def once(_, state):
            return jax.lax.scan(step, state, {"inputs": inputs, "targets": targets})[0]

        return jax.lax.fori_loop(0, rounds, once, state)

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (jax.tree.map(jnp.array, params), zeros, jnp.int32(0), jnp.zeros(2))
    compiled = jax.jit(train, donate_argnums=0).lower(state, inputs, targets, 1).compile()

    def run(rounds: int) -> Block:
        nonlocal state
        began = clock()
        state = compiled(state, inputs, targets, rounds)
        loss, norm = map(float, state[3])
        return Block(clock() - began, loss, norm)

    return run


def check_agreement(ours: Block, theirs: Block) -> str:
    """Compare the last of the first steps, without dropout."""
    loss = abs(ours.loss / theirs.loss - 1)
    norm = abs(ours.gradient_norm / theirs.gradient_norm - 1)
    if loss > 1e-4 or norm > 1e-2:
        raise SystemExit(f"the two do not compute the same step: ours {ours}, PyTorch {theirs}.")
    return f"agrees to {loss:.0e} in the loss, {norm:.0e} in the gradient norm"


def compare(hidden_size: int, flags) -> None:
    import jax
    import numpy as np

    from flatwide import trees
    from flatwide.data import words
    from flatwide.models.lstm import DROPOUT, lstm
    from flatwide.types import Categories

    inputs, targets, lengths = make_texts(flags.num_batches)
    padding = words.padding(lengths, longest=LONGEST, window=flags.num_batches)
    example = Categories((LONGEST,), NUM_WORDS)
    ours, peers, agreement = {}, {}, {}
    with tempfile.TemporaryDirectory() as directory:
        weights = str(Path(directory) / "start.npz")
        for dropout in (0.0, DROPOUT):
            model = lstm(example, CLASSES, hidden_size=hidden_size, dropout=dropout)
            params, _ = jax.jit(model.init)(jax.random.key(0))
            leaves = {trees.path_name(name): np.asarray(leaf) for name, leaf in jax.tree.leaves_with_path(params)}
            np.savez(weights, inputs=inputs, targets=targets, **leaves)
            ours[dropout] = compile_ours(model, padding, (params, inputs, targets), clock=CLOCKS[flags.clock])
            for way in WAYS:
                peers[dropout, way] = Peer(flags, weights, way, dropout)
    first = ours[0.0](1)
    for way in WAYS:
        agreement[way] = check_agreement(first, peers[0.0, way].run(1))
        peers[0.0, way].stop()
        peers[DROPOUT, way].run(1)
    ours[DROPOUT](1)
    times: dict[str, list[float]] = {name: [] for name in ("ours", *WAYS)}
    for _ in range(flags.repeats):
        times["ours"].append(ours[DROPOUT](1).seconds / flags.num_batches)
        for way in WAYS:
            times[way].append(peers[DROPOUT, way].run(1).seconds / flags.num_batches)
    for way in WAYS:
        peers[DROPOUT, way].stop()
    faster = min(WAYS, key=lambda way: statistics.median(times[way]))
    ratios = sorted(mine / theirs for mine, theirs in zip(times["ours"], times[faster], strict=True))
    longest = (inputs != 0).sum(axis=2).max(axis=1)
    cut = np.asarray(padding.levels)[np.searchsorted(padding.levels, longest)]
    computed = {"ours": cut.sum() * BATCH, "padded": longest.sum() * BATCH, "uncut": inputs.size}
    print(f"hidden_size={hidden_size}: " + "; ".join(f"{way} {agreement[way]}" for way in WAYS))
    medians = ", ".join(f"{name} {statistics.median(found) * 1e3:.1f} ms" for name, found in times.items())
    print(f"  a step: {medians}; ours / {faster} {statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})")
    waste = ", ".join(f"{name} {1 - lengths.sum() / items:.1%}" for name, items in computed.items())
    print(f"  padding among what is computed: {waste}; levels {padding.levels}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--num_batches", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall")
    flags = parser.parse_args()
    os.environ["NPROC"] = str(flags.threads)

    import jax

    print(
        f"{jax.local_devices()[0].device_kind}, {flags.threads} threads, {flags.clock} clock, jax {jax.__version__}, "
        f"{flags.repeats} rounds of {flags.num_batches} batches each in turn",
        flush=True,
    )
    for hidden_size in flags.hidden_size:
        compare(hidden_size, flags)


if __name__ == "__main__":
    main()
