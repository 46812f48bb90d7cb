"""PyTorch's tools for curvature: reads `TASK TOOL SIZE SEED` lines, answers with JSON; compare benchmarks/curvature.py.

Started as: torch_curvature.py START.npz (inputs, labels, and kernel_i [in, out] and bias_i of each layer).
Answers: {"seconds", "values", "residual"}, or {"error"} with the tool's own message.
"""

import json
import os
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

start = np.load(sys.argv[1])
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
warnings.filterwarnings("ignore")
TOLERANCE = 1e-4

inputs, labels = torch.tensor(start["inputs"]), torch.tensor(start["labels"], dtype=torch.int64)
layers = []
for index in range(3):
    kernel = torch.tensor(start[f"kernel_{index}"])
    layer = torch.nn.Linear(*kernel.shape)
    layer.weight.data, layer.bias.data = kernel.T.contiguous(), torch.tensor(start[f"bias_{index}"])
    layers += [layer, torch.nn.ReLU()]
model, criterion = torch.nn.Sequential(*layers[:-1]), torch.nn.CrossEntropyLoss()
params = list(model.parameters())
size = sum(param.numel() for param in params)


class Product:
    """The Hessian-vector product written out: the graph of the gradient is built once."""

    def __init__(self):
        loss = criterion(model(inputs), labels)
        self.gradient = torch.autograd.grad(loss, params, create_graph=True)

    def __call__(self, vector) -> np.ndarray:
        pieces = torch.as_tensor(np.asarray(vector, np.float32).reshape(-1)).split([param.numel() for param in params])
        directions = [piece.reshape(param.shape) for piece, param in zip(pieces, params, strict=True)]
        products = torch.autograd.grad(self.gradient, params, grad_outputs=directions, retain_graph=True)
        return torch.cat([product.reshape(-1) for product in products]).numpy()


def curvlinops_operator():
    from curvlinops import HessianLinearOperator

    # Its check takes two gradients and two products, which no other tool takes.
    return HessianLinearOperator(model, criterion, params, [(inputs, labels)], check_deterministic=False)


def eigenthings_operator():
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(model, [(inputs, labels)], supervised_loss(criterion))


def pyhessian():
    from pyhessian import hessian

    return hessian(model, criterion, data=(inputs, labels), cuda=False)


def start_vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def top(tool: str, k: int, seed: int):
    if tool == "scipy":
        operator = LinearOperator((size, size), Product(), dtype=np.float32)
        return eigsh(operator, k=k, tol=TOLERANCE, v0=start_vector(seed))
    if tool == "curvlinops":
        operator = curvlinops_operator().to_scipy(dtype=np.float32)
        return eigsh(operator, k=k, tol=TOLERANCE, v0=start_vector(seed))
    if tool == "pyhessian":
        values, vectors = pyhessian().eigenvalues(maxIter=1000, tol=TOLERANCE, top_n=k)
        return np.array(values), np.stack(
            [torch.cat([v.reshape(-1) for v in vector]).numpy() for vector in vectors], axis=1
        )
    from hessian_eigenthings import lanczos

    result = lanczos(eigenthings_operator(), k=k, max_iter=60 if k == 1 else 100, tol=TOLERANCE, seed=seed)
    return result.eigenvalues.numpy(), result.eigenvectors.numpy().T


def trace(tool: str, probes: int, seed: int) -> float:
    torch.manual_seed(seed)
    name, _, method = tool.partition("/")
    if name == "curvlinops":
        import curvlinops

        return float(getattr(curvlinops, method)(curvlinops_operator(), probes))
    if name == "pyhessian":
        return float(np.mean(pyhessian().trace(maxIter=probes, tol=0.0)))
    import hessian_eigenthings

    return hessian_eigenthings.trace(eigenthings_operator(), num_matvecs=probes, method=method, seed=seed).estimate


def density(tool: str, steps: int, seed: int) -> float:
    """Compute n times the mean of the density: the trace."""
    torch.manual_seed(seed)
    if tool == "curvlinops":
        from curvlinops.papyan2020traces.spectrum import LanczosApproximateSpectrumCached

        approximation = LanczosApproximateSpectrumCached(curvlinops_operator(), steps)
        grid, values = approximation.approximate_spectrum(num_repeats=5, margin=0.2)
        return size * float((grid * values).sum() / values.sum())
    if tool == "pyhessian":
        grid, weights = pyhessian().density(iter=steps, n_v=5)
        return size * float(np.mean(np.sum(np.array(grid) * np.array(weights), axis=1)))
    from hessian_eigenthings import spectral_density

    spectrum = spectral_density(
        eigenthings_operator(), num_runs=5, lanczos_steps=steps, num_grid_points=1024, seed=seed
    )
    return size * float((spectrum.grid * spectrum.density).sum() / spectrum.density.sum())


def answer(task: str, tool: str, number: int, seed: int) -> dict:
    began = time.perf_counter()
    if task == "product":
        product, vector = Product(), start_vector(seed)
        product(vector)
        began = time.perf_counter()
        for _ in range(number):
            product(vector)
        return {"seconds": (time.perf_counter() - began) / number}
    if task != "top":
        value = {"trace": trace, "density": density}[task](tool, number, seed)
        return {"seconds": time.perf_counter() - began, "values": [value]}
    values, vectors = top(tool, number, seed)
    seconds = time.perf_counter() - began
    product = Product()
    units = [vector / np.linalg.norm(vector) for vector in vectors.T]
    residuals = [np.linalg.norm(product(unit) - value * unit) for value, unit in zip(values, units, strict=True)]
    values = sorted(map(float, values), reverse=True)
    return {"seconds": seconds, "values": values, "residual": float(max(residuals))}


names = ["torch", "scipy", "curvlinops-for-pytorch", "PyHessian", "hessian-eigenthings"]
print(", ".join(f"{name} {version(name)}" for name in names), flush=True)
for line in sys.stdin:
    task, tool, number, seed = line.split()
    try:
        reply = answer(task, tool, int(number), int(seed))
    except Exception as error:  # a tool's failure is a result
        reply = {"error": f"{type(error).__name__}: {error}"[:200]}
    print(json.dumps(reply), flush=True)
