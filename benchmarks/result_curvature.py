"""The curvature of the minima at the smallest and largest network of a study: SAM's beside its base optimizer's.

Not a program: `results.py` and `claims.py` write the pages.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from result_studies import CLEAN_MNIST, FASHION, MINATAR_MILLION, NOISY_MNIST, Study, read

from flatwide.analysis import intervals

TOP, TRACE, NON_UNIFORMITY = "curvature.top_eigenvalue", "curvature.trace", "moments.s_2"


class Measured(NamedTuple):
    """A study with measurements in a committed table of runs.

    study: what was trained. runs: the table in docs/studies. where: column -> value of the rows to read.
    metric: the column that the study compares.
    """

    study: Study
    runs: str
    where: Mapping[str, Any] = {}
    metric: str = "test_metric"


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
    ratios: dict[str, intervals.Mean]
    gain: intervals.Mean
    hidden: float
    num_networks: int
    num_saddles: int


MEASURED = (
    Measured(NOISY_MNIST, "mnist_label_noise/runs.csv", where={"label_noise": 0.5}),
    Measured(CLEAN_MNIST, "mnist_label_noise/runs.csv", where={"label_noise": 0.0}),
    Measured(FASHION, "fashion_mnist_width/runs.csv"),
    Measured(MINATAR_MILLION, "minatar_width/million/runs.csv", metric="test_metric_best"),
)


def ends(study: Measured) -> list[End]:
    """List the measured sizes of a study, the smallest first, each at every measured rho."""
    rows = read(study.runs, study.where)
    rows = rows[rows[TOP].notna()]
    sizes = []
    for (num_params, rho), sam in rows[rows["rho"] > 0].groupby(["num_params", "rho"]):
        base = rows[(rows["num_params"] == num_params) & (rows["rho"] == 0)]
        sizes.append(_end(study, base.set_index("seed"), sam.set_index("seed"), int(num_params), float(rho)))
    return sizes


def _end(study: Measured, base: pd.DataFrame, sam: pd.DataFrame, num_params: int, rho: float) -> End:
    """Compare the seeds that both arms have."""
    seeds = base.index.intersection(sam.index)
    base, sam = base.loc[seeds], sam.loc[seeds]
    # Logarithms need positive numbers, and a trace can be negative at a saddle.
    names = [
        name
        for name in (TOP, TRACE, NON_UNIFORMITY)
        if name in base and all((arm[name] > 0).all() for arm in (base, sam))
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
        ratios={name: intervals.mean((of_sam - of_base).tolist()) for name, (of_base, of_sam) in logs.items()},
        gain=intervals.mean((study.study.factor * (sam[study.metric] - base[study.metric])).tolist()),
        hidden=float((both["curvature.top_hidden_gap"] / both[TOP]).max()),
        num_networks=len(both),
        num_saddles=int((both["curvature.is_saddle"] == 1).sum()),
    )


def section() -> str:
    """Write the section of the page of results."""
    sizes = [(study, end) for study in MEASURED for end in ends(study)]
    rows = "\n".join(_row(study, end) for study, end in sizes)
    hidden = max(end.hidden for _, end in sizes)
    saddles, networks = (sum(getattr(end, name) for _, end in sizes) for name in ("num_saddles", "num_networks"))
    return f"""## Curvature of the minima

At the end of training, on training examples: the top eigenvalue of the Hessian of the mean loss, its trace, and s₂, how
much the Hessians of single examples differ ([definitions](measure.md)). Geometric means over seeds, base → SAM, and
SAM's over the base's with its 95 % interval over seeds, paired: below 1 is flatter, or more uniform. The gain is that
of the same networks: in points, or in the game's score. Intervals are those of single numbers, not joint. With a
certainty of 1 − 10⁻⁴ a run, no eigenvalue exceeds the top one by more than a share of {hidden:.1g}. "Minimum"
means where training ended: {saddles} of {networks} networks have a negative eigenvalue.

| data | model | parameters | rho | seeds | examples | top eigenvalue | ratio | trace | ratio | s₂ | ratio | gain |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
{rows}
"""


def _row(study: Measured, end: End) -> str:
    """Write the row of a size."""
    trained = study.study
    cells = [f"[{trained.data}](studies/{trained.page}.md)", trained.model, f"{end.num_params:,}", f"{end.rho:g}"]
    cells += [str(end.num_seeds), f"{end.num_examples:,}"]
    for name in (TOP, TRACE, NON_UNIFORMITY):
        if name in end.ratios:
            cells += [f"{_rounded(end.base[name], 3)} → {_rounded(end.sam[name], 3)}", ratio(end.ratios[name])]
        else:
            cells += ["–", "–"]
    mean, low, high = (f"{value:.2f}".replace("-", "−") for value in (end.gain.mean, end.gain.low, end.gain.high))
    cells.append(f"{mean} ({low} to {high})")
    return f"| {' | '.join(cells)} |"


def ratio(logarithm: intervals.Mean) -> str:
    """Write a mean logarithm as a ratio with its interval."""
    ends = (logarithm.mean, logarithm.low, logarithm.high)
    mean, low, high = (_rounded(math.exp(value), 2) for value in ends)
    return f"{mean} ({low} to {high})"


def _rounded(value: float, digits: int) -> str:
    """Write a number with so many significant digits, zeros at its end included."""
    return f"{value:#.{digits}g}".removesuffix(".")
