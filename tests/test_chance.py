"""What chance gives, against enumeration, scipy and the objectives' own metrics of a constant output."""

import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide import chance, objectives
from flatwide.data.digits import digits
from flatwide.workloads import Scores

BEST = {"status": "finished", "metric_name": "accuracy", "higher_is_better": True, "dataset": "digits"}


def metric_of(objective, outputs, batch):
    """Return the metric of some outputs, as an evaluation computes it."""
    scores = Scores(objective.losses(outputs, batch), objective.weights(batch), objective.predictions(outputs, batch))
    predictions = scores.predictions
    predictions = {k: np.asarray(v) for k, v in predictions.items()} if isinstance(predictions, dict) else predictions
    return float(objective.metric(predictions, np.asarray(scores.weights)))


@pytest.mark.parametrize("weights", [None, [1, 0, 1, 1, 1, 0, 1, 1]])
def test_of_all_constant_classes_the_best_accuracy(weights):
    targets = np.array([2, 2, 0, 1, 2, 2, 1, 1])
    batch = {"targets": targets} | ({} if weights is None else {"weights": np.array(weights)})
    objective = objectives.cross_entropy(3)
    every = [metric_of(objective, np.tile(np.eye(3)[k], (8, 1)), batch) for k in range(3)]
    best = chance.constant(targets, weights, metric_name="accuracy")
    assert best is not None
    assert_allclose(best.metric, max(every), rtol=1e-6)
    assert best.num_items == (8 if weights is None else 6)


def test_words_count_one_by_one_without_padding():
    targets, weights = np.array([[1, 1, 0], [2, 0, 0]]), np.array([[1, 1, 1], [1, 0, 0]])
    assert chance.constant(targets, weights, metric_name="accuracy") == (0.5, 4)


def test_equal_scores_have_the_share_of_yes_as_precision():
    labels = np.array([[1, 0, -1], [0, 1, 1], [0, -1, 1], [0, 1, 1]])
    objective = objectives.binary_cross_entropy(3)
    best = chance.constant(labels, metric_name="mean_average_precision")
    assert best is not None
    assert_allclose(best.metric, metric_of(objective, np.zeros((4, 3)), {"targets": labels}), rtol=1e-12)
    assert best.num_items == 10


def test_no_constant_has_a_smaller_squared_error():
    targets = np.random.default_rng(0).normal(size=(40, 2)) * (1, 3)
    objective = objectives.squared(2, real_targets=True)
    constant = chance.constant(targets, metric_name="mean_squared_error")
    assert constant is not None
    best = scipy.optimize.minimize(lambda y: np.mean(np.sum((targets - y) ** 2, axis=1)), np.zeros(2)).fun
    assert_allclose(constant.metric, best, rtol=1e-6)
    metric = metric_of(objective, np.tile(targets.mean(axis=0), (40, 1)), {"targets": targets})
    assert_allclose(constant.metric, metric, rtol=1e-5)


def test_nothing_is_said_of_other_metrics_and_targets():
    assert chance.constant({"action": np.zeros(3)}, metric_name="accuracy") is None
    assert chance.constant(np.zeros(3, int), metric_name="score") is None
    assert chance.constant(np.zeros((3, 1)), metric_name="accuracy") is None


@pytest.mark.parametrize("right", [0, 1, 36, 355])
def test_the_limit_is_clopper_and_pearsons(right):
    expected = scipy.stats.binomtest(right, 355).proportion_ci(0.95, method="exact").low
    assert_allclose(chance.lower_limit(right / 355, 355), expected, rtol=1e-9)


def test_a_run_at_chance_is_called_so_in_975_of_1000_or_more():
    """Exactly, by the binomial distribution: the share of outcomes whose limit is at most the true share."""
    right = np.arange(356)
    collapsed = [chance.is_collapsed(BEST | {"test_metric": k / 355}) for k in right]
    assert scipy.stats.binom.pmf(right, 355, 36 / 355) @ collapsed >= 0.975
    assert collapsed == sorted(collapsed, reverse=True)  # from some count on, none


def test_the_published_shares_are_those_of_the_data():
    assert chance.constant(digits().test.targets, metric_name="accuracy") == chance.PUBLISHED["digits"]


def test_what_a_run_recorded_stands_before_what_is_published():
    run = BEST | {"test_metric": 0.5}
    assert chance.is_collapsed(run) is False
    assert chance.is_collapsed(run | {"test_chance_metric": 0.5, "num_test_items": 40}) is True


@pytest.mark.parametrize(
    "unknown",
    [
        {"dataset": "their_own"},
        {"status": "diverged"},
        {"test_metric": None},
        {"test_metric": float("nan")},
        {"metric_name": "score"},
        {"metric_name": "mean_squared_error", "higher_is_better": False},
        {"test_metric": 45.0},
    ],
)
def test_nothing_is_guessed(unknown):
    assert chance.is_collapsed(BEST | {"test_metric": 0.1} | unknown) is None


def test_other_metrics_must_be_beyond_the_best_constant():
    error = BEST | {"metric_name": "mean_squared_error", "higher_is_better": False, "test_chance_metric": 2.0}
    assert [chance.is_collapsed(error | {"test_metric": value}) for value in (1.9, 2.0, 2.1)] == [False, True, True]
    precision = BEST | {"metric_name": "mean_average_precision", "test_chance_metric": 0.2}
    assert [chance.is_collapsed(precision | {"test_metric": value}) for value in (0.1, 0.2, 0.3)] == [True, True, False]
