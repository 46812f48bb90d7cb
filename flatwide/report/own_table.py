"""The report of a table of runs that were trained elsewhere."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide import config as configs
from flatwide import csv_cells
from flatwide.analysis import fields
from flatwide.analysis import table as tables
from flatwide.columns import COLLAPSED, DONE, RESULT_FIELDS
from flatwide.report import cells, epochs, output
from flatwide.report.content import Source
from flatwide.report.exports import export

if TYPE_CHECKING:
    import pandas as pd

# What people call these columns, the likeliest first; compared without case, spaces and signs.
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
_LOGGED = ("learning_rate",)  # a setting that differs from row to row of one run
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
    formats: Sequence[str] = (),
    path: Path | str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write the report of a CSV file with one row a run.

    Args:
      width, rho, seed, metric: names of its columns; None is guessed. rho is 0 for the base optimizer; a run without a
        metric has diverged.
      lower_is_better: the direction of the metric; None is guessed from its name.
      choose_by: the column that the best rho is chosen by, such as a validation accuracy; None is the metric, or in a
        table of flatwide's own the validation metric where every run has one.
      pick: "last" or "best" for a table with a row for each evaluation: the row that a run is scored at, the best by
        `choose_by` or else by the metric. None is for a table with one row a run.
      epoch: with `pick`, the column that orders the rows of a run; None is guessed.
      axes: further columns that tell runs apart, such as the share of label noise.
      formats: of figures and tables in a folder beside the page: some of "svg", "pdf", "latex".
      path: of the page; None is `<table>.report.html` beside the table.
      tell: called with the headlines and their table, as text for a terminal.
    Returns: the path of the page.
    Raises: ValueError if a column cannot be found or used, or another's file is in the way; FileNotFoundError.
    """
    table_path = Path(table_path)
    page_path = Path(path) if path else table_path.with_suffix(".report.html")
    if page_path.resolve() == table_path.resolve():
        raise ValueError(f"--output={page_path}: it is the table itself; choose another name.")
    found = read(table_path)
    folder = output.folder_beside(page_path)
    are_ours = set(found.columns) >= _OURS and not (width or rho or seed)
    if are_ours:
        if pick or epoch:
            raise ValueError(f"--pick={pick}: {table_path.name} is flatwide's own, with one row a run; leave it out.")
        runs, notes, metric = found, (), metric or "test_metric"
        _check_own(found, table_path.name, metric)
        if choose_by is not None and choose_by not in found.columns:
            raise ValueError(f"--choose_by={choose_by}: {table_path.name} has no such column; {_listed(found)}.")
    else:
        runs, notes = _mapped(
            found,
            table_path.name,
            chosen={"width": width, "rho": rho, "seed": seed, "metric": metric},
            lower_is_better=lower_is_better,
            axes=axes,
            choose_by=choose_by,
            pick=pick,
            epoch=epoch,
        )
        metric = "test_metric"
        if choose_by is not None:
            choose_by = next(column for column in ("validation_metric", "validation_loss") if column in runs.columns)
    if formats:
        output.claim_folder(folder)
    return export(
        runs,
        Source(name=table_path.name, notes=notes, is_table=True, has_states=_has_states(found), are_ours=are_ours),
        page_path=page_path,
        summary_path=folder / "summary.csv" if formats else None,
        folder=folder,
        metric=metric,
        choose_by=choose_by,
        curves=None,
        formats=formats,
        tell=tell,
    )


def read(table_path: Path) -> Any:
    """Read a CSV file; the separator may be a comma, a semicolon or a tab.

    Raises: ValueError if it is empty or no table; FileNotFoundError.
    """
    import pandas as pd

    if not table_path.is_file():
        raise FileNotFoundError(f"{table_path}: there is no such file; give a CSV file with one row a run.")
    try:
        with open(table_path, encoding="utf-8-sig") as file:
            names = file.readline()
        separator = max(",;\t", key=names.count)
        found: Any = pd.read_csv(table_path, sep=separator, skipinitialspace=True, encoding="utf-8-sig")
    except ValueError as error:  # pandas' own errors are ValueErrors, as is a wrong encoding
        raise ValueError(f"{table_path}: expected a CSV file with a line of column names ({error}).") from error
    if not len(found):
        raise ValueError(f"{table_path}: it has no rows; expected one a run.")
    if not isinstance(found.index, pd.RangeIndex):  # pandas takes the first cells of such rows for their names
        raise ValueError(f"{table_path}: its rows have more cells than there are names; expected as many.")
    texts = [name for name in found.columns if not pd.api.types.is_numeric_dtype(found[name])]
    found = found.assign(**{name: found[name].map(csv_cells.decode, na_action="ignore") for name in texts})
    return found.rename(columns=csv_cells.decode)


def _check_own(found: Any, name: str, metric: str) -> None:
    """Refuse a table of flatwide's whose cells were edited into something else."""
    columns = {"width": "num_params", "rho": "rho", "seed": "seed", "metric": metric}
    if metric not in found.columns:
        raise ValueError(f"--metric={metric}: {name} has no such column; {_listed(found)}.")
    cells.numbers(found[found["status"].isin(DONE)], name, columns)


def _mapped(
    found: Any,
    name: str,
    *,
    chosen: dict[str, str | None],
    lower_is_better: bool | None,
    axes: Sequence[str],
    choose_by: str | None = None,
    pick: str | None = None,
    epoch: str | None = None,
) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """Make a results table, and say how the columns were read."""
    columns = _columns(found, name, chosen)
    for axis in axes:
        if axis not in found.columns:
            raise ValueError(f"--axes={axis}: {name} has no such column; {_listed(found)}.")
    # In a results table a name with a dot is a version or a measurement, and tells no runs apart.
    found = found.rename(columns={axis: axis.replace(".", "_") for axis in axes})
    axes = [axis.replace(".", "_") for axis in axes]
    lower = bool(_LOWER.search(columns["metric"])) if lower_is_better is None else lower_is_better
    direction = "lower" if lower else "higher"
    _check_choice(found, name, columns, choose_by, lower=lower)
    chosen_column = {} if choose_by is None else {"choose_by": choose_by}
    found = cells.numbers(found, name, columns | chosen_column)
    notes = [
        f"Read from {name}: the size is the column {columns['width']!r} (called number of parameters below), rho is "
        f"{columns['rho']!r}, the seed is {columns['seed']!r}; the metric is {columns['metric']!r}, {direction} is "
        "better."
    ]
    is_accuracy = not lower and "acc" in columns["metric"].lower()
    if is_accuracy:
        accuracies, was_percent = cells.fractions(found[columns["metric"]], name)
        found = found.assign(**{columns["metric"]: accuracies})
        notes += ["The accuracy goes beyond 1, so it was read as percent."] * was_percent
        found = _as_fractions(found, name, choose_by)
    if choose_by is not None:
        called = "validation loss" if choose_by.endswith("loss") else "validation metric"
        notes.append(f"The best rho is chosen by {choose_by!r} (called {called} below).")
    settings = [column for column in found.columns if column in configs.SCHEMA and column not in columns.values()]
    if pick is not None or epoch is not None:
        settings = [column for column in settings if column not in _LOGGED]
        found, note = _picked(
            found, name, columns, by=pick, epoch=epoch, choose_by=choose_by, also=[*axes, *settings], lower=lower
        )
        notes.append(note)
    runs = tables.from_columns(
        _without_namesakes(found, kept=[*columns.values(), *chosen_column.values(), *axes]),
        size=columns["width"],
        rho=columns["rho"],
        seed=columns["seed"],
        metric=columns["metric"],
        higher_is_better=not lower,
        choose_by=choose_by,
        metric_name="accuracy" if is_accuracy else columns["metric"].removeprefix("test_"),
    )
    kept = [axis for axis in axes if axis in runs.columns]
    kept += [column for column in settings if column in runs.columns and column not in kept]
    if "model" in kept and "model" not in axes and _names_sizes(runs):
        kept.remove("model")
    _refuse_repeats(runs, name, columns, kept)
    infinite = [axis for axis in kept if math.inf in {abs(v) for v in runs[axis].tolist() if isinstance(v, float)}]
    return _set_aside(runs.astype(dict.fromkeys(infinite, str)), kept), tuple(notes)


def _check_choice(found: Any, name: str, columns: dict[str, str], choose_by: str | None, *, lower: bool) -> None:
    """Refuse a column to choose by that is not there, is something else already, or has the other direction."""
    if choose_by is None:
        return
    if choose_by not in found.columns:
        raise ValueError(f"--choose_by={choose_by}: {name} has no such column; {_listed(found)}.")
    if taken := [what for what, column in columns.items() if column == choose_by]:
        hint = "; without --choose_by= it is chosen by that" if taken == ["metric"] else ""
        raise ValueError(f"--choose_by={choose_by}: this column is the {taken[0]} already{hint}. Name another column.")
    if lower != bool(_LOWER.search(choose_by)) and not choose_by.endswith("loss"):
        theirs, ours = ("higher", "lower") if lower else ("lower", "higher")
        raise ValueError(
            f"--choose_by={choose_by}: by its name {theirs} is better there, and for the metric {columns['metric']!r} "
            f"{ours} is. Expected a column of the same direction, or one that is named a loss."
        )


def _picked(
    found: Any,
    name: str,
    columns: dict[str, str],
    *,
    by: str | None,
    epoch: str | None,
    choose_by: str | None,
    also: Sequence[str],
    lower: bool,
) -> tuple["pd.DataFrame", str]:
    """Keep the row that each run is scored at, and say which.

    Args:
      also: columns besides size, rho and seed that tell runs apart. lower: whether a lower metric is better.
    """
    epoch = _epoch_column(found, name, epoch)
    score = choose_by or columns["metric"]
    kept = epochs.pick(
        found,
        name,
        by=by or "",
        epoch=epoch,
        runs=list(dict.fromkeys([columns["width"], columns["rho"], columns["seed"], *also])),
        metric=columns["metric"],
        score=score,
        higher_is_better=not lower and not score.endswith("loss"),
    )
    where = "its last row" if by == epochs.LAST else f"the row where its {score!r} is best"
    order = f"Of the rows of each run, in the order of {epoch!r}"
    return kept, f"{order}, {where} counts; one without a metric in its last row has diverged."


def _refuse_repeats(runs: Any, name: str, columns: dict[str, str], kept: Sequence[str]) -> None:
    """Refuse rows that nothing tells apart."""
    twice: Any = runs[runs.duplicated(["num_params", "rho", "seed", *kept], keep=False)]
    if not len(twice):
        return
    row = twice.iloc[0]
    known = {"num_params", "rho", "seed", "test_metric", *kept}
    differ = [str(column) for column in twice.columns if twice[column].nunique() > 1 and column not in known]
    logged = [column for column in differ if column.lower() in epochs.NAMES]
    each = f" If {logged[0]!r} numbers the evaluations of a run, say --pick=last or --pick=best." if logged else ""
    raise ValueError(
        f"{name}: several rows have {columns['width']}={row['num_params']}, {columns['rho']}={row['rho']:g} and "
        f"{columns['seed']}={row['seed']}. If another column tells them apart, name it with --axes=; those that "
        f"differ: {', '.join(differ) or 'none'}.{each}"
    )


def _as_fractions(found: Any, name: str, choose_by: str | None) -> "pd.DataFrame":
    """Read the other columns of accuracies as the metric is read: what chance gives, and what rho is chosen by."""
    named = ["test_chance_metric"] if choose_by is None else [choose_by, "test_chance_metric"]
    also = [column for column in named if column in found.columns]
    also = [column for column in also if not _LOWER.search(column) and found[column].dtype.kind in "iuf"]
    return found.assign(**{column: cells.fractions(found[column], name)[0] for column in also})


def _epoch_column(found: Any, name: str, epoch: str | None) -> str:
    """Find the column that orders the rows of a run."""
    if epoch is None:
        plain = {str(column).lower(): str(column) for column in found.columns}
        epoch = next((plain[guess] for guess in epochs.NAMES if guess in plain), None)
        if epoch is None:
            raise ValueError(f"{name}: which column numbers the evaluations? Name it with --epoch=; {_listed(found)}.")
    if epoch not in found.columns:
        raise ValueError(f"--epoch={epoch}: {name} has no such column; {_listed(found)}.")
    return epoch


def _names_sizes(runs: Any) -> bool:
    """Tell whether the column `model` only names the sizes, such as resnet-32, and not families of several sizes."""
    return bool((runs.groupby("model")["num_params"].nunique() <= 1).all())


def _columns(found: Any, name: str, chosen: dict[str, str | None]) -> dict[str, str]:
    """Find the four columns.

    Raises: ValueError with everything that cannot be found.
    """
    plain = {re.sub(r"[^a-z0-9]", "", str(column).lower()): str(column) for column in found.columns}
    columns, faults = {}, []
    for what, column in chosen.items():
        if column is not None:
            if column not in found.columns:
                faults.append(f"--{what}={column}: {name} has no such column; {_listed(found)}.")
            columns[what] = column
            continue
        guess = next((plain[key] for key in (n.replace("_", "") for n in _NAMES[what]) if key in plain), None)
        if guess is None:
            faults.append(f"{name}: which column is the {what}? Name it with --{what}=; {_listed(found)}.")
        else:
            columns[what] = guess
    named = {column: what for what, column in reversed(columns.items())}
    for what, column in columns.items():
        if named[column] != what:
            first = named[column]
            faults.append(
                f"{name}: the column {column!r} would be both the {first} and the {what}; name another with "
                f"--{first}= or --{what}=; {_listed(found)}."
            )
    if faults:
        raise ValueError("\n".join(faults))
    return columns


def _has_states(found: Any) -> bool:
    return "status" in found.columns and set(found["status"]) <= _STATES


def _without_namesakes(found: Any, *, kept: Sequence[str]) -> "pd.DataFrame":
    """Set columns aside that only share a name with ours: an optimizer called Mine, a training loss in words."""

    def is_ours(name: str) -> bool:
        column = found[name]
        if name == "status":
            return _has_states(found)
        if name == "optimizer":
            return "sam" in set(column)  # otherwise it would make a base run of every row, whatever its rho
        return name not in RESULT_FIELDS or name in _TEXTS or column.dtype.kind in "iuf"

    strangers = [name for name in found.columns if name not in kept and not is_ours(name)]
    return found.rename(columns={name: f"{fields.ASIDE}.{name}" for name in strangers})


def _set_aside(runs: "pd.DataFrame", kept: Sequence[str]) -> "pd.DataFrame":
    """Hide the columns from the analysis that are no setting: a time, say, would tell every two runs apart."""
    known = {"num_params", "rho", "seed", "run", "problem", COLLAPSED, *RESULT_FIELDS, *kept}
    strangers = [name for name in runs.columns if name not in known and not name.startswith(f"{fields.ASIDE}.")]
    return runs.rename(columns={name: f"{fields.ASIDE}.{name}" for name in strangers})


def _listed(found: "pd.DataFrame") -> str:
    return f"its columns are {', '.join(map(str, found.columns))}"
