"""The tutorials: their code runs as it is shown, and does what the text says."""

import re

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose


def run_blocks(page) -> dict:
    """Run the Python blocks of a page from top to bottom, with JAX's usual promotion of ranks."""
    names: dict = {}
    with jax.numpy_rank_promotion("allow"):
        for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            exec(compile(code, page.name, "exec"), names)
    return names


@pytest.mark.slow
def test_loops_of_others_train_with_sam_and_as_optax_does(root):
    names = run_blocks(root / "docs" / "tutorials" / "own_loop.md")
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-4), names["state"].params, names["optax_params"])
    moved = jax.tree.map(lambda new, old: np.abs(new - old).max(), names["optax_params"], names["params"])
    assert max(jax.tree.leaves(moved)) > 0.1
    for value in (names["loss"], names["nnx_value"], names["eqx_value"]):
        assert 0 < float(value) < 0.7
    averages = jax.tree.leaves(names["rest"])
    assert any(np.abs(np.asarray(leaf)).max() > 0.01 for leaf in averages if np.issubdtype(leaf.dtype, np.floating))
    accuracy = np.mean(np.argmax(names["model"](names["batch"]["pixels"]), axis=-1) == names["batch"]["label"])
    assert accuracy > 0.9


@pytest.mark.slow
def test_a_model_of_the_users_own_is_trained_and_reported(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (root / "docs" / "tutorials" / "own_model.md").read_text()
    model, study = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "residual.py").write_text(model)
    smaller = {'"num_epochs": 20': '"num_epochs": 2', "(8, 32, 128)": "(4, 8)", "(0.0, 0.05, 0.2)": "(0.0, 0.2)"}
    for shown, changed in smaller.items():
        assert shown in study
        study = study.replace(shown, changed)
    names: dict = {}
    exec(compile(study, "own_model.md", "exec"), names)
    table = names["table"]
    assert table["status"].tolist() == ["finished"] * 12
    assert sorted(set(table["num_params"])) == [64 * h + h * h + 10 * h + 2 * h + 10 for h in (4, 8)]
    assert (tmp_path / "runs/residual/report.html").is_file()
