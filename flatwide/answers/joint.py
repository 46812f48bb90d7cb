"""The answers of several metrics of the same runs, which hold together."""

from collections.abc import Sequence

from flatwide.analysis import metrics, table
from flatwide.answers import answer as answers


def title(split: table.Split) -> str:
    """Return the compared metric in words, such as test accuracy."""
    metric = split.question.metric
    alone = len(split.domains) == 1
    units = metrics.units(split.runs, metric) if alone else metrics.units_of("metric", metric)
    return units.title.removesuffix(" (%)")


def notes(
    names: Sequence[str], average_last: int, splits: Sequence[table.Split], *, is_steered: bool = False
) -> tuple[str, ...]:
    """Write what the scores of runs are, and how the intervals of several metrics hold together.

    Args:
      names: of the metrics that were asked for. splits: from `several.splits`, without those that restate another.
      is_steered: whether the study steered itself by the first metric, whose verdict has the whole error rate.
    """
    found = []
    if average_last > 1:
        found.append(f"Each run is scored by the mean of its last {average_last} evaluations, a number set before it.")
    if len(splits) > 1 and is_steered:
        found.append(f"The study steered itself by {title(splits[0])}; its error rate covers no other metric.")
    elif len(splits) > 1:
        first, *others = map(title, splits)
        level, together = (
            f"{100 * splits[0].question.level:.4g} %",
            "both" if len(splits) == 2 else f"all {len(splits)}",
        )
        found.append(
            f"The headline compares by {first}; {' and '.join(others)} {'ask' if len(others) > 1 else 'asks'} another "
            f"question. Intervals and verdicts on gains and trends hold for {together} metrics together: where they "
            f"say 95 %, each metric has {level}."
        )
    compared = [split.question.metric for split in splits]
    if restating := [name for name in names if name not in compared]:
        verb = "restate" if len(restating) > 1 else "restates"
        found.append(f"{' and '.join(restating)} {verb} another metric in every run, so there is no second answer.")
    return tuple(found)


def answer(splits: Sequence[table.Split], found: Sequence[str]) -> str:
    """Write the notes, and the paragraphs of every metric."""
    texts = [answers.answer(split) for split in splits]
    named = (
        [f"By {title(split)}:\n\n{text}" for split, text in zip(splits, texts, strict=True)]
        if len(texts) > 1
        else texts
    )
    return "\n\n".join([*found, *named])
