"""The command `advise`: settings of SAM for a network that is too large to tune, from runs of narrower networks."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide import config as configs
from flatwide import registry, trees
from flatwide.analysis import advice, fields, metrics, table
from flatwide.config.parser import FlagParser
from flatwide.runs.directory import RunDirectory
from flatwide.runs.logs import duration_text
from flatwide.runs.table import collect_done

if TYPE_CHECKING:
    import pandas as pd

USAGE = """python main.py advise W --at="num_neurons=(3000,1000)" [--at=FIELD=VALUE ...]
                        [--metric=test_metric] [--choose_by=COLUMN]"""
_DESCRIPTION = """Advise rho, and the learning rate if it varies, for an untrained width, from finished runs of at least
three widths with at least two seeds each, and report what the same advice lost at the largest trained width. Trains
nothing."""

_GRID = (0.02, 0.05, 0.1, 0.2, 0.5)  # radii of normalized SAM that cover the best ones of the paper
_GRID_SEEDS = 3
_RULES = {
    advice.CARRIED: "carried over from the nearest trained width",
    advice.POWER_LAW: "by a power law of the best value in the number of parameters",
    advice.MEASURED: "as measured: this width is among the runs",
    advice.BASE: "since SAM does harm at {tried_at:,} parameters",
}


def command(arguments: list[str]) -> tuple[str, str]:
    """Return advice as text for the terminal, and a line for each part of the runs whose advice is refused.

    Args:
      arguments: those after `advise`.
    Raises: ConfigError, DataError, FileNotFoundError, ValueError.
    """
    example = 'python main.py advise runs/demo --at="num_neurons=(256,)"'
    parser = FlagParser(USAGE, description=_DESCRIPTION, example=example)
    parser.add_argument("workdir", nargs="?", metavar="W", help="work directory with trained runs")
    text = "field and value of the untrained width, or num_params=N (required; may be repeated)"
    parser.add_argument("--at", action="append", default=[], metavar="FIELD=VALUE", help=text)
    parser.add_argument("--metric", metavar="COLUMN", help="result column to compare (default: test_metric)")
    parser.add_argument("--choose_by", metavar="COLUMN", help="result column that chooses rho (default: the metric)")
    flags = parser.parse_args(arguments)
    if not flags.workdir or not flags.at:
        parser.error("expected a work directory, and a width with --at")
    assignments = []
    for text in flags.at:
        name, equals, value = text.partition("=")
        if not equals:
            parser.error(f"--at={text!r}: expected FIELD=VALUE, such as num_filters=256")
        assignments.append((name.strip(), value.strip()))
    metric = flags.metric or "test_metric"
    runs, advised = _advise(flags.workdir, assignments, metric=metric, choose_by=flags.choose_by)
    percent = metrics.units(runs, metric).is_percent
    given = (describe(item, is_percent=percent) for item, _ in advised if not item.refusal)
    return "\n\n".join(given), "\n".join(_refused(item, seconds) for item, seconds in advised if item.refusal)


def advise_rho(workdir: str | Path, *, metric: str = "test_metric", choose_by: str | None = None, **at: Any) -> list:
    """Advise rho, and the learning rate if it varies, for an untrained width.

    Args:
      workdir: of runs at three or more widths, with two or more seeds each.
      metric, choose_by: as for `analysis.gain.gain_by_width`.
      at: fields that set the width, such as `num_neurons=(3000, 1000)`; or `num_params` alone.
    Returns: an `analysis.advice.Advice` for each part of the table.
    Raises: ConfigError, DataError, FileNotFoundError; ValueError if no run is done.
    """
    if not at:
        raise ValueError("advise_rho: expected an untrained width, such as num_neurons=(3000, 1000).")
    _, advised = _advise(
        workdir, [(name, str(value)) for name, value in at.items()], metric=metric, choose_by=choose_by
    )
    return [item for item, _ in advised]


def _advise(
    workdir: str | Path, assignments: list[tuple[str, str]], *, metric: str, choose_by: str | None
) -> "tuple[pd.DataFrame, list[tuple[advice.Advice, float]]]":
    """Return the runs, and for each part of the table the advice and the seconds of a run at that width."""
    runs = collect_done(workdir)
    advised = []
    domains = table.split(runs, metric=metric, choose_by=choose_by).domains
    for part in (part for domain in domains for part in advice.parts(domain)):
        names = runs.loc[part.runs.index, "run"]
        num_params = _num_params(RunDirectory(Path(workdir) / "runs" / names.iloc[0]), assignments)
        seconds = _seconds(runs.loc[part.runs.index], num_params)
        advised.append((advice.advise(part, num_params=num_params), seconds))
    return runs, advised


def _num_params(directory: RunDirectory, assignments: list[tuple[str, str]]) -> int:
    """Count the parameters of a run's network at another width."""
    from flatwide.runs import load, preview

    if [name for name, _ in assignments] == ["num_params"]:
        text = assignments[0][1]
        if not text.isdecimal() or int(text) < 1:
            raise configs.ConfigError([f"num_params={text}: expected an integer >= 1."])
        return int(text)
    shapes = [name for name, field in configs.SCHEMA.items() if field.shape]
    faults = [registry.unknown("width", name, [*shapes, "num_params"]) for name, _ in assignments if name not in shapes]
    if faults:
        raise configs.ConfigError(faults)
    values = load.read_fields(directory)
    changed, faults = configs.override(values, assignments)
    if faults:
        raise configs.ConfigError(faults)
    before, after = configs.resolve(values), configs.resolve(changed)
    sizes = [trees.size(preview.sizes(config).params) for config in (before, after)]
    if before != after and sizes[0] == sizes[1]:
        named = ", ".join(f"{name}={value}" for name, value in assignments)
        raise configs.ConfigError([f"{named}: {after['model']} does not read it, so its size stays the same."])
    return sizes[1]


def _seconds(runs: "pd.DataFrame", num_params: int) -> float:
    """Estimate the seconds of a SAM run from the largest trained width, in proportion to the parameters."""
    rows = [row for row in fields.records(runs, ["num_params", "seconds", "rho", "status"]) if row["seconds"]]
    sam = [row for row in rows if row["status"] == "finished" and row["rho"] > 0]
    if not sam:
        return math.nan
    largest = max(row["num_params"] for row in sam)
    times = sorted(row["seconds"] for row in sam if row["num_params"] == largest)
    return times[len(times) // 2] * max(1.0, num_params / largest)


def describe(item: advice.Advice, *, is_percent: bool) -> str:
    """Write an advice that is given in a few lines.

    Args:
      is_percent: whether the metric is a fraction, reported in percentage points.
    """
    head = f"{item.part}: " if item.part else ""
    values = ", ".join(value.text for value in item.values)
    rule = _RULES[item.rule].format(tried_at=item.tried_at)
    lines = [f"{head}at {item.num_params:,} parameters: {values}, {rule}."]
    for value in item.values:
        if math.isfinite(value.exponent):
            lines.append(
                f"{value.field} is proportional to the number of parameters to the power {value.exponent:+.3g} "
                f"(standard error {value.exponent_error:.2g})."
            )
    if item.regrets:
        lines.append(_tried(item, is_percent))
    lines.append(_gain(item, is_percent))
    return "\n".join(lines)


def _tried(item: advice.Advice, is_percent: bool) -> str:
    """Report what the rules lost where they could be tested."""
    losses = []
    for rule, regret in item.regrets.items():
        if math.isnan(regret.value):
            losses.append(f"{rule}: the optimum of that width")
        else:
            losses.append(f"{rule}: {_number(regret.value, is_percent)} lost ({_interval(regret, is_percent)})")
    return f"Tested at {item.tried_at:,} parameters, with advice from the narrower networks: {'; '.join(losses)}."


def _gain(item: advice.Advice, is_percent: bool) -> str:
    measured = f"{_number(item.measured_gain.value, is_percent)} ({_interval(item.measured_gain, is_percent)})"
    if item.rule == advice.MEASURED:
        return f"Gain of SAM there: {measured}."
    expected = item.expected_gain
    line = f"{_number(expected.value, is_percent)} ({_interval(expected, is_percent)})"
    caveat = f" SAM does not demonstrably help at {item.tried_at:,}." if item.measured_gain.low <= 0 else ""
    extrapolated = f"{line} at {item.num_params:,} if the trend continues"
    return f"Gain of SAM: {measured} at {item.tried_at:,} parameters; {extrapolated}.{caveat}"


def _number(value: float, is_percent: bool) -> str:
    return f"{100 * value:+.2f} points" if is_percent else f"{value:+.4g}"


def _interval(mean: Any, is_percent: bool) -> str:
    low, high = (f"{100 * end:+.2f}" if is_percent else f"{end:+.4g}" for end in (mean.low, mean.high))
    return f"95 % interval {low} to {high}"


def _refused(item: advice.Advice, seconds: float) -> str:
    """Say why advice is refused, and which grid to train instead; a run of it takes `seconds`, NaN if unknown."""
    head = f"{item.part}: " if item.part else ""
    count = (len(_GRID) + 1) * _GRID_SEEDS
    radii = ", ".join(f"{rho:g}" for rho in _GRID)
    time = "" if math.isnan(seconds) else f", about {duration_text(count * seconds)} one after another"
    return (
        f"{head}no advice for {item.num_params:,} parameters: {item.refusal}. "
        f"Train rho 0, {radii} with {_GRID_SEEDS} seeds each at this width instead: {count} runs{time}."
    )
