"""Every measurement on the runs of a small study against independent computations; and their errors."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from flatwide import catalogue, measure, runner
from flatwide.config import resolve
from flatwide.measurements import measuring
from flatwide.measurements.activations import activations
from flatwide.measurements.barrier import barrier
from flatwide.measurements.convergence import convergence, positive_losses
from flatwide.measurements.errors import NotApplicableError, WaitingError
from flatwide.measurements.function import function
from flatwide.measurements.landscape import landscape
from flatwide.measurements.minima_plane import minima_plane
from flatwide.measurements.sharpest_plane import sharpest_plane
from flatwide.measurements.smoothness import smoothness
from flatwide.measurements.stability import stability
from flatwide.measurements.trajectory import trajectory
from flatwide.runs import records
from flatwide.runs.directory import RunDirectory
from flatwide.runs.identity import locate
from flatwide.study import orders, worker

FIELDS = {
    "num_neurons": (2,),
    "pruner": "random",
    "sparsity": 0.5,
    "batch_size": 128,
    "num_epochs": 2,
    "eval_every_steps": 2,
    "momentum": 0.0,
    "measure_epochs": (0, 1),
    "measure_examples": 20,
}
LINE = {"dataset": "regression_1d", "model": "OneHiddenLayer", "loss": "squared", "batch_size": 6, "num_epochs": 1}


def run(workdir, **fields):
    runner.run(FIELDS | fields, workdir, quiet=True, tensorboard=False)
    return locate(resolve(FIELDS | fields), workdir)[0]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Train a run and its counterparts at rho 0, with the same and with another seed."""
    workdir = tmp_path_factory.mktemp("work")
    run(workdir)
    run(workdir, rho=0.0)
    run(workdir, rho=0.0, seed=1)
    return workdir


@pytest.mark.parametrize("name", catalogue.MEASUREMENTS)
def test_it_measures_a_trained_network(workdir, name):
    fields = LINE if name == "function" else {}
    if name == "averaged_robustness":
        fields = {"weight_average": "ema"}
    if name == "forgetting":
        fields = {"initialize_from": str(workdir), "pretraining_rho": 0.0, "pruner": "none", "sparsity": 0.0}
    directory = run(workdir, measurements=(name,), measure_epochs=(), **fields)
    (path,) = directory.path.glob(f"measurements/{name}-examples20.json")
    written = json.loads(path.read_text())
    assert written["values"]
    assert all(isinstance(value, float | int) and np.isfinite(value) for value in written["values"].values())
    assert [value for value in written["values"] if not catalogue.is_described(f"{name}.{value}")] == []
    assert all(set(figure.arrays) <= set(written["arrays"]) for figure in catalogue.entry(name).figures)
    assert set(written["errors"]) <= set(written["values"])
    assert all(np.isfinite(error) for error in written["errors"].values())
    if written["arrays"]:
        arrays = np.load(path.with_suffix(".npz"))
        assert {key: list(array.shape) for key, array in arrays.items()} == written["arrays"]
        assert all(np.all(np.isfinite(array)) for array in arrays.values())
    (record,) = (record for record in records.read(directory)[0] if record.name == name)
    assert (record.epoch, record.is_final) == (1.0 if name == "function" else 2.0, True)
    assert record.values == written["values"]


def subject_of(directory, epoch=None):
    return measuring.open_run(directory, num_examples=20).subject(epoch)


def test_activations_are_counted_by_hand(workdir):
    subject = subject_of(run(workdir))
    first, last = (network.params["hidden_0"] for network in (subject.initial, subject))
    inputs = np.asarray(subject.examples["inputs"], np.float64).reshape(20, -1)
    was, now = (inputs @ layer["kernel"] + np.asarray(layer["bias"])[None] > 0 for layer in (first, last))
    measured = activations(subject, key=jax.random.key(0), batch_size=7)
    assert measured.values["stability_hidden_0"] == measured.values["stability"] == pytest.approx(np.mean(was == now))
    assert measured.errors["stability"] == pytest.approx(np.std(np.mean(was == now, axis=1), ddof=1) / 20**0.5)


def test_a_network_without_known_relus_is_refused(small):
    subject = small(num_neurons=())
    with pytest.raises(ValueError, match="reports no ReLU"):
        activations(subject, key=jax.random.key(0))


def test_a_network_of_one_number_has_the_kinks_of_its_weights(small):
    subject = small(dataset="regression_1d", model="OneHiddenLayer", loss="squared", batch_size=6, num_neurons=(4,))
    hidden = {"kernel": np.float32([[1, 1, -2, 1]]), "bias": np.float32([0, -0.5, 1, -9])}
    output = {"kernel": np.float32([[1], [-3], [0.5], [1]])}
    measured = function(replace(subject, params={"hidden_0": hidden, "output": output}), key=jax.random.key(0))
    assert sorted(measured.arrays["targets"] - 0.345) == pytest.approx(
        sorted((-2, 1.5, 0, 0, 2, 1, 0, -1, 0, 1, 2, -1)), abs=1e-6
    )
    # Slopes of -1, 0, 1 and -2 with kinks at 0 and twice at 0.5, where 1 and -3 change it by -3 + 1; none at 9.
    assert measured.values["num_kinks"] == 2
    assert measured.values["slope_total_variation"] == pytest.approx(1 + 2, abs=1e-4)
    grid, outputs = measured.arrays["grid"], measured.arrays["outputs"]
    truth = np.maximum(grid, 0) - 3 * np.maximum(grid - 0.5, 0) + 0.5 * np.maximum(1 - 2 * grid, 0)
    np.testing.assert_allclose(outputs, truth, atol=1e-5)
    assert measured.values["total_variation"] == pytest.approx(np.abs(np.diff(truth)).sum(), rel=1e-4)
    points = np.asarray(subject.examples["inputs"])
    assert grid[0] == pytest.approx(points.min() - 0.1 * np.ptp(points))
    begun = {name: subject.initial.params[name] for name in ("hidden_0", "output")}
    square = sum(
        np.sum(np.square(np.float64(now) - np.float64(was)))
        for now, was in zip(
            jax.tree.leaves({"hidden_0": hidden, "output": output}), jax.tree.leaves(begun), strict=True
        )
    )
    assert measured.values["distance"] == pytest.approx(square**0.5, rel=1e-5)


def test_a_function_of_many_numbers_is_refused(small):
    with pytest.raises(ValueError, match=r"config\.dataset='digits': expected inputs and outputs of one number"):
        function(small(), key=jax.random.key(0))


def loss_at(subject, params):
    return float(subject.loss_fn(params, subject.examples, subject.stats))


def test_the_barrier_is_that_between_the_ends_of_both_runs(workdir):
    sam, base = subject_of(run(workdir)), subject_of(run(workdir, rho=0.0))
    measured = barrier(sam, key=jax.random.key(0), num_points=5, batch_size=8)

    def between(part):
        return jax.tree.map(lambda a, b: (1 - part) * a + part * b, base.params, sam.params)

    truth = [loss_at(base, between(part)) for part in measured.arrays["line_positions"]]
    np.testing.assert_allclose(measured.arrays["line_losses"], truth, rtol=1e-5)
    parts = measured.arrays["line_positions"]
    excess = np.array(truth) - (1 - parts) * truth[0] - parts * truth[-1]
    assert measured.values["barrier"] == pytest.approx(excess.max(), abs=1e-6)
    assert measured.values["distance"] > 0
    assert barrier(base, key=jax.random.key(0)).values == {"barrier": 0.0, "position": 0.0, "distance": 0.0}


def test_the_counterpart_of_a_snapshot_is_that_of_its_epoch(workdir):
    early = subject_of(run(workdir), 0)
    assert barrier(early, key=jax.random.key(0)).values["distance"] == 0  # both start alike
    assert subject_of(run(workdir), 1).base().epoch == 1


def test_a_run_waits_for_its_counterpart_and_is_measured_by_the_same_command(tmp_path):
    fields = {"measurements": ("barrier", "gradient"), "num_epochs": 1, "measure_epochs": ()}
    with pytest.raises(
        WaitingError, match=r"compared with its counterpart at rho 0, which is new: .*rho0-seed0"
    ) as caught:
        run(tmp_path, **fields)
    directory = locate(resolve(FIELDS | fields), tmp_path)[0]
    assert [wanted.name for wanted in records.missing(directory, resolve(FIELDS | fields))] == ["barrier"]
    assert not directory.error_file.exists()
    assert run(tmp_path, **fields | {"rho": 0.0, "measurements": ()}).name == caught.value.waits_for
    run(tmp_path, **fields)
    assert not records.missing(directory, resolve(FIELDS | fields))


def test_a_study_takes_measurements_that_had_to_wait(tmp_path):
    fields = FIELDS | {"measurements": ("barrier",), "num_epochs": 1, "measure_epochs": ()}
    tasks = [resolve(fields | {"rho": rho}) for rho in (0.05, 0.0)]
    named = [[orders.Task(locate(config, tmp_path)[0].name, dict(config))] for config in tasks]
    given = orders.write(tmp_path, named, session="s", tensorboard=False)
    worker.follow(given.path, "0-0", index=0, should_stop=lambda: False)
    assert [given.state(task) for group in given.groups for task in group] == ["done", "done"]
    alone = orders.write(tmp_path / "w", named[:1], session="s", tensorboard=False)
    worker.follow(alone.path, "0-0", index=0, should_stop=lambda: False)
    assert alone.state(alone.groups[0][0]) == "failed"  # the run that it waits for is never trained
    assert "Train that run" in RunDirectory(tmp_path / "w" / "runs" / named[0][0].name).read_error()


def test_the_plane_is_that_of_true_losses_around_the_network(workdir):
    subject = subject_of(run(workdir))
    measured = landscape(subject, key=jax.random.key(1), num_line_steps=2, num_plane_steps=1, batch_size=8)
    first, second = measure.random_directions(subject.params, key=jax.random.key(1), mask=subject.mask)
    arrays = measured.arrays

    def at(x, y):
        return jax.tree.map(lambda w, a, b: w + x * a + y * b, subject.params, first, second)

    for row, y in enumerate(arrays["plane_y"]):
        for column, x in enumerate(arrays["plane_x"]):
            assert arrays["plane_losses"][row, column] == pytest.approx(loss_at(subject, at(x, y)), rel=1e-4)
    for x, loss in zip(arrays["direction_positions"], arrays["direction_losses"], strict=True):
        assert loss == pytest.approx(loss_at(subject, at(x, 0)), rel=1e-4)
    outputs = np.asarray(subject.outputs(subject.params, subject.examples, subject.stats))
    assert arrays["plane_metrics"][1, 1] == np.float32(np.mean(outputs.argmax(1) == subject.examples["targets"]))
    rises = arrays["plane_losses"].astype(float) - loss_at(subject, subject.params)
    assert measured.values["largest_rise"] == pytest.approx(rises.max(), rel=1e-4)
    assert measured.values["mean_rise"] == pytest.approx(rises.mean(), rel=1e-4)


def test_the_plane_through_three_minima_has_their_losses_and_true_distances(workdir):
    sam = subject_of(run(workdir))
    three = (subject_of(run(workdir, rho=0.0)), subject_of(run(workdir, rho=0.0, seed=1)), sam)
    rows = np.stack([np.asarray(ravel_pytree(network.params)[0], np.float64) for network in three])
    start = np.asarray(ravel_pytree(sam.initial.params)[0], np.float64)
    measured = minima_plane(sam, key=jax.random.key(0), num_points=3, batch_size=8)
    first = (rows[2] - rows[0]) / np.linalg.norm(rows[2] - rows[0])
    second = (rows[1] - rows[0]) - (rows[1] - rows[0]) @ first * first
    axes = np.stack([first, second / np.linalg.norm(second)])
    points = (np.stack([*rows, start]) - rows[0]) @ axes.T
    np.testing.assert_allclose(measured.arrays["coordinates"], points, atol=1e-5)
    offset = np.linalg.norm(start - rows[0] - points[3] @ axes)
    np.testing.assert_allclose(measured.arrays["offsets"], [0, 0, 0, offset], atol=1e-5)
    distances = [np.linalg.norm(row - rows[0]) for row in (rows[2], rows[1], start)]
    names = ("distance", "base_distance", "start_distance")
    np.testing.assert_allclose([measured.values[name] for name in names], distances, rtol=1e-5)
    unravel = ravel_pytree(sam.params)[1]
    for row, y in enumerate(measured.arrays["plane_y"]):
        for column, x in enumerate(measured.arrays["plane_x"]):
            truth = loss_at(sam, unravel(np.float32(rows[0] + [x, y] @ axes)))
            assert measured.arrays["plane_losses"][row, column] == pytest.approx(truth, rel=1e-4)
    assert np.ptp(measured.arrays["plane_x"]) == pytest.approx(np.ptp(measured.arrays["plane_y"]))
    assert measured.values["num_evaluations"] == 3 * 3 + 2 * 21
    line = measure.barrier(sam.loss_fn, three[0].params, three[1].params, sam.examples, extras=({}, {}))
    assert measured.values["base_barrier"] == pytest.approx(line.value, rel=1e-4)


def test_a_plane_of_minima_is_of_a_run_with_sam_and_not_of_the_start(workdir):
    with pytest.raises(NotApplicableError, match=r"config\.rho=0: the plane is defined by"):
        minima_plane(subject_of(run(workdir, rho=0.0)), key=jax.random.key(0))
    with pytest.raises(NotApplicableError, match="that do not lie on one line"):
        minima_plane(subject_of(run(workdir), 0), key=jax.random.key(0))
    other = subject_of(run(workdir, seed=1))  # whose other seed is 0
    assert minima_plane(other, key=jax.random.key(0), num_points=3).values["base_distance"] > 0
    alone = subject_of(run(workdir, rho=0.0))
    with pytest.raises(WaitingError, match="counterpart at rho 0 and seed 7, which is new"):
        alone.base(seed=7)


def test_the_sharpest_plane_has_the_rise_of_its_eigenvalues(masked):
    subject = masked.subject
    measured = sharpest_plane(subject, key=jax.random.key(0), num_points=3, reach=1e-2)
    values, vectors = np.linalg.eigh(masked.mean)
    np.testing.assert_allclose(measured.arrays["eigenvalues"], values[:-3:-1], rtol=1e-4)
    flat = np.asarray(ravel_pytree(subject.params)[0], np.float64)
    axes = np.zeros((2, flat.size))
    axes[:, masked.kept] = vectors[:, :-3:-1].T
    ways = []
    for signs in ([1, 1], [1, -1], [-1, 1], [-1, -1]):  # an eigenvector has no sign
        moves = [[flat + signs @ (axes * [[x], [y]]) for x in (-0.01, 0, 0.01)] for y in (-0.01, 0, 0.01)]
        ways.append(np.array([[masked.loss(point).mean() for point in row] for row in moves]))
    assert min(np.abs(measured.arrays["plane_losses"] - way).max() for way in ways) < 1e-6
    rises = measured.arrays["plane_losses"].astype(float) - measured.arrays["plane_losses"][1, 1]
    assert measured.values["largest_rise"] == pytest.approx(rises.max())
    with pytest.raises(ValueError, match="num_points=4: expected an odd number"):
        sharpest_plane(subject, key=jax.random.key(0), num_points=4)


def test_the_path_is_that_of_the_networks_that_were_kept(workdir):
    directory = run(workdir)
    subject = subject_of(directory)
    networks = [subject_of(directory, epoch) for epoch in (0, 1)] + [subject]
    rows = np.stack([np.asarray(ravel_pytree(network.params)[0], np.float64) for network in networks])
    measured = trajectory(subject, key=jax.random.key(0), num_points=3, batch_size=8)
    _, sizes, right = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    coordinates = (rows - rows.mean(axis=0)) @ right[:2].T
    np.testing.assert_allclose(np.abs(measured.arrays["coordinates"]), np.abs(coordinates), atol=1e-5)
    np.testing.assert_allclose(measured.arrays["explained_variance"], (sizes**2 / np.sum(sizes**2))[:2], rtol=1e-5)
    assert measured.arrays["epochs"].tolist() == [0.0, 1.0, 2.0]
    assert measured.values["length"] == pytest.approx(np.linalg.norm(np.diff(rows, axis=0), axis=1).sum(), rel=1e-6)
    # Three networks lie on their plane: the loss at a point of it is that of the weights there.
    signs = np.sign(np.sum(measured.arrays["coordinates"] * coordinates, axis=0))
    x, y = measured.arrays["surface_x"][2], measured.arrays["surface_y"][0]
    point = rows.mean(axis=0) + (signs * [x, y]) @ right[:2]
    params = ravel_pytree(subject.params)[1](np.float32(point))
    assert measured.arrays["surface_losses"][0, 2] == pytest.approx(loss_at(subject, params), rel=1e-4)
    assert trajectory(networks[1], key=jax.random.key(0)).values == {"num_networks": 2}


def test_a_run_that_kept_no_networks_has_no_path(tmp_path):
    subject = subject_of(run(tmp_path, measure_epochs=(), num_epochs=1))
    with pytest.raises(ValueError, match="a path needs at least two networks before the end"):
        trajectory(subject, key=jax.random.key(0))


def test_the_constants_are_those_along_the_next_step_of_training(workdir):
    subject = subject_of(run(workdir), 1)
    built = subject.built
    state = built.init()._replace(step=np.int32(built.steps_per_epoch), params=jax.tree.map(np.copy, subject.params))
    after = built.train_step(state, built.batch(built.steps_per_epoch))[0].params
    slope = jax.grad(subject.loss_fn)
    norms, alphas = [], []
    flat = {name: np.asarray(ravel_pytree(tree)[0], np.float64) for name, tree in (("a", subject.params), ("b", after))}
    unravel, first = ravel_pytree(subject.params)[1], None
    kept = flat["a"] != 0  # nothing else moves
    for part in range(11):
        point = unravel(np.float32(flat["a"] + part / 10 * (flat["b"] - flat["a"])))
        here = np.asarray(ravel_pytree(slope(point, subject.examples, subject.stats))[0], np.float64) * kept
        first = here if first is None else first
        if part:
            norms.append(np.linalg.norm(here - first) / (part / 10 * np.linalg.norm(flat["b"] - flat["a"])))
            alphas.append(here @ here / loss_at(subject, point))
    measured = smoothness(subject, key=jax.random.key(0), batch_size=8).values
    assert measured["smoothness"] == pytest.approx(max(norms), rel=1e-2)
    assert measured["pl_constant"] == pytest.approx(min(alphas), rel=1e-3)
    assert measured["distance"] == pytest.approx(np.linalg.norm(flat["b"] - flat["a"]), rel=1e-4)


def test_the_rate_is_fitted_to_the_running_loss_until_the_epoch(workdir):
    directory = run(workdir)
    rows = directory.read_metrics()
    assert len(subject_of(directory, 1).history) == len(rows) / 2
    measured = convergence(subject_of(directory), key=jax.random.key(0)).values
    fit = measure.linear_rate([row["running_train_loss"] for row in rows], [row["step"] for row in rows])
    assert (measured["rate"], measured["rate_low"], measured["rate_high"]) == (fit.rate, fit.low, fit.high)
    assert measured["rate_per_epoch"] == pytest.approx(12 * fit.rate)
    early = convergence(subject_of(directory, 1), key=jax.random.key(0)).values
    assert early["num_evaluations"] == 6
    assert "rate" not in early
    assert measured["smoothness"] >= measured["loss_smoothness"]


def test_a_step_that_changes_nothing_has_no_constants(tmp_path):
    subject = subject_of(run(tmp_path, learning_rate=0.0, num_epochs=1))
    assert smoothness(subject, key=jax.random.key(0)).values == {"distance": 0.0}
    measured = convergence(subject, key=jax.random.key(0)).values
    assert {"pl_constant", "bound_rate", "largest_rho"}.isdisjoint(measured)
    assert measured["smoothness"] > 0


def test_losses_end_before_the_first_zero():
    rows = [{"step": step, "running_train_loss": loss} for step, loss in ((1, 2.0), (2, 1.0), (3, 0.0), (4, 1.0))]
    steps_taken, losses = positive_losses([{"step": 0, "running_train_loss": None}, *rows])
    assert (steps_taken.tolist(), losses.tolist()) == ([1.0, 2.0], [2.0, 1.0])


@pytest.mark.parametrize("variant", ["normalized", "unnormalized"])
def test_stability_is_that_of_the_dense_hessians_at_the_runs_rate(masked, small, variant):
    subject = small(pruner="random", sparsity=0.5, sam_variant=variant, rho=0.1, momentum=0.0, batch_size=1)
    rho = np.mean(0.1 / np.linalg.norm(masked.gradients, axis=1)) if variant == "normalized" else 0.1
    measured = stability(subject, key=jax.random.key(0))
    assert all(catalogue.is_described(f"stability.{value}") for value in measured.values)
    assert measured.values["rho"] == pytest.approx(rho, rel=1e-5)
    rate = subject.built.config["learning_rate"]
    truth = measure.stability_of_matrices(masked.hessians, learning_rate=rate, rho=rho, batch_size=1)
    assert measured.values["is_exact"] == 1
    assert measured.values["growth_factor"] == pytest.approx(truth.curved_growth, rel=1e-4)
    assert measured.values["condition_value"] == pytest.approx(truth.condition.value, rel=1e-4)
    assert measured.values["is_stable"] == (truth.verdict == "stable")
    edge_rho = 0.1 / np.linalg.norm(masked.gradient) if variant == "normalized" else 0.1
    edge = measured.values["edge_of_stability"]
    assert rate * (edge + edge_rho * edge**2) == pytest.approx(2, rel=1e-4)
    if variant == "unnormalized":
        simulated = stability(subject, key=jax.random.key(0), max_exact=0, num_steps=40).values
        assert simulated["is_exact"] == 0
        assert all(catalogue.is_described(f"stability.{value}") for value in simulated)
        assert simulated["growth_factor"] == pytest.approx(truth.curved_growth, rel=0.1)


def test_a_measurement_that_does_not_apply_is_recorded_and_no_failure(workdir):
    directory = run(workdir, measurements=("function",), measure_epochs=())
    (path,) = directory.path.glob("measurements/function-examples20.json")
    written = json.loads(path.read_text())
    assert (written["values"], written["arrays"]) == ({}, {})
    assert written["not_applicable"].startswith("config.dataset='digits': expected inputs and outputs of one number")
    asked = FIELDS | {"measurements": ("function",), "measure_epochs": ()}
    assert not records.missing(directory, resolve(asked))


def test_the_rate_is_fitted_whatever_the_optimizer(tmp_path):
    directory = run(tmp_path, base_optimizer="adam", learning_rate=0.001, measure_epochs=())
    measured = convergence(subject_of(directory), key=jax.random.key(0)).values
    assert {"rate", "smoothness"} <= set(measured)
    assert {"effective_rho", "bound_rate"}.isdisjoint(measured)


def test_stability_does_not_apply_to_adaptive_sam(small):
    with pytest.raises(ValueError, match=r"config\.sam_variant='adaptive': expected 'normalized' or 'unnormalized'"):
        stability(small(sam_variant="adaptive"), key=jax.random.key(0))


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_stability_does_not_apply_to_adam(small, rho):
    with pytest.raises(ValueError, match=r"config\.base_optimizer='adam': expected 'sgd'"):
        stability(small(base_optimizer="adam", rho=rho), key=jax.random.key(0))


@pytest.mark.parametrize(
    "name", ["gradient", *(pytest.param(name, marks=pytest.mark.slow) for name in ("landscape", "spectrum"))]
)
def test_it_measures_a_pruned_network_with_batch_norm(small, name):
    fields = {"model": "ResNet18", "num_filters": 1, "num_blocks": (1, 1), "pruner": "random", "sparsity": 0.5}
    subject = small(**fields)
    measured = catalogue.find("measurement", name)(subject, key=jax.random.key(0))
    assert measured.values
    assert all(catalogue.is_described(f"{name}.{value}") for value in measured.values)
    assert all(isinstance(value, float | int) and np.isfinite(value) for value in measured.values.values())
    assert all(np.all(np.isfinite(array)) for array in measured.arrays.values())


@pytest.mark.slow
def test_a_network_that_does_not_expose_its_relus_is_refused(small):
    with pytest.raises(ValueError, match="reports no ReLU"):
        activations(small(model="ResNet18", num_filters=1, num_blocks=(1,)), key=jax.random.key(0))
