"""A results table, split once for a question into domains and parts that can be compared.

A domain is one data set and model family with one metric. A part of it has runs that differ only in width, rho and
seed. Each holds what follows from its runs (arranged widths, scores, verdict), computed when it is first read, so that
every analysis of a report shares the work.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from flatwide import registry
from flatwide.analysis import arms, comparisons, fields, metrics, verdict, widths
from flatwide.analysis.estimates import Scores
from flatwide.columns import COLLAPSED

if TYPE_CHECKING:
    import pandas as pd

DOMAIN_COLUMNS = ("dataset", "model")
_METRIC = "metric_name"
P = ParamSpec("P")
R = TypeVar("R")


class Question(NamedTuple):
    """What is asked of a results table.

    width: the column that identifies the width.
    metric: the column that is compared; lower is better if its name ends in "loss".
    choose_by: the column that rho and tuned fields are chosen by; None is the validation metric where every finished
      run has one, else `metric`. A setting with a diverged or missing seed is never chosen.
    tune: fields that are chosen separately for base and SAM, such as `learning_rate`.
    level: of the intervals of gains and trends, above 0.95 where they hold together with those of other metrics.
    """

    width: str = "num_params"
    metric: str = "test_metric"
    choose_by: str | None = None
    tune: tuple[str, ...] = ()
    level: float = 0.95


DEFAULT = Question()


class _Asked:
    """What follows from some runs and the question about them."""

    runs: "pd.DataFrame"
    question: Question

    @cached_property
    def base(self) -> str:
        """The name of the base optimizer, such as SGD."""
        return fields.base_name(self.runs)

    @cached_property
    def units(self) -> metrics.Units:
        """The units of the compared metric."""
        return metrics.units(self.runs, self.question.metric)

    @cached_property
    def chosen_by(self) -> str:
        """The column that settings are chosen by."""
        return self.question.choose_by or widths.choice_column(self.runs, metric=self.question.metric)


@dataclasses.dataclass(frozen=True, eq=False)
class Part(_Asked):
    """Runs of one domain that differ only in width, rho and seed, or in fields that vary with the width.

    Those of `Domain.tuned` also differ in the tuned fields and in length.

    domain_values, settings: column -> value that distinguish its domain from others, and the part within it.
    """

    domain_values: Mapping[str, Any]
    settings: Mapping[str, Any]
    runs: "pd.DataFrame"
    question: Question = DEFAULT

    @property
    def values(self) -> dict[str, Any]:
        """The values of the domain and of the part."""
        return {**self.domain_values, **self.settings}

    @property
    def name(self) -> str:
        """The name within the table, such as `digits, MLP, label_noise=0.5`; empty if there is only one part."""
        return name_of(self.values)

    @property
    def name_in_domain(self) -> str:
        """The name within its domain, such as `label_noise=0.5`."""
        return name_of(self.settings)

    @cached_property
    def what_grows(self) -> str:
        """What makes the networks larger, see `fields.what_grows`."""
        return fields.what_grows(self.runs)

    @cached_property
    def widths(self) -> list[widths.Width]:
        """The runs of each width, the smallest first."""
        asked = self.question
        every = widths.arrange(self.runs, width=asked.width, metric=asked.metric, choose_by=self.chosen_by)
        return [dataclasses.replace(each, level=asked.level) for each in every]

    @cached_property
    def scores(self) -> Scores:
        """The scores of the gain at every width that has one, each seed at the rho that the other seeds choose."""
        return arms.scores([width.comparison for width in self.widths])

    @cached_property
    def verdict(self) -> verdict.Verdict:
        """Whether the gain grows with width."""
        return verdict.verdict(self.scores)

    @cached_property
    def not_learned(self) -> str:
        """Why there is no answer where no run learned; empty where some did, or where this is unknown."""
        rows = [row for row in fields.done(self.runs, [COLLAPSED]) if row["status"] == "finished"]
        known = [row[COLLAPSED] for row in rows if row.get(COLLAPSED) is not None]
        if not known or not all(known):
            return ""
        count = f"{len(known)} of {len(rows)} runs"
        return f"{count} did not learn: they are no better than a prediction that ignores its inputs"

    @cached_property
    def comparisons(self) -> list[comparisons.Compared]:
        """The comparisons of separately tuned arms that the part has runs for."""
        asked = self.question
        return comparisons.compare(
            self.runs,
            tune=asked.tune,
            width=asked.width,
            metric=asked.metric,
            choose_by=self.chosen_by,
            level=asked.level,
        )

    @cached_property
    def paired(self) -> "Part | None":
        """The part without the widths that lack a base run or a SAM run; None where no width has both."""
        name = self.question.width
        has = fields.arms_of_widths(self.runs, width=name)
        whole = [row["row_index"] for row in fields.done(self.runs, [name]) if len(has[row[name]]) == 2]
        if len(whole) == len(self.runs):
            return self
        return dataclasses.replace(self, runs=self.runs.iloc[whole]) if whole else None


@dataclasses.dataclass(frozen=True, eq=False)
class Domain(_Asked):
    """The runs of one data set, model family and metric.

    values: that distinguish it from other domains: column -> value; empty if there is only one.
    """

    values: Mapping[str, Any]
    runs: "pd.DataFrame"
    question: Question = DEFAULT

    @property
    def name(self) -> str:
        """The name of the domain, such as `digits, MLP`; empty if there is only one."""
        return name_of(self.values)

    @cached_property
    def axes(self) -> list[str]:
        """The config columns, besides width, rho and seed, that have several values at one width."""
        return list(fields.varying(self.runs, width=self.question.width))

    @cached_property
    def every_part(self) -> list[Part]:
        """One part for each value of the axes, including the widths that have only one of base and SAM.

        A base run that applies to several values, such as those of `sam_variant`, is in each part. Incomplete runs are
        excluded. Of runs that agree in all fields and seed (and differ, say, in threads, or are copies), the first is
        used.
        """
        names, width = self.axes, self.question.width
        complete: dict[tuple, list[dict[str, Any]]] = {}
        shared: dict[tuple, list[dict[str, Any]]] = {}  # runs that do not read every axis: ... marks an unread one
        for row in fields.done(self.runs, [width, "seed", *names]):
            key = _key(row, names)
            (shared if ... in key else complete).setdefault(key, []).append(row)
        alone = [key for key in shared if not any(_applies(key, other) for other in complete)]
        parts = []
        for key in _sorted([*complete, *alone]):
            applying = [other for other in shared if _applies(other, key)]
            others = [row for other in applying for row in shared[other]]
            rows = _first_of_each(sorted([*complete.get(key, []), *others], key=lambda row: row["row_index"]), width)
            settings = {name: value for name, value in zip(names, key, strict=True) if value is not ...}
            unread = {name for other in applying for name, value in zip(names, other, strict=True) if value is ...}
            filled = {name: value for name, value in settings.items() if value is not None and name in unread}
            parts.append(self._part(settings, [row["row_index"] for row in rows], filled))
        return parts

    @cached_property
    def parts(self) -> list[Part]:
        """One part for each value of the axes, with the widths that have both base and SAM runs."""
        return [paired for part in self.every_part if (paired := part.paired) is not None]

    @cached_property
    def tuned(self) -> list[Part]:
        """One part for each value of the axes other than the tuned fields and the length of training."""
        names = [name for name in self.axes if name not in (*self.question.tune, *fields.LENGTHS)]
        keyed = [(_key(row, names), row["row_index"]) for row in fields.done(self.runs, names)]
        return [
            self._part(
                dict(zip(names, key, strict=True)), [index for values, index in keyed if _applies(values, key)], {}
            )
            for key in _sorted(dict.fromkeys(key for key, _ in keyed if ... not in key))
        ]

    def tuning(self, tune: tuple[str, ...]) -> "Domain":
        """Ask about the same runs with other tuned fields; they are arranged once for each."""
        if tune == self.question.tune:
            return self
        if tune not in self._tunings:
            self._tunings[tune] = dataclasses.replace(self, question=self.question._replace(tune=tune))
        return self._tunings[tune]

    @cached_property
    def _tunings(self) -> "dict[tuple[str, ...], Domain]":
        return {}

    @cached_property
    def num_repeats(self) -> int:
        """The number of runs that no part has because another has the same fields and seed."""
        names, width = self.axes, self.question.width
        rows = fields.done(self.runs, [width, "seed", *names])
        return len(rows) - len({(_key(row, names), *_run_key(row, width)) for row in rows})

    def _part(self, settings: Mapping[str, Any], indices: list[int], filled: Mapping[str, Any]) -> Part:
        runs = self.runs.iloc[indices]
        return Part(self.values, settings, runs.assign(**filled) if filled else runs, self.question)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A results table split for a question."""

    runs: "pd.DataFrame"
    question: Question
    domains: list[Domain]

    @property
    def parts(self) -> list[Part]:
        """The parts of all domains that have a width with base and SAM runs."""
        return [part for domain in self.domains for part in domain.parts]

    @property
    def tuned(self) -> list[Part]:
        """The parts of all domains for the tuned fields of the question."""
        return [part for domain in self.domains for part in domain.tuned]


def split(runs: "pd.DataFrame", **question: Any) -> Split:
    """Split a results table for a question.

    Args:
      question: the fields of `Question`.
    Raises: ValueError if a column that the question names is missing.
    """
    asked = ask(runs, **question)
    runs = fields.with_collapsed(runs)
    return Split(runs, asked, domains(runs, asked))


def ask(runs: "pd.DataFrame", **question: Any) -> Question:
    """Check the fields of a question against the columns of a table."""
    if unknown := [name for name in question if name not in Question._fields]:
        raise TypeError(registry.unknown("argument", unknown[0], Question._fields))
    if isinstance(tune := question.get("tune", ()), str):
        raise ValueError(f"tune={tune!r}: expected a list of fields, such as [{tune!r}].")
    asked = DEFAULT._replace(**question)._replace(tune=tuple(tune))
    for argument, name in (("metric", asked.metric), ("choose_by", asked.choose_by)):
        if name is not None and name not in runs.columns:
            raise ValueError(registry.unknown(argument, name, runs.columns))
    for name in (asked.width, *asked.tune, "higher_is_better"):
        if name not in runs.columns:
            raise ValueError(registry.unknown("column", name, runs.columns))
    return asked


def part(runs: "pd.DataFrame", **question: Any) -> Part:
    """Arrange runs that differ only in width, rho and seed as one part.

    Args:
      question: the fields of `Question`.
    Raises: ValueError if a column is missing, a width has no base run, or two runs differ in another field.
    """
    asked = ask(runs, **question)
    runs = fields.with_collapsed(runs)
    every = domains(runs, asked)
    if len(every) > 1:
        raise ValueError(
            f"runs of several domains ({'; '.join(domain.name for domain in every)}), whose metrics and sizes differ. "
            "Select one first, or use analysis.table.parts, which returns a part for each."
        )
    whole = Part({}, {}, runs, asked)
    for width in whole.widths:
        if not width.has_base:
            raise ValueError(
                f"{asked.width}={width.value} has no base run to compare SAM with; train it with rho=0 (or "
                "optimizer='sgd') too."
            )
    # After arranging, because an error about two runs of one width, rho and seed says more.
    if mixed := fields.varying(runs, width=asked.width):
        values = [f"{name} ({', '.join(map(str, seen))})" for name, seen in mixed.items()]
        raise ValueError(
            f"runs of one {asked.width} differ in {', '.join(values)}: they would be compared as if they were the "
            "same. Select one value first, or use analysis.table.parts, which returns a part for each."
        )
    return whole


def parts(runs: "pd.DataFrame", **question: Any) -> list[Part]:
    """Split a table into parts, one for each domain and value of its axes besides width, rho and seed.

    Args, Raises: as for `split`.
    """
    return split(runs, **question).parts


def for_part(function: Callable[Concatenate[Part, P], R]) -> Callable[..., R]:
    """Let a function of a part also take a table for `part`, with the fields of its question as keywords."""
    return _for(function, Part, part)


def for_table(function: Callable[Concatenate[Split, P], R]) -> Callable[..., R]:
    """Let a function of a split table also take a table for `split`, with the fields of its question as keywords."""
    return _for(function, Split, split)


def _for(function: Callable[..., Any], kind: type, prepare: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def prepared(runs: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(runs, kind):
            return function(runs, *arguments, **options)
        question = {name: options.pop(name) for name in Question._fields if name in options}
        return function(prepare(runs, **question), *arguments, **options)

    return prepared


def domains(runs: "pd.DataFrame", question: Question = DEFAULT) -> list[Domain]:
    """Split a results table into its domains, in alphabetical order.

    Two metrics of one data set and family, as with two losses, make two domains: their values cannot share an axis. A
    run that is not complete has no metric and belongs to the first. Runs without a data set, such as those with damaged
    files, are dropped where there are several domains.
    """
    columns = [column for column in (*DOMAIN_COLUMNS, _METRIC) if column in runs.columns]
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
        return [Domain({}, runs, question)]
    shown = [position for position in range(3) if len({key[position] for key in every}) > 1]
    if shown != [2] and all(len(indices) < 2 for indices in metrics.values()):
        shown = [position for position in shown if position < 2]  # each has only one metric
    indices: dict[tuple, list[int]] = {key: [] for key in every}
    for position, key in enumerate(keys):
        if key in indices:
            indices[key].append(position)
    names = (*DOMAIN_COLUMNS, _METRIC)
    return [
        Domain({names[position]: key[position] for position in shown}, runs.iloc[indices[key]], question)
        for key in every
    ]


def name_of(values: Mapping[str, Any]) -> str:
    """Return a name for some runs: the values alone for domain columns, `label_noise=0.5` for others."""
    without_names = (*DOMAIN_COLUMNS, _METRIC)
    return ", ".join(str(value) if column in without_names else f"{column}={value}" for column, value in values.items())


def domain_key(values: Mapping[str, Any]) -> tuple:
    """Return the data set, model family and metric of a part, None where unknown: the same for parts of one domain."""
    return tuple(values.get(column) for column in (*DOMAIN_COLUMNS, _METRIC))


def axes(runs: "pd.DataFrame", *, width: str = "num_params") -> list[str]:
    """List the config columns, besides width, rho and seed, that have several values at one width of one domain."""
    return list(dict.fromkeys(name for domain in split(runs, width=width).domains for name in domain.axes))


def _dataset_and_model(row: dict[str, Any]) -> tuple[str, str]:
    """Return the data set and the model family of a run, "" where it has none."""
    dataset, model = (str(row[column]) if row.get(column) is not None else "" for column in DOMAIN_COLUMNS)
    return dataset, model


def _key(row: dict[str, Any], names: list[str]) -> tuple:
    """Return the values of some fields of a run, ... where it does not read one."""
    return tuple(... if fields.ignores(row, name) else fields.value(row, name) for name in names)


def _applies(values: tuple, key: tuple) -> bool:
    """Whether runs with these values, ... for unread fields, belong to a part."""
    return all(value is ... or value == other for value, other in zip(values, key, strict=True))


def _sorted(keys: Iterable[tuple]) -> list[tuple]:
    return sorted(keys, key=lambda values: [(str(type(value)), value) for value in values])


def _run_key(row: dict[str, Any], width: str) -> tuple:
    return row[width], fields.effective_rho(row), row.get("seed")


def _first_of_each(rows: list[dict[str, Any]], width: str) -> list[dict[str, Any]]:
    seen: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        seen.setdefault(_run_key(row, width), row)
    return list(seen.values())
