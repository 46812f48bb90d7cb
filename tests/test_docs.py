"""The text keeps up with the code: links, paths, flags, targets, the glossary, the code that is shown."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from types import SimpleNamespace as Named

import pytest

import flatwide
from flatwide import catalogue, registry
from flatwide.columns import RESULT_FIELDS
from flatwide.config import SCHEMA, STUDY, load_file
from flatwide.config.meanings import meanings
from flatwide.study import plan
from flatwide.study.settings import BUDGET

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def fences(text: str, language: str) -> list[str]:
    """Find the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Leave out code blocks and comments."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """List the fragments that link to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> list[list[str]]:
    """List the shell commands of a page, in words, continuation lines joined."""
    lines = "\n".join(fences(text, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def section(heading: str) -> list[str]:
    """List the names in a section of the glossary: the first cells of its rows."""
    body = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", GLOSSARY, flags=re.MULTILINE | re.DOTALL)
    assert body, f"the glossary has no section {heading!r}"
    return re.findall(r"^\| `([^`]+)` \|", body[1], flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text()))
    broken = []
    for target in targets:
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page):
    folders = "configs|benchmarks|docs|tests|flatwide"
    named = set(re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/.-]+\.(?:py|md|svg|csv))", prose(page.read_text())))
    if page.name == "CHANGELOG.md":  # it also names files that are gone
        named = set()
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_config_is_in_the_table_of_configs():
    shipped = {f"configs/{path.name}" for path in ROOT.glob("configs/*.py")}
    assert shipped == set(re.findall(r"configs/\w+\.py", (ROOT / "docs" / "configs.md").read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_name_targets_files_and_fields_that_exist(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    fields = {*SCHEMA, *(f"study.{field}" for field in STUDY), f"study.axes.{BUDGET}"}  # the budget is no field
    for words in commands(page.read_text()):
        if words[0] == "make":
            assert [word for word in words[1:] if "=" not in word and word not in targets] == []
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words[1]
        for word in words:
            if word.startswith("--config="):
                config = word.removeprefix("--config=")
                assert load_file(str(ROOT / config) if ".py" in config else config), word
            if word.startswith("--config."):
                name = word.removeprefix("--config.").partition("=")[0]
                name = name if name in fields else name.removeprefix("study.axes.")
                assert name in fields, registry.unknown("config field", name, fields)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_shown_python_compiles(page):
    for number, code in enumerate(fences(page.read_text(), "python")):
        compile(code, f"{page.name}, block {number}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_shown_imports_exist(page):
    shown = [node for code in fences(page.read_text(), "python") for node in ast.walk(ast.parse(code))]
    for node in shown:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flatwide":
            for alias in node.names:
                has_name = hasattr(importlib.import_module(node.module), alias.name)
                assert has_name or importlib.util.find_spec(f"{node.module}.{alias.name}"), alias.name


def test_the_analysis_has_the_functions_of_its_page():
    rows = re.findall(r"^\| [^|]+\? \| (.+) \|$", (ROOT / "docs" / "analysis.md").read_text(), flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`((?:\w+\.)+\w+)`", row)]
    assert len(named) > 25
    for name in named:
        module, _, function = name.rpartition(".")
        module = module if module.startswith("flatwide") else f"flatwide.analysis.{module}"
        assert hasattr(importlib.import_module(module), function), name


def test_glossary_has_every_config_field_with_its_default_and_every_result_field(load_script):
    written = load_script("docs/build/glossary_fields.py")
    page = written.on_page_markdown(GLOSSARY, Named(file=Named(src_uri="glossary.md")))
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| .* \| .* \| .+ \| .* \|$", page, flags=re.MULTILINE)
    results = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", page, flags=re.MULTILINE)
    assert results == [name for name in RESULT_FIELDS if name not in SCHEMA]
    assert rows == [(name, str(field.default)) for name, field in SCHEMA.items()]
    assert list(meanings()) == list(SCHEMA)
    assert all(row.meaning for row in meanings().values())


def test_glossary_has_the_symbols_and_units_of_the_catalogue():
    described = {}
    for measurement in catalogue.MEASUREMENTS.values():
        for quantity in measurement.quantities:
            described.setdefault(quantity.name, set()).add((quantity.symbol, quantity.unit))
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| .*$", GLOSSARY.replace(r"\|", "|"), flags=re.MULTILINE)
    rows = {name: (symbol, unit) for name, symbol, unit in rows if name in section("Measured quantities")}
    assert len(rows) > 10
    assert rows.keys() <= described.keys()
    assert {name: row for name, row in rows.items() if row not in described[name]} == {}


def test_every_measurement_that_ships_is_explained():
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "studies.md").read_text(), flags=re.MULTILINE)
    assert set(catalogue.MEASUREMENTS) <= set(rows)


def test_glossary_has_one_row_a_name():
    names = re.findall(r"^\| `([^`]+)` \|", GLOSSARY, flags=re.MULTILINE)
    results = RESULT_FIELDS.keys() - SCHEMA.keys()
    assert sorted([*names, *SCHEMA, *results]) == sorted({*names, *SCHEMA, *results})


def test_glossary_rows_are_whole():
    rows = re.findall(r"^\| .+", GLOSSARY, flags=re.MULTILINE)
    assert rows
    assert [row for row in rows if len(re.split(r"(?<!\\)\|", row)) != 7] == []  # 5 cells between 6 bars


def test_own_model_data_loss_and_variant_of_the_docs_train(tmp_path):
    for code in fences((ROOT / "docs" / "extending.md").read_text(), "python"):
        (tmp_path / code.split()[1]).write_text(code)
    config = {
        "model": f"{tmp_path}/linear.py:linear",
        "dataset": f"{tmp_path}/rings.py:rings",
        "loss": f"{tmp_path}/focal.py:focal",
        "focus": 1.0,
        "sam_variant": f"{tmp_path}/sign.py:sign",
        "rho": 0.01,
        "batch_size": 50,
        "num_epochs": 2,
        "num_points": 300,
        "init_scale": 0.1,
        "measurements": (f"{tmp_path}/weights.py:weights",),
    }
    result = flatwide.run(config, tmp_path / "work", quiet=True)
    assert result["status"] == "finished"
    assert result["num_params"] == 2 * 2 + 2
    assert result["steps"] == 2 * (300 - 50) // 50
    (row,) = flatwide.load(tmp_path / "work").to_dict("records")
    assert 0 < row["weights.distance"] < 2 * row["weights.norm"]


@pytest.mark.parametrize("name", ["nnx_net", "equinox_net"])
def test_modules_of_other_libraries_train_as_the_docs_say(tmp_path, name):
    for code in fences((ROOT / "docs" / "extending.md").read_text(), "python"):
        (tmp_path / code.split()[1]).write_text(code)
    fields = {"model": f"{tmp_path}/{name}.py:{name}", "dataset": "digits", "train_examples": 128, "num_epochs": 1}
    study = {"axes": {"channels": (2, 3), "rho": (0.1,)}}
    assert [run.varied["channels"] for run in plan.expand(fields | {"study": study}).runs] == [2, 3]
    result = flatwide.run(fields | {"channels": 3, "rho": 0.1}, tmp_path / "work", quiet=True)
    assert (result["status"], result["num_params"]) == ("finished", 64 * 3 + 3 + 3 * 10 + 10)


@pytest.mark.slow
def test_the_domain_in_one_file_is_trained_pruned_and_measured(tmp_path):
    (code,) = (code for code in fences((ROOT / "docs" / "extending.md").read_text(), "python") if "# clouds.py" in code)
    (tmp_path / "clouds.py").write_text(code)
    parts = {"model": f"{tmp_path}/clouds.py:deep_sets", "dataset": f"{tmp_path}/clouds.py:clouds"}
    fields = {"rho": 0.05, "pruner": "magnitude", "sparsity": 0.5, "batch_size": 20, "num_epochs": 10}
    fields |= {"base_optimizer": "adam", "learning_rate": 0.02, "measurements": ("curvature",), "measure_examples": 60}
    result = flatwide.run(parts | fields, tmp_path / "work", quiet=True)
    assert result["test_metric"] > 0.7
    assert result["num_nonzero_params"] == (2 * 32 + 32 * 2) // 2 + 32 + 2
    (row,) = flatwide.load(tmp_path / "work").to_dict("records")
    assert row["curvature.top_eigenvalue"] > 0


def test_glossary_has_every_column_of_the_gain_table():
    import pandas as pd

    from flatwide.analysis.gain import gain_by_width

    shared = {"num_params": 10, "status": "finished", "optimizer": "sam", "base_optimizer": "sgd"}
    shared |= {"metric_name": "accuracy", "higher_is_better": True}
    runs = [shared | {"rho": rho, "seed": seed, "test_metric": 0.5} for rho in (0.0, 0.1) for seed in (0, 1)]
    names = re.findall(r"^\| `([^`]+)` \|", GLOSSARY, flags=re.MULTILINE)
    names += RESULT_FIELDS
    assert [name for name in gain_by_width(pd.DataFrame(runs)).columns if name not in names] == []


def test_docstrings_become_markdown(load_script):
    module = load_script("docs/build/api_docstrings.py")
    lines = ["Compute it.", "", "Args:", "  a, b: two numbers,", "    both positive.", "  c: another."]
    lines += ["Returns: their sum,", "  a float.", "Equation: x = a_1 *", "  b."]
    shown = ["Compute it.", "", "", "**Args**", "", "- `a, b`: two numbers,", "  both positive.", "- `c`: another.", ""]
    shown += ["**Returns** their sum,", "  a float.", "", "**Equation**", "", "```text", "x = a_1 *", "b.", "```"]
    assert module.markdown("\n".join(lines)) == "\n".join(shown)
    listed = "pack: a map.\n\n    one/\n      two   of it\n\nMore."
    assert module.markdown(listed) == "- `pack`: a map.\n  \n```text\none/\n  two   of it\n\n```\n\nMore."
