"""What SAM buys over its base optimizer, as a network grows.

The gain is the mean over seeds of SAM - base, signed so that positive means that SAM is better. Both runs of a seed
start from the same weights, see the same data in the same order and differ in rho alone, so they are compared in pairs.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import registry
from flatwide import runs as files
from flatwide.analysis import intervals

if TYPE_CHECKING:
    import pandas as pd

_NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


class _Group(NamedTuple):
    """The runs of one width: `pairs` has seed, base, sam and gain of each seed that has both."""

    width: Any
    num_params: int
    best_rho: float  # NaN if every rho has a diverged seed
    pairs: list[dict[str, Any]]
    num_diverged: int


def gain_by_width(runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric") -> "pd.DataFrame":
    """Compute the gain of SAM over its base optimizer at every width.

    Args:
      runs: rows of the results table that differ in width, rho and seed only; those that are not done are left out.
      width: the column that tells the widths apart.
      metric: the column that is compared. The best rho has its best mean over seeds; one with a diverged seed cannot
        be the best. It is chosen by the very numbers that are compared, as in the paper, which flatters SAM somewhat.
    Returns: one row a width, the smallest first: the width, `num_params`, `base`, `best_rho`, `sam` (means over the
      seeds that both have), `gain`, its `standard_error` and 95 % t interval `low`, `high` (NaN for one seed),
      `num_seeds` (pairs) and `num_diverged` (runs).
    Raises: ValueError if a column is missing, a width has no base run, or two runs differ in something else.
    """
    import pandas as pd

    rows = []
    for group in _groups(runs, width=width, metric=metric):
        gain = intervals.mean([pair["gain"] for pair in group.pairs])
        rows.append(
            {
                width: group.width,
                "num_params": group.num_params,
                "base": intervals.mean([pair["base"] for pair in group.pairs]).mean,
                "best_rho": group.best_rho,
                "sam": intervals.mean([pair["sam"] for pair in group.pairs]).mean,
                **gain._asdict(),
                "num_seeds": len(group.pairs),
                "num_diverged": group.num_diverged,
            }
        )
    return pd.DataFrame(rows).rename(columns={"mean": "gain"})


def pair_seeds(runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric") -> "pd.DataFrame":
    """Put each seed's SAM run at its width's best rho beside its base run: what `gain_by_width` takes the means of.

    Args, Raises: as for `gain_by_width`.
    Returns: one row a width and seed: the width, `num_params`, `best_rho`, `seed`, `base`, `sam`, `gain`.
    """
    import pandas as pd

    columns = list(dict.fromkeys([width, "num_params", "best_rho", "seed", "base", "sam", "gain"]))
    rows = [
        {width: group.width, "num_params": group.num_params, "best_rho": group.best_rho, **pair}
        for group in _groups(runs, width=width, metric=metric)
        for pair in group.pairs
    ]
    return pd.DataFrame(rows, columns=columns)


def base_name(runs: "pd.DataFrame") -> str:
    """Name the base optimizer of some runs as a table or figure shows it, such as SGD."""
    known = [run for run in _records(runs) if run["optimizer"] is not None]
    used = {run["base_optimizer"] if run["optimizer"] == "sam" else run["optimizer"] for run in known}
    return " and ".join(sorted(_NAMES.get(name, str(name)) for name in used))


def format_table(table: "pd.DataFrame", *, metric_name: str = "accuracy", base: str = "SGD") -> str:
    """Write the table of `gain_by_width` as text; a fraction becomes percent, and its gain percentage points.

    Args:
      metric_name: what `metric` is, as in the results table.
      base: name of the base optimizer.
    """
    is_percent = metric_name in files.FRACTION_METRICS
    factor, digits = (100, 2) if is_percent else (1, 4)
    unit, points = (" (%)", " (points)") if is_percent else ("", "")

    def number(value: float, sign: str = "") -> str:
        return format(factor * value, f"{sign}.{digits}f") if math.isfinite(value) else "-"

    width = table.columns[0]
    lines = [
        [str(width), "parameters", f"{base} {metric_name}{unit}", f"SAM {metric_name}{unit}", "best rho"]
        + [f"gain ± standard error{points}", "seeds"]
    ]
    for row in table.to_dict("records"):
        gain = f"{number(row['gain'], '+')} ± {number(row['standard_error'])}"
        rho = f"{row['best_rho']:g}" if math.isfinite(row["best_rho"]) else "-"
        counted = [rho, gain, str(row["num_seeds"])]
        lines.append([str(row[width]), f"{row['num_params']:,}", number(row["base"]), number(row["sam"]), *counted])
    lines = [line[1:] for line in lines] if width == "num_params" else lines
    sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(entry.rjust(size) for entry, size in zip(line, sizes, strict=True)) for line in lines]
    if diverged := sum(table["num_diverged"]):
        text.append(f"{diverged} of the runs diverged; a rho with a diverged seed is never the best.")
    return "\n".join(text)


def _records(runs: "pd.DataFrame") -> list[dict[str, Any]]:
    """Turn a table into dicts, with None for whatever is missing."""
    import pandas as pd

    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in runs.to_dict("records")]


def _groups(runs: "pd.DataFrame", *, width: str, metric: str) -> list[_Group]:
    """Pair the runs of each width, the smallest width first.

    Raises: ValueError if the runs cannot be compared.
    """
    for name in (width, metric, "num_params", "rho", "seed", "status", "higher_is_better"):
        if name not in runs.columns:
            raise ValueError(registry.unknown("column", name, runs.columns))
    done = [run for run in _records(runs) if run["status"] in ("finished", "diverged")]
    for run in done:
        run["rho"] = run["rho"] if run.get("optimizer", "sam") == "sam" else 0.0
        run |= {name: int(run[name]) for name in ("num_params", "seed")}  # a column with gaps has floats in pandas
    if all(run[metric] is None for run in done):
        raise ValueError(f"metric={metric!r}: none of {len(runs)} runs is done and has it; compare another column.")
    directions = {run["higher_is_better"] for run in done} - {None}
    if len(directions) != 1:
        raise ValueError("higher_is_better differs from run to run; compare runs of one metric.")
    sign = 1 if directions == {True} else -1
    by_width: dict[Any, list[dict[str, Any]]] = {}
    for run in done:
        by_width.setdefault(run[width], []).append(run)
    groups = [_group(group, f"{width}={value}", value, metric, sign) for value, group in by_width.items()]
    return sorted(groups, key=lambda group: group.num_params)


def _group(runs: list[dict[str, Any]], what: str, value: Any, metric: str, sign: int) -> _Group:
    """Find the best rho of one width, and join its runs with the base runs by seed."""
    by_rho: dict[float, dict[int, dict[str, Any]]] = {}
    for run in runs:
        other = by_rho.setdefault(run["rho"], {}).setdefault(run["seed"], run)
        if other is not run:
            raise ValueError(_not_alike(run, other, what))
    if 0 not in by_rho:
        raise ValueError(f"{what} has no base run to compare SAM with; train it with rho=0 (or optimizer='sgd') too.")
    counts = sorted({run["num_params"] for run in runs})
    if len(counts) != 1:
        raise ValueError(f"{what} has networks of {counts} parameters; width='num_params' tells them apart.")
    means = {
        rho: sign * intervals.mean([run[metric] for run in seeds.values()]).mean
        for rho, seeds in sorted(by_rho.items())
        if rho > 0 and all(run[metric] is not None for run in seeds.values())
    }
    best_rho = max(means, key=means.__getitem__, default=float("nan"))  # of equals the smallest
    pairs = [
        {"seed": seed, "base": base[metric], "sam": sam[metric], "gain": sign * (sam[metric] - base[metric])}
        for seed, base in sorted(by_rho[0].items())
        if (sam := by_rho.get(best_rho, {}).get(seed)) and base[metric] is not None
    ]
    return _Group(value, counts[0], best_rho, pairs, sum(run["status"] == "diverged" for run in runs))


def _not_alike(run: dict[str, Any], other: dict[str, Any], what: str) -> str:
    """Say in which config fields two runs of one width, rho and seed differ."""
    config = [name for name in run if name != "run" and name.split(".")[0] not in files.RESULT_FIELDS]
    differ = [f"{name} ({other[name]} and {run[name]})" for name in config if run[name] != other[name]]
    return (
        f"two runs have {what}, rho={run['rho']:g} and seed={run['seed']}; they differ in "
        f"{', '.join(differ) or 'their directories'}. Select one value first."
    )
