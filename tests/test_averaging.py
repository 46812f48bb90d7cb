"""Averages of weights: the rates against sums in float64, and runs that keep them against runs that do not."""

import jax
import numpy as np
import pytest

from flatwide import averaging, experiment, runner
from flatwide import config as configs
from flatwide.runs import checkpoints, driver, identity
from flatwide.runs import experiment as runs_experiment
from flatwide.runs.directory import run_directories
from flatwide.runs.table import collect

FIELDS = {"num_neurons": (8,), "batch_size": 300, "num_epochs": 4, "learning_rate": 0.3, "rho": 0.1}
EMA = {"weight_average": "ema", "average_decay": 0.9}
SWA = {"weight_average": "swa", "average_start": 0.5}
NORMALIZED = {"model": "ResNet18", "num_filters": 2, "num_blocks": (1,), "batch_size": 718}


def averaged_by_definition(networks, fields, steps_per_epoch):
    """Average the networks after steps 1, 2, ... as the definitions of ema and swa say, in float64."""
    last = len(networks)
    if fields["weight_average"] == "ema":
        first = max(1, round(fields.get("average_start", 0.0) * last))
        weights = {step: fields["average_decay"] ** (last - step) for step in range(first, last + 1)}
    else:
        ends = range(steps_per_epoch, last + 1, steps_per_epoch)
        weights = {end: 1.0 for end in ends if end >= fields["average_start"] * last}
    total = sum(weights.values())
    return jax.tree.map(
        lambda *leaves: (
            sum(weight * np.asarray(leaves[step - 1], np.float64) for step, weight in weights.items()) / total
        ),
        *networks,
    )


@pytest.mark.parametrize("fields", [EMA, EMA | {"average_start": 0.5}, SWA, SWA | {"average_start": 0.0}])
def test_average_is_the_sum_of_its_definition(fields):
    built = experiment.build(FIELDS | fields)
    state, networks = built.init(), []
    for step in range(built.num_steps):
        state, _ = built.train_step(state, built.batch(step))
        networks.append(jax.device_get({"params": state.params, "stats": state.stats}))
    expected = averaged_by_definition(networks, fields, built.steps_per_epoch)
    assert len(networks) == 20
    for averaged, wanted in zip(jax.tree.leaves(state.average), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(averaged, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_batch_norm_averages_are_averaged_with_the_weights():
    built = experiment.build(FIELDS | NORMALIZED | EMA)
    state, networks = built.init(), []
    for step in range(4):
        state, _ = built.train_step(state, built.batch(step))
        networks.append(jax.device_get({"params": state.params, "stats": state.stats}))
    expected = averaged_by_definition(networks, EMA, built.steps_per_epoch)
    assert jax.tree.leaves(expected["stats"])
    for averaged, wanted in zip(
        jax.tree.leaves(state.average["stats"]), jax.tree.leaves(expected["stats"]), strict=True
    ):
        np.testing.assert_allclose(averaged, wanted, rtol=1e-5, atol=1e-6)


def test_average_is_the_weights_until_it_starts():
    built = experiment.build(FIELDS | SWA)
    state = built.init()
    for step in range(7):
        state, _ = built.train_step(state, built.batch(step))
    for averaged, wanted in zip(jax.tree.leaves(state.average["params"]), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(averaged, wanted)


def rows_of(workdir):
    (directory,) = run_directories(workdir)
    return directory.read_metrics()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Train once with an average, in programs of whole epochs."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, runner.run(FIELDS | EMA, workdir, quiet=True)


@pytest.mark.optimized
def test_average_leaves_the_last_weights_alone(whole, tmp_path):
    runner.run(FIELDS, tmp_path, quiet=True)
    plain_rows, averaged_rows = rows_of(tmp_path), rows_of(whole[0])
    assert [{name: row[name] for name in plain_rows[0]} for row in averaged_rows] == plain_rows
    added = {f"{split}_{name}_average" for split in ("validation", "test") for name in ("loss", "metric")}
    assert averaged_rows[0].keys() - plain_rows[0].keys() == added


def test_result_scores_the_average_of_the_final_checkpoint(whole):
    workdir, result = whole
    (directory,) = run_directories(workdir)
    built = experiment.build(FIELDS | EMA)
    state, _ = checkpoints.load(directory.checkpoints / checkpoints.FINAL, built.state_shapes())
    by_hand = built.evaluate(state._replace(params=state.average["params"], stats=state.average["stats"]), built.test)
    assert (result["test_loss_average"], result["test_metric_average"]) == tuple(by_hand)
    assert result["test_loss_average"] != result["test_loss"]
    assert collect(workdir)["test_metric_average"].item() == by_hand.metric
    assert rows_of(workdir)[-1]["test_loss_average"] == by_hand.loss


@pytest.mark.optimized
@pytest.mark.slow
def test_average_is_the_same_in_segments_and_after_a_stop(whole, tmp_path, monkeypatch):
    asked = iter([False, True])
    with pytest.raises(driver.Stopped):
        runner.run(
            FIELDS | EMA | {"checkpoint_every_seconds": 0.0},
            tmp_path,
            should_stop=lambda: next(asked, True),
            quiet=True,
        )
    monkeypatch.setattr(runs_experiment, "_SMALL_EPOCH", 0)  # the rest one segment after another
    runner.run(FIELDS | EMA, tmp_path, quiet=True)
    assert 0 < len(rows_of(tmp_path)) == 4
    assert rows_of(tmp_path) == rows_of(whole[0])


def test_runs_that_advance_together_keep_their_averages(tmp_path):
    group = [FIELDS | SWA | {"group_size": 2, "seed": seed} for seed in (0, 1)]
    runner.run_together(group, tmp_path)
    runs = collect(tmp_path).sort_values("seed")
    for fields, value in zip(group, runs["test_loss_average"], strict=True):
        alone = tmp_path / str(fields["seed"])
        expected = runner.run(fields | {"group_size": 1}, alone, quiet=True)["test_loss_average"]
        assert value == pytest.approx(expected, rel=1e-4)  # float32 sums in another order


def identity_of(**fields):
    return identity.identity(configs.resolve(FIELDS | fields), "data")


def test_identity_has_what_an_average_reads():
    plain = identity_of()
    assert identity_of(average_decay=0.5, average_start=0.5) == plain
    assert "weight_average" not in plain
    swa = identity_of(weight_average="swa")
    assert swa == identity_of(weight_average="swa", average_start=0.75, average_decay=0.5)
    digests = {configs.digest(run_identity) for run_identity in (plain, swa, identity_of(**SWA), identity_of(**EMA))}
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_average": "polyak"}, "config.weight_average='polyak': expected none, ema or swa"),
        (EMA | {"average_decay": 1.0}, r"config.average_decay=1.0: expected a fraction in \(0, 1\)"),
        (SWA | {"average_start": 1.0}, r"config.average_start=1.0: expected a fraction in \[0, 1\)"),
    ],
)
def test_what_is_no_average_is_refused(fields, message):
    with pytest.raises(configs.ConfigError, match=message):
        configs.resolve(FIELDS | fields)


def test_an_average_of_one_set_of_weights_is_refused():
    with pytest.raises(configs.ConfigError, match=r"weight_average='swa': 1 of the 4 ends of epochs .* at least 2"):
        experiment.build(FIELDS | SWA | {"average_start": 0.9})
    with pytest.raises(configs.ConfigError, match="average_start lower"):
        experiment.build(FIELDS | SWA | {"num_epochs": 1})


def test_rate_of_ema_is_that_of_bias_corrected_moments():
    rate = averaging.build("ema", decay=0.999, start=None, num_steps=10**6, steps_per_epoch=10)
    assert rate is not None
    for step in (1, 2, 10, 1000, 100_000):
        expected = (1 - 0.999) / (1 - np.float64(0.999) ** step)
        assert float(rate(np.int32(step))) == pytest.approx(expected, rel=2e-6)
