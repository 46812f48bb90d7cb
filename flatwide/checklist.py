"""Checks with their fixes, as text for a terminal."""

from collections.abc import Sequence
from typing import NamedTuple


class Check(NamedTuple):
    """One fact: what was found, what is expected, and the fix, or "" if nothing is wrong."""

    name: str
    found: str
    expected: str
    fix: str = ""


def text(checks: Sequence[Check]) -> str:
    """Write each check as a line, with its fix below it if something is wrong."""
    lines = []
    for check in checks:
        lines.append(f"{'FIX' if check.fix else 'ok '}  {check.name}: {check.found}; expected {check.expected}")
        lines += [f"     {check.fix}"] if check.fix else []
    return "\n".join(lines)
