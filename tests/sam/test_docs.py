"""The pages on SAM and optimizers: their code runs, and the tests that they name exist."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import sam, schedules, trees


def run_blocks(page):
    """Run the code of a page from top to bottom."""
    names = {}
    with jax.numpy_rank_promotion("allow"):
        for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            exec(compile(code, page.name, "exec"), names)
    return names


def test_loop_with_sam_finds_the_minimum(root):
    names = run_blocks(root / "docs" / "sam.md")
    assert names["loss"] < 0.01
    assert jax.tree.leaves(names["state"])
    moved = [names["step"](names["params"], names["batch"], rho)[0]["kernel"] for rho in (0.0, 0.5)]
    assert jnp.any(moved[0] != moved[1])


def test_loop_with_an_optimizer_finds_the_minimum(root):
    names = run_blocks(root / "docs" / "optimizers.md")
    assert trees.norm({**names["params"], "bias": names["params"]["bias"] - 2}) < 0.05


def test_every_variant_is_explained(root):
    rows = re.findall(r"^\| `(\w+)` \|", (root / "docs" / "sam.md").read_text(), flags=re.MULTILINE)
    assert set(sam.VARIANTS) <= set(rows)


def test_table_of_schedules_is_what_they_give(root):
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\d. ]+) \| ([\d. ]+) \|$", _page(root), flags=re.MULTILINE)
    assert [name for name, *_ in rows] == [
        "constant",
        "step",
        "step_half",
        "step_mnist",
        "linear",
        "cosine",
        "wsd",
        "inverse_sqrt",
    ]
    for name, *columns in rows:
        for warmup_steps, column in zip((0, 4), columns, strict=True):
            factor = schedules.build(name, num_steps=8, warmup_steps=warmup_steps)
            shown = np.array(column.split(), float)
            np.testing.assert_allclose(jax.vmap(factor)(np.arange(8)), shown, atol=5.1e-4)


def _page(root):
    return (root / "docs" / "optimizers.md").read_text()
