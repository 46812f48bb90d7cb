import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import optimizers, sam
from flatwide.measure.stability.edge_of_stability import edge_of_stability, effective_rho, preconditioned_edge

RATE = 0.1


def test_solves_its_equation():
    norm, rate, rho = np.array([1e-6, 0.01, 1.0, 100.0]), 0.3, 0.05
    normalized = edge_of_stability(norm, learning_rate=rate, rho=rho)
    assert_allclose(rate * (normalized + rho * normalized**2 / norm), 2, rtol=1e-14)
    printed = norm / (2 * rho) * (np.sqrt(1 + 8 * rho / (rate * norm)) - 1)
    assert_allclose(normalized, printed, rtol=1e-10)
    unnormalized = edge_of_stability(None, learning_rate=rate, rho=rho)
    assert_allclose(rate * (unnormalized + rho * unnormalized**2), 2, rtol=1e-14)
    assert edge_of_stability(1.0, learning_rate=rate, rho=rho) == unnormalized


def test_limits_are_continuous():
    assert edge_of_stability(0.5, learning_rate=0.1, rho=0.0) == 20.0
    assert edge_of_stability(0.0, learning_rate=0.1, rho=0.0) == 20.0
    assert edge_of_stability(0.0, learning_rate=0.1, rho=0.1) == 0.0
    assert_allclose(edge_of_stability(1.0, learning_rate=0.1, rho=1e-300), 20.0, rtol=1e-14)
    # (1 / 2 rho') (sqrt(1 + 8 rho' / eta) - 1) = (2 / eta) (1 - 2 rho' / eta + ...)
    assert_allclose(edge_of_stability(1.0, learning_rate=0.1, rho=1e-9), 20 * (1 - 2e-8), rtol=4e-15)
    assert_allclose(
        edge_of_stability(1e-200, learning_rate=0.1, rho=0.1), np.sqrt(2 * 1e-200 / (0.1 * 0.1)), rtol=1e-12
    )


def test_effective_rho_is_that_of_the_unnormalized_step():
    assert_allclose(effective_rho(0.1, np.array([0.5, 2.0])), [0.2, 0.05])
    assert effective_rho(0.1, 0.0) == np.inf
    assert effective_rho(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("norm", "rate", "rho", "message"),
    [
        (1.0, 0.0, 0.1, "learning_rate=0.0: expected a finite number > 0"),
        (1.0, 0.1, -0.1, "rho=-0.1: expected a finite number >= 0"),
        (-1.0, 0.1, 0.1, "gradient_norm=-1.0: expected finite norms >= 0"),
        (np.nan, 0.1, 0.1, "gradient_norm=nan: expected finite norms >= 0"),
    ],
)
def test_refuses(norm, rate, rho, message):
    with pytest.raises(ValueError, match=message):
        edge_of_stability(norm, learning_rate=rate, rho=rho)


def growth(step, *at):
    """Compute the spectral radius of the derivative of one step of an optimizer on scalars."""
    with jax.enable_x64():
        at = tuple(jnp.float64(x) for x in at)
        matrix = jax.jacfwd(lambda state: jnp.stack(step(*state)))(at)
        return np.max(np.abs(np.linalg.eigvals(np.stack([np.asarray(column) for column in matrix], axis=-1))))


def assert_is_edge(step_of, edge, *at):
    """Assert that steps shrink below the edge, neither shrink nor grow at it, and grow above."""
    assert growth(step_of(0.99 * edge), *at) < 1 - 1e-4
    assert growth(step_of(edge), *at) == pytest.approx(1, abs=1e-9)
    assert growth(step_of(1.01 * edge), *at) > 1 + 1e-4


@pytest.mark.parametrize("rho", [0.0, 0.03])
@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize(("momentum", "is_nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_steps_of_sgd_and_unnormalized_sam_begin_to_grow_at_the_edge(momentum, is_nesterov, decay, rho):
    optimizer = optimizers.build("sgd", momentum=momentum, nesterov=is_nesterov)

    def step_of(curvature):
        gradient = sam.value_and_grad(lambda w: curvature * w**2 / 2, sam.unnormalized(rho))

        def step(w, velocity):
            state = optimizer.init(w)
            state = state._replace(trace=velocity) if momentum else state
            _, slope = gradient(w)
            direction, state = optimizer.update(slope, state, w, decay)
            return optimizers.apply(w, direction, RATE), state.trace if momentum else 0 * w

        return step

    edge = edge_of_stability(
        None, learning_rate=RATE, rho=rho, momentum=momentum, is_nesterov=is_nesterov, weight_decay=decay
    )
    assert_is_edge(step_of, edge, 0.0, 0.0)


def test_normalized_sam_settles_where_its_edge_is_the_curvature():
    """Below 2 / eta it overshoots a minimum until its gradient is so large that the curvature is at the edge.

    With a momentum of 0.9 it follows longer cycles, below the edge.
    """
    curvature, rho, decay, momentum = np.array([9.0, 1.0]), 0.2, 0.1, 0.5
    w, velocity = np.array([0.3, 0.1]), np.zeros(2)
    for _ in range(4000):
        gradient = curvature * w
        slope = curvature * (w + rho * gradient / np.linalg.norm(gradient)) + decay * w
        velocity = momentum * velocity + slope
        w = w - RATE * velocity
    edge = edge_of_stability(
        np.linalg.norm(curvature * w), learning_rate=RATE, rho=rho, momentum=momentum, weight_decay=decay
    )
    assert edge == pytest.approx(9.0, rel=1e-6)
    assert edge < 2 / RATE


@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_steps_of_adam_begin_to_grow_at_its_preconditioned_edge(decay):
    scale, updates = 0.25, 10_000  # of the second moment, which a decay rate next to 1 keeps
    betas = (0.9, 1 - 1e-14)
    optimizer = optimizers.build("adamw", adam_betas=betas, adam_epsilon=0.01)
    with jax.enable_x64():
        state = optimizer.init(jnp.float64(0.0))._replace(count=jnp.int32(updates), nu=jnp.float64(0.0))
    average = scale**2 * (1 - betas[1] ** (updates + 1))
    preconditioner = scale + 0.01

    def step_of(curvature):
        def step(w, mean):
            moments = state._replace(mu=mean, nu=jnp.float64(average))
            direction, moments = optimizer.update(preconditioner * curvature * w, moments, w, decay)
            return optimizers.apply(w, direction, RATE), moments.mu

        return step

    edge = preconditioned_edge(learning_rate=RATE, decoupled_decay=decay)
    assert edge == pytest.approx(380 * (1 - RATE * decay / 2))
    assert_is_edge(step_of, edge, 0.0, 0.0)


def test_a_decay_at_its_own_edge_leaves_no_curvature():
    assert edge_of_stability(1.0, learning_rate=0.1, rho=0.1, weight_decay=20.0) == 0.0
    assert edge_of_stability(1.0, learning_rate=0.1, rho=0.1, weight_decay=50.0) == 0.0
    assert preconditioned_edge(learning_rate=0.1, decoupled_decay=30.0) == 0.0
    with pytest.raises(ValueError, match=r"momentum=1\.0: expected a number in \[0, 1\)"):
        edge_of_stability(None, learning_rate=0.1, rho=0.0, momentum=1.0)
    with pytest.raises(ValueError, match="weight_decay=-1: expected a finite number >= 0"):
        preconditioned_edge(learning_rate=0.1, decoupled_decay=-1)
