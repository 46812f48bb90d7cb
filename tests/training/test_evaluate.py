"""Every example of a split is scored exactly once."""

import numpy as np
import pytest

from flatwide import experiment
from flatwide.data import Streamed
from flatwide.training.sources import evaluator

FIELDS = {"num_neurons": (8,), "batch_size": 64, "num_epochs": 1}


def scores_by_hand(built, state, split):
    """Loss and accuracy of the one-hidden-layer network, in NumPy."""
    inputs, labels = np.asarray(split.arrays["inputs"], float) / 16, split.targets
    params = {name: {k: np.asarray(v, float) for k, v in layer.items()} for name, layer in state.params.items()}
    hidden = np.maximum(inputs.reshape(len(inputs), -1) @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"], 0)
    logits = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return losses.mean(), (logits.argmax(axis=1) == labels).mean()


@pytest.mark.parametrize("batch_size", [1, 7, 100, 359, 360, 1000])
def test_a_batch_size_changes_nothing(batch_size):
    built = experiment.build(FIELDS)
    state = built.init()
    loss, accuracy = scores_by_hand(built, state, built.test)
    evaluation = evaluator(built.workload, built.test, batch_size=batch_size)(state)
    assert evaluation.metric == pytest.approx(accuracy, abs=1e-12)
    assert evaluation.loss == pytest.approx(loss, rel=1e-6)


def test_a_stream_is_scored_as_what_is_held():
    built = experiment.build(FIELDS)
    state, images = built.init(), built.test.arrays["inputs"]
    streamed = Streamed(lambda index, generator: images[index], built.test.targets)
    loss, accuracy = scores_by_hand(built, state, built.test)
    evaluation = evaluator(built.workload, streamed, batch_size=100)(state)  # so the last batch is completed
    assert evaluation.metric == pytest.approx(accuracy, abs=1e-12)
    assert evaluation.loss == pytest.approx(loss, rel=1e-6)


def test_some_batches_only():
    built = experiment.build(FIELDS)
    state = built.init()
    loss, accuracy = scores_by_hand(built, state, built.test.take(np.arange(128)))
    evaluation = built.evaluator(built.test, num_batches=2)(state)
    assert evaluation.metric == pytest.approx(accuracy, abs=1e-12)
    assert evaluation.loss == pytest.approx(loss, rel=1e-6)
