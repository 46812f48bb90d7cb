"""Tables from elsewhere: columns are recognized, errors are reported, and no foreign file is overwritten."""

import itertools

import pandas as pd
import pytest

from flatwide import report
from flatwide.analysis.convert import from_columns
from flatwide.analysis.gain import gain_by_width
from flatwide.report import command


def rows(scale=1.0, **names):
    records = [
        {"params": size, "rho": rho, "seed": seed, "test_acc": scale * (0.8 + rho * size / 4000 + 0.01 * seed)}
        | {"minutes": 1.5 + seed / 7 + rho}
        for size, rho, seed in itertools.product((100, 1000), (0.0, 0.1, 0.2), range(4))
    ]
    return pd.DataFrame(records).rename(columns=names)


def written(tmp_path, table, **options):
    table.to_csv(tmp_path / "mine.csv", index=False)
    return report.write_table(tmp_path / "mine.csv", **options)


def test_common_names_are_recognized_and_reported(tmp_path):
    page = written(tmp_path, rows())
    assert page == tmp_path / "mine.report.html"
    text = page.read_text()
    assert "the size is the column &#39;params&#39;" in text
    assert "higher is better" in text
    gain = gain_by_width(from_columns(rows().drop(columns="minutes"), size="params", metric="test_acc"))["gain"].iloc[
        -1
    ]
    assert f"<td>{100 * gain:+.2f}</td>" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv", "mine.report.html"]


@pytest.mark.parametrize(
    "names",
    [
        {"params": "Num Params", "rho": "SAM rho", "seed": "Trial", "test_acc": "Test Accuracy"},
        {"params": "size", "rho": "RADIUS", "seed": "random_seed", "test_acc": "val_acc"},
    ],
)
def test_names_are_compared_without_case_and_signs(tmp_path, names):
    assert "The gain of SAM" in written(tmp_path, rows(**names)).read_text()


def test_named_columns_win_over_guesses(tmp_path):
    table = rows().assign(mine=lambda t: t["test_acc"] / 2)
    text = written(tmp_path, table, metric="mine", lower_is_better=True).read_text()
    assert "&#39;mine&#39;, lower is better" in text


def test_all_missing_columns_are_listed_with_the_existing_ones(tmp_path):
    table = rows(params="p", rho="r")
    with pytest.raises(ValueError) as fault:
        written(tmp_path, table)
    first, second = str(fault.value).splitlines()
    assert first == (
        "mine.csv: which column is the width? Name it with --width=; its columns are p, r, seed, test_acc, minutes."
    )
    assert "--rho=" in second
    with pytest.raises(ValueError, match=r"--seed=sede: mine\.csv has no such column; its columns are params,"):
        written(tmp_path, rows(), seed="sede")


def test_percent_is_recognized_and_reported(tmp_path):
    text = written(tmp_path, rows(scale=100)).read_text()
    assert "read as percent" in text
    assert "80.00" in text or "81.50" in text
    assert "read as percent" not in written(tmp_path, rows()).read_text()


def test_a_loss_is_better_where_lower(tmp_path):
    table = rows().assign(test_loss=lambda t: 1 - t["test_acc"]).drop(columns="test_acc")
    text = written(tmp_path, table).read_text()
    assert "lower is better" in text
    assert "The gain of SAM" in text
    assert "95 % interval +0." in text


def test_other_columns_are_shown_and_do_not_cut_the_table(tmp_path, embedded):
    page = written(tmp_path, rows())
    columns = [column["name"] for column in embedded(page.read_text(), "run-data")["columns"]]
    assert "minutes" in columns


def test_indistinguishable_rows_are_an_error_until_an_axis_is_named(tmp_path):
    twice = pd.concat([rows().assign(flips=p) for p in (0, 1)], ignore_index=True)
    with pytest.raises(ValueError, match=r"several rows have params=100, rho=0 and seed=0.*--axes=.*flips"):
        written(tmp_path, twice)
    text = written(tmp_path, twice, axes=("flips",)).read_text()
    assert "flips=0" in text
    assert "flips=1" in text


def test_an_axis_may_have_a_dot_in_its_name(tmp_path):
    both = pd.concat([rows().assign(**{"data.noise": 0.0}), rows().assign(**{"data.noise": 0.5})])
    assert "data_noise=0.5" in written(tmp_path, both, axes=("data.noise",)).read_text()


def test_a_table_of_flatwide_is_read_as_it_is(workdir, tmp_path):
    from flatwide import load

    text = written(tmp_path, load(workdir)).read_text()
    assert "The gain of SAM over SGD" in text
    assert "Read from" not in text


def test_a_separator_may_be_a_semicolon(tmp_path):
    rows().to_csv(tmp_path / "mine.csv", index=False, sep=";")
    assert "The gain of SAM" in report.write_table(tmp_path / "mine.csv").read_text()


def test_files_of_others_are_kept(tmp_path):
    foreign_page = tmp_path / "mine.report.html"
    foreign_page.write_text("<html>")
    with pytest.raises(ValueError, match=r"flatwide did not write this file.*--output="):
        written(tmp_path, rows())
    assert foreign_page.read_text() == "<html>"
    elsewhere = written(tmp_path, rows(), path=tmp_path / "other.html")
    assert written(tmp_path, rows(), path=elsewhere) == elsewhere  # our own may be replaced
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="did not write it"):
        written(tmp_path, rows(), path=elsewhere, formats=("latex",))
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="the table itself"):
        written(tmp_path, rows(), path=tmp_path / "mine.csv")


def test_formats_go_into_a_folder_beside_the_page(tmp_path):
    for _ in range(2):
        written(tmp_path, rows(), formats=("svg", "latex"))
    names = {path.name for path in (tmp_path / "mine.report").iterdir()}
    assert {"gain_by_width.svg", "gain_by_width.csv", "gain_by_width_table.tex", "summary.csv"} <= names


def test_a_file_that_is_no_table_is_a_fault(tmp_path):
    (tmp_path / "mine.csv").write_text("")
    with pytest.raises(ValueError, match=r"mine\.csv"):
        report.write_table(tmp_path / "mine.csv")
    with pytest.raises(FileNotFoundError, match=r"gone\.csv: there is no such file"):
        report.write_table(tmp_path / "gone.csv")


def test_the_command_reads_the_same_flags(tmp_path):
    rows(params="p", test_acc="score").to_csv(tmp_path / "mine.csv", index=False)
    output = command.report([f"{tmp_path}/mine.csv", "--width=p", f"--output={tmp_path}/out.html", "--formats=latex"])
    assert output.endswith(f"\nreport: {tmp_path}/out.html")
    assert output.startswith(("No gain from SAM is detected", "SAM "))
    assert (tmp_path / "out" / "gain_by_width_table.tex").exists()


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
        report.write_table(tmp_path / "mine.csv")
    row = 1 if "and row 3" in fault else 3
    assert str(error.value).startswith(f"mine.csv, row {row} below the header: the column {fault}")
    assert "\n" not in str(error.value)


def test_a_column_that_would_be_two_things_is_a_fault(tmp_path):
    with pytest.raises(ValueError, match=r"'params' would be both the width and the metric; name another with --width"):
        written(tmp_path, rows(), metric="params")


@pytest.mark.parametrize("column", ["label_noise", "weight_decay", "sparsity"])
def test_settings_may_be_words(tmp_path, column):
    twice = pd.concat([rows().assign(**{column: level}) for level in ("high", "low")], ignore_index=True)
    text = written(tmp_path, twice).read_text()
    assert f"<strong>{column}=high</strong>: The gain of SAM" in text


@pytest.mark.parametrize("strange", [{"status": "ok"}, {"optimizer": "SAM"}, {"train_loss": "low"}])
def test_columns_that_only_share_a_name_with_ours_are_not_read_as_ours(tmp_path, strange):
    text = written(tmp_path, rows().assign(**strange)).read_text()
    assert "The gain of SAM" in text
    assert "no gain yet" not in text


def test_an_axis_may_be_infinite(tmp_path):
    twice = pd.concat([rows().assign(clip=clip) for clip in (1.0, float("inf"))], ignore_index=True)
    assert "clip=inf" in written(tmp_path, twice, axes=("clip",)).read_text()


def test_a_table_of_flatwide_with_an_edited_cell_is_refused(workdir, tmp_path):
    from flatwide import load

    table = load(workdir).astype(object)
    table.loc[1, "test_metric"] = "good"
    with pytest.raises(ValueError, match="row 2 below the header: the column 'test_metric' holds 'good'"):
        written(tmp_path, table)
    for column, cell, fault in (
        ("test_metric", 5, r"holds 5\.0; expected a fraction in \[0, 1\]"),
        ("train_metric", 50.0, r"holds 50\.0; expected a fraction in \[0, 1\]"),
        ("seconds", "long", "holds 'long'; expected a number"),
        ("learning_rate", "high", "holds 'high'; expected a number"),
    ):
        table = load(workdir).astype(object)
        table.loc[1, column] = cell
        with pytest.raises(ValueError, match=f"row 2 below the header: the column '{column}' {fault}"):
            written(tmp_path, table)
    with pytest.raises(
        ValueError, match=r"mine\.csv: metric='test_metrics' is not known.*Known: test_.*, test_metric, "
    ):
        written(tmp_path, load(workdir), metric="test_metrics")


@pytest.mark.parametrize("more", [{}, {"status": "ok"}])
def test_a_run_without_a_metric_need_not_have_diverged(tmp_path, more):
    table = rows().assign(**more)
    table.loc[[0, 5], "test_acc"] = None
    text = written(tmp_path, table).read_text()
    assert "2 runs have no metric; a rho with a seed without one is never the best." in text
    assert "base runs have no metric or are missing" in text
    assert "22 done, 2 without metric" in text
    assert '<th scope="col">without metric</th>' in text
    assert "diverged" not in text[text.index("<main>") : text.index('<section id="runs"')].split('id="figures"')[0]


def test_two_columns_of_one_name_are_a_fault(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("width,rho,seed,acc,acc\n1,0,0,0.5,0.1\n1,0.1,0,0.5,0.1\n")
    with pytest.raises(ValueError, match=r"table\.csv: two columns are named 'acc'; rename or remove one"):
        report.write_table(table)


def test_rows_that_are_longer_than_the_names_are_a_fault(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("width,rho,seed,acc\n1,0,0,0.5,0.1\n1,0.1,0,0.5,0.1\n")
    with pytest.raises(ValueError, match="the rows have more cells than the header has names"):
        report.write_table(table)


def _tried(column="my.lr"):
    """Runs at two learning rates: the base is best at 0.3, SAM at 0.1."""
    records = [
        {"params": size, "rho": rho, "seed": seed, column: rate, "minutes": seed / 7}
        | {"test_acc": 0.7 + (rate - 0.2) * (1 if rho == 0 else -2) + rho * size / 4000 + 0.01 * seed * rate}
        for size, rho, seed, rate in itertools.product((100, 1000), (0.0, 0.1, 0.2), range(4), (0.1, 0.3))
    ]
    return pd.DataFrame(records)


def test_each_arm_chooses_its_learning_rate(tmp_path):
    page = written(tmp_path, _tried(), tune=("my.lr",), formats=("svg",))
    assert "With my_lr tuned separately" in page.read_text()
    gains = pd.read_csv(tmp_path / "mine.report" / "tuned_gain.csv").set_index(["comparison", "num_params"])
    tuned = gains.loc["tuned"]
    assert list(tuned["base_choice"]) == ["my_lr=0.3"] * 2
    assert list(tuned["sam_choice"]) == ["rho=0.2 my_lr=0.1"] * 2
    # Hand-computed: SAM at 0.1 is 0.2 above the middle plus rho * size / 4000, the base at 0.3 is 0.1 above it; their
    # seeds add 0.01 times a mean of 1.5 times the rate.
    assert tuned["tuned_gain"].to_list() == pytest.approx([0.1 + 0.005 - 0.003, 0.1 + 0.05 - 0.003])


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("lr", r"--tune=lr: mine.csv has no such column; its columns are .*my.lr"),
        ("rho", r"--tune=rho: this column is already the rho; rho is always tuned for SAM"),
        ("seed", r"--tune=seed: this column is already the seed\. Name a setting of both arms"),
    ],
)
def test_a_column_that_cannot_be_tuned_is_refused(tmp_path, column, reason):
    with pytest.raises(ValueError, match=reason):
        written(tmp_path, _tried(), tune=(column,))


def test_our_table_is_tuned_by_its_fields(tmp_path):
    ours = from_columns(_tried(column="learning_rate").drop(columns="minutes"), size="params", metric="test_acc")
    ours = ours.assign(run=[f"run{index}" for index in range(len(ours))])
    assert "learning_rate tuned separately" in written(tmp_path, ours, tune=("learning_rate",)).read_text()
    with pytest.raises(ValueError, match=r"tune='rho' is not known\. Known: learning_rate"):
        written(tmp_path, ours, tune=("rho",))
    with pytest.raises(ValueError, match=r"tune='learning_rat' is not known\. Did you mean 'learning_rate'"):
        written(tmp_path, ours, tune=("learning_rat",))


def test_each_arm_needs_several_values_of_a_tuned_column_in_every_run(tmp_path):
    table = _tried()
    for arm, without in (("base", table["rho"] == 0), ("SAM", table["rho"] > 0)):
        single = table[~without | (table["my.lr"] == 0.1)]
        with pytest.raises(ValueError, match=rf"--tune=my_lr: every {arm} run has my_lr=0\.1; expected at least two"):
            written(tmp_path, single, tune=("my.lr",))
    with pytest.raises(ValueError, match=r"'my\.lr' is read as 'my_lr', which is a column too; rename one of them"):
        written(tmp_path, table.assign(my_lr=0.1), tune=("my.lr",))
    table.loc[6, "my.lr"] = None
    with pytest.raises(ValueError, match=r"row 7 below the header: the column 'my_lr' is empty; every run needs"):
        written(tmp_path, table, tune=("my.lr",))


def test_unequal_grids_are_cautioned_and_the_tuned_gain_is_printed(tmp_path):
    table = _tried()
    smaller = table[(table["params"] == 100) | (table["rho"] == 0) | (table["my.lr"] < 0.3)]
    smaller.to_csv(tmp_path / "mine.csv", index=False)
    printed = command.report([str(tmp_path / "mine.csv"), "--tune=my.lr"])
    assert "\n- Both arms tuned (my_lr): +" in printed
    text = (tmp_path / "mine.report.html").read_text()
    assert "At 1,000 parameters base and SAM were tried at different values of my_lr" in text


def exported(tmp_path, table, **options):
    return written(tmp_path, table, **options).read_text()


@pytest.mark.parametrize("of", ["wandb", "mlflow"])
def test_an_exported_table_gives_the_page_of_its_finished_runs(tmp_path, of):
    table = rows(params="num_params", test_acc="test_accuracy")
    expected = gain_by_width(from_columns(table.drop(columns="minutes"), metric="test_accuracy"))["gain"].iloc[-1]
    if of == "wandb":
        table = pd.concat(
            [
                pd.DataFrame({"Name": "sunny-dew", "State": "finished", "Created": "2026", "Tags": ""}, table.index),
                table,
            ],
            axis=1,
        )
        running = {"State": "running", "test_accuracy": 0.1}
    else:
        table = table.rename(
            columns={n: f"params.{n}" for n in ("rho", "seed")}
            | {n: f"metrics.{n}" for n in ("num_params", "test_accuracy", "minutes")}
        )
        table = table.assign(run_id="3f", status="FINISHED", **{"tags.mlflow.runName": "x", "metrics.seed": 0})
        running = {"status": "RUNNING", "metrics.test_accuracy": 0.1}
    others = table.head(3).assign(**running)
    text = exported(tmp_path, pd.concat([others, table]))
    assert f"<td>{100 * expected:+.2f}</td>" in text
    column = next(iter(running))
    assert f"3 of {len(table) + 3} runs are left out; their {column} is {running[column]}." in text
    with pytest.raises(ValueError, match=r"mine\.csv: no run of this export has finished"):
        exported(tmp_path, others)


def test_columns_of_other_tables_keep_their_prefixes(tmp_path):
    table = rows().rename(columns={"rho": "params.rho"})
    with pytest.raises(ValueError, match="which column is the rho"):
        exported(tmp_path, table)
