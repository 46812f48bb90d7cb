"""Time of PPO on Atari Breakout by part: the emulator, the playing network and the updates.

Run:     python benchmarks/atari_steps.py [--num_filters 16 32] [--threads 1] [--repeats 3] [--turns 128]
Does:    plays 8 games with random actions and no network; runs the network on as many screens without the emulator; and
         takes the updates of an epoch of as many actions, with Adam alone and with SAM. Each part runs separately, in
         turn, after one warm-up; then a whole epoch as in training.
Prints:  for each part the actions per second of processor time, which other load affects less than wall time, as a
         median with its range; the same by wall time in brackets; the share of each part in an epoch; and the
         operations per second of the learner above which the emulator is the bottleneck.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

GAMES, RHO, UPDATE_EPOCHS, BATCH = 8, 0.05, 3, 256
POSITIONS = {"conv_1": 20 * 20, "conv_2": 9 * 9, "conv_3": 7 * 7}  # where a filter is applied on 84 x 84 pixels
GRADIENT = 3  # a gradient costs about three forward passes


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_filters", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--turns", type=int, default=128, help="actions of each game in an epoch")
    return parser.parse_args()


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Measure the processor and wall seconds of a function."""
    processor, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - processor, time.perf_counter() - wall


def rates(seconds: list[tuple[float, float]], actions: int) -> str:
    processor, wall = ([actions / each for each in part] for part in zip(*seconds, strict=True))
    return (
        f"{statistics.median(processor):7,.0f} ({min(processor):,.0f} .. {max(processor):,.0f}) "
        f"[{statistics.median(wall):,.0f}]"
    )


def main() -> None:
    options = arguments()
    os.environ["NPROC"] = str(options.threads)
    import ale_py
    import jax
    import numpy as np

    from flatwide import experiment, trees
    from flatwide.data.atari import BREAKOUT
    from flatwide.data.emulator import FRAME_SKIP, Consoles
    from flatwide.runs.experiment import Experiment
    from flatwide.training import hosted
    from flatwide.training.segments import resident_segment

    device = jax.devices()[0].device_kind
    print(
        f"{platform.machine()}, {options.threads} thread(s), device {device}, jax {jax.__version__}, "
        f"ale-py {ale_py.__version__}; {GAMES} games, {options.turns} turns, median of {options.repeats}"
    )
    actions = GAMES * options.turns
    consoles, generator = Consoles(BREAKOUT, GAMES), np.random.default_rng(0)

    def play_at_random() -> None:
        for _ in range(options.turns):
            chosen = generator.integers(4, size=GAMES)
            consoles.step(chosen, generator.random((GAMES, FRAME_SKIP)))

    def built_for(num_filters: int, rho: float) -> Experiment:
        config = {
            "model": "ActorCritic",
            "num_filters": num_filters,
            "dataset": "atari_breakout",
            "loss": "ppo",
            "base_optimizer": "adam",
            "rho": rho,
            "learning_rate": 2.5e-4,
            "lr_scheduler": "linear",
            "gradient_clip": 0.5,
            "num_envs": GAMES,
            "unroll_length": options.turns,
            "update_epochs": UPDATE_EPOCHS,
            "batch_size": BATCH,
            "num_epochs": 9765,
        }
        return experiment.build(config)

    for num_filters in options.num_filters:
        built = {"Adam": built_for(num_filters, 0.0), "SAM": built_for(num_filters, RHO)}
        first = built["SAM"]
        state = first.init()
        act, network = hosted._compiled_act(first.workload), (state.params, state.stats, state.mask)
        key, screens = jax.random.key(0), consoles.observations

        def answer(act=act, network=network, key=key, screens=screens) -> None:
            for turn in range(options.turns):
                np.asarray(act(network, screens, key, np.int32(turn))[0])

        def updates(name: str, built=built) -> Callable[[], None]:
            run = resident_segment(built[name].step, {}, plan=built[name].source.plan)
            begun = built[name].source.plan.play(built[name].values, built[name].init())
            held = jax.device_get(begun)
            return lambda: run(built[name].values, held, built[name].steps_per_epoch)

        parts = {"emulator": play_at_random, "network plays": answer}
        parts |= {f"updates, {name}": updates(name) for name in built}
        for part in parts.values():
            part()
        seconds_of_parts: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
        for _ in range(options.repeats):
            for name, part in parts.items():
                seconds_of_parts[name].append(timed(part))

        print(f"\n{num_filters} filters, {trees.size(state.params):,} parameters: actions a second of processor time")
        for name, seconds in seconds_of_parts.items():
            print(f"  {name:14} {rates(seconds, actions)}")
        forward = sum(
            2 * np.prod(layer["kernel"].shape) * POSITIONS.get(name, 1) for name, layer in state.params.items()
        )
        medians = {name: statistics.median(each for each, _ in seconds) for name, seconds in seconds_of_parts.items()}
        for name, gradients in {"Adam": 1, "SAM": 2}.items():
            part_seconds = {part: medians[part] for part in ("emulator", "network plays", f"updates, {name}")}
            shares = ", ".join(
                f"{part} {100 * each / sum(part_seconds.values()):.0f} %" for part, each in part_seconds.items()
            )
            operations = forward * (1 + UPDATE_EPOCHS * gradients * GRADIENT)
            learner = sum(part_seconds.values()) - part_seconds["emulator"]
            here, needed = (actions * operations / each / 1e9 for each in (learner, part_seconds["emulator"]))
            print(
                f"  {name}: {actions / sum(part_seconds.values()):,.0f} actions a second in all: {shares}. "
                f"{operations / 1e6:,.0f} million operations an action: here {here:.1f} billion a second; "
                f"from {needed:,.0f} on the emulator limits."
            )


if __name__ == "__main__":
    main()
