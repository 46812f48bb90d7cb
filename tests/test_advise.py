"""The command `advise`, on runs whose optimum is known."""

import pandas as pd
import pytest

import flatwide
from flatwide import cli, runner
from flatwide.analysis import convert
from flatwide.config import ConfigError

SIZES = {2: 160, 4: 310, 8: 610, 16: 1_210}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Make a work directory with one trained run, whose config tells how sizes follow from widths."""
    folder = tmp_path_factory.mktemp("advise")
    config = {"num_neurons": (2,), "num_epochs": 1, "lr_scheduler": "constant"}
    runner.run(config, folder, quiet=True)
    return folder


@pytest.fixture
def made(workdir, monkeypatch):
    (name,) = (path.name for path in (workdir / "runs").iterdir())
    rows = [
        {
            "run": name,
            "num_params": size,
            "rho": rho,
            "seed": seed,
            "test_metric": 0.8 + gain + 0.001 * seed,
            "seconds": 60.0,
        }
        for size in SIZES.values()
        for rho, gain in ((0.0, 0.0), (0.05, 0.01), (0.1, 0.05), (0.2, 0.02))
        for seed in range(3)
    ]
    runs = convert.from_columns(pd.DataFrame(rows), metric_name="accuracy")
    monkeypatch.setattr("flatwide.runs.table.collect", lambda folder: runs)
    return workdir


def test_it_advises_for_a_width_of_the_family(made, capsys):
    assert cli.main(["advise", str(made), "--at=num_neurons=(64,)"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "at 4,810 parameters: rho 0.1 (95 % interval 0.0707 to 0.141), carried over from the nearest trained width"
    )
    assert "Gain of SAM: +5.00 points (95 % interval +5.00 to +5.00) at 1,210 parameters" in printed
    (advised,) = flatwide.advise_rho(made, num_neurons=(64,))
    assert advised.num_params == 4_810
    assert [(value.field, value.value) for value in advised.values] == [("rho", 0.1)]
    assert flatwide.advise_rho(made, num_params=4_810) == [advised]
    with pytest.raises(ConfigError, match=r"^width='num_param' is not known. Did you mean 'num_params'\?"):
        flatwide.advise_rho(made, num_param=4_810)


def test_a_refusal_says_what_to_train_instead(made, capsys):
    assert cli.main(["advise", str(made), "--at=num_neurons=(3000,1000)"]) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.count("\n") == 1
    assert errors.startswith("no advice for 3,206,010 parameters: ")
    assert "Train rho 0, 0.02, 0.05, 0.1, 0.2, 0.5 with 3 seeds each at this width instead: 18 runs, about " in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a work directory, and a width with --at"),
        (["--at=num_neurons"], "--at='num_neurons': expected FIELD=VALUE"),
        (["--at=num_neuron=(3,)"], "Did you mean 'num_neurons'"),
        (["--at=num_params=0"], "num_params=0: expected an integer >= 1"),
        (["--at=num_params=9", "--at=num_neurons=(3,)"], "width='num_params' is not known"),
        (["--at=num_filters=3"], "MLP does not read it, so its size stays the same"),
        (["--at=num_neurons=wide"], "config.num_neurons='wide': expected"),
    ],
)
def test_bad_input_is_named(made, capsys, arguments, message):
    assert cli.main(["advise", str(made), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_runs(tmp_path, capsys):
    assert cli.main(["advise", str(tmp_path), "--at=num_neurons=(64,)"]) == 2
    assert "expected a work directory with runs that are done" in capsys.readouterr().err
    assert cli.main(["advise", str(tmp_path / "nowhere"), "--at=num_neurons=(64,)"]) == 2
    assert "there is no such folder" in capsys.readouterr().err
