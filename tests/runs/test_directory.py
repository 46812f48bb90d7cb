"""The run directory: what is written is read back, a kill or an edit is noticed, nothing is overwritten."""

import json
import math
import os
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatwide.columns import RESULT_FIELDS
from flatwide.runs.directory import BusyError, RunDirectory, best_evaluations, write_json

CONFIG = {"model": "MLP", "num_neurons": (300, 100), "rho": 0.1, "seed": 0, "augment": None}
IDENTITY = {"num_neurons": (300, 100), "rho": 0.1}


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "runs" / "digits-MLP-0123abcd")


def strict(path):
    """Read JSON that may not hold NaN or Infinity."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_status_follows_from_the_files(run):
    assert run.status() == "new"
    run.write_config(CONFIG, identity=IDENTITY)
    assert run.status() == "unfinished"
    run.write_error("Traceback ...")
    assert run.status() == "failed"
    run.write_result({"status": "diverged", "diverged_at_step": 3})
    assert run.status() == "diverged"
    assert run.name == "digits-MLP-0123abcd"
    assert run.checkpoints == run.path / "checkpoints"


def test_config_is_flat_and_has_the_identity_beside_it(run):
    run.write_config(CONFIG, identity=IDENTITY)
    written = strict(run.path / "config.json")
    assert len(written.pop("checksum")) == 16
    assert written == {**CONFIG, "num_neurons": [300, 100], "identity": {"num_neurons": [300, 100], "rho": 0.1}}
    assert run.read_config() == written


def test_the_same_run_may_come_again_with_other_logging(run):
    run.write_config(CONFIG, identity=IDENTITY)
    before = (run.path / "config.json").read_bytes()
    run.write_config({**CONFIG, "log_every_steps": 7}, identity=IDENTITY)
    assert (run.path / "config.json").read_bytes() == before


def test_another_run_in_the_directory_is_refused_field_by_field(run):
    run.write_config(CONFIG, identity=IDENTITY | {"label_noise": None})
    with pytest.raises(ValueError, match="holds another run") as error:
        run.write_config(CONFIG, identity={"num_neurons": (30,), "rho": 0.1, "seed": 1})
    assert str(run.path) in str(error.value)
    assert "num_neurons is [300, 100] there and [30] here" in str(error.value)
    assert "seed is at its default there and 1 here" in str(error.value)
    assert "label_noise is null there and at its default here" in str(error.value)
    assert "rho" not in str(error.value)


@pytest.mark.parametrize("name", ["identity", "num_devices"])
def test_a_field_with_a_name_that_the_file_needs_is_refused(run, name):
    with pytest.raises(ValueError, match=rf"config\.{name}: this name is taken"):
        run.write_config({name: 1}, identity={})


def test_what_the_run_started_on_is_recorded_and_not_compared(run):
    run.write_config(CONFIG, identity=IDENTITY, started_on={"num_devices": 4})
    run.write_config(CONFIG, identity=IDENTITY, started_on={"num_devices": 2})
    assert run.read_config()["num_devices"] == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rho": 1}', '{"identity": 3}'])
def test_a_damaged_config_is_named(run, text):
    run.write_config(CONFIG, identity=IDENTITY)
    (run.path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        run.write_config(CONFIG, identity=IDENTITY)


def test_result_has_every_field_and_only_strict_json(run):
    run.write_result(
        {"status": "finished", "test_loss": math.nan, "test_metric": np.float32(0.1), "steps": np.int64(3)}
    )
    written = strict(run.path / "result.json")
    assert list(written) == list(RESULT_FIELDS)
    assert written["test_loss"] is None
    assert written["test_metric"] == float(np.float32(0.1))
    assert written["steps"] == 3
    assert run.read_result() == written


def test_infinities_inside_the_versions_would_be_null_too(run):
    run.write_result({"status": "finished", "versions": {"jax": "1", "odd": [math.inf]}})
    assert strict(run.path / "result.json")["versions"] == {"jax": "1", "odd": [None]}


@pytest.mark.parametrize("result", [{"status": "finished", "accuracy": 1}, {"status": "done"}, {}])
def test_unknown_fields_and_statuses_are_refused(run, result):
    with pytest.raises(ValueError, match="RESULT_FIELDS"):
        run.write_result(result)
    assert run.read_result() is None


def test_a_result_is_never_overwritten(run):
    run.write_result({"status": "finished", "steps": 1})
    with pytest.raises(ValueError, match="not overwritten"):
        run.write_result({"status": "finished", "steps": 2})
    assert run.read_result()["steps"] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"status": 3}'])
def test_a_damaged_result_is_named(run, text):
    run.path.mkdir(parents=True)
    (run.path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=r"result\.json"):
        run.status()


def test_every_failure_is_kept(run):
    run.write_error("first\n")
    run.write_error("second")
    assert (run.path / "error.txt").read_text() == "first\nsecond\n"


def test_failed_writes_leave_the_old_file_and_no_rest(run, monkeypatch):
    run.write_config(CONFIG, identity=IDENTITY)
    write_json(run.path / "x.json", {"a": 1})

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_json(run.path / "x.json", {"a": 2})
    assert strict(run.path / "x.json") == {"a": 1}
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "x.json"]


# The lock.


def test_a_second_process_is_told_who_trains_the_run(run):
    code = (
        "import sys; from pathlib import Path; from flatwide.runs.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).lock():\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with (
            pytest.raises(BusyError, match=rf"another process \({process.pid} on .+\) trains this run"),
            run.lock(),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with run.lock():  # the system unlocked it
            assert (run.path / "lock").read_text().startswith(f"{os.getpid()} on ")


def test_the_lock_is_free_after_an_error(run):
    with pytest.raises(KeyError), run.lock():
        raise KeyError
    with run.lock(), pytest.raises(BusyError), run.lock():
        pass
    assert run.status() == "new"


# The metrics.


@given(st.lists(st.floats(allow_nan=False) | st.integers(-(2**63), 2**63) | st.none(), min_size=1, max_size=4))
def test_numbers_come_back_to_the_last_bit(tmp_path_factory, values):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    row = {f"column_{number}": value for number, value in enumerate(values)}
    run.append_metrics(row)
    (found,) = run.read_metrics()
    assert found == row
    assert list(map(type, found.values())) == list(map(type, row.values()))


def test_numbers_of_arrays_and_nan(run):
    run.path.mkdir(parents=True)
    run.append_metrics({"step": np.int64(3), "loss": jnp.float32(0.1), "rate": np.float64(0.1), "nan": math.nan})
    (found,) = run.read_metrics()
    assert (found["step"], found["loss"], found["rate"]) == (3, float(np.float32(0.1)), 0.1)
    assert math.isnan(found["nan"])


def test_the_first_row_settles_the_columns(run):
    run.path.mkdir(parents=True)
    run.append_metrics({"step": 1, "train_loss": None, "test_loss": 0.5})
    run.append_metrics({"test_loss": 0.25, "step": 2})
    assert (run.path / "metrics.csv").read_text() == "step,train_loss,test_loss\n1,,0.5\n2,,0.25\n"
    with pytest.raises(ValueError, match=r"no columns \['other'\]"):
        run.append_metrics({"step": 3, "other": 1})
    with pytest.raises(ValueError, match="'text' is not a number"):
        run.append_metrics({"step": "text"})
    assert len(run.read_metrics()) == 2


def test_no_file_has_no_rows(run):
    assert run.read_metrics() == []
    run.sync_metrics()


@pytest.mark.parametrize(
    ("torn", "kept"),
    [("step,lo", []), ("step,loss\n", []), ("step,loss\n1,0.5\n2,0.2", [1]), ("step,loss\n1,0.5\n2,0.25\n3", [1, 2])],
)
def test_a_line_that_a_kill_cut_short_is_left_out_and_then_replaced(run, torn, kept):
    run.path.mkdir(parents=True)
    (run.path / "metrics.csv").write_text(torn)
    assert [row["step"] for row in run.read_metrics()] == kept
    run.truncate_metrics(99)
    run.append_metrics({"step": 5, "loss": 0.125})
    assert [row["step"] for row in run.read_metrics()] == [*kept, 5]
    assert run.read_metrics()[-1] == {"step": 5, "loss": 0.125}


def test_resuming_drops_the_rows_that_are_done_again(run):
    run.path.mkdir(parents=True)
    for step in (10, 20, 30):
        run.append_metrics({"step": step, "loss": 1 / step, "empty": None})
    run.truncate_metrics(20)
    assert run.read_metrics() == [{"step": 10, "loss": 0.1, "empty": None}, {"step": 20, "loss": 0.05, "empty": None}]
    run.truncate_metrics(0)
    assert run.read_metrics() == []


@pytest.mark.parametrize("line", ["1,2", "1", "1,x,3"])
def test_a_damaged_line_is_named(run, line):
    run.path.mkdir(parents=True)
    (run.path / "metrics.csv").write_text(f"step,a,b\n1,2,3\n{line}\n4,5,6\n")
    with pytest.raises(ValueError, match=r"metrics\.csv: line 3 is"):
        run.read_metrics()


# The summary.

ROWS = [
    {"epoch": 1, "test_metric": 0.5, "validation_metric": 0.9},
    {"epoch": 2, "test_metric": 0.7, "validation_metric": 0.8},
    {"epoch": 3, "test_metric": 0.7, "validation_metric": 0.9},
    {"epoch": 4, "test_metric": math.nan, "validation_metric": 0.1},
    {"epoch": 5, "test_metric": None, "validation_metric": None},
]


def test_the_best_evaluation_is_the_first_of_equals():
    assert best_evaluations(ROWS, higher_is_better=True) == {
        "test_metric_best": 0.7,
        "best_epoch": 2,
        "test_metric_at_best_validation": 0.5,
    }
    lower = best_evaluations(ROWS[:3], higher_is_better=False)
    assert lower == {"test_metric_best": 0.5, "best_epoch": 1, "test_metric_at_best_validation": 0.7}


def test_nothing_evaluated_has_no_best():
    none = {"test_metric_best": None, "best_epoch": None, "test_metric_at_best_validation": None}
    assert best_evaluations([], higher_is_better=True) == none
    assert best_evaluations([{"epoch": 1, "test_metric": math.inf}], higher_is_better=True) == none
    without = best_evaluations([{"epoch": 1, "test_metric": 0.5, "validation_metric": None}], higher_is_better=True)
    assert without["test_metric_at_best_validation"] is None
