"""Run by test_devices.py in a process of its own: the same gradients on four devices and on one."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from flatwide import sam

axis_type = getattr(jax.sharding.AxisType, sys.argv[1])
mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
split, everywhere = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
random = np.random.default_rng(0)
params = {"kernel": random.normal(size=(32, 64)), "out": random.normal(size=(64, 3))}
batch = {"inputs": random.normal(size=(64, 32)), "targets": random.normal(size=(64, 3))}


def loss_fn(params, batch):
    return jnp.mean((jnp.tanh(batch["inputs"] @ params["kernel"]) @ params["out"] - batch["targets"]) ** 2)


def spread_loss_fn(params, batch):
    """Say where the rows of a microbatch lie, which a mesh with automatic axes does not know inside a scan."""
    if axis_type == jax.sharding.AxisType.Auto:
        batch = jax.lax.with_sharding_constraint(batch, split)
    return loss_fn(params, batch)


both = {"microbatch": 32, "accumulation_steps": 2}
for options in ({}, {"microbatch": 16}, {"microbatch": 2}, {"accumulation_steps": 4}, both):
    alone = jax.jit(sam.value_and_grad(loss_fn, sam.normalized(0.5), **options)).lower(params, batch).compile()
    spread_loss = spread_loss_fn if "microbatch" in options else loss_fn
    value_and_grad = jax.jit(sam.value_and_grad(spread_loss, sam.normalized(0.5), **options))
    spread = jax.device_put(params, everywhere), jax.device_put(batch, split)
    on_four = value_and_grad.lower(*spread).compile()
    for a, b in zip(jax.tree.leaves(on_four(*spread)), jax.tree.leaves(alone(params, batch)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, err_msg=str(options))
    work = on_four.cost_analysis()["flops"] / alone.cost_analysis()["flops"]
    assert len(jax.devices()) == 4
    # Two rows cannot be spread over four devices; then each device does all of the work.
    assert work < (1.3 if options.get("microbatch") == 2 else 0.35), (options, work)
    sys.stdout.write(f"{options} agree, work {work:.2f}\n")
