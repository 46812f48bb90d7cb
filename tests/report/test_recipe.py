"""The config of a report trains the very runs that it is about."""

import html
import itertools
import re
from ast import literal_eval

from flatwide import config as configs
from flatwide.report import recipe
from flatwide.study import plan

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


def test_a_study_of_it_plans_the_very_runs(tmp_path):
    from flatwide import report
    from flatwide.runs.identity import locate
    from flatwide.study import plan

    study = {"points": ({"num_neurons": (8,), "sparsity": 0.0}, {"num_neurons": (16,), "sparsity": 0.5})}
    study["axes"] = {"rho": (0.0, 0.1), "sam_variant": ("normalized", "adaptive"), "seed": (0, 1)}
    values = configs.plain(configs.default()) | {"pruner": "random", "num_epochs": 1, "threads": 1, "study": study}
    names = set()
    for run in plan.expand(values).runs:
        directory, identity = locate(run.config, tmp_path)
        directory.path.mkdir(parents=True)
        directory.write_config(run.config, identity=identity)
        directory.write_result({"status": "diverged", "num_params": 10, "threads": 1, "higher_is_better": True})
        names.add(directory.name)
    text = html.unescape(report.write(tmp_path, formats=()).read_text())
    source = re.search(r"<code>(from flatwide.config import default.*?)</code>", text, flags=re.DOTALL)
    assert source
    (tmp_path / "again.py").write_text(source[1])
    planned = plan.expand(configs.load_file(str(tmp_path / "again.py"))).runs
    assert {locate(run.config, tmp_path)[0].name for run in planned} == names
    assert len(names) == 12  # rho 0 is one run for both variants


def test_a_folder_of_data_that_the_config_leaves_out_is_told():
    runs = product(data_dir="/data/mnist")
    assert "data_dir" not in recipe.config_fields(runs[0])
    assert "add --config.data_dir=/data/mnist, or the folder" in recipe.needs(runs, "python main.py --config=study.py")
    assert recipe.needs(runs, "python main.py --config=study.py --config.data_dir=here") == ""
    assert recipe.needs(product(data_dir=None), "") == recipe.needs(product(), "") == ""


def test_the_page_tells_it_beside_the_config(tmp_path, make):
    from flatwide import report

    make(tmp_path, 16, 0.1, 0, data_dir="/data/mnist")
    assert "add --config.data_dir=/data/mnist" in report.write(tmp_path, formats=()).read_text()


def test_domains_become_parts_whose_study_has_the_same_runs(tmp_path):
    teacher = {"model": "OneHiddenLayer", "dataset": "two_layer_teacher", "loss": "squared", "learning_rate": 0.003}
    axes = {"num_neurons": ("(3,)", "(9,)"), "rho": (0.0, 0.2), "seed": (0, 1)}
    runs = product(loss="cross_entropy") + product(axes, **teacher)
    parts = config_of(runs, tmp_path)["study"]["parts"]
    assert list(parts) == ["digits_mlp", "two_layer_teacher_onehiddenlayer"]
    assert parts["two_layer_teacher_onehiddenlayer"] == teacher | {
        "axes": {"num_neurons": ((3,), (9,)), "rho": (0.0, 0.2), "seed": (0, 1)}
    }
    planned = plan.expand(configs.load_file(str(tmp_path / "study.py"))).runs
    found = {(run.config["dataset"], *(run.config[name] for name in axes)) for run in planned}
    assert found == {(r["dataset"], literal_eval(r["num_neurons"]), r["rho"], r["seed"]) for r in runs}
    assert {run.config["learning_rate"] for run in planned if run.config["dataset"] == "digits"} == {0.05}
