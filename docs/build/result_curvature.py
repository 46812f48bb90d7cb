"""The curvature of the minima at the smallest and largest network of a study: SAM's beside its base optimizer's.

Not a program.
"""

import math
from typing import NamedTuple

import pandas as pd
from result_tables import decimal, read
from studies import FOLDER, Result, results

from flatwide.analysis import estimates
from flatwide.analysis.estimates import Estimate

TOP, NON_UNIFORMITY = "curvature.top_eigenvalue", "moments.s_2"


class End(NamedTuple):
    """A measured network size.

    num_params, rho, num_seeds, num_examples: of the networks and the measurement.
    base, sam: quantity -> geometric mean over seeds. ratios: quantity -> mean of the logarithms of SAM over base, seed
    by seed. gain: of this rho over the base, in the unit of the study. hidden: the largest share of a top eigenvalue by
    which a missed eigenvalue could exceed it.
    num_networks, num_saddles: those measured, and those of them with a negative eigenvalue.
    """

    num_params: int
    rho: float
    num_seeds: int
    num_examples: int
    base: dict[str, float]
    sam: dict[str, float]
    ratios: dict[str, Estimate]
    gain: Estimate
    hidden: float
    num_networks: int
    num_saddles: int


def measured() -> list[Result]:
    """List the results with measurements in a committed table of runs."""
    return [result for result in results() if result.curvature]


def ends(study: Result) -> list[End]:
    """List the measured sizes of a study, the smallest first, each at every measured rho."""
    rows = read(FOLDER / study.study / study.curvature["runs"], study.curvature.get("where"))
    rows = rows[rows[TOP].notna()]
    sizes = []
    for (num_params, rho), sam in rows[rows["rho"] > 0].groupby(["num_params", "rho"]):
        base = rows[(rows["num_params"] == num_params) & (rows["rho"] == 0)]
        sizes.append(_end(study, base.set_index("seed"), sam.set_index("seed"), int(num_params), float(rho)))
    return sizes


def _end(study: Result, base: pd.DataFrame, sam: pd.DataFrame, num_params: int, rho: float) -> End:
    """Compare the seeds that both arms have."""
    seeds = base.index.intersection(sam.index)
    base, sam = base.loc[seeds], sam.loc[seeds]
    # Logarithms need positive numbers.
    names = [
        name for name in (TOP, NON_UNIFORMITY) if name in base and all((arm[name] > 0).all() for arm in (base, sam))
    ]
    logs = {name: (base[name].map(math.log), sam[name].map(math.log)) for name in names}
    both = pd.concat([base, sam])
    return End(
        num_params=num_params,
        rho=rho,
        num_seeds=len(seeds),
        num_examples=int(both["curvature.num_examples"].max()),
        base={name: math.exp(of_base.mean()) for name, (of_base, _) in logs.items()},
        sam={name: math.exp(of_sam.mean()) for name, (_, of_sam) in logs.items()},
        ratios={name: estimates.mean((of_sam - of_base).tolist()) for name, (of_base, of_sam) in logs.items()},
        gain=estimates.mean((study.factor * (sam["test_metric"] - base["test_metric"])).tolist()),
        hidden=float((both["curvature.top_hidden_gap"] / both[TOP]).max()),
        num_networks=len(both),
        num_saddles=int((both["curvature.is_saddle"] == 1).sum()),
    )


def section() -> str:
    """Write the section of the page of results."""
    sizes = [(study, end) for study in measured() for end in ends(study)]
    rows = "\n".join(_row(study, end) for study, end in sizes)
    hidden = _rounded_up(max(end.hidden for _, end in sizes))
    fewest, most = (choose(end.num_examples for _, end in sizes) for choose in (min, max))
    num_seeds = " or ".join(str(number) for number in sorted({end.num_seeds for _, end in sizes}))
    saddles, networks = (sum(getattr(end, name) for _, end in sizes) for name in ("num_saddles", "num_networks"))
    return f"""## Curvature of the minima

Where training ended ({saddles} of {networks} networks have a negative eigenvalue): the top eigenvalue of the Hessian,
and s₂, how much the Hessians of single examples differ ([definitions](measure.md)), on {fewest:,} to {most:,} training
examples. Geometric means over {num_seeds} seeds, base → SAM, and the ratio of SAM to its base, paired by seed, with its
95 % interval: below 1 is flatter, or more uniform. The gain is that of the same networks. With probability 0.9999 or
more, a true top eigenvalue exceeds the value found by at most {100 * hidden:.2g} %.

| data | parameters | rho | top eigenvalue | ratio | s₂ | ratio | gain |
|---|---|---|---|---|---|---|---|
{rows}
"""


def _row(study: Result, end: End) -> str:
    """Write the row of a size."""
    cells = [f"[{study.data}]({study.link})", f"{end.num_params:,}", f"{end.rho:g}"]
    for name in (TOP, NON_UNIFORMITY):
        if name in end.ratios:
            cells += [f"{_rounded(end.base[name], 3)} → {_rounded(end.sam[name], 3)}", ratio(end.ratios[name])]
        else:
            cells += ["–", "–"]
    mean, low, high = (decimal(value, sign="") for value in (end.gain.value, end.gain.low, end.gain.high))
    cells.append(f"{mean} ({low} to {high})")
    return f"| {' | '.join(cells)} |"


def ratio(logarithm: Estimate) -> str:
    """Write a mean logarithm as a ratio with its interval."""
    ends = (logarithm.value, logarithm.low, logarithm.high)
    mean, low, high = (_rounded(math.exp(value), 3) for value in ends)
    return f"{mean} ({low} to {high})"


def _rounded(value: float, digits: int) -> str:
    """Write a number with so many significant digits, zeros at its end included."""
    return f"{value:#.{digits}g}".removesuffix(".")


def _rounded_up(bound: float) -> float:
    """Round a bound up to two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(bound)) - 1)
    return math.ceil(bound / unit) * unit
