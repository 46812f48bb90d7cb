"""Preparation of results tables: from other column names, and split into comparable parts."""

from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import registry
from flatwide.analysis import domains, fields
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd


_MAY_BE_MISSING = ("test_metric", "validation_metric", "validation_loss")


class Part(NamedTuple):
    """Runs of one domain that differ only in width, rho and seed, or in fields that vary with the width."""

    values: dict[str, Any]  # that distinguish this part: column -> value
    runs: "pd.DataFrame"

    @property
    def name(self) -> str:
        """Return the name of the part, such as `label_noise=0.5` or `digits, MLP`; empty if there is only one."""
        return domains.name(self.values)


def from_columns(
    table: "pd.DataFrame",
    *,
    size: str = "num_params",
    rho: str = "rho",
    seed: str = "seed",
    metric: str = "test_metric",
    higher_is_better: bool = True,
    metric_name: str = "metric",
    choose_by: str | None = None,
) -> "pd.DataFrame":
    """Convert any table with one row per run and at least four columns to a results table.

    Args:
      size: column of parameter counts.
      rho: column of radii; 0 is the base.
      seed: column of whole numbers; the base and SAM run of a seed are compared as a pair.
      metric: column of the metric; a run without one has diverged.
      choose_by: column that the best rho is chosen by, such as a validation accuracy. It becomes `validation_metric`,
        which the analysis chooses by where every run has it; one whose name ends in "loss" becomes `validation_loss`,
        which must be passed as `choose_by` where a choice is made.
      higher_is_better, metric_name: direction and name of the metric; an accuracy is a fraction here, not a percentage.
    Raises: ValueError if a column is missing or holds invalid values.
    """
    import pandas as pd

    names = {size: "num_params", rho: "rho", seed: "seed", metric: "test_metric"}
    chosen = ""
    if choose_by is not None and choose_by in names:
        raise ValueError(
            f"choose_by={choose_by!r}: this column is already the {names[choose_by]}; choose another column."
        )
    if choose_by is not None:
        names[choose_by] = chosen = "validation_loss" if choose_by.endswith("loss") else "validation_metric"
    for column in names:
        if column not in table.columns:
            raise ValueError(registry.unknown("column", column, map(str, table.columns)))
    clash = [name for name in names.values() if name in table.columns and name not in names]
    renamed: Any = table.drop(columns=clash).rename(columns=names).reset_index(drop=True)
    for column, name in names.items():
        numbers: Any = pd.to_numeric(renamed[name], errors="coerce")
        wrong = renamed[name][numbers.isna() & (renamed[name].notna() | (name not in _MAY_BE_MISSING))]
        if len(wrong):
            raise ValueError(f"column {column!r} holds {wrong.iloc[0]!r}: expected a number in every row.")
        renamed[name] = numbers
    for column, name in ((size, "num_params"), (seed, "seed")):
        if (renamed[name] != renamed[name].round()).any():
            raise ValueError(f"column {column!r}: expected whole numbers.")
        renamed[name] = renamed[name].astype("int64")
    if (renamed["rho"] < 0).any():
        raise ValueError(f"column {rho!r} holds {renamed['rho'].min():g}: expected numbers >= 0 (0 is the base).")
    if metric_name in FRACTION_METRICS and renamed["test_metric"].max() > 1:
        raise ValueError(
            f"column {metric!r} holds {renamed['test_metric'].max():g}: expected fractions; divide by 100."
        )
    if chosen and (renamed[chosen].isna() & renamed["test_metric"].notna()).any():
        raise ValueError(f"column {choose_by!r} is empty in a row that has {metric!r}: expected a number to choose by.")
    facts: dict[str, Any] = {"higher_is_better": higher_is_better, "metric_name": metric_name}
    if "optimizer" not in renamed.columns:
        facts["optimizer"] = "sam"
    if "status" not in renamed.columns:
        facts["status"] = ["diverged" if missing else "finished" for missing in renamed["test_metric"].isna()]
    return renamed.assign(**facts)


def axes(runs: "pd.DataFrame", *, width: str = "num_params") -> list[str]:
    """List the config columns, besides width, rho and seed, that have several values at one width of one domain."""
    varying = (fields.varying(domain.runs, width=width) for domain in domains.domains(runs))
    return list(dict.fromkeys(name for names in varying for name in names))


def parts(runs: "pd.DataFrame", *, width: str = "num_params", paired: bool = True) -> list[Part]:
    """Split a table into parts whose runs can be compared: one for each domain and value of its other axes.

    Other axes are those besides width, rho and seed.

    A base run that applies to several values, such as those of `sam_variant`, is in each part. Incomplete runs are
    excluded. Of runs that agree in all fields and seed (and differ, say, in threads, or are copies), the first is used.

    Args:
      paired: also exclude widths that have no base run or no SAM run in a part.
    """
    return [
        part._replace(values=domain.values | part.values)
        for domain in domains.domains(runs)
        for part in _parts(domain.runs, width=width, paired=paired)
    ]


def _parts(runs: "pd.DataFrame", *, width: str, paired: bool) -> list[Part]:
    """Split the runs of a domain into parts."""
    import pandas as pd

    names = list(fields.varying(runs, width=width))
    rows = fields.done(runs, [width, "seed", *names])
    whole: dict[tuple, list[dict[str, Any]]] = {}
    served: dict[tuple, list[dict[str, Any]]] = {}  # runs that do not read every axis: ... marks an unread one
    for row in rows:
        values = key_of(row, names)
        (served if ... in values else whole).setdefault(values, []).append(row)
    only_served = [values for values in served if not any(serves(values, key) for key in whole)]
    parts_found = []
    for key in sorted([*whole, *only_served], key=lambda values: [(str(type(value)), value) for value in values]):
        others = [row for values, group in served.items() if serves(values, key) for row in group]
        here = _first_of_each(sorted([*whole.get(key, []), *others], key=lambda row: row["row_index"]), width)
        arms: dict[Any, set[bool]] = {}
        for row in here:
            arms.setdefault(row[width], set()).add(fields.effective_rho(row) > 0)
        indices = [row["row_index"] for row in here if len(arms[row[width]]) == 2 or not paired]
        if indices:
            values = {name: value for name, value in zip(names, key, strict=True) if value is not ...}
            serving = [ignored for ignored in served if serves(ignored, key)]
            unread = {name for ignored in serving for name, value in zip(names, ignored, strict=True) if value is ...}
            shared = {name: value for name, value in values.items() if value is not None and name in unread}
            parts_found.append(Part(values, pd.DataFrame(runs.iloc[indices].assign(**shared))))
    return parts_found


def num_repeats(runs: "pd.DataFrame", *, width: str = "num_params") -> int:
    """Count the runs of one domain that `parts` excludes because another has the same fields."""
    names = list(fields.varying(runs, width=width))
    rows = fields.done(runs, [width, "seed", *names])
    keys = {(key_of(row, names), row[width], fields.effective_rho(row), row.get("seed")) for row in rows}
    return len(rows) - len(keys)


def _first_of_each(rows: list[dict[str, Any]], width: str) -> list[dict[str, Any]]:
    seen: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        seen.setdefault((row[width], fields.effective_rho(row), row.get("seed")), row)
    return list(seen.values())


def key_of(row: dict[str, Any], names: list[str]) -> tuple:
    """Return the values of some fields of a run, ... where it does not read one."""
    return tuple(... if fields.ignores(row, name) else fields.value(row, name) for name in names)


def serves(values: tuple, key: tuple) -> bool:
    """Whether runs with these values, ... for unread fields, belong to a part."""
    return all(value is ... or value == other for value, other in zip(values, key, strict=True))
