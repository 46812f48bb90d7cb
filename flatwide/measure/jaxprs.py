"""An interpreter of jaxprs, for evaluations that replace or record some operations of a function."""

from collections.abc import Callable
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # parameters of a call equation that hold its jaxpr


def run(program: ClosedJaxpr, arguments: list, apply: Callable[[Any, list], list]) -> list:
    """Evaluate a jaxpr with apply(equation, arguments) -> results, on arrays or whatever else `apply` understands."""
    inner = program.jaxpr
    at = dict(zip(inner.constvars, program.consts, strict=True)) | dict(zip(inner.invars, arguments, strict=True))

    def read(var: Any) -> Any:
        return var.val if isinstance(var, Literal) else at[var]

    for equation in inner.eqns:
        at.update(zip(equation.outvars, apply(equation, [read(var) for var in equation.invars]), strict=True))
    return [read(var) for var in inner.outvars]


def bind(equation: Any, values: list) -> list:
    """Evaluate one equation on arrays."""
    options = equation.primitive.get_bind_params(equation.params)
    with equation.ctx.manager:
        results = equation.primitive.bind(*values, **options)
    return results if equation.primitive.multiple_results else [results]


def called(equation: Any) -> ClosedJaxpr | None:
    """Return the jaxpr that a call equation evaluates once; None for other equations."""
    if equation.primitive.name in ("while", "cond", "scan"):
        return None
    program = next((equation.params[name] for name in _PROGRAMS if name in equation.params), None)
    return ClosedJaxpr(program, ()) if isinstance(program, Jaxpr) else program
