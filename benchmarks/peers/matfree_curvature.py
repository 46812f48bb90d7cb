"""Curvature by matfree in JAX: reads `TASK TOOL SIZE SEED` lines, answers with JSON; compare benchmarks/curvature.py.

Started as: matfree_curvature.py START.npz, as peers/torch_curvature.py. Programs are compiled before the clock.
"""

import functools
import json
import sys
import time
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matfree import decomp, eig, stochtrace

start = np.load(sys.argv[1])
inputs, labels = jnp.asarray(start["inputs"]), jnp.asarray(start["labels"])
layers = [(jnp.asarray(start[f"kernel_{i}"]), jnp.asarray(start[f"bias_{i}"])) for i in range(3)]
params, unflatten = ravel_pytree(layers)
size = params.size


def loss_fn(flat, inputs, labels):
    hidden, layers = inputs, unflatten(flat)
    for kernel, bias in layers[:-1]:
        hidden = jax.nn.relu(hidden @ kernel + bias)
    outputs = jax.nn.log_softmax(hidden @ layers[-1][0] + layers[-1][1])
    return -jnp.mean(jnp.take_along_axis(outputs, labels[:, None], axis=1))


@jax.jit
def product(vector, flat, inputs, labels):
    return jax.jvp(lambda at: jax.grad(loss_fn)(at, inputs, labels), (flat,), (vector,))[1]


arguments = (params, inputs, labels)


@functools.cache
def program(task: str, tool: str, number: int):
    """Compile a task."""
    if task == "top":
        solve = eig.eigh_partial(decomp.tridiag_sym(number, reortho="full"))

        def run(key):
            return solve(product, jax.random.normal(key, (size,)), *arguments)

    elif task == "trace" and tool == "hutchinson":
        sampler = stochtrace.sampler_signs(params, num=1)
        estimate_trace = stochtrace.estimator_monte_carlo(stochtrace.monte_carlo_trace(), sampler)

        def run(key):
            keys = jax.random.split(key, number)
            return jnp.mean(jax.lax.map(lambda key: estimate_trace(product, key, *arguments), keys))

    elif task == "trace":
        sampler = stochtrace.sampler_normal(params, num=number)
        estimate = stochtrace.estimator_leave_one_out_mean_and_sem(stochtrace.leave_one_out_xtrace(), sampler)

        def run(key):
            return estimate(product, key, *arguments)[0]

    else:
        factor = decomp.tridiag_sym(number, reortho="full")

        def one_probe(key):
            _, matrix, *_ = factor(product, jax.random.normal(key, (size,)), *arguments)
            values, vectors = jnp.linalg.eigh(matrix)
            return jnp.sum(values * vectors[0] ** 2)

        def run(key):
            return size * jnp.mean(jax.lax.map(one_probe, jax.random.split(key, 5)))

    return jax.jit(run).lower(jax.random.key(0)).compile()


def answer(task: str, tool: str, number: int, seed: int) -> dict:
    # The top eigenvalues are asked for as kSTEPS: k of them, from so many products.
    k, _, steps = tool.partition("/") if task == "top" else (0, 0, number)
    run = program(task, "" if task == "top" else tool, int(steps))
    began = time.perf_counter()
    result = jax.block_until_ready(run(jax.random.key(seed)))
    seconds = time.perf_counter() - began
    if task != "top":
        return {"seconds": seconds, "values": [float(result)]}
    values, vectors = result
    order = np.argsort(-np.abs(values))[: int(k)]
    residuals = [jnp.linalg.norm(product(vectors[i], *arguments) - values[i] * vectors[i]) for i in order]
    return {"seconds": seconds, "values": [float(values[i]) for i in order], "residual": float(max(residuals))}


print(f"matfree {version('matfree')}", flush=True)
for line in sys.stdin:
    task, tool, number, seed = line.split()
    print(json.dumps(answer(task, tool, int(number), int(seed))), flush=True)
