"""docs/files.md tells of every file and column that a real run leaves."""

import json
import re
from pathlib import Path

import pytest

import flatwide
from flatwide.columns import RESULT_FIELDS
from flatwide.config import SCHEMA


@pytest.fixture(scope="module")
def page(root) -> str:
    return (root / "docs" / "files.md").read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Train for two epochs, with a checkpoint after each."""
    workdir = tmp_path_factory.mktemp("work")
    config = {"num_neurons": (4,), "num_epochs": 2, "validation_fraction": 0.1, "checkpoint_every_seconds": 0.0}
    config |= {"measurements": ("gradient",), "measure_epochs": (0, 1)}
    flatwide.run(config, workdir, quiet=True)
    (path,) = (workdir / "runs").iterdir()
    return path


def test_every_file_is_in_the_page(run, page):
    names = re.findall(r"`…/([^`]+)`", page)
    parts = {"<step>": r"\d{8}", "<n>": r"\d+", "<name>": r"[\w-]+", "…": ".+"}
    patterns = [re.sub("|".join(parts), lambda part: parts[part[0]], re.escape(name)) for name in names]
    files = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    assert len(files) >= 7
    assert [file for file in files if not any(re.fullmatch(pattern, file) for pattern in patterns)] == []


def test_every_column_of_the_metrics_is_in_the_page(run, page):
    section = page.partition("### metrics.csv")[2].partition("\n#")[0]
    named = [name for cells in re.findall(r"^\| (`.+?) \|", section, flags=re.MULTILINE) for name in cells.split(", ")]
    always = [name.strip("`") for name in named if "_average" not in name]  # those only where weights are averaged
    assert sorted(always) == sorted((run / "metrics.csv").read_text().split("\n")[0].split(","))


def test_every_field_of_a_measurement_is_in_the_page(run, page):
    section = page.partition("### Measurements")[2].partition("\n## ")[0]
    documented = [
        name for cells in re.findall(r"^\| (`.+?) \|", section, flags=re.MULTILINE) for name in cells.split(", ")
    ]
    content = json.loads((run / "measurements" / "gradient.json").read_text())
    assert sorted(name.strip("`") for name in documented) == sorted(content)


def test_every_column_of_the_measurements_is_in_the_page(run, page):
    section = page.partition("## measurements.csv")[2]
    documented = [
        name for cells in re.findall(r"^\| (`.+?) \|", section, flags=re.MULTILINE) for name in cells.split(", ")
    ]
    assert [name.strip("`") for name in documented] == list(flatwide.load_measurements(run.parents[1]).columns)


def test_every_column_of_the_table_is_in_the_page_or_the_glossary(run, page, root):
    glossary = (root / "docs" / "glossary.md").read_text()
    written = {*SCHEMA, *RESULT_FIELDS}  # the glossary's tables of these are written from them
    columns = [name.split(".")[0] for name in flatwide.load(run.parents[1]).columns]
    columns = [name for name in columns if name != "gradient"]  # `<measurement>.<value>`
    assert [name for name in columns if f"| `{name}` |" not in glossary + page and name not in written] == []
