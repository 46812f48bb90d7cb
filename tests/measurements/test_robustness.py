"""Robustness and layers of a small network against losses and dense matrices that are computed by hand."""

import functools

import jax
import numpy as np
import pytest

from flatwide import measure, trees
from flatwide.measurements.layers import layers
from flatwide.measurements.robustness import robustness


@pytest.mark.slow
def test_changes_are_those_of_networks_with_changed_weights(masked):
    subject = masked.subject
    measured = robustness(subject, key=jax.random.key(0), noise=(0.1,), num_draws=300, batch_size=8)

    def loss_and_accuracy(params):
        outputs = np.asarray(subject.outputs(params, subject.examples, subject.stats), np.float64)
        labels = np.asarray(subject.examples["targets"])
        outputs -= outputs.max(axis=1, keepdims=True)
        losses = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(len(labels)), labels]
        return losses, np.asarray(outputs.argmax(axis=1) == labels, float)

    clean = loss_and_accuracy(subject.params)
    assert measured.values["loss"] == pytest.approx(clean[0].mean(), rel=1e-5)
    assert measured.values["metric"] == pytest.approx(clean[1].mean())
    for bits in (8, 4):
        for kind in ("tensor", "channel"):
            rounded = measure.rounded_weights(subject.params, bits=bits, per_channel=kind == "channel")
            rises = [after - before for after, before in zip(loss_and_accuracy(rounded), clean, strict=True)]
            name = f"rounded_{bits}_{kind}_"
            assert measured.values[name + "loss_rise"] == pytest.approx(rises[0].mean(), rel=1e-3, abs=1e-7)
            assert measured.values[name + "metric_change"] == pytest.approx(rises[1].mean())
            # With 200 resamples the bootstrap estimates the standard error of a mean to about a tenth.
            assert measured.errors[name + "loss_rise"] == pytest.approx(np.std(rises[0]) / 20**0.5, rel=0.25, abs=1e-8)
    noise = functools.partial(measure.noisy_weights, subject.params, size=0.1, mask=subject.mask)
    rises = [loss_and_accuracy(noise(key=key))[0].mean() - clean[0].mean() for key in range(300)]
    error = np.hypot(np.std(rises) / 300**0.5, measured.errors["noise_10_loss_rise"])
    assert abs(measured.values["noise_10_loss_rise"] - np.mean(rises)) < 4 * error
    assert measured.errors["noise_10_loss_rise"] == pytest.approx(np.std(rises) / 300**0.5, rel=0.3)


def test_test_examples_are_those_that_the_run_is_scored_on(small):
    subject = small()
    built = subject.built
    scored = built.evaluate(built.init(), built.test)
    found = subject.on_test_examples(1000)
    assert found.num_examples == built.test.num_examples < 1000
    outputs = np.asarray(found.outputs(found.params, found.examples, found.stats))
    accuracy = np.mean(outputs.argmax(axis=1) == np.asarray(found.examples["targets"]))
    assert accuracy == pytest.approx(scored.metric)


def test_layers_are_blocks_of_the_dense_hessian(masked):
    subject = masked.subject
    values = layers(subject, key=jax.random.key(0)).values
    names = [
        trees.path_name(path).rpartition("/")[0]
        for path, leaf in jax.tree_util.tree_leaves_with_path(subject.params)
        for _ in range(leaf.size)
    ]
    names, dense = np.array(names)[masked.kept], masked.mean
    slope = masked.gradient[masked.kept]
    for name in set(names):
        block = dense[np.ix_(names == name, names == name)]
        assert values[f"top_eigenvalue_{name}"] == pytest.approx(np.linalg.eigvalsh(block)[-1], rel=1e-4)
        share = np.sum(slope[names == name] ** 2) / np.sum(slope**2)
        assert values[f"ascent_share_{name}"] == pytest.approx(share, rel=1e-4)
        assert 0 < values[f"sharpness_{name}"] < values["sharpness_" + name] + 1
    assert sum(values[f"ascent_share_{name}"] for name in set(names)) == pytest.approx(1, rel=1e-5)
