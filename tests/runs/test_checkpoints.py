"""Checkpoints: what is read back is what was written, or the one before it and a warning."""

import json
import os
import random
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flatwide.runs import checkpoints


class Moments(NamedTuple):
    mean: jax.Array
    variance: jax.Array


def make_state(fill: float = 1.0) -> dict:
    return {
        "params": {"Dense_0": {"kernel": jnp.full((5, 3), fill, jnp.float32), "bias": jnp.arange(3.0)}, "empty": {}},
        "moments": Moments(jnp.full(3, fill, jnp.bfloat16), jnp.array([0.1, np.nan, np.inf], jnp.bfloat16)),
        "list": [jnp.array([True, False]), None, jnp.zeros((0, 4), jnp.int8)],
        "step": jnp.int32(7),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 2),
        "host": np.array([2**40, -1], np.int64),
        "numpy_scalar": np.float64(0.1),
        "epochs": 3,
        "seconds": 0.1 + 0.2,
        "is_done": True,
    }


def assert_same(loaded, expected):
    assert jax.tree.structure(loaded) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(expected), strict=True):
        assert type(a) is type(b)
        if isinstance(b, jax.Array):
            assert a.dtype == b.dtype
            if jax.dtypes.issubdtype(b.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())  # NaN equals NaN


def test_every_kind_of_leaf_comes_back_as_it_was(tmp_path):
    state = make_state()
    path = checkpoints.save(tmp_path / "new", 12, state, extra={"loss": 0.1 + 0.2, "rows": [1, None, "ü"]})
    assert path == tmp_path / "new" / "step_00000012.npz"
    tree, extra = checkpoints.load(path, state)
    assert_same(tree, state)
    assert extra == {"loss": 0.1 + 0.2, "rows": [1, None, "ü"]}
    assert jax.random.normal(tree["key"]) == jax.random.normal(state["key"])


def test_shapes_alone_are_enough_to_load(tmp_path):
    arrays = {name: make_state()[name] for name in ("params", "moments", "key", "step")}
    path = checkpoints.save(tmp_path, 0, arrays, extra={})
    tree, _ = checkpoints.load(path, jax.eval_shape(lambda: arrays))
    assert_same(tree, arrays)


def test_a_bare_array_is_a_tree(tmp_path):
    tree, _ = checkpoints.load(checkpoints.save(tmp_path, 0, jnp.arange(3), extra={}), jnp.arange(3))
    assert_array_equal(tree, np.arange(3))


def test_float64_survives(tmp_path, float64):
    state = {"w": jnp.array([1 / 3, 1e-300])}
    tree, _ = checkpoints.load(checkpoints.save(tmp_path, 0, state, extra={}), state)
    assert_same(tree, state)
    assert tree["w"].dtype == jnp.float64


def test_leaves_return_to_their_devices(tmp_path):
    device = jax.devices()[0]
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=[device])
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    like = {"placed": jax.device_put(jnp.ones(4), sharding), "anywhere": jnp.ones(4)}
    tree, _ = checkpoints.load(checkpoints.save(tmp_path, 0, like, extra={}), like)
    assert tree["placed"].sharding == sharding
    assert not tree["anywhere"].committed


def test_numpy_opens_the_file_and_names_are_paths(tmp_path):
    path = checkpoints.save(tmp_path, 1, make_state(2.0), extra={"a": 1})
    with np.load(path) as archive:
        assert_array_equal(archive["params/Dense_0/kernel"], np.full((5, 3), 2.0, np.float32))
        assert "moments/mean" in archive
        assert json.loads(archive["metadata.json"])["extra"] == {"a": 1}


def test_same_state_gives_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    first = checkpoints.save(tmp_path / "a", 1, make_state(), extra={}).read_bytes()
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert checkpoints.save(tmp_path / "b", 1, make_state(), extra={}).read_bytes() == first


def test_two_leaves_with_one_path_are_refused(tmp_path):
    with pytest.raises(ValueError, match="path 'a/b'"):
        checkpoints.save(tmp_path, 0, {"a/b": jnp.ones(1), "a": {"b": jnp.zeros(1)}}, extra={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": jnp.ones((3, 2), jnp.float32)}, r"'w': found float32\[2,3\], expected float32\[3,2\]"),
        ({"w": jnp.ones((2, 3), jnp.bfloat16)}, r"'w': found float32\[2,3\], expected bfloat16\[2,3\]"),
        ({"v": jnp.ones(1, jnp.float32)}, r"'v': found nothing, expected float32\[1\]"),
        ({"w": None}, r"'w': found float32\[2,3\], expected nothing"),
        ({"key": jnp.zeros(2, jnp.uint32)}, r"'key': found key<fry>\[\], expected uint32\[2\]"),
        ({"key": jax.random.key(0, impl="rbg")}, r"'key': found key<fry>\[\], expected key<rbg>\[\]"),
    ],
)
def test_another_structure_is_named_leaf_by_leaf(tmp_path, change, message):
    state = {"w": jnp.ones((2, 3), jnp.float32), "key": jax.random.key(0)}
    path = checkpoints.save(tmp_path, 5, state, extra={})
    with pytest.raises(ValueError, match=message) as error:
        checkpoints.load(path, state | change)
    assert str(path) in str(error.value)
    with pytest.raises(ValueError, match=message):  # not damage: an older checkpoint would not fit either
        checkpoints.load_newest(tmp_path, state | change)


def test_the_newest_two_and_the_final_one_are_kept(tmp_path):
    checkpoints.save(tmp_path, 3, make_state(), extra={}, final=True)
    for step in (1, 2, 10, 300_000_000):
        checkpoints.save(tmp_path, step, make_state(), extra={})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "final.npz",
        "step_00000010.npz",
        "step_300000000.npz",
    ]


def test_newest_is_by_number_and_the_final_one_comes_first(tmp_path):
    empty = checkpoints.load_newest(tmp_path / "nothing", make_state())
    assert empty == checkpoints.Newest(None, {}, 0, [])
    for step in (99_999_999, 100_000_000):
        checkpoints.save(tmp_path, step, make_state(step), extra={"at": step})
    newest = checkpoints.load_newest(tmp_path, make_state())
    assert (newest.step, newest.extra, newest.warnings) == (100_000_000, {"at": 100_000_000}, [])
    assert_same(newest.tree, make_state(100_000_000))
    checkpoints.save(tmp_path, 100_000_001, make_state(5), extra={"at": "end"}, final=True)
    assert checkpoints.load_newest(tmp_path, make_state()).extra == {"at": "end"}
    assert checkpoints.load_newest(tmp_path, make_state()).step == 100_000_001


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def flip_in_the_middle_of_an_array(path):
    data = bytearray(path.read_bytes())
    data[data.index(np.full(15, 2.0, np.float32).tobytes()) + 30] ^= 1
    path.write_bytes(data)


def make_a_directory(path):  # reading it fails, like a file that one may not read: tests may run as root, who may
    path.unlink()
    path.mkdir()


def make_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def link_to_a_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path)


REPLACED = {
    make_a_directory: "it is a directory, not a regular file",
    make_a_pipe: "it is a pipe, not a regular file",
    link_to_a_device: "it is a device, not a regular file",
    link_to_itself: "Too many levels of symbolic links",
}


@pytest.mark.parametrize("damage", [truncate, empty, lengthen, flip_in_the_middle_of_an_array, *REPLACED])
def test_damage_falls_back_with_a_warning(tmp_path, damage):
    checkpoints.save(tmp_path, 1, make_state(1.0), extra={})
    path = checkpoints.save(tmp_path, 2, make_state(2.0), extra={})
    damage(path)
    newest = checkpoints.load_newest(tmp_path, make_state())
    assert newest.step == 1
    assert_same(newest.tree, make_state(1.0))
    assert len(newest.warnings) == 1
    assert str(path) in newest.warnings[0]
    assert REPLACED.get(damage, "damaged") in newest.warnings[0]
    with pytest.raises(checkpoints.DamagedError, match=r"step_00000002\.npz"):
        checkpoints.load(path, make_state())


def test_when_all_are_damaged_the_run_starts_again(tmp_path):
    for step in (1, 2):
        empty(checkpoints.save(tmp_path, step, make_state(), extra={}))
    newest = checkpoints.load_newest(tmp_path, make_state())
    assert newest.tree is None
    assert newest.step == 0
    assert len(newest.warnings) == 3
    assert all("the checkpoint is damaged (truncated or changed)" in warning for warning in newest.warnings[:2])
    assert "starting again from step 0" in newest.warnings[-1]


def test_checkpoints_that_nobody_may_read_are_no_reason_to_start_again(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, make_state(), extra={})

    def deny(path, *arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoints.disk, "open_regular", deny)  # tests may run as root, who may read everything
    with pytest.raises(ValueError, match=r"step_00000001\.npz: the checkpoint cannot be read \(Permission denied\)"):
        checkpoints.load_newest(tmp_path, make_state())


def test_a_checkpoint_with_a_fault_is_passed_over_and_never_a_reason_to_start_again(tmp_path):
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, step, make_state(step), extra={"at": step})
    warnings = []

    def fault(path, extra):
        warnings.append((path.name, extra["at"]))
        return f"{path}: not now." if extra["at"] == 3 else ""

    newest = checkpoints.load_newest(tmp_path, make_state(), fault=fault)
    assert (newest.step, warnings) == (2, [("step_00000003.npz", 3), ("step_00000002.npz", 2)])
    assert newest.warnings == [f"{tmp_path / 'step_00000003.npz'}: not now. Using the checkpoint before it."]
    empty(tmp_path / "step_00000002.npz")
    with pytest.raises(ValueError, match=r"not now\. No checkpoint before it can be used\. Restore what was lost"):
        checkpoints.load_newest(tmp_path, make_state(), fault=fault)


def test_a_checkpoint_of_another_run_or_step_is_not_loaded(tmp_path):
    path = checkpoints.save(tmp_path, 1, make_state(), extra={"identity": "0123abcd"})
    checkpoints.load(path, make_state(), step=1, fault=lambda extra: "")
    with pytest.raises(ValueError, match=r"step_00000001\.npz: it is of 0123abcd; restore the file"):
        checkpoints.load(path, make_state(), fault=lambda extra: f"it is of {extra['identity']}")
    with pytest.raises(ValueError, match="it is the network after step 1; expected that after step 2; restore"):
        checkpoints.load(path, make_state(), step=2)


def test_a_temporary_file_that_is_a_link_is_not_written_through(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "unfinished.tmp").symlink_to(target)
    checkpoints.load(checkpoints.save(tmp_path / "run", 1, make_state(), extra={}), make_state())
    assert target.read_text() == "precious"


def test_a_bit_flip_at_any_place_is_found(tmp_path):
    state = make_state()
    path = checkpoints.save(tmp_path, 1, state, extra={"a": 1})
    data = path.read_bytes()
    generator = random.Random(0)
    offsets = (
        {generator.randrange(len(data)) for _ in range(300)} | set(range(30)) | {len(data) - n for n in range(1, 90)}
    )
    for offset in offsets:  # 30 bytes of the first header, 86 of the last record and its digest
        flipped = bytearray(data)
        flipped[offset] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(checkpoints.DamagedError):
            checkpoints.load(path, state)


def test_a_damaged_file_never_counts_as_one_of_the_two_that_are_kept(tmp_path):
    checkpoints.save(tmp_path, 1, make_state(1.0), extra={})
    flip = checkpoints.save(tmp_path, 2, make_state(2.0), extra={})
    truncate(flip)
    checkpoints.save(tmp_path, 3, make_state(3.0), extra={})
    assert (tmp_path / "step_00000001.npz").exists()
    empty(tmp_path / "step_00000003.npz")
    assert checkpoints.load_newest(tmp_path, make_state()).step == 1


def test_files_of_later_steps_neither_count_nor_go(tmp_path):
    for step in (20, 3, 4, 5):
        checkpoints.save(tmp_path, step, make_state(), extra={})
    assert sorted(int(path.stem[5:]) for path in tmp_path.iterdir()) == [4, 5, 20]


def test_a_run_that_fell_back_does_not_lose_what_it_writes_next(tmp_path):
    for step in (10, 20):
        truncate(checkpoints.save(tmp_path, step, make_state(), extra={}))
    checkpoints.save(tmp_path, 5, make_state(), extra={})
    assert checkpoints.load_newest(tmp_path, make_state()).step == 5


def test_a_full_disk_leaves_the_old_checkpoint_and_no_rest(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, make_state(), extra={})

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(tmp_path, 2, make_state(), extra={})
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.npz"]


def test_what_a_kill_leaves_behind_is_ignored_and_replaced(tmp_path):
    (tmp_path / "unfinished.tmp").write_bytes(b"half")
    assert checkpoints.load_newest(tmp_path, make_state()).tree is None
    checkpoints.save(tmp_path, 1, make_state(), extra={})
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.npz"]


SAVE_FOREVER = """
import itertools, sys
import numpy as np
from flatwide.runs import checkpoints
for step in itertools.count(int(sys.argv[2])):
    checkpoints.save(sys.argv[1], step, {"w": np.full(300_000, step)}, extra={"step": step})
    print(step, flush=True)
"""


def test_killed_while_it_saves_the_newest_always_loads(tmp_path):
    like = {"w": np.zeros(300_000, int)}
    generator, reached = random.Random(1), 0
    for _ in range(2):
        command = [sys.executable, "-c", SAVE_FOREVER, str(tmp_path), str(reached + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(generator.uniform(0, 0.05))
            process.kill()
            printed = [int(line) for line in process.stdout.read().split()]
        newest = checkpoints.load_newest(tmp_path, like)
        assert newest.warnings == []
        assert newest.tree is not None
        assert newest.step >= max([reached + 1, *printed])  # what was reported as saved is there
        assert (newest.tree["w"] == newest.step).all()
        assert newest.extra == {"step": newest.step}
        reached = newest.step
