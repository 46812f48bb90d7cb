"""The page docs/claims.md: each claim of the paper with the evidence from the committed tables of the studies.

Not a program: `pages.py` writes it.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import result_curvature
from claim_numbers import (
    FAILS,
    HOLDS,
    NEAR_ZERO,
    OPEN,
    Evidence,
    all_hold,
    factor,
    interval,
    log_slope,
    near_zero,
    verdict_of,
)
from claims_of_theory import basins, generalizes, lazy, linear_convergence, simpler_functions, smoothness
from result_tables import read, scores, slope, width_rows, widths
from studies import Result, find, judged, results

from flatwide.analysis import estimates
from flatwide.analysis.estimates import Estimate

PAGE = Path(__file__).parents[1] / "claims.md"

SLOPE = "points per tenfold increase in parameters"
SLOPES = "[slopes](results.md#gains-by-width)"


class Claim(NamedTuple):
    """A claim of the paper, the function that evaluates it, and what its numbers are.

    elsewhere: where the numbers are; their table is not repeated then.
    """

    name: str
    text: str
    evaluate: Callable[[], list[Evidence]]
    number: str = "number"
    elsewhere: str = ""


def overall(evidence: Sequence[Evidence]) -> str:
    """Join the verdicts of several studies."""
    if len(evidence) == 1:
        return evidence[0].verdict
    counts = {kind: sum(item.verdict == kind for item in evidence) for kind in (HOLDS, FAILS, OPEN)}
    return "; ".join(f"{kind} in {count} of {len(evidence)}" for kind, count in counts.items() if count)


def of(study: Result, number: str, verdict: str) -> Evidence:
    """Name the study that a number is from."""
    return Evidence(study.link, study.name, number, verdict)


def growth(study: Result) -> Evidence:
    """Compute the change of the gain per tenfold increase in parameters."""
    in_tables = slope(study)
    assert in_tables is not None
    change = study.in_unit(in_tables)
    number = interval(change, "" if study.is_percent else f"of {study.unit}")
    return of(study, number, verdict_of(change.low, change.high))


def smallest(study: Result) -> Evidence:
    """Compute the gain at the smallest size."""
    width = widths(study)[0]
    gain = study.in_unit(width.estimate)
    number = interval(gain, f"at {width.num_params:,}")
    verdict = near_zero(gain.low, gain.high)
    return of(study, number if verdict != OPEN else "", verdict)


def best_rhos() -> list[Evidence]:
    """Test in each study of several rho whether the sets of the best rho at both ends are disjoint."""
    return [_best_rhos(study) for study in judged("C5") if widths(study)[0].num_rhos > 1]


def _best_rhos(study: Result) -> Evidence:
    rows = width_rows(study)
    ends = (rows[0], rows[-1])
    sets = [[float(rho) for rho in str(row["best_rho_set"]).split()] for row in ends]
    edges = [f" ({row['at_grid_edge']} end)" if isinstance(row["at_grid_edge"], str) else "" for row in ends]
    texts = [
        f"{row['best_rho']:g} of {{{', '.join(f'{rho:g}' for rho in members)}}}{edge}"
        for row, members, edge in zip(ends, sets, edges, strict=True)
    ]
    verdict = HOLDS if max(sets[0]) < min(sets[1]) else FAILS if max(sets[1]) < min(sets[0]) else OPEN
    return of(study, f"from {' to '.join(texts)}" if verdict != OPEN else "", verdict)


def amplified() -> list[Evidence]:
    """Compute how much faster the gain grows where half of the labels are wrong, seed by seed at the same sizes."""
    evidence = []
    for with_noise in results():
        if not with_noise.without_noise:
            continue
        without = find(with_noise.without_noise)
        of_both = [{width.num_params for width in widths(study)} for study in (without, with_noise)]
        sizes = sorted(set.intersection(*of_both))
        clean, noisy = (scores(study, sizes) for study in (without, with_noise))
        if clean is None or noisy is None:
            continue
        line = estimates.slope_weights(sizes)
        together = estimates.joined([clean, noisy])
        change = estimates.contrast(together, np.concatenate([-line, line])).scaled(with_noise.factor)
        evidence.append(of(with_noise, interval(change, ""), verdict_of(change.low, change.high)))
    return evidence


def flatter() -> list[Evidence]:
    """Compute how the top eigenvalue and the non-uniformity fall with rho."""
    texts, kinds = [], []
    for name, quantity, words in (
        ("curvature_by_rho.csv", "curvature.top_eigenvalue", "top eigenvalue"),
        ("moments_by_rho.csv", "moments.s_2", "s₂"),
    ):
        fall = log_slope(read(f"theory_stability/{name}", {"quantity": quantity}), "rho", is_size=False)
        texts.append(factor(fall.scaled(0.1), f"{words} per increase of 0.1 in rho"))
        kinds.append(verdict_of(fall.low, fall.high, positive=False))
    kind = all_hold(kinds)
    along_rho = Evidence("studies/theory_stability.md", "digits, MLP, squared loss", f"by {' and '.join(texts)}", kind)
    return [along_rho, *(item for study in result_curvature.measured() for item in _flatter_at(study))]


def _flatter_at(study: Result) -> list[Evidence]:
    """Judge the top eigenvalue and the non-uniformity of SAM's minima over the base's, at each measured size."""
    evidence = []
    for end in result_curvature.ends(study):
        kind = all_hold([verdict_of(ratio.low, ratio.high, positive=False) for ratio in end.ratios.values()])
        evidence.append(of(study, f"at {end.num_params:,}", kind))
    return evidence


def twice_as_long() -> list[Evidence]:
    """Test whether the gain over SGD trained twice as long, each arm tuned, grows with width.

    The table has only means, so the seeds are unpaired, and the squares of the two errors add up.
    """
    rows = read("digits_fair_fight/comparisons.csv", {"comparison": "equal compute"}).sort_values("num_params")
    first, last = rows.iloc[0], rows.iloc[-1]
    change = 100 * (last["tuned_gain"] - first["tuned_gain"])
    error = 100 * math.hypot(first["tuned_standard_error"], last["tuned_standard_error"])
    difference = Estimate(change, error, min(first["num_seeds"], last["num_seeds"]) - 1, int(last["num_seeds"]))
    sizes = f"of gain from {int(first['num_params']):,} to {int(last['num_params']):,} parameters, each arm tuned"
    data, number = "digits with half of the training labels wrong, MLP", interval(difference, f"points {sizes}")
    kind = verdict_of(difference.low, difference.high)
    return [Evidence(find("digits_fair_fight.tuned").link, data, number, kind)]


def decay_replaces() -> list[Evidence]:
    """Test at each size whether SAM still gains where each arm's weight decay is tuned."""
    evidence = []
    for study in judged("C13"):
        for width in widths(study):
            gain = study.in_unit(width.estimate)
            number = interval(gain, f"at {width.num_params:,}")
            evidence.append(of(study, number, verdict_of(gain.low, gain.high)))
    return evidence


def without_regularization() -> list[Evidence]:
    """Test under each condition whether the gain does not grow: the interval of its slope lies below zero."""
    evidence = []
    for study in sorted((study for study in results() if study.without), key=lambda study: study.without, reverse=True):
        grows = growth(study)
        verdict = {HOLDS: FAILS, FAILS: HOLDS}.get(grows.verdict, grows.verdict)
        evidence.append(grows._replace(number=f"({study.without})", verdict=verdict))
    return evidence


def depths() -> list[Evidence]:
    """Test whether the gain of MLPs grows with depth; that of a ResNet is to be flat, so growth speaks against it."""
    evidence = []
    for study in judged("C12"):
        grows = growth(study)
        is_flat = study.model.startswith("ResNet")
        evidence.append(grows._replace(verdict={HOLDS: FAILS}.get(grows.verdict, OPEN)) if is_flat else grows)
    return evidence


CLAIMS = (
    Claim(
        "C1",
        "the gain of SAM grows with width",
        lambda: [growth(study)._replace(number="") for study in judged("C1")],
        elsewhere=SLOPES,
    ),
    Claim(
        "C2",
        "with few parameters the gain is near zero",
        lambda: [smallest(study) for study in judged("C2")],
        elsewhere="[gains](results.md#gains-by-width) at the smallest number of parameters; in points",
    ),
    Claim("C3", "1-D regression: SAM's functions are simpler where there are many neurons, not few", simpler_functions),
    Claim("C4", "SAM ends in SGD's basin where there are few neurons, in a flatter one where there are many", basins),
    Claim(
        "C5",
        "the best rho grows with the number of parameters",
        best_rhos,
        elsewhere="[best rho](results.md#gains-by-width), and its sets (`best_rho_set`) in the tables of each study",
    ),
    Claim("C6", "the smoothness constant β shrinks with width, the PL constant α grows", smoothness),
    Claim(
        "C7", "label noise amplifies the growth", amplified, "points more per tenfold increase than without label noise"
    ),
    Claim(
        "C8",
        "at a fixed number of nonzero parameters, wider and sparser networks gain more",
        lambda: [growth(study) for study in judged("C8")],
        SLOPE,
    ),
    Claim(
        "C9",
        "the gain does not grow without weight decay, without early stopping, or for ViT",
        without_regularization,
        elsewhere=SLOPES,
    ),
    Claim(
        "C10",
        "minima of SAM are flatter and more uniform, the more so the larger rho",
        flatter,
        elsewhere="[ratios](results.md#curvature-of-the-minima) at a number of parameters",
    ),
    Claim("C11", "unnormalized SAM converges linearly where it interpolates", linear_convergence),
    Claim("C12", "with depth, the gain grows for MLPs and not for ResNets", depths, SLOPE),
    Claim(
        "C13", "stronger weight decay of SGD does not replace SAM", decay_replaces, "points at a number of parameters"
    ),
    Claim("C14", "in the lazy regime SAM is more than 10 points below SGD", lazy),
    Claim("C15", "twice as many epochs of SGD do not remove the growth", twice_as_long),
    Claim("C16", "the test error of SAM itself falls with width", generalizes),
)

HEAD = f"""# The paper's claims

`python docs/build/pages.py` writes this page from the tables in `docs/studies/`. Most studies are smaller than the
paper's, on other data; a verdict applies to what was run.

A claim **holds** or **does not** if the whole 95 % interval over seeds implies it (joint over
the sizes in **C3** and **C4**, whose verdicts are about several), and is **not decided** if the
interval includes both. Of the decided verdicts, expect one in twenty to be wrong by chance, and more where several
intervals decide. Labels of data are explained with the [gains](results.md#gains-by-width).

- **C1, C9, C13**: the paper's data have right labels.
- **C2**: near zero is within ±{NEAR_ZERO:g} points; for the barriers of **C4**, within a tenth of SGD's training loss.
- **C5** needs several rho. Its sets have 95 % confidence each, and are censored at the end of a grid.
- **C10**: where one rho is compared with the base, only the first half is judged, by the top eigenvalue and s₂.

"""


def section(claim: Claim, evidence: Sequence[Evidence]) -> str:
    """Write the evidence of a claim."""
    head = f"## {claim.name}: {claim.text}\n\n"
    if claim.elsewhere:
        return f"{head}Numbers: {claim.elsewhere}.\n\n{_by_verdict(evidence)}"
    rows = "\n".join(f"| [{item.data}]({item.page}) | {item.number} | {item.verdict} |" for item in evidence)
    return f"{head}| data, network | {claim.number} (95 % interval) | verdict |\n|---|---|---|\n{rows}\n"


def _by_verdict(evidence: Sequence[Evidence]) -> str:
    """List the studies of each verdict."""
    lines = []
    for kind in (HOLDS, FAILS, OPEN):
        links = [f"[{item.data}]({item.page}) {item.number}".strip() for item in evidence if item.verdict == kind]
        lines += [f"- **{kind}**: {'; '.join(links)}\n"] if links else []
    return "".join(lines)


def page() -> str:
    """Write the page."""
    every = [(claim, claim.evaluate()) for claim in CLAIMS]
    rows = "\n".join(f"| {claim.name} | {claim.text} | {overall(evidence)} |" for claim, evidence in every)
    summary = f"| claim | what it says | verdict |\n|---|---|---|\n{rows}\n"
    return HEAD + "\n".join([summary, *(section(claim, evidence) for claim, evidence in every)])
