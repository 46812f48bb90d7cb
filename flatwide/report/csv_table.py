"""Reports of tables of runs that were trained elsewhere."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide import config as configs
from flatwide import csv_cells, registry
from flatwide.analysis import convert, fields
from flatwide.analysis import table as tables
from flatwide.columns import COLLAPSED, DONE, FRACTION_METRICS, RESULT_FIELDS
from flatwide.report import cells, epochs, output, tracked
from flatwide.report.content import Source
from flatwide.report.exports import export
from flatwide.report.run_table import is_metric

if TYPE_CHECKING:
    import pandas as pd

# Common names of these columns, the likeliest first; compared without case, spaces and punctuation.
_NAMES = {
    "width": (
        *("num_params", "params", "parameters", "num_parameters", "n_params", "param_count", "model_size", "size"),
        *("width", *fields.SHAPES, "channels"),
    ),
    "rho": ("rho", "sam_rho", "radius", "sam_radius", "perturbation_radius", "rho_sam"),
    "seed": ("seed", "random_seed", "run_seed", "trial", "replicate", "repeat"),
    "metric": (
        *("test_metric", "test_accuracy", "test_acc", "accuracy", "acc", "test_acc1", "val_accuracy", "val_acc"),
        *("validation_accuracy", "test_score", "score", "metric", "test_error", "error", "test_loss", "val_loss"),
    ),
}
_LOWER = re.compile(r"loss|err(or)?$|perplexity|ppl|mse|rmse|mae", re.IGNORECASE)
_LOGGED = ("learning_rate",)  # settings that may differ between the rows of one run
_STATES = {"finished", "diverged", "unfinished", "failed", "damaged", "unreadable", "mismatch"}
_TEXTS = {"metric_name", "higher_is_better", "device", "x64", "matmul_precision", "versions", "started", "finished"}
_OURS = {"run", "status", "num_params", "rho", "seed", "test_metric", "metric_name", "higher_is_better", "optimizer"}


def write_table(
    table_path: Path | str,
    *,
    width: str | None = None,
    rho: str | None = None,
    seed: str | None = None,
    metric: str | None = None,
    lower_is_better: bool | None = None,
    choose_by: str | None = None,
    pick: str | None = None,
    epoch: str | None = None,
    axes: Sequence[str] = (),
    tune: Sequence[str] = (),
    formats: Sequence[str] = (),
    path: Path | str | None = None,
    card_path: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write the report of a CSV file with one row per run.

    Args:
      width, rho, seed, metric: names of its columns; None guesses. rho is 0 for the base optimizer; a run without a
        metric has diverged.
      lower_is_better: the direction of the metric; None guesses it from the name.
      choose_by: the column that the best rho is chosen by, such as a validation accuracy; None is the metric, or, in a
        table that flatwide wrote, the validation metric if every run has one.
      pick: "last" or "best" for a table with one row per evaluation: the row at which a run is scored, the best by
        `choose_by` or else by the metric. None is for a table with one row per run.
      epoch: with `pick`, the column that orders the rows of a run; None guesses.
      axes: further columns that distinguish runs, such as the share of label noise.
      tune: columns in which base and SAM are tuned separately, such as a learning rate; they distinguish runs too.
      formats: of figures and tables in a folder beside the page: some of "svg", "pdf", "latex", "json".
      path: of the page; None is `<table>.report.html` beside the table.
      card_path, tell: as for `exports.export`.
    Returns: the path of the page.
    Raises: ValueError if a column is missing or unusable, or a file in the way is not flatwide's; FileNotFoundError.
    """
    table_path = Path(table_path)
    page_path = Path(path) if path else table_path.with_suffix(".report.html")
    if page_path.resolve() == table_path.resolve():
        raise ValueError(f"--output={page_path}: this is the table itself; choose another name.")
    output.check_page(page_path)
    table = read(table_path)
    folder = output.folder_beside(page_path)
    are_ours = set(table.columns) >= _OURS and not (width or rho or seed)
    if are_ours:
        if pick or epoch:
            raise ValueError(f"--pick={pick}: {table_path.name} is from flatwide, with one row per run; omit --pick.")
        runs, notes, metric = table, (), metric or "test_metric"
        _check_own(table, table_path.name, metric=metric, choose_by=choose_by, tune=tune)
    else:
        runs, notes = results_table(
            table,
            table_path.name,
            chosen={"width": width, "rho": rho, "seed": seed, "metric": metric},
            lower_is_better=lower_is_better,
            axes=axes,
            tune=tune,
            choose_by=choose_by,
            pick=pick,
            epoch=epoch,
        )
        tune = [_as_axis(column) for column in tune]
        metric = "test_metric"
        if choose_by is not None:
            choose_by = next(column for column in ("validation_metric", "validation_loss") if column in runs.columns)
    _check_tried(runs, table_path.name, tune)
    if formats:
        output.claim_folder(folder)
    return export(
        tables.split(runs, metric=metric, choose_by=choose_by, tune=tune),
        Source(name=table_path.name, notes=notes, is_table=True, has_states=_has_states(table), are_ours=are_ours),
        page_path=page_path,
        summary_path=folder / "summary.csv" if formats else None,
        folder=folder,
        formats=formats,
        card_path=card_path,
        tell=tell,
    )


def read(table_path: Path) -> Any:
    """Read a CSV file; the separator may be a comma, a semicolon or a tab.

    Raises: ValueError if it is empty or not a table; FileNotFoundError.
    """
    import pandas as pd

    if not table_path.is_file():
        raise FileNotFoundError(f"{table_path}: there is no such file; expected a CSV file with one row per run.")
    try:
        with open(table_path, encoding="utf-8-sig") as file:
            names = file.readline()
        separator = max(",;\t", key=names.count)
        table: Any = pd.read_csv(table_path, sep=separator, skipinitialspace=True, encoding="utf-8-sig")
        header: Any = pd.read_csv(
            table_path, sep=separator, skipinitialspace=True, encoding="utf-8-sig", header=None, nrows=1, dtype=str
        )
    except ValueError as error:  # pandas' own errors are ValueErrors, as is a wrong encoding
        raise ValueError(f"{table_path}: expected a CSV file with a header of column names ({error}).") from error
    if twice := registry.repeated(header.iloc[0].dropna()):
        raise ValueError(f"{table_path}: two columns are named {twice!r}; rename or remove one of them.")
    if not len(table):
        raise ValueError(f"{table_path}: the table has no rows; expected one row per run.")
    if not isinstance(table.index, pd.RangeIndex):  # pandas uses the first cells of such rows as the index
        raise ValueError(f"{table_path}: the rows have more cells than the header has names; expected as many.")
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    table = table.assign(**{name: table[name].map(csv_cells.decode, na_action="ignore") for name in texts})
    return table.rename(columns=csv_cells.decode)


def _check_own(table: Any, name: str, *, metric: str, choose_by: str | None, tune: Sequence[str]) -> None:
    """Raise ValueError for a column that a table of flatwide lacks, or cells that were edited into invalid values."""
    columns = {"width": "num_params", "rho": "rho", "seed": "seed", "metric": metric}
    if metric not in table.columns:
        raise ValueError(f"{name}: {registry.unknown('metric', metric, filter(is_metric, table.columns))}")
    cells.numbers(table[table["status"].isin(DONE)], name, columns)
    for column in table.columns:
        cells.check_own(table[column], name, is_fraction=table["metric_name"].isin(FRACTION_METRICS))
    if choose_by is not None and choose_by not in table.columns:
        raise ValueError(f"{name}: {registry.unknown('choose_by', choose_by, filter(is_metric, table.columns))}")
    settings = [column for column in table.columns if column in configs.SCHEMA and column not in ("rho", "seed")]
    if unknown_columns := [field for field in tune if field not in settings]:
        raise ValueError(f"{name}: {registry.unknown('tune', unknown_columns[0], settings)}")


def results_table(
    table: Any,
    name: str,
    *,
    chosen: Mapping[str, str | None],
    lower_is_better: bool | None,
    axes: Sequence[str],
    tune: Sequence[str] = (),
    choose_by: str | None = None,
    pick: str | None = None,
    epoch: str | None = None,
) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """Return the results table of a table from elsewhere, and notes on how its columns were read.

    Args:
      name: of its file, for messages.
      chosen: the columns of `write_table` by role; the others are as there.
    """
    table, notes = tracked.plain(table, name)
    columns = _columns(table, name, chosen)
    _check_axes(table, name, columns, axes=axes, tune=tune)
    metric, axes = columns["metric"], list(dict.fromkeys((*axes, *tune)))
    table = table.rename(columns={axis: _as_axis(axis) for axis in axes})
    axes = [_as_axis(axis) for axis in axes]
    lower = bool(_LOWER.search(metric)) if lower_is_better is None else lower_is_better
    _check_choice(table, name, columns, choose_by, lower=lower)
    read = columns if choose_by is None else columns | {"choose_by": choose_by}
    table = cells.numbers(table, name, read)
    notes = [
        f"Read from {name}: the size is the column {columns['width']!r} (called number of parameters below), rho is "
        f"{columns['rho']!r}, the seed is {columns['seed']!r}; the metric is {metric!r}, "
        f"{'lower' if lower else 'higher'} is better.",
        *notes,
    ]
    is_accuracy = not lower and "acc" in metric.lower()
    if is_accuracy:
        accuracies, was_percent = cells.fractions(table[metric], name)
        table = table.assign(**{metric: accuracies})
        notes += ["The accuracy exceeds 1, so it was read as percent."] * was_percent
        # The other accuracies are read alike: that of chance, and the column that rho is chosen by.
        also = [column for column in (choose_by or "", "test_chance_metric") if column in table.columns]
        also = [column for column in also if not _LOWER.search(column) and table[column].dtype.kind in "iuf"]
        table = table.assign(**{column: cells.fractions(table[column], name)[0] for column in also})
    if choose_by is not None:
        called = "validation loss" if choose_by.endswith("loss") else "validation metric"
        notes.append(f"The best rho is chosen by {choose_by!r} (called {called} below).")
    settings = [column for column in table.columns if column in configs.SCHEMA and column not in columns.values()]
    if pick is not None or epoch is not None:
        settings = [column for column in settings if column not in _LOGGED]
        score = choose_by or metric
        is_higher = not lower and not score.endswith("loss")
        table, note = epochs.pick(
            table,
            name,
            columns,
            by=pick,
            epoch=epoch,
            also=[*axes, *settings],
            score=score,
            higher_is_better=is_higher,
        )
        notes.append(note)
    runs: Any = convert.from_columns(
        _only_ours(table, used_columns=[*read.values(), *axes]),
        size=columns["width"],
        rho=columns["rho"],
        seed=columns["seed"],
        metric=metric,
        higher_is_better=not lower,
        choose_by=choose_by,
        metric_name="accuracy" if is_accuracy else metric.removeprefix("test_"),
    )
    distinct = [column for column in dict.fromkeys((*axes, *settings)) if column in runs.columns]
    if "model" in distinct and "model" not in axes and runs.groupby("model")["num_params"].nunique().max() <= 1:
        distinct.remove("model")  # it only names the sizes, such as resnet-32, and not families of several sizes
    _refuse_repeats(runs, name, columns, distinct)
    infinite = [name for name in distinct if math.inf in {abs(v) for v in runs[name].tolist() if isinstance(v, float)}]
    # Hidden from the analysis is what is no setting: a time, for example, would distinguish all runs.
    understood = {"num_params", "rho", "seed", "run", "problem", COLLAPSED, *RESULT_FIELDS, *distinct}
    others = [name for name in runs.columns if name not in understood and not name.startswith(f"{fields.ASIDE}.")]
    return runs.astype(dict.fromkeys(infinite, str)).rename(columns=_aside(others)), tuple(notes)


def _check_axes(table: Any, name: str, columns: dict[str, str], *, axes: Sequence[str], tune: Sequence[str]) -> None:
    """Raise ValueError for an axis or a tuned column that is missing, or a tuned column that has another role."""
    for flag, names in (("axes", axes), ("tune", tune)):
        if missing := [axis for axis in names if axis not in table.columns]:
            always = " (rho is always tuned for SAM)" if missing[0] == "rho" and flag == "tune" else ""
            raise ValueError(f"--{flag}={missing[0]}: {name} has no such column{always}; {cells.listed(table)}.")
    for axis in (*axes, *tune):
        if axis != _as_axis(axis) and _as_axis(axis) in table.columns:
            raise ValueError(
                f"{name}: {axis!r} is read as {_as_axis(axis)!r}, which is a column too; rename one of them."
            )
    if taken := [(role, column) for role, column in columns.items() if column in tune]:
        role, column = taken[0]
        hint = "; rho is always tuned for SAM" if role == "rho" else ""
        raise ValueError(f"--tune={column}: this column is already the {role}{hint}. Name a setting of both arms.")


def _check_tried(runs: Any, name: str, tune: Sequence[str]) -> None:
    """Raise ValueError for a tuned column without a value in a run, or with a single value in an arm."""
    for column in tune:
        empty = runs[column].isna().to_numpy().nonzero()[0]
        if len(empty):
            raise ValueError(
                f"{cells.where(runs[column], empty[0], name)} is empty; every run needs a value of a tuned column. "
                "Fill it in, or remove the row."
            )
        for arm, is_sam in (("base", False), ("SAM", True)):
            values = list(dict.fromkeys(runs.loc[(runs["rho"] > 0) == is_sam, column]))
            if len(values) == 1:
                raise ValueError(
                    f"--tune={column}: every {arm} run has {column}={values[0]}; expected at least two values in each "
                    "arm. Omit --tune, or add the other runs."
                )


def _as_axis(column: str) -> str:
    """Return the name of a column as an axis: with a dot it would be a version or a measurement of a results table."""
    return column.replace(".", "_")


def _check_choice(table: Any, name: str, columns: dict[str, str], choose_by: str | None, *, lower: bool) -> None:
    """Raise ValueError for a column to choose by that is missing, has another role, or has the other direction."""
    if choose_by is None:
        return
    if choose_by not in table.columns:
        raise ValueError(f"--choose_by={choose_by}: {name} has no such column; {cells.listed(table)}.")
    if taken := [role for role, column in columns.items() if column == choose_by]:
        hint = ", which is the default to choose by" if taken == ["metric"] else ""
        raise ValueError(f"--choose_by={choose_by}: this column is already the {taken[0]}{hint}. Name another column.")
    if lower != bool(_LOWER.search(choose_by)) and not choose_by.endswith("loss"):
        their_direction, metric_direction = ("higher", "lower") if lower else ("lower", "higher")
        raise ValueError(
            f"--choose_by={choose_by}: its name suggests that {their_direction} is better, but for the metric "
            f"{columns['metric']!r} {metric_direction} is better. Expected a column with the same direction, or a loss."
        )


def _refuse_repeats(runs: Any, name: str, columns: dict[str, str], axis_columns: Sequence[str]) -> None:
    """Raise ValueError for rows that no column distinguishes."""
    twice: Any = runs[runs.duplicated(["num_params", "rho", "seed", *axis_columns], keep=False)]
    if not len(twice):
        return
    row = twice.iloc[0]
    expected_to_differ = {"num_params", "rho", "seed", "test_metric", *axis_columns}
    differ = [
        str(column) for column in twice.columns if twice[column].nunique() > 1 and column not in expected_to_differ
    ]
    logged = [column for column in differ if column.lower() in epochs.NAMES]
    each = f" If {logged[0]!r} numbers the evaluations of a run, add --pick=last or --pick=best." if logged else ""
    raise ValueError(
        f"{name}: several rows have {columns['width']}={row['num_params']}, {columns['rho']}={row['rho']:g} and "
        f"{columns['seed']}={row['seed']}. If another column distinguishes them, name it with --axes=, or with "
        f"--tune= if each arm is to choose it; columns that differ: {', '.join(differ) or 'none'}.{each}"
    )


def _columns(table: Any, name: str, chosen: Mapping[str, str | None]) -> dict[str, str]:
    """Return the names of the four columns by role.

    Raises: ValueError that lists every column not found.
    """
    plain = {re.sub(r"[^a-z0-9]", "", str(column).lower()): str(column) for column in table.columns}
    columns, faults = {}, []
    for role, asked in chosen.items():
        guesses = (plain.get(guess.replace("_", "")) for guess in _NAMES[role])
        column = next(filter(None, guesses), None) if asked is None else asked
        if column is None:
            faults.append(f"{name}: which column is the {role}? Name it with --{role}=; {cells.listed(table)}.")
            continue
        columns[role] = column
        if column not in table.columns:
            faults.append(f"--{role}={column}: {name} has no such column; {cells.listed(table)}.")
    named = {column: role for role, column in reversed(columns.items())}
    for role, column in columns.items():
        if named[column] != role:
            first = named[column]
            faults.append(
                f"{name}: the column {column!r} would be both the {first} and the {role}; name another with "
                f"--{first}= or --{role}=; {cells.listed(table)}."
            )
    if faults:
        raise ValueError("\n".join(faults))
    return columns


def _has_states(table: Any) -> bool:
    return "status" in table.columns and set(table["status"]) <= _STATES


def _only_ours(table: Any, *, used_columns: Sequence[str]) -> "pd.DataFrame":
    """Set columns aside that have the name of ours and another content: an optimizer called Mine, a loss as text."""

    def is_ours(name: str) -> bool:
        column = table[name]
        if name == "status":
            return _has_states(table)
        if name == "optimizer":
            return "sam" in set(column)  # otherwise every row would be a base run, whatever its rho
        return name not in RESULT_FIELDS or name in _TEXTS or column.dtype.kind in "iuf"

    others = [name for name in table.columns if name not in used_columns and not is_ours(name)]
    return table.rename(columns=_aside(others))


def _aside(names: Iterable[str]) -> dict[str, str]:
    return {name: f"{fields.ASIDE}.{name}" for name in names}
