"""Residual networks against plain NumPy in float64, in both modes, and what they must be at any width."""

import jax
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import trees
from flatwide.models.resnet import resnet18, resnet50


def image(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


# ---- The oracle: the same networks in NumPy.


def same(size, window, stride):
    """Pad so that the output has ceil(size / stride) positions, the odd pixel at the end."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def windows(inputs, window, stride, padding, fill):
    """Cut images [B, H, W, C] into windows [B, H', W', C, window, window]."""
    height, width = (padding, padding) if padding != "SAME" else (same(n, window, stride) for n in inputs.shape[1:3])
    padded = np.pad(inputs, ((0, 0), height, width, (0, 0)), constant_values=fill)
    return sliding_window_view(padded, (window, window), axis=(1, 2))[:, ::stride, ::stride]


def convolve(inputs, kernel, stride, padding):
    return np.einsum("bhwcij,ijcf->bhwf", windows(inputs, len(kernel), stride, padding, 0.0), kernel)


class Oracle:
    """A forward pass that reads parameters by name and notes the statistics it would keep."""

    def __init__(self, params, stats, *, train, strided_padding):
        self.params, self.stats, self.train, self.strided_padding = params, stats, train, strided_padding
        self.updated = {}

    def at(self, tree, name):
        for part in name.split("/"):
            tree = tree[part]
        return tree

    def layer(self, inputs, conv, norm, stride=1, padding=(0, 0), relu=True):
        hidden = convolve(inputs, self.at(self.params, conv)["kernel"], stride, padding)
        affine, old = self.at(self.params, norm), self.at(self.stats, norm)
        mean, var = old["mean"], old["var"]
        if self.train:
            mean, var = hidden.mean(axis=(0, 1, 2)), hidden.var(axis=(0, 1, 2))
            self.updated[norm] = {"mean": 0.9 * old["mean"] + 0.1 * mean, "var": 0.9 * old["var"] + 0.1 * var}
        hidden = (hidden - mean) / np.sqrt(var + 1e-5) * affine["scale"] + affine["bias"]
        return np.maximum(hidden, 0) if relu else hidden

    def block(self, inputs, name, convolutions, stride):
        hidden = inputs
        for i, (window, is_strided) in enumerate(convolutions, start=1):
            padding = self.strided_padding if window == 3 else (0, 0)
            is_last = i == len(convolutions)
            hidden = self.layer(
                hidden, f"{name}/conv_{i}", f"{name}/norm_{i}", stride if is_strided else 1, padding, relu=not is_last
            )
        if "shortcut" in self.params[name]:
            inputs = self.layer(inputs, f"{name}/shortcut", f"{name}/shortcut_norm", stride, relu=False)
        return np.maximum(inputs + hidden, 0)

    def stages(self, hidden, num_blocks, convolutions):
        for i, blocks in enumerate(num_blocks, start=1):
            for j in range(1, blocks + 1):
                hidden = self.block(hidden, f"stage_{i}_block_{j}", convolutions, 2 if i > 1 and j == 1 else 1)
        output = self.params["output"]
        return hidden.mean(axis=(1, 2)) @ output["kernel"] + output["bias"]


def oracle18(params, stats, inputs, *, num_blocks, train):
    net = Oracle(params, stats, train=train, strided_padding=(1, 1))
    hidden = net.layer(inputs, "stem", "stem_norm", padding=(1, 1))
    return net.stages(hidden, num_blocks, [(3, True), (3, False)]), net.updated


def oracle50(params, stats, inputs, *, num_blocks, train):
    net = Oracle(params, stats, train=train, strided_padding="SAME")
    hidden = net.layer(inputs, "stem", "stem_norm", stride=2, padding=(3, 3))
    hidden = windows(hidden, 3, 2, "SAME", -np.inf).max(axis=(-2, -1))
    return net.stages(hidden, num_blocks, [(1, False), (3, True), (1, False)]), net.updated


def random_like(shapes, seed):
    """Draw every leaf anew, so that no scale is 0 or 1 and no average is 0; variances are positive."""
    generator = np.random.default_rng(seed)

    def draw(leaf):
        return generator.uniform(0.3, 1.0, leaf.shape) * generator.choice([-1, 1], leaf.shape)

    return jax.tree.map(draw, shapes)


def drawn(model, seed=0):
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    return random_like(params, seed), jax.tree.map(abs, random_like(stats, seed + 1))


def by_name(tree):
    return {trees.path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("build", "oracle", "num_filters", "num_blocks", "shape"),
    [
        (resnet18, oracle18, 4, (2, 1), (8, 8, 3)),
        (resnet18, oracle18, 2, (1, 1, 1), (9, 7, 1)),
        (resnet50, oracle50, 1, (2, 1), (32, 32, 3)),
        (resnet50, oracle50, 2, (1, 1), (33, 29, 1)),
    ],
)
def test_outputs_and_statistics_agree_with_numpy(build, oracle, num_filters, num_blocks, shape, train):
    model = build(image(*shape), 5, num_filters=num_filters, num_blocks=num_blocks)
    params, stats = drawn(model)
    inputs = np.random.default_rng(9).normal(size=(3, *shape))
    outputs, updated = jax.jit(model.apply, static_argnames="train")(params, stats, inputs, train=train, key=None)
    expected, expected_stats = oracle(params, stats, inputs, num_blocks=num_blocks, train=train)
    assert outputs.dtype == np.float64
    assert_allclose(outputs, expected, rtol=1e-10, atol=1e-10)
    if not train:
        jax.tree.map(assert_array_equal, updated, stats)
        return
    averages = by_name(updated)
    assert len(averages) == 2 * len(expected_stats)
    for name, norm in expected_stats.items():
        assert_allclose(averages[f"{name}/mean"], norm["mean"], rtol=1e-10, atol=1e-10)
        assert_allclose(averages[f"{name}/var"], norm["var"], rtol=1e-10, atol=1e-10)


# ---- What the paper says of them.


# Table 3 for the widths (CIFAR-10), Figure 17 for the depths.


@pytest.mark.parametrize(("build", "zeros"), [(resnet18, ()), (resnet50, ("norm_3",))])
def test_initial_scales_are_one_but_for_the_last_of_each_bottleneck(build, zeros):
    model = build(image(16, 16, 3), 3, num_filters=1, num_blocks=(1, 1))
    # Only what is read is compiled, here and below: random kernels would take seconds.
    scales = jax.jit(lambda key: {k: v for k, v in by_name(model.init(key)[0]).items() if k.endswith("scale")})(
        jax.random.key(0)
    )
    assert len(scales) > 5
    for name, scale in scales.items():
        assert_array_equal(scale, 0.0 if name.split("/")[-2] in zeros else 1.0, err_msg=name)


def test_initial_kernels_are_lecun_normal():
    model = resnet18(image(8, 8, 3), 10, num_filters=16, num_blocks=(1,))
    kernel = np.asarray(
        jax.jit(lambda key: model.init(key)[0]["stage_1_block_1"]["conv_1"]["kernel"])(jax.random.key(0))
    )
    assert kernel.shape == (3, 3, 16, 16)
    assert abs(kernel.std() * np.sqrt(3 * 3 * 16) - 1) < 4 / np.sqrt(2 * kernel.size)


def test_every_layer_is_named_by_its_place():
    model = resnet18(image(8, 8, 3), 10, num_filters=2, num_blocks=(1, 2))
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    block = {"conv_1/kernel", "norm_1/scale", "norm_1/bias", "conv_2/kernel", "norm_2/scale", "norm_2/bias"}
    projection = {"shortcut/kernel", "shortcut_norm/scale", "shortcut_norm/bias"}
    expected = {"stem/kernel", "stem_norm/scale", "stem_norm/bias", "output/kernel", "output/bias"}
    expected |= {f"stage_1_block_1/{name}" for name in block}
    expected |= {f"stage_2_block_1/{name}" for name in block | projection}
    expected |= {f"stage_2_block_2/{name}" for name in block}
    assert set(by_name(params)) == expected
    norms = {name.rsplit("/", 1)[0] for name in expected if name.endswith("scale")}
    assert set(by_name(stats)) == {f"{norm}/{what}" for norm in norms for what in ("mean", "var")}


# ---- Invariants and numerics.


def small():
    model = resnet18(image(6, 6, 2), 4, num_filters=2, num_blocks=(1, 1))
    params, stats = jax.tree.map(lambda leaf: leaf.astype(np.float32), drawn(model))
    return model, params, stats, np.random.default_rng(1).normal(size=(4, 6, 6, 2)).astype(np.float32)


def test_statistics_are_accurate_far_from_zero():
    """E[x^2] - E[x]^2 in float32 would lose all digits of a variance of 1 around a mean of 5,000."""
    model = resnet18(image(4, 4, 1), 2, num_filters=1, num_blocks=(1,))
    params, stats = jax.tree.map(lambda leaf: leaf.astype(np.float32), drawn(model))
    center = np.zeros((3, 3, 1, 1), np.float32)
    center[1, 1] = 1
    params = params | {"stem": {"kernel": center}}
    inputs = (5000 + np.random.default_rng(0).normal(size=(64, 4, 4, 1))).astype(np.float32)
    updated = jax.jit(lambda *args: model.apply(*args, train=True, key=None)[1])(params, stats, inputs)
    expected = 0.9 * stats["stem_norm"]["var"] + 0.1 * inputs.astype(np.float64).var()
    assert_allclose(updated["stem_norm"]["var"], expected, rtol=1e-3)
