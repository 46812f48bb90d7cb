"""The paper's stability condition against the exact threshold, simulation and training.

Run:     python benchmarks/stability.py        (some minutes on a CPU)
Prints:  1. for random examples' Hessians of several shapes, batch sizes and rho: the largest stable learning rate,
            exact, above the largest that the condition allows, in percent (median and range over 10 draws), and the
            time of one measurement. At rho = 0 and one example a batch, also SGD's bound 1 / s_2 over the exact rate.
         2. the same gap and the simulated growth on a small network that fits its data.
         3. full-batch normalized SAM on another one: the top eigenvalue late in training over `edge_of_stability`, and
            over 2 / learning_rate, which gradient descent would stop at.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import measure, sam, trees


def hessians(generator, kind, num, size):
    """Draw the Hessians of fitted examples: sums of a few outer products, or full ones."""
    rank = {"one output": 1, "three outputs": 3, "full rank": size}[kind]
    factors = generator.normal(size=(num, size, rank)) / np.sqrt(rank)
    return factors @ factors.transpose(0, 2, 1)


def gaps():
    print("1. exact threshold of the learning rate above the condition's, percent: median (range) of 10 draws")
    generator = np.random.default_rng(0)
    for kind in ("one output", "three outputs", "full rank"):
        for num, size in ((10, 4), (20, 10), (50, 20)):
            drawn = [hessians(generator, kind, num, size) for _ in range(10)]
            for batch_size in (1, 4) if size < 20 else (1,):
                for rho in (0.0, 0.05, 0.2):
                    start = time.perf_counter()
                    options = {"learning_rate": 0.01, "rho": rho, "batch_size": batch_size}
                    thresholds = [measure.stability_of_matrices(matrices, **options) for matrices in drawn]
                    seconds = (time.perf_counter() - start) / len(drawn)
                    gap = 100 * np.array([threshold.gap for threshold in thresholds])
                    line = f"  {kind:13s} n={num} P={size} B={batch_size} rho={rho}: {np.median(gap):5.1f} "
                    line += f"({gap.min():.1f} to {gap.max():.1f})   {seconds:.2f} s each"
                    if rho == 0 and batch_size == 1:
                        shares = [
                            1 / threshold.consequences[1].value / threshold.largest_learning_rate
                            for threshold in thresholds
                        ]
                        line += f"   1 / s_2 is {100 * np.median(shares):.0f} % of the exact"
                    print(line, flush=True)


def network(generator, width, num, num_inputs):
    """Make a tanh network, and data labelled by a copy of it with other weights."""
    inputs = generator.normal(size=(num, num_inputs))

    def draw():
        return {
            "first": jnp.asarray(generator.normal(size=(width, num_inputs)) / np.sqrt(num_inputs)),
            "last": jnp.asarray(generator.normal(size=width) / np.sqrt(width)),
        }

    def output(params, x):
        return params["last"] @ jnp.tanh(params["first"] @ x)

    def loss(params, example):
        return (output(params, example["x"]) - example["y"]) ** 2 / 2

    data = {"x": jnp.asarray(inputs)}
    teacher = draw()
    data["y"] = jax.vmap(lambda x: output(teacher, x))(data["x"])
    return loss, teacher, draw(), data


def fitted_network():
    print("2. a network of width 20 at a minimum that fits all of its 40 examples")
    loss, teacher, _, data = network(np.random.default_rng(1), width=20, num=40, num_inputs=5)
    options = {"rho": 0.05, "key": jax.random.key(0)}
    exact = measure.linear_stability(measure.example_problem(loss, teacher, data), learning_rate=0.1, **options)
    print(f"  {exact.num_curved} of 120 directions are curved; threshold {exact.largest_learning_rate:.4f}, ", end="")
    print(f"condition {exact.condition.largest_learning_rate:.4f}: gap {100 * exact.gap:.1f} %")
    for factor in (0.95, 1.05, 1.2):
        rate = factor * exact.largest_learning_rate
        start = time.perf_counter()
        at = measure.linear_stability(measure.example_problem(loss, teacher, data), learning_rate=rate, **options)
        middle = time.perf_counter()
        simulated = measure.linear_stability(
            measure.example_problem(loss, teacher, data), learning_rate=rate, max_dimension=0, **options
        )
        end = time.perf_counter()
        low, high = simulated.growth_interval
        print(f"  at {factor} of it: growth {at.curved_growth:.4f} exact ({middle - start:.1f} s), ", end="")
        print(f"{simulated.curved_growth:.4f} ({low:.4f} to {high:.4f}) simulated ({end - middle:.1f} s)", flush=True)


def edge():
    print("3. full-batch normalized SAM: top eigenvalue over its edge, and over 2 / learning_rate")
    loss, _, start, data = network(np.random.default_rng(2), width=40, num=50, num_inputs=5)

    def mean_loss(params, batch):
        return jnp.mean(jax.vmap(loss, (None, 0))(params, batch))

    for rate, rho in ((0.5, 0.0), (0.5, 0.02), (0.5, 0.1), (0.25, 0.1)):
        step = sam.value_and_grad(mean_loss, sam.normalized(rho=rho))

        def descend(_, params, step=step, rate=rate):
            return jax.tree.map(lambda weight, slope: weight - rate * slope, params, step(params, data)[1])

        advance = jax.jit(lambda params, descend=descend: jax.lax.fori_loop(0, 100, descend, params))
        params, ratios, plain = start, [], []
        for block in range(100):
            params = advance(params)
            if block < 50:
                continue
            norm = float(trees.norm(jax.grad(mean_loss)(params, data)))
            operator = measure.hessian_operator(measure.problem(mean_loss, params, data))
            top = measure.top_eigenvalues(operator, key=jax.random.key(0), which="largest").values[0]
            ratios.append(top / measure.edge_of_stability(norm, learning_rate=rate, rho=rho))
            plain.append(top * rate / 2)
        low, high = np.quantile(ratios, (0.1, 0.9))
        print(
            f"  learning rate {rate}, rho {rho}: {np.median(ratios):.2f} (80 % within {low:.2f} to {high:.2f}), ",
            end="",
        )
        print(f"over 2 / learning_rate {np.median(plain):.2f}; loss {float(mean_loss(params, data)):.2g}", flush=True)


def main():
    jax.config.update("jax_enable_x64", True)
    gaps()
    fitted_network()
    edge()


if __name__ == "__main__":
    main()
