"""A results table by domain: runs of one data set and one model family, which have one metric and one kind of width."""

from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import fields

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("dataset", "model")
_METRIC = "metric_name"


class Domain(NamedTuple):
    """The runs of one data set and one model family."""

    values: dict[str, Any]  # what tells it from the others: column -> value; empty for the only one
    runs: "pd.DataFrame"

    @property
    def name(self) -> str:
        """Name the domain, such as `digits, MLP`; empty for the only one."""
        return name(self.values)


def name(values: dict[str, Any]) -> str:
    """Name what tells some runs from others: a domain by its words alone, the rest as `label_noise=0.5`."""
    known = (*COLUMNS, _METRIC)
    return ", ".join(str(value) if column in known else f"{column}={value}" for column, value in values.items())


def key(values: dict[str, Any]) -> tuple:
    """Return what two parts of one domain have in common: their data set, model family and metric, where told."""
    return tuple(values.get(column) for column in (*COLUMNS, _METRIC))


def domains(runs: "pd.DataFrame") -> list[Domain]:
    """Cut a results table into its domains, in alphabetical order.

    Two metrics of one data set and family, as two losses may have, make two domains: their values cannot share an axis.
    A run that is not done tells no metric and belongs to the first. Runs that name no data set, as those with damaged
    files, are left out where there are several domains.
    """
    columns = [column for column in (*COLUMNS, _METRIC) if column in runs.columns]
    rows = fields.records(runs, columns) if columns else []
    metrics: dict[tuple, set[str]] = {}
    for row in rows:
        metrics.setdefault(_place(row), set()).update([str(row[_METRIC])] if row.get(_METRIC) is not None else [])
    keys = [(*_place(row), row.get(_METRIC) or min(metrics[_place(row)], default="")) for row in rows]
    every = sorted({key for key in keys if key[0] or key[1]}) or sorted(set(keys))
    if len(every) < 2:
        return [Domain({}, runs)]
    shown = [place for place in range(3) if len({key[place] for key in every}) > 1]
    if shown != [2] and all(len(found) < 2 for found in metrics.values()):
        shown = [place for place in shown if place < 2]  # each has one metric anyway
    found: dict[tuple, list[int]] = {key: [] for key in every}
    for place, key in enumerate(keys):
        if key in found:
            found[key].append(place)
    names = (*COLUMNS, _METRIC)
    return [Domain({names[place]: key[place] for place in shown}, runs.iloc[found[key]]) for key in every]


def _place(row: dict[str, Any]) -> tuple[str, str]:
    """Give the data set and the family of a run, "" where it names none."""
    dataset, model = (str(row[column]) if row.get(column) is not None else "" for column in COLUMNS)
    return dataset, model
