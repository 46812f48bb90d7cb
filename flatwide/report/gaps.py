"""What a table of runs lacks: files that are damaged, runs that are not done, and widths without a pair to compare."""

from collections import Counter
from typing import Any

from flatwide.analysis import fields, table
from flatwide.columns import DONE

_MOST = 5  # lines of one kind


def gaps(split: table.Split) -> list[str]:
    """List in one line each what is wrong with the files of runs, which runs and parts are not done, and which arms
    are missing.
    """
    rows = fields.records(split.runs, ["run", "status", "problem"])
    return [
        *_first(f"{row['status']}: {row['problem']}" for row in rows if row.get("problem")),
        *_not_done(rows),
        *_first(_without_pair(split)),
    ]


def _first(lines: Any) -> list[str]:
    every = list(lines)
    more = len(every) - _MOST
    return every[:_MOST] + ([f"and {more} more such line{'s' * (more > 1)}"] if more > 0 else [])


def _not_done(rows: list[dict[str, Any]]) -> list[str]:
    counts = Counter(row["status"] for row in rows if row["status"] not in DONE)
    if not counts:
        return []
    listed = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return [f"{counts.total()} of {len(rows)} runs are not done and are excluded: {listed}"]


def _without_pair(split: table.Split) -> list[str]:
    """Name the domains without a run that is done, and the widths of each part that have only one of the two arms."""
    lines = [f"{domain.name or 'all runs'}: no run is done" for domain in split.domains if not fields.done(domain.runs)]
    for part in (part for domain in split.domains for part in domain.every_part):
        arms = fields.arms_of_widths(part.runs)
        for has_sam, lacking in ((True, "base run (rho=0)"), (False, "SAM run")):
            at = ", ".join(f"{size:,}" for size, have in sorted(arms.items()) if have == {has_sam})
            if at:
                front = f"{part.name}: " if part.name else ""
                lines.append(f"{front}no {lacking} at {at} parameters, so no gain there")
    return lines
