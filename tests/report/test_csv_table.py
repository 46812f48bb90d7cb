"""Tables from elsewhere: columns are recognized, errors are reported, and no foreign file is overwritten."""

import itertools

import pandas as pd
import pytest

from flatwide import load, report
from flatwide.analysis.convert import from_columns
from flatwide.analysis.gain import gain_by_width
from flatwide.report import command, csv_table, output, tracked


def rows(scale=1.0, **names):
    records = [
        {"params": size, "rho": rho, "seed": seed, "test_acc": scale * (0.8 + rho * size / 4000 + 0.01 * seed)}
        | {"minutes": 1.5 + seed / 7 + rho}
        for size, rho, seed in itertools.product((100, 1000), (0.0, 0.1, 0.2), range(4))
    ]
    return pd.DataFrame(records).rename(columns=names)


def column_of(content, name, table="gain_by_width_table"):
    """Return the cells of a column of a table of the page."""
    (found,) = (each for each in content.tables if each.name == table)
    return [row[found.columns.index(name)] for row in found.rows]


def run_columns(content):
    return {column["name"] for column in content.runs["columns"]}


def expected_gains(table, **options):
    return [f"{100 * gain:+.2f}" for gain in gain_by_width(from_columns(table, **options))["gain"]]


def test_common_names_are_recognized_and_reported(tmp_path):
    rows().to_csv(tmp_path / "mine.csv", index=False)
    page = report.write_table(tmp_path / "mine.csv")
    assert page == tmp_path / "mine.report.html"
    assert "the size is the column &#39;params&#39;" in page.read_text()
    (gain,) = expected_gains(rows().drop(columns="minutes"), size="params", metric="test_acc")[-1:]
    assert f"<td>{gain}</td>" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv", "mine.report.html"]


@pytest.mark.parametrize(
    "names",
    [
        {"params": "Num Params", "rho": "SAM rho", "seed": "Trial", "test_acc": "Test Accuracy"},
        {"params": "size", "rho": "RADIUS", "seed": "random_seed", "test_acc": "val_acc"},
    ],
)
def test_names_are_compared_without_case_and_signs(names):
    expected = read(rows())["test_metric"]
    assert read(rows(**names))["test_metric"].tolist() == expected.tolist()


def read(table, *, lower_is_better=None, axes=(), **chosen):
    """Return the results table of a table from elsewhere."""
    roles = dict.fromkeys(("width", "rho", "seed", "metric")) | chosen
    return csv_table.results_table(table, "mine.csv", chosen=roles, lower_is_better=lower_is_better, axes=axes)[0]


def test_named_columns_win_over_guesses():
    table = rows().assign(mine=lambda t: t["test_acc"] / 2)
    runs = read(table, metric="mine", lower_is_better=True)
    assert runs["test_metric"].tolist() == table["mine"].tolist()
    assert not runs["higher_is_better"].any()


def test_all_missing_columns_are_listed_with_the_existing_ones():
    with pytest.raises(ValueError) as fault:
        read(rows(params="p", rho="r"))
    first, second = str(fault.value).splitlines()
    assert first == (
        "mine.csv: which column is the width? Name it with --width=; its columns are p, r, seed, test_acc, minutes."
    )
    assert "--rho=" in second
    with pytest.raises(ValueError, match=r"--seed=sede: mine\.csv has no such column; its columns are params,"):
        read(rows(), seed="sede")


def test_percent_is_recognized_and_a_loss_is_better_where_lower():
    assert read(rows(scale=100))["test_metric"].tolist() == pytest.approx(rows()["test_acc"].tolist())
    assert read(rows())["test_metric"].tolist() == rows()["test_acc"].tolist()
    losses = rows().assign(test_loss=lambda t: 1 - t["test_acc"]).drop(columns="test_acc")
    assert not read(losses)["higher_is_better"].any()


def test_other_columns_are_shown_and_do_not_cut_the_table(content_of_table):
    content = content_of_table(rows())
    assert "minutes" in run_columns(content)
    assert column_of(content, "parameters") == ["100", "1,000"]


def test_indistinguishable_rows_are_an_error_until_an_axis_is_named(content_of_table):
    twice = pd.concat([rows().assign(flips=p) for p in (0, 1)], ignore_index=True)
    with pytest.raises(ValueError, match=r"several rows have params=100, rho=0 and seed=0.*--axes=.*flips"):
        content_of_table(twice)
    assert column_of(content_of_table(twice, axes=("flips",)), "flips") == ["0", "0", "1", "1"]


@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [("data.noise", (0.0, 0.5), ("0.0", "0.5")), ("clip", (1.0, float("inf")), ("1.0", "inf"))],
)
def test_an_axis_may_have_a_dot_in_its_name_and_may_be_infinite(content_of_table, column, values, shown):
    both = pd.concat([rows().assign(**{column: value}) for value in values])
    cells = column_of(content_of_table(both, axes=(column,)), column.replace(".", "_"))
    assert cells == [shown[0]] * 2 + [shown[1]] * 2


def test_a_table_of_flatwide_is_read_as_it_is(workdir, content_of_table):
    content = content_of_table(load(workdir))
    assert content.notes == ()
    assert column_of(content, "gain (points)") == [f"{100 * g:+.2f}" for g in gain_by_width(load(workdir))["gain"]]


def test_a_separator_may_be_a_semicolon(tmp_path):
    rows().to_csv(tmp_path / "mine.csv", index=False, sep=";")
    assert csv_table.read(tmp_path / "mine.csv").equals(rows())


def test_files_of_others_are_kept(tmp_path, content_of_table):
    foreign_page, elsewhere = tmp_path / "mine.report.html", tmp_path / "other.html"
    foreign_page.write_text("<html>")
    with pytest.raises(ValueError, match=r"flatwide did not write this file.*--output="):
        content_of_table(rows())
    assert foreign_page.read_text() == "<html>"
    elsewhere.write_text(f'{output.MARKER} 1">')  # our own may be replaced
    assert content_of_table(rows(), path=elsewhere)
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="did not write it"):
        content_of_table(rows(), path=elsewhere, formats=("latex",))
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="the table itself"):
        content_of_table(rows(), path=tmp_path / "mine.csv")


def test_a_file_that_is_no_table_is_a_fault(tmp_path):
    (tmp_path / "mine.csv").write_text("")
    with pytest.raises(ValueError, match=r"mine\.csv"):
        csv_table.read(tmp_path / "mine.csv")
    with pytest.raises(FileNotFoundError, match=r"gone\.csv: there is no such file"):
        csv_table.read(tmp_path / "gone.csv")


def test_the_command_reads_the_same_flags_and_formats_go_beside_the_page(tmp_path):
    rows(params="p", test_acc="score").to_csv(tmp_path / "mine.csv", index=False)
    arguments = [f"{tmp_path}/mine.csv", "--width=p", f"--output={tmp_path}/out.html", "--formats=svg,latex"]
    for _ in range(2):  # what it wrote itself may be replaced
        printed = command.report(arguments)
    assert printed.endswith(f"\nreport: {tmp_path}/out.html")
    assert printed.startswith(("No gain from SAM is detected", "SAM "))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"gain_by_width.svg", "gain_by_width.csv", "gain_by_width_table.tex", "summary.csv"} <= names


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "Name a work directory or a CSV file"),
        (["x", "--pick=last"], "--pick applies to a table"),
        (["x", "--width=seed"], "--width applies to a table"),
        (["x.csv", "--colour=red"], "unrecognized arguments: --colour=red"),
        (["nowhere"], "nowhere: expected a work directory with runs, or a CSV file"),
    ],
)
def test_wrong_flags_are_reported_in_one_message(arguments, fault):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        command.report(arguments)
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("column", "cell", "fault"),
    [
        ("test_acc", "good", "'test_acc' holds 'good'; expected a number. Correct the cell, or empty it"),
        ("test_acc", "inf", "'test_acc' holds inf; expected a number."),
        (
            "test_acc",
            "71.18%",
            "'test_acc' holds '71.18%'; expected a number. Write 71.18, and remove the percent sign",
        ),
        ("test_acc", "0,7", "'test_acc' holds '0,7'; expected a number. Write decimals with a point"),
        ("test_acc", "-0.5", "'test_acc' holds -0.5; expected an accuracy"),
        ("test_acc", "81.5", "'test_acc' holds 0.8, and row 3 81.5; expected all fractions or all percent"),
        ("params", "0", "'params' holds 0; expected a whole number of at least 1"),
        (
            "params",
            "0.001",
            "'params' holds 0.001; expected a whole number of at least 1. Correct the cell; write sizes in",
        ),
        ("params", "1.5M", "'params' holds '1.5M'; expected a whole number of at least 1. Write it in full: 1500000."),
        ("params", "1e30", "'params' holds 1e+30; expected a whole number"),
        ("rho", "", "'rho' is empty; expected a number >= 0 (0 is the base). Fill it in, or remove the row; a base"),
        ("rho", "None", "'rho' is empty"),
        ("rho", "-0.1", "'rho' holds -0.1; expected a number >= 0"),
        ("rho", "inf", "'rho' holds inf"),
        ("seed", "s0", "'seed' holds 's0'; expected a whole number. Number the seeds 0, 1, 2"),
        ("seed", "0.5", "'seed' holds 0.5; expected a whole number"),
    ],
)
def test_an_unreadable_cell_is_reported_with_its_row_and_a_fix(tmp_path, column, cell, fault):
    table = rows().drop(columns="minutes").astype(object)
    table.loc[2, column] = cell
    table.to_csv(tmp_path / "mine.csv", index=False, sep=";")
    with pytest.raises(ValueError) as error:
        read(csv_table.read(tmp_path / "mine.csv"))
    row = 1 if "and row 3" in fault else 3
    assert str(error.value).startswith(f"mine.csv, row {row} below the header: the column {fault}")
    assert "\n" not in str(error.value)


def test_a_column_that_would_be_two_things_is_a_fault():
    with pytest.raises(ValueError, match=r"'params' would be both the width and the metric; name another with --width"):
        read(rows(), metric="params")


@pytest.mark.parametrize("column", ["label_noise", "weight_decay", "sparsity"])
def test_settings_may_be_words(content_of_table, column):
    twice = pd.concat([rows().assign(**{column: level}) for level in ("high", "low")], ignore_index=True)
    assert column_of(content_of_table(twice), column) == ["high", "high", "low", "low"]


@pytest.mark.parametrize("strange", [{"status": "ok"}, {"optimizer": "SAM"}, {"train_loss": "low"}])
def test_columns_that_only_share_a_name_with_ours_are_not_read_as_ours(strange):
    runs = read(rows().assign(**strange))
    assert gain_by_width(runs)["gain"].notna().all()
    assert f"aside.{next(iter(strange))}" in runs.columns


def test_a_table_of_flatwide_with_an_edited_cell_is_refused(workdir, content_of_table):
    for column, cell, fault in (
        ("test_metric", "good", r"holds 'good'"),
        ("test_metric", 5, r"holds 5\.0; expected a fraction in \[0, 1\]"),
        ("train_metric", 50.0, r"holds 50\.0; expected a fraction in \[0, 1\]"),
        ("seconds", "long", "holds 'long'; expected a number"),
        ("learning_rate", "high", "holds 'high'; expected a number"),
    ):
        table = load(workdir).astype(object)
        table.loc[1, column] = cell
        with pytest.raises(ValueError, match=f"row 2 below the header: the column '{column}' {fault}"):
            content_of_table(table)
    with pytest.raises(
        ValueError, match=r"mine\.csv: metric='test_metrics' is not known.*Known: test_.*, test_metric, "
    ):
        content_of_table(load(workdir), metric="test_metrics")


@pytest.mark.parametrize("more", [{}, {"status": "ok"}])
def test_a_run_without_a_metric_need_not_have_diverged(content_of_table, more):
    table = rows().assign(**more)
    table.loc[[0, 5], "test_acc"] = None
    content = content_of_table(table)
    assert dict(content.facts)["runs"] == "22 done, 2 without metric"
    assert column_of(content, "without metric") == ["2", "0"]
    said = " ".join([*content.cautions, content.short.sentence, *(text for _, text in content.answers)])
    assert "2 runs have no metric; a rho with a seed without one is never the best." in said
    assert "base runs have no metric or are missing" in said
    assert "diverged" not in said


def test_two_columns_of_one_name_are_a_fault(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("width,rho,seed,acc,acc\n1,0,0,0.5,0.1\n1,0.1,0,0.5,0.1\n")
    with pytest.raises(ValueError, match=r"table\.csv: two columns are named 'acc'; rename or remove one"):
        csv_table.read(table)


def test_rows_that_are_longer_than_the_names_are_a_fault(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("width,rho,seed,acc\n1,0,0,0.5,0.1\n1,0.1,0,0.5,0.1\n")
    with pytest.raises(ValueError, match="the rows have more cells than the header has names"):
        csv_table.read(table)


def _tried(column="my.lr"):
    """Runs at two learning rates: the base is best at 0.3, SAM at 0.1."""
    records = [
        {"params": size, "rho": rho, "seed": seed, column: rate, "minutes": seed / 7}
        | {"test_acc": 0.7 + (rate - 0.2) * (1 if rho == 0 else -2) + rho * size / 4000 + 0.01 * seed * rate}
        for size, rho, seed, rate in itertools.product((100, 1000), (0.0, 0.1, 0.2), range(4), (0.1, 0.3))
    ]
    return pd.DataFrame(records)


def test_each_arm_chooses_its_learning_rate(content_of_table):
    content = content_of_table(_tried(), tune=("my.lr",))
    (found,) = (each for each in content.tables if each.name == "tuned_gain")
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    tuned = [row for row in rows if row["compared"].endswith("each at its own settings")]
    assert [row["choice of its base optimizer"] for row in tuned] == ["my_lr=0.3 *"] * 2
    assert [row["choice of SAM"] for row in tuned] == ["rho=0.2 my_lr=0.1 *"] * 2
    # Hand-computed: SAM at 0.1 is 0.2 above the middle plus rho * size / 4000, the base at 0.3 is 0.1 above it; their
    # seeds add 0.01 times a mean of 1.5 times the rate.
    gains = [float(row["gain (points)"]) for row in tuned]
    assert gains == pytest.approx([10 + 0.5 - 0.3, 10 + 5 - 0.3])


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("lr", r"--tune=lr: mine.csv has no such column; its columns are .*my.lr"),
        ("rho", r"--tune=rho: this column is already the rho; rho is always tuned for SAM"),
        ("seed", r"--tune=seed: this column is already the seed\. Name a setting of both arms"),
    ],
)
def test_a_column_that_cannot_be_tuned_is_refused(content_of_table, column, reason):
    with pytest.raises(ValueError, match=reason):
        content_of_table(_tried(), tune=(column,))


def test_our_table_is_tuned_by_its_fields(content_of_table):
    ours = from_columns(_tried(column="learning_rate").drop(columns="minutes"), size="params", metric="test_acc")
    ours = ours.assign(run=[f"run{index}" for index in range(len(ours))])
    assert column_of(content_of_table(ours, tune=("learning_rate",)), "compared", "tuned_gain")
    for field, hint in (("rho", "Known: learning_rate"), ("learning_rat", "Did you mean 'learning_rate'")):
        with pytest.raises(ValueError, match=rf"tune='{field}' is not known\. {hint}"):
            content_of_table(ours, tune=(field,))


def test_each_arm_needs_several_values_of_a_tuned_column_in_every_run(content_of_table):
    table = _tried()
    for arm, without in (("base", table["rho"] == 0), ("SAM", table["rho"] > 0)):
        single = table[~without | (table["my.lr"] == 0.1)]
        with pytest.raises(ValueError, match=rf"--tune=my_lr: every {arm} run has my_lr=0\.1; expected at least two"):
            content_of_table(single, tune=("my.lr",))
    with pytest.raises(ValueError, match=r"'my\.lr' is read as 'my_lr', which is a column too; rename one of them"):
        content_of_table(table.assign(my_lr=0.1), tune=("my.lr",))
    table.loc[6, "my.lr"] = None
    with pytest.raises(ValueError, match=r"row 7 below the header: the column 'my_lr' is empty; every run needs"):
        content_of_table(table, tune=("my.lr",))


def test_unequal_grids_are_cautioned_and_the_tuned_gain_is_a_finding(content_of_table):
    table = _tried()
    smaller = table[(table["params"] == 100) | (table["rho"] == 0) | (table["my.lr"] < 0.3)]
    content = content_of_table(smaller, tune=("my.lr",))
    assert content.short.findings[0].startswith("Both arms tuned (my_lr): +")
    unequal = "At 1,000 parameters base and SAM were tried at different values of my_lr"
    assert any(unequal in caution for caution in content.cautions)


@pytest.mark.parametrize("of", ["wandb", "mlflow"])
def test_of_an_exported_table_the_finished_runs_are_read(of):
    table = rows(params="num_params", test_acc="test_accuracy")
    expected = from_columns(table, metric="test_accuracy")
    if of == "wandb":
        table = table.assign(Name="sunny-dew", State="finished", Created="2026", Tags="")
        running = {"State": "running", "test_accuracy": 0.1}
    else:
        table = table.rename(
            columns={n: f"params.{n}" for n in ("rho", "seed")}
            | {n: f"metrics.{n}" for n in ("num_params", "test_accuracy", "minutes")}
        )
        table = table.assign(run_id="3f", status="FINISHED", **{"tags.mlflow.runName": "x", "metrics.seed": 0})
        running = {"status": "RUNNING", "metrics.test_accuracy": 0.1}
    others = table.head(3).assign(**running)
    plain, notes = tracked.plain(pd.concat([others, table]), "mine.csv")
    state, name = next(iter(running.items()))
    assert notes == [f"mine.csv: 3 of {len(table) + 3} runs are left out; their {state} is {name}."]
    names = ["num_params", "rho", "seed", "test_metric"]
    assert read(plain)[names].equals(expected[names])
    with pytest.raises(ValueError, match=r"mine\.csv: no run of this export has finished"):
        read(others)


def test_columns_of_other_tables_keep_their_prefixes():
    with pytest.raises(ValueError, match="which column is the rho"):
        read(rows().rename(columns={"rho": "params.rho"}))
