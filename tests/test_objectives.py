"""Cross-entropy and accuracy against NumPy, with and without padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import objectives

NUM_CLASSES = 5
OBJECTIVE = objectives.cross_entropy(NUM_CLASSES)


def make(shape, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(*shape, NUM_CLASSES)) * 3, random.integers(0, NUM_CLASSES, shape)


def losses_by_hand(logits, targets):
    logits = logits.astype(np.float64)
    picked = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return np.log(np.sum(np.exp(logits), axis=-1)) - picked


def everything(outputs, batch):
    """Compute all that an objective tells of a batch, and the gradient of its mean loss."""

    @jax.jit
    def on_device(outputs, batch):
        def mean_loss(outputs):
            losses, weights = OBJECTIVE.losses(outputs, batch), OBJECTIVE.weights(batch)
            return jnp.sum(losses) / jnp.sum(weights), losses

        (loss, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(outputs)
        return losses, OBJECTIVE.weights(batch), OBJECTIVE.predictions(outputs, batch), loss, gradient

    losses, weights, predictions, loss, gradient = on_device(jnp.asarray(outputs), batch)
    metric = OBJECTIVE.metric(np.asarray(predictions), np.asarray(weights))
    return losses, weights, predictions, metric, loss, gradient


def test_sentences_are_totals_over_their_tokens(float64):
    logits, targets = make((6, 7))
    losses, weights, predictions, metric, loss, _ = everything(logits, {"targets": jnp.asarray(targets)})
    assert_allclose(losses, losses_by_hand(logits, targets).sum(axis=1), rtol=1e-12)
    assert_array_equal(weights, np.full(6, 7))
    assert_array_equal(predictions, np.sum(np.argmax(logits, axis=-1) == targets, axis=1))
    assert_allclose(metric, np.mean(np.argmax(logits, axis=-1) == targets), rtol=1e-12)
    assert_allclose(loss, losses_by_hand(logits, targets).mean(), rtol=1e-12)


@pytest.mark.parametrize("garbage", [0.0, 1e30, np.nan, np.inf])
def test_padding_changes_no_number(float64, garbage):
    """Sentences of 3, 1, 0 and 5 tokens, whatever stands behind their ends and in a row of padding."""
    lengths = np.array([3, 1, 0, 5])
    logits, targets = make((4, 5))
    real = np.arange(5)[None, :] < lengths[:, None]
    padded = np.where(real[..., None], logits, garbage)
    batch = {"targets": jnp.asarray(np.where(real, targets, 99)), "weights": jnp.asarray(real, float)}
    losses, weights, predictions, metric, loss, gradient = everything(padded, batch)

    by_hand = losses_by_hand(logits, targets)
    right = np.argmax(logits, axis=-1) == targets
    assert_allclose(losses, np.sum(np.where(real, by_hand, 0), axis=1), rtol=1e-12)
    assert_array_equal(weights, lengths)
    assert_array_equal(predictions, np.sum(right & real, axis=1))
    assert_allclose(metric, right[real].mean(), rtol=1e-12)
    assert_allclose(loss, by_hand[real].mean(), rtol=1e-12)
    assert np.all(np.asarray(gradient)[~real] == 0)
    assert np.all(np.asarray(gradient)[real] != 0)


def test_fractional_weights_weigh_loss_and_metric(float64):
    logits, targets = make((6,))
    weights = np.array([0.5, 2, 1, 0, 3, 0.25])
    *_, metric, loss, _ = everything(logits, {"targets": jnp.asarray(targets), "weights": weights})
    assert_allclose(loss, np.average(losses_by_hand(logits, targets), weights=weights), rtol=1e-12)
    assert_allclose(metric, np.average(np.argmax(logits, axis=1) == targets, weights=weights), rtol=1e-12)


def test_one_weight_an_example_weighs_each_of_its_tokens(float64):
    logits, targets = make((3, 4))
    example = {"targets": jnp.asarray(targets), "weights": np.array([1.0, 0, 2])}
    each = example | {"weights": np.repeat([[1.0], [0], [2]], 4, axis=1)}
    jax.tree.map(assert_array_equal, everything(logits, example), everything(logits, each))


def test_half_precision_outputs_are_scored_in_float32():
    logits, targets = make((500,))
    half = jnp.asarray(logits, jnp.bfloat16)
    losses = OBJECTIVE.losses(half, {"targets": jnp.asarray(targets)})
    assert losses.dtype == jnp.zeros(()).dtype
    assert_allclose(losses, losses_by_hand(np.asarray(half, np.float64), targets), rtol=1e-5, atol=1e-6)


def test_small_losses_keep_their_digits_in_float32():
    """At interpolation a difference of two numbers near 18 has one digit left of a loss near 1e-6."""
    logits, targets = make((4000,))
    logits[:, 0] = 18
    logits, targets = np.float32(logits), np.zeros_like(targets)
    exact = np.mean(losses_by_hand(logits, targets))
    assert 1e-6 < exact < 1e-5
    losses = np.asarray(OBJECTIVE.losses(jnp.asarray(logits), {"targets": jnp.asarray(targets)}))
    assert_allclose(np.mean(losses, dtype=np.float64), exact, rtol=0.01)


def test_metric_of_a_split_is_exact_over_uneven_batches():
    assert OBJECTIVE.metric(np.array([1.0, 0, 3, 2]), np.array([1.0, 0, 4, 3])) == 6 / 8
    assert (OBJECTIVE.metric_name, OBJECTIVE.higher_is_better) == ("accuracy", True)
    # In float32 the count would stop at 2 ** 24.
    assert OBJECTIVE.metric(np.ones(2**24 + 1, np.float32), np.ones(2**24 + 1, np.float32)) == 1


@pytest.mark.parametrize(
    ("outputs", "batch", "message"),
    [
        ((4, 3), {"targets": np.zeros(4, int)}, r"outputs of shape \(4, 3\) for targets of shape \(4,\).*\(4, 5\)"),
        ((4, 5), {"targets": np.zeros((4, 2), int)}, r"expected 5 logits for each target, \(4, 2, 5\)"),
        ((4, 5), {"targets": np.zeros(4)}, r"targets of type float.*expected integers, the classes 0 to 4"),
        ((4, 5), {"targets": np.zeros(4, int), "weights": np.ones(3)}, r"weights of shape \(3,\).*one weight per exam"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(outputs, batch, message):
    batch = {name: jnp.asarray(array) for name, array in batch.items()}
    for function in (OBJECTIVE.losses, OBJECTIVE.predictions):
        with pytest.raises(ValueError, match=message):
            function(jnp.zeros(outputs), batch)


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        ((4, 7, 5), (4,), r"choose a config\.model with one row of outputs for it, such as LSTM"),
        ((4, 5), (4, 7), r"choose a config\.model with outputs for each word, such as TaggingTransformer"),
        ((4, 5), (4, 5), r"choose config\.loss=binary_cross_entropy"),
        ((4, 3), (4,), "see the model's last layer"),
    ],
)
def test_outputs_that_do_not_fit_classes_say_what_to_choose(outputs, targets, message):
    with pytest.raises(ValueError, match=message):
        OBJECTIVE.losses(np.zeros(outputs), {"targets": np.zeros(targets, int)})


@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "binary_cross_entropy"])
def test_outputs_of_a_network_that_plays_fit_no_other_loss(loss):
    outputs = {"logits": np.zeros((4, NUM_CLASSES)), "values": np.zeros(4)}
    objective = getattr(objectives, loss)(NUM_CLASSES)
    with pytest.raises(ValueError, match=r"outputs logits, values: expected one array; choose another config\.model"):
        objective.losses(outputs, {"targets": np.zeros(4, int)})


def test_impossible_scores_are_refused():
    with pytest.raises(ValueError, match="num_outputs=1: expected at least 2 classes"):
        objectives.cross_entropy(1)
    with pytest.raises(ValueError, match=r"weights that add up to 0\.0: expected at least one item"):
        OBJECTIVE.metric(np.zeros(3), np.zeros(3))


SQUARED = objectives.squared(NUM_CLASSES)
REGRESSION = objectives.squared(2, real_targets=True)


def test_squared_loss_of_classes_is_that_of_one_hot_vectors(float64):
    outputs, targets = make((20,))
    batch = {"targets": jnp.asarray(targets), "weights": np.arange(20.0)}
    expected = np.sum((outputs - np.eye(NUM_CLASSES)[targets]) ** 2, axis=1)  # summed over outputs, not halved
    assert_allclose(SQUARED.losses(jnp.asarray(outputs), batch), np.arange(20) * expected, rtol=1e-12)
    right = np.argmax(outputs, axis=1) == targets
    metric = SQUARED.metric(SQUARED.predictions(jnp.asarray(outputs), batch), SQUARED.weights(batch))
    assert_allclose(metric, np.average(right, weights=np.arange(20)), rtol=1e-12)
    assert (SQUARED.metric_name, SQUARED.higher_is_better) == ("accuracy", True)


@pytest.mark.parametrize("items", [(6,), (6, 3)])
def test_squared_loss_of_real_targets_and_its_metric_where_lower_is_better(float64, items):
    random = np.random.default_rng(0)
    outputs, targets = random.normal(size=(2, *items, 2))
    weights = random.uniform(0, 2, items) * (random.uniform(size=items) > 0.3)
    outputs[weights == 0], targets[weights == 0] = np.nan, np.inf  # padding may be anything
    batch = {"targets": jnp.asarray(targets), "weights": weights}
    errors = np.where(weights > 0, np.sum(np.nan_to_num(outputs - targets) ** 2, axis=-1), 0)
    totals = (weights * errors).reshape(6, -1).sum(axis=1)
    assert_allclose(REGRESSION.losses(jnp.asarray(outputs), batch), totals, rtol=1e-12)
    assert_allclose(REGRESSION.weights(batch), weights.reshape(6, -1).sum(axis=1), rtol=1e-12)
    metric = REGRESSION.metric(
        np.asarray(REGRESSION.predictions(jnp.asarray(outputs), batch)), REGRESSION.weights(batch)
    )
    assert_allclose(metric, totals.sum() / weights.sum(), rtol=1e-12)
    assert (REGRESSION.metric_name, REGRESSION.higher_is_better) == ("mean_squared_error", False)
    gradient = jax.grad(lambda outputs: jnp.sum(REGRESSION.losses(outputs, batch)))(jnp.asarray(outputs))
    assert_array_equal(np.asarray(gradient)[weights == 0], 0)


def test_a_scaled_loss_leaves_the_metric_alone():
    outputs, batch = jnp.array([[1.0, 2.0]]), {"targets": jnp.array([[0.0, 0.0]])}
    scaled = objectives.scale_loss(REGRESSION, 0.01)
    assert_allclose(scaled.losses(outputs, batch), [0.05], rtol=1e-6)
    assert_array_equal(scaled.predictions(outputs, batch), [5.0])


@pytest.mark.parametrize(
    ("objective", "outputs", "targets", "message"),
    [
        (
            REGRESSION,
            (4, 2),
            np.zeros(4),
            r"outputs of shape \(4, 2\) for targets of shape \(4,\): expected both with 2 n",
        ),
        (REGRESSION, (4, 3), np.zeros((4, 3)), r"expected both with 2 numbers per item, such as \[B, K\]"),
        (REGRESSION, (4, 2), np.zeros((4, 2), int), r"targets of type int\d+: expected real numbers"),
        (SQUARED, (4, 5), np.zeros(4), r"targets of type float.*expected integers, the classes 0 to 4"),
    ],
)
def test_targets_that_do_not_fit_the_squared_loss_are_refused(objective, outputs, targets, message):
    with pytest.raises(ValueError, match=message):
        objective.losses(jnp.zeros(outputs), {"targets": jnp.asarray(targets)})


def test_losses_say_which_targets_they_take():
    with pytest.raises(
        ValueError, match=r"config.loss='cross_entropy': expected classes, .* choose config.loss=squared"
    ):
        objectives.cross_entropy(3, real_targets=True)
    with pytest.raises(ValueError, match="num_outputs=1: expected at least 2 classes"):
        objectives.squared(1)
    with pytest.raises(ValueError, match="num_outputs=0: expected at least 1 real target"):
        objectives.squared(0, real_targets=True)
    assert set(objectives.FOR_CLASSES_ONLY) <= set(objectives.OBJECTIVES)


def played(seed=0):
    random = np.random.default_rng(seed)
    outputs = {"logits": random.normal(size=(40, 3)), "values": random.normal(size=40)}
    targets = {
        "action": random.integers(0, 3, 40),
        "log_probability": np.log(random.uniform(0.1, 0.9, 40)),
        "advantage": random.normal(size=40),
        "return": random.normal(size=40),
        "clip_factor": np.full(40, 0.5),
    }
    return jax.tree.map(jnp.asarray, outputs), {"targets": jax.tree.map(jnp.asarray, targets)}


def ppo_by_hand(outputs, targets, *, clip_ratio, value_coefficient, entropy_coefficient):
    losses = []
    for index in range(len(targets["action"])):
        at = {name: float(values[index]) for name, values in targets.items()}
        exponentials = np.exp(np.asarray(outputs["logits"][index]))
        probabilities = exponentials / exponentials.sum()
        ratio = probabilities[int(at["action"])] / np.exp(at["log_probability"])
        margin = clip_ratio * at["clip_factor"]
        clipped = min(max(ratio, 1 - margin), 1 + margin)
        gain = min(ratio * at["advantage"], clipped * at["advantage"])
        error = (float(outputs["values"][index]) - at["return"]) ** 2
        entropy = -np.sum(probabilities * np.log(probabilities))
        losses.append(-gain + value_coefficient * error - entropy_coefficient * entropy)
    return np.array(losses)


def test_ppo_agrees_with_numpy(float64):
    outputs, batch = played()
    fields = {"clip_ratio": 0.3, "value_coefficient": 0.7, "entropy_coefficient": 0.2}
    objective = objectives.ppo(3, clip_ratio=0.3, value_coefficient=0.7, entropy_coefficient=0.2)
    assert_allclose(objective.losses(outputs, batch), ppo_by_hand(outputs, batch["targets"], **fields), rtol=1e-12)
    assert_array_equal(objective.weights(batch), np.ones(40))
    assert (objective.metric_name, objective.higher_is_better) == ("score", True)
    assert objective.metric(np.array([1.0, 4.0]), np.ones(2)) == 2.5


def test_ppo_learns_nothing_more_from_a_probability_that_has_changed_enough(float64):
    outputs, batch = played()
    targets = batch["targets"] | {"advantage": jnp.ones(40), "clip_factor": jnp.ones(40)}
    objective = objectives.ppo(3, value_coefficient=0.0, entropy_coefficient=0.0)
    slope = jax.grad(lambda logits: jnp.sum(objective.losses(outputs | {"logits": logits}, {"targets": targets})))
    moves = np.abs(slope(outputs["logits"])).sum(axis=1) > 0
    chosen = jax.nn.log_softmax(outputs["logits"])[np.arange(40), targets["action"]]
    assert_array_equal(moves, np.exp(chosen - targets["log_probability"]) < 1.1)


def test_ppo_refuses_other_outputs():
    outputs, batch = played()
    with pytest.raises(ValueError, match=r"outputs are 'logits' and 'values'; choose config\.model=ActorCritic"):
        objectives.ppo(3).losses(outputs["logits"], batch)
    with pytest.raises(ValueError, match=r"logits of shape \(40, 3\) .*; expected \(40, 4\)"):
        objectives.ppo(4).losses(outputs, batch)
    with pytest.raises(ValueError, match="expected a game, but the targets"):
        objectives.ppo(3, real_targets=True)
    with pytest.raises(ValueError, match="at least 2 actions"):
        objectives.ppo(1)


LABELS = objectives.binary_cross_entropy(6)


def test_logits_without_a_label_or_a_weight_reach_no_loss_and_no_gradient():
    labels = jnp.array([[1, 0, -1, 1, 0, -1], [0, 1, 1, -1, -1, 0]], jnp.int8)
    batch = {"targets": labels, "weights": jnp.array([1.0, 0.0])}
    is_scored = jnp.array([[True, True, False, True, True, False], [False] * 6])

    def loss(logits):
        return jnp.sum(LABELS.losses(logits, batch))

    expected, slopes = jax.value_and_grad(loss)(jnp.where(is_scored, 0.5, 0.0))
    loss_value, masked_slopes = jax.value_and_grad(loss)(jnp.where(is_scored, 0.5, jnp.nan))
    assert_array_equal(loss_value, expected)
    assert_array_equal(masked_slopes, slopes)


def average_precision_by_hand(scores, is_yes):
    """Sum recall's steps times precision over the thresholds, each from the definition."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = is_yes[scores >= threshold]
        total += (chosen.sum() / is_yes.sum() - recall) * chosen.mean()
        recall = chosen.sum() / is_yes.sum()
    return total


@pytest.mark.parametrize("ties", [1, 3, 1000])
def test_mean_average_precision_follows_its_definition(ties):
    random = np.random.default_rng(ties)
    logits = (np.round(random.normal(size=(80, 6)) * ties) / ties).astype(np.float32)
    labels = random.integers(-1, 2, (80, 6)).astype(np.int8)
    labels[:, 4], labels[:, 5] = np.minimum(labels[:, 4], 0), np.abs(labels[:, 5])
    labels[labels[:, 5] == 0, 5] = -1  # only labels of one kind: neither task counts
    expected = []
    for task in range(4):
        there = labels[:, task] >= 0
        expected.append(average_precision_by_hand(logits[there, task], labels[there, task]))
    precisions = objectives.average_precision(logits, labels)
    assert_allclose(precisions[:4], expected, rtol=1e-12)
    assert np.isnan(precisions[4:]).all()
    batch = {"targets": jnp.asarray(labels)}
    predictions = jax.device_get(LABELS.predictions(jnp.asarray(logits), batch))
    assert_allclose(LABELS.metric(predictions, LABELS.weights(batch)), np.mean(expected), rtol=1e-12)
    assert (LABELS.metric_name, LABELS.higher_is_better) == ("mean_average_precision", True)


@pytest.mark.usefixtures("float64")
def test_the_logistic_loss_counts_each_label_once_and_missing_ones_never():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(5, 6)) * 3, random.integers(-1, 2, (5, 6))
    labels[2] = -1
    chances = 1 / (1 + np.exp(-logits))
    terms = -np.log(np.where(labels == 1, chances, 1 - chances)) * (labels >= 0)
    batch = {"targets": jnp.asarray(labels)}
    assert_allclose(LABELS.losses(jnp.asarray(logits), batch), terms.sum(axis=1), rtol=1e-12)
    assert_array_equal(LABELS.weights(batch), (labels >= 0).sum(axis=1))
    halves = batch | {"weights": jnp.array([0.5, 1, 1, 0, 2])}
    assert_allclose(LABELS.losses(jnp.asarray(logits), halves), terms.sum(axis=1) * halves["weights"], rtol=1e-12)
    extreme = jnp.full((5, 6), 1000.0).at[0].set(-1000.0)
    gradient = jax.grad(lambda logits: jnp.sum(LABELS.losses(logits, batch)))(extreme)
    assert np.isfinite(gradient).all()
    assert_array_equal(np.asarray(gradient)[labels < 0], 0)


def test_labels_that_do_not_fit_the_logistic_loss_are_refused():
    with pytest.raises(ValueError, match=r"config.loss='binary_cross_entropy': expected binary labels, .*squared"):
        objectives.binary_cross_entropy(3, real_targets=True)
    with pytest.raises(ValueError, match="num_outputs=0: expected at least 1 task"):
        objectives.binary_cross_entropy(0)
    with pytest.raises(
        ValueError, match=r"targets of shape \(4,\): expected both \[B, 6\].* choose config.loss=cross_ent"
    ):
        LABELS.losses(jnp.zeros((4, 6)), {"targets": jnp.zeros(4, int)})
    with pytest.raises(ValueError, match=r"targets of type float.*: expected integers 1, 0, or -1 for a missing label"):
        LABELS.losses(jnp.zeros((4, 6)), {"targets": jnp.zeros((4, 6))})
    predictions = {"logits": np.zeros((4, 6)), "labels": np.zeros((4, 6), int)}
    with pytest.raises(ValueError, match="None of the 6 tasks has labels of both kinds among 4 examples: expected"):
        LABELS.metric(predictions, np.full(4, 6))
    assert np.isnan(LABELS.metric(predictions | {"logits": np.full((4, 6), np.nan)}, np.full(4, 6)))
