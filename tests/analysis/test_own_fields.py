"""Fields of a user's own SAM variant and model, from training to parts and cautions."""

import itertools

import pytest

import flatwide
from flatwide.analysis import fields, table
from flatwide.answers import cautions

VARIANT = """
from flatwide.sam import normalized
def stretched(rho, *, stretch: float = 1.0):
    return normalized(rho * stretch)
"""
MODEL = """
from flatwide.models.mlp import mlp
def shallow(example, num_outputs, *, units: int = 4):
    return mlp(example, num_outputs, num_neurons=(units,), kernel_scale=1.0)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train an own model of two widths, alone and with an own variant whose field has two values."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "variant.py").write_text(VARIANT)
    (folder / "model.py").write_text(MODEL)
    common = {"model": f"{folder}/model.py:shallow", "sam_variant": f"{folder}/variant.py:stretched"}
    common |= {"num_epochs": 1, "batch_size": 128, "train_examples": 256}
    for units, (rho, stretch) in itertools.product((2, 3), ((0.0, 1.0), (0.1, 1.0), (0.1, 2.0))):
        config = common | {"units": units, "rho": rho, "stretch": stretch}
        flatwide.run(config, folder / "runs", quiet=True, tensorboard=False)
    return flatwide.load(folder / "runs")


def test_a_base_run_serves_every_value_of_an_own_variants_field(runs):
    assert [name for domain in table.split(runs).domains for name in domain.axes] == ["stretch"]
    parts = table.split(runs).parts
    assert [part.values for part in parts] == [{"stretch": 1.0}, {"stretch": 2.0}]
    assert [sorted(part.runs["rho"]) for part in parts] == [[0.0, 0.0, 0.1, 0.1]] * 2


def test_an_own_models_width_is_no_reason_for_care(runs):
    assert "mixed_configs" not in {caution.name for caution in cautions.cautions(runs)}
    rates = runs["units"].map({2: 0.1, 3: 0.2})
    assert "mixed_configs" in {caution.name for caution in cautions.cautions(runs.assign(learning_rate=rates))}


def test_an_empty_cell_that_the_user_left_is_a_value(runs):
    twice = runs.assign(stretch=None)
    assert fields.varying(twice) == {}
