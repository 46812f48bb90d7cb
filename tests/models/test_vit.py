"""The vision transformer against plain NumPy in float64, its parameters, and what it does with images of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from flatwide import trees
from flatwide.models import vit as module
from flatwide.models.linen import MOST_UNROLLED_BLOCKS
from flatwide.models.vit import cut_patches, vit


def image(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0))[0]


# ---- The oracle: the same network in NumPy, one image and one head at a time.


def dense(layer, inputs):
    return inputs @ layer["kernel"] + layer["bias"]


def norm(layer, inputs):
    centred = inputs - inputs.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * layer["scale"] + layer["bias"]


def gelu(inputs):
    """By the tanh of Hendrycks and Gimpel, as Flax has it."""
    return inputs / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inputs + 0.044715 * inputs**3)))


def forward(params, picture, patch, num_heads):
    height, width, _ = picture.shape
    corners = [(row, column) for row in range(0, height, patch) for column in range(0, width, patch)]
    cut = np.stack([picture[row : row + patch, column : column + patch].ravel() for row, column in corners])
    hidden = dense(params["patches"], cut) + params["position"]["embedding"]
    share = hidden.shape[1] // num_heads
    for number in range(1, len(params["blocks"]) + 1):
        block = params["blocks"][f"block_{number}"]
        seen = norm(block["attention_norm"], hidden)
        query, key, value = (dense(block[name], seen) for name in ("query", "key", "value"))
        heads = [slice(head * share, (head + 1) * share) for head in range(num_heads)]
        fits = [softmax(query[:, part] @ key[:, part].T / np.sqrt(share), axis=1) for part in heads]
        averages = [fit @ value[:, part] for fit, part in zip(fits, heads, strict=True)]
        hidden = hidden + dense(block["attention_output"], np.concatenate(averages, axis=1))
        inner = gelu(dense(block["hidden"], norm(block["hidden_norm"], hidden)))
        hidden = hidden + dense(block["hidden_output"], inner)
    return dense(params["output"], norm(params["output_norm"], hidden).mean(axis=0))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("shape", "patch", "size", "heads"), [((4, 6, 2), 2, 6, 1), ((4, 4, 1), 2, 64, 2)], ids=["one head", "two heads"]
)
def test_outputs_agree_with_numpy(shape, patch, size, heads):
    model = vit(image(*shape), 3, hidden_size=size, num_layers=2, patch_size=patch)
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape) / leaf.shape[0] ** 0.5, shapes(model))
    inputs = generator.normal(size=(2, *shape))
    outputs, stats = jax.jit(model.apply, static_argnames="train")(params, {}, inputs, train=True, key=None)
    assert outputs.dtype == np.float64
    assert_allclose(outputs, [forward(params, picture, patch, heads) for picture in inputs], rtol=1e-9, atol=1e-10)
    assert stats == {}


def test_patches_are_cut_row_by_row():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = cut_patches(images, 2)
    assert patches.shape == (2, 6, 12)
    assert_array_equal(patches[1, 4], images[1, 2:4, 2:4].ravel())


# ---- What the paper says of it: table 3 prints the counts in millions, with two digits at most.


@pytest.mark.parametrize(("size", "heads"), [(8, 1), (32, 1), (48, 1), (64, 2), (1024, 32)])
def test_there_is_a_head_for_every_32_entries_and_at_least_one(size, heads, monkeypatch):
    seen = []
    true = module.attend
    monkeypatch.setattr(
        module, "attend", lambda *args, **named: seen.append(named["num_heads"]) or true(*args, **named)
    )
    jax.eval_shape(vit(image(8, 8, 1), 10, hidden_size=size, num_layers=1).init, jax.random.key(0))
    assert set(seen) == {heads}


def test_only_matrices_are_pruned_each_block_by_itself():
    kernels = trees.kernels(shapes(vit(image(8, 8, 1), 10, hidden_size=8, num_layers=2)))
    names = {trees.path_name(path) for path, is_kernel in jax.tree.leaves_with_path(kernels) if is_kernel}
    layers = ("query", "key", "value", "attention_output", "hidden", "hidden_output")
    blocks = {f"blocks/block_{number}/{layer}/kernel" for number in (1, 2) for layer in layers}
    assert names == blocks | {"patches/kernel", "output/kernel"}


def test_initial_blocks_differ_and_the_scale_of_a_block_does_not_depend_on_the_depth():
    model = vit(image(8, 8, 1), 10, hidden_size=64, num_layers=2)
    params = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})(jax.random.key(0))[0]
    first, second = (np.asarray(params["blocks"][name]["hidden"]["kernel"]) for name in ("block_1", "block_2"))
    assert not np.array_equal(first, second)
    for kernel in (first, second):  # LeCun normal; the relative error of a standard deviation is 1 / sqrt(2 n)
        assert abs(kernel.std() * 8 - 1) < 4 / np.sqrt(2 * kernel.size)
    table = np.asarray(params["position"]["embedding"])
    assert abs(table.std() / 0.02 - 1) < 4 / np.sqrt(2 * table.size)
    assert not any(np.any(leaf) for path, leaf in jax.tree.leaves_with_path(params) if "bias" in trees.path_name(path))


def test_dropout_draws_from_the_key_in_every_block_and_only_in_training():
    model = vit(image(4, 4, 1), 3, hidden_size=8, num_layers=2, patch_size=2, dropout=0.5)
    params = jax.jit(model.init)(jax.random.key(0))[0]
    inputs = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    run = jax.jit(model.apply, static_argnames="train")

    def outputs(seed, **changed):
        return np.asarray(run(params | changed, {}, inputs, train=True, key=jax.random.key(seed))[0])

    assert_array_equal(outputs(1), outputs(1))
    assert not np.array_equal(outputs(1), outputs(2))
    whole = np.asarray(run(params, {}, inputs, train=False, key=None)[0])
    assert_array_equal(whole, run(params, {}, inputs, train=False, key=jax.random.key(1))[0])
    assert not np.array_equal(whole, outputs(1))


def softmax_first(query, key, value, *, num_heads, dtypes):
    """Average the values as the definition has it: weights that add up to 1, then their product with the values."""
    batch, length, size = query.shape
    query, key, value = (
        array.reshape(batch, length, num_heads, size // num_heads).transpose(0, 2, 1, 3)
        for array in (query, key, value)
    )
    scores = jnp.einsum("bhtd,bhsd->bhts", query, key) / (size // num_heads) ** 0.5
    averages = jnp.einsum("bhts,bhsd->bhtd", jax.nn.softmax(scores), value)
    return averages.transpose(0, 2, 1, 3).reshape(batch, length, size)


@pytest.mark.usefixtures("float64")
def test_blocks_without_a_loop_have_the_same_derivatives_in_both_modes(assert_derivatives_are_those_of_a_loop):
    model = vit(image(4, 4, 1), 3, hidden_size=64, num_layers=2, patch_size=2, dropout=0.5)
    generator = np.random.default_rng(0)
    params, along = (jax.tree.map(lambda leaf: generator.normal(size=leaf.shape) / 8, shapes(model)) for _ in "ab")
    inputs = generator.normal(size=(2, 4, 4, 1))

    def outputs_of(params):
        return model.apply(params, {}, inputs, train=True, key=jax.random.key(0))[0]

    assert_derivatives_are_those_of_a_loop(outputs_of, params, along, replaced=[(module, "attend", softmax_first)])


@pytest.mark.parametrize(("num_layers", "is_loop"), [(MOST_UNROLLED_BLOCKS, False), (MOST_UNROLLED_BLOCKS + 1, True)])
def test_only_deep_networks_have_a_loop_over_blocks(num_layers, is_loop):
    model = vit(image(4, 4, 1), 3, hidden_size=8, num_layers=num_layers, patch_size=4)
    inputs = jax.ShapeDtypeStruct((2, 4, 4, 1), np.float32)
    lowered = jax.jit(lambda params, inputs: model.apply(params, {}, inputs, train=False)[0]).lower(
        shapes(model), inputs
    )
    assert ("stablehlo.while" in lowered.as_text()) == is_loop


def test_half_precision_multiplies_in_bfloat16_and_keeps_norms_softmax_and_outputs_in_float32():
    model = vit(image(8, 8, 1), 3, hidden_size=8, num_layers=1, half_precision=True)
    params = shapes(model)
    inputs = jax.ShapeDtypeStruct((2, 8, 8, 1), np.float32)
    jaxpr = str(jax.make_jaxpr(lambda p, x: model.apply(p, {}, x, train=True, key=None)[0])(params, inputs))
    products = [line for line in jaxpr.splitlines() if "= dot_general[" in line]
    assert len(products) == 10  # patches, six layers, queries with keys, weights with values, output
    assert all(":bf16" in line for line in products)
    assert all(":f32" in line for line in jaxpr.splitlines() if "= exp " in line or "= rsqrt " in line)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert (
        jax.eval_shape(lambda p, x: model.apply(p, {}, x, train=True, key=None)[0], params, inputs).dtype == np.float32
    )


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        (
            (28, 28, 1),
            {"patch_size": 8},
            "config.patch_size=8 with images of 28 x 28: expected a divisor of both sides, such as 7.",
        ),
        (
            (8, 12, 1),
            {"patch_size": 3},
            "config.patch_size=3 with images of 8 x 12: expected a divisor of both sides, such as 2.",
        ),
        ((8, 8, 1), {"patch_size": 0}, "config.patch_size=0: expected an integer >= 1."),
        ((8, 8, 1), {"hidden_size": 0}, "config.hidden_size=0: expected an integer >= 1."),
        ((8, 8, 1), {"num_layers": 0}, "config.num_layers=0: expected an integer >= 1."),
        (
            (8, 8, 1),
            {"hidden_size": 100},
            "config.hidden_size=100: expected a multiple of its 3 heads, one for each 32; a multiple of 32 is one, "
            "such as 96.",
        ),
        (
            (64,),
            {},
            "config.model='ViT' reads images [height, width, channels]; this data set gives examples of shape (64,): "
            "choose another model, such as MLP.",
        ),
    ],
)
def test_what_it_cannot_read_is_an_error(shape, fields, message):
    with pytest.raises(ValueError) as caught:
        vit(image(*shape), 10, **fields)
    assert str(caught.value) == message
