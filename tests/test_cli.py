"""The command: flags in, exit code out, and never a traceback for bad input."""

import json
import re
import subprocess
import sys

import jax
import pytest

from flatwide import cli, runner
from flatwide import config as configs
from flatwide.runs import commands, memory, preview
from flatwide.study import command as study_command


def command(capsys, *arguments):
    code = cli.main(list(arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def config(root):
    return f"--config={root}/configs/digits_mlp.py"


def test_trains_and_says_how_it_ended(capsys, tmp_path, config):
    short = ["--config.num_neurons=4", "--config.num_epochs=2"]
    code, out, _ = command(capsys, f"--workdir={tmp_path}", config, *short)
    assert code == 0
    assert out.startswith("finished: test_accuracy ")
    (directory,) = (tmp_path / "runs").iterdir()
    assert directory.name.startswith("digits-MLP4-rho0.1-seed0-")
    assert json.loads((directory / "config.json").read_text())["num_neurons"] == [4]
    for name in ("result.json", "metrics.csv", "curves.svg", "curves.csv"):
        assert (directory / name).is_file(), name
    assert (tmp_path / "results.csv").read_text().count("\n") == 2
    paths = [*(tmp_path / "commands").iterdir()]
    (stored,) = commands.read(tmp_path)
    assert stored.arguments == (f"--workdir={tmp_path}", config, *short)
    assert f"--config={stored.config_path}" == config
    (tmp_path / "again.py").write_text(stored.config_text)
    code, _, errors = command(capsys, f"--workdir={tmp_path}", config, *short)
    assert [*(tmp_path / "commands").iterdir()] == paths
    again = command(capsys, stored.arguments[0], f"--config={tmp_path}/again.py", *stored.arguments[2:])
    assert "already done" in again[2]
    assert len([*(tmp_path / "runs").iterdir()]) == 1
    assert code == 0
    assert "already done" in errors


def test_a_diverged_run_exits_with_zero_and_one_clear_line(capsys, tmp_path, config):
    code, out, _ = command(capsys, f"--workdir={tmp_path}", config, "--config.learning_rate=1e30")
    assert code == 0
    assert out.startswith("diverged: the loss was not finite at step ")
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.rho=-1"], "config.rho=-1.0: expected"),
        (["--config.sed=1"], "Did you mean 'seed'?"),
        (["--config.seed=1.5"], "config.seed='1.5': expected an integer"),
        (["--workdri=x"], "'--workdri=x' is not a flag"),
        (["--config.batch_size=100000"], "config.batch_size=100000: expected at most the 1442 training examples"),
        (["--config.warmup_steps=100000"], "config.warmup_steps=100000: expected fewer than the 2760 steps"),
        (["--config.dataset=mnist", "--config.data_dir=/nowhere"], "there is no such folder"),
        (["--config.train_examples=100000"], "train_examples"),
        (
            ["--config.pruner=snip", "--config.sparsity=0.5", "--config.snip_batches=1000000"],
            "config.snip_batches=1000000: expected at most the 46 batches of an epoch",
        ),
        (["--config.sam_variant=layerwise"], "layer_scales"),
        (["--config.sam_variant=layerwise", "--config.layer_scales=nothing=1"], "pattern 'nothing' decides no leaf"),
    ],
)
def test_bad_input_exits_with_two(capsys, tmp_path, config, arguments, message):
    code, out, errors = command(capsys, f"--workdir={tmp_path}", config, *arguments)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert out == ""
    assert not list(tmp_path.glob("runs/*")) + list(tmp_path.glob("commands/*"))


def test_a_network_that_no_memory_holds_exits_with_one_line(capsys, tmp_path, config):
    code, out, errors = command(capsys, f"--workdir={tmp_path}", config, "--config.num_neurons=(4_000_000_000,)")
    assert (code, out) == (1, "")
    assert errors.startswith("out of memory: the network and its optimizer need 3,")
    assert errors.endswith("make config.num_neurons=(4000000000,) or config.batch_size=32 smaller.\n")
    assert errors.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_memory_that_runs_out_later_is_told_in_one_line(capsys, tmp_path, config, monkeypatch):
    def exhausted(*args, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 256 bytes.")

    monkeypatch.setattr(runner, "run", exhausted)
    code, _, errors = command(capsys, f"--workdir={tmp_path}", config)
    assert code == 1
    assert errors == (
        "out of memory (RESOURCE_EXHAUSTED: Out of memory allocating 256 bytes.); make config.num_neurons=(128,) or "
        "config.batch_size=32 smaller.\n"
    )


def test_a_study_that_is_none_exits_with_two(capsys, tmp_path):
    (tmp_path / "study.py").write_text("def get_config():\n    return {'study': 5}")
    code, _, errors = command(capsys, f"--workdir={tmp_path}/w", f"--config={tmp_path}/study.py")
    assert code == 2
    assert errors == "config.study=5: expected fields such as axes.\n"


def test_missing_flags_are_named(capsys):
    code, _, errors = command(capsys)
    assert code == 2
    assert "main.py coordinate_check --config=F" in errors  # alone, it lists its commands
    code, _, errors = command(capsys, "--dry_run")
    assert code == 2
    assert "--workdir is missing" in errors
    assert "--config is missing" in errors


def test_a_missing_config_file_is_named(capsys, tmp_path):
    code, _, errors = command(capsys, f"--workdir={tmp_path}", "--config=configs/nowhere.py")
    assert code == 2
    assert "there is no file 'configs/nowhere.py'" in errors


def test_a_workdir_that_cannot_be_made_is_named(capsys, tmp_path, config):
    (tmp_path / "file").write_text("")
    code, _, errors = command(capsys, f"--workdir={tmp_path}/file", config)
    assert code == 2
    assert f"--workdir='{tmp_path}/file': expected a folder" in errors


def test_output_may_be_cut_short(root):
    piped = f"{sys.executable} {root}/main.py --help | head -1"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_help_lists_every_field(capsys):
    from flatwide.config import SCHEMA

    code, out, _ = command(capsys, "--help")
    assert code == 0
    assert all(f"--config.{name}=" in out for name in SCHEMA)


def test_dry_run_trains_nothing(root, tmp_path, config):
    # In a process of its own, since the estimate of the time clears JAX's caches.
    flags = [f"--workdir={tmp_path}", config, "--dry_run", "--config.num_neurons=(16,8)"]
    done = subprocess.run([sys.executable, str(root / "main.py"), *flags], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "parameters: 1,266" in out  # 65 * 16 + 17 * 8 + 9 * 10
    assert "steps: 2,760 (46 per epoch, 60 epochs)" in out
    assert "gradients per step: 2 (SAM)" in out
    assert "data: digits, 1,442 training and 355 test examples\nmodel: MLP, num_neurons=(16, 8)\n" in out
    assert "optimizer: sgd, learning_rate=0.05, momentum=0.9" in out
    assert "rule: SAM, normalized, rho=0.1\n" in out
    changed = "batch_size=32, learning_rate=0.05, num_epochs=60, num_neurons=(16, 8), rho=0.1"
    assert f"not at their defaults: {changed}\n" in out
    assert f"run directory: {tmp_path}/runs/digits-MLP16x8-rho0.1-seed0-" in out
    assert re.search(r"estimated time: about \d+s, from some of its steps; \d+s of it for compiling", out)
    assert out.count("\n") < 15
    assert "timing some steps; compiling them may take a minute\n" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("mnist_mlp", "266,610"), ("cifar10_resnet18", "11,173,962"), ("imagenet_resnet50", "25,557,032")],
)
def test_a_description_needs_no_data(root, name, parameters):
    config = configs.resolve(configs.load_file(f"{root}/configs/{name}.py"))
    assert f"parameters: {parameters}" in preview.describe(preview.assemble(config))


COMMANDS = ("", "measure", "coordinate_check", "advise", "compare", "configs", "diagnose", "report")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_its_arguments_defaults_and_an_example(capsys, name):
    code, out, _ = command(capsys, *name.split(), "--help")
    assert code == 0
    assert f"usage: python main.py {name}".strip() in out
    example = out.partition("\nexample:\n  ")[2].partition("\n")[0]
    assert example.startswith(f"python main.py {name}".strip())
    usage, _, arguments = out.partition("options:\n")
    for flag in set(re.findall(r"\[?(--[a-z_]+)", usage.partition("usage:")[2].partition("\n\n")[0])) - {"--config"}:
        text = re.search(rf"(?m)^  {flag}[ ,](?:[^-]|-(?!-))*", arguments)
        assert text, f"{flag} is not described"
        assert "required" in text[0] or "default" in text[0] or " N" not in text[0], text[0]


def test_axes_on_the_command_line_turn_a_config_into_a_study(capsys, tmp_path, config):
    axes = ["--config.study.axes.rho=(0,0.05,0.1)", "--config.study.axes.seed=range(3)"]
    code, out, _ = command(capsys, f"--workdir={tmp_path}", config, *axes, "--dry_run")
    assert code == 0
    assert out.startswith("study of 9 runs: 0 done, 9 to do\naxes: rho (3) × seed (3)\n")
    assert re.search(r"\nexpected memory: up to [\d.]+ [KM]iB, at width \(128,\)\n", out)


@pytest.mark.parametrize(("field", "values"), [("rho", (0.0, 0.1)), ("weight_average", ("none", "ema"))])
def test_the_expected_memory_of_a_study_is_that_of_its_most_demanding_run(tmp_path, field, values):
    fields = {"num_neurons": 1000, "rho": 0.0, "batch_size": 2}
    study = {"axes": {field: values, "num_neurons": (10, 1000)}}
    most = preview.readable(max(bytes_of(fields | {field: each}) for each in values))
    text = study_command.dry_run({**fields, "study": study}, tmp_path)
    assert f"\nexpected memory: up to {most}, at width (1000,)\n" in text


def bytes_of(fields):
    return memory.of_program(preview.assemble(configs.resolve(fields)))


@pytest.mark.optimized
def test_the_memory_of_a_program_is_that_of_its_arrays():
    params = 64 * 1000 + 1000 * 10 + 1010
    fields = {"num_neurons": 1000, "rho": 0.1, "batch_size": 2, "momentum": 0.9}
    copies = 4  # weights, perturbed weights, gradient, momentum
    data = 1797 * (64 + 4)  # bytes of an image and of a label
    for each in (fields, fields | {"weight_average": "ema", "rho": 0.0}):
        assert 1 < bytes_of(each) / (copies * params * 4 + data) < 2  # the compiler copies some of them
    of_two, of_four = (bytes_of(fields | {"group_size": size}) - data for size in (2, 4))
    assert of_four == pytest.approx(2 * of_two, rel=0.05)
    one_device = preview.assemble(configs.resolve({**fields, "shard_parameters": True}))
    assert "devices: 1, so config.shard_parameters=True changes nothing\n" in preview.describe(one_device)


def test_a_description_has_the_exact_nonzero_parameters():
    text = preview.describe(preview.assemble(configs.resolve({"num_neurons": 8, "pruner": "snip", "sparsity": 0.9})))
    kernels, biases = 64 * 8 + 8 * 10, 18
    assert f"nonzero parameters: {round(0.1 * kernels) + biases:,} (snip)" in text


def test_dry_run_with_missing_data_says_what_is_missing(capsys, tmp_path, root):
    flags = [
        f"--workdir={tmp_path}",
        f"--config={root}/configs/mnist_mlp.py",
        "--config.data_dir=/nowhere",
        "--dry_run",
    ]
    code, out, errors = command(capsys, *flags)
    assert code == 2
    assert "parameters: 266,610" in out
    assert "/nowhere" in errors


def test_main_py_and_the_installed_command_are_the_same(root):
    done = subprocess.run(
        [sys.executable, str(root / "main.py"), "configs"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="flatwide")
    assert script.value == "flatwide.cli:entry_point"


def test_an_original_config_file_trains(capsys, tmp_path):
    """The fields and forms of the research code's own files: a list of neurons, -1 for derived, no base_optimizer."""
    path = tmp_path / "original.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config():\n"
        "    config = ml_collections.ConfigDict()\n"
        "    config.model, config.dataset, config.num_neurons = 'MLP', 'digits', [6, 5]\n"
        "    config.lr_scheduler, config.learning_rate, config.momentum = 'step_mnist', 0.1, 0.9\n"
        "    config.batch_size, config.weight_decay, config.num_epochs, config.log_every_steps = 128, 1e-4, 1, 100\n"
        "    config.cache, config.half_precision, config.optimizer, config.rho = False, False, 'sam', 0.05\n"
        "    config.seed, config.pruner, config.sparsity, config.restore_checkpoint = 1, 'random', 0.0, False\n"
        "    config.num_train_steps = config.steps_per_eval = -1\n"
        "    return config\n"
    )
    code, out, _ = command(capsys, f"--workdir={tmp_path}/w", f"--config={path}", "--config.label_noise=0.1")
    assert code == 0
    assert out.startswith("finished")
