"""The command that copies a study's tables into the docs."""

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def study_tables(load_script):
    """Import the command's file."""
    return load_script("docs/build/study_tables.py")


@pytest.fixture
def workdir(tmp_path):
    """Make a work directory of four runs, two of them with wrong labels."""
    folder = tmp_path / "runs"
    (folder / "figures").mkdir(parents=True)
    rows = [
        {"label_noise": noise, "num_neurons": "(8,)", "num_params": 610, "rho": rho, "seed": 0, "dataset": "digits"}
        | {"status": "finished", "train_loss": 0.123456789, "test_metric": 1 / 3, "run": f"run-{noise}-{rho}"}
        | {"rho_schedule": "constant" if rho else None}
        | {"versions.jax": "0.10", "curvature.trace": 1.0 if rho else float("nan")}
        for noise in (0.5, 0.0)
        for rho in (0.1, 0.0)
    ]
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    (folder / "summary.csv").write_text("row\nwidth\n")
    for kind in ("csv", "svg"):
        (folder / "figures" / f"gain_by_width.{kind}").write_text(kind)
    return folder


def test_runs_are_told_apart_and_sorted(study_tables, workdir, tmp_path):
    options = {"where": "", "figures": ["gain_by_width"], "with_measurements": True}
    written = study_tables.copy(workdir, tmp_path / "page", **options)
    names = ["runs.csv", "summary.csv", "gain_by_width.csv", "gain_by_width.svg"]
    assert [path.name for path in written] == names
    table = pd.read_csv(written[0])
    columns = ["label_noise", "num_params", "rho", "seed", "status", "train_loss", "test_metric", "curvature.trace"]
    assert list(table) == columns
    assert table[["label_noise", "rho"]].to_numpy().tolist() == [[0, 0], [0, 0.1], [0.5, 0], [0.5, 0.1]]
    assert set(table["train_loss"]) == {0.12346}
    assert set(table["test_metric"]) == {1 / 3}  # a rounded metric would break ties between radii


def test_a_condition_leaves_out_tables_of_other_runs(study_tables, workdir, tmp_path):
    options = {"where": "label_noise == 0.5", "figures": [], "with_measurements": False}
    (written,) = study_tables.copy(workdir, tmp_path / "page", **options)
    table = pd.read_csv(written)
    assert len(table) == 2
    assert list(table) == ["num_params", "rho", "seed", "status", "train_loss", "test_metric"]


def test_a_figure_that_is_not_there_is_named(study_tables, workdir, tmp_path):
    with pytest.raises(FileNotFoundError, match="rho_by_width"):
        study_tables.copy(workdir, tmp_path / "page", where="", figures=["rho_by_width"], with_measurements=True)
