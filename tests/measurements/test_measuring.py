"""Measurement of saved networks: correct numbers, each measured once, whatever is requested later."""

import json
import zlib

import jax
import numpy as np
import pytest

import flatwide
from flatwide import catalogue, cli, experiment, runner
from flatwide.config import ConfigError, resolve
from flatwide.measurements import gradient, measuring
from flatwide.measurements.errors import MeasurementError
from flatwide.measurements.subject import ExampleLoss, MeanLoss, examples_of
from flatwide.report.workdir import Arrays
from flatwide.runs import driver, identity, records
from flatwide.runs.directory import BusyError
from flatwide.runs.identity import locate
from flatwide.runs.records import Wanted

FIELDS = {
    "num_neurons": (4,),
    "num_epochs": 2,
    "batch_size": 256,
    "measurements": ("gradient",),
    "measure_examples": 64,
}


def run(workdir, **fields):
    return runner.run(FIELDS | fields, workdir, quiet=True, tensorboard=False)


def directory_of(workdir, **fields):
    return locate(resolve(FIELDS | fields), workdir)[0]


def files(directory):
    return {path.name: path.stat().st_mtime_ns for path in (directory.path / "measurements").iterdir()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train a run that is measured at its start, after an epoch and at its end."""
    workdir = tmp_path_factory.mktemp("work")
    run(workdir, measure_epochs=(0, 1))
    return workdir


@pytest.fixture(scope="module")
def unmeasured(tmp_path_factory):
    """Train a run that is not measured."""
    workdir = tmp_path_factory.mktemp("work")
    run(workdir, measurements=())
    return workdir


def own_file(folder, body, name="mine"):
    path = folder / "own.py"
    path.write_text(f"from flatwide.measurements.subject import Measured\n\ndef {name}(subject, *, key):\n    {body}\n")
    return f"{path}:{name}"


def test_the_gradient_is_that_of_the_loss_over_the_examples(trained):
    network = flatwide.load_run(directory_of(trained).path)
    built = experiment.build(FIELDS)
    stream = np.random.default_rng([0, zlib.crc32(b"measurement")])
    chosen = stream.permutation(built.train.num_examples)[:64]
    batch = jax.tree.map(lambda leaf: leaf[np.sort(chosen)], built.train.arrays)
    loss, slope = jax.value_and_grad(built.loss)(network.params, network.stats, batch)
    (row,) = flatwide.load(trained).to_dict("records")
    assert row["gradient.train_loss"] == pytest.approx(float(loss), rel=1e-6)  # float32, summed in another order
    square = sum(float(np.sum(np.square(np.asarray(leaf, np.float64)))) for leaf in jax.tree.leaves(slope))
    assert row["gradient.gradient_norm"] == pytest.approx(square**0.5, rel=1e-5)
    assert row["gradient.num_examples"] == 64


def test_every_epoch_has_a_row_of_each_value(trained):
    table = flatwide.load_measurements(trained)
    assert list(table.columns) == ["run", "epoch", "measurement", "quantity", "value", "standard_error"]
    assert table["epoch"].tolist() == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    initial = experiment.build(FIELDS)
    state = initial.init()
    examples = examples_of(initial, 64)(None)
    expected = MeanLoss(initial.workload)(state.params, examples, state.stats)
    loss = table[(table["epoch"] == 0) & (table["quantity"] == "train_loss")]["value"].item()
    assert loss == pytest.approx(float(expected), rel=1e-6)
    assert table["standard_error"].isna().all()


def test_existing_measurements_are_kept_and_other_settings_have_other_files(trained):
    directory = directory_of(trained)
    before = files(directory)
    assert set(before) == {f"gradient{where}-examples64.json" for where in ("", "-epoch0", "-epoch1")}
    run(trained, measure_epochs=(0, 1))
    assert files(directory) == before
    run(trained, measure_examples=32)
    after = files(directory)
    assert set(after) - set(before) == {"gradient-examples32.json"}
    assert {name: after[name] for name in before} == before
    (row,) = flatwide.load(trained).to_dict("records")
    assert row["gradient.num_examples"] == 64  # the most examples are shown, where no number is more common


def test_what_is_missing_is_measured_to_the_same_numbers(trained):
    path = directory_of(trained).path / "measurements" / "gradient-epoch1-examples64.json"
    first = json.loads(path.read_text())
    path.unlink()
    run(trained, measure_epochs=(0, 1))
    again = json.loads(path.read_text())
    assert again["values"] == first["values"]
    assert first["versions"]["jax"] == jax.__version__
    assert (first["epoch"], first["is_final"], first["version"], first["cost"]) == (1.0, False, "1", 0)


def test_fewer_examples_are_a_part_of_more():
    built = experiment.build(FIELDS)
    few, many = (np.asarray(examples_of(built, count)(None)["inputs"]) for count in (5, 9))
    assert few.shape == (5, 8, 8, 1)
    assert {row.tobytes() for row in few} < {row.tobytes() for row in many}
    assert len(jax.tree.leaves(examples_of(built, 10**6)(None))[0]) == built.train.num_examples
    other = np.asarray(examples_of(experiment.build(FIELDS | {"seed": 1}), 5)(None)["inputs"])
    assert not np.array_equal(few, other)


def test_a_run_that_diverged_is_not_measured(tmp_path):
    assert run(tmp_path, learning_rate=1e30)["status"] == "diverged"
    assert not (directory_of(tmp_path, learning_rate=1e30).path / "measurements").exists()
    assert "gradient.train_loss" not in flatwide.load(tmp_path)


def test_runs_of_one_network_share_the_compiled_program(tmp_path):
    gradient._loss_and_norm.clear_cache()
    for fields in ({"rho": 0.0}, {"rho": 0.1}, {"seed": 1}, {"weight_decay": 0.1, "momentum": 0.0}):
        run(tmp_path, num_epochs=1, **fields)
    assert gradient._loss_and_norm._cache_size() == 1
    loss_fn = MeanLoss(experiment.build(FIELDS).workload)
    other = experiment.build(FIELDS | {"num_neurons": (8,)}).workload
    assert MeanLoss(other) != loss_fn


def test_the_loss_of_one_example_averages_to_that_of_the_batch():
    built = experiment.build(FIELDS)
    state, examples = built.init(), examples_of(built, 16)(None)
    each = [
        ExampleLoss(built.workload)(state.params, jax.tree.map(lambda leaf, at=at: leaf[at], examples), state.stats)
        for at in range(16)
    ]
    mean = MeanLoss(built.workload)(state.params, examples, state.stats)
    assert np.mean(each) == pytest.approx(float(mean), rel=1e-5)


def test_a_user_defined_measurement_is_a_column_and_an_edit_measures_again(tmp_path):
    body = 'return Measured({"answer": 42.0}, {"answer": 0.5}, {"line": [1.0, 2.0]}, cost=3)'
    mine = own_file(tmp_path, body)
    run(tmp_path / "w", measurements=("gradient", mine))
    directory = directory_of(tmp_path / "w")
    (row,) = flatwide.load(tmp_path / "w").to_dict("records")
    assert (row["mine.answer"], row["mine.num_examples"]) == (42.0, 64)
    table = flatwide.load_measurements(tmp_path / "w")
    assert table[table["measurement"] == "mine"]["standard_error"].tolist() == [0.5]
    (path,) = directory.path.glob("measurements/mine-v*-examples64.npz")
    assert np.load(path)["line"].tolist() == [1.0, 2.0]
    own_file(tmp_path, 'return Measured({"answer": 43.0})')
    run(tmp_path / "w", measurements=(mine,))
    assert len(list(directory.path.glob("measurements/mine-*.json"))) == 2
    (tmp_path / "own.py").unlink()  # though config.json names it
    assert flatwide.load_run(directory.path).stats == {}
    run(tmp_path / "w", measure_examples=8)
    assert flatwide.load(tmp_path / "w")["mine.answer"].tolist() in ([42.0], [43.0])  # made within a second


def test_a_users_measurement_stays_when_one_of_its_name_ships(tmp_path, monkeypatch):
    mine = own_file(tmp_path, 'return Measured({"gradient_norm": 42.0}, {}, {"line": [1.0]})', name="gradient")
    with monkeypatch.context() as before:
        before.delitem(catalogue.MEASUREMENTS, "gradient")
        run(tmp_path / "w", measurements=(mine,))
        assert flatwide.load(tmp_path / "w")["gradient.gradient_norm"].tolist() == [42.0]
    directory = directory_of(tmp_path / "w")
    measured = files(directory)
    run(tmp_path / "w", measurements=(mine, "gradient"))
    assert files(directory).items() > measured.items()
    (row,) = flatwide.load(tmp_path / "w").to_dict("records")
    assert row["own_gradient.gradient_norm"] == 42.0 != row["gradient.gradient_norm"]
    arrays = Arrays(tmp_path / "w")
    assert [key[1] for key in arrays] == ["own_gradient"]
    assert arrays[directory.name, "own_gradient"]["line"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("return 3", "returned int; expected a Measured."),
        ("return Measured({'a': '1'})", "values['a']='1': expected a Python number; write float(...)."),
        ("return Measured({'a': 1.0}, {'b': 1.0})", "errors of ['b']: expected names of values; found ['a']."),
    ],
)
def test_a_failure_is_logged_in_the_run_and_the_others_are_measured(unmeasured, tmp_path, body, message):
    mine, number = own_file(tmp_path, body), 8 + len(body)  # a number of examples that no other case measures
    with pytest.raises(MeasurementError, match="1 of the measurements failed: mine-v"):
        run(unmeasured, measurements=(mine, "gradient"), measure_examples=number)
    directory = directory_of(unmeasured)
    assert message in directory.read_error()
    assert directory.error_file == directory.path / "measurements" / "error.txt"
    assert f"gradient-examples{number}.json" in files(directory)
    assert directory.status() == "finished"


def test_the_command_exits_with_1_where_a_measurement_fails(tmp_path, capsys):
    (tmp_path / "config.py").write_text(f"def get_config():\n    return {FIELDS | {'num_epochs': 1}}\n")
    mine = own_file(tmp_path, "return Measured({'a': 1 / 0})")
    flags = [f"--workdir={tmp_path}/w", f"--config={tmp_path}/config.py"]
    assert cli.main([*flags, f"--config.measurements=('{mine}',)"]) == 1
    printed = capsys.readouterr()
    assert "ZeroDivisionError" in printed.err
    assert "finished: " in printed.out
    capsys.readouterr()
    assert cli.main([*flags, "--config.measurements=gradient", "--dry_run"]) == 0
    assert "measurements to take: 1, such as gradient-examples64" in capsys.readouterr().out
    assert cli.main([*flags, "--config.measurements=gradient"]) == 0
    assert cli.main([*flags, "--config.measurements=gradient", "--dry_run"]) == 0
    assert "measurements to take" not in capsys.readouterr().out


def as_earlier_versions_wrote_it(directory):
    """Remove from config.json what says that every file of the run has a checksum."""
    path = directory.path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: config[name] for name in config.keys() - {"checksum", "file_version"}}))


def test_a_damaged_file_or_an_edited_number_is_a_problem_in_the_table(tmp_path):
    run(tmp_path)
    (path,) = directory_of(tmp_path).path.glob("measurements/*.json")
    content = json.loads(path.read_text())
    path.write_text('{"name": "grad')
    (row,) = flatwide.load(tmp_path).to_dict("records")
    assert row["status"] == "finished"
    assert f"{path}: the file is damaged" in row["problem"]
    path.write_text(json.dumps(content | {"values": {"gradient_norm": 123.0}}))
    (row,) = flatwide.load(tmp_path).to_dict("records")
    assert "it was changed after it was written" in row["problem"]
    assert row.get("gradient.gradient_norm") != 123.0
    del content["checksum"]
    path.write_text(json.dumps(content))
    (row,) = flatwide.load(tmp_path).to_dict("records")
    assert f"{path}: its checksum was removed" in row["problem"]
    as_earlier_versions_wrote_it(directory_of(tmp_path))
    (row,) = flatwide.load(tmp_path).to_dict("records")
    assert row["gradient.gradient_norm"] == content["values"]["gradient_norm"]


def test_a_run_that_another_process_uses_is_refused(unmeasured):
    directory = directory_of(unmeasured)
    with directory.lock(), pytest.raises(BusyError, match="wait until it ends"):
        measuring.measure(directory, resolve(FIELDS), quiet=True)


def test_asked_to_stop_it_keeps_what_it_has(tmp_path):
    run(tmp_path, measurements=(), measure_epochs=(0, 1))
    directory, config = directory_of(tmp_path), resolve(FIELDS | {"measure_epochs": (0, 1)})
    answers = iter([False, True])
    with pytest.raises(driver.Stopped, match="between measurements"):
        measuring.measure(directory, config, should_stop=lambda: next(answers), quiet=True)
    assert set(files(directory)) == {"gradient-epoch0-examples64.json"}
    assert len(records.missing(directory, config)) == 2


def test_a_changed_run_is_not_measured(tmp_path):
    (tmp_path / "model.py").write_text(
        "import jax.numpy as jnp\nfrom flatwide.types import Model\n\ndef flat(example, num_outputs):\n"
        "    def init(key):\n        return {'kernel': jnp.zeros((64, num_outputs))}, {}\n"
        "    def apply(params, stats, inputs, *, train, key):\n"
        "        return inputs.reshape(len(inputs), 64) @ params['kernel'], stats\n    return Model(init, apply)\n"
    )
    fields = {"model": f"{tmp_path}/model.py:flat", "num_epochs": 1}
    run(tmp_path / "w", **fields, measurements=())
    directory, config = directory_of(tmp_path / "w", **fields), resolve(FIELDS | fields)
    (tmp_path / "model.py").write_text((tmp_path / "model.py").read_text() + "# edited\n")
    with pytest.raises(MeasurementError, match="model_file changed since the run was trained"):
        measuring.measure(directory, config, quiet=True)


def test_files_are_named_after_what_is_not_at_its_default(monkeypatch):
    assert Wanted("gradient", None, 1000).stem == "gradient"
    assert Wanted("gradient", 3, 50).stem == "gradient-epoch3-examples50"
    second = catalogue.MEASUREMENTS["gradient"]._replace(version=2)
    monkeypatch.setitem(catalogue.MEASUREMENTS, "gradient", second)
    assert Wanted("gradient", 0, 1000).stem == "gradient-v2-epoch0"


def test_faults_name_what_is_known_and_all_at_once(tmp_path):
    twice = own_file(tmp_path, "return 1")
    (tmp_path / "other.py").write_text("def mine(subject, *, key):\n    return 1\n")
    names = ("gradent", twice, f"{tmp_path}/other.py:mine", f"{tmp_path}/nowhere.py:x")
    with pytest.raises(ConfigError) as caught:
        resolve({"measurements": names, "measure_examples": 0, "measure_epochs": (-1,)})
    text = str(caught.value)
    for part in (
        "config.measurements='gradent' is not known. Did you mean 'gradient'? Known: ",
        "nowhere.py'; give a path to a Python file that exists.",
        "has the same name; rename one of the two functions.",
        "config.measure_examples=0: expected an integer >= 1.",
        "config.measure_epochs=(-1,): expected integers >= 0.",
    ):
        assert part in text
    assert len(caught.value.faults) == 5


def test_epochs_past_the_end_are_refused():
    with pytest.raises(ConfigError, match=r"expected epochs up to config\.num_epochs=2"):
        resolve(FIELDS | {"measure_epochs": (3,)})
    fields = FIELDS | {"num_train_steps": 12, "measure_epochs": (3,)}
    with pytest.raises(ConfigError, match=r"expected epochs up to 2, since config.num_train_steps=12"):
        experiment.build(fields)


def test_measurements_are_not_part_of_the_identity_of_a_run():
    asked = resolve(FIELDS | {"measure_epochs": (1,)})
    assert identity.identity(asked, "data") == identity.identity(resolve({**asked, "measurements": ()}), "data")
    assert not {"measurements", "measure_epochs", "measure_examples"} & identity.identity(asked, "data").keys()


def test_runs_of_a_table_show_the_number_of_examples_that_most_have(tmp_path):
    """One run measured on more examples than the others, too, would not be comparable with them."""
    for seed in (0, 1, 2):
        run(tmp_path, seed=seed, measure_examples=32)
    run(tmp_path, seed=0, measure_examples=64)
    table = flatwide.load(tmp_path)
    assert list(table["gradient.num_examples"]) == [32, 32, 32]
    series = flatwide.load_measurements(tmp_path)
    at_the_end = series[series["quantity"] == "train_loss"].groupby("run")["epoch"].idxmax()
    shown = series.loc[at_the_end].set_index("run")["value"]
    assert shown.to_dict() == table.set_index("run")["gradient.train_loss"].to_dict()
    run(tmp_path, seed=1, measure_examples=64)  # now two runs have 64, and three 32
    assert list(flatwide.load(tmp_path)["gradient.num_examples"]) == [32, 32, 32]
    run(tmp_path, seed=2, measure_examples=64)
    assert list(flatwide.load(tmp_path)["gradient.num_examples"]) == [64, 64, 64]


def test_networks_at_all_epochs_decide_which_number_of_examples_is_shown(trained):
    """The end was measured on 256 examples too, but the earlier epochs on 64 alone: a curve would mix them."""
    run(trained, measure_examples=256, measure_epochs=())
    assert list(flatwide.load(trained)["gradient.num_examples"]) == [64]
