"""The command `compare`, on one small domain."""

import numpy as np
import pytest

from flatwide import cli, compare

SMALL = {
    "small": {
        "model": "MLP",
        "dataset": "digits",
        "train_examples": 64,
        "learning_rate": 0.05,
        "lr_scheduler": "constant",
        "batch_size": 32,
        "num_epochs": 1,
        "axes": {"num_neurons": ((2,), (4,))},
    }
}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(compare, "DOMAINS", SMALL)
    compare._first_epoch.cache_clear()


@pytest.fixture
def own_rule(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import jax\nfrom flatwide.sam import AscentRule\n\n\n"
        "def tenfold(rho):\n"
        "    def perturb(gradient, params, state, rho):\n"
        "        norm = sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)) ** 0.5\n"
        "        return jax.tree.map(lambda leaf: 10 * rho * leaf / norm, gradient), state\n\n"
        "    return AscentRule(rho, perturb)\n"
    )
    return f"{tmp_path}/mine.py:tenfold"


def test_radii_give_perturbations_as_long_as_those_of_sam(small, own_rule):
    lengths = compare._LENGTHS
    assert compare.radii_of("normalized", "small") == lengths
    np.testing.assert_allclose(compare.radii_of(own_rule, "small"), np.array(lengths) / 10, rtol=0.01)
    # Of the first step alone momentum has no direction; the median is that of a step that has one.
    np.testing.assert_allclose(compare.radii_of("friendly", "small"), lengths, rtol=0.01)


@pytest.mark.slow
def test_it_trains_ranks_and_writes_a_page(small, own_rule, tmp_path, capsys):
    command = ["compare", f"--workdir={tmp_path}/w", f"--rules=normalized,{own_rule},momentum", "--seeds=2"]
    assert cli.main([*command, "--workers=1"]) == 0
    page = (tmp_path / "w" / "comparison.md").read_text()
    printed = capsys.readouterr()
    assert page in printed.out
    assert "radii on small, mine.py:tenfold: 0.002, 0.005, 0.01, 0.02, 0.04\n" in printed.err
    assert "## Equal steps" in page
    assert "## Equal gradients" in page
    assert "| small, 160 parameters |" in page
    assert "mine.py:tenfold" in page
    assert page.count("| base |") == 2
    # 2 widths and 2 seeds: the base twice, two rules of two gradients once, momentum at both lengths, 5 radii each.
    assert len(list((tmp_path / "w" / "runs").iterdir())) == 4 * (2 + 5 + 5 + 10)


def test_a_dry_run_plans_without_the_search(small, own_rule, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "radii_of", None)
    flags = [f"--workdir={tmp_path}/w", f"--rules=normalized,{own_rule},momentum", "--seeds=2", "--dry_run"]
    assert cli.main(["compare", *flags]) == 0
    printed = capsys.readouterr().out
    assert "study of 88 runs: 0 done, 88 to do" in printed
    assert "radii of rules other than `normalized` are found before training" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rules=normalized"], "expected --workdir and --rules"),
        (
            ["--workdir=w", "--rules=friendly,normalised"],
            "--rules='normalised' is not known. Did you mean",
        ),
        (["--workdir=w", "--rules=normalized", "--seeds=1"], "--seeds=1: expected 2 or more"),
        (
            ["--workdir=w", "--rules=normalized", "--seeds=1000000000"],
            "runs; expected at most 100,000",
        ),
        (["--workdir=w", "--rules=normalized", f"--seeds={'9' * 5000}"], "argument --seeds: invalid int value: '99"),
        (["--workdir=/proc/x", "--rules=friendly"], "--workdir=/proc/x: no file can be written in /proc"),
        (["--workdir=w", "--rules=norm_layers"], "norm_layers cannot be compared on small: "),
    ],
)
def test_bad_input_is_named(small, capsys, arguments, message):
    assert cli.main(["compare", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed) < 1000


def test_a_rule_of_one_length_is_refused(small, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from flatwide.sam import normalized\n\n\ndef still(rho):\n"
        "    rule = normalized(1.0)\n"
        "    return rule._replace(rho=rho, perturb=lambda g, p, s, rho: rule.perturb(g, p, s, 1.0))\n"
    )
    assert cli.main(["compare", "--workdir=w", f"--rules={tmp_path}/mine.py:still"]) == 2
    assert "has perturbations of length 1 to 1 on small" in capsys.readouterr().err
