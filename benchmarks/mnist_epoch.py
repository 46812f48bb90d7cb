"""A SAM epoch of LeNet-300-100 (batch 128, 60,000 examples) against its own arithmetic, and against PyTorch.

Run:     python benchmarks/mnist_epoch.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH_AND_PYTORCH_OPTIMIZER
         [--threads 1] [--repeats 15]
Does:    what harness.py says, with the SAM of pytorch_optimizer, and times the epoch's matrix products in turn too.
Prints:  (a) the epoch over the time of the 16 matrix products a step, pass after pass, on the same cores;
         (b) PyTorch's epoch over ours, same threads; evaluation and checkpoint apart. Each ratio is a median with its
         range.
"""

import itertools
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np

PRODUCTS = 16  # forward 3, backward 5, twice


def products_program(steps: int) -> Callable[[], object]:
    """Compile the step's 16 matrix products, `steps` times; nothing else but cutting the next batch out of the data.

    The second pass waits for the first, as in SAM, whose perturbed weights depend on the first gradient: otherwise XLA
    would run both side by side on several threads.
    """
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
            first, second = jax.lax.optimization_barrier((one_pass(inputs, clean), perturbed))
            return first, one_pass(inputs, second)

        return jax.lax.fori_loop(0, steps, body, (clean, perturbed))

    keys = jax.random.split(jax.random.key(0), 6)
    shapes = list(itertools.pairwise(sizes)) * 2
    weights = [0.05 * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    data = jax.random.uniform(jax.random.key(1), (steps * 128, 784))
    return limit_program(run, (data, tuple(weights[:3]), tuple(weights[3:])), PRODUCTS)


def limit_program(run: Callable, arguments: tuple, num_products: int) -> Callable[[], object]:
    """Compile matrix products that are a limit; stops if the compiler has merged some."""
    import jax

    compiled = jax.jit(run).lower(*arguments).compile()
    counted = len(re.findall(r"= \S+ dot\(|custom_call_target=\"__onednn\$matmul\"", compiled.as_text()))
    if counted != num_products:
        raise SystemExit(f"the limit program has {counted} products, not {num_products}: the compiler merged some.")
    return lambda: jax.block_until_ready(compiled(*arguments))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def time_order(draw: Callable) -> float:
    """Return the least processor time of drawing an epoch's order, in milliseconds."""
    import jax

    program = jax.jit(lambda key: draw(key, 60_000))
    times = []
    for repeat in range(21):  # the first compiles
        began = time.process_time()
        jax.block_until_ready(program(jax.random.key(repeat)))
        times.append(time.process_time() - began)
    return 1e3 * min(times)


def main() -> None:
    flags = harness.arguments(__doc__, repeats=15).parse_args()
    header = harness.start(flags)

    import jax

    from flatwide import experiment, streams
    from flatwide.config import load_file
    from flatwide.runs import checkpoints

    config = load_file(str(harness.HERE.parent / "configs" / "mnist_mlp.py"))
    built = experiment.build(config | {"dataset": f"{harness.HERE}/made_data.py:mnist_like"})
    steps, our_run = built.steps_per_epoch, harness.TrainingRun(built)
    with tempfile.TemporaryDirectory() as folder:
        harness.carry_over(built, harness.first_batches(built, most=harness.CHECKED_STEPS), Path(folder))
        peer = harness.Peer(flags, "torch_mnist.py", folder, "PyTorch")
    agreement = harness.check_agreement(harness.first_steps(our_run), harness.first_steps(peer))
    limit, evaluate = products_program(steps), built.evaluator(built.test)
    limit(), evaluate(our_run.state), peer.run(20)

    times, alone, peer_seconds = [], [], []
    for _ in range(flags.repeats):
        times.append(our_run.run(steps).wall)
        alone.append(seconds(limit))
        peer_seconds.append(peer.run(steps // 4).wall * steps / (steps // 4))
        time.sleep(harness.REST_SECONDS)
    peer.stop()
    with tempfile.TemporaryDirectory() as folder:
        saving = [seconds(lambda at=step: checkpoints.save(folder, at, our_run.state, extra={})) for step in range(5)]
    evaluating = [seconds(lambda: evaluate(our_run.state)) for _ in range(5)]
    drawing = [time_order(draw) for draw in (streams.permutation, jax.random.permutation)]

    epoch = statistics.median(times)
    print(f"{header}, {peer.versions}: {agreement}; {flags.repeats} blocks")
    print(f"SAM epoch of {steps} steps: {epoch:.3f} s ({steps / epoch:.0f} steps/s)")
    print(f"(a) epoch / its {PRODUCTS} matrix products a step: {harness.ratio(times, alone)}")
    print(f"(b) PyTorch epoch / ours: {harness.ratio(peer_seconds, times)}")
    print(
        f"apart: evaluation of 10,000 {1e3 * np.median(evaluating):.0f} ms, checkpoint {1e3 * np.median(saving):.0f} ms"
    )
    print(
        f"within: an epoch's order {drawing[0]:.1f} ms of processor time, by jax.random.permutation {drawing[1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
