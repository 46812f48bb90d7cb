"""How the gain, or its trend with size, depends on another numeric axis such as label noise or sparsity."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import along, estimates, fields, table
from flatwide.analysis.estimates import Estimate, Scores

_SAME_BUDGET = 0.01  # relative difference below which two numbers of nonzero weights are the same budget


class Levels(NamedTuple):
    """The effect of another axis on the gain, or on its slope with the number of parameters.

    values: of the axis, ascending. sizes: numbers of parameters that every value has. change: from the first value to
      the last, along the line through all values. rise: the last value minus the first.
    """

    values: tuple[float, ...]
    sizes: tuple[int, ...]
    change: Estimate
    rise: Estimate

    @property
    def direction(self) -> int:
        """1 or -1 where both intervals lie on that side of zero, else 0."""
        return self.change.sign if self.change.sign == self.rise.sign else 0


def numeric_axes(domain: table.Domain) -> Iterator[tuple[str, dict[str, Any], list[table.Part]]]:
    """Yield each numeric axis, the settings that its parts share, and its parts, in the order of the axis."""
    for axis in (name for name in domain.axes if name not in fields.LENGTHS):
        groups: dict[str, tuple[dict[str, Any], list[table.Part]]] = {}
        for part in domain.parts:
            value = part.settings.get(axis)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                front = {name: setting for name, setting in part.values.items() if name != axis}
                groups.setdefault(str(front), (front, []))[1].append(part)
        for front, members in groups.values():
            if len(members) > 1:
                yield axis, front, sorted(members, key=lambda part: part.settings[axis])


def levels(parts: Sequence[table.Part], axis: str) -> Levels | None:
    """Compute `compare_levels` for parts, one for each value of an axis."""
    return compare_levels([part.values[axis] for part in parts], [part.scores for part in parts], axis=axis)


def compare_levels(values: Sequence[float], every: Sequence[Scores], *, axis: str) -> Levels | None:
    """Compare the slopes of the gain at the values of an axis, or the gains where there is only one width.

    Args:
      values: ascending. every: the scores of the gain at each.
    Returns: over the widths and seeds that every value has; None below two values with a width in common, or two seeds.
    """
    with_scores = [(value, scores_at) for value, scores_at in zip(values, every, strict=True) if scores_at.num_params]
    if len(with_scores) < 2:
        return None
    sizes = sorted(set.intersection(*(set(scores_at.num_params) for _, scores_at in with_scores)))
    together = estimates.joined(
        [scores_at.only([scores_at.num_params.index(size) for size in sizes]) for _, scores_at in with_scores]
    )
    if not sizes or len(together.seeds) < 2:
        return None
    along_sizes = estimates.slope_weights(sizes) if len(sizes) > 1 else np.ones(1)
    axis_values = np.array([float(value) for value, _ in with_scores])
    positions = np.log10(axis_values) if along.is_size(axis) else axis_values
    line = (positions[-1] - positions[0]) * estimates.line_weights(positions)
    ends = np.zeros(len(positions))
    ends[0], ends[-1] = -1.0, 1.0
    change, rise = (estimates.contrast(together, np.outer(weights, along_sizes).ravel()) for weights in (line, ends))
    return Levels(values=tuple(axis_values.tolist()), sizes=tuple(sizes), change=change, rise=rise)


def budgets(runs: fields.Frame) -> Iterator[tuple[int, fields.Frame]]:
    """Yield each number of nonzero parameters that networks of several sizes share, with their runs."""
    names = ("num_params", "num_nonzero_params")
    rows = [row for row in fields.done(runs, names) if row.get("num_nonzero_params") is not None]
    counts = sorted({int(row["num_nonzero_params"]) for row in rows})
    groups: list[list[int]] = []
    for count in counts:
        if groups and count <= (1 + _SAME_BUDGET) * groups[-1][0]:
            groups[-1].append(count)
        else:
            groups.append([count])
    for group in groups:
        here = [row for row in rows if group[0] <= row["num_nonzero_params"] <= group[-1]]
        sparsities: dict[int, set[float]] = {}
        for row in here:
            sparsities.setdefault(int(row["num_params"]), set()).add(row["sparsity"] or 0.0)
        if len(sparsities) > 1 and len(set.union(*sparsities.values())) > 1:
            at_budget: Any = runs.iloc[[row["row_index"] for row in here]]
            yield group[0], at_budget
