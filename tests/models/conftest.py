"""The comparison of a network with its blocks written out with the same one in a loop."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.models import linen


@pytest.fixture
def assert_derivatives_are_those_of_a_loop(monkeypatch) -> Callable[..., None]:
    """Compare derivatives in both modes, to rounding in float64."""

    def compare(outputs_of, params, along, *, replaced: Sequence[tuple[Any, str, Any]] = ()):
        """Differentiate outputs_of(params), then with a loop, and (module, name, function) replaced."""

        def derivatives(params):
            def loss(params):
                return jnp.sum(jnp.sin(outputs_of(params)))

            return jax.jvp(jax.value_and_grad(loss), (params,), (along,))

        unrolled = jax.jit(derivatives)(params)
        for target, name, value in ((linen, "MOST_UNROLLED_BLOCKS", 0), *replaced):
            monkeypatch.setattr(target, name, value)
        loop = jax.jit(lambda params: derivatives(params))(params)  # another function, so that it is traced anew
        for unrolled_leaf, looped_leaf in zip(jax.tree.leaves(unrolled), jax.tree.leaves(loop), strict=True):
            assert_allclose(unrolled_leaf, looped_leaf, rtol=0, atol=1e-15 * max(1, np.max(np.abs(looped_leaf))))

    return compare
