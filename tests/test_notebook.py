"""The notebook of the docs: its code runs and gives the numbers that it shows, and its page of the site has them."""

import json
import re

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def notebook(root):
    """Read the notebook."""
    return json.loads((root / "docs" / "notebooks" / "digits.ipynb").read_text(encoding="utf-8"))


def shown(notebook) -> str:
    """Join the text outputs of all cells."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "\n".join("".join(output.get("text") or output["data"]["text/plain"]) for output in outputs)


@pytest.mark.slow
def test_the_notebook_runs_and_gives_what_it_shows(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    runs: pd.DataFrame = names["runs"]
    table = runs.groupby(["num_params", "rho"])["test_metric"].mean()
    text = shown(notebook)
    for (num_params, rho), mean in table.items():
        stated = re.search(rf"^(?:{num_params})? +{rho:.2f} +([\d.]+)", text[text.index(str(num_params)) :], re.M)
        assert stated, (num_params, rho)
        assert float(stated[1]) == pytest.approx(mean, abs=0.03)  # of 355 images: eleven, on other processors
    assert names["figures"]["gain_by_width"].data
    printed = re.findall(r"(SGD|SAM): top eigenvalue ([\d.]+)", capsys.readouterr().out)
    assert [name for name, _ in printed] == ["SGD", "SAM"]
    assert [float(value) for _, value in printed] == pytest.approx(
        [float(value) for value in re.findall(r"top eigenvalue ([\d.]+)", text)], rel=0.1
    )


def test_the_notebook_imports_what_exists(notebook):
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    exec(compile("".join(first["source"]), "first cell", "exec"), {})


def test_the_notebook_is_committed_with_its_outputs_and_without_paths(notebook):
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output["output_type"] != "error" for cell in cells for output in cell["outputs"])
    assert "runs 18/18" in shown(notebook)
    text = json.dumps(notebook)
    assert len(text) < 60_000
    assert not re.search(r"/(work|home|root|tmp)/", text)


def test_its_page_has_its_text_its_code_and_its_outputs(load_script, notebook):
    pytest.importorskip("mkdocs")
    pages = load_script("docs/build/notebook_pages.py")
    page = pages.markdown(notebook, name="digits.ipynb")
    for cell in notebook["cells"]:
        assert "".join(cell["source"]) in page
    assert page.count("<table><thead>") == 2
    assert page.count('<img alt="figure" src="data:image/svg+xml;base64,') == 1
    assert "```text\nSGD: top eigenvalue" in page
    redrawn = {"output_type": "stream", "text": ["start\n", "\rruns 1/2", "\rruns 2/2\n"]}
    assert list(pages._outputs([redrawn])) == ["```text\nstart\nruns 2/2\n```"]
    assert pages.on_page_markdown("see [it](notebooks/digits.ipynb)") == "see [it](notebooks/digits.md)"
