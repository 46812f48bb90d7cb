"""Conditions on the columns of a table, in the syntax of `pandas.DataFrame.query`, from untrusted text.

pandas also evaluates calls, attributes and local variables, and so executes any code in a copied command. Here Python
parses the text, every node of the syntax tree is checked against a list of allowed ones, and only then are values
computed.
"""

import ast
import operator
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import registry
from flatwide.runs.table import tuple_text

if TYPE_CHECKING:
    import pandas as pd

_ALLOWED = (
    "Allowed: columns (`a.b` in backquotes), numbers, text, True and False; < <= > >= == !=; and, or, not; in and not "
    "in with a list of constants; + - * / // % ** of numbers; parentheses."
)
_TOO_DEEP = "the expression is nested too deeply; write it with fewer parts, or several values as a list after in."
_ARITHMETIC: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARISONS: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_MEMBERSHIPS = {ast.In: True, ast.Eq: True, ast.NotIn: False, ast.NotEq: False}  # pandas reads == before a list as in
_JOINS: dict[type, Callable] = {
    ast.And: operator.and_,
    ast.Or: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_OPERATORS = (*_ARITHMETIC, *_COMPARISONS, *_MEMBERSHIPS, *_JOINS, ast.Not, ast.Invert)
_NODES = (ast.BoolOp, ast.Compare, ast.UnaryOp, ast.BinOp, ast.Name, ast.Tuple, ast.List)
_KINDS: dict[type, str] = {
    ast.Attribute: "attribute",
    ast.Call: "call",
    ast.Constant: "constant",
    ast.JoinedStr: "formatted text",
    ast.Lambda: "function",
    ast.Subscript: "subscript",
}
# A text in quotes, in which backquotes have no meaning, or a name in backquotes.
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]+)`""")
_BITS = 63  # of the largest integer that a column holds; a larger power of constants could exhaust the memory
_LONGEST_QUOTE = 60


class _Expression(NamedTuple):
    """An expression of allowed pieces. names: of the columns in backquotes, by the byte at which they begin."""

    text: bytes
    tree: ast.expr
    names: dict[int, str]


def check(expression: str) -> None:
    """Raise ValueError unless an expression has only allowed pieces; column names are not checked."""
    _parse(expression)


def evaluate(expression: str, table: "pd.DataFrame") -> "pd.Series":
    """Compute which rows of a table satisfy a condition.

    Args:
      expression: over the columns of the table, such as `rho > 0 and num_neurons in ['(30,)', '(300,100)']`.
    Returns: one boolean per row. A missing cell compares as in pandas: false, except that `!=` and `not in` are true
      for numbers with decimals and for text.
    Raises: ValueError if a piece is not allowed (then nothing is computed), if a column is unknown, or if the result
      is not a condition.
    """
    parsed = _parse(expression)
    try:
        holds = _condition(parsed, parsed.tree, table)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if isinstance(holds, bool):
        raise ValueError(f"expected a condition on a column, such as rho > 0. {_ALLOWED}")
    return holds.fillna(False).astype(bool)


def _parse(expression: str) -> _Expression:
    text, names = expression.strip().replace("\n", " "), {}
    if not text:
        raise ValueError(f"the expression is empty: expected a condition such as rho > 0. {_ALLOWED}")

    def placeholder(match: re.Match) -> str:
        """Replace a column in backquotes by a name of as many bytes, so that no other piece changes its position."""
        if match[1] is None:
            return match[0]
        names[len(text[: match.start()].encode())] = match[1]
        return "_" * len(match[0].encode())

    readable = text
    try:
        readable = _QUOTED.sub(placeholder, text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's on style
            tree = ast.parse(readable, mode="eval").body
    except SyntaxError as error:
        at = (
            error.offset - 1 if error.offset else len(readable)
        )  # Python reports no position for a text that ends too early
        start = len(readable[:at].encode())
        piece = _quote(text.encode()[start:].decode(errors="ignore").strip())
        where = f"at character {_character(text.encode(), start)}" + (f", near {piece}" if piece != "''" else "")
        raise ValueError(f"syntax error {where}: {error.msg}. {_ALLOWED}") from None
    except (RecursionError, MemoryError):
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:  # a null byte, or bytes of the command line that are not text
        raise ValueError(f"the expression cannot be read: {error}. {_ALLOWED}") from None
    parsed = _Expression(text=text.encode(), tree=tree, names=names)
    _refuse_others(parsed)
    return parsed


def _refuse_others(parsed: _Expression) -> None:
    """Raise ValueError for the first piece, from the outside in, that is not allowed."""
    for node in ast.walk(parsed.tree):
        if not isinstance(node, ast.expr):
            continue
        operators = node.ops if isinstance(node, ast.Compare) else [op] if (op := getattr(node, "op", None)) else []
        if isinstance(node, ast.Constant):
            is_allowed = isinstance(node.value, bool | int | float | str)
        elif isinstance(node, ast.Attribute):  # a column name with a dot: no attribute is ever read
            is_allowed = isinstance(node.value, ast.Name | ast.Attribute)
        else:
            is_allowed = isinstance(node, _NODES) and all(isinstance(op, _OPERATORS) for op in operators)
        if not is_allowed:
            raise _refusal(parsed, node, "operator of" if operators else _KINDS.get(type(node), "expression"))


def _refusal(parsed: _Expression, node: ast.expr, kind: str) -> ValueError:
    start = _character(parsed.text, node.col_offset)
    return ValueError(f"the {kind} {_piece(parsed, node)} at character {start} is not allowed. {_ALLOWED}")


def _condition(parsed: _Expression, node: ast.expr, table: "pd.DataFrame") -> Any:
    """Compute a piece that must be a column of booleans, or one boolean."""
    value = _value(parsed, node, table)
    if _kind(value) not in ("a condition", "True or False"):
        raise ValueError(f"expected a condition such as rho > 0; {_piece(parsed, node)} is {_kind(value)}. {_ALLOWED}")
    return value


def _value(parsed: _Expression, node: ast.expr, table: "pd.DataFrame") -> Any:
    """Compute a piece: a column, a constant, or a list of constants."""
    if isinstance(node, ast.Constant):
        return _bounded(parsed, node, node.value)
    if isinstance(node, ast.Name | ast.Attribute):
        return _column(parsed, node, table)
    if isinstance(node, ast.Tuple | ast.List):
        values = [_value(parsed, item, table) for item in node.elts]
        for item, value in zip(node.elts, values, strict=True):
            if not isinstance(value, bool | int | float | str):
                raise ValueError(
                    f"expected constants in the list {_piece(parsed, node)}; {_piece(parsed, item)} is {_kind(value)}."
                )
        return values
    if isinstance(node, ast.Compare):
        return _comparison(parsed, node, table)
    if isinstance(node, ast.BoolOp) or (isinstance(node, ast.BinOp) and type(node.op) in _JOINS):
        parts = node.values if isinstance(node, ast.BoolOp) else [node.left, node.right]
        return _all_of(_JOINS[type(node.op)], [_condition(parsed, part, table) for part in parts])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        value = _condition(parsed, node.operand, table)
        return not value if isinstance(value, bool) else ~value
    assert isinstance(node, ast.BinOp | ast.UnaryOp)
    return _arithmetic(parsed, node, table)


def _column(parsed: _Expression, node: ast.Name | ast.Attribute, table: "pd.DataFrame") -> Any:
    """Look up a column by its name, in backquotes or not."""
    name = parsed.text[node.col_offset : node.end_col_offset].decode()
    name = parsed.names.get(node.col_offset, name) if isinstance(node, ast.Name) else name
    if name in table.columns:
        return table[name]
    if name == "inf":
        return float("inf")
    if isinstance(node, ast.Attribute) and name.split(".")[0] in table.columns:
        raise _refusal(parsed, node, "attribute")
    raise ValueError(registry.unknown("column", name, map(str, table.columns)))


def _comparison(parsed: _Expression, node: ast.Compare, table: "pd.DataFrame") -> Any:
    """Compare neighbouring operands; a chain is true if all its comparisons are."""
    nodes = [node.left, *node.comparators]
    values = [_value(parsed, part, table) for part in nodes]
    results = []
    for k, op in enumerate(node.ops):
        left, right = values[k], values[k + 1]
        if isinstance(op, ast.In | ast.NotIn) and not isinstance(right, list):
            raise ValueError(
                f"expected a list of constants such as [0, 0.1] after in; {_piece(parsed, nodes[k + 1])} is "
                f"{_kind(right)}."
            )
        if isinstance(left, list) or (isinstance(right, list) and type(op) not in _MEMBERSHIPS):
            raise ValueError(f"{_piece(parsed, node)}: a list is allowed only after in, not in, == and !=.")
        if isinstance(right, list):
            if not hasattr(left, "isin"):
                raise ValueError(f"{_piece(parsed, node)}: expected a column before the list.")
            if _kind(left) == "a column of text" and right and not any(isinstance(item, str) for item in right):
                as_text = tuple_text(right) if isinstance(nodes[k + 1], ast.Tuple) else "(300,100)"
                raise ValueError(
                    f"{_piece(parsed, node)}: {_piece(parsed, nodes[k])} is text, and so is a tuple in it; write it in "
                    f"quotation marks, such as {as_text!r}."
                )
            is_in = left.isin(right)
            results.append(is_in if _MEMBERSHIPS[type(op)] else ~is_in)
        else:
            results.append(_computed(parsed, node, _COMPARISONS[type(op)], left, right))
    return _all_of(operator.and_, results)


def _arithmetic(parsed: _Expression, node: ast.BinOp | ast.UnaryOp, table: "pd.DataFrame") -> Any:
    """Compute with numbers only: a text times a number could exhaust the memory."""
    parts = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
    values = [_value(parsed, part, table) for part in parts]
    for part, value in zip(parts, values, strict=True):
        if _kind(value) not in ("a number", "a column of numbers", "a condition", "True or False"):
            raise ValueError(f"{_piece(parsed, node)}: expected numbers; {_piece(parsed, part)} is {_kind(value)}.")
    if isinstance(node.op, ast.Pow) and all(isinstance(value, int) for value in values):
        base, exponent = values
        # |base| >= 2^(bits - 1), so this bounds the power from below, before it takes any memory.
        if (base.bit_length() - 1) * exponent >= _BITS:
            raise ValueError(f"{_piece(parsed, node)} is beyond {_BITS + 1} bits; write a float, such as 1e20.")
    return _computed(parsed, node, _ARITHMETIC[type(node.op)], *values)


def _computed(parsed: _Expression, node: ast.expr, function: Callable, *operands: Any) -> Any:
    """Apply an operator; raise ValueError if pandas or Python cannot compute it."""
    try:
        result = function(*operands)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{_piece(parsed, node)} cannot be computed: {type(error).__name__}: {error}.") from None
    return _bounded(parsed, node, result)


def _bounded(parsed: _Expression, node: ast.expr, value: Any) -> Any:
    """Return a value; raise ValueError for integers too large for a column, and for complex numbers."""
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise ValueError(f"{_piece(parsed, node)} is beyond {_BITS + 1} bits; write a float, such as 1e20.")
    if isinstance(value, complex):
        raise ValueError(f"{_piece(parsed, node)} is not a real number.")
    return value


def _all_of(join: Callable, parts: list[Any]) -> Any:
    joined = parts[0]
    for part in parts[1:]:
        joined = join(joined, part)
    return joined


def _kind(value: Any) -> str:
    """Describe the kind of a computed piece."""
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, list | str):
        return "a list" if isinstance(value, list) else "text"
    if isinstance(value, int | float):
        return "a number"
    if value.dtype.kind == "b":
        return "a condition"
    return "a column of numbers" if value.dtype.kind in "iuf" else "a column of text"


def _piece(parsed: _Expression, node: ast.expr) -> str:
    return _quote(parsed.text[node.col_offset : node.end_col_offset].decode())


def _quote(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…")


def _character(text: bytes, start: int) -> int:
    """Return the position of a byte in characters, starting at 1."""
    return len(text[:start].decode(errors="ignore")) + 1
