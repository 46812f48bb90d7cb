import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from flatwide.measure.rate import linear_rate


def correlated(rng, num_values, correlation):
    errors = rng.normal(size=num_values)
    errors[0] /= np.sqrt(1 - correlation**2) if correlation < 1 else 1
    for index in range(1, num_values):
        errors[index] += correlation * errors[index - 1]
    return errors


def test_an_exact_line_gives_its_rate_in_steps_and_epochs():
    steps = np.arange(0, 2000, 100)
    fit = linear_rate(0.5 + 3 * 0.998**steps, steps, steps_per_epoch=50, minimum=0.5)
    assert_allclose(fit.factor, 0.998, rtol=1e-9)
    assert_allclose([fit.low, fit.high], -np.log(0.998), rtol=1e-6)
    assert_allclose(fit.rate_per_epoch, -50 * np.log(0.998), rtol=1e-9)
    assert fit.residual < 1e-9 < fit.power_residual
    assert fit.num_values == 20
    assert np.isnan(linear_rate(0.998**steps, steps).rate_per_epoch)


def test_without_correlation_and_with_many_values_the_interval_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    steps = np.arange(400.0)
    logs = -0.01 * steps + 0.1 * rng.normal(size=400)
    fit = linear_rate(np.exp(logs))
    (slope, _), covariance = np.polyfit(steps, logs, 1, cov=True)
    assert_allclose(fit.rate, -slope, atol=0.3 * np.sqrt(covariance[0, 0]))
    assert_allclose(fit.high - fit.low, 2 * 1.96 * np.sqrt(covariance[0, 0]), rtol=0.15)
    assert fit.correlation < 0.15


@pytest.mark.parametrize(
    ("correlation", "least"),
    [(0.0, 0.95), (0.8, 0.95), (0.95, 0.92), (1.0, 0.85)],  # minus 2 to 3 standard errors of 150 draws
)
@pytest.mark.slow
def test_the_interval_covers_the_truth_whatever_the_correlation(correlation, least):
    rng = np.random.default_rng(1)
    hits, naive = 0, 0
    steps = np.arange(30.0)
    for _ in range(150):
        logs = -0.05 * steps + 0.1 * correlated(rng, 30, correlation)
        fit = linear_rate(np.exp(logs))
        hits += fit.low <= 0.05 <= fit.high
        (slope, _), covariance = np.polyfit(steps, logs, 1, cov=True)
        naive += abs(slope + 0.05) <= 2.05 * np.sqrt(covariance[0, 0])
    assert hits / 150 >= least
    if correlation >= 0.8:
        assert naive / 150 < 0.75  # coverage of a nominal 95 % interval that ignores the correlation


def test_the_interval_is_not_needlessly_wide():
    rng = np.random.default_rng(2)
    steps = np.arange(100.0)
    fits = [linear_rate(np.exp(-0.05 * steps + 0.1 * rng.normal(size=100))) for _ in range(20)]
    spread = np.sqrt(0.01 / np.sum((steps - steps.mean()) ** 2))
    assert np.median([fit.high - fit.low for fit in fits]) < 1.5 * 3.92 * spread


def test_units_do_not_matter_and_uneven_steps_do():
    rng = np.random.default_rng(3)
    logs = -0.05 * np.arange(40) + 0.1 * correlated(rng, 40, 0.7)
    plain, rescaled = linear_rate(np.exp(logs)), linear_rate(7 * np.exp(logs), 100.0 * np.arange(40))
    for name in ("rate", "low", "high"):
        assert_allclose(100 * getattr(rescaled, name), getattr(plain, name), rtol=1e-6)
    assert_allclose(1e4 * rescaled.bend, plain.bend, rtol=1e-6)
    kept = np.delete(np.arange(40), np.arange(5, 30, 2))
    thinned = linear_rate(np.exp(logs[kept]), kept)
    assert thinned.low <= 0.05 <= thinned.high


def test_the_interval_is_that_of_the_posterior_by_dense_matrices():
    rng = np.random.default_rng(5)
    steps = np.sort(rng.choice(60, size=12, replace=False)).astype(float)
    logs = -0.05 * steps + 0.1 * np.cumsum(rng.normal(size=60))[steps.astype(int)]
    fit = linear_rate(np.exp(logs), steps)
    gaps = np.abs(steps[:, None] - steps[None]) / np.mean(np.diff(steps))
    design = np.stack([np.ones(12), steps], axis=1)
    correlations = np.append(np.sin((np.arange(48) + 0.5) / 48 * np.pi / 2), 1 - 1e-6)
    draws = []
    for correlation in correlations:
        covariance = correlation**gaps
        precision = np.linalg.inv(covariance)
        information = design.T @ precision @ design
        estimate = np.linalg.solve(information, design.T @ precision @ logs)
        square = (logs - design @ estimate) @ precision @ (logs - design @ estimate)
        error = np.sqrt(square / 10 * np.linalg.inv(information)[1, 1])
        log_likelihood = (
            -(np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1] + 10 * np.log(square)) / 2
        )
        draws.append((-estimate[1], error, log_likelihood))
    centers, errors, logs_of = (np.array(column) for column in zip(*draws, strict=True))
    weights = np.exp(logs_of - logs_of.max()) * np.append(np.ones(48), 48)
    weights /= weights.sum()
    assert_allclose(fit.rate, weights @ centers, rtol=1e-4)
    for end, part in ((fit.low, 0.025), (fit.high, 0.975)):
        assert_allclose(weights @ stats.t.cdf((end - centers) / errors, 10), part, atol=1e-4)


def test_a_power_law_is_told_from_a_line():
    rng = np.random.default_rng(4)
    steps = np.arange(50.0)
    noise = 0.02 * rng.normal(size=50)
    power = linear_rate((steps + 1) ** -1.5 * np.exp(noise))
    assert not power.is_linear
    assert power.power_residual < power.residual / 5
    assert_allclose(power.power, 1.5, rtol=0.02)
    assert power.bend_low > 0
    line = linear_rate(np.exp(-0.1 * steps + noise))
    assert line.is_linear
    assert line.bend_low < 0 < line.bend_high
    curve = linear_rate(np.exp(-0.1 * steps + 0.001 * steps**2 + noise))
    assert_allclose(curve.bend, 0.002, rtol=0.1)
    assert curve.bend_low <= 0.002 <= curve.bend_high
    assert not linear_rate(np.exp(noise)).is_linear


def test_the_first_step_of_the_fit_leaves_out_what_is_before():
    steps = np.arange(30.0)
    losses = np.where(steps < 10, 1.0, np.exp(-0.2 * (steps - 10)))
    fit = linear_rate(losses, first_step=10)
    assert_allclose(fit.rate, 0.2, rtol=1e-9)
    assert fit.num_values == 20


@pytest.mark.parametrize(
    ("losses", "options", "message"),
    [
        (np.ones(20), {"steps": np.arange(19)}, r"losses \(20,\) and steps \(19,\): expected one axis"),
        (np.ones(7), {}, r"losses: 7 values remain; expected at least 8"),
        (np.ones(20), {"first_step": 15}, r"losses: 5 values remain"),
        (np.ones(20), {"steps": np.zeros(20)}, r"steps: expected finite numbers in ascending order"),
        (np.full(20, np.nan), {}, r"losses: expected finite numbers"),
        (np.ones(20), {"minimum": 1.0}, r"minimum=1.0: expected below all losses, the smallest of which is 1.0"),
        (np.ones(20), {"level": 95}, r"level=95: expected a number between 0 and 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(losses, options, message):
    with pytest.raises(ValueError, match=message):
        linear_rate(losses, **options)
