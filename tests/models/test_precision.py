"""What `half_precision` computes in: every product in bfloat16, everything else in full precision."""

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from flatwide.models.mlp import mlp
from flatwide.models.resnet import resnet18, resnet50

BUILDERS = {
    "MLP": lambda half: mlp(jax.ShapeDtypeStruct((8, 8, 1), np.float32), 10, num_neurons=(6, 5), half_precision=half),
    "ResNet18": lambda half: resnet18(
        jax.ShapeDtypeStruct((8, 8, 1), np.float32), 10, num_filters=2, num_blocks=(1, 1), half_precision=half
    ),
    "ResNet50": lambda half: resnet50(
        jax.ShapeDtypeStruct((16, 16, 1), np.float32), 10, num_filters=2, num_blocks=(1, 1), half_precision=half
    ),
}


def loss_fn(model, params, stats, inputs):
    outputs, stats = model.apply(params, stats, inputs, train=True, key=None)
    return -jax.nn.log_softmax(outputs)[:, 0].mean(), (outputs, stats)


def equations(jaxpr):
    """List all primitive applications, those inside of nested programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


def traced(name, half):
    """Trace the loss and its gradient: all equations, and the shapes of what comes out."""
    model = BUILDERS[name](half)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    side = 16 if name == "ResNet50" else 8
    inputs = jax.ShapeDtypeStruct((4, side, side, 1), jnp.zeros(()).dtype)
    function = jax.value_and_grad(lambda *args: loss_fn(model, *args), has_aux=True)
    jaxpr, outputs = jax.make_jaxpr(function, return_shape=True)(params, stats, inputs)
    return list(equations(jaxpr.jaxpr)), (params, stats, outputs)


def products(eqns):
    return [e for e in eqns if e.primitive.name.startswith(("dot_general", "conv_", "convolve"))]


def dtypes(variables):
    return {variable.aval.dtype.name for variable in variables}


@pytest.mark.parametrize("name", BUILDERS)
def test_every_product_is_in_bfloat16_and_all_else_in_float32(name):
    eqns, shapes = traced(name, half=True)
    num_layers = {"MLP": 3, "ResNet18": 7, "ResNet50": 10}[name]
    assert len(products(eqns)) >= 3 * num_layers - 1  # forward, and the gradient by inputs (not the first) and kernel
    for product in products(eqns):
        assert dtypes([*product.invars, *product.outvars]) == {"bfloat16"}, product
    activations = [e for e in eqns if e.primitive.name == "max" and e.outvars[0].aval.shape[1:]]
    assert activations
    for activation in activations:  # kept for the backward pass, at half the memory
        assert dtypes(activation.outvars) == {"bfloat16"}, activation
    for statistic in (e for e in eqns if e.primitive.name in ("rsqrt", "log", "exp", "div")):
        assert dtypes(statistic.outvars) == {"float32"}, statistic
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype(np.float32)}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", BUILDERS)
def test_64_bit_mode_is_float64_throughout(name):
    eqns, shapes = traced(name, half=False)
    floating = {v.aval.dtype.name for e in eqns for v in e.outvars if jnp.issubdtype(v.aval.dtype, jnp.floating)}
    assert floating == {"float64"}
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype(np.float64)}
