"""A SAM step of the small-image ResNet-18 (batch 128, 32x32x3) against PyTorch, channels last, on the same cores.

Run:     python benchmarks/resnet_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--num_filters 4 16 64] [--convolution flatwide|plain] [--loop scan|call] [--threads 2] [--repeats 7]
Does:    gives both the same weights and batch, checks that losses and gradient norms agree, then times blocks of steps
         in turn, so that other load on the machine hits both. `plain` is XLA's own convolution; `scan` runs a block as
         one compiled loop, as training does, `call` one compiled step after the other.
Prints:  for each width PyTorch's seconds a step, ours, and the ratio ours / PyTorch as a median with its range, of wall
         and of processor time.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BATCH, CLASSES = 128, 10
RHO, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.1, 0.9, 5e-4  # as in peers/torch_sam.py
BLOCK_SECONDS = 1.0


class Block(NamedTuple):
    """One timed block of steps; loss and perturbed gradient norm are those of its last step."""

    seconds: float
    processor: float
    loss: float
    gradient_norm: float


class Peer:
    """A PyTorch process that trains when it is told to."""

    def __init__(self, python: str, script: str, threads: int, weights: str):
        command = [python, str(Path(__file__).parent / "peers" / script), str(threads), weights]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.version = self.process.stdout.readline().strip()
        if not self.version:
            raise SystemExit(f"--peer_python={python}: it needs torch: pip install 'flatwide[peers]'.")

    def run(self, steps: int) -> Block:
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return Block(*map(float, self.process.stdout.readline().split()))

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def use_plain_convolution() -> None:
    """Let every model convolve by XLA's own convolution."""
    from flax import linen as nn

    from flatwide.models import resnet

    resnet.Conv = functools.partial(nn.Conv, use_bias=False)


def write_start(model, path: str) -> tuple:
    """Draw weights and a batch, and write them for the peer."""
    import jax
    import numpy as np

    from flatwide import trees

    random = np.random.default_rng(0)
    inputs = random.normal(size=(BATCH, 32, 32, 3)).astype(np.float32)
    labels = random.integers(0, CLASSES, BATCH).astype(np.int32)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    leaves = {trees.path_name(name): np.asarray(leaf) for name, leaf in jax.tree.leaves_with_path(params)}
    np.savez(path, inputs=inputs, labels=labels, **leaves)
    return params, stats, inputs, labels


def compile_ours(model, start: tuple, *, loop: str) -> tuple[Callable[[int], Block], float]:
    """Compile the step; returns run(steps) -> Block, and the seconds that compiling took."""
    import jax
    import jax.numpy as jnp

    from flatwide import sam, trees

    params, stats, inputs, labels = start

    def loss_fn(params, stats, inputs, labels):
        outputs, stats = model.apply(params, stats, inputs, train=True, key=None)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1)
        return -jnp.mean(chosen), stats

    value_and_grad = sam.value_and_grad(loss_fn, sam.normalized(RHO), has_aux=True)

    def step(state, inputs, labels):
        params, stats, velocity, _ = state
        (loss, stats), gradient = value_and_grad(params, stats, inputs, labels)
        metrics = jnp.stack([loss, trees.norm(gradient)])
        decayed = jax.tree.map(lambda g, w: g + WEIGHT_DECAY * w, gradient, params)
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, decayed)
        params = jax.tree.map(lambda w, v: w - LEARNING_RATE * v, params, velocity)
        return params, stats, velocity, metrics

    def steps_in_a_loop(state, inputs, labels, steps):
        return jax.lax.fori_loop(0, steps, lambda _, state: step(state, inputs, labels), state)

    state = (params, stats, jax.tree.map(jnp.zeros_like, params), jnp.zeros(2))
    began = time.perf_counter()
    if loop == "scan":
        compiled = jax.jit(steps_in_a_loop, donate_argnums=0).lower(state, inputs, labels, 1).compile()
    else:
        compiled = jax.jit(step, donate_argnums=0).lower(state, inputs, labels).compile()
    compile_seconds = time.perf_counter() - began

    def run(steps: int) -> Block:
        nonlocal state
        began, processor = time.perf_counter(), time.process_time()
        if loop == "scan":
            state = compiled(state, inputs, labels, steps)
        else:
            for _ in range(steps):
                state = compiled(state, inputs, labels)
        loss, norm = map(float, state[3])
        return Block(time.perf_counter() - began, time.process_time() - processor, loss, norm)

    return run, compile_seconds


def check_agreement(ours: Block, theirs: Block) -> str:
    """Compare the first steps: in float32, and before the chaos of a narrow network sets in."""
    loss = abs(ours.loss / theirs.loss - 1)
    norm = abs(ours.gradient_norm / theirs.gradient_norm - 1)
    if loss > 1e-4 or norm > 1e-2:
        raise SystemExit(f"the two do not compute the same step: ours {ours}, PyTorch {theirs}.")
    return f"first step agrees: loss to {loss:.0e}, perturbed gradient norm to {norm:.0e}"


def compare(name: str, model, script: str, flags) -> None:
    """Time a model for images of 32 x 32 against its peer, and print a line."""
    with tempfile.TemporaryDirectory() as directory:
        weights = str(Path(directory) / "start.npz")
        start = write_start(model, weights)
        peer = Peer(flags.peer_python, script, flags.threads, weights)
    ours, compile_seconds = compile_ours(model, start, loop=flags.loop)
    agreement = check_agreement(ours(1), peer.run(1))
    steps = max(1, round(BLOCK_SECONDS / peer.run(1).seconds))
    ours(1)
    pairs = [(ours(steps), peer.run(steps)) for _ in range(flags.repeats)]
    peer.stop()
    print(f"{name}: {agreement}; compiled in {compile_seconds:.0f} s; {steps} steps a block")
    for field, label in (("seconds", "wall"), ("processor", "processor")):
        times = [[getattr(block, field) / steps for block in pair] for pair in pairs]
        mine, theirs = (statistics.median(side) for side in zip(*times, strict=True))
        ratios = sorted(own / other for own, other in times)
        print(
            f"  {label}: ours {mine:.4f} s, {peer.version} {theirs:.4f} s a step; "
            f"ours / PyTorch {statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})",
            flush=True,
        )


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Make the flags that every such comparison has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--loop", choices=["scan", "call"], default="scan")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=7)
    return parser


def describe(flags) -> str:
    """Name the device, the version and what the flags say; call it once the threads are set."""
    import jax

    device = jax.local_devices()[0].device_kind
    return (
        f"{device}, {flags.threads} threads, jax {jax.__version__}, loop {flags.loop}, {flags.repeats} pairs of blocks"
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--num_filters", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--convolution", choices=["flatwide", "plain"], default="flatwide")
    flags = parser.parse_args()
    os.environ["NPROC"] = str(flags.threads)

    import jax
    import jax.numpy as jnp

    from flatwide.models import resnet

    if flags.convolution == "plain":
        use_plain_convolution()
    print(f"{describe(flags)}, {flags.convolution} convolution", flush=True)
    example = jax.ShapeDtypeStruct((32, 32, 3), jnp.float32)
    for num_filters in flags.num_filters:
        model = resnet.resnet18(example, CLASSES, num_filters=num_filters)
        compare(f"num_filters={num_filters}", model, "torch_resnet.py", flags)


if __name__ == "__main__":
    main()
