"""The state before the first step, in programs that run once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from flatwide import averaging, optimizers, sam, streams, trees
from flatwide.training.state import State
from flatwide.types import Array, Model, PyTree


@dataclass(frozen=True)
class Start:
    """The state before the first step as a function of unpruned weights; equal instances share a program.

    restart: derives a model's state from its pruned weights, as in `Model`; None to keep the state as it is.
    variant: rho -> ascent rule; None without an ascent.
    """

    restart: Callable[[PyTree, PyTree], PyTree] | None
    optimizer: optimizers.Optimizer
    variant: Callable[..., sam.AscentRule] | None
    has_average: bool

    def __call__(self, rho: Array, params: PyTree, stats: PyTree, mask: PyTree | None, source: PyTree) -> State:
        params = trees.apply_mask(params, mask)
        stats = stats if self.restart is None else self.restart(params, stats)
        return State(
            step=jnp.zeros((), jnp.int32),
            params=params,
            stats=stats,
            optimizer=self.optimizer.init(params),
            ascent=() if self.variant is None else self.variant(rho).init(params),
            mask=mask,
            source=source,
            average=averaging.start(params, stats) if self.has_average else (),
        )


@jax.jit
def weights_key(seed: Array) -> Array:
    """Derive the key of the initial weights in one program; step by step it would take four."""
    return streams.key(seed, "weights")


@functools.lru_cache(maxsize=64)
def compiled_init(model: Model, shardings: tuple | None = None) -> Callable:
    """Compile a model's init.

    Args:
      shardings: of parameters and state, as `hashable` gives them; None for one device.
    """
    return _compiled_once(model.init, shardings)


@functools.lru_cache(maxsize=64)
def compiled_start(start: Start, shardings: tuple | None = None) -> Callable[..., State]:
    """Compile the state before the first step; each leaf is a copy, since a step donates its state's memory."""

    def begin(*parts: PyTree) -> State:
        return jax.tree.map(jnp.copy, start(*parts))

    return _compiled_once(begin, shardings)


def _compiled_once(function: Callable, shardings: tuple | None) -> Callable:
    """Compile a function that runs once, on a CPU without optimization, which takes a tenth of the time.

    Weights differ in their last bit from those of a program that LLVM has optimized, so its level is fixed. The fusion
    emitters change no bit at this level, and take half of the time.

    Args:
      shardings: of the results, as `hashable` gives them; None for one device.
    """
    is_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False} if is_cpu else None
    where = {} if shardings is None else {"out_shardings": jax.tree.unflatten(shardings[1], shardings[0])}
    return jax.jit(function, compiler_options=options, **where)
