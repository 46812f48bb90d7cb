"""Curvature of a trained LeNet-300-100 on 1,000 MNIST images: products, leading eigenvalues, trace and density.

Run:     python benchmarks/curvature.py --peer_python=PATH_TO_A_PYTHON_WITH_THE_EXTRA_peers [--data_dir=FOLDER]
Does:    gives all tools the same weights and examples (IDX files in the folder, or synthetic ones); checks each answer
         against float64, and stops where ours is wrong; times all tools in turn, on the same threads, so that other
         load affects all of them. Compilation is not timed, except that ours is printed.
Prints:  (a) a product, and a step of the solver, over the 14 matrix products that remain when the primal pass is
         stored;
         (b) the top eigenvalue and the top five with residuals of at most 1e-4 of it: with all of our default checks,
         with distinct values checked and one check of all, and with that check alone, which is more than any peer
         does; (c) the trace to 2 %, (d) the spectral density from 5 x 50 products: seconds, ratios peer / ours as a
         median with its range, and errors. --only=b runs only (b).
"""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
from harness import ratio
from mnist_epoch import limit_program, seconds

SIZES, EXAMPLES = (784, 300, 100, 10), 1000
PRODUCTS = 14
TOLERANCE = 1e-4
WRONG = "WRONG"
WAYS = {
    "copies ruled out": {},
    "distinct values ruled out, one check": {"rule_out": "distinct", "check": "together"},
    "residuals alone, one check": {"rule_out": "nothing", "check": "together"},
}
SLOW = 5.0  # seconds after which a tool is not run again


def examples(data_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Read the first training images [N, 784] in [0, 1] and labels [N], or generate some."""
    if data_dir is None:
        random = np.random.default_rng(0)
        labels = random.integers(0, 10, EXAMPLES)
        images = random.random((10, 784))[labels] * random.random((EXAMPLES, 784))
        return images.astype(np.float32), labels.astype(np.int32)
    raw = {kind: (Path(data_dir) / f"train-{kind}-ubyte").read_bytes() for kind in ("images-idx3", "labels-idx1")}
    images = np.frombuffer(raw["images-idx3"], np.uint8, EXAMPLES * 784, offset=16).reshape(EXAMPLES, 784)
    labels = np.frombuffer(raw["labels-idx1"], np.uint8, EXAMPLES, offset=8)
    return images / np.float32(255), labels.astype(np.int32)


def loss_fn(params, batch):
    import jax
    import jax.numpy as jnp

    hidden = batch[0]
    for kernel, bias in params[:-1]:
        hidden = jax.nn.relu(hidden @ kernel + bias)
    outputs = jax.nn.log_softmax(hidden @ params[-1][0] + params[-1][1])
    return -jnp.mean(jnp.take_along_axis(outputs, batch[1][:, None], axis=1))


def trained(batch, steps: int):
    """Train weights for some steps of momentum, all examples at once."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), 3)
    pairs = zip(keys, itertools.pairwise(SIZES), strict=True)
    params = [(jax.random.normal(key, pair) * (2 / pair[0]) ** 0.5, jnp.zeros(pair[1])) for key, pair in pairs]

    @jax.jit
    def train(params, batch):
        def step(_, state):
            params, velocity = state
            gradient = jax.grad(loss_fn)(params, batch)
            velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
            return jax.tree.map(lambda w, v: w - 0.05 * v, params, velocity), velocity

        return jax.lax.fori_loop(0, steps, step, (params, jax.tree.map(jnp.zeros_like, params)))[0]

    return train(params, batch)


def true_values(params, batch, k: int) -> np.ndarray:
    """Find leading eigenvalues in float64, by SciPy and a plain product."""
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree
    from scipy.sparse.linalg import LinearOperator, eigsh

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        batch = (jnp.asarray(batch[0], jnp.float64), jnp.asarray(batch[1]))
        flat, unflatten = ravel_pytree(wide)

        @jax.jit
        def product(vector, batch):
            gradient = jax.grad(lambda at: loss_fn(unflatten(at), batch))
            return jax.jvp(gradient, (flat,), (vector,))[1]

        def multiply(vector):
            return np.asarray(product(jnp.asarray(vector, jnp.float64).reshape(-1), batch))

        operator = LinearOperator((flat.size,) * 2, multiply, dtype=np.float64)
        values = eigsh(operator, k=k, tol=1e-10, return_eigenvectors=False)
    return np.sort(values)[::-1]


def true_trace(params, batch) -> float:
    """Sum the diagonal of the Hessian in float64.

    Along one layer's weights a network of ReLUs is piecewise linear, so the diagonal is the Gauss-Newton matrix's:
    (|inputs of the layer|^2 + 1) tr(J' (diag(p) - p p') J), J the derivative of the outputs by the layer's.
    """
    layers = [tuple(np.asarray(leaf, np.float64) for leaf in layer) for layer in params]
    hidden = [np.asarray(batch[0], np.float64)]
    for kernel, bias in layers[:-1]:
        hidden.append(np.maximum(hidden[-1] @ kernel + bias, 0))
    outputs = hidden[-1] @ layers[-1][0] + layers[-1][1]
    shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    total, jacobian = 0.0, np.broadcast_to(np.eye(10), (EXAMPLES, 10, 10))  # [N, unit, output]
    for layer_index in (2, 1, 0):
        spread = np.einsum("nuo,no->nu", jacobian**2, shares) - np.einsum("nuo,no->nu", jacobian, shares) ** 2
        total += float(np.mean((np.sum(hidden[layer_index] ** 2, axis=1) + 1) * spread.sum(axis=1)))
        jacobian = np.einsum("iu,nuo->nio", layers[layer_index][0], jacobian) * (hidden[layer_index] > 0)[:, :, None]
    return total


def products_program(params, batch):
    """Compile the 14 matrix products of a Hessian-vector product whose primal pass is stored."""
    import jax

    keys = iter(jax.random.split(jax.random.key(1), 20))
    first, second, third = (kernel for kernel, _ in params)
    hidden, deeper = (jax.random.normal(next(keys), (EXAMPLES, size)) for size in SIZES[1:3])
    back, back_deeper = (jax.random.normal(next(keys), (EXAMPLES, size)) for size in (10, 100))

    def run(
        first_direction, second_direction, third_direction, inputs, second, third, hidden, deeper, back, back_deeper
    ):
        along = inputs @ first_direction
        along_deeper = along @ second + hidden @ second_direction
        turned = along_deeper @ third + deeper @ third_direction
        turned_deeper = turned @ third.T + back @ third_direction.T
        turned_first = turned_deeper @ second.T + back_deeper @ second_direction.T
        last = along_deeper.T @ back + deeper.T @ turned
        return inputs.T @ turned_first, along.T @ back_deeper + hidden.T @ turned_deeper, last

    directions = [jax.random.normal(next(keys), kernel.shape) for kernel in (first, second, third)]
    arguments = (*directions, batch[0], second, third, hidden, deeper, back, back_deeper)
    return limit_program(run, arguments, PRODUCTS)


def compare_products(operator, limit, torch, repeats: int) -> float:
    """Print a product and a step relative to their matrix products; return the seconds of a product."""
    import jax

    from flatwide.measure.spectrum.lanczos import Basis

    def looped(work, times: int = 10) -> float:
        return seconds(lambda: [work() for _ in range(times)]) / times

    basis = Basis(operator, 40)
    basis.begin_randomly(jax.random.key(2))
    row = basis.combine(np.ones((1, 1)))[0]

    def product():
        jax.block_until_ready(basis.multiply(row))

    def steps() -> float:
        basis.clear()
        basis.begin_randomly(jax.random.key(2))
        return looped(basis.extend, 25)

    product(), limit(), steps()
    blocks = [(looped(limit), looped(product), steps(), torch()) for _ in range(repeats)]
    limits, products, stepped, torch_seconds = zip(*blocks, strict=True)
    print(f"(a) 14 matrix products {1e3 * statistics.median(limits):.2f} ms, a product ", end="")
    print(f"{1e3 * statistics.median(products):.2f} ms, a step of Lanczos {1e3 * statistics.median(stepped):.2f} ms")
    print(f"    product / its matrix products: {ratio(products, limits)}")
    print(f"    step / product (mean of the first 25 steps): {ratio(stepped, products)}")
    print(f"    torch's product (graph kept) / ours: {ratio(torch_seconds, products)}", flush=True)
    return statistics.median(products)


def compare(title: str, compute, peers: dict, check, repeats: int) -> list[float]:
    """Time ours against each tool in turn; answers are checked, and an error is printed instead of a ratio."""
    print(title, flush=True)
    mine, peer_seconds = [], {name: [] for name in peers}
    stopped: dict[str, str] = {}
    answers: dict[str, list] = {name: [] for name in ("flatwide", *peers)}
    for repeat in range(repeats):
        began = time.perf_counter()
        answer = compute(repeat)
        mine.append(time.perf_counter() - began)
        answers["flatwide"].append(answer)
        for name, ask in peers.items():
            if name in stopped:
                continue
            time.sleep(0.3)  # PyTorch's threads spin for a while after their work, on cores that others need
            reply = ask(repeat)
            if "error" in reply:
                stopped[name] = reply["error"]
                continue
            peer_seconds[name].append(reply["seconds"])
            answers[name].append(reply)
            if reply["seconds"] > SLOW:
                stopped[name] = "slow: run once"
        time.sleep(0.3)
    verdict = check(answers["flatwide"])
    if verdict.startswith(WRONG):
        raise SystemExit(f"flatwide: {verdict}")
    print(f"    flatwide: {statistics.median(mine):.3f} s; {verdict}")
    for name, times in peer_seconds.items():
        if not times:
            print(f"    {name}: fails, {stopped[name]}")
            continue
        speed = f"{ratio(times, mine[: len(times)])} times as long"
        print(f"    {name}: {statistics.median(times):.3f} s, {speed}; {check(answers[name])}", flush=True)
    return mine


def check_eigenvalues(true: np.ndarray):
    def check(replies: list[dict]) -> str:
        k = len(replies[0]["values"])
        error = max(np.max(np.abs(np.array(reply["values"]) - true[:k])) for reply in replies) / true[0]
        residual = max(reply["residual"] for reply in replies) / true[0]
        if error <= TOLERANCE and residual <= TOLERANCE:
            return f"right: error {error:.0e}, residual {residual:.0e}"
        shown = ", ".join(f"{value:.4f}" for value in replies[0]["values"])
        kind = WRONG if error > TOLERANCE else "residual too large"
        return f"{kind}: {shown}, error {error:.0e}, residual {residual:.0e}"

    return check


def check_trace(true: float, limit: float):
    def check(replies: list[dict]) -> str:
        errors = np.array([reply["values"][0] for reply in replies]) / true - 1
        size = 100 * np.sqrt(np.mean(errors**2))
        return f"{WRONG + ': ' if size > limit else ''}root mean square error {size:.1f} % of {len(errors)}"

    return check


def ask(peer: harness.Peer, task: str, tool: str, number: int) -> Callable[[int], dict]:
    return lambda seed: json.loads(peer.ask(f"{task} {tool} {number} {seed}"))


def main() -> None:
    parser = harness.arguments(__doc__, repeats=7)
    parser.add_argument("--data_dir")
    parser.add_argument("--train_steps", type=int, default=100)
    parser.add_argument("--only", default="abcd", help="the parts to run, such as bc")
    flags = parser.parse_args()
    header = harness.start(flags)

    import jax
    import jax.numpy as jnp

    from flatwide import measure

    batch = tuple(map(jnp.asarray, examples(flags.data_dir)))
    params = trained(batch, flags.train_steps)
    values, total = true_values(params, batch, 8), true_trace(params, batch)
    with tempfile.TemporaryDirectory() as directory:
        start = str(Path(directory) / "start.npz")
        layers = {f"kernel_{i}": kernel for i, (kernel, _) in enumerate(params)}
        layers |= {f"bias_{i}": bias for i, (_, bias) in enumerate(params)}
        np.savez(start, inputs=batch[0], labels=batch[1], **layers)
        torch = harness.Peer(flags, "torch_curvature.py", start)
        matfree = harness.Peer(flags, "matfree_curvature.py", start)

    print(f"{header}, {torch.versions}, {matfree.versions}")
    data = "MNIST" if flags.data_dir else "synthetic data"
    print(f"{data}, loss {loss_fn(params, batch):.3f} after {flags.train_steps} steps; {flags.repeats} blocks")
    print(f"float64: eigenvalues {', '.join(f'{value:.4f}' for value in values)}; trace {total:.3f}")

    operator = measure.hessian_operator(measure.problem(loss_fn, params, batch))
    limit = products_program(params, batch)
    torch_product = ask(torch, "product", "-", 10)
    product = compare_products(operator, limit, lambda: torch_product(0)["seconds"], flags.repeats)

    for k, steps in ((1, 8), (5, 10)) if "b" in flags.only else ():
        peers = {name: ask(torch, "top", name, k) for name in ("scipy", "curvlinops", "pyhessian", "eigenthings")}
        while True:  # matfree has no test of its own: as many products as it takes
            reply = ask(matfree, "top", f"{k}/{steps}", 0)(0)
            if reply["residual"] <= TOLERANCE * values[0]:
                break
            steps += 1
        peers[f"matfree, {steps} products"] = ask(matfree, "top", f"{k}/{steps}", 0)
        for label, options in WAYS.items():
            counts: list[int] = []

            def top(repeat: int, k: int = k, counts: list[int] = counts, options: dict = options) -> dict:
                eigenvalues = measure.top_eigenvalues(operator, k, key=jax.random.key(repeat), **options)
                counts.append(eigenvalues.num_products)
                return {"values": eigenvalues.values.tolist(), "residual": float(eigenvalues.residuals.max())}

            compiling = seconds(lambda top=top: top(0))
            counts.clear()
            mine = compare(f"(b) top {k}, {label}", top, peers, check_eigenvalues(values), flags.repeats)
            products = statistics.median(counts)
            outside = statistics.median(mine) - products * product
            print(f"    flatwide: {products:.0f} products; {outside:.3f} s outside of them; first call {compiling:.1f}")
            peers = {name: peer for name, peer in peers.items() if name.startswith(("scipy", "curvlinops", "matfree"))}

    if "c" in flags.only:
        compare_traces(operator, total, torch, matfree, flags.repeats, product)
    if "d" in flags.only:
        compare_densities(operator, total, torch, matfree, flags.repeats, product)


def compare_traces(operator, total: float, torch, matfree, repeats: int, product: float) -> None:
    """Compare traces."""
    import jax

    from flatwide import measure

    def trace(repeat: int) -> dict:
        return {"values": [measure.trace(operator, key=jax.random.key(repeat)).value]}

    compiling = seconds(lambda: trace(0))
    peers = {
        "curvlinops, 45 Hutch++": ask(torch, "trace", "curvlinops/hutchpp_trace", 45),
        "curvlinops, 44 XTrace": ask(torch, "trace", "curvlinops/xtrace", 44),
        "pyhessian, 150 Hutchinson": ask(torch, "trace", "pyhessian", 150),
        "eigenthings, 45 Hutch++": ask(torch, "trace", "eigenthings/hutch++", 45),
        "matfree, 150 Hutchinson": ask(matfree, "trace", "hutchinson", 150),
        "matfree, 44 XTrace": ask(matfree, "trace", "xtrace", 22),
    }
    peers["matfree, 150 Hutchinson"](0), peers["matfree, 44 XTrace"](0)
    mine = compare("(c) trace, 35 products of ours", trace, peers, check_trace(total, 5), repeats)
    outside = statistics.median(mine) - 35 * product
    print(f"    flatwide: {outside:.3f} s outside of the products; first call {compiling:.1f} s")


def compare_densities(operator, total: float, torch, matfree, repeats: int, product: float) -> None:
    """Compare spectral densities."""
    import jax

    from flatwide import measure

    def density(repeat: int) -> dict:
        spectrum = measure.spectral_density(operator, key=jax.random.key(repeat))
        return {"values": [spectrum.moment(1).value * operator.size]}

    compiling = seconds(lambda: density(0))
    peers = {name: ask(torch, "density", name, 50) for name in ("curvlinops", "pyhessian", "eigenthings")}
    peers["matfree"] = ask(matfree, "density", "-", 50)
    peers["matfree"](0)
    title = "(d) density, 5 x 50 products (error: of its mean)"
    mine = compare(title, density, peers, check_trace(total, 50), max(2, repeats // 2))
    outside = statistics.median(mine) - 250 * product
    print(f"    flatwide: {outside:.3f} s outside of the products; first call {compiling:.1f} s")


if __name__ == "__main__":
    main()
