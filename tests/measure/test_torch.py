"""PyTorch modules against their dense Hessians in 64 bits, from finite differences of PyTorch's gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import measure

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),  # by PyTorch's own import of torch.func
]

nn, functional = torch.nn, torch.nn.functional


class Residual(nn.Module):
    def __init__(self, width, dtype):
        super().__init__()
        make = {"dtype": dtype}
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False, **make)
        self.first_norm = nn.BatchNorm2d(width, **make)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False, **make)
        self.second_norm = nn.BatchNorm2d(width, **make)

    def forward(self, x):
        inner = functional.silu(self.first_norm(self.first(x)))
        return functional.silu(x + self.second_norm(self.second(inner)))


def resnet(dtype):
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, dtype=dtype),
        Residual(3, dtype),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 4, dtype=dtype),
    )


class Transformer(nn.Module):
    """One block of attention, with an embedding that is also the output layer."""

    def __init__(self, dtype):
        super().__init__()
        self.embedding = nn.Embedding(5, 4, dtype=dtype)
        self.block = nn.TransformerEncoderLayer(
            4, 2, 6, dropout=0.3, activation="gelu", batch_first=True, norm_first=True, dtype=dtype
        )
        self.output = nn.Linear(4, 5, bias=False, dtype=dtype)
        self.output.weight = self.embedding.weight

    def forward(self, words):
        return self.output(self.block(self.embedding(words)).mean(dim=1))


def loss_fn(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1])


def problem(kind, dtype=torch.float64):
    torch.manual_seed(0)
    if kind == "resnet":
        module, inputs = resnet(dtype), torch.randn(10, 1, 5, 5, dtype=dtype)
        module(inputs + 0.5)  # running averages unlike those of the data
    else:
        module, inputs = Transformer(dtype), torch.randint(0, 5, (10, 6))
    return module.eval(), (inputs, torch.randint(0, 4, (10,)))


def dense(module, batch, step=1e-5):
    """Compute the Hessian by finite differences, over the parameters in the order of JAX's leaves, and the gradient.

    PyTorch's forward over reverse is no oracle: version 2.13 computes an asymmetric Hessian for a layer norm.
    """
    named = dict(module.named_parameters())
    parameters = [named[name] for name in sorted(named, key=lambda name: name.split("."))]

    def slope():
        slopes = torch.autograd.grad(loss_fn(module, batch), parameters)
        return torch.cat([slope.reshape(-1) for slope in slopes]).numpy()

    columns = []
    for entries in [parameter.data.view(-1) for parameter in parameters]:
        for index in range(len(entries)):
            before = entries[index].item()
            ends = []
            for sign in (1, -1):
                entries[index] = before + sign * step
                ends.append(slope())
            entries[index] = before
            columns.append((ends[0] - ends[1]) / (2 * step))
    matrix = np.array(columns)
    return (matrix + matrix.T) / 2, slope()


@pytest.mark.parametrize("kind", ["resnet", "transformer"])
def test_a_module_agrees_with_its_dense_hessian(kind, float64):
    module, batch = problem(kind)
    truth, slope = dense(module, batch)
    values, size = np.linalg.eigvalsh(truth), abs(truth).max()
    operator = measure.torch.operator(module, loss_fn, batch)
    assert operator.size == len(truth)
    rows = [jax.flatten_util.ravel_pytree(operator(unit))[0] for unit in units(operator.params)]
    assert_allclose(np.stack(rows), truth[:5], atol=1e-8 * size)
    top = measure.top_eigenvalues(operator, 3, key=0, which="largest", tolerance=1e-6)
    assert_allclose(top.values, values[::-1][:3], rtol=1e-7)
    trace = measure.trace(operator, key=0)
    assert abs(trace.value - np.trace(truth)) < 4 * trace.standard_error < 0.4 * np.trace(truth)
    density = measure.spectral_density(operator, key=0, num_steps=20)
    assert density.nodes.max() == pytest.approx(values[-1], rel=1e-3)
    loss, params = measure.torch.loss(module, loss_fn, batch), measure.torch.parameters(module)
    names = [name for path, leaf in jax.tree_util.tree_leaves_with_path(params) for name in [path_of(path)] * leaf.size]
    groups = {"first": "0/*", "rest": ["1/*", "4/*"]} if kind == "resnet" else {"attention": "block/self_attn/*"}
    measured = measure.layers(measure.problem(loss, params), key=0, rho=0.05, groups=groups, num_steps=3)
    for name, layer in measured.layers.items():
        beginnings = {"first": ("0/",), "rest": ("1/", "4/"), "attention": ("block/self_attn/",)}[name]
        indices = [index for index, leaf_name in enumerate(names) if leaf_name.startswith(beginnings)]
        block = truth[np.ix_(indices, indices)]
        assert layer.top_eigenvalue == pytest.approx(np.linalg.eigvalsh(block)[-1], rel=1e-6)
        assert abs(layer.trace.value - np.trace(block)) < 4 * layer.trace.standard_error
        assert layer.ascent_share == pytest.approx(np.sum(slope[indices] ** 2) / np.sum(slope**2), rel=1e-9)


def path_of(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")


def units(params, number=5):
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    return [unflatten(jnp.zeros_like(flat).at[index].set(1)) for index in range(number)]


def test_values_along_sams_step_and_a_line_are_those_of_the_module(float64):
    module, batch = problem("resnet")
    loss, params = measure.torch.loss(module, loss_fn, batch), measure.torch.parameters(module)
    sam = measure.sharpness(measure.problem(loss, params), rho=0.1, kind="sam")
    with torch.no_grad():
        before = loss_fn(module, batch)
    slopes = torch.autograd.grad(loss_fn(module, batch), list(module.parameters()))
    norm = torch.sqrt(sum((slope**2).sum() for slope in slopes))
    with torch.no_grad():
        for parameter, slope in zip(module.parameters(), slopes, strict=True):
            parameter += 0.1 * slope / norm
        after = loss_fn(module, batch)
    assert sam.loss == pytest.approx(float(before), rel=1e-12)
    assert sam.value == pytest.approx(float(after - before), rel=1e-9)
    # The arrays that were copied before did not change, and those copied now lie at SAM's point.
    now = measure.torch.parameters(module)
    assert measure.barrier(loss, params, now, num_points=3).distance == pytest.approx(0.1, rel=1e-9)
    line = measure.surface(loss, measure.line_through(params, now), [np.array([0.0, 1.0])])
    assert_allclose(line, [float(before), float(after)], rtol=1e-12)
    constants = measure.smoothness_and_pl(measure.problem(loss, params), now, fractions=(1.0,))
    assert constants.losses[-1] == pytest.approx(float(after), rel=1e-12)


def test_single_precision_and_half_agree():
    module, batch = problem("resnet")
    truth = np.linalg.eigvalsh(dense(module, batch)[0])[-1]
    for cast, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        fewer = module.to(cast)
        operator = measure.torch.operator(fewer, loss_fn, (batch[0].to(cast), batch[1]))
        assert {leaf.dtype for leaf in jax.tree.leaves(operator.params)} == {np.dtype(np.float32)}
        if cast == torch.float32:
            top = measure.top_eigenvalues(operator, key=0, which="largest")
            assert top.values[0] == pytest.approx(truth, rel=tolerance)
        else:
            value = measure.torch.loss(fewer, loss_fn, (batch[0].to(cast), batch[1]))(operator.params)
            assert float(value) == pytest.approx(loss_fn(fewer, (batch[0].to(cast), batch[1])).item(), rel=0.02)


class Counting:
    """A loader that counts its passes."""

    def __init__(self, batch):
        self.batch, self.reads = batch, 0

    def __iter__(self):
        self.reads += 1
        for first in (0, 4, 8):
            yield [tensor[first : first + 4] for tensor in self.batch]


def test_a_loader_is_read_once_for_each_product(float64):
    module, batch = problem("resnet")
    loader = Counting(batch)
    operator = measure.torch.operator(module, loss_fn, loader)
    whole = measure.torch.operator(module, loss_fn, batch)
    unit = units(operator.params)[0]
    reads = loader.reads
    assert_allclose(operator(unit)["0"]["weight"], whole(unit)["0"]["weight"], atol=1e-13)
    assert loader.reads == reads + 1
    weighed = measure.torch.loss(module, loss_fn, loader, weigh=lambda batch: float(len(batch[0]) == 2))
    assert float(weighed(operator.params)) == pytest.approx(loss_fn(module, [tensor[8:] for tensor in batch]).item())
    from_function = measure.torch.operator(module, loss_fn, lambda: iter(loader))
    assert_allclose(from_function(unit)["0"]["weight"], whole(unit)["0"]["weight"], atol=1e-13)
    with pytest.raises(ValueError, match="a generator can be read once, and each product"):
        measure.torch.operator(module, loss_fn, iter(loader))


def test_a_loader_that_changes_between_readings_is_refused(float64):
    module, batch = problem("resnet")
    batches = list(Counting(batch))
    passes = iter([batches, batches[:2]])
    loss, params = measure.torch.loss(module, loss_fn, lambda: iter(next(passes))), measure.torch.parameters(module)
    loss(params)
    with pytest.raises(Exception, match=r"batches of total weight 8\.0: expected 10\.0, as in the first reading"):
        jax.block_until_ready(loss(params))


def test_data_are_viewed_and_not_copied():
    seen, x = [], torch.ones(2, 64)

    def watching(module, batch):
        seen.append(batch[0])
        return (module(batch[0]) ** 2).mean()

    module = nn.Linear(64, 64, bias=False).eval()
    loss = measure.torch.loss(module, watching, (x,))
    params = measure.torch.parameters(module)
    loss(params)
    assert seen[-1] is x
    assert loss._tensors(params)[0].data_ptr() == params["weight"].unsafe_buffer_pointer()


def test_frozen_and_unused_and_linear_parameters():
    module = nn.ModuleDict({"used": nn.Linear(3, 1), "unused": nn.Linear(3, 1), "frozen": nn.Linear(3, 1)}).eval()
    module["frozen"].requires_grad_(False)
    operator = measure.torch.operator(module, lambda m, b: m["used"](b).mean(), torch.ones(4, 3))
    assert set(operator.params) == {"used", "unused"}
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(operator(operator.params)))


def test_a_sum_over_examples_warns():
    module, x = nn.Linear(3, 1).eval(), torch.ones(4, 3)
    with pytest.warns(UserWarning, match="looks like a sum over examples"):
        measure.torch.loss(module, lambda m, b: (m(b) ** 2).sum(), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda module, batch: (module.train(), batch), "module in training mode: .* call module.eval"),
        (lambda module, batch: (module, list(batch)), "a list of 2 bare tensors: pass a tuple"),
        (lambda module, batch: (module.requires_grad_(False), batch), "at least one parameter with requires_grad=True"),
        (lambda module, batch: (module, batch), "parameter '0.weight' has 64 bits, but JAX is set to 32"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message):
    module, batch = change(*problem("resnet"))
    with pytest.raises(ValueError, match=message):
        measure.torch.operator(module, loss_fn, batch)
