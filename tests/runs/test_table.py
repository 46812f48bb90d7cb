"""The results table: one row a run, whatever state it is in; text and CSV that read back."""

import ast
import json
import math
import os
import shutil
import time

import pandas as pd
import pytest

from flatwide.columns import RESULT_FIELDS
from flatwide.config import digest
from flatwide.runs import disk
from flatwide.runs.directory import RunDirectory
from flatwide.runs.table import collect, collect_rows, read_runs, tuple_text, write_results

CONFIG = {
    "model": "MLP",
    "num_neurons": (300, 100),
    "rho": 0.1,
    "seed": 0,
    "threads": None,
    "augment": True,
    "microbatch": None,
    "warmup_steps": 0,
}


def make_run(workdir, name, *, result=None, **changes):
    run = RunDirectory(workdir / "runs" / f"{name}-{digest(changes)}")
    run.write_config(CONFIG | changes, identity=changes)
    if result:
        run.write_result({"status": "finished"} | result)
    return run


def test_every_run_has_a_row_with_every_field(tmp_path):
    make_run(tmp_path, "b", rho=0, result={"test_metric": 1 / 3, "steps": 5, "threads": 2, "versions": {"jax": "0.10"}})
    make_run(tmp_path, "a", num_neurons=(30,), microbatch=16, result={"status": "diverged", "test_metric": math.nan})
    make_run(tmp_path, "c", augment=False)
    make_run(tmp_path, "d").write_error("boom")
    (tmp_path / "runs" / "not-yet").mkdir()
    (tmp_path / "runs" / "a-file").touch()
    table = collect(tmp_path)
    assert [name.partition("-")[0] for name in table["run"]] == ["a", "b", "c", "d"]
    assert list(table["status"]) == ["diverged", "finished", "unfinished", "failed"]
    assert list(table["num_neurons"]) == ["(30,)", *["(300,100)"] * 3]
    assert table["test_metric"].isna().tolist() == [True, False, True, True]
    assert table["test_metric"][1] == 1 / 3
    assert {*CONFIG, *RESULT_FIELDS, "versions.jax"} - {"versions"} <= set(table.columns)
    assert not {"identity", "problem"} & set(table.columns)
    assert list(table.columns[:4]) == ["run", "status", "model", "num_neurons"]
    assert list(table["threads"])[1] == 2  # what was used, not what was asked for
    dtypes = {name: str(table[name].dtype) for name in table}
    assert dtypes["rho"] == "float64"  # one of them is the integer 0
    assert (dtypes["seed"], dtypes["microbatch"], dtypes["steps"]) == ("int64", "Int64", "Int64")
    assert (dtypes["augment"], dtypes["model"], dtypes["test_metric"]) == ("bool", "str", "float64")


def test_fields_that_a_run_did_not_read_are_empty_and_an_unread_rho_is_0(tmp_path):
    run = RunDirectory(tmp_path / "runs" / f"a-{digest({'stretch': 2})}")
    user_fields = {"stretch": 2, "offset": None}
    run.write_config(CONFIG | user_fields, identity={"stretch": 2}, unread={"rho", "augment", "warmup_steps"})
    (row,) = collect_rows(read_runs(tmp_path))
    assert (row["augment"], row["warmup_steps"], row["rho"]) == (None, None, 0.0)
    assert (row["stretch"], row["offset"], row["seed"]) == (2, "None", 0)  # read, and none: not an empty cell


def test_runs_of_earlier_versions_left_out_of_the_identity_what_they_did_not_read(tmp_path):
    make_run(tmp_path, "a")
    path = next(tmp_path.glob("runs/*/config.json"))
    content = json.loads(path.read_text()) | {"stretch": 2, "units": 8, "identity": {"units": 8}}
    written = {name: value for name, value in content.items() if name not in ("unread", "checksum", "file_version")}
    path.write_text(json.dumps(written))
    path.parent.rename(path.parent.with_name(f"a-{digest({'units': 8})}"))
    (row,) = collect_rows(read_runs(tmp_path))
    assert (row["status"], row["stretch"], row["units"], row["augment"]) == ("unfinished", None, 8, True)


def test_a_work_directory_without_runs_has_an_empty_table(tmp_path):
    assert collect(tmp_path / "nowhere").empty
    assert "test_metric" in collect(tmp_path)


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("result.json", "status", "damaged"),
        ("config.json", "status", "damaged"),
        ("metrics.csv", "problem", "with which the run ended"),
        ("measurements/trace.json", "problem", "the file is damaged"),
    ],
)
def test_in_one_process_only_runs_with_a_changed_file_are_read_again(tmp_path, monkeypatch, name, column, value):
    names = [make_run(tmp_path, name, result={"steps": 1}).name for name in ("a", "b", "c")]
    first = collect_rows(read_runs(tmp_path))
    opened, read = [], disk.read
    monkeypatch.setattr(disk, "read", lambda path: opened.append(path) or read(path))
    assert collect_rows(read_runs(tmp_path)) == first
    assert not opened
    changed = tmp_path / "runs" / names[1] / name
    changed.parent.mkdir(exist_ok=True)
    changed.write_text("no\n")
    again = collect_rows(read_runs(tmp_path))
    assert value in again[1][column]
    assert again[::2] == first[::2]
    assert {path.relative_to(tmp_path / "runs").parts[0] for path in opened} == {names[1]}


def test_a_run_that_ends_is_read_again(tmp_path):
    run = make_run(tmp_path, "a")
    seen = [collect(tmp_path)["status"][0]]
    run.write_error("boom")
    seen.append(collect(tmp_path)["status"][0])
    run.write_result({"status": "finished", "steps": 1})
    assert [*seen, collect(tmp_path)["status"][0]] == ["unfinished", "failed", "finished"]


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_a_damaged_file_is_a_row_that_says_so(tmp_path, name):
    make_run(tmp_path, "good", result={"steps": 1})
    bad = make_run(tmp_path, "bad", result={"steps": 1})
    (bad.path / name).write_text('{"status": "fin')
    table = collect(tmp_path)
    assert list(table["status"]) == ["damaged", "finished"]
    assert str(bad.path / name) in table["problem"][0]


def test_a_file_that_cannot_be_read_is_called_unreadable(tmp_path, monkeypatch):
    make_run(tmp_path, "good", result={"steps": 1})
    bad = make_run(tmp_path, "bad", result={"steps": 1})
    open_as_before = os.open

    def deny(path, *arguments):
        if path == str(bad.path / "result.json"):
            raise PermissionError(13, "Permission denied")
        return open_as_before(path, *arguments)

    monkeypatch.setattr(os, "open", deny)  # tests may run as root, who may read everything
    table = collect(tmp_path)
    assert list(table["status"]) == ["unreadable", "finished"]
    assert "result.json: the file cannot be read (Permission denied); make it readable" in table["problem"][0]


def test_an_edited_number_never_reaches_the_table(tmp_path):
    path = make_run(tmp_path, "bad", result={"test_metric": 0.5}).path / "result.json"
    path.write_text(path.read_text().replace("0.5", "5.0"))
    table = collect(tmp_path)
    assert list(table["status"]) == ["damaged"]
    assert table["test_metric"].isna().all()
    assert "result.json: it was changed after it was written" in table["problem"][0]


def test_links_that_lead_back_to_themselves_are_passed_over(tmp_path):
    run = make_run(tmp_path, "good", result={"steps": 1})
    for folder in (tmp_path / "runs", run.path, run.path / "measurements"):
        folder.mkdir(exist_ok=True)
        (folder / "loop.json").symlink_to(folder / "loop.json")
    table = collect(tmp_path)
    assert list(table["status"]) == ["finished"]
    assert "loop.json: the file cannot be read" in table["problem"][0]
    assert write_results(tmp_path).exists()


def test_measurements_that_hold_no_numbers_are_a_problem_of_their_run(tmp_path):
    run = make_run(tmp_path, "good", result={"steps": 1})
    (run.path / "measurements").mkdir()
    good = {
        "name": "a",
        "epoch": 1.0,
        "is_final": True,
        "num_examples": 1,
        "values": {"b": 1},
        "errors": {},
        "measured": "",
    }
    for number, change in enumerate(
        ({}, {"values": "text"}, {"values": {"b": "c"}}, {"num_examples": None}, {"name": 3})
    ):
        run.write_own(run.path / "measurements" / f"a-{number}.json", good | change)
    os.mkfifo(run.path / "measurements" / "pipe.json")
    table = collect(tmp_path)
    assert table["a.b"].tolist() == [1]
    assert [f"a-{number}.json" in table["problem"][0] for number in range(5)] == [False, True, True, True, True]
    assert "pipe.json: the file cannot be read (it is a pipe" in table["problem"][0]


def test_what_is_not_the_run_of_its_name_is_no_result(tmp_path):
    first, second = make_run(tmp_path, "a", seed=1, result={"steps": 1}), make_run(tmp_path, "b", seed=2)
    shutil.copytree(first.path, f"{first.path}.bak")
    shutil.copy(first.path / "config.json", second.path / "config.json")
    third = make_run(tmp_path, "c", seed=3, result={"steps": 1})
    path = third.path / "config.json"
    path.write_text(path.read_text().replace('"rho": 0.1', '"rho": 0.2'))
    table = collect(tmp_path)
    assert list(table["status"]) == ["finished", "mismatch", "mismatch", "damaged"]
    assert "is that of another run" in table["problem"][1]
    assert "was changed after it was written" in table["problem"][3]


def test_a_result_without_a_config_is_damaged(tmp_path):
    run = make_run(tmp_path, "bad", result={"steps": 1})
    (run.path / "config.json").unlink()
    assert list(collect(tmp_path)["status"]) == ["damaged"]


@pytest.mark.parametrize(
    ("value", "text"),
    [((300, 100), "(300,100)"), ([30], "(30,)"), ((), "()"), ((0.9, 1e-8), "(0.9,1e-08)"), (("a,b",), "('a,b',)")],
)
def test_a_tuple_is_what_a_flag_takes(value, text):
    assert tuple_text(value) == text
    assert ast.literal_eval(text) == tuple(value)


def test_results_csv_is_the_table(tmp_path):
    make_run(tmp_path, "a", model='a "b", c', result={"test_metric": 0.1 + 0.2, "higher_is_better": True, "x64": False})
    make_run(tmp_path, "b")
    path = write_results(tmp_path)
    assert path == tmp_path / "results.csv"
    table = collect(tmp_path)
    read_back = pd.read_csv(path, dtype=table.dtypes.to_dict())
    pd.testing.assert_frame_equal(read_back, table, check_exact=True)
    before = path.read_bytes()
    assert write_results(tmp_path).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "runs"]


@pytest.mark.slow
def test_ten_thousand_runs_take_less_than_ten_seconds(tmp_path):
    config, result = make_run(tmp_path, "0", result={"test_metric": 0.5, "versions": {"jax": "1"}}).path.iterdir()
    for number in range(1, 10_000):
        path = tmp_path / "runs" / f"{number}-{digest({})}"
        path.mkdir()
        for file in (config, result):
            (path / file.name).write_bytes(file.read_bytes())
    began = time.perf_counter()
    assert len(collect(tmp_path)) == 10_000
    assert time.perf_counter() - began < 10
