"""PPO on MinAtar Breakout: one compiled program against Python loops, in actions per second.

Run:     python benchmarks/minatar_steps.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH_AND_MINATAR [--threads 1]
Does:    trains by configs/minatar_ppo.py at rho 0 for some epochs of 8,192 actions, in turn
         (a) as flatwide does: playing, advantages and updates in one compiled program;
         (b) the same compiled functions, but called turn by turn and update by update from Python, with the games of
         gymnax in one vectorized call;
         (c) a PyTorch network and the games of the original MinAtar package, which are Python (peers/torch_ppo.py).
         (a) and (c) also play the games alone, with random actions, and with the network but without updates.
Prints:  for each number of filters the actions a second of (a), and the seconds of (b) and of (c) over those of (a):
         medians with their ranges, by processor time, which other load touches less than the clock, and by the clock in
         brackets. It stops if (b) does not end with the weights of (a).
"""

import statistics
import time

import harness

ACTIONS = 64 * 128  # of an epoch


def timed(function, *arguments):
    """Measure the wall and processor seconds of a function, and return its result too."""
    import jax

    wall, processor = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(function(*arguments))
    return (time.perf_counter() - wall, time.process_time() - processor), result


def spread(numbers) -> str:
    ordered = sorted(numbers)
    return f"{statistics.median(ordered):,.1f} ({ordered[0]:,.1f} .. {ordered[-1]:,.1f})"


def both(peer_seconds, our_seconds) -> str:
    """Write the ratio by processor time, and by the clock in brackets."""
    wall, processor = zip(
        *((a[0] / b[0], a[1] / b[1]) for a, b in zip(peer_seconds, our_seconds, strict=True)),
        strict=True,
    )
    return f"{spread(processor)} [{statistics.median(wall):.1f}]"


def rates(our_seconds) -> str:
    """Write actions a second."""
    wall, processor = zip(*our_seconds, strict=True)
    return f"{spread(ACTIONS / each for each in processor)} [{ACTIONS / statistics.median(wall):,.0f}]"


def play_at_random(game, num_envs: int, turns: int):
    """Compile a function of a key and running games that plays without a network, and also returns the last boards."""
    import jax

    def turn(states, key):
        draw, chance = jax.random.split(key)
        actions = jax.random.randint(draw, (num_envs,), 0, 3)
        states, after = jax.vmap(game.step)(jax.random.split(chance, num_envs), states, actions)
        return states, (after.observation, after.reward)

    return jax.jit(lambda key, states: jax.lax.scan(turn, states, jax.random.split(key, turns)))


class Loop:
    """The compiled functions of one run, called from Python turn by turn and update by update."""

    def __init__(self, built):
        import jax
        import jax.numpy as jnp

        from flatwide import streams
        from flatwide.training import rollouts

        plan, split, game = built.source.plan, built.train, built.train.game
        self.built, self.split = built, split

        def turn(params, playing, key):
            return rollouts.take_turn(game, rollouts.policy_of(built.workload, params, {}, None), playing, key)

        def keys_of(epoch):
            key = jax.random.fold_in(streams.key(built.values.seed, "actions"), epoch)
            return jax.random.split(key, split.unroll_length)

        def examples_of(params, step, seen):
            options = {"discount": split.discount, "gae_lambda": split.gae_lambda}
            values = rollouts.next_values(rollouts.policy_of(built.workload, params, {}, None), seen)
            return rollouts.examples(seen, values, clip_factor=plan.schedule(step), **options)

        self.turn, self.keys_of, self.examples_of = jax.jit(turn), jax.jit(keys_of), jax.jit(examples_of)
        self.orders_of = jax.jit(lambda epoch: plan._order(built.values.seed, epoch))
        self.batch_of = jax.jit(lambda examples, order, within: plan.batch((examples, order), {}, within))
        self.stack = jax.jit(lambda seen: jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen))

    def epoch(self, state):
        import numpy as np

        built, epoch = self.built, int(state.step) // self.built.steps_per_epoch
        playing, seen = state.source["playing"], []
        for key in self.keys_of(np.int32(epoch)):
            playing, transition = self.turn(state.params, playing, key)
            seen.append(transition)
        examples, order = self.examples_of(state.params, state.step, self.stack(seen)), self.orders_of(np.int32(epoch))
        state = state._replace(source={"playing": playing, "examples": examples})
        for within in range(built.steps_per_epoch):
            batch = self.batch_of(state.source["examples"], order, np.int32(within))
            state, _ = built.train_step(state, batch)
        return state


def main() -> None:
    parser = harness.arguments(__doc__, repeats=5)
    parser.add_argument("--num_filters", type=int, nargs="+", default=[4, 16])
    flags = parser.parse_args()
    header = harness.start(flags)

    import jax
    import numpy as np

    from flatwide import experiment
    from flatwide.config import load_file

    config = load_file(str(harness.HERE.parent / "configs" / "minatar_ppo.py"))
    for num_filters in flags.num_filters:
        built = experiment.build(config | {"rho": 0.0, "num_filters": num_filters})
        segment, loop, state = built.segment(), Loop(built), built.init()
        peer = harness.Peer(flags, "torch_ppo.py", str(num_filters))
        split = built.train
        at_random, key = play_at_random(split.game, split.num_envs, split.unroll_length), jax.random.key(0)
        games = state.source["playing"].states
        begun = jax.device_put(jax.tree.map(np.asarray, state))
        parts = ("games", "play", "train")
        for part in parts:
            peer.ask(part)
        timed(at_random, key, games), timed(built.source.plan.play, built.values, begun)
        looped = loop.epoch(built.init())
        state, _, _ = segment(built.values, state, built.steps_per_epoch)
        for weights, expected in zip(jax.tree.leaves(looped.params), jax.tree.leaves(state.params), strict=True):
            if not np.allclose(weights, expected, atol=1e-3):
                raise SystemExit(f"the loop's weights differ by {np.abs(weights - expected).max()}.")
        times, peers, loops = {part: [] for part in parts}, {part: [] for part in parts}, []
        for _ in range(flags.repeats):
            before = jax.tree.map(np.asarray, state)  # a segment uses its state up
            times["games"].append(timed(at_random, key, games)[0])
            times["play"].append(timed(built.source.plan.play, built.values, begun)[0])
            seconds, (state, _) = timed(segment, built.values, state, int(state.step) + built.steps_per_epoch)
            times["train"].append(seconds)
            loops.append(timed(loop.epoch, jax.device_put(before))[0])
            for part in parts:
                peers[part].append(tuple(map(float, peer.ask(part).split())))
        peer.stop()
        print(
            f"{num_filters} filters, {header}, {peer.versions}, "
            f"{flags.repeats} epochs of {ACTIONS:,} actions\n"
            f"training: (a) {rates(times['train'])} actions a second; "
            f"(b) loop over the same compiled functions / (a) {both(loops, times['train'])}; "
            f"(c) PyTorch and the original games / (a) {both(peers['train'], times['train'])}\n"
            f"playing: (a) {rates(times['play'])}; (c) / (a) {both(peers['play'], times['play'])}\n"
            f"games alone: (a) {rates(times['games'])}; (c) / (a) {both(peers['games'], times['games'])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
