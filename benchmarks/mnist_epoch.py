"""A SAM epoch of LeNet-300-100 (batch 128, 60,000 examples) against its own arithmetic, and against PyTorch.

Run:     python benchmarks/mnist_epoch.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH_AND_PYTORCH_OPTIMIZER
Prints:  (a) the epoch over the time of the 16 matrix products a step, alone and back to back, on the same cores;
         (b) PyTorch's epoch over ours, same threads; evaluation and checkpoint apart. Blocks alternate, so that other
         load on the machine hits all of them; each ratio is a median with its range.
"""

import argparse
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PRODUCTS = 16  # forward 3, backward 5, twice


def products_program(steps: int):
    """Compile the step's 16 matrix products, `steps` times; nothing else but cutting the next batch out of the data."""
    import jax

    sizes = (784, 300, 100, 10)

    def one_pass(inputs, weights):
        first, second, third = weights
        hidden = inputs @ first
        deeper = hidden @ second
        outputs = deeper @ third
        back = outputs @ third.T
        further = back @ second.T
        return inputs.T @ further, hidden.T @ back, deeper.T @ outputs

    def run(data, clean, perturbed):
        def body(index, carry):
            del carry
            inputs = jax.lax.dynamic_slice(data, (index * 128, 0), (128, 784))
            return one_pass(inputs, clean), one_pass(inputs, perturbed)

        return jax.lax.fori_loop(0, steps, body, (clean, perturbed))

    keys = jax.random.split(jax.random.key(0), 6)
    shapes = list(itertools.pairwise(sizes)) * 2
    weights = [0.05 * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    data = jax.random.uniform(jax.random.key(1), (steps * 128, 784))
    arguments = (data, tuple(weights[:3]), tuple(weights[3:]))
    compiled = jax.jit(run).lower(*arguments).compile()
    found = count_products(compiled.as_text())
    if found != PRODUCTS:
        raise SystemExit(f"the limit program has {found} products, not {PRODUCTS}: the compiler merged some.")
    return lambda: jax.block_until_ready(compiled(*arguments))


def count_products(text: str) -> int:
    """Count matrix products in a compiled program."""
    return len(re.findall(r"= \S+ dot\(|custom_call_target=\"__onednn\$matmul\"", text))


class Peer:
    """A PyTorch process that trains when it is told to."""

    def __init__(self, python: str, threads: int):
        command = [python, str(HERE / "peers" / "torch_mnist.py"), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self.process.stdout.readline().strip()
        if not self.versions:
            raise SystemExit(
                f"--peer_python={python}: it needs torch and pytorch_optimizer: pip install 'flatwide[peers]'."
            )

    def seconds(self, steps: int) -> float:
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratio(numerators, denominators) -> str:
    found = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} .. {found[-1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=15)
    flags = parser.parse_args()
    os.environ["NPROC"] = str(flags.threads)

    import jax
    import numpy as np

    from flatwide import experiment
    from flatwide.config import load_file
    from flatwide.runs import checkpoints

    config = load_file(str(HERE.parent / "configs" / "mnist_mlp.py"))
    built = experiment.build(config | {"dataset": f"{HERE}/made_data.py:mnist_like"})
    steps = built.steps_per_epoch
    segment, state = built.segment(), built.init()
    evaluate = built.evaluator(built.test)
    limit = products_program(steps)
    peer = Peer(flags.peer_python, flags.threads)
    state, _ = segment(built.values, state, steps)
    evaluate(state)
    limit()
    peer.seconds(20)

    ours, alone, theirs = [], [], []
    for repeat in range(flags.repeats):
        began = time.perf_counter()
        state, _ = segment(built.values, state, (repeat + 2) * steps)
        ours.append(time.perf_counter() - began)
        alone.append(seconds(limit))
        theirs.append(peer.seconds(steps // 4) * steps / (steps // 4))
        time.sleep(0.5)  # PyTorch's threads spin for a while after their work; they must not take ours' cores
    with tempfile.TemporaryDirectory() as directory:
        saving = [seconds(lambda at=step: checkpoints.save(directory, at, state, extra={})) for step in range(5)]
    evaluating = [seconds(lambda: evaluate(state)) for _ in range(5)]

    device = jax.local_devices()[0].device_kind
    print(f"{device}, {flags.threads} threads, jax {jax.__version__}, {peer.versions}, {flags.repeats} blocks")
    print(
        f"SAM epoch of {steps} steps: {statistics.median(ours):.3f} s ({steps / statistics.median(ours):.0f} steps/s)"
    )
    print(f"(a) epoch / its {PRODUCTS} matrix products a step: {ratio(ours, alone)}")
    print(f"(b) PyTorch epoch / ours: {ratio(theirs, ours)}")
    print(
        f"apart: evaluation of 10,000 {1e3 * np.median(evaluating):.0f} ms, checkpoint {1e3 * np.median(saving):.0f} ms"
    )


if __name__ == "__main__":
    main()
