"""Run by test_devices.py in a process of its own: the same gradients on four devices and on one."""

import math
import re
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
    """Constrain the rows of a microbatch to be split, which a mesh with automatic axes does not infer inside a scan."""
    if axis_type == jax.sharding.AxisType.Auto:
        batch = jax.lax.with_sharding_constraint(batch, split)
    return loss_fn(params, batch)


def work(program) -> float:
    """Count the operations of a program on each device; its own count has the body of a loop once."""
    trips = re.findall(r'"known_trip_count":\{"n":"(\d+)"', program.as_text())
    return program.cost_analysis()["flops"] * math.prod(map(int, trips))


apart = [{"microbatch": 4, "sharding": split}, {"microbatch": 16, "accumulation_steps": 2, "sharding": split}]
both = {"microbatch": 32, "accumulation_steps": 2}
shared = [{}, {"microbatch": 16}, {"microbatch": 2}, {"accumulation_steps": 4}, both]
for options in shared + (apart if axis_type == jax.sharding.AxisType.Auto else []):
    is_apart = "sharding" in options
    alone_options = {name: value for name, value in options.items() if name != "sharding"}
    alone = jax.jit(sam.value_and_grad(loss_fn, sam.normalized(0.5), **alone_options)).lower(params, batch).compile()
    spread_loss = spread_loss_fn if "microbatch" in options and not is_apart else loss_fn
    value_and_grad = jax.jit(sam.value_and_grad(spread_loss, sam.normalized(0.5), **options))
    spread = jax.device_put(params, everywhere), jax.device_put(batch, split)
    on_four = value_and_grad.lower(*spread).compile()
    for a, b in zip(jax.tree.leaves(on_four(*spread)), jax.tree.leaves(alone(params, batch)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, err_msg=str(options))
    ratio = work(on_four) / work(alone)
    assert len(jax.devices()) == 4
    # Two rows cannot be spread over four devices; then each device does all of the work.
    assert ratio < (1.3 if options == {"microbatch": 2} else 0.35), (options, ratio)
    sys.stdout.write(f"{options} agree, work {ratio:.2f}\n")
