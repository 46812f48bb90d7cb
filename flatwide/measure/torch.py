"""Measure a PyTorch module: its loss as a function that JAX differentiates twice, with PyTorch doing the work.

PyTorch is imported where it is used; `pip install flatwide[torch]` brings it.
"""

import functools
import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.measure import batches as data
from flatwide.measure import host, inputs
from flatwide.measure.operators import Operator, hessian_operator
from flatwide.types import Array, PyTree

_FEWEST_BYTES = 4  # of a number that is measured; what is narrower is measured as 32 bits


def operator(
    module: Any,
    loss_fn: Callable[[Any, Any], Any],
    batches: Any,
    *,
    mask: PyTree | None = None,
    weigh: Callable[[Any], float] | None = None,
) -> Operator:
    """Make the Hessian of the mean loss of a PyTorch module over a data set, for every solver of `flatwide.measure`.

    Args:
      module, loss_fn, batches, weigh: as for `loss`.
      mask: booleans that broadcast to the leaves of `parameters(module)`, True for weights that are kept.
    Returns: an operator at the module's weights as they are now; training on does not move it.
    Raises: ValueError as `loss` and `hessian_operator`.
    Equation: H v = d/dw <grad L(w), v>, by backward twice.
    Cost: of a product, 1 Hessian-vector product: a forward and three backward passes.
    Source: Pearlmutter (1994), Fast exact multiplication by the Hessian.
    """
    return hessian_operator(loss(module, loss_fn, batches, weigh=weigh), parameters(module), mask=mask)


def parameters(module: Any) -> PyTree:
    """Copy the parameters of a module that require a gradient: nested dicts by the parts of their names, as arrays.

    Numbers of 16 bits become 32. It is a copy, since PyTorch trains in place and arrays of JAX never change.

    Raises: ValueError for no parameter, or 64 bits where JAX has 32.
    """
    named = {}
    for name, parameter in _trained(module).items():
        if parameter.dtype == _torch().float64 and jnp.result_type(float) != np.float64:
            raise ValueError(
                f"parameter {name!r} has 64 bits, and JAX has 32: call jax.config.update('jax_enable_x64', True) at "
                "the start, or module.float()."
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
    """Make the mean loss of a PyTorch module a function of its parameters that JAX can differentiate twice.

    Args:
      module: a `torch.nn.Module` in evaluation mode, on any device. Buffers, such as batch-norm averages, are read as
        they are at each call; parameters come from the argument of the result.
      loss_fn: (module, batch) -> mean loss of the batch, a scalar tensor.
      batches: one batch of tensors (a tensor, tuple or dict), a list of them, or a loader that can be read again, such
        as a `DataLoader`: it is read anew for each value, gradient and product, so that data need not fit in memory,
        and must give the same examples each time, in any order. A leading axis of examples throughout.
      weigh: batch -> weight of its mean, such as its number of tokens; None for its number of examples.
    Returns: loss(params) with params like `parameters(module)`. Hand it to `sharpness`, `layers`, `surface`, `barrier`
      or `smoothness_and_pl` without batches. It serves what takes a loss of all examples; not what takes the
      loss of single examples, as `hessian_moments` does.
    Raises: ValueError for a module in training mode, no parameter to train, or a list of bare tensors.
    Warns: UserWarning where the loss looks like a sum over its examples instead of a mean.
    Equation: sum_b w_b L_b(params) / sum_b w_b, with w_b the examples of batch b.
    Cost: a value is a forward pass; a gradient beside it a backward pass.
    """
    torch = _torch()
    if any(part.training for part in module.modules()):
        raise ValueError("module in training mode: expected dropout and batch norm at rest; call module.eval() before.")
    if data.is_list_of_arrays(batches):
        raise ValueError(
            f"batches: a list of {len(batches)} bare tensors: write a tuple (x, y) or a dict for one batch, "
            "or a list of several such."
        )
    if isinstance(batches, Iterator):
        batches = list(batches)
    elif not isinstance(batches, list) and not data.is_loader(batches):
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
        weigh=weigh or data.num_examples,
    )


@dataclass(frozen=True, eq=False)
class _Loss:
    """The mean loss; the functions below say how JAX differentiates it."""

    bound: Any  # the module with its loss, a module of batches
    names: tuple[str, ...]  # of the parameters, in the order of the leaves
    dtypes: tuple[Any, ...]
    device: Any
    batches: Iterable[Any]
    weigh: Callable[[Any], float]

    def __call__(self, params: PyTree) -> Array:
        """Compute the mean loss."""
        return _value(self, params)

    def value(self, params: PyTree) -> np.ndarray:
        torch = _torch()
        with torch.no_grad():
            return _numpy(self._mean(params, lambda one, _: [one])[0])

    def value_and_gradient(self, params: PyTree) -> tuple[np.ndarray, list[np.ndarray]]:
        torch = _torch()

        def both(one: Any, weights: list) -> list:
            return [one.detach(), *torch.autograd.grad(one, weights, allow_unused=True, materialize_grads=True)]

        value, *gradient = self._mean(params, both)
        return _numpy(value), [_numpy(leaf) for leaf in gradient]

    def product(self, params: PyTree, vector: PyTree) -> list[np.ndarray]:
        torch = _torch()
        vectors = self._tensors(vector)

        def product(one: Any, weights: list) -> list:
            options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
            slopes = torch.autograd.grad(one, weights, create_graph=True, **options)
            # The slope along a parameter that the loss is linear in has no graph, and nothing to add.
            bent = [(slope, v) for slope, v in zip(slopes, vectors, strict=True) if slope.requires_grad]
            if not bent:
                return [torch.zeros_like(weight) for weight in weights]
            outputs, along = zip(*bent, strict=True)
            return list(torch.autograd.grad(outputs, weights, along, **options))

        return [_numpy(leaf) for leaf in self._mean(params, product)]

    def _mean(self, params: PyTree, function: Callable[[Any, list], Sequence[Any]]) -> list:
        """Average what a function gives of each batch's loss and the parameters."""
        torch = _torch()
        weights = self._tensors(params)
        named = {f"module.{name}": weight for name, weight in zip(self.names, weights, strict=True)}
        totals, total = None, 0.0
        # Only the plain attention can be differentiated twice.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            for batch in self.batches:
                share = float(self.weigh(batch))
                for weight in weights:
                    weight.requires_grad_()
                parts = function(torch.func.functional_call(self.bound, named, (batch,)), weights)
                parts = [share * part.to(_wide(part.dtype)) for part in parts]
                totals = parts if totals is None else [a.add_(b) for a, b in zip(totals, parts, strict=True)]
                total += share
        if totals is None or not 0 < total < math.inf:
            raise ValueError(f"batches of total weight {total}: expected examples; a loader must be readable again.")
        return [leaf.div_(total) for leaf in totals]

    def _tensors(self, tree: PyTree) -> list:
        """View arrays as tensors; they are copied only to another device or type."""
        torch = _torch()
        leaves = zip(jax.tree.leaves(tree), self.dtypes, strict=True)
        return [torch.from_dlpack(leaf).to(self.device, dtype) for leaf, dtype in leaves]


def _warn_of_sum(module: Any, loss_fn: Callable[[Any, Any], Any], batch: Any) -> None:
    torch = _torch()
    few = jax.tree.map(lambda leaf: leaf[:2], batch)
    try:
        with torch.no_grad():
            once, twice = (
                float(loss_fn(module, one)) for one in (few, jax.tree.map(lambda leaf: torch.cat([leaf, leaf]), few))
            )
    except (RuntimeError, TypeError, ValueError, LookupError):  # a batch or loss of one size only
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
    found = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not found:
        raise ValueError("module: expected at least one parameter with requires_grad=True.")
    return found


def _nested(named: Mapping[str, Any]) -> dict[str, Any]:
    """Nest by the parts of the names: `layer1.0.weight` is found at layer1, 0, weight."""
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
    """Give the type that numbers of a type are measured in."""
    return dtype if dtype.itemsize >= _FEWEST_BYTES else _torch().float32


def _torch() -> ModuleType:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ImportError("PyTorch is not installed: expected `pip install flatwide[torch]`.") from error
