"""The convolution for the CPU against XLA's own, in float64: values and every kind of derivative."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from flatwide.models.convolution import Conv, convolve

ONE = ((1, 1), (1, 1))
# inputs [B, H, W, C], kernel [h, w, C, F], strides, padding: each form that the module chooses among, and odd sizes
CASES = {
    "direct": ((8, 6, 5, 3), (3, 3, 3, 4), (1, 1), ONE),
    "direct_strided": ((8, 7, 6, 4), (3, 3, 4, 5), (2, 2), "SAME"),
    "direct_uneven": ((8, 7, 6, 2), (3, 2, 2, 3), (2, 1), ((0, 2), (3, 1))),
    "small_batch": ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), "SAME"),
    "by_image": ((3, 16, 16, 9), (3, 3, 9, 6), (1, 1), ONE),
    "by_image_uneven": ((3, 17, 16, 9), (3, 2, 9, 6), (1, 1), ((2, 0), (0, 3))),
    "one_convolution": ((3, 6, 5, 20), (3, 3, 20, 6), (1, 1), ONE),
    "products": ((3, 5, 6, 24), (3, 3, 24, 5), (1, 1), ONE),
    "products_strided": ((3, 6, 7, 24), (3, 3, 24, 5), (2, 2), ONE),
    "unread_border": ((3, 8, 8, 24), (3, 3, 24, 5), (2, 2), "VALID"),
    "stem_of_resnet50": ((2, 13, 12, 3), (7, 7, 3, 4), (2, 2), ((3, 3), (3, 3))),
    "pointwise": ((3, 5, 6, 4), (1, 1, 4, 5), (1, 1), "SAME"),
    "pointwise_strided": ((3, 7, 6, 4), (1, 1, 4, 5), (2, 2), "VALID"),
    "pointwise_padded": ((3, 4, 5, 4), (1, 1, 4, 5), (2, 2), ONE),
    "strides_beyond_kernel": ((3, 9, 9, 24), (2, 2, 24, 3), (3, 3), "VALID"),
}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def reference(inputs, kernel, *, strides, padding):
    return lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def arrays(*shapes, seed=0):
    generator = np.random.default_rng(seed)
    return [jnp.asarray(generator.normal(size=shape)) for shape in shapes]


def pair(case):
    inputs, kernel, strides, padding = CASES[case]
    options = {"strides": strides, "padding": padding}
    return arrays(inputs, kernel), functools.partial(convolve, **options), functools.partial(reference, **options)


def assert_close(actual, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-11), actual, expected)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_xla(case):
    operands, fast, plain = pair(case)
    outputs = plain(*operands)
    (cotangent,) = arrays(outputs.shape, seed=1)
    actual, pull_back = jax.vjp(fast, *operands)
    assert_close(actual, outputs)
    assert_close(pull_back(cotangent), jax.vjp(plain, *operands)[1](cotangent))


@pytest.mark.parametrize("padding", [((3, 3), (3, 3)), ((-1, 3), (1, -1))])  # 3 is more than the kernel is wide
@pytest.mark.parametrize("channels", [2, 24])  # the direct forms, and the products
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_padding_has_the_gradients_of_xla(size, stride, channels, padding):
    operands = arrays((8, 6, 5, channels), (size, size, channels, 3))

    def value_and_gradients(function):
        options = {"strides": (stride, stride), "padding": padding}
        return jax.jit(jax.value_and_grad(lambda *operands: jnp.sum(jnp.sin(function(*operands, **options))), (0, 1)))

    assert_close(value_and_gradients(convolve)(*operands), value_and_gradients(reference)(*operands))


@pytest.mark.parametrize(
    "case", ["direct_uneven", "by_image", "one_convolution", "products_strided", "pointwise_strided"]
)
def test_derivatives_of_second_order_and_in_forward_mode_are_those_of_xla(case):
    operands, fast, plain = pair(case)
    tangents = arrays(*[operand.shape for operand in operands], seed=1)

    def derivatives(function):
        def loss(*operands):
            return jnp.sum(jnp.sin(function(*operands)))

        gradient = jax.grad(loss, argnums=(0, 1))
        along = lambda *operands: jax.jvp(loss, tuple(operands), tuple(tangents))[1]  # noqa: E731
        squared = lambda *operands: sum(jnp.vdot(leaf, leaf) for leaf in gradient(*operands))  # noqa: E731
        return {
            "jvp": jax.jvp(function, tuple(operands), tuple(tangents)),
            "forward over reverse": jax.jvp(gradient, tuple(operands), tuple(tangents)),
            "reverse over forward": jax.grad(along, argnums=(0, 1))(*operands),
            "reverse over reverse": jax.grad(squared, argnums=(0, 1))(*operands),
        }

    assert_close(jax.jit(functools.partial(derivatives, fast))(), jax.jit(functools.partial(derivatives, plain))())


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (2, 1)])
@pytest.mark.parametrize("case", ["direct_strided", "by_image", "products_strided", "pointwise_strided"])
def test_mapped_operands(case, axes):
    operands, fast, plain = pair(case)
    shapes = [
        operand.shape if axis is None else (*operand.shape[:axis], 3, *operand.shape[axis:])
        for operand, axis in zip(operands, axes, strict=True)
    ]
    mapped = arrays(*shapes, seed=2)

    def gradients(function):
        return jax.grad(lambda *operands: jnp.sum(jnp.sin(function(*operands))), argnums=(0, 1))

    assert_close(jax.vmap(fast, axes)(*mapped), jax.vmap(plain, axes)(*mapped))
    assert_close(jax.vmap(gradients(fast), axes)(*mapped), jax.vmap(gradients(plain), axes)(*mapped))


@pytest.mark.parametrize("case", ["direct", "by_image", "products_strided"])
def test_bfloat16_is_rounded_once(case):
    operands, fast, plain = pair(case)
    rounded = [operand.astype(jnp.bfloat16) for operand in operands]
    exact, pull_back_exact = jax.vjp(plain, *[operand.astype(jnp.float32) for operand in rounded])
    rounded_outputs, pull_back = jax.vjp(fast, *rounded)
    gradients, exact_gradients = pull_back(jnp.ones_like(rounded_outputs)), pull_back_exact(jnp.ones_like(exact))
    for computed, exact_ in zip((rounded_outputs, *gradients), (exact, *exact_gradients), strict=True):
        assert computed.dtype == jnp.bfloat16
        scale = float(jnp.max(jnp.abs(exact_)))
        np.testing.assert_allclose(computed.astype(jnp.float32), exact_, rtol=2**-8, atol=2**-8 * scale)


def test_several_devices_loop_over_no_images(monkeypatch):
    operands, fast, _ = pair("by_image")

    def has_loop():
        gradient = jax.jit(jax.grad(lambda *operands: jnp.sum(fast(*operands)), argnums=1))
        return "stablehlo.while" in gradient.lower(*operands).as_text()

    assert has_loop()
    jax.clear_caches()
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert not has_loop()


def test_elsewhere_it_is_one_plain_convolution(monkeypatch):
    operands, fast, plain = pair("direct_strided")
    assert "conv_general_dilated" not in str(jax.make_jaxpr(fast)(*operands))
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert str(jax.make_jaxpr(fast)(*operands)) == str(jax.make_jaxpr(plain)(*operands))


@pytest.mark.parametrize("case", CASES)
def test_gradients_have_the_fast_layout_without_help_from_the_compiler(case):
    # In a loop XLA rearranges nothing, and runs a convolution of any other layout many times slower.
    operands, fast, _ = pair(case)
    gradient = jax.grad(lambda *operands: jnp.sum(jnp.sin(fast(*operands))), argnums=(0, 1))
    lines = jax.jit(gradient).lower(*operands).as_text().splitlines()
    layouts = {line.split("dim_numbers = ")[1].split(", window")[0] for line in lines if "dim_numbers = " in line}
    assert layouts <= {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


SHARDED = """
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from flatwide.models.convolution import convolve

generator = np.random.default_rng(0)
inputs, kernel = generator.normal(size=(8, 5, 5, 3)), generator.normal(size=(3, 3, 3, 4))
loss = lambda inputs, kernel: jax.numpy.sum(convolve(inputs, kernel) ** 2)
alone = jax.grad(loss, (0, 1))(inputs, kernel)
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
with jax.set_mesh(mesh):
    spread = jax.device_put(inputs, NamedSharding(mesh, PartitionSpec("data"))), jax.numpy.asarray(kernel)
    together = jax.jit(jax.grad(loss, (0, 1)))(*spread)
batch, whole = PartitionSpec("data"), PartitionSpec()
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
manual = jax.shard_map(convolve, mesh=mesh, in_specs=(batch, whole), out_specs=batch)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), alone, together)
np.testing.assert_allclose(manual(inputs, kernel), convolve(inputs, kernel), rtol=1e-10)
print("agree")
"""


@pytest.mark.slow
def test_axes_that_are_part_of_an_arrays_type():
    done = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "agree\n", done.stderr


def test_layer_has_the_parameters_and_outputs_of_flax():
    (inputs,) = arrays((2, 5, 6, 3))
    options = {"features": 4, "kernel_size": (3, 3), "strides": (2, 2), "padding": ONE, "param_dtype": jnp.float64}
    layer, flax_layer = Conv(**options), nn.Conv(**options, use_bias=False)
    variables = layer.init(jax.random.key(0), inputs)
    assert_close(variables, flax_layer.init(jax.random.key(0), inputs))
    assert_close(layer.apply(variables, inputs), flax_layer.apply(variables, inputs))
    half = Conv(**options, dtype=jnp.bfloat16)
    assert jnp.asarray(half.apply(variables, inputs)).dtype == jnp.bfloat16
    assert jax.tree.leaves(half.init(jax.random.key(0), inputs))[0].dtype == jnp.float64


def test_operands_that_do_not_fit_are_named():
    inputs, kernel = arrays((2, 5, 6, 3), (3, 3, 4, 5))
    with pytest.raises(ValueError, match=r"inputs float64\(2, 5, 6, 3\), kernel float64\(3, 3, 4, 5\): expected"):
        convolve(inputs, kernel)
    with pytest.raises(ValueError, match=r"kernel float32.*of one dtype"):
        convolve(inputs, kernel[:, :, :3].astype(jnp.float32))


def test_padding_by_name_is_that_of_xla():
    inputs, kernel = arrays((2, 6, 7, 3), (3, 3, 3, 5))
    for padding in ("SAME", "VALID"):
        outputs = convolve(inputs, kernel, strides=(2, 2), padding=padding)
        assert_close(outputs, reference(inputs, kernel, strides=(2, 2), padding=padding))
