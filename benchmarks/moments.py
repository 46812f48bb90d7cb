"""Non-uniformity s_k of the Hessians of single examples: time by the number of examples and of parameters.

Run:     python benchmarks/moments.py [--num_neurons 300,100 75,25 1200,400] [--examples 250 1000 4000]
         [--orders 2 3 4] [--written_out] [--chunk_size 0]
Does:    trains an MLP for 30 steps on ten noisy clusters of 784 numbers, and measures each order twice, so that the
         second time is free of compilation: the first network on each number of examples, the others on the second.
         `written_out` keeps no factors: the gradient of each example is as large as the parameters.
Prints:  for each: parameters, examples, s_k with its relative residual, products, seconds to compile and to measure,
         processor seconds (which other load on the machine changes less), nanoseconds of these an example, parameter
         and product, the peak memory of the process so far, and the load.
"""

import argparse
import itertools
import os
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import measure
from flatwide.measure.stability import moments

SIZE, CLASSES, STEPS, RATE = 784, 10, 30, 0.05


def made_data(num_examples: int) -> dict:
    """Make noisy clusters, one for each class, without negative numbers."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((CLASSES, SIZE))
    targets = generator.integers(0, CLASSES, num_examples)
    inputs = np.maximum(centers[targets] / 2 + generator.standard_normal((num_examples, SIZE)), 0)
    return {"inputs": jnp.asarray(inputs, jnp.float32), "targets": jnp.asarray(targets)}


def initial(num_neurons: tuple[int, ...]) -> list[dict]:
    """Draw LeCun-normal kernels and zero biases."""
    sizes = [SIZE, *num_neurons, CLASSES]
    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    layers = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [{"kernel": jax.random.normal(k, (a, b)) / a**0.5, "bias": jnp.zeros(b)} for k, a, b in layers]


def outputs(params: list[dict], example: dict) -> jax.Array:
    """Apply the MLP to one example."""
    hidden = example["inputs"]
    for layer in params[:-1]:
        hidden = jax.nn.relu(hidden @ layer["kernel"] + layer["bias"])
    return hidden @ params[-1]["kernel"] + params[-1]["bias"]


def loss(params: list[dict], example: dict) -> jax.Array:
    """Compute the cross-entropy of one example."""
    return -jax.nn.log_softmax(outputs(params, example))[example["targets"]]


@jax.jit
def step(params: list[dict], data: dict) -> list[dict]:
    """Take a step of gradient descent."""
    gradient = jax.grad(lambda params: jnp.mean(jax.vmap(loss, (None, 0))(params, data)))(params)
    return jax.tree.map(lambda at, by: at - RATE * by, params, gradient)


def report(num_neurons: tuple[int, ...], num_examples: int, options: argparse.Namespace) -> None:
    """Measure one network and print its lines."""
    data, params = made_data(num_examples), initial(num_neurons)
    for _ in range(STEPS):
        params = step(params, data)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    shared = {"key": jax.random.key(1), "chunk_size": options.chunk_size or None}
    for order in options.orders:

        def found(order: int = order) -> measure.Moments:
            return measure.hessian_moments(measure.example_problem(loss, params, data), orders=[order], **shared)

        times = [(time.perf_counter(), time.process_time())]
        for _ in range(2):
            result = found()
            times.append((time.perf_counter(), time.process_time()))
        (first, _), (second, cpu) = (np.subtract(b, a) for a, b in itertools.pairwise(times))
        products = int(result.num_products[0])
        print(
            f"{num_neurons} P={size:,} n={num_examples:,}  s_{order}={result.non_uniformity[0]:.4f} "
            f"(residual {result.residuals[0, 0] / abs(result.largest[0]):.0e}, {products} products)  "
            f"compile {first - second:.1f} s, measure {second:.2f} s, processor {cpu:.2f} s = "
            f"{1e9 * cpu / products / size / num_examples:.2f} ns; "
            f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_neurons", nargs="+", default=["300,100", "75,25", "1200,400"])
    parser.add_argument("--examples", nargs="+", type=int, default=[250, 1000, 4000])
    parser.add_argument("--orders", nargs="+", type=int, default=[2, 3, 4])
    parser.add_argument("--chunk_size", type=int, default=0)
    parser.add_argument("--written_out", action="store_true")
    options = parser.parse_args()
    if options.written_out:
        moments._whole = lambda problem: (False,) * len(jax.tree.leaves(problem.params))
    networks = [tuple(map(int, sizes.split(","))) for sizes in options.num_neurons]
    for num_examples in options.examples:
        report(networks[0], num_examples, options)
    for num_neurons in networks[1:]:
        report(num_neurons, options.examples[min(1, len(options.examples) - 1)], options)


if __name__ == "__main__":
    main()
