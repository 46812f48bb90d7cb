"""What a careful reader would object to."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import fields, interpolation, rho, table, widths

if TYPE_CHECKING:
    import pandas as pd

FEW_SEEDS = 5


class Caution(NamedTuple):
    """A reason for care: its name, and a sentence that says where and what would mend it."""

    name: str
    text: str


def cautions(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> list[Caution]:
    """List the reasons for care in a whole results table, each once."""
    runs = fields.narrow(runs, width=width)
    found: dict[Caution, None] = dict.fromkeys(_whole_table(runs, width=width))
    for part in table.parts(runs, width=width):
        chosen_by = widths.choice_column(part.runs, metric=metric) if choose_by is None else choose_by
        where = f"{part.name}: " if part.name else ""
        cells = widths.by_width(part.runs, width=width, metric=metric, choose_by=chosen_by)
        for caution in [
            *_seeds(cells, width),
            *_rhos(cells, width),
            *_choice(cells, chosen_by),
            *_fit(part.runs, width=width, metric=metric, choose_by=chosen_by),
        ]:
            found[Caution(caution.name, where + caution.text)] = None
    return list(found)


def _whole_table(runs: "pd.DataFrame", *, width: str) -> Iterator[Caution]:
    states = runs["status"].tolist()
    left = [f"{states.count(state)} {state}" for state in ("unfinished", "failed", "damaged") if state in states]
    if left:
        yield Caution("not_done", f"Runs that are not in the analysis: {', '.join(left)}. Run the command again.")
    arms: dict[Any, set[bool]] = {}
    for row in fields.done(runs, [width]):
        arms.setdefault(row[width], set()).add(fields.effective_rho(row) == 0)
    for missing, what in ((True, "base run (rho=0)"), (False, "SAM run")):
        at = [value for value, have in arms.items() if missing not in have]
        if at:
            yield Caution("no_pair", f"No {what} {_at(width, at, begins=False)}: no gain there.")
    for name in _coupled(runs, width):
        yield Caution("mixed_configs", f"{name} differs from one width to another: not only the size changes.")


def _coupled(runs: "pd.DataFrame", width: str) -> list[str]:
    """Name the config columns that change with the width though they are no size."""
    known = {*table.axes(runs, width=width), *fields.SIZES, width}
    names = [name for name in runs.columns if name not in known and fields.is_config(name)]
    arms = [row for row in fields.done(runs, names) if fields.effective_rho(row) > 0]
    values = {name: {row[name] for row in arms if not fields.ignores(row, name)} for name in names}
    return [name for name in names if len(values[name]) > 1]


def _seeds(cells: list[widths.Width], width: str) -> Iterator[Caution]:
    few, unpaired = [], []
    for cell in cells:
        if cell.best is None:
            continue
        base, sam = (np.isfinite(cell.values[:, column]) for column in (0, 1 + cell.best))
        few += [int(np.sum(base & sam))]
        unpaired += [cell.value] * bool(np.any(base != sam))
    if few and min(few) < FEW_SEEDS:
        yield Caution(
            "few_seeds",
            f"As few as {min(few)} seeds at a width: intervals are wide, and rest on the noise being near normal. "
            f"{FEW_SEEDS} or more are better.",
        )
    same = [cell.value for cell in cells if _has_no_spread(cell)]
    if same:
        yield Caution(
            "no_spread",
            f"{_at(width, same)} every seed has the same gain, as happens with few seeds and few test examples: "
            "an interval of no length is no certainty.",
        )
    if unpaired:
        yield Caution("unpaired_seeds", f"{_at(width, unpaired)} some seeds have one run of the pair only.")


def _has_no_spread(cell: widths.Width) -> bool:
    gains = [] if cell.best is None else cell.gains[:, cell.best][np.isfinite(cell.gains[:, cell.best])]
    return len(gains) > 1 and float(np.ptp(gains)) < 1e-12


def _rhos(cells: list[widths.Width], width: str) -> Iterator[Caution]:
    for edge, most, way in (("high", "largest", "larger"), ("low", "smallest", "smaller")):
        at = [cell.value for cell in cells if rho.grid_edge(cell) == edge]
        if at:
            yield Caution(
                "edge_of_grid",
                f"{_at(width, at)} the best rho is the {most} of the grid: a {way} one may be better; extend the grid.",
            )
    if any(len(cell.rhos) < 3 for cell in cells):
        yield Caution("short_grid", "Fewer than three rhos at some widths: the best rho is hardly a choice.")
    if len({cell.rhos for cell in cells}) > 1:
        yield Caution("grids_differ", "The grid of rho differs from width to width: best rho and gain depend on it.")
    short = [cell.value for cell in cells if cell.short]
    if short:
        yield Caution(
            "missing_seeds",
            f"{_at(width, short)} some rhos have fewer seeds than others: until they have as many they cannot be "
            "the best. Run the command again.",
        )
    diverged = sum(cell.num_diverged for cell in cells)
    if diverged:
        count = f"{diverged} run{'s' * (diverged > 1)}"
        yield Caution("diverged", f"{count} diverged; a rho with a diverged seed is never the best.")
    base = [cell.value for cell in cells if not np.isfinite(cell.values[:, 0]).all()]
    if base:
        yield Caution("base_diverged", f"{_at(width, base)} base runs diverged or are missing: seeds are left out.")


def _choice(cells: list[widths.Width], chosen_by: str) -> Iterator[Caution]:
    if chosen_by.startswith("test") and any(len(cell.candidates) > 1 for cell in cells):
        yield Caution(
            "test_set_selection",
            "The best rho was chosen by the test metric, as in the paper: the plain gain is biased upward. The "
            "corrected gain mends the luck of the seeds, not that of the test examples; "
            "config.validation_fraction=0.1 mends both.",
        )
    if chosen_by == "test_metric_best":
        yield Caution("best_epoch", "Each run is scored at its best epoch on the test set, which flatters all runs.")


def _fit(runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str) -> Iterator[Caution]:
    if not {"train_loss", "train_metric"} & set(runs.columns):
        return
    onset = interpolation.interpolation(runs, width=width, metric=metric, choose_by=choose_by)
    if np.isnan(onset.base):
        yield Caution(
            "no_interpolation",
            "The base does not fit its training labels at the largest width: the study may end before the networks are "
            "overparameterized.",
        )


def _at(width: str, values: list[Any], *, begins: bool = True) -> str:
    """Say at which widths."""
    text = f"at {_list(values)} parameters" if width == "num_params" else f"at {width} {_list(values)}"
    return text[0].upper() + text[1:] if begins else text


def _list(values: list[Any]) -> str:
    return ", ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values)
