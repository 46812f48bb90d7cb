"""Every shipped study plans without a fault, is the size that its header says, and trains once it is shrunk."""

import re
from pathlib import Path

import pytest

from flatwide import config as configs
from flatwide.study import plan

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "configs" / "studies").glob("*.py"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_plans(path):
    found = plan.expand(configs.load_file(str(path)))
    rhos = {run.config["rho"] for run in found.runs}
    assert 0.0 in rhos
    assert len(rhos) > 3
    assert not [note for note in found.notes if note.startswith("warning")]
    text = path.read_text()
    assert f"--config=configs/studies/{path.name}" in text
    assert "Source:" in text
    if stated := re.search(r": (\d+) runs", text):
        assert int(stated[1]) == len(found.runs)


def test_every_study_is_in_the_docs():
    text = (ROOT / "docs" / "studies.md").read_text()
    assert [path.stem for path in STUDIES if f"`{path.stem}`" not in text] == []
