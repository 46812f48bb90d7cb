"""Every shipped study plans without a fault, is the size that its header says, and trains once it is shrunk."""

import re
from pathlib import Path

import pytest

from flatwide import config as configs
from flatwide.study import plan

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "configs" / "studies").glob("*.py"))
SLOW = ("cifar10_sparsity",)  # masks of ten networks, whose sizes must match
PLANNED = [pytest.param(path, marks=pytest.mark.slow) if path.stem in SLOW else path for path in STUDIES]


@pytest.mark.parametrize("path", PLANNED, ids=lambda path: path.stem)
def test_a_shipped_study_plans(path):
    planned = plan.expand(configs.load_file(str(path)))
    rhos = {run.config["rho"] for run in planned.runs}
    assert 0.0 in rhos
    assert len(rhos) >= 3
    assert not [note for note in planned.notes if note.startswith("warning")]
    text = path.read_text()
    assert f"--config=configs/studies/{path.name}" in text
    assert "Source:" in text
    if stated := re.search(r": (\d+) runs", text):
        assert int(stated[1]) == len(planned.runs)


VARIANTS = sorted({name for path in STUDIES for name in re.findall(r"configs/studies/\w+\.py:\w+", path.read_text())})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_that_a_header_names_plans(variant):
    planned = plan.expand(configs.load_file(str(ROOT / variant)))
    assert planned.runs[0].config["dataset"] == variant.rpartition(":")[2]
    assert not [note for note in planned.notes if note.startswith("warning")]


def test_every_study_has_a_page_with_its_command_in_the_table():
    table = (ROOT / "docs" / "studies.md").read_text()
    pages = {path.stem: path.read_text() for path in (ROOT / "docs" / "studies").glob("*.md")}
    del pages["compare"]  # of a command, without a file of its own
    assert sorted(pages) == [path.stem for path in STUDIES]
    for name, page in pages.items():
        assert page.startswith(f"# `{name}`\n")
        assert f"--config=configs/studies/{name}.py" in page
        assert f"| [`{name}`](studies/{name}.md) |" in table


def test_the_docs_say_how_many_runs_a_study_has():
    table = (ROOT / "docs" / "studies.md").read_text()
    for path in STUDIES:
        count = re.search(r": (\d+) runs", path.read_text())
        row = re.search(rf"^\| \[`{path.stem}`\].*\| (\d+) \| [\w-]+ \|$", table, flags=re.MULTILINE)
        assert count, path.name
        assert row, path.name
        assert count[1] == row[1], path.name
        assert f"{count[1]} runs" in (ROOT / "docs" / "studies" / f"{path.stem}.md").read_text().replace("\n", " ")
