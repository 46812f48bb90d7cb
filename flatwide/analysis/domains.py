"""Domains of a results table: runs of one data set and model family, with one metric and one kind of width."""

from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import fields

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("dataset", "model")
_METRIC = "metric_name"


class Domain(NamedTuple):
    """The runs of one data set and one model family."""

    values: dict[str, Any]  # that distinguish it from other domains: column -> value; empty if there is only one
    runs: "pd.DataFrame"

    @property
    def name(self) -> str:
        """Return the name of the domain, such as `digits, MLP`; empty if there is only one."""
        return name(self.values)


def name(values: dict[str, Any]) -> str:
    """Return a name for some runs: the values alone for domain columns, `label_noise=0.5` for others."""
    without_names = (*COLUMNS, _METRIC)
    return ", ".join(str(value) if column in without_names else f"{column}={value}" for column, value in values.items())


def key(values: dict[str, Any]) -> tuple:
    """Return the data set, model family and metric of a part, None where unknown: the same for parts of one domain."""
    return tuple(values.get(column) for column in (*COLUMNS, _METRIC))


def domains(runs: "pd.DataFrame") -> list[Domain]:
    """Split a results table into its domains, in alphabetical order.

    Two metrics of one data set and family, as with two losses, make two domains: their values cannot share an axis. A
    run that is not complete has no metric and belongs to the first. Runs without a data set, such as those with damaged
    files, are dropped where there are several domains.
    """
    columns = [column for column in (*COLUMNS, _METRIC) if column in runs.columns]
    rows = fields.records(runs, columns) if columns else []
    metrics: dict[tuple, set[str]] = {}
    for row in rows:
        metrics.setdefault(_dataset_and_model(row), set()).update(
            [str(row[_METRIC])] if row.get(_METRIC) is not None else []
        )
    keys = [
        (*_dataset_and_model(row), row.get(_METRIC) or min(metrics[_dataset_and_model(row)], default=""))
        for row in rows
    ]
    every = sorted({key for key in keys if key[0] or key[1]}) or sorted(set(keys))
    if len(every) < 2:
        return [Domain({}, runs)]
    shown = [position for position in range(3) if len({key[position] for key in every}) > 1]
    if shown != [2] and all(len(indices) < 2 for indices in metrics.values()):
        shown = [position for position in shown if position < 2]  # each has only one metric
    indices: dict[tuple, list[int]] = {key: [] for key in every}
    for position, key in enumerate(keys):
        if key in indices:
            indices[key].append(position)
    names = (*COLUMNS, _METRIC)
    return [Domain({names[position]: key[position] for position in shown}, runs.iloc[indices[key]]) for key in every]


def _dataset_and_model(row: dict[str, Any]) -> tuple[str, str]:
    """Return the data set and the model family of a run, "" where it has none."""
    dataset, model = (str(row[column]) if row.get(column) is not None else "" for column in COLUMNS)
    return dataset, model
