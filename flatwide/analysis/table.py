"""A results table, split once for a question into domains and parts that can be compared.

A domain is one data set and model family with one metric. A part of it has runs that differ only in width, rho and
seed. Each holds what follows from its runs (arranged widths, scores, verdict), computed when it is first read, so that
every analysis of a report shares the work.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from flatwide import registry
from flatwide.analysis import arms, comparisons, fields, metrics, verdict, widths
from flatwide.analysis.estimates import Scores
from flatwide.columns import COLLAPSED

_METRIC = "metric_name"
_DOMAIN = ("dataset", "model", _METRIC)  # columns that distinguish domains
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

    runs: fields.Frame
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
    runs: fields.Frame
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
    runs: fields.Frame
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

        A base run that applies to several values, such as those of `sam_variant`, is in each part. Of runs that agree
        in all fields and seed (and differ, say, in threads, or are copies), the first complete one is used.
        """
        names, width = self.axes, self.question.width
        groups: dict[tuple, list[dict[str, Any]]] = {}  # ... in a key marks a field that a run does not read
        for row in fields.done(self.runs, [width, "seed", *names]):
            groups.setdefault(_key(row, names), []).append(row)
        whole = [key for key in groups if ... not in key]
        alone = [key for key in groups if ... in key and not any(_applies(key, other) for other in whole)]
        parts = []
        for key in _sorted([*whole, *alone]):
            applying = [other for other in groups if _applies(other, key)]
            first: dict[tuple, int] = {}
            for row in sorted((row for other in applying for row in groups[other]), key=lambda row: row["row_index"]):
                first.setdefault(_run_key(row, width), row["row_index"])
            settings = {name: value for name, value in zip(names, key, strict=True) if value is not ...}
            unread = {name for other in applying for name, value in zip(names, other, strict=True) if value is ...}
            filled = {name: value for name, value in settings.items() if value is not None and name in unread}
            parts.append(self._part(settings, list(first.values()), filled))
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
        keys = _sorted(dict.fromkeys(key for key, _ in keyed if ... not in key))
        indices = [[index for values, index in keyed if _applies(values, key)] for key in keys]
        return [self._part(dict(zip(names, key, strict=True)), at, {}) for key, at in zip(keys, indices, strict=True)]

    def tuning(self, tune: tuple[str, ...]) -> "Domain":
        """Ask about the same runs with other tuned fields; they are arranged once for each."""
        asked = dataclasses.replace(self, question=self.question._replace(tune=tune))
        return self if tune == self.question.tune else self._tunings.setdefault(tune, asked)

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

    runs: fields.Frame
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


def split(runs: fields.Frame, **question: Any) -> Split:
    """Split a results table for a question.

    Args:
      question: the fields of `Question`.
    Raises: ValueError if a column that the question names is missing.
    """
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
    runs = fields.with_collapsed(runs)
    return Split(runs, asked, domains(runs, asked))


def part(runs: fields.Frame, **question: Any) -> Part:
    """Arrange runs that differ only in width, rho and seed as one part.

    Args:
      question: the fields of `Question`.
    Raises: ValueError if a column is missing, a width has no base run, or two runs differ in another field.
    """
    whole = split(runs, **question)
    if len(whole.domains) > 1:
        names = "; ".join(domain.name for domain in whole.domains)
        raise ValueError(
            f"runs of several domains ({names}), whose metrics and sizes differ. Select one first, or use "
            "analysis.table.split, which has a part for each."
        )
    only, name = Part({}, {}, whole.runs, whole.question), whole.question.width
    if without := [width.value for width in only.widths if not width.has_base]:
        raise ValueError(
            f"{name}={without[0]} has no base run to compare SAM with; train it with rho=0 (or optimizer='sgd') too."
        )
    # After arranging, because an error about two runs of one width, rho and seed says more.
    if mixed := fields.varying(whole.runs, width=name):
        values = [f"{axis} ({', '.join(map(str, seen))})" for axis, seen in mixed.items()]
        raise ValueError(
            f"runs of one {name} differ in {', '.join(values)}: they would be compared as if they were the "
            "same. Select one value first, or use analysis.table.split, which has a part for each."
        )
    return only


def for_part(function: Callable[..., R]) -> Callable[..., R]:
    """Let a function of a part also take a table for `part`, with the fields of its question as keywords."""
    return _for(function, Part, part)


def for_table(function: Callable[..., R]) -> Callable[..., R]:
    """Let a function of a split table also take a table for `split`, with the fields of its question as keywords."""
    return _for(function, Split, split)


class Rows:
    """A function that lists the rows of a table, `rows`, which a call returns as a data frame."""

    def __init__(self, rows: Callable[..., Iterable[dict[str, Any]]]):
        functools.update_wrapper(self, rows)
        self.rows = rows

    def __call__(self, *arguments: Any, **options: Any) -> fields.Frame:
        """Return the rows as a data frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows(*arguments, **options)))


def _for(function: Callable[..., Any], kind: type, prepare: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def prepared(runs: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(runs, kind):
            return function(runs, *arguments, **options)
        question = {name: options.pop(name) for name in Question._fields if name in options}
        return function(prepare(runs, **question), *arguments, **options)

    return prepared


def domains(runs: fields.Frame, question: Question = DEFAULT) -> list[Domain]:
    """Split a results table into its domains, in alphabetical order.

    Two metrics of one data set and family, as with two losses, make two domains: their values cannot share an axis. A
    run that is not complete has no metric and belongs to the first. Runs without a data set, such as those with damaged
    files, are dropped where there are several domains.
    """
    rows = fields.records(runs, _DOMAIN)
    kinds = [tuple("" if row.get(name) is None else str(row[name]) for name in _DOMAIN[:2]) for row in rows]
    metrics: dict[tuple[str, ...], set[str]] = {kind: set() for kind in kinds}
    for kind, row in zip(kinds, rows, strict=True):
        metrics[kind] |= set() if row.get(_METRIC) is None else {str(row[_METRIC])}
    keys = [(*kind, row.get(_METRIC) or min(metrics[kind], default="")) for kind, row in zip(kinds, rows, strict=True)]
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
    return [
        Domain({_DOMAIN[position]: key[position] for position in shown}, runs.iloc[indices[key]], question)
        for key in every
    ]


def name_of(values: Mapping[str, Any]) -> str:
    """Return a name for some runs: the values alone for domain columns, `label_noise=0.5` for others."""
    return ", ".join(str(value) if column in _DOMAIN else f"{column}={value}" for column, value in values.items())


def domain_key(values: Mapping[str, Any]) -> tuple:
    """Return the data set, model family and metric of a part, None where unknown: the same for parts of one domain."""
    return tuple(values.get(column) for column in _DOMAIN)


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
