"""The run directory: what is written is read back, a kill or an edit is noticed, nothing is overwritten."""

import hashlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatwide.columns import RESULT_FIELDS
from flatwide.runs import disk, rows
from flatwide.runs.directory import BusyError, RunDirectory, run_directories, write_json
from flatwide.runs.results import best_evaluations

CONFIG = {"model": "MLP", "num_neurons": (300, 100), "rho": 0.1, "seed": 0, "augment": None}
IDENTITY = {"num_neurons": (300, 100), "rho": 0.1}


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
    run.write_config(CONFIG, identity=IDENTITY, unread={"seed", "momentum"})
    written = strict(run.path / "config.json")
    assert len(written.pop("checksum")) == 16
    beside = {"identity": {"num_neurons": [300, 100], "rho": 0.1}, "unread": ["momentum", "seed"], "file_version": 2}
    assert written == {**CONFIG, "num_neurons": [300, 100], **beside}
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
    with pytest.raises(ValueError, match=rf"config\.{name}: config.json reserves this name"):
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
    assert len(written.pop("checksum")) == 16
    assert written.pop("identity") == "0123abcd"
    assert written.pop("metrics_sha256") == hashlib.sha256(b"").hexdigest()
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


DONE = {"status": "finished", "num_params": 10, "num_nonzero_params": 9, "epochs": 2.0, "steps": 8, "seconds": 1.5}
DONE |= {"metric_name": "accuracy", "higher_is_better": True, "train_loss": 0.1, "test_loss": 0.2, "test_metric": 0.5}


def test_an_edited_result_is_noticed(run):
    run.write_result(DONE)
    path = run.path / "result.json"
    text = path.read_text()
    assert run.status() == "finished"
    for before, after in (("0.5", "5.0"), ("0.5", "0.6"), ("0.5", '"high"'), ('"threads": null', '"threads": 1')):
        path.write_text(text.replace(before, after))
        with pytest.raises(ValueError, match=r"result\.json: it was changed after it was written; restore it"):
            run.read_result()
    path.write_text(text.replace("\n", "\r\n"))  # another way of writing the same
    assert run.read_result()["test_metric"] == 0.5


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"test_metric": 5.0}, r"test_metric is 5.0; expected a fraction in \[0, 1\]"),
        ({"test_metric": "high"}, 'test_metric is "high"; expected a number'),
        ({"test_loss": math.inf}, "test_loss is Infinity; expected a number"),
        ({"test_loss": None}, "test_loss is null; expected a number"),
        ({"steps": 8.5}, "steps is 8.5; expected an integer"),
        ({"steps": True}, "steps is true; expected an integer"),
        ({"higher_is_better": 1}, "higher_is_better is 1; expected true or false"),
        ({"versions": [1]}, r"versions is \[1\]; expected an object"),
        ({"metric_name": {"a": "b" * 99}}, r'metric_name is \{"a": "b+…; expected text'),
        ({"status": "done"}, "status is 'done'; expected 'finished' or 'diverged'"),
    ],
)
def test_a_result_without_checksum_is_one_of_before_and_its_types_are_checked(run, change, problem):
    path = run.path / "result.json"
    path.write_text(json.dumps(DONE))
    assert run.read_result() == DONE
    path.write_text(json.dumps(DONE | change))
    with pytest.raises(ValueError, match=rf"result\.json: {problem}; restore it from a copy"):
        run.read_result()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"status": 3}', '{"status": "finished"}', "[" * 9999, "\0"])
def test_a_damaged_result_is_named(run, text):
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


@settings(deadline=None)  # other processes may hold the core
@given(st.lists(st.floats(allow_nan=False) | st.integers(-(2**63), 2**63) | st.none(), min_size=1, max_size=4))
def test_numbers_come_back_to_the_last_bit(tmp_path_factory, values):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    row = {"step": 1, "epoch": 1.0} | dict(zip(rows.COLUMNS[2:], values, strict=False))
    run.append_metrics(row)
    (stored,) = run.read_metrics()
    assert stored == row
    assert list(map(type, stored.values())) == list(map(type, row.values()))


def test_numbers_of_arrays_and_nan(run):
    numbers = {"test_loss": jnp.float32(0.1), "learning_rate": np.float64(0.1), "test_metric": math.nan}
    run.append_metrics({"step": np.int64(3), "epoch": 1, **numbers})
    (row,) = run.read_metrics()
    assert (row["step"], row["test_loss"], row["learning_rate"]) == (3, float(np.float32(0.1)), 0.1)
    assert math.isnan(row["test_metric"])


def test_the_first_row_settles_the_columns(run):
    run.append_metrics({"step": 1, "epoch": None, "test_loss": 0.5})
    run.append_metrics({"test_loss": 0.25, "step": 2})
    assert (run.path / "metrics.csv").read_text() == "step,epoch,test_loss\n1,,0.5\n2,,0.25\n"
    with pytest.raises(ValueError, match=r"no columns \['other'\]"):
        run.append_metrics({"step": 3, "other": 1})
    with pytest.raises(ValueError, match="'text' is not a number"):
        run.append_metrics({"step": "text"})
    assert len(run.read_metrics()) == 2


def test_no_file_has_no_rows(run):
    assert run.read_metrics() == []
    run.sync_metrics()


HEADER = "step,epoch,test_loss\n"


@pytest.mark.parametrize(("torn", "expected"), [("step,ep", []), (HEADER, []), (f"{HEADER}1,1,0.5\n2,2,0.2", [1])])
def test_a_line_that_a_kill_cut_short_is_left_out(run, torn, expected):
    run.metrics_file.write_text(torn)
    assert [row["step"] for row in run.read_metrics()] == expected


@pytest.mark.parametrize("line", ["1,2", "1", "1,x,3", "\0\0\0", "4,\N{GREEK SMALL LETTER RHO},5"])
def test_a_damaged_line_is_named(run, line):
    run.metrics_file.write_text(f"{HEADER}1,2,3\n{line}\n4,5,6\n", encoding="utf-16-be" if line == "1" else "utf-8")
    with pytest.raises(ValueError, match=r"metrics\.csv: line . is .+ Restore the file from a copy"):
        run.read_metrics()


@pytest.mark.parametrize("header", ["stop,epoch,test_loss", "step,epoch,tset_loss", "step,epoch,epoch", "\0\0\0\0"])
def test_a_damaged_header_is_named(run, header):
    run.metrics_file.write_text(f"{header}\n1,2,3\n")
    with pytest.raises(ValueError, match=r"metrics\.csv: line 1 is .+; expected column names"):
        run.read_metrics()


def test_what_is_appended_is_what_the_digest_is_of(run):
    digest = rows.Digest()
    for step in (10, 20, 30):
        digest.update(run.append_metrics({"step": step, "epoch": step / 10, "test_loss": 1 / step}))
        assert digest.num_rows == step / 10
        assert digest.hexdigest() == hashlib.sha256(run.metrics_file.read_bytes()).hexdigest()
    assert rows.Digest().num_rows == rows.Digest(b"header\n").num_rows == 0


def test_the_rows_that_lead_to_a_checkpoint_are_kept_whatever_follows(run):
    whole = f"{HEADER}1,1,0.5\n2,2,0.25\n".encode()
    for damage in (b"", b"\0" * 9, b"3,3", b"3\xff,3\n", b"x,y,z\n4,4,0.1\n"):
        assert rows.first(whole + damage, 2) == whole
        assert rows.until(run.metrics_file, whole + damage, 2) == whole  # of a checkpoint that does not count them
        assert rows.until(run.metrics_file, whole + b"3,3,1\n" + damage, 2) == whole
    assert rows.first(whole, 3) is None
    assert rows.first(b"", 1) is None
    assert rows.first(b"step\xff", 0) == rows.until(run.metrics_file, b"step\xff\n1", 0) == b""
    with pytest.raises(ValueError, match=r"metrics\.csv: line 4 is"):  # it may lead to the checkpoint
        rows.until(run.metrics_file, whole + b"\0\n", 3)


def test_replaced_metrics_are_what_is_left(run):
    run.replace_metrics(b"")
    assert not run.metrics_file.exists()
    for content in (b"a\n", b""):
        run.replace_metrics(content)
        assert run.metrics_file.read_bytes() == content


# Files that are none.


def put_pipe(path):
    os.mkfifo(path)


def put_device(path):
    path.symlink_to("/dev/zero")


def put_loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("put", [put_pipe, put_device, put_loop, Path.mkdir])
@pytest.mark.parametrize("name", ["metrics.csv", "result.json", "config.json", "error.txt"])
def test_only_regular_files_are_read(run, name, put):
    put(run.path / name)
    if name == "error.txt":
        assert f"{run.path / name}: the file cannot be read" in run.read_error()
        return
    read = {"metrics.csv": run.read_metrics, "result.json": run.status, "config.json": run.read_config}[name]
    with pytest.raises(disk.UnreadableError, match=rf"{run.path / name}: the file cannot be read"):
        read()


def test_permission_denied_is_no_damage(run, monkeypatch):
    run.write_result({"status": "finished"})

    def deny(path, flags, mode=0o777):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", deny)  # tests may run as root, who may read everything
    with pytest.raises(ValueError, match=r"result\.json: the file cannot be read \(Permission denied\)") as error:
        run.status()
    assert "damaged" not in str(error.value)


def test_a_lock_that_is_a_link_leaves_its_target_alone(run, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (run.path / "lock").symlink_to(target)
    with (
        pytest.raises(ValueError, match=r"lock: the run cannot be locked \(it is a symbolic link\); remove"),
        run.lock(),
    ):
        pass
    assert target.read_text() == "precious"
    (run.path / "lock").unlink()
    os.mkfifo(run.path / "lock")
    with pytest.raises(ValueError, match=r"it is a pipe"), run.lock():
        pass


def test_a_link_that_leads_nowhere_is_no_run(run):
    run.write_config(CONFIG, identity=IDENTITY)
    folder = run.path.parent
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "gone").symlink_to(folder / "nothing")
    (folder / "linked").symlink_to(run.path)
    assert [directory.name for directory in run_directories(folder.parent)] == [run.name, "linked"]


def test_a_temporary_file_that_is_a_link_is_not_written_through(run, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (run.path / f"x.json.{socket.gethostname()}.{os.getpid()}.tmp").symlink_to(target)
    write_json(run.path / "x.json", {"a": 1})
    assert target.read_text() == "precious"
    assert strict(run.path / "x.json") == {"a": 1}


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


def test_the_message_of_an_error_is_not_that_jax_has_removed_its_frames(run):
    try:
        jax.jit(lambda x: x + jnp.ones(3))(jnp.ones(2))
    except TypeError:
        run.write_error(traceback.format_exc())
    assert "For simplicity, JAX has removed" in run.error_file.read_text()
    assert run.read_error() == "TypeError: add got incompatible shapes for broadcasting: (2,), (3,)."
