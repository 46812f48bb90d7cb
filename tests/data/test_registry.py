"""The names of data sets, the facts declared of them, and the example of one's own in the docs."""

import re

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import config as configs
from flatwide import data, registry


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_name_leads_to_a_loader(name):
    loader = registry.find("config.dataset", name, data.DATASETS)
    assert set(registry.fields(loader)) <= set(configs.SCHEMA)
    assert data.DATASETS[name].endswith(f":{name}")


def test_aliases_and_declared_facts_are_of_known_data_sets():
    assert set(data.ALIASES.values()) <= set(data.DATASETS)
    assert set(data.ALIASES).isdisjoint(data.DATASETS)
    assert {*data.INFO, *data.GAMES} <= set(data.DATASETS)


def test_the_declared_facts_of_the_digits_are_true():
    dataset = registry.find("config.dataset", "digits", data.DATASETS)()
    facts = (dataset.train.num_examples, dataset.test.num_examples, dataset.example.shape, dataset.num_outputs)
    assert facts == data.INFO["digits"][:4]


def test_the_table_of_the_docs_is_the_registry(root):
    first, *_ = (root / "docs" / "data.md").read_text().partition("\n## ")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", first, re.M)
    assert [name for name, *_ in rows] == list(data.DATASETS)
    for name, examples, classes, shape in rows:
        if info := data.INFO.get(name):
            assert examples == f"{info.num_train:,} + {info.num_test:,}"
            assert classes == str(info.num_outputs)
            assert shape == " × ".join(map(str, info.input_shape))


def test_the_example_of_the_docs_runs(root, tmp_path):
    code = next(
        block
        for block in re.findall(r"^```python\n(.*?)^```", (root / "docs" / "extending.md").read_text(), re.M | re.S)
        if "def rings" in block
    )
    (tmp_path / "rings.py").write_text(code)
    loader = registry.find("config.dataset", f"{tmp_path / 'rings.py'}:rings", data.DATASETS)
    assert set(registry.fields(loader)) == {"num_points"}
    dataset = loader(num_points=90)
    train, validation = data.hold_out(dataset.train, 0.25, seed=0)
    noisy = data.add_label_noise(data.subset(train, 40, seed=0), 0.5, num_classes=dataset.num_outputs, seed=0)
    assert (noisy.num_examples, validation.num_examples, dataset.test.num_examples) == (40, 19, 15)
    batch = next(validation.batches(19, order=np.arange(19), seed=0, epoch=0, train=False))
    prepared = jax.jit(dataset.prepare, static_argnames="train")(batch, None, train=False)
    assert prepared["inputs"].shape[1:] == dataset.example.shape
    assert_array_equal(prepared["targets"], batch["targets"])
    radius = np.linalg.norm(np.asarray(prepared["inputs"]), axis=1) * 128 / 40  # the pixels of a unit
    assert_allclose(radius - 1 - batch["targets"], 0, atol=1)  # five standard deviations
    assert_allclose((radius - 1 - batch["targets"]).mean(), 0, atol=5 * 0.2 / 19**0.5)
