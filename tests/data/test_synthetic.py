"""The small regression tasks against their formulas."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import config as configs
from flatwide import data, experiment, registry
from flatwide.data.synthetic import matrix_factorization, regression_1d, teacher_student, two_layer_teacher

TASKS = {"regression_1d": regression_1d, "matrix_factorization": matrix_factorization}
TASKS |= {"two_layer_teacher": two_layer_teacher, "teacher_student": teacher_student}
FINGERPRINTS = {"regression_1d": "5d3d7d9d", "matrix_factorization": "2345e870", "two_layer_teacher": "d8bc722d"}
FINGERPRINTS |= {"teacher_student": "8671b084"}


@pytest.mark.parametrize("name", TASKS)
def test_declared_facts_are_true_and_the_data_are_the_same_every_time(name):
    dataset = registry.find("config.dataset", name, data.DATASETS)()
    facts = (dataset.train.num_examples, dataset.test.num_examples, dataset.example.shape, dataset.num_outputs)
    assert facts == data.INFO[name][:4]
    assert dataset.has_real_targets
    assert data.INFO[name].has_real_targets
    assert dataset.fingerprint == TASKS[name]().fingerprint
    assert dataset.train.targets.shape[1:] == (dataset.num_outputs,)


def test_fingerprints_are_those_of_the_data_that_runs_were_named_after():
    """A NumPy that draws other numbers, or a formula that changes, makes other data; then this is the test to renew."""
    assert {name: task().fingerprint[:8] for name, task in TASKS.items()} == FINGERPRINTS


def test_regression_1d_has_the_points_of_the_papers_figure_and_lines_between():
    dataset = regression_1d()
    inputs, targets = dataset.train.arrays["inputs"][:, 0], dataset.train.targets[:, 0]
    assert_allclose(inputs[[0, 1, -1]], [-1.305, -1.055, 1.445], rtol=1e-6)
    assert_allclose(targets[[0, 1, 4, -1]], [-1.655, 1.845, 2.345, -0.655], rtol=1e-6)
    grid, lines = dataset.test.arrays["inputs"][:, 0], dataset.test.targets[:, 0]
    assert_allclose(lines, np.interp(grid, inputs, targets), rtol=0, atol=1e-5)
    assert_allclose(np.diff(grid), 0.25 / 20, rtol=1e-4)
    assert_array_equal(lines[::20], targets)


def test_matrix_factorization_is_one_linear_map_of_rank_six_that_is_badly_conditioned():
    dataset = matrix_factorization()
    inputs, targets = (np.float64(dataset.train.arrays[name]) for name in ("inputs", "targets"))
    matrix = np.linalg.lstsq(inputs, targets, rcond=None)[0].T
    for split in (dataset.train, dataset.test):
        assert_allclose(split.arrays["inputs"] @ matrix.T, split.targets, rtol=0, atol=1e-5)
    scales = np.linspace(1, 1e-10, 10)
    assert np.all((matrix[:9] >= -1e-6) & (matrix[:9] <= scales[:9, None] + 1e-6))
    assert np.abs(matrix[9]).max() < 1e-9
    assert np.linalg.matrix_rank(matrix) == 6
    # 1,000 draws of 6 numbers with mean 0 and deviation 1.
    assert np.abs(inputs.mean(axis=0)).max() < 4 / np.sqrt(1000)
    assert np.abs(inputs.std(axis=0) - 1).max() < 4 / np.sqrt(2000)
    assert not np.array_equal(dataset.train.arrays["inputs"], dataset.test.arrays["inputs"])


def test_two_layer_teacher_is_the_formula_on_the_sphere():
    dataset = two_layer_teacher()
    for split in (dataset.train, dataset.test):
        points = np.float64(split.arrays["inputs"])
        assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-6)
        a, b, c, d = points.T
        expected = (np.sin(3 * a) + np.sin(3 * b) + np.sin(3 * c) - 2) ** 2 * np.cos(7 * d)
        assert_allclose(split.targets[:, 0], expected, rtol=0, atol=1e-4)
    assert len(np.unique(np.concatenate([s.arrays["inputs"] for s in (dataset.train, dataset.test)]), axis=0)) == 6000


def test_teacher_student_is_a_network_of_200_units_and_noise_of_deviation_1():
    silent, dataset, loud = (teacher_student(teacher_scale=scale) for scale in (0.0, 0.1, 10.0))
    for name in ("train", "test"):
        noise, some, most = (np.float64(getattr(task, name).targets[:, 0]) for task in (silent, dataset, loud))
        assert_allclose(100 * (some - noise), most - noise, rtol=0, atol=1e-4)  # one teacher, one noise
        num = len(noise)
        assert abs(noise.mean()) < 4 / np.sqrt(num)
        assert abs(noise.var() - 1) < 4 * np.sqrt(2 / num)
        points = np.float64(getattr(dataset, name).arrays["inputs"])
        assert abs(points.var() - 1) < 4 * np.sqrt(2 / points.size)
        # E relu(z)^2 = 1/2 for each unit of deviation 1, and 200 output weights of variance 1/200 each: 1/2 on average
        # over teachers. The mean over 200 squared weights has a deviation of 1/10, and twice that is the whole's.
        assert abs(np.mean((most - noise) ** 2) / 100 - 0.5) < 4 * 0.2
        # The teacher is no line: least squares by its own inputs leaves about a quarter of its variance.
        design = np.column_stack([points, np.ones(num)])
        residual = (most - noise) - design @ np.linalg.lstsq(design, most - noise, rcond=None)[0]
        assert 0.1 < residual.var() / (most - noise).var() < 0.5
    both = np.concatenate([split.arrays["inputs"] for split in (dataset.train, dataset.test)])
    assert len(np.unique(both, axis=0)) == 25_500
    assert len({task.fingerprint for task in (silent, dataset, loud)}) == 3


def test_prepared_examples_have_the_default_float_type():
    for double in (False, True):
        with jax.enable_x64(double):
            dataset = regression_1d()
            batch = dataset.prepare(dict(dataset.train.arrays), None, train=True)
            assert {array.dtype for array in batch.values()} == {dataset.example.dtype}
            assert dataset.example.dtype == (np.float64 if double else np.float32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"loss": "cross_entropy"},
            r"config.loss='cross_entropy' with config.dataset='regression_1d': its targets are rea",
        ),
        (
            {"label_noise": 0.5},
            r"config.label_noise=0.5 with config.dataset='regression_1d': its targets are real numbers",
        ),
    ],
)
def test_real_targets_go_with_no_loss_and_no_noise_of_classes(fields, message):
    with pytest.raises(configs.ConfigError, match=message):
        configs.resolve({"dataset": "regression_1d", "loss": "squared"} | fields)


OWN = """
import jax, numpy as np
from flatwide.data import Resident
from flatwide.types import Dataset

def line():
    inputs = np.linspace(0, 1, 8)[:, None]
    split = Resident({"inputs": inputs, "targets": 3 * inputs})
    return Dataset(split, split, lambda batch, key, *, train: batch, jax.ShapeDtypeStruct((1,), np.float32), 1, "line")
"""


def test_real_targets_of_your_own_data_are_found_by_their_type(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    fields = {"dataset": f"{tmp_path}/own.py:line", "model": "LinearNetwork", "num_neurons": (2,), "batch_size": 4}
    objective = experiment.build(fields | {"loss": "squared"}).workload.objective
    assert (objective.metric_name, objective.higher_is_better) == ("mean_squared_error", False)
    with pytest.raises(ValueError, match=r"config.loss='cross_entropy': expected classes, but the targets .* are real"):
        experiment.build(fields)
    with pytest.raises(ValueError, match=r"config.label_noise=0.5: the targets are float64\[8, 1\], not classes"):
        experiment.build(fields | {"loss": "squared", "label_noise": 0.5})
