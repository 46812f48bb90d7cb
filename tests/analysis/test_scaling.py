"""Parameters and data: the variance about one curve against an explicit projection, and its wording."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.analysis import metrics, scaling, table, widths
from flatwide.answers import answer, sentences
from flatwide.figures.scaling import scaling_figures

SIZES, EXAMPLES = (600, 1200, 2400, 4800, 9600, 19_200), (300, 600, 1200)


def study(gain, *, num_seeds=5, noise=0.02, seed=0, onset=lambda examples: 3.0 * examples):
    random = np.random.default_rng(seed)
    rows = []
    for examples in EXAMPLES:
        for size in SIZES:
            short = math.log10(onset(examples) / size)  # on a line, so that the crossing is exact
            for number in range(num_seeds):
                for rho in (0.0, 0.1):
                    value = (rho > 0) * gain(size, examples) + noise * random.normal()
                    rows.append(
                        {"num_params": size, "train_examples": examples, "seed": number, "rho": rho}
                        | {"test_metric": value, "status": "finished", "higher_is_better": True, "optimizer": "sam"}
                        | {"metric_name": "score", "base_optimizer": "sgd", "train_loss": 0.01 * math.exp(short)}
                        | {"train_metric": 0.0}
                    )
    return pd.DataFrame(rows)


def cubic(x):
    return 1 + 2 * x - x**2 + 0.3 * x**3


def per_example(size, examples):
    return cubic(math.log10(size / examples))


def test_the_variance_is_that_of_what_a_projection_leaves():
    comparison = scaling.scaling(study(lambda size, examples: math.sin(size) + examples / 600))
    gains = comparison.gains
    x = np.log10(gains.sizes)
    basis = np.vander(x, 4)
    left = np.eye(len(x)) - basis @ np.linalg.inv(basis.T @ basis) @ basis.T

    def by_hand(values):
        pairs = [
            values[:, i] @ left @ values[:, j] for i in range(values.shape[1]) for j in range(values.shape[1]) if i != j
        ]
        return np.mean(pairs) / np.trace(left)

    variance = comparison.variances[scaling.PARAMETERS]
    without = [by_hand(np.delete(gains.values, seed, axis=1)) for seed in range(5)]
    reach = scipy.stats.t.ppf(0.975, 4) * math.sqrt(4 / 5 * np.sum((without - np.mean(without)) ** 2))
    assert variance.value == pytest.approx(by_hand(gains.values), rel=1e-6)
    assert_allclose([variance.low, variance.high], [variance.value - reach, variance.value + reach], rtol=1e-6)


def test_true_deviations_come_back_as_their_variance():
    """Without noise: deviations that no curve of the measure has, such as one for each number of examples."""
    shifts = dict(zip(EXAMPLES, (-1.0, 0.0, 1.0), strict=True))
    comparison = scaling.scaling(study(lambda size, examples: cubic(math.log10(size)) + shifts[examples], noise=0.0))
    # 12 of the 18 cells are one off their curve, and 14 directions are left of 18.
    assert comparison.variances[scaling.PARAMETERS].value == pytest.approx(12 / 14)


@pytest.mark.parametrize(
    ("gain", "least", "words"),
    [
        (per_example, scaling.PER_EXAMPLE, None),
        (lambda size, _: cubic(math.log10(size) - 3), scaling.PARAMETERS, "one curve against the number of parameters"),
    ],
)
def test_the_measure_that_makes_one_curve_has_the_least_variance(gain, least, words):
    runs = study(gain, onset=lambda examples: 900 * (examples / 300) ** 1.5)
    comparison = scaling.scaling(runs)
    assert min(comparison.variances, key=lambda name: comparison.variances[name].value) == least
    assert comparison.variances[least].low <= 0 <= comparison.variances[least].high
    text = answer.answer(runs)
    assert "as far as the seeds show, they form one curve against" in text
    if words:
        assert words in text


def test_interpolation_may_make_the_curve():
    runs = study(
        lambda size, examples: cubic(math.log10(size / (900 * (examples / 300) ** 1.5))),
        onset=lambda examples: 900 * (examples / 300) ** 1.5,
        noise=0.005,
    )
    comparison = scaling.scaling(runs)
    variances = comparison.variances
    assert variances[scaling.OVER_INTERPOLATION].value < 0.1 * variances[scaling.PER_EXAMPLE].value
    assert comparison.differences[scaling.PER_EXAMPLE, scaling.OVER_INTERPOLATION].low > 0


def test_neither_and_noise():
    shifts = dict(zip(EXAMPLES, (0.0, 3.0, 0.0), strict=True))
    assert "they do not form one curve against any of these" in answer.answer(study(lambda s, e: shifts[e]))
    assert "the seeds do not show against which of these they form one curve" in answer.answer(
        study(lambda s, e: 0.0, noise=1)
    )


def test_where_the_base_never_fits_that_measure_is_left_out():
    runs = study(per_example, onset=lambda examples: 1e6)
    assert set(scaling.scaling(runs).variances) == {scaling.PARAMETERS, scaling.PER_EXAMPLE}
    assert "is not known for every number of examples" in answer.answer(runs)
    assert scaling.scaling(runs[runs["train_examples"] == 300]) is None
    few = scaling.scaling(runs[runs["seed"] < 2])
    assert sentences.one_curve(few, metrics.units(runs, "test_metric"), "SGD") == ""


def test_the_figure_has_a_panel_for_each_measure():
    runs = study(per_example)
    (figure,) = scaling_figures(table.split(runs))
    assert len(figure.chart.to_dict()["concat"]) == 3
    row = next(iter(figure.data))
    assert row["num_params_per_example"] == pytest.approx(row["num_params"] / row["train_examples"])
    one_number = runs.drop(columns="train_examples")[runs["train_examples"] == 300]
    assert not list(scaling_figures(table.split(one_number)))


def test_products_of_two_seeds_have_no_noise_in_their_mean():
    """Where all true gains are alike the variance is 0 in the mean, though rho is chosen by the same noisy runs."""
    generator = np.random.default_rng(5)
    num_seeds, num_rhos, comparison = 6, 8, []
    for _ in range(300):
        cells = []
        for size in (100, 200, 400, 800, 1600, 3200):
            values = generator.normal(size=(num_seeds, 1 + num_rhos)) * np.array([0.3] + [1.0] * num_rhos)
            cells.append(
                widths.Width(
                    value=size,
                    num_params=size,
                    seeds=tuple(range(num_seeds)),
                    rhos=tuple(range(1, num_rhos + 1)),
                    values=values,
                    choices=values,
                    candidates=tuple(range(num_rhos)),
                    short=(),
                    num_diverged=0,
                    sign=1,
                )
            )
        arranged = scaling.Gains(
            sizes=np.array([cell.num_params for cell in cells], float),
            examples=np.full(len(cells), 100),
            seeds=tuple(range(num_seeds)),
            values=np.array([cell.comparison.scored.values[0] for cell in cells]),
            pairs=np.array([scaling._pairs(cell.comparison, cell.comparison.seeds) for cell in cells]),
            stretch=1.0,
            onsets={100: {}},
        )
        comparison.append(scaling.compare(arranged).variances[scaling.PARAMETERS].value)
    error = np.std(comparison) / np.sqrt(len(comparison))
    assert abs(np.mean(comparison)) < 3 * error
    assert error < 0.03  # the scores' own products have a mean of 0.13 or more
