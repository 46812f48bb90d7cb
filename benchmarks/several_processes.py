"""How much faster do two processes of one core each train one network than one process on one core?

Run:     python benchmarks/several_processes.py [--repeats 7] [--steps 10]
Does:    trains the same steps (SAM, one batch of 128 made images shared by the processes) in one process, pinned to a
         core, and in two, pinned to one core each, in turn, so that other load affects both.
Prints:  efficiency, the median with its range over the blocks: seconds of one over twice those of two. By processor
         time it is that of one over the sum of both: what the processes do besides the work of one, without waiting
         for each other or for cores that others use.
"""

import argparse
import os
import socket
import subprocess
import sys
import time

import harness
import made_data

KINDS = {
    "MLP of 3,000 and 1,000 units": {"dataset": made_data.IMAGE_STEP["dataset"].replace("small_images", "mnist_like")}
    | {"model": "MLP", "num_neurons": (3000, 1000)},
    "ResNet-18 of 16 filters": {"model": "ResNet18", "num_filters": 16},
}


class Side:
    """The processes of one way to train; each takes the steps that it is told to and reports its seconds."""

    def __init__(self, kind: str, count: int):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        options = [[__file__, "--kind", kind, "--process", f"{address},{count},{index}"] for index in range(count)]
        self._processes = [subprocess.Popen([sys.executable, *each], **pipes) for each in options]

    def run(self, steps: int) -> tuple[float, float]:
        """Return the wall seconds of the slowest process, and the processor seconds of all."""
        for process in self._processes:
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
        lines = (
            next(line for line in process.stdout if line[0].isdigit()) for process in self._processes
        )  # not Gloo's
        seconds = [tuple(map(float, line.split())) for line in lines]
        return max(wall for wall, _ in seconds), sum(processor for _, processor in seconds)

    def stop(self) -> None:
        for process in self._processes:
            process.stdin.close()
        for process in self._processes:  # each ends once all have
            process.wait()


def train(kind: str, address: str, count: int, index: int) -> None:
    """Take as many steps as each line of standard input says."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index]})
    os.environ["NPROC"] = "1"
    from flatwide import experiment
    from flatwide.runs import jax_settings

    if count > 1:
        jax_settings.start_processes(address, count, index)
    built = experiment.build(made_data.IMAGE_STEP | {"num_epochs": 1000} | KINDS[kind])
    state, segment, step = built.init(), built.segment(), 0
    for line in sys.stdin:
        wall, processor, last = time.perf_counter(), time.process_time(), step + int(line)
        while step < last:
            stop = min(last, (step // built.steps_per_epoch + 1) * built.steps_per_epoch)
            state, _, _ = segment(built.values, state, stop)
            step = stop
        print(time.perf_counter() - wall, time.process_time() - processor, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="of a block")
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--process", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.process:
        address, count, index = flags.process.split(",")
        train(flags.kind, address, int(count), int(index))
        return
    print(f"load of the last minute before it starts: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    for kind in KINDS:
        one, two = Side(kind, 1), Side(kind, 2)
        for side in (one, two):
            side.run(1)  # compiles
        blocks = [(one.run(flags.steps), two.run(flags.steps)) for _ in range(flags.repeats)]
        one.stop()
        two.stop()
        wall = harness.ratio([alone[0] for alone, _ in blocks], [2 * both[0] for _, both in blocks])
        processor = harness.ratio([alone[1] for alone, _ in blocks], [both[1] for _, both in blocks])
        seconds = min(alone[0] for alone, _ in blocks) / flags.steps
        print(f"{kind}: efficiency {wall}, by processor time {processor}; {seconds:.3f} s a step of one", flush=True)


if __name__ == "__main__":
    main()
