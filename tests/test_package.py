"""The package from outside: what `import flatwide` offers, and what a wheel and an sdist hold."""

import io
import json
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest

import flatwide
from flatwide.config import ConfigError, load_file, shipped
from flatwide.runs.logs import StatusLine


def test_names_are_those_listed_and_resolve():
    assert {*flatwide.__all__, "__version__"} == set(dir(flatwide))
    assert flatwide.__version__ == metadata.version("flatwide")
    for name in flatwide.__all__:
        assert getattr(flatwide, name) is not None, name
    assert flatwide.sam.value_and_grad is not None
    with pytest.raises(AttributeError, match=r"no attribute 'rnu'; it has advise_rho, analysis"):
        flatwide.rnu  # noqa: B018


def test_importing_it_starts_no_jax():
    check = "import sys, flatwide; dir(flatwide); flatwide.config; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_config_is_named_as_on_the_command_line(root, tmp_path):
    fields = {"num_neurons": (2,), "num_epochs": 1}
    (tmp_path / "small.py").write_text(f"def get_config(name=''):\n    return {fields} | {{'seed': len(name)}}\n")
    result = flatwide.run(f"{tmp_path}/small.py:ab", tmp_path / "named", quiet=True)
    assert result["num_params"] == 160
    assert flatwide.load(tmp_path / "named")["seed"].tolist() == [2]
    built = flatwide.experiment.build(root / "configs" / "digits_mlp.py")
    assert built.config == flatwide.experiment.build("digits_mlp").config
    with pytest.raises(ConfigError, match=r"'digits_mpl' is not known. Did you mean 'digits_mlp'\?"):
        flatwide.run("digits_mpl", tmp_path)
    with pytest.raises(ConfigError, match=r"config=3: expected fields such as \{'rho': 0.05\}, or the name of"):
        flatwide.run(3, tmp_path)
    with pytest.raises(ConfigError, match=r"expected a single run here; train a study with flatwide.run_study"):
        flatwide.run("studies/digits_width", tmp_path)
    with pytest.raises(ConfigError, match=r"config.study: expected axes, points or parts"):
        flatwide.run_study("digits_mlp", tmp_path / "study", quiet=True)


@pytest.mark.parametrize(
    "function",
    [flatwide.answer, flatwide.load, flatwide.load_measurements, flatwide.draw_figures, flatwide.write_report],
)
def test_a_missing_folder_is_an_error(tmp_path, function):
    with pytest.raises(FileNotFoundError, match=r"nowhere': there is no such folder; expected a work directory"):
        function(tmp_path / "nowhere")


def test_a_study_from_python_and_its_report(tmp_path, capfd):
    config = {
        "num_neurons": (2,),
        "num_epochs": 1,
        "lr_scheduler": "constant",
        "study": {"axes": {"rho": (0.0, 0.1)}, "workers": 1},
    }
    table = flatwide.run_study(config, tmp_path, quiet=True)
    assert capfd.readouterr() == ("", "")
    assert table["status"].tolist() == ["finished", "finished"]
    assert sorted(table["rho"]) == [0.0, 0.1]
    varying = flatwide.load(tmp_path, varying=True)
    assert {"run", "rho", "test_loss"} <= set(varying)
    assert {"num_neurons", "seed", "num_params", "sam_variant"}.isdisjoint(varying)
    assert flatwide.write_report(tmp_path, quiet=True) == tmp_path / "report.html"
    assert capfd.readouterr() == ("", "")
    answered = flatwide.answer(tmp_path)
    assert answered.startswith("With one seed, SAM differs from SGD by ")
    flatwide.write_report(tmp_path, formats=("json",))
    assert "160" in capfd.readouterr().err  # the number of parameters, in the table of the headlines
    content = json.loads((tmp_path / "figures" / "answer.json").read_text())
    assert content["answer"][0]["text"] == answered
    assert content["metric"] == "test_metric"
    assert {row["row"] for row in content["summary"]} == {"seeds", "width"}
    flatwide.run_study(config, tmp_path)  # it is done, so this only shows the answer
    assert answered in capfd.readouterr().err
    trained = flatwide.load_run(tmp_path / "runs" / table["run"][0])
    assert repr(trained).endswith("seed=0; 160 parameters in 4 arrays)")
    broken = config | {"num_neurons": (3,), "model": f"{tmp_path}/mine.py:model"}
    (tmp_path / "mine.py").write_text("def model(example, num_outputs):\n    raise ArithmeticError('mine')\n")
    with pytest.raises(ArithmeticError, match="mine"):
        flatwide.run_study(broken, tmp_path / "broken", quiet=True)


def test_a_notebook_redraws_the_line_of_progress(monkeypatch):
    kernel = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    assert not flatwide._in_notebook()
    monkeypatch.setattr(sys, "stderr", kernel)
    assert flatwide._in_notebook()
    line = StatusLine(flatwide._NotebookErrors())
    line.show("runs 0/2")
    line.show("runs 1/2")
    assert kernel.getvalue().count("\r") == 2
    assert "\n" not in kernel.getvalue()


def test_a_config_that_ships_is_read_by_its_name(root):
    assert load_file("digits_mlp") == load_file(f"{root}/configs/digits_mlp.py")
    named, file = load_file("studies/sst2_width:labelled_text"), f"{root}/configs/studies/sst2_width.py:labelled_text"
    assert named == load_file(file)
    with pytest.raises(ConfigError, match=r"'studies/sst2_widht' is not known. Did you mean 'studies/sst2_width'\?"):
        load_file("studies/sst2_widht")
    lines = shipped.listing().splitlines()
    assert len(lines) == len(list((root / "configs").rglob("*.py")))
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


@pytest.mark.slow
def test_wheel_and_sdist_hold_package_and_configs(root, tmp_path):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path / "dist")], cwd=root, check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    assert sdist.stat().st_size < 20e6
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "flatwide" / "py.typed").is_file()  # else type checkers ignore the annotations
    run = "import sys; sys.path.insert(0, 'site'); from flatwide import cli; sys.exit(cli.main(sys.argv[1:]))"
    arguments = ["--workdir=w", "--config=digits_mlp", "--config.num_neurons=2", "--config.num_epochs=1"]
    subprocess.run([sys.executable, "-c", run, *arguments], cwd=tmp_path, check=True)
    assert (tmp_path / "w" / "results.csv").is_file()
    listed = subprocess.run([sys.executable, "-c", run, "configs"], cwd=tmp_path, check=True, capture_output=True)
    assert listed.stdout.decode() == f"{shipped.listing()}\n"
