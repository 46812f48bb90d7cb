"""The bridge from flax.linen modules to two pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from numpy.testing import assert_array_equal

from flatwide.models.linen import from_linen


class Noisy(nn.Module):
    """Dropout and running averages, on inputs that are a dict."""

    @nn.compact
    def __call__(self, inputs, *, train: bool):
        mean = self.variable("batch_stats", "mean", jnp.zeros, (3,))
        if train and not self.is_initializing():
            mean.value = inputs["a"].mean(axis=0)
        hidden = nn.Dense(4, name="hidden")(inputs["a"]) * inputs["b"]
        return nn.Dropout(0.5, deterministic=not train)(hidden)


class Plain(nn.Module):
    """No state at all."""

    @nn.compact
    def __call__(self, inputs, *, train: bool):
        return nn.Dense(2)(inputs)


class Counting(nn.Module):
    """State in a collection that nobody would carry on."""

    @nn.compact
    def __call__(self, inputs, *, train: bool):
        self.variable("cache", "count", jnp.zeros, ())
        return nn.Dense(2)(inputs)


EXAMPLE = {"a": jax.ShapeDtypeStruct((3,), np.float32), "b": jax.ShapeDtypeStruct((1,), np.float32)}
INPUTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones((2, 1), np.float32)}


def test_init_gives_params_and_stats_apart():
    params, stats = from_linen(Noisy(), EXAMPLE).init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == {"hidden": {"kernel": (3, 4), "bias": (4,)}}
    assert_array_equal(stats["mean"], np.zeros(3))


def test_training_updates_stats_and_evaluation_does_not():
    model = from_linen(Noisy(), EXAMPLE)
    params, stats = model.init(jax.random.key(0))
    _, trained = model.apply(params, stats, INPUTS, train=True, key=jax.random.key(1))
    assert_array_equal(trained["mean"], [1.5, 2.5, 3.5])
    assert_array_equal(stats["mean"], np.zeros(3))
    _, evaluated = model.apply(params, trained, INPUTS, train=False, key=None)
    assert_array_equal(evaluated["mean"], trained["mean"])


def test_dropout_draws_from_the_key():
    model = from_linen(Noisy(), EXAMPLE)
    params, stats = model.init(jax.random.key(0))

    def outputs(seed):
        return model.apply(params, stats, INPUTS, train=True, key=jax.random.key(seed))[0]

    whole = model.apply(params, stats, INPUTS, train=False, key=None)[0]
    assert_array_equal(outputs(1), outputs(1))
    assert not np.array_equal(outputs(1), outputs(2))
    assert set(np.round(np.unique(outputs(1)[whole != 0] / whole[whole != 0]), 5)) == {0.0, 2.0}


def test_state_that_would_be_lost_is_an_error():
    with pytest.raises(ValueError, match=r"Counting keeps variables in \['cache'\].*'batch_stats'"):
        from_linen(Counting(), EXAMPLE["a"]).init(jax.random.key(0))


class NoTrain(nn.Module):
    """A module that is called with its inputs alone."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)


class Strict(nn.Module):
    """A module that needs more than is given."""

    @nn.compact
    def __call__(self, x, mask, train=False):
        return nn.Dense(2)(x * mask)


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (NoTrain(), r"NoTrain.__call__\(x\): .* \(got an unexpected keyword argument 'train'\)"),
        (Strict(), r"Strict.__call__\(x, mask, train=False\): .* \(missing a required argument: 'mask'\)"),
        (Plain, r"\(<class '.*Plain'>\): "),
        (nnx.Linear(2, 2, rngs=nnx.Rngs(0)), r"\(Linear\("),
    ],
)
def test_what_cannot_be_called_is_refused_with_the_signature(module, given):
    with pytest.raises(ValueError, match=given) as error:
        from_linen(module, EXAMPLE["a"])
    assert "expected a flax.linen module with `__call__(self, inputs, *, train)`" in str(error.value)
    assert "\n" not in str(error.value)
