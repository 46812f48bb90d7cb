"""The verdicts on the page of claims follow from intervals, and these from the committed tables."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def claims(load_script):
    """Import the command's file."""
    return load_script("docs/build/claims.py")


@pytest.fixture(scope="module")
def page(claims):
    """Write the page anew."""
    return claims.page()


def test_every_claim_has_a_verdict_and_its_evidence(page):
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| C")]
    assert [row[0].strip() for row in rows] == [f"C{number}" for number in range(1, 17)]
    sections = dict(re.findall(r"^## (C\d+): (.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    for name, text, verdict in rows:
        assert re.match(r"(holds|does not|not decided|not tested)\b", verdict)
        section = sections[name.strip()]
        assert section.startswith(text)
        judged = re.findall(r"^\| \[.*\]\(studies/\S+\.md\S*\) \| .+ \| (\S.*) \|$", section, flags=re.M)
        for kind, links in re.findall(r"^- \*\*(.+)\*\*: (.+)$", section, flags=re.M):
            judged += [kind] * len(re.findall(r"\]\(studies/", links))
        assert bool(judged) != verdict.startswith("not tested")
        for kind in set(judged):
            assert kind in verdict
        if len(judged) > 1:
            assert sum(int(count) for count in re.findall(r" in (\d+) of", verdict)) == len(judged)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.3, "holds"), (-0.3, -0.1, "does not"), (-0.1, 0.1, "not decided")]
)
def test_a_verdict_needs_a_whole_interval(claims, low, high, verdict):
    assert claims.verdict_of(low, high) == verdict
    opposite = {"holds": "does not", "does not": "holds"}
    assert claims.verdict_of(low, high, positive=False) == opposite.get(verdict, verdict)
    assert claims.verdict_of(math.nan, math.nan) == "not decided"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.4, 0.5, "holds"), (-0.4, 0.6, "not decided"), (0.6, 2, "does not"), (-2, -1, "does not")],
)
def test_near_zero_needs_a_whole_interval_too(claims, low, high, verdict):
    assert claims.near_zero(low, high) == verdict


def test_the_fall_along_rho_by_hand(page):
    """Claim C10 from its committed table, by other means: polyfit for each seed and scipy's t interval."""
    rows = pd.read_csv(ROOT / "docs/studies/theory_stability/moments_by_rho.csv").query("quantity == 'moments.s_2'")
    slopes = [np.polyfit(of_seed["rho"], np.log(of_seed["value"]), 1)[0] for _, of_seed in rows.groupby("seed")]
    ends = scipy.stats.t.interval(0.95, len(slopes) - 1, loc=np.mean(slopes), scale=scipy.stats.sem(slopes))
    mean, low, high = (math.exp(0.1 * value) for value in (np.mean(slopes), *ends))
    assert f"×{mean:.3g} s₂ per increase of 0.1 in rho ({low:.3g} to {high:.3g})" in page


def test_the_curvature_at_the_ends_by_hand(claims, page):
    """Claim C10 on MNIST with wrong labels, from its table of runs: scipy's geometric mean of paired ratios."""
    rows = pd.read_csv(ROOT / "docs/studies/mnist_label_noise/runs.csv").query("label_noise == 0.5")
    rows = rows.query("num_params == 266610").pivot(index="seed", columns="rho")
    section = claims.result_curvature.section()
    (row,) = (line for line in section.splitlines() if "[MNIST (15,000), half wrong]" in line and "| 266,610 |" in line)
    for column in ("curvature.top_eigenvalue", "moments.s_2"):
        logs = np.log(rows[column][0.3] / rows[column][0.0])
        ends = scipy.stats.t.interval(0.95, len(logs) - 1, loc=logs.mean(), scale=scipy.stats.sem(logs))
        mean, low, high = (math.exp(value) for value in (logs.mean(), *ends))
        assert f"| {mean:.3f} ({low:.3f} to {high:.3f}) |" in row
        assert high < 1
    assert re.search(r"\*\*holds\*\*.*MNIST \(15,000\), half wrong, LeNet-300-100\]\(\S+\) at 266,610;", page)


def test_the_barriers_of_the_smallest_networks_by_hand(page):
    """Claim C4 from its committed table: scipy's t interval of the barriers."""
    rows = pd.read_csv(ROOT / "docs/studies/theory_regression_1d/barrier_by_width.csv").query("num_params == 15")
    barriers = rows[rows["rho"] == 0.2]["barrier.barrier"]
    joint = 0.95**0.25  # of four sizes
    low, high = scipy.stats.t.interval(joint, 2, loc=barriers.mean(), scale=scipy.stats.sem(barriers))
    text = f"at a number of parameters: {barriers.mean():+.3f} at 15 ({low:+.3f} to {high:+.3f})"
    assert text.replace("-", "−") in page
    ratios = rows.pivot(index="seed", columns="rho", values="curvature.top_eigenvalue")
    assert f"×{scipy.stats.gmean(ratios[0.2] / ratios[0.0]):.3g} (" in page


@pytest.mark.parametrize(
    ("kinds", "verdict"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "not decided"], "not decided"),
        (["not decided", "does not"], "does not"),
    ],
)
def test_a_claim_of_several_parts_holds_where_each_does(claims, kinds, verdict):
    assert claims.all_hold(kinds) == verdict


def test_the_growth_of_the_gain_by_hand(claims):
    """Claim C1 on digits, from its committed table: polyfit for each seed; the interval is wider than Student's."""
    rows = pd.read_csv(ROOT / "docs/studies/digits_width/gain_by_width.csv").query("of == 'corrected'")
    rows = rows.dropna(subset="seed")
    slopes = [
        100 * np.polyfit(np.log10(of_seed["num_params"]), of_seed["gain"], 1)[0] for _, of_seed in rows.groupby("seed")
    ]
    evidence = claims.growth(claims.find("digits_width.width"))
    assert evidence.number.startswith(f"{np.mean(slopes):+.2f} (")
    low, high = (
        float(end.replace("−", "-")) for end in re.findall(r"\(([+−\d.]+) to ([+−\d.]+)\)", evidence.number)[0]
    )
    reach = scipy.stats.t.ppf(0.975, 7) * scipy.stats.sem(slopes)
    assert (high - low) / 2 >= reach - 0.01
    assert f"| {np.mean(slopes):+.2f} (".replace("-", "−") in (ROOT / "docs/results.md").read_text()
