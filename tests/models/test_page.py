"""The page on models and sparsifiers: its numbers come out, its example runs."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatwide import registry, sparsify, trees
from flatwide.models import ALIASES, MODELS
from flatwide.models.resnet import resnet18

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\(.+\)) \| (\d+) \| (.+: [\d,]+) \|$", PAGE, flags=re.MULTILINE)
COUNTS = [(*row[:4], *cell.split(": ")) for row in ROWS for cell in row[4].split("; ")]
SPARSE = re.findall(r"^\| (\d+) \| (0\.\d+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, flags=re.MULTILINE)


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0))[0]


def image(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def test_tables_are_found():
    section = PAGE.partition("## Number of parameters")[2].partition("\n## ")[0]
    assert len(ROWS) == section.count("\n| `")
    assert len(COUNTS) >= 44
    assert len(SPARSE) == 4


@pytest.mark.parametrize(("name", "field", "example", "classes", "value", "count"), COUNTS)
def test_number_of_parameters(name, field, example, classes, value, count):
    build = registry.find("config.model", name, MODELS)
    model = build(image(*ast.literal_eval(example)), int(classes), **{field: ast.literal_eval(value)})
    assert f"{trees.size(shapes(model)):,}" == count


@pytest.mark.parametrize(("num_filters", "sparsity", "total", "nonzero"), SPARSE)
def test_number_of_nonzero_parameters(num_filters, sparsity, total, nonzero):
    params = shapes(resnet18(image(32, 32, 3), 10, num_filters=int(num_filters)))
    assert f"{trees.size(params):,}" == total
    kept = sparsify.num_kept(params, pruner="snip", sparsity=float(sparsity), layer_density=None)
    assert f"{kept:,}" == nonzero


def test_every_model_pruner_and_density_is_explained():
    headers = {"num_filters", "pruner", "layer_density"}
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
    assert named - headers == {*MODELS, *sparsify.PRUNERS, *sparsify.LAYER_DENSITIES}
    for name, pruner in sparsify.PRUNERS.items():
        density = f"`{pruner.layer_density}` " if pruner.layer_density else ""
        assert re.search(rf"^\| `{name}` \|.*\| {density}\|$", PAGE, flags=re.MULTILINE), name


def test_every_model_is_found_and_reads_its_own_fields():
    expected = {
        "MLP": ["num_neurons", "kernel_scale", "half_precision"],
        "ResNet18": ["num_filters", "num_blocks", "half_precision"],
        "ResNet50": ["num_filters", "num_blocks", "half_precision"],
        "VGG11": ["num_filters", "half_precision"],
        "ViT": ["hidden_size", "num_layers", "patch_size", "dropout", "half_precision"],
        "ActorCritic": ["num_filters", "half_precision"],
        "TaggingTransformer": ["hidden_size", "num_layers", "dropout", "half_precision"],
        "LSTM": ["hidden_size", "dropout", "half_precision"],
        "GPT": ["hidden_size", "num_layers", "num_heads", "mlp_ratio", "tie_embeddings", "half_precision"],
        "GCN": ["hidden_size", "num_layers", "dropout", "half_precision"],
        "OneHiddenLayer": ["num_neurons"],
        "LinearNetwork": ["num_neurons"],
        "TwoLayerFrozenHead": ["num_neurons"],
    }
    assert {name: [*registry.fields(registry.find("config.model", name, MODELS))] for name in expected} == expected
    assert set(ALIASES.values()) <= set(MODELS)


def test_own_model_in_flax_runs(tmp_path):
    code = re.search(r"^```python\n(# convnet\.py\n.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "convnet.py").write_text(code)
    build = registry.find("config.model", f"{tmp_path}/convnet.py:convnet", MODELS)
    assert list(registry.fields(build)) == ["num_filters", "dropout_rate"]
    model = build(image(5, 5, 1), 3, num_filters=4)
    params, stats = model.init(jax.random.key(0))
    inputs = np.random.default_rng(0).normal(size=(6, 5, 5, 1)).astype(np.float32)

    def loss_fn(params):
        outputs, updated = model.apply(params, stats, inputs, train=True, key=jax.random.key(1))
        return jnp.mean(outputs**2), updated

    gradients, updated = jax.grad(loss_fn, has_aux=True)(params)
    assert trees.norm(gradients) > 0
    assert not np.array_equal(updated["norm"]["mean"], stats["norm"]["mean"])
    mask = sparsify.make_mask(
        params, pruner="snip", sparsity=0.5, layer_density="erk", key=jax.random.key(2), gradients=gradients
    )
    assert sparsify.num_nonzero_params(params, mask) == 24 + 4 + 4 + 3  # half of 36 + 12 kernel entries


def test_own_model_in_plain_jax_is_found_and_reads_its_own_field(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        """
import jax.numpy as jnp
from flatwide.types import Model


def my_model(example, num_outputs, *, my_width: int = 3) -> Model:
    def init(key):
        return {"first": jnp.ones((*example.shape, my_width)), "second": jnp.ones((my_width, num_outputs))}, {}

    def apply(params, stats, inputs, *, train, key):
        return inputs @ params["first"] @ params["second"], stats

    return Model(init, apply)
"""
    )
    build = registry.find("config.model", f"{path}:my_model", MODELS)
    assert registry.fields(build)["my_width"].default == 3
    model = build(image(4), 2, my_width=5)
    params, stats = model.init(jax.random.key(0))
    assert trees.size(params) == 4 * 5 + 5 * 2
    outputs, _ = model.apply(params, stats, jnp.ones((1, 4)), train=False, key=None)
    assert outputs.tolist() == [[20.0, 20.0]]
