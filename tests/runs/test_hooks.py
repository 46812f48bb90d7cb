"""A user's function gets the metrics of a run, and can neither change it nor end it."""

import json
import math

import numpy as np
import pytest

import flatwide
from flatwide import config as configs
from flatwide import registry, runner
from flatwide.runs import rows
from flatwide.runs.directory import run_directories

FIELDS = {"num_neurons": (4,), "num_epochs": 3, "batch_size": 256}
KEEPING = "calls = []\n\n\ndef log(run, step, row):\n    calls.append((run, step, dict(row)))\n    row.clear()\n"
BROKEN = "def log(run, step, row):\n    row['step'] = None\n    raise SystemExit('no disk\\nleft')\n"


@pytest.fixture
def trained(tmp_path):
    """Train a run, with a hook of this text if any, and give its directory and the calls that the hook kept."""

    def train(name, text="", **fields):
        if text:
            (tmp_path / f"{name}.py").write_text(text)
            fields["on_metrics"] = f"{tmp_path / name}.py:log"
        runner.run(FIELDS | fields, tmp_path / name, quiet=True)
        (directory,) = run_directories(tmp_path / name)
        return directory, registry.find("", fields["on_metrics"], {}).__globals__.get("calls") if text else None

    return train


def test_it_gets_each_row_and_at_the_end_the_result(trained):
    directory, calls = trained("keeps", KEEPING)
    written = rows.decode(directory.metrics_file, directory.metrics_file.read_bytes())
    assert len(written) == 3
    assert [row for *_, row in calls[:-1]] == [{k: v for k, v in row.items() if v is not None} for row in written]
    assert [step for _, step, _ in calls] == [row["step"] for row in written] + [written[-1]["step"]]
    assert {run for run, *_ in calls} == {directory.path}
    result = json.loads((directory.path / "result.json").read_text())
    assert calls[-1][-1].items() <= result.items()
    assert calls[-1][-1]["status"] == "finished"
    json.dumps([row for *_, row in calls])  # plain numbers


def test_a_diverged_run_ends_without_a_metric(trained):
    _, calls = trained("diverges", KEEPING, learning_rate=1e30, num_epochs=6)
    assert calls[-1][-1]["status"] == "diverged"
    assert math.isnan(calls[-1][-1]["test_metric"])


def test_it_changes_no_bit_and_no_name_and_its_error_is_one_line(trained, capfd):
    plain, _ = trained("plain")
    capfd.readouterr()
    for name, text in (("keeps", KEEPING), ("broken", BROKEN)):
        hooked, _ = trained(name, text)
        assert hooked.name == plain.name
        assert hooked.metrics_file.read_bytes() == plain.metrics_file.read_bytes()
        ours, theirs = (flatwide.load_run(run.path).flat() for run in (hooked, plain))
        assert all(np.array_equal(ours[leaf], theirs[leaf]) for leaf in theirs)
    (line,) = capfd.readouterr().err.splitlines()
    expected = "broken.py:log (line 3): SystemExit: no disk left. " + plain.name + " goes on without it."
    assert line.startswith("warning: config.on_metrics=/")
    assert line.endswith(expected)


def test_runs_that_are_trained_together_each_reach_it(trained, tmp_path):
    (tmp_path / "group.py").write_text(KEEPING)
    fields = FIELDS | {"on_metrics": f"{tmp_path}/group.py:log", "group_size": 2}
    outcomes = runner.run_together([fields | {"seed": seed} for seed in (0, 1)], tmp_path / "group")
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    calls = registry.find("", fields["on_metrics"], {}).__globals__["calls"]
    ended = [run.name for run, _, row in calls if "status" in row]
    assert sorted(ended) == [directory.name for directory in run_directories(tmp_path / "group")]
    assert len(calls) == 2 * (3 + 1)


def test_a_network_is_loaded_without_the_file(trained, tmp_path):
    directory, _ = trained("gone", KEEPING)
    (tmp_path / "gone.py").unlink()
    assert flatwide.load_run(directory.path).config["on_metrics"] is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wandb", r"config\.on_metrics='wandb': expected path/to/file\.py:function or None\."),
        ("nowhere.py:log", r"there is no file .*nowhere\.py'; give a path to a Python file that exists"),
        ("{}/hook.py:other", r"defines no function or class 'other'"),
        ("{}/fails.py:log", r"fails\.py:log': ImportError: no tracker here"),
    ],
)
def test_a_hook_that_cannot_be_called_is_a_fault_of_the_config(tmp_path, name, expected):
    (tmp_path / "hook.py").write_text(KEEPING)
    (tmp_path / "fails.py").write_text("raise ImportError('no tracker here')\n")
    with pytest.raises(configs.ConfigError, match=expected):
        configs.resolve({"on_metrics": name.format(tmp_path)})
