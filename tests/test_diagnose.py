"""The command `diagnose`, on runs whose faults are known."""

import itertools
import math
import shlex

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flatwide import cli, config, diagnose, runner, sam
from flatwide.analysis import convert
from flatwide.experiment import build
from flatwide.runs import commands

STUDY = """from flatwide.config import default

def get_config():
    config = default()
    config.update({"num_neurons": (4,), "num_epochs": 1, "train_examples": 64, "batch_size": 32})
    config.study.axes = {"rho": (0.0, 0.0001), "seed": (0, 1)}
    return config
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Train the runs of a tiny study, with the command that the diagnosis extends."""
    folder = tmp_path_factory.mktemp("diagnose")
    path = folder / "study.py"
    path.write_text(STUDY)
    arguments, values = [f"--workdir={folder / 'W'}", f"--config={path}"], config.load_file(str(path))
    for rho, seed in itertools.product((0.0, 0.0001), (0, 1)):
        fields = {name: value for name, value in values.items() if name != "study"} | {"rho": rho, "seed": seed}
        runner.run(fields, folder / "W", quiet=True)
    commands.keep(folder / "W", arguments, config_path=str(path), config_text=STUDY, config=values)
    return folder / "W"


def diagnosed(capsys, *arguments):
    code = cli.main(["diagnose", *map(str, arguments)])
    out, errors = capsys.readouterr()
    return code, out, errors


def checks_of(out):
    """Map each check of one case to its line and the command below it."""
    found, name = {}, ""
    for line in out.splitlines()[1:]:
        if line.startswith(" "):
            found[name] = (found[name][0], line.strip())
        else:
            name = line[5:].partition(":")[0]
            found[name] = (line, "")
    return found


def test_a_work_directory_is_diagnosed_and_its_commands_train_what_is_missing(workdir, capsys):
    code, out, _ = diagnosed(capsys, workdir)
    assert code == 0
    assert out.startswith("310 parameters, rho 0.0001\n")
    checks = checks_of(out)
    assert list(checks) == [
        *("runs", "batch norm", "scale of rho", "grid of rho", "seeds", "base"),
        *("training labels", "weight decay", "perturbation"),
    ]
    assert "4 of 4 runs did not learn" in checks["runs"][0]
    assert checks["batch norm"] == (
        "ok   batch norm: none; expected none, or a rule that does not depend on the size of the weights before it",
        "",
    )
    assert "one for the whole batch of 32 examples" in checks["perturbation"][0]
    for name in ("scale of rho", "grid of rho", "base", "training labels", "weight decay"):
        line, command = checks[name]
        assert line.startswith("FIX "), line
        python, script, *arguments = shlex.split(command)
        assert (python, script) == ("python", "main.py")
        assert cli.main([*arguments, "--dry_run"]) == 0
        assert capsys.readouterr().out.startswith("study of ")


def test_the_radius_it_tries_is_on_the_scale_of_the_loss(workdir, capsys):
    line, command = checks_of(diagnosed(capsys, workdir)[1])["scale of rho"]
    assert "expected 1.7 to 27 %" in line
    (axis,) = (each for each in shlex.split(command) if each.startswith("--config.study.axes.rho="))
    least = float(axis.partition("(")[2].split(",")[0])
    run = next(path for path in (workdir / "runs").iterdir() if "rho0.0001" in path.name)
    built = diagnose.experiment(diagnose.RunDirectory(run))
    batch = built.batch(0)
    at = sam.diagnose(lambda params: built.loss(params, built.init().stats, batch), built.init().params, rho=least)
    assert at.relative_rise == pytest.approx(sam.WORKING_RISES[0], rel=0.5)  # the other batch, and the curvature


def test_a_run_is_diagnosed_at_its_own_rho(workdir, capsys):
    for run in sorted((workdir / "runs").iterdir())[::3]:
        code, out, _ = diagnosed(capsys, run)
        assert code == 0
        assert out.startswith("310 parameters, rho 0.0001\n")


@pytest.mark.parametrize(
    ("gain", "deviation", "count"), [(0.2, 1.0, 199), (0.5, 1.0, 34), (-1.6, 2.0, 15), (1.0, 1.0, 10), (0.3, 0.0, 2)]
)
def test_the_seeds_needed_are_those_of_g_power(gain, deviation, count):
    """G*Power 3.1 for a two-sided paired t test; without noise two seeds suffice."""
    assert diagnose.seeds_needed(gain, deviation) == count


def test_power_agrees_with_simulated_studies():
    count = diagnose.seeds_needed(0.8, 1.0)
    generator = np.random.default_rng(0)
    draws = 0.8 + generator.normal(size=(20_000, count))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / math.sqrt(count))
    power = np.mean(t > stats.t.ppf(0.975, count - 1))
    assert 0.8 - 0.012 < power < 0.86  # four standard errors; one seed more adds some points


def test_no_number_of_seeds_shows_a_gain_of_nothing():
    assert diagnose.seeds_needed(0.01, 1.0) is None
    assert diagnose.seeds_needed(0.0, 0.0) is None


def made(**columns):
    """Make a table whose base is best at the largest of three learning rates, with SAM no better."""
    rows = [
        {"run": f"r{rate}-{rho}-{seed}", "num_params": 310, "rho": rho, "seed": seed, "learning_rate": rate}
        | {"test_metric": 0.5 + rate + 0.01 * ((7 * seed + int(100 * rho)) % 3), "train_metric": 1.0}
        for rate in (0.01, 0.03, 0.1)
        for rho in (0.0, 0.05, 0.1, 0.2)
        for seed in range(4)
    ]
    return convert.from_columns(pd.DataFrame(rows), metric_name="accuracy").assign(**columns)


def test_a_base_at_the_end_of_its_learning_rates_is_told(workdir, monkeypatch):
    monkeypatch.setattr(diagnose, "collect", lambda folder: made())
    (case,) = diagnose.cases(workdir)
    assert case.part.settings == {"learning_rate": 0.1}
    check = diagnose._base(case)
    assert check.found == "best learning rate 0.1 of 0.01, 0.03, 0.1"
    assert check.fix.endswith("'--config.study.axes.learning_rate=(0.3,)'")
    assert not diagnose._fit(case).fix


def test_batch_norm_is_found_in_the_state_of_the_network(workdir):
    (case,) = diagnose.cases(workdir)
    fields = {
        "model": "ResNet18",
        "num_filters": 1,
        "num_epochs": 1,
        "train_examples": 64,
        "batch_size": 32,
        "rho": 0.1,
    }
    check = diagnose._batch_norm(case, build(fields))
    assert check.found == "present, with the rule normalized"
    assert "adaptive" in check.fix
    assert not diagnose._batch_norm(case, build(fields | {"sam_variant": "adaptive"})).fix


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a work directory, or the directory of one of its runs"),
        (["/nowhere"], "'/nowhere': there is no such folder; expected a work directory or a run of one."),
        (["EMPTY"], "expected a work directory with runs that are done, or such a run; train it first."),
    ],
)
def test_bad_input_is_named_in_one_line(tmp_path, capsys, arguments, message):
    code, _, errors = diagnosed(capsys, *[tmp_path if each == "EMPTY" else each for each in arguments])
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
