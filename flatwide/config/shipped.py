"""The config files shipped with flatwide, by name: `mnist_mlp`, `studies/mnist_width`."""

import ast
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """Return their folder: beside the package in a checkout, within it in an installed wheel."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """List all names, those of single runs first."""
    files = [file.relative_to(folder()).with_suffix("") for file in folder().rglob("*.py")]
    return [file.as_posix() for file in sorted(files, key=lambda file: (len(file.parts), file))]


def path(name: str) -> Path:
    """Return the file of a shipped config."""
    return folder() / f"{name}.py"


def listing() -> str:
    """Return each name with the first line of its file's docstring."""
    width = max((len(name) for name in names()), default=0)
    texts = {name: ast.get_docstring(ast.parse(path(name).read_text(encoding="utf-8"))) or "" for name in names()}
    return "\n".join(f"{name:<{width}}  {text.partition(chr(10))[0]}" for name, text in texts.items())
