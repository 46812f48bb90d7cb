"""Copy the tables and figures of a study into docs/studies, for a page and the pages of results and claims.

    python docs/build/study_tables.py runs/cifar10_width cifar10_width --figures=gain_by_width,metric_by_width
    python docs/build/study_tables.py runs/noise cifar10_label_noise --where="label_noise == 0.5"

`runs.csv` has a row for each run: what varies; its metrics with all digits, so that ties between radii stay ties and a
report of the table makes the same choices; losses and measurements with five digits. Paths and settings that all runs
share are left out. Without `--where`, `summary.csv` and the figures are those of the study's last report; with it they
would cover other runs too, so only the runs are written: `python main.py report runs.csv` makes theirs.
"""

import shutil
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from studies import FOLDER

# Columns of results.csv, in the order of runs.csv; those before num_params only where runs differ in them.
SETTINGS = (
    "label_noise",
    "train_examples",
    "output_scale",
    "pruner",
    "pretraining_rho",
    "learning_rate",
    "weight_decay",
)
SCHEDULE = ("num_epochs", "num_train_steps", "decay_fraction", "rho_schedule", "rho_switch", "rho_every")
SIZES = ("num_neurons", "num_filters", "hidden_size", "num_nonzero_params", "num_blocks", "sparsity")
RESULTS = (
    "status",
    "train_loss",
    "train_metric",
    "test_loss",
    "test_metric",
    "test_metric_best",
    "test_metric_average",
    "diverged_at_step",
)


def runs_table(results: pd.DataFrame, *, with_measurements: bool = True) -> pd.DataFrame:
    """Select the columns of a table of runs that tell its runs apart, and their results."""
    # Base runs do not read the schedule of rho, so its empty cells are not a value of their own.
    known = [name for name in (*SETTINGS, *SCHEDULE, *SIZES) if name in results]
    varied = [name for name in known if results[name].nunique(dropna=name in SCHEDULE) > 1]
    if "num_nonzero_params" in varied and results["num_nonzero_params"].equals(results["num_params"]):
        varied.remove("num_nonzero_params")
    measured = [name for name in results if "." in name and not name.startswith("versions.")]
    names = [*varied, "num_params", "rho", "seed", *RESULTS, *(measured if with_measurements else ())]
    table = results[[name for name in names if name in results and results[name].notna().any()]]
    order = [name for name in (*SETTINGS, *SCHEDULE, "num_params", "rho", "seed") if name in table]
    table = table.sort_values(order, ignore_index=True)
    rounded = [name for name in (*measured, "train_loss", "test_loss") if name in table]
    numbers = table[rounded].map(lambda value: float(f"{value:.5g}") if isinstance(value, float) else value)
    return table.assign(**numbers)


def copy(workdir: Path, folder: Path, *, where: str, figures: Sequence[str], with_measurements: bool) -> list[Path]:
    """Write the tables of a work directory into a folder; return their paths.

    Raises: FileNotFoundError if the work directory lacks a table or a figure.
    """
    results = pd.read_csv(workdir / "results.csv")
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "runs.csv"]
    chosen = results.query(where) if where else results
    runs_table(chosen, with_measurements=with_measurements).to_csv(written[0], index=False)
    sources = [workdir / "summary.csv"] if not where else []
    sources += [workdir / "figures" / f"{name}.{kind}" for name in figures for kind in ("csv", "svg")]
    for source in sources:
        written.append(Path(shutil.copy(source, folder)))
    return written


def main() -> None:
    parser = ArgumentParser(description="Copy the tables and figures of a study into docs/studies.")
    parser.add_argument("workdir", type=Path)
    parser.add_argument("folder", help="in docs/studies, such as mnist_label_noise/tuned")
    parser.add_argument("--where", default="", help="condition on columns of results.csv")
    parser.add_argument("--figures", default="", help="names of figures, separated by commas")
    parser.add_argument("--without_measurements", action="store_true")
    flags = parser.parse_args()
    written = copy(
        flags.workdir,
        FOLDER / flags.folder,
        where=flags.where,
        figures=[name for name in flags.figures.split(",") if name],
        with_measurements=not flags.without_measurements,
    )
    for path in written:
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
