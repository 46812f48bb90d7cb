"""Where arrays lie when a process has several devices: parameters and data on each, batches in parts."""

import jax

from flatwide.types import PyTree

Sharding = jax.sharding.NamedSharding | None  # of a batch, over its first axis; None on one device


def over_local_devices() -> Sharding:
    """Split batches over all local devices of this process, if there are several."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return None
    axis_types = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=axis_types, devices=devices)
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))


def count(sharding: Sharding) -> int:
    """Count the devices that share a batch."""
    return 1 if sharding is None else sharding.num_devices


def copy_to_all(tree: PyTree, sharding: Sharding) -> PyTree:
    """Put arrays on the device, or whole on each of them."""
    if sharding is None:
        return jax.device_put(tree)
    return jax.device_put(tree, jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec()))


def split_over_all(batch: PyTree, sharding: Sharding) -> PyTree:
    """Put a batch on the device, or a part of it on each of them."""
    return jax.device_put(batch) if sharding is None else jax.device_put(batch, sharding)


def keep_split(batch: PyTree, sharding: Sharding) -> PyTree:
    """Say in a compiled program that each device works on its part of a batch, or of a piece of one that divides."""
    if sharding is None or jax.tree.leaves(batch)[0].shape[0] % sharding.num_devices:
        return batch
    return jax.lax.with_sharding_constraint(batch, sharding)
