"""The loss of a PyTorch module as a function that JAX differentiates twice, evaluated by PyTorch.

PyTorch is imported when it is used; `pip install flatwide[torch]` installs it.
"""

import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.measure import batching, host, inputs
from flatwide.measure.operators import Operator, hessian_operator
from flatwide.types import Array, PyTree


def operator(
    module: Any,
    loss_fn: Callable[[Any, Any], Any],
    batches: Any,
    *,
    mask: PyTree | None = None,
    weigh: Callable[[Any], float] | None = None,
) -> Operator:
    """Return the Hessian of the mean loss of a PyTorch module over a data set, for all solvers of `flatwide.measure`.

    Args:
      module, loss_fn, batches, weigh: as for `loss`.
      mask: booleans that broadcast to the leaves of `parameters(module)`, True for weights that are kept.
    Returns: an operator at the module's current weights, in units of loss per squared unit of parameter; further
      training does not change it.
    Raises: ValueError as `loss` and `hessian_operator`.
    Equation: H v = d/dw <grad L(w), v>, by double backward.
    Cost: each product is 1 Hessian-vector product: a forward and three backward passes.
    Source: Pearlmutter (1994), Fast exact multiplication by the Hessian.
    """
    return hessian_operator(inputs.problem(loss(module, loss_fn, batches, weigh=weigh), parameters(module), mask=mask))


def parameters(module: Any) -> PyTree:
    """Copy the parameters of a module that require a gradient to JAX arrays, nested by the parts of their names.

    16-bit numbers are converted to 32 bits. The arrays are copies, since PyTorch trains in place and JAX arrays are
    immutable.

    Args:
      module: a `torch.nn.Module` on any device.
    Returns: nested dicts of arrays in the shapes of PyTorch.
    Raises: ValueError for no parameter, or 64 bits if JAX is set to 32.
    """
    named = {}
    for name, parameter in _trained(module).items():
        if parameter.dtype == _torch().float64 and jnp.result_type(float) != np.float64:
            raise ValueError(
                f"parameter {name!r} has 64 bits, but JAX is set to 32: call jax.config.update('jax_enable_x64', True) "
                "at the start, or module.float()."
            )
        copied = parameter.detach().to("cpu", _wide(parameter.dtype), copy=True)
        named[name] = jnp.from_dlpack(copied.contiguous())
    return _nested(named)


def loss(
    module: Any,
    loss_fn: Callable[[Any, Any], Any],
    batches: Any,
    *,
    weigh: Callable[[Any], float] | None = None,
) -> Callable[[PyTree], Array]:
    """Return the mean loss of a PyTorch module as a function of its parameters that JAX can differentiate twice.

    Args:
      module: a `torch.nn.Module` in evaluation mode, on any device. Buffers, such as batch-norm averages, have their
        current values at each call; parameters come from the argument of the result.
      loss_fn: (module, batch) -> mean loss of the batch, a scalar tensor.
      batches: one batch of tensors (a tensor, tuple or dict), a list of them, or a loader that can be read again, such
        as a `DataLoader`, or a function that returns an iterator. A loader or function is read for each value, gradient
        and product, so that data need not fit in memory, and must yield the same examples each time, in any order. The
        leading axis of each tensor is that of the examples.
      weigh: batch -> weight of its mean, such as its number of tokens; None for its number of examples.
    Returns: loss(params) with params like `parameters(module)`. Pass it to `measure.problem`, `surface` or `barrier`
      without batches. It works for measurements of the mean loss, but not for those of the
      losses of single examples, such as `hessian_moments`.
    Raises: ValueError for a module in training mode, no trainable parameter, a list of bare tensors, or an iterator,
      which can be read only once. The loss raises one if the total weight differs from that of the first reading.
    Warns: UserWarning if the loss looks like a sum over its examples instead of a mean.
    Equation: sum_b w_b L_b(params) / sum_b w_b, with w_b the examples of batch b.
    Cost: a value is a forward pass; its gradient adds a backward pass.
    """
    batching.check_can_be_read_again(batches)
    torch = _torch()
    if any(part.training for part in module.modules()):
        raise ValueError("module in training mode: dropout and batch norm would vary; call module.eval() first.")
    if batching.is_list_of_arrays(batches):
        raise ValueError(
            f"batches: a list of {len(batches)} bare tensors: pass a tuple (x, y) or a dict for one batch, "
            "or a list of such batches."
        )
    if not isinstance(batches, list) and not batching.is_loader(batches):
        batches = [batches]

    class Bound(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, batch: Any) -> Any:
            return loss_fn(self.module, batch)

    if weigh is None and isinstance(batches, list) and batches:
        _warn_of_sum(module, loss_fn, batches[0])
    trained = _trained(module)
    names = tuple(jax.tree.leaves(_nested({name: name for name in trained})))
    return _Loss(
        bound=Bound().eval(),
        names=names,
        dtypes=tuple(trained[name].dtype for name in names),
        device=trained[names[0]].device,
        batches=batches,
        weigh=weigh or batching.num_examples,
    )


@dataclass(frozen=True, eq=False)
class _Loss:
    """The mean loss; the functions below define its derivatives for JAX."""

    bound: Any  # the module with its loss, a module of batches
    names: tuple[str, ...]  # of the parameters, in the order of the leaves
    dtypes: tuple[Any, ...]
    device: Any
    batches: Any  # a list, a loader, or a function that returns an iterator
    weigh: Callable[[Any], float]
    first_totals: list[float] = field(default_factory=list)  # at most one: the weight of the first reading

    def __call__(self, params: PyTree) -> Array:
        """Compute the mean loss."""
        return _value(self, params)

    def value(self, params: PyTree) -> np.ndarray:
        torch = _torch()
        with torch.no_grad():
            return _numpy(self._mean(params, lambda batch_loss, _: [batch_loss])[0])

    def value_and_gradient(self, params: PyTree) -> tuple[np.ndarray, list[np.ndarray]]:
        torch = _torch()

        def both(batch_loss: Any, weights: list) -> list:
            return [
                batch_loss.detach(),
                *torch.autograd.grad(batch_loss, weights, allow_unused=True, materialize_grads=True),
            ]

        value, *gradient = self._mean(params, both)
        return _numpy(value), [_numpy(leaf) for leaf in gradient]

    def product(self, params: PyTree, vector: PyTree) -> list[np.ndarray]:
        torch = _torch()
        vectors = self._tensors(vector)

        def product(batch_loss: Any, weights: list) -> list:
            options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
            slopes = torch.autograd.grad(batch_loss, weights, create_graph=True, **options)
            # The slope along a parameter in which the loss is linear has no graph, and contributes nothing.
            bent = [(slope, v) for slope, v in zip(slopes, vectors, strict=True) if slope.requires_grad]
            if not bent:
                return [torch.zeros_like(weight) for weight in weights]
            outputs, along = zip(*bent, strict=True)
            return list(torch.autograd.grad(outputs, weights, along, **options))

        return [_numpy(leaf) for leaf in self._mean(params, product)]

    def _mean(self, params: PyTree, function: Callable[[Any, list], Sequence[Any]]) -> list:
        """Compute the weighted mean of function(loss of the batch, parameters) over the batches."""
        torch = _torch()
        weights = self._tensors(params)
        named = {f"module.{name}": weight for name, weight in zip(self.names, weights, strict=True)}
        totals, total = None, 0.0
        # Only the plain implementation of attention can be differentiated twice.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            for batch in batching.read(self.batches):
                share = float(self.weigh(batch))
                for weight in weights:
                    weight.requires_grad_()
                parts = function(torch.func.functional_call(self.bound, named, (batch,)), weights)
                parts = [share * part.to(_wide(part.dtype)) for part in parts]
                totals = parts if totals is None else [a.add_(b) for a, b in zip(totals, parts, strict=True)]
                total += share
        if totals is None or not 0 < total < math.inf:
            raise ValueError(f"batches of total weight {total}: expected examples; a loader must be readable again.")
        first = self.first_totals[0] if self.first_totals else total
        # A loader whose passes share an iterator, or that draws examples at random, would be wrong silently.
        if not math.isclose(total, first, rel_tol=1e-6):  # weights may be sums in 32 bits
            raise ValueError(
                f"batches of total weight {total}: expected {first}, as in the first reading; a loader must yield the "
                "same examples each time."
            )
        self.first_totals[:] = [first]
        return [leaf.div_(total) for leaf in totals]

    def _tensors(self, tree: PyTree) -> list:
        """Convert arrays to tensors, with a copy only for another device or type."""
        torch = _torch()
        leaves = zip(jax.tree.leaves(tree), self.dtypes, strict=True)
        return [torch.from_dlpack(leaf).to(self.device, dtype) for leaf, dtype in leaves]


def _warn_of_sum(module: Any, loss_fn: Callable[[Any, Any], Any], batch: Any) -> None:
    torch = _torch()
    few = jax.tree.map(lambda leaf: leaf[:2], batch)
    try:
        with torch.no_grad():
            once, twice = (
                float(loss_fn(module, examples))
                for examples in (few, jax.tree.map(lambda leaf: torch.cat([leaf, leaf]), few))
            )
    except (RuntimeError, TypeError, ValueError, LookupError):  # a loss for a fixed batch size
        return
    inputs.warn_of_sum(once, twice)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value(loss: _Loss, params: PyTree) -> Array:
    return host.call(loss.value, _scalar(params), params)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value_and_gradient(loss: _Loss, params: PyTree) -> tuple[Array, PyTree]:
    value, leaves = host.call(loss.value_and_gradient, (_scalar(params), jax.tree.leaves(params)), params)
    return value, jax.tree.unflatten(jax.tree.structure(params), leaves)


@_value.defjvp
def _value_jvp(loss: _Loss, primals: tuple[PyTree], tangents: tuple[PyTree]) -> tuple[Array, Array]:
    value, gradient = _value_and_gradient(loss, *primals)
    return value, _dot(gradient, *tangents)


@_value_and_gradient.defjvp
def _value_and_gradient_jvp(loss: _Loss, primals: tuple[PyTree], tangents: tuple[PyTree]) -> tuple[tuple, tuple]:
    value, gradient = _value_and_gradient(loss, *primals)
    leaves = host.call(loss.product, jax.tree.leaves(gradient), *primals, *tangents)
    return (value, gradient), (_dot(gradient, *tangents), jax.tree.unflatten(jax.tree.structure(gradient), leaves))


def _scalar(params: PyTree) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((), jax.tree.leaves(params)[0].dtype)


def _dot(a: PyTree, b: PyTree) -> Array:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)), start=jnp.zeros((), jax.tree.leaves(a)[0].dtype))


def _trained(module: Any) -> dict[str, Any]:
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not trained:
        raise ValueError("module: expected at least one parameter with requires_grad=True.")
    return trained


def _nested(named: Mapping[str, Any]) -> dict[str, Any]:
    """Nest by the parts of the names: `layer1.0.weight` becomes ["layer1"]["0"]["weight"]."""
    nested: dict[str, Any] = {}
    for name, value in named.items():
        *parents, last = name.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return nested


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _wide(dtype: Any) -> Any:
    """Return the type for measurements of a type: itself, or 32 bits if it is narrower."""
    return dtype if dtype.itemsize >= inputs.FEWEST_BYTES else _torch().float32


def _torch() -> ModuleType:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ImportError("PyTorch is not installed: expected `pip install flatwide[torch]`.") from error
