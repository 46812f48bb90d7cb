import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from flatwide.measure.batching import collect, mean


def test_batches_of_one_shape_are_a_group():
    parts = [{"x": np.arange(n, dtype=np.float32), "y": np.zeros((n, 2))} for n in (3, 2, 3)]
    batches = collect(parts)
    assert [group["x"].shape for group in batches.groups] == [(2, 3), (1, 2)]
    assert_allclose(np.concatenate([np.asarray(w) for w in batches.weights]), [3 / 8, 3 / 8, 2 / 8])


def test_the_last_batch_is_what_is_left():
    batches = collect(np.arange(10.0), batch_size=4)
    assert [group.tolist() for group in batches.groups] == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 9]]]
    assert_allclose(np.concatenate([np.asarray(w) for w in batches.weights]), [0.4, 0.4, 0.2])


def test_mean_is_weighted_and_of_any_structure():
    parts = [np.arange(3.0), np.arange(3.0, 6), np.arange(6.0, 7)]
    means = mean(lambda batch: {"mean": jnp.mean(batch), "pair": (jnp.mean(batch**2),)}, collect(iter(parts)))
    assert_allclose(means["mean"], 3)
    assert_allclose(means["pair"][0], np.mean(np.arange(7.0) ** 2))
    weighed = mean(jnp.mean, collect(iter(parts), weigh=lambda batch: float(batch[0])))
    assert_allclose(weighed, (0 * 1 + 3 * 4 + 6 * 6) / 9)
