"""Runs that start from the weights of another run."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_array_equal

from flatwide import config as configs
from flatwide import experiment, runner
from flatwide.measurements import measuring
from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.forgetting import forgetting
from flatwide.measurements.robustness import scores_of, summary
from flatwide.runs.directory import RunDirectory
from flatwide.runs.load import final_state, load_run
from flatwide.study import plan

TINY = {"num_neurons": (6,), "num_epochs": 1, "train_examples": 64, "batch_size": 32, "learning_rate": 0.05}


def run_directories(workdir):
    return sorted(path for path in (workdir / "runs").iterdir())


def contents(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Train one network at two rhos and one of another width."""
    workdir = tmp_path_factory.mktemp("pretrained")
    for fields in ({"rho": 0.0}, {"rho": 0.2}, {"rho": 0.0, "num_neurons": (5,)}):
        runner.run(TINY | fields, workdir, quiet=True)
    return workdir


def source_of(workdir, rho, width=6):
    (path,) = (path for path in run_directories(workdir) if f"MLP{width}-rho{rho:g}-" in path.name)
    return path


@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_a_run_starts_from_the_run_of_its_width_and_pretraining_rho_and_leaves_it_alone(pretrained, tmp_path, rho):
    before = contents(pretrained)
    fields = TINY | {"initialize_from": str(pretrained), "pretraining_rho": rho, "rho": 0.0}
    built = experiment.build(fields)
    expected = load_run(source_of(pretrained, rho)).params
    jax.tree.map(assert_array_equal, built.init().params, expected)
    runner.run(fields, tmp_path, quiet=True)
    assert contents(pretrained) == before
    moved = load_run(run_directories(tmp_path)[0]).params
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(expected), strict=True))


def test_weights_and_not_their_place_make_the_run(pretrained, tmp_path):
    fields = TINY | {"initialize_from": str(pretrained), "pretraining_rho": 0.0}
    runner.run(fields, tmp_path, quiet=True)
    moved = tmp_path / "moved"
    pretrained_copy = moved / "runs"
    pretrained_copy.mkdir(parents=True)
    source = source_of(pretrained, 0.0)
    (pretrained_copy / source.name).symlink_to(source)
    runner.run(fields | {"initialize_from": str(moved)}, tmp_path, quiet=True)
    assert len(run_directories(tmp_path)) == 1
    for rho in (0.0, 0.2):
        of_a_run = {"initialize_from": str(source_of(pretrained, rho)), "pretraining_rho": None}
        runner.run(fields | of_a_run, tmp_path, quiet=True)
    runner.run(TINY, tmp_path, quiet=True)
    assert len(run_directories(tmp_path)) == 4


def test_a_head_of_another_size_starts_anew(pretrained):
    fields = TINY | {"initialize_from": str(pretrained), "pretraining_rho": 0.0, "reinitialize": "head"}
    params, drawn = experiment.build(fields).init().params, experiment.build(TINY).init().params
    source = load_run(source_of(pretrained, 0.0)).params
    (head,) = (name for name in params if params[name]["kernel"].shape[-1] == 10)
    for name in params:
        assert_array_equal(params[name]["kernel"], (drawn if name == head else source)[name]["kernel"])
    with pytest.raises(configs.ConfigError, match=r"initialize_from: .*reinitialize=head\.$"):
        experiment.build(fields | {"initialize_from": str(source_of(pretrained, 0.0, width=5))}).init()


def test_a_source_that_cannot_be_used_is_said_in_one_line(pretrained, tmp_path):
    fields = TINY | {"initialize_from": str(pretrained), "pretraining_rho": 0.0}

    def refused(**changes):
        with pytest.raises(configs.ConfigError) as caught:
            runner.run(fields | changes, tmp_path / "runs", quiet=True)
        (fault,) = caught.value.faults
        return fault

    assert "expected the directory of a run, or a work directory" in refused(initialize_from=str(tmp_path))
    assert "give config.pretraining_rho" in refused(pretraining_rho=None)
    assert "0 runs have config.pretraining_rho=0.1" in refused(pretraining_rho=0.1)
    assert "has rho 0.2, not config.pretraining_rho=0.0" in refused(initialize_from=str(source_of(pretrained, 0.2)))
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_bytes((source_of(pretrained, 0.0) / "config.json").read_bytes())
    assert "expected a finished run" in refused(initialize_from=str(unfinished))


def test_forgetting_is_the_change_on_the_data_of_the_earlier_run(pretrained, tmp_path):
    """Both networks are scored on the whole test split of the earlier run; wrong labels make the later one worse."""
    fields = TINY | {"initialize_from": str(pretrained), "pretraining_rho": 0.0, "label_noise": 1.0}
    fields["train_examples"] = None
    runner.run(fields, tmp_path, quiet=True)
    (path,) = run_directories(tmp_path)
    source, tuned = (
        measuring.open_run(RunDirectory(at), num_examples=9999) for at in (source_of(pretrained, 0.0), path)
    )
    measured = forgetting(tuned.subject(None), key=jax.random.key(0))
    test = source.built.test
    scores = [source.built.evaluate(final_state(run.directory, run.built), test) for run in (source, tuned)]
    assert measured.values["loss"] == pytest.approx(scores[1].loss, rel=1e-5)
    assert measured.values["loss_rise"] == pytest.approx(scores[1].loss - scores[0].loss, rel=1e-4)
    assert measured.values["metric_change"] == pytest.approx(scores[1].metric - scores[0].metric)
    assert abs(measured.values["loss_rise"]) > 0.01
    assert measured.values["directional_sharpness"] == pytest.approx(sharpness_along(source, tuned), rel=1e-4)


def sharpness_along(source, tuned):
    """Compute the curvature of the mean test loss of an MLP along a move, with its dense Hessian in 64 bits."""
    before, after = (run.subject(None).params for run in (source, tuned))
    examples = source.subject(None).on_test_examples(9999).examples
    with jax.enable_x64(True):
        start, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), before))
        pixels = jnp.asarray(np.asarray(examples["inputs"], np.float64).reshape(len(examples["targets"]), -1))

        def loss(flat):
            layers = unravel(flat)
            hidden = jax.nn.relu(pixels @ layers["hidden_0"]["kernel"] + layers["hidden_0"]["bias"][None])
            outputs = hidden @ layers["output"]["kernel"] + layers["output"]["bias"][None]
            labels = np.asarray(examples["targets"])
            return -jnp.mean(jax.nn.log_softmax(outputs)[np.arange(len(labels)), labels])

        move = np.asarray(ravel_pytree(after)[0], np.float64) - np.asarray(start)
        return float(move @ np.asarray(jax.jit(jax.hessian(loss))(start)) @ move / (move @ move))


def test_averaged_robustness_is_that_of_the_saved_average(tmp_path):
    """The loss as measured is the one that training recorded for the averaged weights on the test split."""
    runner.run(TINY | {"rho": 0.0, "weight_average": "ema", "average_decay": 0.5}, tmp_path, quiet=True)
    (path,) = run_directories(tmp_path)
    run = measuring.open_run(RunDirectory(path), num_examples=9999)
    result = RunDirectory(path).read_result()
    averaged = run.subject(None).averaged().on_test_examples(9999)
    scores = scores_of(averaged, 1000, averaged.params)
    found = summary(averaged.built.workload.objective, scores)["loss"]
    assert found == pytest.approx(result["test_loss_average"], rel=1e-5)
    assert abs(found - result["test_loss"]) > 1e-4
    plain = tmp_path / "plain"
    runner.run(TINY | {"rho": 0.0}, plain, quiet=True)
    with pytest.raises(NotApplicableError, match="weight_average='none'"):
        measuring.open_run(RunDirectory(run_directories(plain)[0]), num_examples=9).subject(None).averaged()


def test_pretraining_rho_is_an_axis(pretrained):
    fields = TINY | {"initialize_from": str(pretrained), "rho": 0.0}
    axes = {"pretraining_rho": (0.0, 0.2), "seed": (0,)}
    assert len(plan.expand(fields | {"study": {"axes": axes}}).runs) == 2
