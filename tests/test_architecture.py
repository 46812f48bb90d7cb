"""What is imported when: import-linter (`make lint`) checks who may import whom, not at what moment."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each costs a fraction of a second or more, and most runs use few of them: they are imported where they are used.
HEAVY = [
    "ale_py",
    "altair",
    "cv2",
    "datasets",
    "gymnax",
    "pandas",
    "PIL",
    "rdkit",
    "simplejpeg",
    "sklearn",
    "tensorboardX",
    "torch",
]


def loaded_by(statements: str) -> set[str]:
    """Run statements in a new process and tell which top-level modules it has loaded then."""
    script = f"{statements}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("room", ["cli", "config", "registry"])
def test_jax_is_not_started_before_the_flags_are_read(room):
    # XLA's number of threads comes from the config, and can only be set before JAX is imported.
    assert "jax" not in loaded_by(f"import flatwide.{room}")


def test_no_room_imports_heavy_libraries_before_it_uses_them():
    everything = "import pkgutil, importlib, flatwide\n" + (
        "for found in pkgutil.walk_packages(flatwide.__path__, 'flatwide.'): importlib.import_module(found.name)"
    )
    loaded = loaded_by(everything)
    assert "flatwide" in loaded
    assert loaded.isdisjoint(HEAVY), f"imported at module level: {sorted(loaded & set(HEAVY))}"


def imported_by(path: Path) -> set[str]:
    """List the top-level modules that a file imports, inside of functions too."""
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    names = {entry.name for node in nodes if isinstance(node, ast.Import) for entry in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names}


def test_every_imported_library_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    users = [extras[name] for name in extras if name not in ("dev", "docs", "peers", "test")]
    requirements = [*project["dependencies"], *(entry for group in users for entry in group)]
    plain = {re.split(r"[\[<>=~! ]", entry)[0].lower().replace("_", "-") for entry in requirements}
    modules = set.union(*map(imported_by, (ROOT / "flatwide").rglob("*.py"))) - sys.stdlib_module_names - {"flatwide"}
    known = importlib.metadata.packages_distributions()
    undeclared = {
        name: known.get(name, "not installed")
        for name in modules
        if not any(owner.lower().replace("_", "-") in plain for owner in known.get(name, []))
    }
    assert {"jax", "jinja2", "sklearn"} <= modules
    assert undeclared == {}
