"""The results table, made ready: from columns of other names, and cut into parts that can be compared."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import registry
from flatwide import runs as files
from flatwide.analysis import widths

if TYPE_CHECKING:
    import pandas as pd

LENGTHS = ("num_epochs", "num_train_steps")
SIZES = ("num_neurons", "num_filters", "num_blocks", "sparsity", "num_params")  # what may go along with the width
_SAM_ONLY = ("sam_variant", "layer_scales", "microbatch")  # a base run does not read them: it serves every value
_MASK_ONLY = ("pruner", "layer_density", "snip_batches")  # nor a run without a mask these
_NO_AXIS = {"run", "problem", "rho", "seed", "optimizer", "base_optimizer"}
# Fields that only watch a run. The schema knows them too, but it imports what trains; a test compares.
WATCH_ONLY = frozenset(
    {"study", "measurements", "data_dir", "cache", "log_every_steps", "checkpoint_every_seconds", "restore_checkpoint"}
)


class Part(NamedTuple):
    """Runs that differ in width, rho and seed only, or in what goes along with the width."""

    values: dict[str, Any]  # what tells this part from the others: column -> value
    runs: "pd.DataFrame"

    @property
    def name(self) -> str:
        """Name the part, such as `label_noise=0.5`; empty if there is one part only."""
        return ", ".join(f"{column}={value}" for column, value in self.values.items())


def from_columns(
    table: "pd.DataFrame",
    *,
    size: str = "num_params",
    rho: str = "rho",
    seed: str = "seed",
    metric: str = "test_metric",
    higher_is_better: bool = True,
    metric_name: str = "metric",
) -> "pd.DataFrame":
    """Make a results table out of anybody's, with one row a run and at least four columns.

    Args:
      size: column of parameter counts.
      rho: column of radii; 0 is the base.
      seed: column of whole numbers; the base and SAM run of a seed are compared as a pair.
      metric: column of the metric; a run without one has diverged.
      higher_is_better, metric_name: what the metric is; an accuracy is a fraction here, not percent.
    Raises: ValueError if a column is missing or holds something else.
    """
    import pandas as pd

    names = {size: "num_params", rho: "rho", seed: "seed", metric: "test_metric"}
    for column in names:
        if column not in table.columns:
            raise ValueError(registry.unknown("column", column, map(str, table.columns)))
    clash = [name for name in names.values() if name in table.columns and name not in names]
    found: Any = table.drop(columns=clash).rename(columns=names).reset_index(drop=True)
    for column, name in names.items():
        numbers: Any = pd.to_numeric(found[name], errors="coerce")
        wrong = found[name][numbers.isna() & (found[name].notna() | (name != "test_metric"))]
        if len(wrong):
            raise ValueError(f"column {column!r} holds {wrong.iloc[0]!r}: expected a number in every row.")
        found[name] = numbers
    for column, name in ((size, "num_params"), (seed, "seed")):
        if (found[name] != found[name].round()).any():
            raise ValueError(f"column {column!r}: expected whole numbers.")
        found[name] = found[name].astype("int64")
    if (found["rho"] < 0).any():
        raise ValueError(f"column {rho!r} holds {found['rho'].min():g}: expected numbers >= 0 (0 is the base).")
    if metric_name in files.FRACTION_METRICS and found["test_metric"].max() > 1:
        raise ValueError(f"column {metric!r} holds {found['test_metric'].max():g}: expected fractions; divide by 100.")
    facts: dict[str, Any] = {"higher_is_better": higher_is_better, "metric_name": metric_name}
    if "optimizer" not in found.columns:
        facts["optimizer"] = "sam"
    if "status" not in found.columns:
        facts["status"] = ["diverged" if missing else "finished" for missing in found["test_metric"].isna()]
    return found.assign(**facts)


def axes(runs: "pd.DataFrame", *, width: str = "num_params") -> list[str]:
    """Name the config columns, besides width, rho and seed, that have several values at one width."""
    rows = _done(runs)
    names = [name for name in runs.columns if name not in {width, *SIZES[:3], "num_params"} and is_config(name)]
    found = []
    for name in names:
        values: dict[Any, set[Any]] = {}
        for row in rows:
            if not _ignores(row, name):
                values.setdefault(row[width], set()).add(row[name])
        if any(len(seen) > 1 for seen in values.values()):
            found.append(name)
    return found


def parts(runs: "pd.DataFrame", *, width: str = "num_params") -> list[Part]:
    """Cut a table into parts whose runs can be compared, one for each value of the axes besides width, rho and seed.

    A base run that serves several values, such as those of `sam_variant`, is in each. Left out are runs that are
    not done, and widths that have no base run or no SAM run in a part.
    """
    import pandas as pd

    names, rows = axes(runs, width=width), _done(runs)
    keys = {tuple(row[name] for name in names): None for row in rows if widths.effective_rho(row) > 0}
    found = []
    for key in sorted(keys, key=lambda values: [(str(type(value)), value) for value in values]):
        values = dict(zip(names, key, strict=True))
        chosen = [row for row in rows if all(_ignores(row, n) or row[n] == v for n, v in values.items())]
        arms: dict[Any, set[bool]] = {}
        for row in chosen:
            arms.setdefault(row[width], set()).add(widths.effective_rho(row) > 0)
        kept = [row["place"] for row in chosen if len(arms[row[width]]) == 2]
        if kept:
            shared = {name: value for name, value in values.items() if value is not None}
            frame = runs.iloc[kept].assign(**{name: value for name, value in shared.items() if name in _SAM_ONLY})
            found.append(Part(values, pd.DataFrame(frame)))
    return found


def _done(runs: "pd.DataFrame") -> list[dict[str, Any]]:
    rows = [row | {"place": place} for place, row in enumerate(widths.records(runs))]
    return [row for row in rows if row["status"] in ("finished", "diverged")]


def _ignores(row: dict[str, Any], name: str) -> bool:
    """Tell whether a run does not depend on a field."""
    unmasked = not row.get("sparsity")
    return (name in _SAM_ONLY and widths.effective_rho(row) == 0) or (name in _MASK_ONLY and unmasked)


def is_config(name: str) -> bool:
    """Tell whether a column is a config field, or a column of the user's own, that can change a result."""
    first = name.split(".")[0]
    results: Iterable[str] = files.RESULT_FIELDS
    return first not in results and name not in _NO_AXIS and first not in WATCH_ONLY
