"""Step times where a schedule switches SAM off: steps without SAM must cost one gradient.

Run:     python benchmarks/late_sam_steps.py [--threads=1] [--repeats=5]        (some minutes)
Trains:  an MLP and a small ResNet on digits: whole runs of some epochs, by the compiled segments of training, compiling
         and evaluation outside of the clock. Runs of SGD, of SAM at all steps, in the last tenth, at every second step,
         and of Momentum-SAM take turns in one process.
Prints:  processor time of a step, over that of full SAM: median and range of the pairs, with the gradients of a step
         beside. The last tenth must take at most 0.6.
"""

import argparse
import os
import statistics
import sys
import time

COMMON = {"rho": 0.05, "learning_rate": 0.01}
MODELS = {
    "MLP 300-100": {"model": "MLP", "dataset": "digits", "num_neurons": (300, 100), "num_epochs": 20},
    "ResNet, 8 filters": {
        "model": "ResNet18",
        "dataset": "digits",
        "num_filters": 8,
        "num_blocks": (1, 1),
        "batch_size": 64,
        "num_train_steps": 40,
    },
}
KINDS = {
    "SAM at all steps": {},
    "in the last tenth": {"rho_schedule": "late", "rho_switch": 0.9},
    "at every second step": {"rho_schedule": "every"},
    "Momentum-SAM": {"sam_variant": "momentum"},
    "SGD alone": {"rho": 0.0},
}
LIMIT = 0.6


def seconds_of_steps(built) -> float:
    """Take all steps of a run; returns processor seconds, without its initial state."""
    segment, state = built.segment(), built.init()
    started, step = time.process_time(), 0
    while step < built.num_steps:
        step = min((step // built.steps_per_epoch + 1) * built.steps_per_epoch, built.num_steps)
        state, losses, _ = segment(built.values, state, step)
    assert losses[-1] < 100, losses
    return time.process_time() - started


def main() -> None:
    """Time every kind of run in turn, for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    flags = parser.parse_args()
    os.environ["NPROC"] = str(flags.threads)
    from flatwide import experiment

    is_slow = False
    for name, fields in MODELS.items():
        runs = {kind: experiment.build(COMMON | fields | kind_fields) for kind, kind_fields in KINDS.items()}
        for built in runs.values():
            seconds_of_steps(built)  # compiles
        times = {kind: [] for kind in runs}
        for _ in range(flags.repeats):
            for kind, built in runs.items():
                times[kind].append(seconds_of_steps(built))
        full, num_steps = times["SAM at all steps"], runs["SAM at all steps"].num_steps
        print(f"{name}: {1e3 * statistics.median(full) / num_steps:.2f} ms a step of SAM, {num_steps} steps")
        for kind, built in runs.items():
            ratios = sorted(seconds / whole for seconds, whole in zip(times[kind], full, strict=True))
            median, gradients = statistics.median(ratios), built.num_gradients(num_steps) / num_steps
            print(f"  {kind:22} {median:.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f}); gradients a step {gradients:.3g}")
            is_slow |= kind == "in the last tenth" and median > LIMIT
    sys.exit(f"the last tenth took more than {LIMIT} of full SAM's time" if is_slow else 0)


if __name__ == "__main__":
    main()
