"""The top eigenvalue and the edge of stability, against dense Hessians and the derivatives of real steps."""

import hashlib
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flatwide
from flatwide import catalogue, measure, runner
from flatwide.config import resolve
from flatwide.measurements import measuring
from flatwide.measurements.edge import edge
from flatwide.measurements.errors import NotApplicableError
from flatwide.runs import preview, records
from flatwide.runs.identity import locate
from flatwide.study import describe, inventory, plan

FIELDS = {"num_neurons": (2,), "batch_size": 1000, "num_epochs": 4, "measure_epochs": (0,), "measure_every_steps": 3}
FIELDS |= {"measurements": ("edge",), "measure_examples": 100, "learning_rate": 0.1, "lr_scheduler": "constant"}
ADAM = {"base_optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.1}
SNAPSHOTS = ("epoch0", "step3", "epoch3")  # of 8 steps, 2 per epoch


def directory_of(workdir, **fields):
    return locate(resolve(FIELDS | fields), workdir)[0]


def run(workdir, **fields):
    runner.run(FIELDS | fields, workdir, quiet=True, tensorboard=False)
    return directory_of(workdir, **fields)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Train networks with SAM around SGD and around Adam, and measure each at four steps."""
    workdir = tmp_path_factory.mktemp("work")
    for fields in ({}, ADAM):
        run(workdir, **fields)
    return workdir


def read(directory, where):
    stem = "edge" + (f"-{where}" if where else "") + "-examples100"
    return json.loads((directory.path / "measurements" / f"{stem}.json").read_text())


def dense_hessian(subject):
    flat, unflatten = ravel_pytree(subject.params)
    loss = jax.jit(jax.hessian(lambda at: subject.loss_fn(unflatten(at), subject.examples, subject.stats)))
    return np.asarray(loss(flat), np.float64)


def test_the_edge_of_sam_is_that_of_its_rule(measured):
    directory = directory_of(measured)
    subject = measuring.open_run(directory, num_examples=100).subject(1.5)
    written = read(directory, "step3")
    values, top = written["values"], np.linalg.eigvalsh(dense_hessian(subject))[-1]
    assert values["top_eigenvalue"] == pytest.approx(top, rel=0.01)
    limit = values["edge_of_stability"]
    bend = 0.05 / values["gradient_norm"]
    assert 0.1 * (limit + bend * limit**2) == pytest.approx(2 * 1.9, rel=1e-5)  # momentum 0.9
    assert values["edge_ratio"] == pytest.approx(values["top_eigenvalue"] / limit)
    assert 0 < read(directory, "")["values"]["top_hidden_gap"] <= 0.01 * read(directory, "")["values"]["top_eigenvalue"]
    slope = ravel_pytree(jax.grad(subject.loss_fn)(subject.params, subject.examples, subject.stats))[0]
    assert values["gradient_norm"] == pytest.approx(np.linalg.norm(slope), rel=1e-5)
    assert all(catalogue.is_described(f"edge.{name}") for name in values)


def test_the_estimate_of_disk_space_counts_the_eigenvectors(measured, tmp_path):
    stored = 0
    for path in directory_of(measured).path.glob("measurements/edge*.npz"):
        with np.load(path) as arrays:
            stored += sum(array.nbytes for array in arrays.values())
    assert describe.array_bytes(preview.assemble(resolve(FIELDS))) == stored > 0
    assert describe.array_bytes(preview.assemble(resolve(FIELDS | {"measurements": ("gradient",)}))) == 0

    def estimated(*measurements):
        fields = FIELDS | {"num_neurons": (10_000,), "measurements": measurements, "study": {"axes": {"seed": (0,)}}}
        (line,) = describe.disk(inventory.take(plan.expand(fields), tmp_path))
        return float(line.split()[1])

    array = (64 * 10_000 + 10_000 + 10 * 10_000 + 10) * 4 / 2**20
    assert estimated("edge") - estimated("gradient") == pytest.approx(4 * array, abs=0.2)  # of 3 digits


def test_under_adam_the_matrix_is_that_of_its_steps(measured):
    directory = directory_of(measured, **ADAM)
    assert read(directory, "epoch0")["not_applicable"].startswith("config.base_optimizer='adam': expected a network")
    saved = measuring.open_run(directory, num_examples=100)
    values, subject, moments = read(directory, "step3")["values"], saved.subject(1.5), saved.second_moments(1.5)
    assert moments is not None
    average = np.asarray(ravel_pytree(moments["average"])[0], np.float64)
    scale = (1 - 0.9**3) * (np.sqrt(average / (1 - 0.999**3)) + 1e-8)
    hessian, bend = dense_hessian(subject), 0.05 / values["gradient_norm"]
    seen = hessian + bend * hessian @ hessian + 0.1 * np.eye(len(hessian))
    top = np.linalg.eigvalsh(seen / np.sqrt(np.outer(scale, scale)))[-1]
    assert values["preconditioned_eigenvalue"] == pytest.approx(top, rel=0.01)
    assert values["preconditioned_edge"] == pytest.approx(3800)
    assert values["edge_ratio"] == pytest.approx(top / 3800, rel=0.01)
    assert all(catalogue.is_described(f"edge.{name}") for name in values)


def test_a_search_starts_from_the_previous_snapshot_and_records_it(measured):
    directory = directory_of(measured)
    written = [read(directory, where) for where in (*SNAPSHOTS, "")]
    assert [content["values"]["is_warm"] for content in written] == [0, 1, 1, 0]
    assert ["top_hidden_gap" in content["values"] for content in written] == [True, False, False, True]
    costs = [content["cost"] for content in written]
    assert max(costs[1:3]) < min(costs[0], costs[-1])
    path = directory.path / "measurements" / "edge-step3-examples100.json"
    path.unlink()
    run(measured)
    assert json.loads(path.read_text())["values"] == written[1]["values"]  # from the same start, the same numbers
    # A start that has become the second eigenvector.
    values, vectors = np.linalg.eigh(dense_hessian(measuring.open_run(directory, num_examples=100).subject(1.5)))
    before, start = path.with_name("edge-epoch0-examples100.npz"), io.BytesIO()
    np.savez(start, eigenvector=vectors[:, -2].astype(np.float32))
    before.write_bytes(start.getvalue())
    content = json.loads(before.with_suffix(".json").read_text())
    content["arrays_sha256"] = hashlib.sha256(start.getvalue()).hexdigest()
    del content["checksum"]
    directory.write_own(before.with_suffix(".json"), content)
    path.unlink()
    run(measured)
    assert json.loads(path.read_text())["values"]["top_eigenvalue"] == pytest.approx(values[-1], rel=0.003)
    assert values[-2] < 0.97 * values[-1]
    whole = path.with_suffix(".npz").read_bytes()
    path.with_suffix(".npz").write_bytes(b"torn")
    assert records.read_arrays(directory, records.of_step("edge", 3, 2, num_examples=100)) is None
    subject = measuring.open_run(directory, num_examples=100).subject(3)
    assert subject.before("edge") is not None  # that of the start of training, which is not damaged
    assert subject.before("gradient") is None
    path.with_suffix(".npz").write_bytes(whole)


def test_the_table_has_the_time_of_measuring_relative_to_training(measured):
    directory = directory_of(measured)
    seconds = sum(read(directory, where)["seconds"] for where in (*SNAPSHOTS, ""))
    row = flatwide.load(measured).set_index("run").loc[directory.name]
    assert row["edge.training_share"] == pytest.approx(seconds / row["seconds"])
    assert row["edge.top_eigenvalue"] == read(directory, "")["values"]["top_eigenvalue"]


def test_what_has_no_known_edge_does_not_apply(small):
    with pytest.raises(NotApplicableError, match=r"config\.sam_variant='adaptive': expected 'normalized'"):
        edge(small(sam_variant="adaptive"), key=jax.random.key(0))
    with pytest.raises(NotApplicableError, match="expected a network with Adam's average"):
        edge(small(base_optimizer="adamw", rho=0.0), key=jax.random.key(0))
    values = edge(small(warmup_steps=5, rho=0.0), key=jax.random.key(0)).values
    assert values["edge_ratio"] == 0  # the first step of a warmup has no length
    assert "edge_of_stability" not in values
    with pytest.raises(ValueError, match="the preconditioner has shapes"):
        measure.preconditioned_operator(small().hessian(8), {"w": jnp.ones(3)})
