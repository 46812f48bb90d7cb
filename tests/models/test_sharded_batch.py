"""Batch statistics are those of the global batch, however many devices it is spread over."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from flatwide.models.resnet import resnet18

assert jax.device_count() == 2
model = resnet18(jax.ShapeDtypeStruct((4, 4, 1), np.float64), 3, num_filters=2, num_blocks=(1,))
generator = np.random.default_rng(0)
shapes = jax.eval_shape(model.init, jax.random.key(0))
params, stats = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape) ** 2, shapes)
inputs = generator.normal(size=(8, 4, 4, 1)) * np.arange(1, 9).reshape(8, 1, 1, 1)
apply = jax.jit(lambda inputs: model.apply(params, stats, inputs, train=True, key=None))
spread = NamedSharding(Mesh(jax.devices(), "data"), PartitionSpec("data"))
together, apart, half = apply(inputs), apply(jax.device_put(inputs, spread)), apply(inputs[:4])
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), together, apart)
assert not np.allclose(together[1]["stem_norm"]["var"], half[1]["stem_norm"]["var"], rtol=0.1)
print("agree")
"""


@pytest.mark.slow
def test_two_devices_have_the_statistics_of_one():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "agree\n", done.stderr
