"""The results table, made ready: from columns of other names, and cut into parts that can be compared."""

from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import registry
from flatwide.analysis import domains, fields
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd


class Part(NamedTuple):
    """Runs of one domain that differ in width, rho and seed only, or in what goes along with the width."""

    values: dict[str, Any]  # what tells this part from the others: column -> value
    runs: "pd.DataFrame"

    @property
    def name(self) -> str:
        """Name the part, such as `label_noise=0.5` or `digits, MLP`; empty if there is one part only."""
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
    if metric_name in FRACTION_METRICS and found["test_metric"].max() > 1:
        raise ValueError(f"column {metric!r} holds {found['test_metric'].max():g}: expected fractions; divide by 100.")
    facts: dict[str, Any] = {"higher_is_better": higher_is_better, "metric_name": metric_name}
    if "optimizer" not in found.columns:
        facts["optimizer"] = "sam"
    if "status" not in found.columns:
        facts["status"] = ["diverged" if missing else "finished" for missing in found["test_metric"].isna()]
    return found.assign(**facts)


def axes(runs: "pd.DataFrame", *, width: str = "num_params") -> list[str]:
    """Name the config columns, besides width, rho and seed, that have several values at one width of one domain."""
    found = (fields.varying(domain.runs, width=width) for domain in domains.domains(runs))
    return list(dict.fromkeys(name for names in found for name in names))


def parts(runs: "pd.DataFrame", *, width: str = "num_params", paired: bool = True) -> list[Part]:
    """Cut a table into parts whose runs can be compared: one for each domain and value of its other axes.

    Other axes are those besides width, rho and seed.

    A base run that serves several values, such as those of `sam_variant`, is in each. Left out are runs that are
    not done, and repeats: of runs that agree in all fields and seed, and differ in what is none (threads, a folder that
    was copied), the first is taken.

    Args:
      paired: also leave out widths that have no base run or no SAM run in a part.
    """
    return [
        part._replace(values=domain.values | part.values)
        for domain in domains.domains(runs)
        for part in _parts(domain.runs, width=width, paired=paired)
    ]


def _parts(runs: "pd.DataFrame", *, width: str, paired: bool) -> list[Part]:
    """Cut the runs of a domain into parts."""
    import pandas as pd

    names = list(fields.varying(runs, width=width))
    rows = fields.done(runs, [width, "seed", *names])
    whole: dict[tuple, list[dict[str, Any]]] = {}
    served: dict[tuple, list[dict[str, Any]]] = {}  # runs that do not read every axis, ... in its place
    for row in rows:
        values = key_of(row, names)
        (served if ... in values else whole).setdefault(values, []).append(row)
    own = [values for values in served if not any(serves(values, key) for key in whole)]
    found = []
    for key in sorted([*whole, *own], key=lambda values: [(str(type(value)), value) for value in values]):
        others = [row for values, group in served.items() if serves(values, key) for row in group]
        here = _first_of_each(sorted([*whole.get(key, []), *others], key=lambda row: row["place"]), width)
        arms: dict[Any, set[bool]] = {}
        for row in here:
            arms.setdefault(row[width], set()).add(fields.effective_rho(row) > 0)
        kept = [row["place"] for row in here if len(arms[row[width]]) == 2 or not paired]
        if kept:
            values = {name: value for name, value in zip(names, key, strict=True) if value is not ...}
            serving = [ignored for ignored in served if serves(ignored, key)]
            unread = {name for ignored in serving for name, value in zip(names, ignored, strict=True) if value is ...}
            shared = {name: value for name, value in values.items() if value is not None and name in unread}
            found.append(Part(values, pd.DataFrame(runs.iloc[kept].assign(**shared))))
    return found


def num_repeats(runs: "pd.DataFrame", *, width: str = "num_params") -> int:
    """Count the runs of one domain that `parts` leaves out because another has all their fields."""
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
    """Give the values of some fields of a run, ... where it does not read one."""
    return tuple(... if fields.ignores(row, name) else fields.value(row, name) for name in names)


def serves(values: tuple, key: tuple) -> bool:
    """Tell whether runs with these values, ... where they read none, belong to a part."""
    return all(value is ... or value == other for value, other in zip(values, key, strict=True))
