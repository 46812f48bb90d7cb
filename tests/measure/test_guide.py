"""The guide's code runs as shown, and its numbers are those of the dense Hessian."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

GUIDE = Path(__file__).parents[2] / "docs" / "measure.md"


# Fewer examples and a narrower layer than the guide shows.
SMALLER = {"[:1000]": "[:100]", "(64, 20)": "(64, 4)", "(1, 20)": "(1, 4)", "(20, 10)": "(4, 10)"}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [SMALLER, {}], ids=["smaller", "as shown"])
def test_the_guide_measures_a_model_that_flatwide_did_not_train(capsys, changes):
    text = GUIDE.read_text()
    for shown, changed in changes.items():
        assert shown in text
        text = text.replace(shown, changed)
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(code) == 4
    names: dict = {}
    for block in code:
        exec(compile(block, str(GUIDE), "exec"), names)
    assert "stable" in capsys.readouterr().out

    flat, unravel = ravel_pytree(names["params"])
    dense = jax.jit(jax.hessian(lambda at: names["loss_fn"](unravel(at), names["data"])))(flat)
    values = np.linalg.eigvalsh(np.asarray(dense, np.float64))
    largest = values[np.argsort(-np.abs(values))[:5]]
    assert_allclose(names["top"].values, largest, rtol=1e-4)
    trace = names["trace"]
    assert abs(trace.value - values.sum()) <= 4 * trace.standard_error + 1e-4 * abs(values.sum())
    assert_allclose(names["pairs"].values, [-7, 5, 5], rtol=1e-5)

    def outputs(at):
        return names["predict"](unravel(at), names["data"]["pixels"])

    slopes, bend = jax.jacobian(outputs)(flat), jax.hessian(names["output_loss"])(outputs(flat))
    gauss_newton = np.einsum("nkp,nkml,mlq->pq", slopes, bend, slopes, optimize=True)
    assert_allclose(names["flattened"].values, np.linalg.eigvalsh(gauss_newton)[-1:], rtol=1e-4)
    flat, unravel = ravel_pytree(names["nnx_problem"].params)
    dense = jax.jit(jax.hessian(lambda at: names["nnx_loss"](unravel(at), names["data"], names["rest"])))(flat)
    assert_allclose(names["nnx_top"].values, np.linalg.eigvalsh(np.asarray(dense, np.float64))[-1:], rtol=1e-4)
    # Worst case in a small ball: between SAM's step and what the top eigenvalue and the gradient allow.
    gradient = np.linalg.norm(ravel_pytree(jax.grad(names["loss_fn"])(names["params"], names["data"]))[0])
    assert 0 < names["worst"].value < 0.1 * gradient + 0.5 * 0.01 * values[-1] * 1.2
