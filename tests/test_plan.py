"""The command `plan`, on a table of made runs."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest

from flatwide import cli
from flatwide.analysis import convert
from flatwide.runs import commands

AXES = {"num_neurons": ((8,), (32,)), "rho": (0.0, 0.1, 0.2, 0.5, 1.0), "seed": (0, 1, 2, 3, 4)}


def made():
    """Make runs whose gain at the largest width is almost shown, each of three seconds."""
    generator = np.random.default_rng(0)
    rows = [
        {"num_params": size, "num_neurons": f"({width},)", "rho": rho, "seed": seed, "seconds": 3.0}
        | {"test_metric": 0.6 + 0.01 * ((rho > 0) + generator.standard_normal()) - 0.2 * (rho > 0.1)}
        for width, size in ((32, 2_410), (8, 610))
        for rho in AXES["rho"]
        for seed in AXES["seed"]
    ]
    return convert.from_columns(pd.DataFrame(rows), metric_name="accuracy")


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    flags = [f"--config.study.axes.{name}={str(values).replace(' ', '')}" for name, values in AXES.items()]
    arguments = ["--config=digits_mlp", "--config.label_noise=0.5", "--workdir=elsewhere", *flags]
    config = {"study": {"axes": AXES, "tune": ()}}
    commands.keep(tmp_path, arguments, config_path="digits_mlp", config_text="", config=config)
    monkeypatch.setattr("flatwide.runs.table.collect", lambda workdir: made())
    return tmp_path


def test_it_says_what_would_decide_and_the_command_trains_these_runs(workdir, tmp_path, capsys):
    assert cli.main(["plan", str(workdir)]) == cli.DONE
    text = capsys.readouterr().out
    more, count = map(
        int, re.search(r"(\d+) more seeds at 2,410 parameters, rho 0, 0.1, 0.2: (\d+) runs", text).groups()
    )
    assert count == 3 * more
    assert "Radii that are the best at no width, nor next to one that may be: 0.5, 1 (40% of the runs)." in text
    line = next(line.strip() for line in text.splitlines() if line.strip().startswith("python main.py"))
    arguments = shlex.split(line)[2:]
    assert arguments[:3] == [f"--workdir={workdir}", "--config=digits_mlp", "--config.label_noise=0.5"]
    assert cli.main([*arguments, "--dry_run"]) == cli.DONE
    assert f"{count + 15} runs" in capsys.readouterr().out  # with the five seeds that are done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a work directory"),
        (["nowhere"], "'nowhere': there is no such folder"),
        (["{}", "--metric=test_metrik"], "metric='test_metrik' is not known. Did you mean 'test_metric'"),
    ],
)
def test_bad_input_is_one_line(workdir, arguments, message, capsys):
    assert cli.main(["plan", *(argument.format(workdir) for argument in arguments)]) == cli.BAD_INPUT
    assert message in capsys.readouterr().err
