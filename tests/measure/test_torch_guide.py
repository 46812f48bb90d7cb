"""The page for PyTorch's users runs as it is shown, with fewer runs."""

import csv
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "coming_from_pytorch.md"
FEWER = {"num_epochs=60": "num_epochs=3", "(4, 16, 64), (0.0, 0.05, 0.2), (0, 1, 2)": "(2, 4), (0.0, 0.1), (0, 1)"}


def test_the_page_trains_measures_and_reports(tmp_path, monkeypatch, capsys):
    text = PAGE.read_text()
    for shown, changed in FEWER.items():
        assert shown in text
        text = text.replace(shown, changed)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "runs.report.html" in capsys.readouterr().out
    assert (
        "<svg" in (tmp_path / "runs.report.html").read_text() or "gain" in (tmp_path / "runs.report.html").read_text()
    )
    with open(tmp_path / "runs.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {int(row["num_params"]) for row in rows} == {64 * w + w + 10 * w + 10 for w in (2, 4)}

    # The top eigenvalue of the last network, by power iteration in PyTorch alone.
    module, top = names["module"], float(rows[-1]["top_eigenvalue"])
    weights = list(module.parameters())
    vector = [torch.randn_like(weight) for weight in weights]
    for _ in range(100):
        norm = torch.sqrt(sum((part**2).sum() for part in vector))
        vector = [part / norm for part in vector]
        slopes = torch.autograd.grad(names["loss_fn"](module, names["train"]), weights, create_graph=True)
        vector = list(torch.autograd.grad(slopes, weights, vector))
    assert torch.sqrt(sum((part**2).sum() for part in vector)).item() == pytest.approx(top, rel=1e-3)
