"""An estimate of the duration of a run before it starts, from some of its own steps."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import data
from flatwide.runs import build, driver, jax_settings, memory, preview
from flatwide.runs.experiment import Experiment
from flatwide.runs.parts import load_dataset
from flatwide.types import Batch, Dataset, Split

_ENOUGH_SECONDS = 3.0  # of steps that are timed, after compiling
_LARGEST_STEP = 1e11  # floating-point operations, some seconds of one core; larger steps are not timed
_SCORED_BATCHES = 8  # that are timed: enough for the overhead of a call not to dominate
_FORWARD = 1 / 3  # operations of a forward pass relative to those of a gradient


class Estimate(NamedTuple):
    """The estimated duration of a run, without measurements.

    seconds: of the run, once its programs are in the cache of compiled programs. compile_seconds: for compiling them
    into the cache; 0 if nothing was timed. is_timed: whether steps were timed; else the duration follows from the
    arithmetic of the network.
    """

    seconds: float
    compile_seconds: float
    is_timed: bool


def estimate(config: Mapping[str, Any]) -> Estimate:
    """Estimate the duration of a run on this machine, as in `seconds` of its result.

    The run's own programs train for some seconds, and score some batches; nothing is written but the cache of
    compiled programs. If the data are not on this machine, examples of the declared shapes replace them.

    Args:
      config: a resolved config.
    Raises: as `build.build`; OutOfMemoryError if the network does not fit into memory.
    Cost: compiling, some seconds of steps, and a few batches of evaluation; for networks whose steps are too long, only
      the compilation of one convolution.
    """
    operations = preview.operations(config)
    if operations * (2 if preview.has_ascent(config) else 1) > _LARGEST_STEP:
        return _from_arithmetic(config, operations)
    built = build.assemble(config, dataset=_dataset(config))
    memory.check(built)
    return _timed(built)


def _timed(built: Experiment) -> Estimate:
    compiled = jax_settings.compile_seconds()
    seconds = _step_seconds(built) * built.num_steps
    if not (built.is_small or built.config["group_size"] > 1):  # else the program of the steps scores too
        for split in (built.test, built.validation) if built.validation else (built.test,):
            seconds += (1 + built.has_average) * _scoring_seconds(built, split, built.eval_every_steps)
        seconds += _scoring_seconds(built, built.scored_train, built.num_steps)  # only at the end
    compiled = jax_settings.compile_seconds() - compiled
    return Estimate(seconds=seconds + _loading_seconds(built), compile_seconds=compiled, is_timed=True)


def _loading_seconds(built: Experiment) -> float:
    """Return the time for tracing the program of the steps and loading it from the cache, as the run will."""
    jax.clear_caches()
    before = jax_settings.compile_seconds()
    next(iter(driver.steps(built, built.init())))
    return jax_settings.compile_seconds() - before


def _step_seconds(built: Experiment) -> float:
    """Train for a while, and return the seconds per step without compiling."""
    began, compiled = time.monotonic(), jax_settings.compile_seconds()
    first: tuple[int, float] | None = None
    step = 0
    for taken in driver.steps(built, built.init()):
        if taken.state is None:
            continue  # within a call, which has taken all its steps already
        step, now = taken.step, time.monotonic()
        if first is None:
            first = step, now
        elif now - first[1] >= _ENOUGH_SECONDS:
            break
    now = time.monotonic()
    if first is not None and step > first[0]:
        return (now - first[1]) / (step - first[0])
    return max(0.0, now - began - (jax_settings.compile_seconds() - compiled)) / max(step, 1)


def _num_scored(config: Mapping[str, Any], num_examples: int, *, num_steps: int, eval_every_steps: int) -> int:
    """Count the batches of a split in all evaluations of a run; only the last one scores all of it."""
    whole = -(-num_examples // config["batch_size"])
    limited = min(config["steps_per_eval"] or whole, whole)
    return (-(-num_steps // eval_every_steps) - 1) * limited + whole


def _scoring_seconds(built: Experiment, split: Split, eval_every_steps: int) -> float:
    """Score some batches twice, the first time with compiling, and scale the time to all evaluations of a split."""
    if not isinstance(split, data.Resident | data.Streamed):  # a game, which is as long as the policy is good
        return 0.0
    num_batches = _num_scored(
        built.config, split.num_examples, num_steps=built.num_steps, eval_every_steps=eval_every_steps
    )
    num_timed = min(-(-split.num_examples // built.config["batch_size"]), _SCORED_BATCHES)
    evaluate, state = built.evaluator(split, num_batches=num_timed), built.init()
    evaluate(state)
    began = time.monotonic()
    evaluate(state)
    return (time.monotonic() - began) * num_batches / num_timed


def _from_arithmetic(config: Mapping[str, Any], operations: float) -> Estimate:
    """Divide the operations of a run by those per second of a convolution, forward and backward.

    Args:
      operations: of one gradient of a batch.
    """
    sizes = preview.lengths(config)
    total = operations * (sizes.num_gradients + _FORWARD * _scored_batches(config))
    return Estimate(seconds=total / _operations_per_second(), compile_seconds=0.0, is_timed=False)


def _scored_batches(config: Mapping[str, Any]) -> int:
    """Count the batches of all splits, also with averaged weights, in all evaluations of a run."""
    sizes = preview.lengths(config)

    def scored(num_examples: int, eval_every_steps: int) -> int:
        return _num_scored(config, num_examples, num_steps=sizes.num_steps, eval_every_steps=eval_every_steps)

    often = sum(scored(count, sizes.eval_every_steps) for count in (sizes.num_test, sizes.num_validation))
    copies = 1 if config["weight_average"] == "none" else 2
    num_train = min(sizes.num_train, config["train_eval_examples"] or sizes.num_train)
    return copies * often + scored(num_train, sizes.num_steps)


def _operations_per_second() -> float:
    """Time the gradient of one 3 x 3 convolution of 64 channels, as in a residual network."""
    images, kernel = jnp.ones((8, 32, 32, 64)), jnp.ones((3, 3, 64, 64))

    @jax.jit
    def gradient(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        def loss(images: jax.Array, kernel: jax.Array) -> jax.Array:
            axes = ("NHWC", "HWIO", "NHWC")
            return jnp.sum(jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=axes) ** 2)

        return jax.grad(loss, argnums=(0, 1))(images, kernel)

    jax.block_until_ready(gradient(images, kernel))
    began, count = time.monotonic(), 0
    while time.monotonic() - began < _ENOUGH_SECONDS / 6:
        jax.block_until_ready(gradient(images, kernel))
        count += 1
    forward = 2 * images.size * kernel.size / kernel.shape[2]
    return 3 * forward * count / (time.monotonic() - began)


def _dataset(config: Mapping[str, Any]) -> Dataset:
    """Load the data set, or replace one that is not on this machine by zeros of its declared shapes."""
    declared = data.INFO.get(config["dataset"])
    if declared is None or preview.is_local(config):
        return load_dataset(config)

    def split(count: int) -> data.Resident:
        return data.Resident(
            {"inputs": np.zeros((count, *declared.input_shape), np.uint8), "targets": np.zeros(count, np.int32)}
        )

    return Dataset(
        train=split(declared.num_train),
        test=split(declared.num_test),
        prepare=_as_floats,
        example=jax.ShapeDtypeStruct(declared.input_shape, jax.dtypes.canonicalize_dtype(float)),
        num_outputs=declared.num_outputs,
        fingerprint="",
    )


def _as_floats(batch: Batch, key: jax.Array | None, *, train: bool) -> Batch:
    del key, train
    return batch | {"inputs": jnp.asarray(batch["inputs"], float) / 255}
