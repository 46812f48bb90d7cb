"""Placement of arrays on the devices of one or several processes: batches split, parameters replicated or sharded."""

import math
from collections.abc import Mapping

import jax
import numpy as np

from flatwide import processes
from flatwide.types import Array, PyTree

_SMALL_LEAF = 1 << 14  # entries: smaller leaves are replicated, since gathering them would save little memory
_PIECE_BYTES = 1 << 26  # of arrays sent at a time, which avoids a second copy of the network in memory

Sharding = jax.sharding.NamedSharding | None  # of a batch, over its first axis; None on one device


def over_devices(*, is_local: bool = False) -> Sharding:
    """Build the sharding of batches over all devices of the processes that train together; None for one device.

    Args:
      is_local: use the devices of this process only.
    """
    devices = jax.devices() if processes.count() > 1 and not is_local else jax.local_devices()
    if len(devices) == 1:
        return None
    axis_types = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=axis_types, devices=devices)
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))


def count(sharding: Sharding) -> int:
    """Count the devices that share a batch."""
    return 1 if sharding is None else sharding.num_devices


def copy_to_all(tree: PyTree, sharding: Sharding) -> PyTree:
    """Put arrays on the device, or replicate them on all devices."""
    if sharding is None:
        return jax.device_put(tree)
    everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    if sharding.is_fully_addressable:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(lambda leaf: put(leaf, everywhere), tree)


def split_axis(shape: tuple[int, ...], num_devices: int) -> int | None:
    """Choose the axis along which a leaf of a sharded state is split, or None for a replicated leaf.

    This is the largest axis whose size is a multiple of the number of devices, the last of equal ones. Leaves of fewer
    than 2^14 entries are replicated.
    """
    axes = [axis for axis, size in enumerate(shape) if size % num_devices == 0]
    if num_devices == 1 or not axes or math.prod(shape) < _SMALL_LEAF:
        return None
    return max(axes, key=lambda axis: (shape[axis], axis))


def state_shardings(tree: PyTree, sharding: jax.sharding.NamedSharding) -> PyTree:
    """Return the sharding of each leaf of a sharded state, by the rule of `split_axis`.

    Args:
      tree: arrays, or shapes and dtypes. sharding: of a batch; leaves are split over the same axis of the mesh.
    """

    def of_leaf(leaf) -> jax.sharding.NamedSharding:
        axis = split_axis(leaf.shape, sharding.num_devices)
        spec = () if axis is None else (*[None] * axis, *sharding.spec)
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*spec))

    return jax.tree.map(of_leaf, tree)


def keep_sharded(tree: PyTree, sharding: Sharding) -> PyTree:
    """Constrain a sharded state, and its gradients in reverse mode, to stay sharded within a compiled program."""
    return tree if sharding is None else jax.lax.with_sharding_constraint(tree, state_shardings(tree, sharding))


def put(leaf: Array | np.ndarray, sharding: jax.sharding.Sharding | None) -> Array:
    """Put an array that is equal in all processes on the devices of a sharding; None for the default device."""
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding, may_alias=False)
    if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    # `device_put` would first compare the array with that of every other process.
    array = np.asarray(leaf)
    array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def local_rows(num_rows: int, sharding: Sharding) -> np.ndarray:
    """List the rows of a batch that lie on the devices of this process: the rows that it must read."""
    if sharding is None or sharding.is_fully_addressable:
        return np.arange(num_rows)
    indices = sharding.addressable_devices_indices_map((num_rows,)).values()
    return np.unique(np.concatenate([np.arange(num_rows)[index] for index in indices]))


def split_over_all(rows: PyTree, sharding: Sharding, *, num_rows: int) -> PyTree:
    """Put a batch on the device, or split it over all devices.

    Args:
      rows: the rows of the batch that `local_rows` lists; num_rows: of the whole batch.
    """
    if sharding is None:
        return jax.device_put(rows)
    if sharding.is_fully_addressable:
        return jax.device_put(rows, sharding)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, leaf, (num_rows, *leaf.shape[1:])), rows
    )


def to_host(tree: PyTree) -> PyTree:
    """Copy whole arrays to the host of each process; all processes must call it."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def of_first(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Broadcast the arrays of process 0 to all processes, bit for bit; the arguments of the others are not read."""
    if processes.count() == 1:
        return dict(arrays)
    from jax.experimental import multihost_utils

    leaves = {name: np.asarray(array) for name, array in arrays.items()}
    listed = processes.agreed(lambda: [[name, leaf.dtype.str, leaf.shape] for name, leaf in leaves.items()])
    received = {}
    for name, dtype, shape in listed:
        leaf = leaves[name] if processes.is_first() else np.empty(shape, dtype)
        # Bytes, since the broadcast is a sum with zeros, which would turn -0.0 into 0.0.
        content = np.frombuffer(leaf.tobytes(), np.uint8)
        pieces = [content[begin : begin + _PIECE_BYTES] for begin in range(0, len(content), _PIECE_BYTES)]
        sent = [np.asarray(multihost_utils.broadcast_one_to_all(piece)) for piece in pieces]
        received[name] = np.frombuffer(b"".join(piece.tobytes() for piece in sent), dtype).reshape(shape)
    return received


def is_split(tree: PyTree) -> bool:
    """Whether a leaf is split over devices."""
    return any(isinstance(leaf, jax.Array) and not leaf.is_fully_replicated for leaf in jax.tree.leaves(tree))


def local_copy(tree: PyTree) -> PyTree:
    """Return the copy of replicated arrays on one device of this process, usable without the other processes."""

    def copy(leaf):
        return leaf if getattr(leaf, "is_fully_addressable", True) else leaf.addressable_data(0)

    return jax.tree.map(copy, tree)


def keep_split(batch: PyTree, sharding: Sharding) -> PyTree:
    """Constrain a batch, or a piece of one that divides, to be split over the devices within a compiled program.

    Under `shard_map`, as for whole microbatches, the rows are local to the device already.
    """
    if sharding is None or jax.sharding.get_abstract_mesh().manual_axes:
        return batch
    if jax.tree.leaves(batch)[0].shape[0] % sharding.num_devices:
        return batch
    return jax.lax.with_sharding_constraint(batch, sharding)
