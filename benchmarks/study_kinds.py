"""A study with committed tables, and the kinds of study by the tables that they have.

Not a program: `result_studies.py` lists the studies.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flatwide.analysis.estimates import Estimate


class Study(NamedTuple):
    """A row of the table of results, and where its numbers are.

    page: the study's page, optionally with an anchor. data, model: what was trained.
    summary, gains: tables in docs/studies: one row a width, and one a width and seed; the latter may be missing.
    where, gains_where: column -> value of the rows to read in each. runs: the table of runs of a study whose arms are
    tuned, tune: the tuned field. panel: the title in the figure; empty leaves it out.
    workload, setting: of the paper's values, as in `paper.paper_values`; empty for data that the paper does not have.
    """

    page: str
    data: str
    model: str
    summary: str
    gains: str = ""
    where: Mapping[str, Any] = {}
    gains_where: Mapping[str, Any] = {}
    runs: str = ""
    tune: str = ""
    is_percent: bool = True
    panel: str = ""
    workload: str = ""
    setting: str = ""

    @property
    def link(self) -> str:
        """The path of the page from docs/."""
        name, _, anchor = self.page.partition("#")
        return f"studies/{name}.md{f'#{anchor}' if anchor else ''}"

    @property
    def unit(self) -> str:
        """The unit of a gain."""
        return "points" if self.is_percent else "score" if self.model == "PPO" else "squared error"

    @property
    def factor(self) -> int:
        """The factor from the metric in the tables to the unit."""
        return 100 if self.is_percent else 1

    def in_unit(self, estimate: Estimate) -> Estimate:
        """Convert a gain from the metric in the tables to the unit."""
        return estimate.scaled(self.factor)


def plain(page: str, data: str, model: str, *, folder: str = "", **options: Any) -> Study:
    """Describe a study whose tables are those that its report wrote."""
    folder = folder or page.partition("#")[0]
    return Study(page, data, model, summary=f"{folder}/summary.csv", gains=f"{folder}/gain_by_width.csv", **options)


def tuned(page: str, data: str, model: str, *, folder: str, tune: str) -> Study:
    """Describe a study that tunes a field for each arm."""
    return Study(
        page=page,
        data=f"{data}, each arm's {tune.replace('_', ' ')} tuned",
        model=model,
        summary=f"{folder}/tuned_gain.csv",
        where={"comparison": "tuned"},
        runs=f"{folder}/runs.csv",
        tune=tune,
    )


def domain(data: str, model: str, dataset: str, family: str, **options: Any) -> Study:
    """Describe a domain of `all_domains`."""
    return Study(
        page="all_domains",
        data=data,
        model=model,
        summary="all_domains/summary.csv",
        gains="all_domains/gain_of_domains.csv",
        where={"dataset": dataset, "model": family},
        gains_where={"domain": f"{dataset}, {family}"},
        **options,
    )


def curve(data: str, name: str, *, folder: str = "width_transfer") -> Study:
    """Describe a curve of `width_transfer`."""
    return Study(
        page="width_transfer",
        data=data,
        model="MLP of two layers",
        summary=f"{folder}/four_curves.csv",
        where={"curve": name},
    )
