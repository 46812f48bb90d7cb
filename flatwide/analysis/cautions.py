"""What a careful reader would object to."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import domains, fields, interpolation, measured, quantities, rho, table, widths
from flatwide.config.schema import SCHEMA

if TYPE_CHECKING:
    import pandas as pd

FEW_SEEDS = 5
_ALIKE = 1.5  # training losses whose ratio lies within this, or its inverse, are taken for equal

_MENDS = {
    "unfinished": "in training or stopped; the same command goes on with them",
    "failed": "error.txt in the folder of each says why; the same command tries them again",
    "damaged": "restore the file that the column `problem` of results.csv names from a copy, or move its run's "
    "folder away",
    "unreadable": "make the file that the column `problem` of results.csv names readable for this user",
    "mismatch": "a copied folder, or an edited config.json; move the folder out of runs/",
}


class Caution(NamedTuple):
    """A reason for care.

    what: the sentence, or what follows a finding in it. finding: its beginning where that differs from part to part,
      such as the widths. part: the runs that it is about; "" for all.
    """

    name: str
    what: str
    finding: str = ""
    part: str = ""

    @property
    def text(self) -> str:
        """Say where it is, what is wrong, and what would mend it."""
        return (f"{self.part}: " if self.part else "") + f"{_capital(self.finding)} {self.what}".lstrip()


def cautions(
    runs: "pd.DataFrame",
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
    has_states: bool = True,
) -> list[Caution]:
    """List the reasons for care in a whole results table, each once.

    Args: as for `gain.gain_by_width`, and
      has_states: whether it is known what became of a run; otherwise "diverged" only means that it has no metric.
    """
    runs = fields.narrow(runs, width=width)
    found: dict[Caution, None] = dict.fromkeys(_not_done(runs))
    for domain in domains.domains(runs):
        found |= {one._replace(part=domain.name): None for one in _whole_domain(domain.runs, width=width)}
    for part in table.parts(runs, width=width):
        chosen_by = widths.choice_column(part.runs, metric=metric) if choose_by is None else choose_by
        cells = widths.by_width(part.runs, width=width, metric=metric, choose_by=chosen_by)
        for caution in [
            *_seeds(cells, width),
            *_rhos(cells, width, has_states=has_states),
            *_choice(cells, chosen_by),
            *_fit(part.runs, width=width, metric=metric, choose_by=chosen_by),
            *_unequal_losses(part.runs, cells, width),
        ]:
            found[caution._replace(part=part.name)] = None
    return list(found)


def told_once(found: list[Caution], *, num_parts: int) -> list[str]:
    """Say what holds for several parts in one sentence, with the name of each part once; for all alike, with none."""
    alike: dict[tuple[str, str], dict[str, list[str]]] = {}
    for caution in found:
        findings = alike.setdefault((caution.name, caution.what), {})
        findings.setdefault(caution.finding, []).append(caution.part)
    return [_joined(what, findings, num_parts) for (_, what), findings in alike.items()]


def _joined(what: str, findings: dict[str, list[str]], num_parts: int) -> str:
    if len(findings) == 1:
        ((finding, parts),) = findings.items()
        is_general = len(parts) == num_parts or parts == [""]
        return Caution("", what, finding, "" if is_general else "; ".join(parts)).text
    named = [f"{' and '.join(parts)} ({finding.rstrip(':;,')})" for finding, parts in findings.items()]
    return f"{'; '.join(named)}: {what}"


def _not_done(runs: "pd.DataFrame") -> Iterator[Caution]:
    states = runs["status"].tolist()
    left = [state for state in _MENDS if state in states]
    if left:
        counts = ", ".join(f"{states.count(state)} {state}" for state in left)
        mends = " ".join(f"{_capital(state)}: {_MENDS[state]}." for state in left)
        yield Caution("not_done", f"Runs that are not in the analysis: {counts}. {mends}")


def _whole_domain(runs: "pd.DataFrame", *, width: str) -> Iterator[Caution]:
    arms: dict[Any, set[bool]] = {}
    for row in fields.done(runs, [width]):
        arms.setdefault(row[width], set()).add(fields.effective_rho(row) == 0)
    for missing, what in ((True, "base run (rho=0)"), (False, "SAM run")):
        at = [value for value, have in arms.items() if missing not in have]
        if at:
            yield Caution("no_pair", f"No {what} {_at(width, at)}: no gain there.")
    if repeats := table.num_repeats(runs, width=width):
        yield Caution(
            "repeats",
            f"{repeats} run{'s' * (repeats > 1)} left out: another has the same fields and seed, and differs in none "
            "but the number of threads or the like.",
        )
    for name in _coupled(runs, width):
        yield Caution("mixed_configs", f"{name} differs from one width to another: not only the size changes.")


def _coupled(runs: "pd.DataFrame", width: str) -> list[str]:
    """Name the config columns that change with the width though they are no size."""
    known = {*table.axes(runs, width=width), *fields.SIZES, width}
    names = [name for name in runs.columns if name not in known and fields.is_config(name)]
    arms = [row for row in fields.done(runs, [width, *names]) if fields.effective_rho(row) > 0]
    pairs = {name: {(row[width], row[name]) for row in arms if not fields.is_unread(row, name)} for name in names}
    return [name for name in names if len({value for _, value in pairs[name]}) > 1 and not _is_size(name, pairs[name])]


def _is_size(name: str, pairs: set[tuple[Any, Any]]) -> bool:
    """Whether a field of the user's own model is what makes the width: each value has one width, and each width one."""
    return name not in SCHEMA and all(len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1))


def _seeds(cells: list[widths.Width], width: str) -> Iterator[Caution]:
    few, unpaired = [], []
    for cell in cells:
        if cell.best is None:
            continue
        base, sam = (np.isfinite(cell.values[:, column]) for column in (0, 1 + cell.best))
        few += [int(np.sum(base & sam))]
        unpaired += [cell.value] * bool(np.any(base != sam))
    if 0 in few:
        yield Caution(
            "no_seeds", "no seed has both a base and a SAM run with a result: no gain there.", "at some width"
        )
    least = min(filter(None, few), default=FEW_SEEDS)
    if least < FEW_SEEDS:
        yield Caution(
            "few_seeds",
            f"intervals are wide, and rest on the noise being near normal. {FEW_SEEDS} or more are better.",
            f"as few as {least} seed{'s' * (least > 1)} at a width:",
        )
    same = [cell.value for cell in cells if _has_no_spread(cell)]
    if same:
        yield Caution(
            "no_spread",
            "every seed has the same gain, as happens with few seeds and few test examples: an interval of no length "
            "is no certainty.",
            _at(width, same),
        )
    if unpaired:
        yield Caution("unpaired_seeds", "some seeds have one run of the pair only.", _at(width, unpaired))


def _has_no_spread(cell: widths.Width) -> bool:
    gains = [] if cell.best is None else cell.gains[:, cell.best][np.isfinite(cell.gains[:, cell.best])]
    return len(gains) > 1 and float(np.ptp(gains)) < 1e-12


def _rhos(cells: list[widths.Width], width: str, *, has_states: bool) -> Iterator[Caution]:
    for edge, most, way in (("high", "largest", "larger"), ("low", "smallest", "smaller")):
        at = [cell.value for cell in cells if rho.grid_edge(cell) == edge]
        if at:
            yield Caution(
                "edge_of_grid",
                f"the best rho is the {most} of the grid: a {way} one may be better; extend the grid.",
                _at(width, at),
            )
    if any(len(cell.rhos) < 3 for cell in cells):
        yield Caution("short_grid", "Fewer than three rhos at some widths: the best rho is hardly a choice.")
    if len({cell.rhos for cell in cells}) > 1:
        yield Caution("grids_differ", "The grid of rho differs from width to width: best rho and gain depend on it.")
    short = [cell.value for cell in cells if cell.short]
    if short:
        yield Caution(
            "missing_seeds",
            "some rhos have fewer seeds than others: until they have as many they cannot be the best. Run the command "
            "again.",
            _at(width, short),
        )
    diverged = sum(cell.num_diverged for cell in cells)
    lost = "diverged" if has_states else "have no metric"
    if diverged:
        verb = "has no metric" if diverged == 1 and not has_states else lost
        seed = "a diverged seed" if has_states else "a seed without one"
        count = f"{diverged} run{'s' * (diverged > 1)}"
        yield Caution("diverged", f"a rho with {seed} is never the best.", f"{count} {verb};")
    base = [cell.value for cell in cells if not np.isfinite(cell.values[:, 0]).all()]
    if base:
        yield Caution("base_diverged", f"base runs {lost} or are missing: seeds are left out.", _at(width, base))


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


def _unequal_losses(runs: "pd.DataFrame", cells: list[widths.Width], width: str) -> Iterator[Caution]:
    if "train_loss" not in runs.columns or not quantities.measured(runs):
        return
    found = measured.arrange(runs, cells, ["train_loss"], width=width)["train_loss"]
    kept = [one._replace(values=np.maximum(one.values, 1e-12)) for one in found if one.pairs]  # 0 has no logarithm
    ratios = [measured.means(one, comparison=measured.RATIO).effect for one in kept]
    at = [one.cell.value for one, ratio in zip(kept, ratios, strict=True) if not 1 / _ALIKE <= ratio <= _ALIKE]
    if at:
        yield Caution(
            "unequal_losses",
            f"SAM's training loss is more than {_ALIKE} times its base's, or less than the inverse. How a loss curves "
            "depends on how much of it is left, so what was measured also tells how far each was trained.",
            _at(width, at),
        )


def _at(width: str, values: list[Any]) -> str:
    """Say at which widths."""
    return f"at {_list(values)} parameters" if width == "num_params" else f"at {width} {_list(values)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _list(values: list[Any]) -> str:
    return ", ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values)
