"""Tables from elsewhere: rho chosen on validation, the row that counts, and no claims beyond the table."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from flatwide import load, report
from flatwide.analysis.convert import from_columns
from flatwide.answers import answer, cautions
from flatwide.report import csv_table, epochs

RHOS = (0.0, 0.1, 0.2)
# By the test 0.1 is best, on validation 0.2.
TEST, VALIDATION = dict(zip(RHOS, (0.80, 0.90, 0.85), strict=True)), dict(zip(RHOS, (0.7, 0.75, 0.78), strict=True))


def runs():
    return pd.DataFrame(
        [
            {"params": size, "rho": rho, "seed": seed, "test_acc": TEST[rho] + 0.001 * seed}
            | {"val_acc": VALIDATION[rho] + 0.001 * seed, "val_loss": 1 - VALIDATION[rho]}
            for size, rho, seed in itertools.product((100, 1000), RHOS, range(3))
        ]
    )


def evaluations():
    """Return three rows per run: the test is best at epoch 1, validation at 2, and both are worse at 3."""
    return pd.DataFrame(
        [
            row
            | {"epoch": epoch, "learning_rate": 0.1 / epoch}
            | {"test_acc": row["test_acc"] - test, "val_acc": row["val_acc"] - validation}
            for row in runs().to_dict("records")
            for epoch, test, validation in ((3, 0.3, 0.3), (1, 0.0, 0.1), (2, 0.1, 0.0))
        ]
    )


def read(table, **options):
    given = {"chosen": dict.fromkeys(("width", "rho", "seed", "metric")), "lower_is_better": None, "axes": ()} | options
    return csv_table.results_table(table, "mine.csv", **given)[0]


@pytest.mark.parametrize(
    ("choose_by", "rho", "called"),
    [
        (None, "0.1", "test metric"),
        ("val_acc", "0.2", "validation metric"),
        ("val_loss", "0.2", "validation loss"),
    ],
)
def test_rho_is_chosen_on_the_column_that_is_named(content_of_table, choose_by, rho, called):
    content = content_of_table(runs(), choose_by=choose_by)
    (best,) = (each for each in content.tables if each.name == "best_rho_table")
    assert [row[best.columns.index("best rho")] for row in best.rows] == [rho, rho]
    assert f"by the {called}, and" in best.note
    same = "The best rho was chosen by the same metric that is compared"
    assert any(same in caution for caution in content.cautions) == (choose_by is None)


def test_percent_of_both_columns_are_read_alike(tmp_path):
    table = runs().assign(test_acc=lambda t: 100 * t["test_acc"], val_acc=lambda t: 100 * t["val_acc"])
    assert read(table, choose_by="val_acc")["validation_metric"].max() == pytest.approx(0.782)


@pytest.mark.parametrize(
    ("choose_by", "message"),
    [
        ("vall", r"--choose_by=vall: mine\.csv has no such column; its columns are params,"),
        ("test_acc", r"--choose_by=test_acc: this column is already the metric, which is the default"),
        ("val_error", r"its name suggests that lower is better, but for the metric 'test_acc' higher is better"),
    ],
)
def test_a_column_that_cannot_be_chosen_by_is_refused(choose_by, message):
    with pytest.raises(ValueError, match=message):
        read(runs().assign(val_error=0.1), choose_by=choose_by)


def test_a_run_without_a_value_to_choose_by_is_refused():
    table = runs()
    table.loc[0, "val_acc"] = np.nan
    with pytest.raises(ValueError, match="column 'val_acc' is empty in a row that has 'test_acc'"):
        read(table, choose_by="val_acc")


@pytest.mark.parametrize(
    ("options", "less"),
    [({"pick": "last"}, 0.3), ({"pick": "best"}, 0.0), ({"pick": "best", "choose_by": "val_acc"}, 0.1)],
)
def test_the_last_or_best_row_of_a_run_counts(options, less):
    scored = read(evaluations(), **options)
    assert len(scored) == len(runs())
    expected = sorted(runs()["test_acc"] - less)
    assert sorted(scored["test_metric"]) == pytest.approx(expected)


def test_the_best_row_of_an_error_is_its_lowest():
    table = evaluations().assign(test_error=lambda t: 1 - t["test_acc"]).drop(columns=["test_acc", "val_acc"])
    assert sorted(read(table, pick="best")["test_metric"]) == pytest.approx(sorted(1 - runs()["test_acc"]))


def test_a_run_whose_last_row_has_no_metric_has_diverged():
    table = evaluations()
    gone = (table["rho"] == 0.2) & (table["seed"] == 1) & (table["epoch"] == 3)
    table.loc[gone, "test_acc"] = np.nan
    for way in epochs.PICKS:
        scored = read(table, pick=way)
        assert list(scored.loc[scored["status"] == "diverged", "rho"]) == [0.2, 0.2]


def test_rows_of_epochs_are_a_fault_that_names_the_flag():
    with pytest.raises(
        ValueError, match=r"If 'epoch' numbers the evaluations of a run, add --pick=last or --pick=best"
    ):
        read(evaluations().drop(columns="learning_rate"))
    with pytest.raises(ValueError, match=r"mine\.csv: which column numbers the evaluations"):
        read(runs(), pick="last")
    with pytest.raises(ValueError, match=r"--pick.*first.*last"):
        read(evaluations(), pick="first")
    with pytest.raises(ValueError, match="and the same epoch"):
        read(pd.concat([evaluations()] * 2, ignore_index=True), pick="last")


def test_a_note_says_which_row_counts_and_what_was_logged_is_no_axis(content_of_table):
    content = content_of_table(evaluations(), pick="best", choose_by="val_acc")
    assert "a run is scored at the row where its 'val_acc' is best" in content.notes[-1]
    assert {part for part, _ in content.answers} == {""}


OURS = re.compile(r"start from the same weights|[Rr]un the command|the same command|share all of it|config\.|main\.py")


def test_nothing_is_said_of_runs_that_only_ours_have(tmp_path, page):
    table = runs().drop(index=4)  # a seed is missing
    table.assign(status="finished").to_csv(tmp_path / "mine.csv", index=False)
    text = report.write_table(tmp_path / "mine.csv").read_text()
    text = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)
    assert OURS.findall(text) == []
    assert "start from the same weights" in page.read_text()
    assert "its SAM run against its base run" in text
    assert "some values of rho have fewer seeds than others" in text


def four_columns(metric):
    return runs()[["params", "rho", "seed", "test_acc"]].rename(columns={"params": "num_params", "test_acc": metric})


def test_a_metric_without_a_name_has_no_unit():
    higher = answer.answer(from_columns(four_columns("metric"), metric="metric"))
    lower = answer.answer(from_columns(four_columns("metric"), metric="metric", higher_is_better=False))
    assert "+0.1000 (joint 95 % interval" in higher
    assert re.search(r"0\.\d{4} (lower|higher) \(joint 95 % interval", lower)
    for text in (higher, lower):
        assert "metric" not in text.replace("test metric", "")


def test_cautions_of_others_name_no_field_of_ours():
    table = from_columns(four_columns("test_acc").drop(index=4), metric="test_acc")
    text = " ".join(caution.text for caution in cautions.cautions(table, are_ours=False))
    assert "--choose_by=" in text
    assert not OURS.search(text)


def test_our_own_table_has_one_row_a_run(workdir, content_of_table):
    table = load(workdir)
    with pytest.raises(ValueError, match="is from flatwide, with one row per run"):
        content_of_table(table, pick="last")
    with pytest.raises(ValueError, match=r"mine\.csv: choose_by='vall' is not known.*test_metric"):
        content_of_table(table, choose_by="vall")
