"""A study that steers itself, trained."""

import pytest

import flatwide
from flatwide import cli, decide, runner
from flatwide.study import command, inventory, plan

AXES = {"num_neurons": ((4,), (16,)), "rho": (0.0, 0.02, 0.1, 0.5), "seed": (3,)}
STUDY = {
    "num_epochs": 1,
    "batch_size": 256,
    "learning_rate": 0.05,
    "optimizer": "sam",
    "model": "MLP",
    "dataset": "digits",
    "study": {"axes": AXES, "decide": "gain", "decide_runs": 40},
}


class Killed(Exception):
    """The command was killed."""


@pytest.fixture
def train_here(monkeypatch):
    """Train the runs of a stage in this process; end without warning after `most` of them, in reverse where told."""

    def make(*, most=10**6, in_reverse=False):
        left = most

        def run(values, workdir, *, on_start, refresh):
            nonlocal left
            planned = plan.expand(values)
            on_start()
            to_do = inventory.take(planned, workdir).to_do()
            for state in reversed(to_do) if in_reverse else to_do:
                if left == 0:
                    raise Killed
                left -= 1
                runner.run(state.run.config, workdir, quiet=True)
            refresh(len(planned.runs), True)
            return command.Summary(len(planned.runs), len(planned.runs), 0, 0, 0)

        monkeypatch.setattr(command, "run", run)

    return make


def test_a_killed_study_goes_on_and_a_larger_budget_continues_it(train_here, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    train_here()
    summary = decide.run(STUDY, one)
    train_here(most=11, in_reverse=True)
    with pytest.raises(Killed):
        decide.run(STUDY, other)
    assert "no look has been reached" in (other / "decisions.csv").read_text()
    less = {**STUDY, "study": {**STUDY["study"], "decide_runs": 30}}
    train_here(most=9, in_reverse=True)
    with pytest.raises(Killed):
        decide.run(less, other)
    train_here()
    assert decide.run(less, other).num_runs <= 30
    assert "the budget of 30 runs is spent" in (other / "decisions.csv").read_text()
    assert decide.run(STUDY, other) == summary
    assert (other / "decisions.csv").read_bytes() == (one / "decisions.csv").read_bytes()
    assert {path.name for path in (other / "runs").iterdir()} == {path.name for path in (one / "runs").iterdir()}
    assert set(flatwide.load(one)["seed"]) == set(range(3, 3 + flatwide.load(one)["seed"].nunique()))
    text = flatwide.answer(one)
    assert text.startswith(("Decided: ", "Undecided "))
    page = flatwide.write_report(one, formats=(), quiet=True).read_text()
    assert text.split(":")[0] in page
    assert "joint 95 %" not in page.partition('id="answer"')[2].partition("</section>")[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["decide=gian"], "config.study.decide='gian' is not known. Did you mean 'gain'? Known: both, gain, growth."),
        (["decide_runs=20"], "config.study.decide_runs=20: expected 52 or more, the runs of a screen and a look."),
        (["axes.num_neurons=((4,),)"], "config.study.decide='growth': growth needs two widths or more"),
        (["axes.rho=(0.1,0.2)"], "expected an axis rho with 0, the base, and one or more radii, such as"),
        (["axes.rho=(0.0,)"], "expected an axis rho with 0, the base, and one or more radii, such as"),
        (["axes.label_noise=(0.0,0.5)"], "the axis label_noise has several values; expected one, or label_noise in"),
        (["points=({'batch_size':32},)"], "config.study.decide='growth': expected axes alone, without points."),
        (["decide_error=1.5"], "config.study.decide_error=1.5: expected a fraction in (0, 1)"),
        (["decide_minutes=0"], "config.study.decide_minutes=0"),
    ],
)
def test_bad_input_is_one_line(flags, message, tmp_path, capsys):
    axes = [f"--config.study.axes.{name}={str(values).replace(' ', '')}" for name, values in AXES.items()]
    steering = ["--config.study.decide=growth", *(f"--config.study.{flag}" for flag in flags)]
    assert cli.main([f"--workdir={tmp_path / 'W'}", "--config=digits_mlp", *axes, *steering]) == cli.BAD_INPUT
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "W").exists() or not any((tmp_path / "W").iterdir())


def test_a_dry_run_says_the_least_the_expected_and_the_most_runs(tmp_path):
    text = decide.dry_run(STUDY, tmp_path)
    assert "decides: gain, error rate 0.05 over all looks\nruns: 26 at least, 40 at most; in simulated studies " in text
    assert "study of 6 runs: 0 done, 6 to do" in text
