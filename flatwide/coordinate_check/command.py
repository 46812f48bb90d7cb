"""The command `coordinate_check`, which writes a table of slopes and a figure."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide import registry
from flatwide.config.parser import FlagParser
from flatwide.coordinate_check.slopes import LARGEST_SLOPE, MULTIPLES, NUM_STEPS, Check, Slope
from flatwide.figures import coordinates, save
from flatwide.runs import disk

USAGE = """python main.py coordinate_check --config=F [--config.field=value ...]
                         [--widths=256,512,1024,2048 or "(256,128),(512,256)"] [--seeds=5] [--output=DIR]"""
_NAME = "coordinate_check"
_MOST_DIGITS = 4  # of a number of seeds


class Request(NamedTuple):
    """The request on the command line; widths are values of the model's width field, None for the default multiples."""

    config_path: str
    widths: list[tuple[int, ...]] | None
    num_seeds: int
    output: Path | None


def read(arguments: Sequence[str]) -> tuple[Request, list[str]]:
    """Read the arguments after `coordinate_check` on the command line.

    Returns: the request, and the arguments that assign config fields.
    Raises: ConfigError that lists every fault of the flags.
    """
    flags, rest = _parser().parse_known_args(arguments)
    faults = [] if flags.config else [f"--config is missing; usage:\n{USAGE}"]
    widths, num_seeds = None, 5
    if flags.widths is not None and (widths := _widths(flags.widths)) is None:
        faults.append(
            f"--widths={flags.widths}: expected two or more widths such as 256,512,1024, all of the same length."
        )
    if flags.seeds is not None:
        num_seeds = int(flags.seeds) if flags.seeds.isdecimal() and len(flags.seeds) <= _MOST_DIGITS else 0
        if num_seeds < 2:
            faults.append(
                f"--seeds={registry.shown(flags.seeds)}: expected an integer >= 2, since intervals are over seeds."
            )
    output = Path(flags.output) if flags.output else None
    if output is not None and any(output.glob(f"{_NAME}*")):
        faults.append(f"--output={output}: it contains the files of another check; choose another folder.")
    elif output is not None:
        try:
            disk.check_folder(output, f"--output={output}")
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise configs.ConfigError(faults)
    return Request(config_path=flags.config, widths=widths, num_seeds=num_seeds, output=output), rest


def _parser() -> FlagParser:
    parser = FlagParser(
        USAGE,
        description="Check whether training and SAM's perturbation behave the same at every width, within a few steps.",
        example="python main.py coordinate_check --config=digits_mlp --config.base_width=32 "
        "--config.parameterization=mup --config.perturbation_scaling=layerwise",
    )
    parser.add_argument("--config", help="a config file, or the name of one that ships (required)")
    multiples = ", ".join(map(str, MULTIPLES))
    parser.add_argument("--widths", help=f"widths to compare (default: {multiples} times the base width)")
    parser.add_argument("--seeds", metavar="N", help="number of seeds, at least 2 (default: 5)")
    parser.add_argument("--output", metavar="DIR", help="folder for a figure and its numbers (default: none)")
    return parser


def _widths(text: str) -> list[tuple[int, ...]] | None:
    """Read numbers, or tuples of them; None if they are not comparable widths."""
    try:
        items = configs.literal(f"[{text}]")
    except ValueError:
        return None
    widths = [item if isinstance(item, tuple) else (item,) for item in items]
    is_comparable = len(set(map(len, widths))) == 1 and len(set(widths)) == len(widths) > 1
    is_size = all(type(size) is int and size >= 1 for item in widths for size in item)
    return widths if is_comparable and is_size else None


def text(check: Check) -> str:
    """Write the slopes as a table, with the verdict."""
    titles = [slope.quantity.title for slope in check.slopes]
    size = max(map(len, titles))
    rows = [f"{'slope of the logarithm in log width':{size}}   slope   95 % interval   expected"]
    for title, slope in zip(titles, check.slopes, strict=True):
        rows.append(
            f"{title:{size}}  {_number(slope.slope)}  [{_number(slope.low)}, {_number(slope.high)}]  {_judged(slope)}"
        )
    num_judged, off = sum(slope.is_judged for slope in check.slopes), [s for s in check.slopes if s.is_off]
    rule = f"|slope| > {LARGEST_SLOPE} and an interval without 0"
    widths = ", ".join(map(str, check.widths))
    verdict = f"{len(off)} of {num_judged} slopes are off ({rule})"
    verdict = verdict if off else f"all {num_judged} judged slopes are as expected"
    if by_chance := sum(slope.may_be_chance for slope in off):
        verdict += f", {by_chance} perhaps by chance, since a joint interval contains 0: use more --seeds"
    return "\n".join([*rows, f"{verdict}, after {NUM_STEPS} steps at widths {widths}."])


def _number(value: float) -> str:
    return f"{value:+6.2f}" if math.isfinite(value) else "     -"


def _judged(slope: Slope) -> str:
    if slope.is_off:
        return f"{_number(slope.expected or 0.0)}  OFF{' (perhaps by chance)' if slope.may_be_chance else ''}"
    if slope.is_judged:
        return _number(slope.expected or 0.0)
    expected = math.nan if slope.expected is None else slope.expected
    return f"{_number(expected)}  (not judged)"


def write(check: Check, folder: Path) -> tuple[Path, ...]:
    """Write the figure, its numbers, and the table of slopes into a folder.

    Returns: their paths.
    Raises: as `save.save`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = [
        {"kind": s.quantity.kind, "name": s.quantity.name, "multiple": multiple, "seed": seed, "value": float(value)}
        for s in check.slopes
        for multiple, at in zip(check.multiples, s.values, strict=True)
        for seed, value in enumerate(at)
    ]
    slopes = folder / f"{_NAME}_slopes.txt"
    slopes.write_text(text(check) + "\n", encoding="utf-8")
    return (*save.save(coordinates.lines_over_widths(rows), folder / _NAME, data=rows), slopes)
