"""The claims about language models follow from the committed tables."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

STUDIES = Path(__file__).parents[1] / "docs" / "studies"


@pytest.fixture(scope="module")
def models(load_script):
    """Import the file that writes the pages."""
    return load_script("docs/build/language_models.py")


def test_a_frontier_has_the_points_that_no_other_beats(models):
    tuned, kept = np.array([3.0, 1.0, 2.0, 2.5, 1.0]), np.array([0.5, 4.0, 2.0, 2.5, 5.0])
    left = models.frontier(tuned, kept)
    assert left.tuned.tolist() == [1.0, 2.0, 3.0]
    assert left.kept.tolist() == [4.0, 2.0, 0.5]


def test_frontiers_are_compared_over_the_losses_that_both_reach(models):
    # On [1, 2] the first falls from 2 to 1 by a line with a knot at 1.5, the second is constant.
    first = models.Frontier(np.array([0.0, 1.5, 2.0]), np.array([9.0, 3.0, 1.0]))
    second = models.Frontier(np.array([1.0, 4.0]), np.array([2.0, 2.0]))
    means = models.at_equal_loss(first, second)
    assert means == pytest.approx(((5 + 3) / 2 * 0.5 + (3 + 1) / 2 * 0.5, 2.0))
    assert np.isnan(models.at_equal_loss(first, models.Frontier(second.tuned + 2, second.kept))).all()


def test_every_claim_has_a_verdict_that_its_evidence_gives(models):
    page = models.claims_page()
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| L")]
    assert [row[0].strip() for row in rows] == ["L1", "L2", "L3", "L4", "L5", "L5f", "L6", "L7"]
    sections = dict(re.findall(r"^## (L\w+): (.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    for name, _, verdict in rows:
        section = sections[name.strip()]
        judged = re.findall(r"^\| \[.*\]\(studies/\S+\) \| .+ \| (\S.*?) \|$", section, flags=re.M)
        judged += re.findall(r"^- \*\*(.+)\*\*: \[", section, flags=re.M)
        assert judged
        assert {kind in verdict for kind in judged} == {True}


def test_rounding_is_compared_seed_by_seed(models):
    runs = pd.read_csv(STUDIES / "lm_width" / "runs.csv").query("num_train_steps == 977 and learning_rate == 0.005")
    changes = runs[runs["hidden_size"] == 64].pivot(
        index="seed", columns="rho", values="held_out_robustness.rounded_4_channel_metric_change"
    )
    low, high = scipy.stats.ttest_rel(changes[0.05], changes[0.0]).confidence_interval()
    (item,) = (item for item in models.rounds_better() if item.data == "pretrained, width 64: SAM 0.05")
    numbers = [float(text.replace("−", "-")) for text in re.findall(r"[+−]\d\.\d{4}", item.number)]
    assert numbers[1:] == pytest.approx([low, high], abs=1e-4)
    assert item.verdict == {1: "holds", -1: "does not"}.get(int(high < 0) - int(low > 0), "not decided")
