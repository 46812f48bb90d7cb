"""A SAM step in muP with layerwise perturbations against the standard one: the same network, on the same cores.

Run:     python benchmarks/mup_step.py [--threads 1] [--repeats 9] [--optimizer sgd adamw]
Does:    builds an MLP (64-1024-1024-10, batch 128) and a ResNet-18 (16 filters, batch 32) on the digits, at 8 times
         their base width and in the standard parameterization, and times blocks of compiled steps that alternate in
         one process. Compiling stays outside the clock; a block lasts about a second of processor time.
Prints:  milliseconds a step of both, and the median of the ratios of neighbouring blocks with their range.
"""

import argparse
import os
import statistics
import time

NETWORKS = {
    "MLP": {"model": "MLP", "num_neurons": (1024, 1024), "base_width": (128, 128), "batch_size": 128},
    "ResNet18": {"model": "ResNet18", "num_filters": 16, "base_width": (2,), "batch_size": 32},
}
MUP = {"parameterization": "mup", "perturbation_scaling": "layerwise"}
SHARED = {"dataset": "digits", "rho": 0.1, "learning_rate": 0.001, "weight_decay": 1e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--optimizer", nargs="+", default=["sgd", "adamw"])
    flags = parser.parse_args()
    os.environ["NPROC"] = str(flags.threads)

    from flatwide.runs import jax_settings

    jax_settings.start(flags.threads)
    for name, network in NETWORKS.items():
        for optimizer in flags.optimizer:
            fields = SHARED | network | {"base_optimizer": optimizer}
            print(f"{name}, {optimizer}: {compare(fields, flags.repeats)}", flush=True)


def compare(fields: dict, repeats: int) -> str:
    """Time both in turn."""
    timers = [stepper(fields), stepper(fields | MUP)]
    seconds = [timer(3) for timer in timers]  # compiles, and says how many steps make a block
    num_steps = max(3, round(1.0 / max(seconds)))
    blocks = [[timer(num_steps) for timer in timers] for _ in range(repeats)]
    ratios = [scaled / standard for standard, scaled in blocks]
    standard, scaled = (1000 * statistics.median(column) for column in zip(*blocks, strict=True))
    words = f"{standard:.2f} ms standard, {scaled:.2f} ms muP; ratio {statistics.median(ratios):.3f}"
    return f"{words} ({min(ratios):.3f} to {max(ratios):.3f}, {repeats} pairs of {num_steps} steps)"


def stepper(fields: dict):
    """Build a run, and return how to take steps: number of steps -> processor seconds a step."""
    import jax

    from flatwide import experiment

    built = experiment.build(fields)
    batch = jax.device_put(built.batch(0))
    state = built.train_step(built.init(), batch)[0]

    def take(num_steps: int) -> float:
        nonlocal state
        began = time.process_time()
        for _ in range(num_steps):
            state, _ = built.train_step(state, batch)
        jax.block_until_ready(state)
        return (time.process_time() - began) / num_steps

    return take


if __name__ == "__main__":
    main()
