"""The course of a study that steers itself: which runs it asks for, and what it concludes, from their results alone.

A screen with few seeds keeps a few settings of each arm, the finalists. They are trained on fresh seeds, each of which
is scored at the finalists that the screen and the other fresh seeds choose: a setting chosen once by the screen and
then tested would say little about SAM tuned well. After 5, 8, 12, 18 and 27 fresh seeds the study looks at its
intervals, whose levels hold jointly over all looks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import arms, estimates, planning
from flatwide.analysis.arms import Arm, Comparison
from flatwide.analysis.estimates import Estimate
from flatwide.analysis.planning import GAIN, GROWTH
from flatwide.decide.limits import LOOKS, levels

QUESTIONS = {GAIN: (GAIN,), GROWTH: (GROWTH,), "both": (GAIN, GROWTH)}
_SCREEN, _MORE, _FINAL, _OF_BASE = 2, 3, 2, 4  # seeds of the stages of the screen
_KEPT, _FINALISTS, _BASE_FINALISTS = 4, 3, 2  # settings that a stage keeps
_BEHIND = 2.5  # paired errors by which a finalist is dropped
_FIRST_FUTILE, _HOPE = 8, 0.1  # fresh seeds from which a study may end as open, and the chance below which it does

WORDS = {
    (GAIN, 1): "SAM helps",
    (GAIN, -1): "SAM hurts",
    (GROWTH, 1): "the gain of SAM grows",
    (GROWTH, -1): "the gain of SAM shrinks",
}
Setting = tuple[Any, ...]  # rho, then the values of the tuned fields
ARMS = {False: "the base", True: "SAM"}


class Run(NamedTuple):
    """A run: the parameters of its network, its setting and its seed."""

    num_params: int
    setting: Setting
    seed: int


class Result(NamedTuple):
    """What a run gave: the compared value and what chooses, larger is better for both; NaN where it diverged."""

    value: float
    choice: float
    seconds: float = math.nan
    resolution: float = 0.0


class Design(NamedTuple):
    """What a study may train, and what it is to decide.

    question: a name in QUESTIONS. sizes: parameters of the networks, ascending. rhos: ascending, without 0.
    tuned: fields that both arms are tuned on. rates: their values for SAM, and base_rates: for the base.
    seeds: in the order in which they are used. error: rate, over all looks and questions.
    most_runs, most_seconds: the budget.
    """

    question: str
    sizes: tuple[int, ...]
    rhos: tuple[float, ...]
    tuned: tuple[str, ...]
    rates: tuple[tuple, ...]
    base_rates: tuple[tuple, ...]
    seeds: Sequence[int]
    error: float = 0.05
    most_runs: float = math.inf
    most_seconds: float = math.inf

    @property
    def widths(self) -> tuple[int, ...]:
        """The sizes that are compared: the smallest, the middle and the largest, or for a gain the largest alone."""
        if self.question == GAIN:
            return self.sizes[-1:]
        return tuple(dict.fromkeys((self.sizes[0], self.sizes[len(self.sizes) // 2], self.sizes[-1])))

    def settings(self, is_sam: bool) -> list[Setting]:
        """List the settings of an arm."""
        rhos, rates = (self.rhos, self.rates) if is_sam else ((0.0,), self.base_rates)
        return [(rho, *rate) for rho in rhos for rate in rates]


class Decision(NamedTuple):
    """A line of `decisions.csv`: what was known, what was chosen, and why."""

    stage: str
    num_params: int | None
    seeds: int
    known: str
    chosen: str
    why: str


class Verdict(NamedTuple):
    """The state of a question.

    direction: 1 or -1 where it is decided, else 0. estimates: the gain, or the slope and the rise, at the last look,
    with intervals that hold jointly over all looks. comparisons: of the finalists at each width then.
    reason: why it ended undecided; empty while it is open, and where it is decided.
    """

    question: str
    direction: int = 0
    estimates: tuple[Estimate, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether more runs may decide."""
        return not self.direction and not self.reason


class Course(NamedTuple):
    """How far the results lead.

    runs: all that were asked for. missing: those whose results it waits for; empty where it has ended.
    """

    decisions: tuple[Decision, ...]
    verdicts: tuple[Verdict, ...]
    runs: tuple[Run, ...]
    missing: tuple[Run, ...]


class _Missing(Exception):
    """Results are missing."""


class _Ended(Exception):
    """Nothing more can be trained: the reason."""


Supply = Callable[[Sequence[Run]], Mapping[Run, Result] | None]


def follow(design: Design, supply: Supply) -> Course:
    """Follow the course of a study as far as there are results.

    Args:
      supply: (runs) -> their results; None where some are missing.
    """
    steps = _Steps(design, supply)
    try:
        steps.look(steps.screen())
    except _Missing:
        pass
    except _Ended as end:
        for question, verdict in steps.verdicts.items():
            if verdict.is_open:
                steps.verdicts[question] = verdict._replace(reason=str(end))
                steps.say("end", None, [], question, "undecided", str(end))
    return Course(tuple(steps.decisions), tuple(steps.verdicts.values()), tuple(steps.asked), tuple(steps.missing))


class _Steps:
    """The stages of a course, and what has happened in them."""

    def __init__(self, design: Design, supply: Supply):
        self.design, self._supply = design, supply
        self.decisions: list[Decision] = []
        self.verdicts = {question: Verdict(question) for question in QUESTIONS[design.question]}
        self.asked: dict[Run, None] = {}
        self.missing: list[Run] = []
        self._found: dict[Run, Result] = {}

    def say(self, stage: str, size: int | None, seeds: Sequence[int], known: str, chosen: str, why: str) -> None:
        """Record a decision."""
        self.decisions.append(
            Decision(stage=stage, num_params=size, seeds=len(seeds), known=known, chosen=chosen, why=why)
        )

    def screen(self) -> dict[tuple[int, bool], list[Setting]]:
        """Choose the finalists of both arms at each width."""
        design, widths = self.design, self.design.widths
        base, sam = (design.settings(is_sam) for is_sam in ARMS)
        num_base = _OF_BASE if len(base) > _BASE_FINALISTS else 0
        num_sam = _SCREEN if len(sam) > _FINALISTS else 0
        coarse = [setting for setting in sam if setting[0] in design.rhos[::2]] if num_sam else []
        stages = [(base if num_base else [], num_base), (coarse, num_sam)]
        self._train({(size, s): (0, count) for size in widths for settings, count in stages for s in settings})
        finalists = {(size, False): base for size in widths} | {(size, True): sam for size in widths}
        for size in widths if num_base else ():
            finalists[size, False] = self._keep("screen", size, base, _BASE_FINALISTS)
        kept = dict.fromkeys(widths, coarse)
        if num_sam and len(design.rates) > 1:
            kept = {size: self._keep("screen", size, coarse, _KEPT) for size in widths}
            self._train({(size, setting): (num_sam, _MORE) for size in widths for setting in kept[size]})
            num_sam += _MORE
        for size in widths if num_sam else ():
            finalists[size, True] = self._around(size, kept[size], coarse)
        self._train({(size, s): (num_sam, _FINAL) for size in widths for s in finalists[size, True]})
        for size in widths:
            finalists[size, True] = self._keep("finalists", size, finalists[size, True], _FINALISTS)
        # The seeds that help to choose among the finalists: each of them has these.
        self._screen = {False: design.seeds[:num_base], True: design.seeds[num_sam : num_sam + _FINAL]}
        self._first_fresh = max(num_base, num_sam + _FINAL)
        return finalists

    def look(self, finalists: dict[tuple[int, bool], list[Setting]]) -> None:
        """Compare the finalists on fresh seeds until each question is decided or not worth more runs."""
        every_level = levels(self.design.error / len(self.verdicts))
        for n, level in zip(LOOKS, every_level, strict=True):
            is_growth_open = GROWTH in self.verdicts and self.verdicts[GROWTH].is_open
            widths = self.design.widths if is_growth_open else self.design.widths[-1:]
            self._train({(w, s): (self._first_fresh, n) for w in widths for arm in ARMS for s in finalists[w, arm]})
            compared = [self._comparison(size, n, finalists) for size in widths]
            for question, verdict in self.verdicts.items():
                if verdict.is_open:
                    of_question = compared if question == GROWTH else compared[-1:]
                    self.verdicts[question] = self._judge(question, of_question, n, level, every_level[-1])
            if not any(verdict.is_open for verdict in self.verdicts.values()):
                return
            if n < LOOKS[-1]:
                for size in widths:
                    self._drop(size, n, finalists)

    def _train(self, wanted: Mapping[tuple[int, Setting], tuple[int, int]]) -> None:
        """Ask for runs of some networks and settings, each at so many seeds from the one with an index on."""
        seeds = self.design.seeds
        if not wanted:
            return
        if max(first + count for first, count in wanted.values()) > len(seeds):
            raise _Ended(f"there are only {len(seeds)} seeds")
        batch = [
            Run(size, setting, seed)
            for (size, setting), (first, count) in wanted.items()
            for seed in seeds[first : first + count]
        ]
        new = [run for run in batch if run not in self.asked]
        if len(self.asked) + len(new) > self.design.most_runs:
            raise _Ended(f"the budget of {self.design.most_runs:,} runs is spent")
        seconds = [result.seconds for result in self._found.values() if math.isfinite(result.seconds)]
        if seconds and sum(seconds) * (1 + len(new) / len(seconds)) > self.design.most_seconds:
            raise _Ended(f"the budget of {self.design.most_seconds / 60:g} minutes is spent")
        self.asked |= dict.fromkeys(new)
        found = self._supply(new)
        if found is None:
            self.missing = new
            raise _Missing
        self._found |= found

    def _choices(self, size: int, setting: Setting, seeds: Sequence[int]) -> list[float]:
        return [self._found[Run(size, setting, seed)].choice for seed in seeds]

    def _mean(self, size: int, setting: Setting) -> float:
        """Return the mean over all seeds of a setting so far; -inf where one diverged."""
        seeds = [seed for seed in self.design.seeds if Run(size, setting, seed) in self._found]
        mean = float(np.mean(self._choices(size, setting, seeds))) if seeds else math.nan
        return mean if math.isfinite(mean) else -math.inf

    def _ranked(self, size: int, settings: Sequence[Setting]) -> list[Setting]:
        """Sort settings by their means, the best first, without those that diverged."""
        means = {setting: self._mean(size, setting) for setting in settings}
        ranked = sorted((s for s in settings if means[s] > -math.inf), key=lambda setting: -means[setting])
        if not ranked:
            raise _Ended(f"every setting of {ARMS[settings[0][0] > 0]} that was tried at {size:,} parameters diverged")
        return ranked

    def _keep(self, stage: str, size: int, settings: Sequence[Setting], count: int) -> list[Setting]:
        ranked = self._ranked(size, settings)
        kept = [setting for setting in settings if setting in ranked[:count]]
        self._say_chosen(stage, size, ranked, kept, f"the {count} best on the seeds of the screen")
        return kept

    def _around(self, size: int, kept: Sequence[Setting], screened: Sequence[Setting]) -> list[Setting]:
        """Choose the best setting, its neighbours in rho, and the best of another rate."""
        rhos = self.design.rhos
        ranked = self._ranked(size, kept)
        best, at = ranked[0], rhos.index(ranked[0][0])
        near = [(rho, *best[1:]) for rho in rhos[max(at - 1, 0) : at + 2]]
        others = [s for s in (*ranked, *self._ranked(size, screened)) if s[1:] != best[1:]][:1]
        chosen = [*near, *others]
        end = "; it is at an end of the radii" if at in (0, len(rhos) - 1) else ""
        also = " and the best of another rate" if others else ""
        self._say_chosen("screen", size, ranked, chosen, f"the best setting, its neighbours in rho{also}{end}")
        return chosen

    def _say_chosen(self, stage: str, size: int, ranked: Sequence[Setting], kept: Sequence[Setting], why: str) -> None:
        seeds = [seed for seed in self.design.seeds if Run(size, ranked[0], seed) in self._found]
        known = "; ".join(f"{self._text([setting])}: {self._mean(size, setting):.6g}" for setting in ranked)
        self.say(stage, size, seeds, known, self._text(kept), why)

    def _named(self, setting: Setting) -> dict[str, Any]:
        return dict(zip(("rho", *self.design.tuned), setting, strict=True))

    def _text(self, settings: Sequence[Setting]) -> str:
        return "; ".join(arms.settings_text(self._named(setting)) for setting in settings)

    def _fresh(self, n: int) -> Sequence[int]:
        return self.design.seeds[self._first_fresh : self._first_fresh + n]

    def _comparison(self, size: int, n: int, finalists: dict[tuple[int, bool], list[Setting]]) -> Comparison:
        """Compare the finalists on fresh seeds; those that diverged are dropped.

        `Comparison` scores each seed at the settings with the best sum of choices over the others. An n - 1-th of the
        sum over the seeds of the screen, added to each fresh seed, makes that the sum over both.
        """
        both = []
        for is_sam, name in ARMS.items():
            settings, fresh = finalists[size, is_sam], self._fresh(n)
            runs = [[self._found[Run(size, setting, seed)] for setting in settings] for seed in fresh]
            values = np.array([[run.value for run in row] for row in runs])
            choices = np.array([[run.choice for run in row] for row in runs])
            whole = np.flatnonzero(np.isfinite(values + choices).all(axis=0))
            kept = [settings[column] for column in whole]
            finalists[size, is_sam] = self._without(size, n, settings, kept, "a seed diverged")
            if not kept:
                raise _Ended(f"every finalist of {name} at {size:,} parameters diverged")
            of_screen = np.array([sum(self._choices(size, setting, self._screen[is_sam])) for setting in kept])
            named, choices = tuple(map(self._named, kept)), choices[:, whole] + of_screen / (n - 1)
            both.append(Arm(named, tuple(fresh), values[:, whole], choices))
        resolution = max(result.resolution for run, result in self._found.items() if run.num_params == size)
        return Comparison(width=size, num_params=size, base=both[0], sam=both[1], sign=1, resolution=resolution)

    def _judge(self, question: str, compared: Sequence[Comparison], n: int, level: float, last_level: float) -> Verdict:
        """Look at the intervals of a question, and record what is concluded."""
        scores = arms.scores(compared)
        plain = [estimates.slope(scores), estimates.rise(scores)] if question == GROWTH else [compared[0].gain]
        # The limits are those of t with n - 1 degrees of freedom.
        plain = [each._replace(degrees=n - 1.0) for each in plain]
        found = tuple(estimate.at(level) for estimate in plain)
        known = "; ".join(
            f"{name} {each.value:.6g} ({each.low:.6g} to {each.high:.6g})"
            for name, each in zip(("slope", "rise") if question == GROWTH else ("gain",), found, strict=True)
        )
        signs = {0 if estimate.is_exact else estimate.sign for estimate in found}
        reason, direction = "", 0
        if len(signs) == 1 and 0 not in signs:
            direction = signs.pop()
        elif n == LOOKS[-1]:
            reason = f"all {n} fresh seeds are spent"
        elif n >= _FIRST_FUTILE:
            chance = min(planning.chance(each.at(last_level), LOOKS[-1]) for each in plain)
            reason = f"the chance of a decision by {LOOKS[-1]} fresh seeds is {chance:.3f}" if chance < _HOPE else ""
        chosen = WORDS[question, direction] if direction else "undecided" if reason else "continue"
        why = reason or f"the interval of level {level:.4f} {'excludes' if direction else 'contains'} zero"
        self.say(f"look {n}", compared[-1].num_params, self._fresh(n), known, f"{question}: {chosen}", why)
        return Verdict(
            question=question, direction=direction, estimates=found, comparisons=tuple(compared), reason=reason
        )

    def _drop(self, size: int, n: int, finalists: dict[tuple[int, bool], list[Setting]]) -> None:
        """Drop finalists that are far behind the best of their arm."""
        for is_sam in ARMS:
            settings, seeds = finalists[size, is_sam], [*self._screen[is_sam], *self._fresh(n)]
            table = np.array([self._choices(size, setting, seeds) for setting in settings])
            behind = table[table.mean(axis=1).argmax()] - table
            errors = behind.std(axis=1, ddof=1) / math.sqrt(len(seeds))
            kept = [setting for setting, d, e in zip(settings, behind, errors, strict=True) if d.mean() <= _BEHIND * e]
            why = f"more than {_BEHIND} paired errors behind the best finalist of {ARMS[is_sam]}"
            finalists[size, is_sam] = self._without(size, n, settings, kept, why)

    def _without(self, size: int, n: int, before: Sequence[Setting], kept: list[Setting], why: str) -> list[Setting]:
        """Record which finalists are dropped, if any; return the others."""
        if gone := [setting for setting in before if setting not in kept]:
            self.say(f"look {n}", size, self._fresh(n), "", f"drop {self._text(gone)}", why)
        return kept


def num_runs(design: Design, *, is_most: bool) -> int:
    """Count the runs of the screen and of every look, or the least: those of the first look, with few finalists."""
    sam, base = (len(design.settings(is_sam)) for is_sam in (True, False))
    candidates, num_rates, total = sam, len(design.rates), 0
    if sam > _FINALISTS:
        coarse = len(design.rhos[::2]) * num_rates
        total += _SCREEN * coarse + (_MORE * min(_KEPT, coarse) if num_rates > 1 else 0)
        candidates = min(_FINALISTS if is_most else 2, len(design.rhos)) + (num_rates > 1)
    total += _FINAL * candidates + (_OF_BASE * base if base > _BASE_FINALISTS else 0)
    looks = LOOKS[-1 if is_most else 0]
    total += looks * (min(candidates, _FINALISTS) + min(base, _BASE_FINALISTS))
    return int(min(total * len(design.widths), design.most_runs if is_most else math.inf))
