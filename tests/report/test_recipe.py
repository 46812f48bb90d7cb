"""The config of a report trains the very runs that it is about."""

import itertools

from flatwide import config as configs
from flatwide.report import recipe

AXES = {"num_neurons": ("(4,)", "(16,)", "(100,)"), "rho": (0.0, 0.1), "seed": (0, 1, 2)}
BASE = {"model": "MLP", "dataset": "digits", "learning_rate": 0.05, "num_epochs": 60, "gradient_clip": None}


def product(axes=AXES, **more):
    return [BASE | dict(zip(axes, values, strict=True)) | more for values in itertools.product(*axes.values())]


def config_of(runs, tmp_path):
    path = tmp_path / "study.py"
    path.write_text(recipe.config_file(runs, [*runs[0]]))
    return configs.load_file(str(path))


def test_what_was_combined_freely_becomes_axes(tmp_path):
    found = config_of(product(), tmp_path)
    assert found["study"]["axes"] == {"num_neurons": ((4,), (16,), (100,)), "rho": (0.0, 0.1), "seed": (0, 1, 2)}
    assert found["study"]["points"] == ()
    assert (found["learning_rate"], found["num_epochs"], found["gradient_clip"]) == (0.05, 60, None)


def test_coupled_fields_become_points(tmp_path):
    sparsity = {"(4,)": 0.0, "(16,)": 0.5, "(100,)": 0.9}
    runs = [run | {"sparsity": sparsity[run["num_neurons"]]} for run in product()]
    study = config_of(runs, tmp_path)["study"]
    assert study["axes"] == {"rho": (0.0, 0.1), "seed": (0, 1, 2)}
    assert study["points"] == (
        {"num_neurons": (4,), "sparsity": 0.0},
        {"num_neurons": (16,), "sparsity": 0.5},
        {"num_neurons": (100,), "sparsity": 0.9},
    )


def test_a_product_with_holes_is_written_run_by_run(tmp_path):
    runs = product()[1:]
    points = config_of(runs, tmp_path)["study"]["points"]
    assert len(points) == len(runs)
    assert {"num_neurons": (4,), "rho": 0.0, "seed": 0} not in points


def test_one_run_is_a_config_without_a_study(tmp_path):
    found = config_of(product()[:1], tmp_path)
    assert (found["num_neurons"], found["rho"]) == ((4,), 0.0)
    assert "study" not in found


def test_fields_of_a_file_of_ones_own_are_set(tmp_path):
    found = config_of(product(model="own.py:linear", init_scale=0.1), tmp_path)
    assert (found["model"], found["init_scale"]) == ("own.py:linear", 0.1)


def test_fields_that_change_no_result_are_left_out():
    names = recipe.config_fields(
        ["run", "status", "rho", "threads", "data_dir", "test_metric", "versions.jax", "aside.x"]
    )
    assert names == ["rho", "threads"]
