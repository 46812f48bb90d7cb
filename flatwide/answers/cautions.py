"""Cautions: the objections of a careful reader to a study."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import fields, interpolation, measured, quantities, rho, table
from flatwide.analysis.widths import Width
from flatwide.config.schema import SCHEMA

if TYPE_CHECKING:
    import pandas as pd

FEW_SEEDS = 5
_ALIKE = 1.5  # training losses whose ratio lies between the inverse of this and this count as equal

# Columns of what a run was trained with besides its config; tables of earlier versions and of others may lack them.
_TRAINED_WITH = {
    "versions.flatwide": "the version of flatwide",
    "versions.jax": "the version of JAX",
    "device": "the kind of device",
    "matmul_precision": "the precision of products",
    "x64": "whether numbers have 64 bits (x64)",
}
_CHOSEN_BY_ITSELF = "The best rho was chosen by the same metric that is compared, as in the paper"
_COLUMN_TO_CHOOSE_BY = "a column of validation results to choose by (--choose_by=)"

# By how much each could change the headline: comparisons of unlike runs or that lack an arm, then the choice of rho,
# then the seeds, then what is scored; last what only bounds the conclusion.
_ORDER = (
    *("unlike_arms", "mixed_configs", "collapsed_base", "collapsed_best", "no_pair", "no_seeds", "unequal_grids"),
    *("edge_of_grid", "short_grid", "grids_differ", "diverged", "base_diverged", "missing_seeds", "not_done"),
    *("few_seeds", "no_spread", "unpaired_seeds", "best_epoch", "test_set_selection"),
    *("no_interpolation", "unequal_losses", "collapsed", "repeats"),
)
_REMEDIES = {
    "unfinished": "training or stopped; rerun the same command to resume them",
    "failed": "error.txt in each run's folder says why; rerun the same command to retry them",
    "damaged": "restore the file named in the column `problem` of results.csv from a copy, or move the run's folder "
    "away",
    "unreadable": "make the file named in the column `problem` of results.csv readable for this user",
    "mismatch": "a copied folder or an edited config.json; move the folder out of runs/",
}


class Caution(NamedTuple):
    """A reason to read the results with care.

    what: the sentence, or the rest of it after the finding. finding: its beginning where that differs between parts,
      such as the widths. part: the runs concerned; "" for all.
    """

    name: str
    what: str
    finding: str = ""
    part: str = ""

    @property
    def text(self) -> str:
        """Return the sentence: where, what is wrong, and how to fix it."""
        return (f"{self.part}: " if self.part else "") + f"{_capital(self.finding)} {self.what}".lstrip()


@table.for_table
def cautions(split: table.Split, *, has_states: bool = True, are_ours: bool = True) -> list[Caution]:
    """List the cautions about a whole results table, each once, those that could change the headline most first.

    Args:
      has_states: whether the states of the runs are recorded; otherwise "diverged" only means that a metric is missing.
      are_ours: whether flatwide trained the runs; otherwise there is no command that resumes them.
    """
    every: dict[Caution, None] = dict.fromkeys(_not_done(split.runs, are_ours=are_ours))
    for domain in split.domains:
        every |= {each._replace(part=domain.name): None for each in _whole_domain(domain, are_ours=are_ours)}
    for part in split.tuned if split.question.tune else ():
        every |= {each._replace(part=part.name): None for each in _grids(part)}
    for part in split.parts:
        cautions_of_part = (
            *_seeds(part),
            *_rhos(part, has_states=has_states, are_ours=are_ours),
            *_collapsed(part),
            *_choice(part, are_ours=are_ours),
            *_fit(part),
            *_unequal_losses(part),
        )
        every |= {each._replace(part=part.name): None for each in cautions_of_part}
    return sorted(every, key=lambda caution: _ORDER.index(caution.name))


def merged(cautions_found: list[Caution], *, num_parts: int) -> list[str]:
    """Write one sentence for a caution of several parts, naming each part once, and none if it holds for all parts."""
    findings_by_sentence: dict[tuple[str, str], dict[str, list[str]]] = {}
    for caution in cautions_found:
        findings = findings_by_sentence.setdefault((caution.name, caution.what), {})
        findings.setdefault(caution.finding, []).append(caution.part)
    return [_joined(what, findings, num_parts) for (_, what), findings in findings_by_sentence.items()]


def _joined(what: str, findings: dict[str, list[str]], num_parts: int) -> str:
    if len(findings) == 1:
        ((finding, parts),) = findings.items()
        is_general = len(parts) == num_parts or parts == [""]
        return Caution("", what, finding, "" if is_general else "; ".join(parts)).text
    named = [f"{' and '.join(parts)} ({finding.rstrip(':;,.')})" for finding, parts in findings.items()]
    return f"{'; '.join(named)}: {what}"


def _not_done(runs: "pd.DataFrame", *, are_ours: bool) -> Iterator[Caution]:
    states = runs["status"].tolist()
    left = [state for state in _REMEDIES if state in states]
    if left:
        counts = ", ".join(f"{states.count(state)} {state}" for state in left)
        remedies = " ".join(f"{_capital(state)}: {_REMEDIES[state]}." for state in left) if are_ours else ""
        yield Caution("not_done", f"Runs excluded from the analysis: {counts}. {remedies}".rstrip())


def _whole_domain(domain: table.Domain, *, are_ours: bool) -> Iterator[Caution]:
    has = fields.arms_of_widths(domain.runs, width=domain.question.width)
    for is_sam, run_name in ((False, "base run (rho=0)"), (True, "SAM run")):
        at = [value for value, arms in has.items() if is_sam not in arms]
        if at:
            yield Caution("no_pair", f"No {run_name} {_at(domain, at)}, so no gain there.")
    if repeats := domain.num_repeats:
        yield Caution(
            "repeats",
            f"{repeats} run{'s' * (repeats > 1)} excluded: another run has the same fields and seed"
            + (", and differs only in settings that do not change results, such as threads." if are_ours else "."),
        )
    for name in _coupled(domain):
        yield Caution("mixed_configs", f"{name} differs between widths, so the size is not the only change.")
    yield from _unlike_arms(domain)


def _unlike_arms(domain: table.Domain) -> Iterator[Caution]:
    """Yield what base and SAM runs of one width and seed differ in besides rho, and lengths that they never share."""
    width = domain.question.width
    arms: dict[str, dict[Any, tuple[set, set]]] = {}
    for row in fields.done(domain.runs, [width, "seed", *_TRAINED_WITH, *fields.LENGTHS]):
        for name in (*_TRAINED_WITH, *fields.LENGTHS):
            at = (row[width], row.get("seed"))
            if row.get(name) is not None:
                arms.setdefault(name, {}).setdefault(at, (set(), set()))[fields.effective_rho(row) > 0].add(row[name])
    for name, at_seeds in arms.items():
        is_length = name in fields.LENGTHS
        unlike = {
            at: pair
            for at, pair in at_seeds.items()
            if all(pair) and (pair[0].isdisjoint(pair[1]) if is_length else pair[0] != pair[1])
        }
        if unlike:
            base, sam = (", ".join(sorted({str(v) for pair in unlike.values() for v in pair[arm]})) for arm in (0, 1))
            effect = "so they are not compared" if is_length else "so a gain may not be the effect of rho alone"
            what = f"base and SAM runs differ in {_TRAINED_WITH.get(name, name)} (base: {base}; SAM: {sam}), {effect}."
            yield Caution("unlike_arms", what, _at(domain, sorted({value for value, _ in unlike})))


def _coupled(domain: table.Domain) -> list[str]:
    """Return the config columns that change with the width but are not sizes."""
    runs, width = domain.runs, domain.question.width
    expected = {*domain.axes, *fields.SIZES, width}
    candidates = [name for name in runs.columns if name not in expected and fields.is_config(name)]
    names = [name for name in candidates if fields.varies(runs[name])]
    arms = [row for row in fields.done(runs, [width, *names]) if fields.effective_rho(row) > 0]
    pairs = {name: {(row[width], row[name]) for row in arms if not fields.is_unread(row, name)} for name in names}
    return [name for name in names if len({value for _, value in pairs[name]}) > 1 and not _is_size(name, pairs[name])]


def _is_size(name: str, pairs: set[tuple[Any, Any]]) -> bool:
    """Whether a field of a user's model determines the width: each value has one width, and vice versa."""
    return name not in SCHEMA and all(len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1))


def _seeds(part: table.Part) -> Iterator[Caution]:
    few, unpaired = [], []
    for width in part.widths:
        if width.best is None:
            continue
        base, sam = (np.isfinite(width.values[:, column]) for column in (0, 1 + width.best))
        few += [int(np.sum(base & sam))]
        unpaired += [width.value] * bool(np.any(base != sam))
    if 0 in few:
        yield Caution(
            "no_seeds", "no seed has both a base and a SAM run with a result, so no gain there.", "at some width"
        )
    least = min(filter(None, few), default=FEW_SEEDS)
    if least < FEW_SEEDS:
        yield Caution(
            "few_seeds",
            f"intervals are wide and assume nearly normal noise. Use {FEW_SEEDS} or more.",
            f"as few as {least} seed{'s' * (least > 1)} at a width:",
        )
    same = [width.value for width in part.widths if _has_no_spread(width)]
    if same:
        yield Caution(
            "no_spread",
            "every seed has the same gain, as happens with few seeds and few test examples: an interval of length "
            "zero does not mean certainty.",
            _at(part, same),
        )
    if unpaired:
        yield Caution("unpaired_seeds", "some seeds have only one run of the pair.", _at(part, unpaired))


def _has_no_spread(width: Width) -> bool:
    gains = [] if width.best is None else width.gains[:, width.best][np.isfinite(width.gains[:, width.best])]
    return len(gains) > 1 and float(np.ptp(gains)) < 1e-12


def _rhos(part: table.Part, *, has_states: bool, are_ours: bool) -> Iterator[Caution]:
    for edge, most, way in (("high", "largest", "larger"), ("low", "smallest", "smaller")):
        at = [width.value for width in part.widths if edge in rho.grid_edge(width)]
        if at:
            yield Caution(
                "edge_of_grid",
                f"the best rho is the {most} of the grid; a {way} one may be better. Extend the grid.",
                _at(part, at),
            )
    if any(len(width.rhos) < 3 for width in part.widths):
        yield Caution(
            "short_grid", "Fewer than three values of rho at some widths: there is hardly a best rho to choose."
        )
    if len({width.rhos for width in part.widths}) > 1:
        yield Caution(
            "grids_differ", "The grid of rho differs between widths, and the best rho and the gain depend on it."
        )
    short = [width.value for width in part.widths if width.short]
    if short:
        yield Caution(
            "missing_seeds",
            "some values of rho have fewer seeds than others and cannot be the best until they have as many."
            + (" Rerun the command." if are_ours else ""),
            _at(part, short),
        )
    diverged = sum(width.num_diverged for width in part.widths)
    lost = "diverged" if has_states else "have no metric"
    if diverged:
        verb = "has no metric" if diverged == 1 and not has_states else lost
        seed = "a diverged seed" if has_states else "a seed without one"
        count = f"{diverged} run{'s' * (diverged > 1)}"
        yield Caution("diverged", f"a rho with {seed} is never the best.", f"{count} {verb};")
    base = [width.value for width in part.widths if not np.isfinite(width.values[:, 0]).all()]
    if base:
        yield Caution("base_diverged", f"base runs {lost} or are missing; their seeds are excluded.", _at(part, base))


def _collapsed(part: table.Part) -> Iterator[Caution]:
    """Yield cautions about runs that are no better than chance although their loss is finite."""
    num_collapsed = sum(width.num_collapsed for width in part.widths)
    if not num_collapsed:
        return
    verb = "run is" if num_collapsed == 1 else "runs are"
    yield Caution(
        "collapsed",
        "They count in the gains but are excluded from measurements of the networks, because a network with the same "
        "output for every input is flat.",
        f"{num_collapsed} {verb} no better than a prediction that ignores its inputs, that is, collapsed to chance.",
    )
    chosen = [
        width.value for width in part.widths if width.best is not None and _is_collapsed(width)[1 + width.best].any()
    ]
    if chosen:
        yield Caution(
            "collapsed_best",
            "the best rho has seeds that collapsed to chance, so its mean mixes two kinds of runs.",
            _at(part, chosen),
        )
    if base := [width.value for width in part.widths if _is_collapsed(width)[0].any()]:
        yield Caution(
            "collapsed_base",
            "seeds of the base collapsed to chance, so the gain there compares training with no training.",
            _at(part, base),
        )


def _is_collapsed(width: Width) -> np.ndarray:
    """Return which runs collapsed, [1 + rhos, seeds]."""
    return np.zeros(width.values.shape, bool).T if width.collapsed is None else width.collapsed.T


def _choice(part: table.Part, *, are_ours: bool) -> Iterator[Caution]:
    if part.chosen_by.startswith("test") and any(len(width.candidates) > 1 for width in part.widths):
        yield Caution(
            "test_set_selection",
            ("The best rho was chosen by the test metric, as in the paper" if are_ours else _CHOSEN_BY_ITSELF)
            + ", so the plain gain is biased upward. The corrected gain removes selection bias across seeds, but not "
            + "overfitting of rho to the test set; "
            + f"{'config.validation_fraction=0.1' if are_ours else _COLUMN_TO_CHOOSE_BY} removes both.",
        )
    if part.chosen_by == "test_metric_best":
        yield Caution(
            "best_epoch", "Each run is scored at its best epoch on the test set, which biases all scores upward."
        )


def _grids(part: table.Part) -> Iterator[Caution]:
    """Yield the widths at which base and SAM were tried at different values of the tuned fields."""
    tune, width = part.question.tune, part.question.width
    tried: dict[Any, tuple[set, set]] = {}
    for row in fields.done(part.runs, [width, *tune]):
        tried.setdefault(row[width], (set(), set()))[fields.effective_rho(row) > 0].add(tuple(map(row.get, tune)))
    if unequal := [value for value, (base, sam) in sorted(tried.items()) if base and sam and base != sam]:
        what = f"base and SAM were tried at different values of {' and '.join(tune)}; the arm with fewer is tuned less."
        yield Caution("unequal_grids", what, finding=_at(part, unequal))


def _fit(part: table.Part) -> Iterator[Caution]:
    if not {"train_loss", "train_metric"} & set(part.runs.columns):
        return
    if np.isnan(interpolation.fits_from(part)):
        yield Caution(
            "no_interpolation",
            "The base does not fit its training labels at the largest width; the study may end before the networks "
            "are overparameterized.",
        )


def _unequal_losses(part: table.Part) -> Iterator[Caution]:
    if "train_loss" not in part.runs.columns or not quantities.measured(part.runs):
        return
    losses = [each for each in measured.arrange(part, ["train_loss"])["train_loss"] if each.pairs]
    # 0 has no logarithm.
    positive = [each._replace(values=np.maximum(each.values, 1e-12)) for each in losses]
    ratios = [measured.means(each, comparison=measured.RATIO).effect for each in positive]
    at = [each.width.value for each, ratio in zip(positive, ratios, strict=True) if not 1 / _ALIKE <= ratio <= _ALIKE]
    if at:
        yield Caution(
            "unequal_losses",
            f"the training losses of SAM and its base differ by more than a factor of {_ALIKE}. Curvature depends on "
            "the loss, so the measurements also reflect how far each was trained.",
            _at(part, at),
        )


def _at(part: table.Part | table.Domain, values: list[Any]) -> str:
    """Write at which widths."""
    width = part.question.width
    return f"at {_list(values)} parameters" if width == "num_params" else f"at {width} {_list(values)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _list(values: list[Any]) -> str:
    return ", ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values)
