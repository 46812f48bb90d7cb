"""A break of the package, and where it is applied."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    """A break: `old`, which the package contains once, becomes `new`, and at least one of `tests` must fail."""

    what: str
    old: str
    new: str
    tests: tuple[str, ...]


def find(text: str, root: Path = ROOT) -> Path:
    """Return the only file of the package that contains a text, once.

    Raises: ValueError if it occurs more or less often, as after an edit of the package: then edit the break too.
    """
    counts = {path: path.read_text().count(text) for path in sorted((root / "flatwide").rglob("*.py"))}
    matches = {path: count for path, count in counts.items() if count}
    if list(matches.values()) != [1]:
        files = ", ".join(f"{path.relative_to(root)} ({count})" for path, count in matches.items()) or "no file"
        raise ValueError(f"{text!r}: expected once in the package; found in {files}.")
    return next(iter(matches))
