"""Steer a study: let it train the runs that its course asks for, until it ends; or follow a table of runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flatwide.analysis import metrics
from flatwide.columns import DONE
from flatwide.decide import design, simulate
from flatwide.decide.course import Course, Result, Run, follow, num_runs
from flatwide.decide.sentences import sentences
from flatwide.runs.averages import mean_of_last
from flatwide.study import command, decisions, inventory, plan

if TYPE_CHECKING:
    import pandas as pd

_GAIN = 2.0  # sd of a run, at which the expected number of runs is given beside that without an effect


class _Store:
    """The results in a work directory: the supply of a course."""

    def __init__(self, study: design.Study, workdir: str | os.PathLike):
        self._study, self._workdir = study, workdir
        self._found: dict[Run, Result] = {}
        self.units: metrics.Units | None = None

    def __call__(self, runs: Sequence[Run]) -> Mapping[Run, Result] | None:
        """Return the results of runs, None where some are not done."""
        import pandas as pd

        new = [run for run in runs if run not in self._found]
        if new:
            states = inventory.take(plan.expand(self._study.training(new)), self._workdir).states
            if any(state.status not in DONE for state in states):
                return None
            metric, last = self._study.settings.metric, self._study.settings.study["average_last"]
            rows = [{**state.run.config, **(state.directory.read_result() or {})} for state in states]
            for row, state in zip(rows, states, strict=True):
                row |= mean_of_last(state.directory, last) if last > 1 and row["status"] == "finished" else {}
            table = pd.DataFrame(rows)
            self._found |= design.results(table, new, metric=metric)
            self.units = metrics.units(table, metric)
        return {run: self._found[run] for run in runs}


def run(
    values: Mapping[str, Any],
    workdir: str | os.PathLike,
    *,
    on_start: Callable[[], None] = lambda: None,
    refresh: Callable[[int, bool], None] = lambda num_planned, is_over: None,
    **options: Any,
) -> command.Summary:
    """Train what the course of a study asks for until it ends, and write `decisions.csv` after each stage.

    Args, Raises: as for `study.command.run`; the study has `decide`.
    Returns: the numbers of all runs so far; some have failed if the course has not ended.
    """
    study = design.read(values)
    store, is_first = _Store(study, workdir), True
    course = follow(study.design, store)

    def write() -> None:
        decisions.write(workdir, course.decisions, sentences(course, study.design, store.units))

    def start() -> None:
        write()
        if is_first:
            on_start()

    options |= {"on_start": start, "refresh": lambda num_planned, is_over: refresh(num_planned, False)}
    while True:
        summary = command.run(study.training(course.runs), workdir, **options)
        is_first, course = False, follow(study.design, store)
        if not course.missing or summary.num_done < summary.num_runs:
            write()
            refresh(summary.num_runs, True)
            return summary


def dry_run(values: Mapping[str, Any], workdir: str | os.PathLike) -> str:
    """Describe the runs that a study would train: the least, the expected and the most, and those of the first stage.

    Raises: as `study.command.dry_run`.
    """
    study = design.read(values)
    least, most = (num_runs(study.design, is_most=is_most) for is_most in (False, True))
    none, some = (simulate.expected_runs(study.design, gain) for gain in (0.0, _GAIN))
    return "\n".join(
        [
            f"decides: {study.design.question}, error rate {study.design.error:g} over all looks",
            f"runs: {least} at least, {most} at most; in simulated studies {none:.0f} without an effect and {some:.0f} "
            f"with one of {_GAIN:g} standard deviations",
            "first stage:",
            command.dry_run(study.training(follow(study.design, lambda runs: None).missing), workdir),
        ]
    )


def replay(runs: "pd.DataFrame", question: str, *, metric: str = "test_metric", **options: Any) -> tuple[Course, str]:
    """Follow the course of a study through a table that has all of its runs.

    Args:
      runs: of one domain, which differ in nothing but width, rho, seed and the tuned fields.
      question: "gain", "growth" or "both". options: `tune`, and fields of `Design`.
    Returns: the course, and its verdicts in sentences.
    """
    made = design.of_table(runs, question, **options)
    known = design.results(runs, design.runs_of_table(runs, made.tuned), metric=metric)

    def supply(asked: Sequence[Run]) -> Mapping[Run, Result] | None:
        return None if any(run not in known for run in asked) else {run: known[run] for run in asked}

    course = follow(made, supply)
    return course, "\n".join(sentences(course, made, metrics.units(runs, metric)))
