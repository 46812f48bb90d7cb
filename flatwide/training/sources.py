"""Sources of training batches and evaluations: stored examples, or games that the network plays."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import data, streams
from flatwide.training import hosted, rollouts
from flatwide.training.compiled_epochs import Scored
from flatwide.training.devices import Sharding, copy_to_all, count, to_host
from flatwide.training.evaluate import Evaluation, Pass, compiled_scores, streamed_scores, summarize
from flatwide.training.plans import Shuffled, Windows
from flatwide.training.rollouts import Minibatches, WholeGames
from flatwide.training.segments import Segment, resident_segment, streamed_segment
from flatwide.training.state import State, Values
from flatwide.training.step import Step
from flatwide.types import Batch, PyTree, Split
from flatwide.workloads import Workload


def source_of(train: Split, workload: Workload, *, batch_size: int, schedule: Callable) -> "Source":
    """Build the source of a training split.

    Args:
      schedule: step -> factor of the learning rate, which the plan of a game may read too.
    """
    if not isinstance(train, data.Played):
        rows = Shuffled(train.num_examples, batch_size, workload.padding)
        is_sequence = isinstance(train, data.Consecutive)
        return Listed(train, Windows(rows, train.arrays["inputs"].shape[1]) if is_sequence else rows)
    kind = Minibatches if data.is_compiled(train) else hosted.HostMinibatches
    return Playing(kind(workload, train, batch_size, schedule))


class Listed(NamedTuple):
    """The examples of a split, each once an epoch."""

    split: Split
    plan: Shuffled | Windows

    @property
    def arrays(self) -> Batch:
        """The examples of a split in memory; empty for a streamed one."""
        return self.split.arrays if isinstance(self.split, data.Resident) else {}

    def segment(self, step: Step, sharding: Sharding) -> Segment:
        """Build a segment that chooses examples inside the program if it can hold them, and streams them otherwise."""
        if isinstance(self.split, data.Resident):
            return resident_segment(step, self.arrays, plan=self.plan, sharding=sharding)
        assert isinstance(self.plan, Shuffled)  # windows are held in memory
        return streamed_segment(step, self.split, plan=self.plan, sharding=sharding)

    def batch(self, values: Values, step: int, start: Callable[[], State]) -> Batch:
        """Read the raw batch of a step; `start`, which makes the state before the first one, is not needed."""
        del start
        epoch, within = divmod(step, self.plan.steps_per_epoch)
        order = np.asarray(self.plan.order(values.seed, jnp.int32(epoch), self.arrays))
        if isinstance(self.plan, Windows):
            moved = self.plan.batch(jnp.asarray(order), self.arrays, jnp.int32(within))
            return jax.tree.map(np.asarray, moved)
        seed = int(values.seed)
        batches = self.split.batches(
            self.plan.batch_size, order=order, seed=seed, epoch=epoch, train=True, first_batch=within
        )
        return next(iter(batches))

    def draw(self, values: Values, num_examples: int) -> Callable[[Callable[[], State]], Batch]:
        """Build (state -> a raw batch of some training examples, or of all), in the order of the split.

        With one seed, fewer examples are a part of more. They are read once, since no state changes them.
        """
        batch = some(self.split, values, num_examples)
        return lambda state: batch


class Playing(NamedTuple):
    """A source of examples that the network plays when an epoch begins."""

    plan: Minibatches

    @property
    def arrays(self) -> Batch:
        """Empty: the examples are part of the state."""
        return {}

    def segment(self, step: Step, sharding: Sharding) -> Segment:
        """Build a segment that plays inside the program if the game can be compiled, and on the host otherwise."""
        run = resident_segment(step, self.arrays, plan=self.plan, sharding=sharding)
        if not isinstance(self.plan, hosted.HostMinibatches):
            return run

        def segment(values: Values, state: State, stop: int) -> tuple[State, np.ndarray, float]:
            is_first = int(state.step) % self.plan.steps_per_epoch == 0
            return run(values, self.plan.play(values, state) if is_first else state, stop)

        return segment

    def batch(self, values: Values, step: int, start: Callable[[], State]) -> Batch:
        """Play the first epoch, and return the batch of one of its steps.

        Raises: ValueError for a step of a later epoch.
        """
        if step >= self.plan.steps_per_epoch:
            raise ValueError(
                f"step={step}: expected one of the first {self.plan.steps_per_epoch}; later ones are played by a "
                "trained network. Play with it: state = built.source.plan.play(built.values, state)."
            )
        state = self.plan.play(values, start())
        # Not `begin` at step 0, which would play once more.
        return self.plan.batch(self.plan.material(values.seed, state), {}, jnp.int32(step))

    def draw(self, values: Values, num_examples: int) -> Callable[[Callable[[], State]], Batch]:
        """Play the first epoch, and return some of its actions in the order of play.

        Their loss is that of PPO's next step.
        """

        def played(state: Callable[[], State]) -> Batch:
            batch = rollouts.whole(self.plan.play(values, state()))
            rows = chosen(values, len(jax.tree.leaves(batch)[0]), num_examples)
            return jax.tree.map(lambda leaf: leaf[rows], batch)

        return played


Source = Listed | Playing  # of the examples of a run, each with the same methods


def chosen(values: Values, total: int, num_examples: int) -> np.ndarray:
    """Draw some of the examples, in order; with one seed, fewer are a part of more."""
    return np.sort(streams.generator(int(values.seed), "measurement").permutation(total)[:num_examples])


def some(split: Split, values: Values, num_examples: int) -> Batch:
    """Read some examples of a split, chosen by the seed, without augmentation."""
    split = split.take(chosen(values, split.num_examples, num_examples))
    (batch,) = split.batches(split.num_examples, order=np.arange(split.num_examples), seed=0, epoch=0, train=False)
    return batch


def evaluator(
    workload: Workload,
    split: Split,
    *,
    batch_size: int,
    num_batches: int | None = None,
    sharding: Sharding = None,
    interrupt: Callable[[], bool] = lambda: False,
) -> Callable[[State], Evaluation]:
    """Build state -> evaluation of a split, in evaluation mode and without augmentation.

    Args:
      batch_size: examples at a time; it changes memory and speed only.
      num_batches: score only the first of the batches; None for the whole split. A game is scored by whole games.
      interrupt: called after each batch of a streamed split or turn of a game on the host; once it returns true,
        `Interrupted` is raised.
    """
    games = split.games if isinstance(split, data.Played) else split
    if isinstance(games, data.Games):
        if not data.is_compiled(games):
            scores_of = hosted.whole_games(workload, games, interrupt=interrupt)
            return lambda state: summarize(workload, scores_of(state))
        scorer, arrays = WholeGames(games), games.arrays
    else:
        total = split.num_examples
        num_scored = total if num_batches is None else min(total, num_batches * batch_size)
        batch_size = -(-min(batch_size, num_scored) // count(sharding)) * count(sharding)
        if not isinstance(split, data.Resident):
            options = {"batch_size": batch_size, "sharding": sharding, "interrupt": interrupt}
            streamed = streamed_scores(workload, split, num_scored, **options)
            return lambda state: summarize(workload, streamed(state))
        scorer = Pass(num_scored, batch_size, sharding)
        arrays = jax.tree.map(lambda array: array[:num_scored], split.arrays)
    run, arrays = compiled_scores(workload, scorer), copy_to_all(arrays, sharding)
    return lambda state: summarize(workload, to_host(run(state, arrays)))


def scored(split: Split, *, batch_size: int) -> Scored:
    """Return how a compiled program scores a split that it can hold or play.

    Raises: ValueError for another one.
    """
    if isinstance(split, data.Games) and data.is_compiled(split):
        return Scored(split.arrays, WholeGames(split))
    if isinstance(split, data.Resident):
        return Scored(split.arrays, Pass(split.num_examples, min(batch_size, split.num_examples)))
    raise ValueError(f"split={type(split).__name__}: expected one that a compiled program can hold or play.")


def raw_shapes(split: Split, example: PyTree, num_examples: int) -> Batch:
    """Return the shapes of a raw batch of a training split, without playing."""
    if isinstance(split, data.Played):
        inputs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_examples, *leaf.shape), leaf.dtype), example)
        return {"inputs": inputs, "targets": jax.eval_shape(lambda: rollouts.no_targets(num_examples))}
    first = next(iter(split.batches(1, order=np.arange(1), seed=0, epoch=0, train=False)))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_examples, *leaf.shape[1:]), leaf.dtype), first)
