"""Every ascent rule, and small networks in plain JAX, for the tests of SAM."""

import functools
import itertools
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatwide import registry, sam

# Your own rule goes through the same contract: FLATWIDE_SAM_VARIANT=path/to/file.py:name pytest tests/sam
NAMES = [*sorted(sam.VARIANTS), *filter(None, [os.environ.get("FLATWIDE_SAM_VARIANT")])]
OPTIONS = {
    "layerwise": {"layer_scales": (".*/kernel=0.5", ".*/bias=2")},
    "subset": {"ascent_layers": (".*/kernel", ".*/scale")},
}


# Rules whose steps differ in kind; the others take the tests that compile as users do among the slow ones.
KINDS = ("normalized", "adaptive", "momentum", "subset")


def pytest_collection_modifyitems(items):
    for item in items:
        name = item.callspec.params.get("variant") if hasattr(item, "callspec") else None
        if name in sam.VARIANTS and name not in KINDS and item.get_closest_marker("optimized"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=NAMES)
def variant(request) -> Callable[..., sam.AscentRule]:
    """Find each rule by its name: rho -> AscentRule."""
    builder = registry.find("sam_variant", request.param, sam.VARIANTS)
    return functools.partial(builder, **OPTIONS.get(request.param, {}))


def split(loss_fn: Callable) -> sam.SplitLoss:
    """Split a loss so that every rule takes it: unless it is split, its value is the only output."""
    if isinstance(loss_fn, sam.SplitLoss):
        return loss_fn
    return sam.SplitLoss(lambda *arguments: (loss_fn(*arguments), ()), lambda value, *arguments: value)


@pytest.fixture
def gradient_of() -> Callable:
    """Take the first gradient of any rule, with or without a state: (rule, loss_fn, params, ...) -> value, gradient."""

    def gradient_of(rule, loss_fn, params, *arguments, has_aux=False, **options):
        loss_fn = loss_fn if has_aux else split(loss_fn)
        step = sam.stateful_value_and_grad(loss_fn, rule, has_aux=True, **options)
        value, gradient, _ = jax.jit(step)(params, rule.init(params), *arguments)
        return value if has_aux else value[0], gradient

    return gradient_of


class Network(NamedTuple):
    """loss_fn(params, batch) -> (mean loss, statistics of the batch)."""

    loss_fn: sam.SplitLoss
    params: dict
    batches: list


def make_network(*, batch_norm: bool, sizes=(8, 12, 6, 3), num_batches=20, batch_size=16) -> Network:
    random = np.random.default_rng(0)
    params = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        params[f"layer{i}"] = {
            "kernel": jnp.asarray(random.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in), float),
            "bias": jnp.zeros(fan_out),
            "scale": jnp.ones(fan_out),
        }

    def outputs(params, batch):
        x, statistics = batch["inputs"], {}
        for name, layer in params.items():
            x = x @ layer["kernel"]
            if batch_norm:
                statistics[name] = mean, variance = jnp.mean(x, axis=0), jnp.var(x, axis=0)
                x = (x - mean[None]) * jax.lax.rsqrt(variance + 1e-5)[None]
            x = x * layer["scale"][None] + layer["bias"][None]
            x = jax.nn.relu(x) if name != f"layer{len(params) - 1}" else x
        return x, statistics

    def criterion(x, batch):
        losses = jax.nn.logsumexp(x, axis=1) - jnp.take_along_axis(x, batch["targets"][:, None], axis=1)[:, 0]
        return jnp.mean(losses)

    batches = [
        {
            "inputs": jnp.asarray(random.normal(size=(batch_size, sizes[0])), float),
            "targets": jnp.asarray(random.integers(0, sizes[-1], batch_size)),
        }
        for _ in range(num_batches)
    ]
    return Network(sam.SplitLoss(outputs, criterion), params, batches)


@pytest.fixture
def mlp() -> Network:
    """Build a network of three layers, each with kernel, bias and scale."""
    return make_network(batch_norm=False)


@pytest.fixture
def batch_norm() -> Network:
    """Build the same network with batch norm."""
    return make_network(batch_norm=True)


@pytest.fixture(params=[False, True], ids=["mlp", "batch_norm"])
def network(request) -> Network:
    """Build the network without and with batch norm."""
    return make_network(batch_norm=request.param)
