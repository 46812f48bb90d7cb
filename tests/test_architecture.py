"""What is imported when: import-linter (`make lint`) checks who may import whom, not at what moment."""

import ast
import graphlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flatwide"

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


@pytest.mark.parametrize("module", ["cli", "config", "registry"])
def test_jax_is_not_started_before_the_flags_are_read(module):
    # XLA's number of threads comes from the config, and can only be set before JAX is imported.
    assert "jax" not in loaded_by(f"import flatwide.{module}")


def test_no_module_imports_heavy_libraries_before_it_uses_them():
    everything = "import pkgutil, importlib, flatwide\n" + (
        "for found in pkgutil.walk_packages(flatwide.__path__, 'flatwide.'): importlib.import_module(found.name)"
    )
    loaded = loaded_by(everything)
    assert "flatwide" in loaded
    assert loaded.isdisjoint(HEAVY), f"imported at module level: {sorted(loaded & set(HEAVY))}"


def test_training_imports_nothing_that_only_measures():
    # SciPy's import takes as long as the weights of a small network.
    assert "scipy" not in loaded_by(
        "import flatwide.study.worker, flatwide.training_command, flatwide.measurements.errors"
    )


def imported_by(path: Path) -> set[str]:
    """List the top-level modules that a file imports, inside of functions too."""
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names}


def test_every_imported_library_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    users = [extras[name] for name in extras if name not in ("dev", "docs", "peers", "test")]
    requirements = [*project["dependencies"], *(requirement for group in users for requirement in group)]
    plain = {re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}
    modules = set.union(*map(imported_by, (ROOT / "flatwide").rglob("*.py"))) - sys.stdlib_module_names - {"flatwide"}
    distributions = importlib.metadata.packages_distributions()
    undeclared = {
        name: distributions.get(name, "not installed")
        for name in modules
        if not any(owner.lower().replace("_", "-") in plain for owner in distributions.get(name, []))
    }
    assert {"jax", "jinja2", "sklearn"} <= modules
    assert undeclared == {}


def test_the_root_holds_what_belongs_there():
    # A command that is tried with odd arguments may leave files of odd names where it was tried.
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    entries = {name.partition("/")[0] for name in tracked.stdout.decode().split("\0") if name}
    folders = {".ci", "benchmarks", "configs", "docs", "flatwide", "tests"}
    files = {
        ".gitignore",
        ".pre-commit-config.yaml",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
    }
    files |= {"constraints.txt", "main.py", "mkdocs.yml", "pyproject.toml", "requirements.txt"}
    assert entries == folders | files


def test_no_files_import_each_other_in_a_circle():
    # Imports inside functions and those for types only count too: who reads one file should need none that reads it.
    graph = grimp.build_graph("flatwide")
    order = graphlib.TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    order.prepare()  # raises CycleError with the circle


PUBLIC = ("flatwide", "flatwide.config", "flatwide.data", "flatwide.measure", "flatwide.report", "flatwide.sam")


def test_no_module_takes_the_name_of_a_public_function():
    # The first import of such a module would put it in the function's place.
    everything = "import importlib, pkgutil, types, flatwide\n" + (
        "for found in pkgutil.walk_packages(flatwide.__path__, 'flatwide.'): importlib.import_module(found.name)\n"
        f"for package in map(importlib.import_module, {PUBLIC}):\n"
        "    modules = {found.name for found in pkgutil.iter_modules(package.__path__)}\n"
        "    names = set(package.__all__) - set(getattr(package, '_MODULES', ()))\n"
        "    assert modules.isdisjoint(names), (package, modules & set(names))\n"
        "    assert all(callable(getattr(package, name)) for name in names if name[0].islower())\n"
    )
    loaded_by(everything)


def test_files_and_functions_stay_readable():
    lengths, long_functions = {}, []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        lengths[str(path.relative_to(PACKAGE))] = text.count("\n")
        functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
        long_functions += [f"{path.name}:{node.name}" for node in functions if code_lines(node) > 60]
    assert {name: length for name, length in lengths.items() if length > 450} == {}
    assert len(long_functions) <= 2, long_functions


def code_lines(function: ast.FunctionDef) -> int:
    """Count the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def test_tuples_of_many_fields_are_built_by_keyword():
    # With more than four operands in a row, two of one type change places without a word.
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    tuples = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and ("NamedTuple" in bases_of(node) or "dataclass" in decorators_of(node))
    }
    assert len(tuples) > 100
    calls = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node.func)}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and len(node.args) > 4 and ast.unparse(node.func).rpartition(".")[2] in tuples
    ]
    assert calls == []


def bases_of(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(base) for base in node.bases}


def decorators_of(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}
