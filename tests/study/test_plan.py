"""From axes to runs: the product, coupled points, exclusions, and every fault before anything is trained."""

import itertools

import numpy as np
import pytest

from flatwide import config as configs
from flatwide import runner
from flatwide.data import DataError
from flatwide.runs import parts
from flatwide.study import command, inventory, plan

BASE = {"model": "MLP", "dataset": "digits", "num_epochs": 1}


def expand(base=None, **study):
    return plan.expand(BASE | (base or {}) | {"study": study})


def varied(planned, *names):
    return [tuple(run.config[name] for name in names) for run in planned.runs]


def test_axes_are_a_product_with_the_last_axis_fastest():
    planned = expand(axes={"num_neurons": ((4,), 8), "rho": (0, 0.1), "seed": (0, 1, 2)})
    expected = list(itertools.product([(4,), (8,)], [0.0, 0.1], [0, 1, 2]))
    assert varied(planned, "num_neurons", "rho", "seed") == expected
    assert planned.notes == ()


def test_what_is_not_varied_is_that_of_the_config():
    (run,) = expand({"learning_rate": 0.3}, axes={"rho": (0.0,)}).runs
    assert run.config == configs.resolve_fields(BASE | {"learning_rate": 0.3, "rho": 0.0})


def test_a_keyword_of_the_users_own_file_is_an_axis(tmp_path):
    (tmp_path / "own.py").write_text(
        "from flatwide.models.mlp import mlp\n"
        "def net(example, num_outputs, *, channels=8, rate=None):\n"
        "    return mlp(example, num_outputs, num_neurons=(channels,))\n"
        "def must(example, num_outputs, *, channels):\n    return net(example, num_outputs, channels=channels)\n"
    )
    own, needs = f"{tmp_path}/own.py:net", f"{tmp_path}/own.py:must"
    for base in ({"model": own}, {"model": own, "channels": 2}, {"model": needs}):
        assert varied(expand(base, axes={"channels": (4, 8), "rho": (0.0,)}), "channels") == [(4,), (8,)]
    assert varied(expand({"model": own}, axes={"rate": (0.5, 1), "rho": (0,)}), "rate") == [(0.5,), (1,)]
    assert varied(expand(axes={"model": (own, needs), "channels": (4,), "rho": (0.0,)}), "channels") == [(4,), (4,)]
    parts = {"cnn": {"model": own, "points": ({"channels": 4}, {"channels": 8})}, "mlp": {"num_neurons": (4,)}}
    assert len(expand(axes={"rho": (0.0, 0.1)}, parts=parts).runs) == 6
    with pytest.raises(configs.ConfigError) as error:
        expand({"model": needs}, axes={"chanels": (4,), "channels": (4,)})
    (misspelled,) = error.value.faults
    assert misspelled.startswith("config.study.axes field='chanels' is not known. Did you mean 'channels'?")
    with pytest.raises(configs.ConfigError, match="field='channels' is not known"):
        expand(axes={"channels": (4,)})


def test_an_axis_may_be_an_array():
    axes = {"rho": np.array([0.0, 0.5]), "seed": np.arange(2)}
    assert [run.varied["rho"] for run in expand(axes=axes).runs] == [0.0, 0.0, 0.5, 0.5]


def test_points_are_one_more_axis():
    points = ({"num_neurons": (4,), "learning_rate": 0.1}, {"num_neurons": (8,), "learning_rate": 0.2})
    planned = expand(points=points, axes={"rho": (0.0, 0.1)})
    expected = [((4,), 0.1, 0.0), ((4,), 0.1, 0.1), ((8,), 0.2, 0.0), ((8,), 0.2, 0.1)]
    assert varied(planned, "num_neurons", "learning_rate", "rho") == expected


def test_excluded_runs_agree_in_all_fields_of_an_entry():
    planned = expand(axes={"num_neurons": ((4,), (8,)), "rho": (0, 0.1)}, exclude=({"num_neurons": 8, "rho": 0.1},))
    assert varied(planned, "num_neurons", "rho") == [((4,), 0.0), ((4,), 0.1), ((8,), 0.0)]


def test_runs_that_coincide_are_trained_once():
    planned = expand(axes={"sam_variant": ("normalized", "unnormalized"), "rho": (0.0, 0.1), "seed": (0, 1, 2)})
    assert len(planned.runs) == 9
    assert "3 combinations are duplicates of another run" in planned.notes[0]


def test_runs_of_one_shape_differ_in_values_only():
    axes = {"rho": (0.1, 0.2), "seed": (0, 1), "learning_rate": (0.1, 0.2), "weight_decay": (0.0, 0.1)}
    assert len({run.shape for run in expand(axes=axes | {"label_noise": (0.0, 0.5)}).runs}) == 1
    others = {"num_neurons": ((4,), (8,)), "batch_size": (16, 32), "num_epochs": (1, 2), "eval_every_steps": (None, 5)}
    for name, values in (others | {"rho": (0.0, 0.1)}).items():
        assert len({run.shape for run in expand(axes={name: values, "seed": (0, 1)}).runs}) == 2, name


def test_a_budget_becomes_a_sparsity():
    axes = {"num_neurons": ((20,), (40,)), "num_nonzero_params": (1000,), "seed": (0, 1, 2), "rho": (0.0,)}
    planned = expand({"pruner": "snip"}, axes=axes)
    assert [run.varied["num_nonzero_params"] for run in planned.runs] == [1000] * 6
    for run in planned.runs:
        hidden = run.config["num_neurons"][0]
        num_kept = round((1 - run.config["sparsity"]) * (64 * hidden + hidden * 10))
        assert num_kept + hidden + 10 == 1000
    assert "width (20,), snip: 1,000 nonzero parameters at sparsity" in planned.notes[0]


def test_a_network_is_traced_once_for_all_runs_that_have_it():
    before = parts.init_shapes.cache_info().misses
    axes = {"num_neurons": ((21,), (41,)), "num_nonzero_params": (1000,), "seed": (0, 1, 2), "rho": (0.0, 0.1)}
    planned = expand({"pruner": "snip"}, axes=axes)
    assert parts.init_shapes.cache_info().misses - before == 2
    assert len({run.config["sparsity"] for run in planned.runs}) == 2


def test_readers_are_warned():
    notes = expand(axes={"rho": (0.1,), "seed": (0, 1)}).notes
    assert "no run has rho = 0" in notes[0]
    assert "2 seed(s)" in notes[1]


def range_of(count):
    return tuple(range(count))


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"axes": {"rh": (0.1,)}}, "config.study.axes field='rh' is not known. Did you mean 'rho'?"),
        ({"axes": {1: (1, 2)}}, "config.study.axes: the name 1; expected a text."),
        ({"axes": {"rho": (0.1, {1})}}, "config.study.axes.rho[1]={1}: expected numbers, texts, tuples or dicts."),
        ({"parts": {5: {}}}, "config.study.parts: the name 5; expected a text."),
        ({"axes": {"rho": ()}}, "config.study.axes.rho=(): expected one or more values"),
        ({"axes": {"rho": 0.1}}, "config.study.axes.rho=0.1: expected one or more values"),
        ({"axes": {"rho": (0.1, "a")}}, "config.study.axes.rho: 'a': expected a number >= 0"),
        ({"axes": {"seed": (0, 1.5)}}, "config.study.axes.seed: 1.5: expected an integer"),
        ({"axes": {"rho": (0, 0.1, 0.0)}}, "0.0 is a duplicate value"),
        ({"axes": {"num_neurons": (8, (8,))}}, "(8,) is a duplicate value"),
        ({"points": ({"rho": 0.1}, {"rho": 0.1})}, "config.study.points[1]={'rho': 0.1}: it is a duplicate"),
        ({"points": ({"rho": 0.1}, {"seed": 1})}, "expected the same fields in each"),
        ({"points": ({"rho": 0.1},), "axes": {"rho": (0.2,)}}, "points set it too"),
        ({"points": (0.1,)}, "config.study.points=(0.1,): expected a tuple of dicts"),
        ({"axes": {"rho": (0.1,)}, "exclude": ({"sed": 1},)}, "Did you mean 'seed'?"),
        ({"axes": {"rho": (0.1,)}, "exclude": ({"seed": 1},)}, "config.study.exclude field='seed' is not known"),
        ({"axes": {"rho": (0.1,)}, "exclude": ({"rho": 0.1},)}, "no run is left"),
        ({"axis": {"rho": (0.1,)}}, "config.study field='axis' is not known. Did you mean 'axes'?"),
        ({"axes": {"rho": (0.1,)}, "metric": "accuracy"}, "config.study.metric='accuracy' is not known"),
        ({"metrics": ("test_los",)}, "config.study.metrics='test_los' is not known. Did you mean 'test_loss'? Known: "),
        ({"metrics": ("test_loss", "test_loss")}, "('test_loss', 'test_loss'): test_loss is a duplicate"),
        ({"metrics": ("test_loss",), "metric": "test_metric_best"}, "'test_metric_best' is not the first of them"),
        ({"metrics": ("validation_metric",)}, "no run has validation_metric, since config.validation_fraction is 0.0"),
        ({"metrics": ("test_loss_average",)}, "no run has test_loss_average, since config.weight_average is 'none'"),
        ({"average_last": 2}, "config.study.average_last=2: expected an odd integer >= 1"),
        ({"average_last": -1}, "config.study.average_last=-1: expected an odd integer >= 1"),
        (
            {"average_last": 3, "metric": "test_metric_best"},
            "average_last=3: test_metric_best is that of one evaluation",
        ),
        (
            {"axes": {"num_epochs": (9, 4)}, "average_last": 5},
            "average_last=5: a run has 4 evaluations; expected at most",
        ),
        ({"axes": {"rho": (0.1,)}, "executor": "cloud"}, "config.study.executor='cloud' is not known"),
        ({"axes": {"rho": (0.1,)}, "workers": 0}, "config.study.workers=0: expected an integer >= 1"),
        ({"workers": 2}, "expected axes, points or parts"),
        ({"axes": {"seed": range_of(1000), "rho": range_of(1000)}}, "1,000,000 runs; expected at most 100,000"),
        ({"axes": {"seed": range(10**9)}}, "range(0, 1000000000): expected at most 100,000 values"),
        ({"axes": dict.fromkeys(("seed", "rho", "learning_rate"), range_of(1000))}, "1,000,000,000 runs; expected"),
        ({"axes": {"data_dir": ("a", "b")}}, "data_dir changes no result"),
        ({"axes": {"threads": (1, 2)}}, "threads is the same for all workers"),
        ({"axes": {"sparsity": (0.5,)}}, "config.sparsity=0.5 with config.pruner='none'"),
        ({"axes": {"num_nonzero_params": (5000,)}}, "num_nonzero_params=5000 needs a pruner"),
        ({"axes": {"num_nonzero_params": (10,), "pruner": ("snip",)}}, "biases and norms, which are never pruned"),
        ({"axes": {"num_nonzero_params": (10**9,), "pruner": ("snip",)}}, "the network has only 22,510 parameters"),
        ({"axes": {"num_nonzero_params": (100,), "sparsity": (0.1,)}}, "keep one"),
    ],
)
def test_faults_are_found_before_anything_is_trained(study, message):
    with pytest.raises(configs.ConfigError) as error:
        expand({"num_neurons": (300,)}, **study)
    assert message in str(error.value)


def test_a_field_that_decides_another_is_not_set_beside_it():
    with pytest.raises(configs.ConfigError, match="it reads no rho, which the study varies"):
        expand({"optimizer": "sgd"}, axes={"rho": (0.0, 0.1)})
    with pytest.raises(configs.ConfigError, match="the study computes it from num_nonzero_params"):
        expand({"sparsity": 0.5, "pruner": "random"}, axes={"num_nonzero_params": (5000,)})


def test_all_faults_come_at_once():
    with pytest.raises(configs.ConfigError) as error:
        expand({"optimizer": "samm"}, axes={"rh": (0.1,), "seed": ()}, executor="cloud")
    for part in ("'rh'", "axes.seed=()", "'cloud'", "'samm'"):
        assert part in str(error.value)
    assert str(error.value).count("'rh'") == 1


def test_a_study_is_not_one_run():
    with pytest.raises(configs.ConfigError, match="expected a single run here"):
        configs.resolve(BASE | {"study": {"axes": {"rho": (0.1,)}}})
    assert "study" not in configs.resolve(configs.default())


def test_flags_change_axes():
    values, faults = configs.override(
        BASE | {"study": {"axes": {"rho": (0.0, 0.1)}}},
        [("study.axes.rho", "(0.0, 0.3)"), ("study.axes.seed", "(1,2,3)"), ("study.workers", "1")],
    )
    assert faults == []
    assert values["study"] == {"axes": {"rho": (0.0, 0.3), "seed": (1, 2, 3)}, "workers": 1}
    assert len(plan.expand(values).runs) == 6
    _, faults = configs.override(values, [("rho", "0.1")])
    assert faults == ["--config.rho: the study sets it; set --config.study.axes.rho."]
    for order in (1, -1):  # a flag may make the study
        _, faults = configs.override(BASE, [("study.axes.rho", "(0.0,0.1)"), ("rho", "0.3")][::order])
        assert faults == ["--config.rho: the study sets it; set --config.study.axes.rho."]
    _, faults = configs.override(BASE | {"study": {"points": ({"rho": 0.1},)}}, [("rho", "0.3")])
    assert faults == ["--config.rho: the study sets it; change config.study.points in the file."]


PARTS = {
    "a": {"num_epochs": 2, "axes": {"num_neurons": ((4,), (8,)), "rho": (0.0, 0.1)}},
    "b": {
        "model": "OneHiddenLayer",
        "dataset": "two_layer_teacher",
        "loss": "squared",
        "axes": {"num_neurons": ((3,),), "rho": (0.0, 0.2), "seed": (7, 8, 9)},
    },
}


def test_parts_are_studies_beside_each_other():
    planned = expand(parts=PARTS, axes={"seed": (0, 1, 2)})
    names = ("dataset", "num_epochs", "num_neurons", "rho", "seed")
    first = [("digits", 2, width, rho, seed) for seed in (0, 1, 2) for width in ((4,), (8,)) for rho in (0.0, 0.1)]
    second = [("two_layer_teacher", 1, (3,), rho, seed) for rho in (0.0, 0.2) for seed in (7, 8, 9)]
    assert sorted(varied(planned, *names)) == sorted(first + second)
    assert [run.part for run in planned.runs] == ["a"] * 12 + ["b"] * 6
    assert planned.notes == ()


def test_a_part_says_more_than_all_do():
    alone = expand(parts={"a": {"axes": {"rho": (0.0, 0.1)}, "seed": 4}}, axes={"seed": (0, 1, 2)})
    assert varied(alone, "rho", "seed") == [(0.0, 4), (0.1, 4)]
    points = ({"num_neurons": (4,), "learning_rate": 0.1}, {"num_neurons": (8,), "learning_rate": 0.2})
    coupled = expand(
        parts={"a": {"points": points, "exclude": ({"num_neurons": 8, "rho": 0.1},)}}, axes={"rho": (0, 0.1)}
    )
    expected = [((4,), 0.1, 0.0), ((4,), 0.1, 0.1), ((8,), 0.2, 0.0)]
    assert varied(coupled, "num_neurons", "learning_rate", "rho") == expected


def test_readers_are_warned_of_the_part():
    notes = expand(parts=PARTS | {"c": {"axes": {"rho": (0.1,)}}}, axes={"seed": (0, 1, 2)}).notes
    assert [note.split(", ")[0] for note in notes] == ["warning: no run in part c has rho = 0"]


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"parts": ({"rho": 0.1},)}, "expected a dict from names to dicts of fields, axes among them"),
        ({"parts": {"a": {"axis": {"rho": (0.1,)}}}}, "config.study.parts.a field='axis' is not known"),
        ({"parts": {"a": {"axes": {"rh": (0.1,)}}}}, "config.study.parts.a.axes field='rh' is not known"),
        (
            {"parts": {"a": {"rho": 0.1, "axes": {"rho": (0.1,)}}}},
            "config.study.parts.a.rho: its axes or points set it",
        ),
        ({"parts": {"a": {"num_epochs": 0, "axes": {"rho": (0,)}}}}, "config.study.parts.a.num_epochs: 0: expected"),
        ({"parts": {"a": {"threads": 2, "axes": {"rho": (0,)}}}}, "threads is the same for all workers"),
        ({"parts": {"a": {"loss": "cross"}}}, "config.loss='cross' is not known"),
    ],
)
def test_faults_of_parts_say_which(study, message):
    with pytest.raises(configs.ConfigError) as error:
        expand(**study)
    assert message in str(error.value)


def test_flags_change_parts():
    values = BASE | {"study": {"parts": PARTS, "axes": {"seed": (0, 1, 2)}}}
    flags = [("study.parts.a.num_epochs", "5"), ("study.parts.b.axes.num_neurons", "((3,),(5,))")]
    changed, faults = configs.override(values, flags)
    assert faults == []
    assert len(plan.expand(changed).runs) == 12 + 12
    assert plan.expand(changed).runs[0].config["num_epochs"] == 5
    _, faults = configs.override(values, [("num_epochs", "9"), ("rho", "0.1")])
    assert faults == [
        "--config.num_epochs: the study sets it; set --config.study.parts.a.num_epochs.",
        "--config.rho: the study sets it; set --config.study.parts.b.axes.rho.",
    ]


def test_all_data_sets_that_are_missing_are_named_before_anything_is_trained(tmp_path):
    parts = {
        "molecules": {"model": "GCN", "dataset": "smiles_csv", "loss": "binary_cross_entropy"},
        "sentences": {"model": "TaggingTransformer", "dataset": "conllu"},
        "digits": {},
    }
    planned = expand(axes={"seed": (0, 1)}, parts=parts)
    with pytest.raises(DataError) as raised:
        inventory.take(planned, tmp_path)
    first, second = str(raised.value).splitlines()
    assert "train.csv" in first
    assert "conllu" in second
    assert not list(tmp_path.iterdir())


def test_a_network_that_does_not_fit_its_data_is_told_before_anything_is_trained(tmp_path):
    base = {"model": "LSTM", "dataset": "made_tagging", "hidden_size": 2}
    study = {"axes": {"rho": (0.0, 0.1)}}
    for call in (command.run, command.dry_run):
        with pytest.raises(ValueError, match="such as TaggingTransformer"):
            call(BASE | base | {"study": study}, tmp_path)
    with pytest.raises(ValueError, match="such as TaggingTransformer"):
        runner.run(BASE | base, tmp_path)
    assert not list(tmp_path.iterdir())
