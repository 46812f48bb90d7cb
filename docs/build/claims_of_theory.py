"""The evidence of docs/claims.md from the studies of the theory: functions, basins, constants, rates and bounds.

Not a program.
"""

import math

import numpy as np
from claim_numbers import (
    FAILS,
    HOLDS,
    OPEN,
    Evidence,
    all_hold,
    factor,
    interval,
    log_slope,
    near_zero,
    verdict_of,
)
from result_tables import decimal, read

from flatwide.analysis import estimates
from flatwide.analysis.estimates import Estimate


def simpler_functions() -> list[Evidence]:
    """Compare the variation of the slopes of the functions of SAM and SGD, seed by seed."""
    numbers_and_kinds = []
    sizes = (15, 30, 300, 3000)
    for size in sizes:
        where = {"quantity": "function.slope_total_variation", "num_params": size}
        rows = read("theory_regression_1d/function_by_rho.csv", where)
        wide = rows.pivot(index="rho", columns="seed", values="value")
        ratio = estimates.mean(np.log(wide.loc[0.2] / wide.loc[0.0]).to_numpy(), level=estimates.sidak(len(sizes)))
        number = factor(ratio, f"at {size:,}")
        kind = verdict_of(ratio.low, ratio.high, positive=False)
        if size < 100:  # there the claim is that they are equally simple
            kind = FAILS if kind != OPEN else OPEN
        numbers_and_kinds.append((number, kind))
    kinds = [kind for _, kind in numbers_and_kinds]
    whole = HOLDS if kinds[2:] == [HOLDS, HOLDS] and FAILS not in kinds[:2] else FAILS if FAILS in kinds[2:] else OPEN
    listed = "; ".join(number for number, _ in numbers_and_kinds)
    numbers = f"variation of the slope, SAM over SGD, at a number of parameters: {listed}"
    return [
        Evidence("studies/theory_regression_1d.md", "12 points on a line, one hidden layer, rho 0.2", numbers, whole)
    ]


def basins() -> list[Evidence]:
    """Compute the barrier between SGD and SAM from the same start, and the ratio of their top eigenvalues, by size.

    A barrier is the rise of the loss on the line between two networks. With few neurons it must be near zero, within a
    tenth of SGD's training loss; with many it must be positive, and the ratio below 1.
    """
    rows = read("theory_regression_1d/barrier_by_width.csv")
    texts, kinds, sizes = [], [], sorted(rows["num_params"].unique())
    level = estimates.sidak(len(sizes))
    for size in sizes:
        wide = rows[rows["num_params"] == size].pivot(index="seed", columns="rho")
        barrier = estimates.mean(wide["barrier.barrier"][0.2].to_numpy(), level=level)
        eigenvalues = wide["curvature.top_eigenvalue"]
        ratio = estimates.mean(np.log(eigenvalues[0.2] / eigenvalues[0.0]).to_numpy(), level=level)
        text = interval(barrier, f"at {size:,}", digits=3)
        texts.append(f"{text}, {factor(ratio, '')}")
        if size < 100:
            kinds.append(near_zero(barrier.low, barrier.high, margin=0.1 * wide["train_loss"][0.0].mean()))
        else:
            kinds += [verdict_of(barrier.low, barrier.high), verdict_of(ratio.low, ratio.high, positive=False)]
    data = "12 points on a line, one hidden layer, rho 0.2, 3 seeds"
    what = "barrier in squared error, and top eigenvalue of SAM over SGD, at a number of parameters"
    numbers = f"{what}: {'; '.join(texts)}"
    return [Evidence("studies/theory_regression_1d.md", data, numbers, all_hold(kinds))]


def smoothness() -> list[Evidence]:
    """Compute how the constants along the path of SGD change with width."""
    texts, kinds = [], []
    for quantity, words, positive in (("smoothness", "β", False), ("pl_constant", "α", True)):
        where = {"quantity": f"smoothness.{quantity}", "rho": 0.0}
        rows = read("theory_smoothness_pl/smoothness_by_width.csv", where)
        change = log_slope(rows, "num_params", is_size=True)
        texts.append(factor(change, words))
        kinds.append(verdict_of(change.low, change.high, positive=positive))
    kind = all_hold(kinds)
    numbers = f"per tenfold increase in parameters: {'; '.join(texts)}"
    return [Evidence("studies/theory_smoothness_pl.md", "digits, MLP, SGD, last epoch", numbers, kind)]


def linear_convergence() -> list[Evidence]:
    """Compare the speed at which the logarithm of the loss falls late and early, at the largest size and rho.

    Linear convergence keeps the speed; with any power of the time, each doubling of the epochs halves it.
    """
    rows = read("theory_convergence/training_curves.csv")
    rows = rows[rows["num_params"] == rows["num_params"].max()]
    rows = rows[rows["rho"] == rows["rho"].max()]
    wide = np.log(rows.pivot(index="epoch", columns="seed", values="running_train_loss"))
    late, early = (wide.loc[50] - wide.loc[100]) / 50, (wide.loc[25] - wide.loc[50]) / 25
    ratio = estimates.mean((late / early).tolist())
    size, rho = rows["num_params"].max(), rows["rho"].max()
    ends = f"({decimal(ratio.low)} to {decimal(ratio.high)})"
    number = (
        f"at {size:,} parameters and rho {rho:g} the logarithm of the loss falls in epochs 50 to 100 "
        f"{decimal(ratio.value)} times as fast as in 25 to 50 {ends}; a power of the time would give 0.5"
    )
    kind = verdict_of(ratio.low - 0.5, ratio.high - 0.5)
    return [Evidence("studies/theory_convergence.md", "matrix factorization, unnormalized SAM", number, kind)]


def lazy() -> list[Evidence]:
    """Compute how far SAM is below SGD in the lazy regime, at its best rho."""
    rows = read("linearized_regime/metric_by_output_scale.csv")
    rows = rows[rows["output_scale"] == rows["output_scale"].max()]
    gain = estimates.mean((100 * rows["gain"]).tolist())
    kind = HOLDS if gain.high < -10 else FAILS if gain.low > -10 else OPEN
    number = interval(gain, f"points at an output scale of {rows['output_scale'].max():g} and the best rho")
    return [Evidence("studies/linearized_regime.md", "digits, linearized MLP", number, kind)]


def generalizes() -> list[Evidence]:
    """Compare SAM's test error at the smallest and largest width, unpaired because the table has only means."""
    rows = read("theory_generalization/summary.csv", {"row": "seeds", "learning_rate": 0.001, "rho": 0.001})
    first, last = (rows.sort_values("num_params").iloc[index] for index in (0, -1))
    error = math.hypot(first["standard_error"], last["standard_error"])
    fewest = int(min(first["num_seeds"], last["num_seeds"]))
    change = last["mean"] - first["mean"]
    difference = Estimate(change, error, fewest - 1, fewest)  # the lower bound of its degrees of freedom
    sizes = f"from {int(first['num_params']):,} to {int(last['num_params']):,} parameters"
    number = interval(difference, f"of squared error {sizes}, {fewest} seeds")
    kind = verdict_of(difference.low, difference.high, positive=False)
    return [Evidence("studies/theory_generalization.md", "the two-layer teacher, frozen head", number, kind)]
