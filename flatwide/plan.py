"""The command `plan`: which runs would decide what the runs of a work directory leave undecided."""

import math
from pathlib import Path
from typing import Any

from flatwide.analysis import fields, planning, several, table
from flatwide.answers import sentences, wording
from flatwide.config.parser import FlagParser
from flatwide.runs import commands
from flatwide.runs.logs import duration_text
from flatwide.runs.table import collect_done
from flatwide.study import question

USAGE = """python main.py plan W [--metric=test_metric] [--choose_by=COLUMN]"""
_DESCRIPTION = """For each question that the runs of a work directory leave undecided (whether SAM helps at the largest
width, and whether its gain grows with width): the smallest effect that they could have shown, how many more seeds are
likely to decide, at which widths and radii, for how long, and with which command. Trains nothing."""


def command(arguments: list[str]) -> str:
    """Return the plan as text for the terminal.

    Args:
      arguments: those after `plan`.
    Raises: ConfigError, FileNotFoundError, ValueError.
    """
    parser = FlagParser(USAGE, description=_DESCRIPTION, example="python main.py plan runs/demo")
    parser.add_argument("workdir", nargs="?", metavar="W", help="work directory with trained runs")
    parser.add_argument("--metric", metavar="COLUMN", help="result column to compare (default: that of the study)")
    parser.add_argument("--choose_by", metavar="COLUMN", help="result column that chooses rho (default: the metric)")
    flags = parser.parse_args(arguments)
    if not flags.workdir:
        parser.error("expected a work directory")
    workdir = Path(flags.workdir)
    runs = question.scored(workdir, collect_done(workdir))
    asked = (flags.metric,) if flags.metric else question.metrics_of_study(workdir)
    split, *_ = several.splits(runs, asked, choose_by=flags.choose_by)
    if not split.parts:
        raise ValueError(f"{workdir}: no width has both a base run (rho=0) and a SAM run; train a pair first.")
    recorded = commands.read(workdir)
    return "\n\n".join(describe(part, recorded, workdir) for part in split.parts)


def describe(part: table.Part, recorded: list[commands.Command], workdir: Path) -> str:
    """Write the plans of a part in a few lines each, and which radii may be dropped."""
    front = f"{part.name}: " if part.name else ""
    if part.not_learned:
        return f"{front}no plan: {part.not_learned}."
    lines = []
    for plan in planning.plans(part):
        lines.append(f"{front}{sentences.undecided(part, plan)}")
        if plan.num_seeds is not None:
            lines += _continuation(part, plan, recorded, workdir)
    lines = lines or [f"{front}{_why_none(part)}"]
    every = [width.value for width in part.widths]
    kept = planning.useful_rhos(part, every)
    dropped = [rho for rho in sorted({rho for width in part.widths for rho in width.rhos}) if rho not in kept]
    if dropped:
        rows = fields.done(part.runs)
        share = sum(fields.effective_rho(row) in dropped for row in rows) / len(rows)
        listed = ", ".join(f"{rho:g}" for rho in dropped)
        lines.append(
            f"Radii that are the best at no width, nor next to one that may be: {listed} ({share:.0%} of the runs)."
        )
    return "\n".join(lines)


def _why_none(part: table.Part) -> str:
    if len(part.scores.seeds) < 3:
        return "no plan: expected three seeds or more at each width, to know their noise."
    return "both questions are decided, or the seeds have no spread: nothing to plan."


def _continuation(part: table.Part, plan: planning.Plan, recorded: list[commands.Command], workdir: Path) -> list[str]:
    """Write the runs of a plan, how long they take, and their command."""
    more = (plan.num_seeds or 0) - plan.observed.num_seeds
    sizes = [width.num_params for width in part.widths if width.value in plan.widths]
    radii = ", ".join(f"{rho:g}" for rho in (0.0, *plan.rhos))
    time = "" if math.isnan(plan.seconds) else f", about {duration_text(plan.seconds)} one after another"
    lines = [
        f"  {more} more seeds at {wording.sizes(sizes)} parameters, rho {radii}: {plan.num_runs} runs{time}.",
        "  Decide once, with all of them: adding seeds until an interval excludes zero errs twice as often.",
    ]
    command = _command(part, plan, recorded, workdir)
    return lines + [
        f"  {command}" if command else "  Add these seeds to the config of the study and rerun its command."
    ]


def _command(part: table.Part, plan: planning.Plan, recorded: list[commands.Command], workdir: Path) -> str:
    """Write the recorded command of the study with other axes; empty where there is none, or it has other axes."""
    for record in reversed(recorded):
        study = record.config.get("study") or {}
        axes = study.get("axes") or {}
        if not {"seed", "rho"} <= set(axes) or study.get("parts") or study.get("points"):
            continue
        seeds = sorted(part.scores.seeds) or [0]
        seeds += range(seeds[-1] + 1, seeds[-1] + 1 + (plan.num_seeds or 0) - len(seeds))
        changed: dict[str, Any] = {"seed": tuple(seeds), "rho": (0.0, *plan.rhos)}
        changed |= {name: (value,) for name, value in part.settings.items() if name in axes}
        for name in (name for name in fields.SHAPES if name in axes and name in part.runs.columns):
            rows = fields.done(part.runs, [part.question.width, name])
            shown = dict.fromkeys(str(row[name]) for row in rows if row[part.question.width] in plan.widths)
            changed[name] = f"({','.join(shown)},)"
        texts = {name: str(value).replace(" ", "") for name, value in changed.items()}
        return commands.with_axes(record.arguments, texts, workdir=workdir)
    return ""
