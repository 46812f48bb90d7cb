"""Data larger than memory: batches that are streamed for each product, against the same data in memory."""

import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import measure
from flatwide.measure import batching

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(22, 3)), RANDOM.normal(size=22)
W = {"w": jnp.array([0.3, -0.2, 0.5])}


def loss_fn(params, batch):
    return jnp.mean((jnp.tanh(batch["x"] @ params["w"]) - batch["y"]) ** 2)


def hessian(params, batches, **options):
    return measure.hessian_operator(measure.problem(loss_fn, params, batches, **options))


class Counted:
    """A loader that makes batches of four on demand, and counts passes and the batches that are alive."""

    def __init__(self):
        self.num_readings = self.num_alive = self.most_alive = 0

    def drop(self):
        self.num_alive -= 1

    def __iter__(self):
        self.num_readings += 1
        for first in range(0, 22, 4):
            x = X[first : first + 4].copy()
            weakref.finalize(x, self.drop)
            self.num_alive += 1
            self.most_alive = max(self.most_alive, self.num_alive)
            yield {"x": x, "y": Y[first : first + 4]}
            del x


DATA = {"x": X, "y": Y}


def test_each_product_reads_all_batches_once_and_holds_one():
    batches = Counted()
    operator = hessian(W, batches)
    assert batches.num_readings == 1  # to count them
    pairs = measure.top_eigenvalues(operator, 1, key=0)
    assert batches.num_readings == 1 + pairs.num_products
    assert batches.most_alive <= 2  # one being made and one being read
    expected = measure.top_eigenvalues(hessian(W, DATA), 1, key=0)
    assert_allclose(pairs.values, expected.values, rtol=1e-5)


def test_every_measurement_of_a_mean_loss_takes_batches_that_are_read_again():
    options = {"rho": 0.5, "key": 0, "num_steps": 10}
    streamed, whole = (measure.problem(loss_fn, W, batches) for batches in (Counted(), DATA))
    for kind in ("worst", "average", "sam"):
        values = [measure.sharpness(problem, kind=kind, **options).value for problem in (streamed, whole)]
        assert_allclose(*values, rtol=1e-5)
    traces = [measure.trace(measure.hessian_operator(problem), key=0).value for problem in (streamed, whole)]
    assert_allclose(*traces, rtol=1e-5)
    other = {"w": jnp.array([-1.0, 1.0, 0.0])}
    barriers = [measure.barrier(loss_fn, W, other, batches, num_points=5).losses for batches in (Counted(), DATA)]
    assert_allclose(*barriers, rtol=1e-5)
    constants = [measure.smoothness_and_pl(problem, other).smoothness for problem in (streamed, whole)]
    assert_allclose(*constants, rtol=1e-5)


def test_a_function_that_makes_an_iterator_in_64_bits_with_weights_and_pieces(float64):
    w = {"w": jnp.asarray(np.asarray(W["w"], np.float64))}
    vector = {"w": jnp.array([1.0, 2.0, 3.0])}
    whole = hessian(w, DATA)(vector)["w"]
    streamed = hessian(w, lambda: iter(Counted()), batch_size=3)
    assert_allclose(streamed(vector)["w"], whole, rtol=1e-12)
    assert streamed(vector)["w"].dtype == np.float64
    weigh = lambda batch: float(np.sum(batch["y"] > 0))  # noqa: E731
    listed = hessian(w, list(Counted()), weigh=weigh)(vector)["w"]
    assert_allclose(hessian(w, Counted(), weigh=weigh)(vector)["w"], listed, rtol=1e-12)


def test_an_iterator_that_is_read_once_is_refused():
    for once in (iter(Counted()), (batch for batch in Counted())):
        with pytest.raises(ValueError, match=r"batches: a generator can be read once, .*`lambda: make_batches\(\)`"):
            hessian(W, once)
        with pytest.raises(ValueError, match=r"batches: a generator can be read once, .*`lambda: make_batches\(\)`"):
            measure.torch.loss(None, None, once)  # before PyTorch is imported, which may not be installed
    with pytest.raises(ValueError, match="is_stored=True with streamed batches"):
        measure.hessian_operator(measure.problem(loss_fn, W, Counted()), is_stored=True)
    with pytest.raises(ValueError, match="batches: expected at least one example; the data set is empty"):
        hessian(W, lambda: iter(()))
    with pytest.raises(ValueError, match="a batch holds JAX arrays, which cannot be read while"):
        hessian(W, lambda: iter([{"x": jnp.asarray(X), "y": Y}]))
    with pytest.raises(ValueError, match="more than 8 distinct shapes"):
        batching.prepare(lambda: (np.zeros((size, 2)) for size in range(1, 20)))


def test_a_second_reading_that_differs_is_refused():
    lengths = iter([3, 2, 3])
    batches = lambda: ({"x": X[:4], "y": Y[:4]} for _ in range(next(lengths)))  # noqa: E731
    operator = hessian(W, batches)
    with pytest.raises(Exception, match="batch 3 of 3: got shapes None"):
        jax.block_until_ready(operator(W))
    jax.block_until_ready(operator(W))
