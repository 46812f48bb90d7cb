"""Parameters, optimizer state and perturbation in parts on four devices: the numbers of whole copies on each."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from flatwide import config as configs
from flatwide.runs import checkpoints, disk, driver, orbax_files
from flatwide.runs.directory import RunDirectory
from flatwide.training import devices

HERE = Path(__file__).parent
FIELDS = {"num_neurons": [256, 64], "batch_size": 64, "num_epochs": 3, "rho": 0.1, "checkpoint_every_seconds": 0.0}


def on_devices(program: str, *arguments: object, num_devices: int = 4) -> dict:
    """Run a program with some simulated devices, in float64, and read what it printed."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(num_devices), "JAX_ENABLE_X64": "1"}
    command = [sys.executable, HERE / program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_rule_splits_the_largest_axis_that_the_devices_divide():
    assert devices.split_axis((300, 256), 4) == 0
    assert devices.split_axis((302, 256), 4) == 1
    assert devices.split_axis((256, 256), 4) == 1
    assert devices.split_axis((3, 3, 64, 128), 8) == 3
    assert devices.split_axis((128, 127), 4) is None  # fewer than 2^14 entries
    assert devices.split_axis((129, 127), 4) is None  # no axis divides
    assert devices.split_axis((256, 256), 1) is None
    assert devices.split_axis((), 4) is None


def test_a_sharded_state_has_the_numbers_of_a_replicated_one_and_comes_back_from_its_checkpoint(tmp_path):
    report = on_devices("sharded_state.py", tmp_path)
    assert report["initial_difference"] == 0
    assert report["difference"] < 1e-15
    assert report["splits"] == {
        "hidden_0/bias": [],
        "hidden_0/kernel": ["None", "data"],
        "hidden_1/bias": [],
        "hidden_1/kernel": ["data"],
        "output/bias": [],
        "output/kernel": [],
    }
    sharded, replicated = report["sharded"], report["replicated"]
    assert sharded["bytes"] < 0.3 * replicated["bytes"]
    # Each of the two large kernels at least once a pass; rows of a small batch may travel instead.
    assert 4 <= sharded["collectives"]["all-gather"] <= 8
    assert replicated["collectives"]["all-gather"] == 0
    assert sharded["temporary_bytes"] < replicated["temporary_bytes"]
    assert sharded["flops"] < 1.05 * replicated["flops"]  # of a device
    # Each device takes four microbatches by itself; their gradients and losses are added up once.
    assert report["whole microbatches"]["all-gather"] == report["whole microbatches"]["all-to-all"] == 0
    assert report["whole microbatches"]["all-reduce"] <= len(report["splits"]) + 1
    warnings = report["device_warnings"]
    assert warnings["whole microbatches"] == warnings["rows"] == ""
    rows = "config.microbatch=2, config.batch_size=64: 2 examples at a time, expected a multiple of the 4 devices. Each"
    assert warnings["sharded"].startswith(rows)
    assert warnings["rule with a state"].startswith(rows)
    described = {name: text.split("\n") for name, text in report["descriptions"].items()}
    assert "devices: 4; each takes 8 of the 32 microbatches, with all parameters" in described["whole microbatches"]
    assert (
        "devices: 4; each takes 4 of the 16 examples of a microbatch, with 0.27 of the parameters" in described["rows"]
    )
    assert "devices: 4; each does all the work, with all parameters" in described["rule with a state"]
    for name, lines in described.items():
        assert [line for line in lines if line.startswith("warning")] == [
            f"warning: {text}" for text in [warnings[name]] if text
        ]
    assert f"\nwarning: {warnings['sharded']}\n" in report["study"]
    assert report["study"].count("warning: config.microbatch") == 1
    assert re.search(r"\nexpected memory: up to .* of each of 4 devices, at width \(256, 64\)\n", report["study"])
    for kind in (sharded, replicated):
        # The data, which each device holds too, are a fifth of it.
        assert 0.8 < kind["expected_bytes"] / (kind["bytes"] + kind["temporary_bytes"]) < 2
    assert (report["name"], report["extra"]) == ("step_00000003.orbax", {"rows": 1})
    assert report["read_whole"] == report["read_on_two"] == report["read_in_parts"] == 0
    assert report["on_two"]
    assert report["bytes_read"] == sharded["bytes"]
    assert report["kept"] == ["step_00000004.orbax", "step_00000005.orbax"]
    assert (report["fell_back_to"], report["saved_again"]) == (4, 5)
    assert report["at_the_end"] == report["kept"]
    (warning,) = report["warnings"]
    assert "step_00000005.orbax: the checkpoint is damaged: d/" in warning


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    """A limit on the size of files has the same way through TensorStore as a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    array = jax.numpy.asarray(np.random.default_rng(0).random(1 << 16))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            orbax_files.write(tmp_path / "state.orbax", {"params": array}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert disk.is_full(raised.value)
    assert raised.value.filename == str(tmp_path / "state.orbax")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"group_size": 4},
            "config.shard_parameters=True with config.group_size=4: a group trains many small networks",
        ),
        ({"shard_parameters": 1}, "config.shard_parameters=1: expected true or false"),
    ],
)
def test_what_means_nothing_is_refused(fields, fault):
    with pytest.raises(configs.ConfigError, match=fault):
        configs.resolve({"shard_parameters": True} | fields)


def test_games_on_the_host_are_refused():
    fields = {"model": "ActorCritic", "dataset": "atari_breakout", "loss": "ppo", "shard_parameters": True}
    with pytest.raises(configs.ConfigError, match="games are played between the steps, one action"):
        driver._build(configs.resolve(fields))


def test_the_choice_is_not_part_of_a_runs_identity():
    identities = [
        configs.identity(configs.resolve({"shard_parameters": choice}), irrelevant=set(), extra={})
        for choice in (False, True)
    ]
    assert identities[0] == identities[1]


def train(workdir: Path, *, num_devices: int, num_segments: int = 1000, **fields) -> RunDirectory:
    on_devices("train_part.py", workdir, json.dumps(FIELDS | fields), num_segments, num_devices=num_devices)
    (path,) = (workdir / "runs").iterdir()
    return RunDirectory(path)


def final_arrays(directory: RunDirectory) -> dict[str, np.ndarray]:
    """Read the last state of a run, whether a file or a directory."""
    path = checkpoints.existing(directory.checkpoints / checkpoints.FINAL)
    assert path is not None
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files if name != "metadata.json"}
    names = orbax_files.read_metadata(path)["leaves"]
    return orbax_files.read(path, dict.fromkeys(names, jax.ShapeDtypeStruct((), float)), is_local=True)


def assert_same_results(first: RunDirectory, second: RunDirectory) -> None:
    """Compare all numbers of two finished runs to twelve digits."""
    assert first.name == second.name
    arrays = [final_arrays(run) for run in (first, second)]
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        np.testing.assert_allclose(array, arrays[1][name], rtol=0, atol=1e-12, err_msg=name)
    tables = [np.array([list(row.values()) for row in run.read_metrics()], float) for run in (first, second)]
    np.testing.assert_allclose(*tables, rtol=0, atol=1e-12)
    for name in (path.name for path in second.path.glob("measurements/*.json")):
        values = [json.loads((run.path / "measurements" / name).read_text())["values"] for run in (first, second)]
        # The gaps depend on the product at which a search stops, which rounding can move by one.
        numbers = [[number for key, number in each.items() if "gap" not in key] for each in values]
        np.testing.assert_allclose(*numbers, rtol=1e-9, err_msg=name)


@pytest.mark.slow
def test_a_sharded_run_goes_on_with_another_number_of_devices_and_is_measured(tmp_path):
    sharded = {"shard_parameters": True, "measure_epochs": (1,)}
    measured = {"measurements": ("curvature",), "measure_epochs": (1,), "measure_examples": 64}
    expected = train(tmp_path / "replicated", num_devices=1, **measured)
    stopped = train(tmp_path / "stopped", num_devices=4, num_segments=6, **sharded)
    assert list(stopped.path.glob("snapshots/epoch-1.orbax"))
    assert list(stopped.path.glob("checkpoints/step_*.orbax"))
    assert not list(stopped.path.glob("*/*.npz"))
    for num_devices, asked in ((4, measured), (2, {}), (1, {})):
        workdir = tmp_path / f"on{num_devices}"
        shutil.copytree(tmp_path / "stopped", workdir)
        resumed = train(workdir, num_devices=num_devices, **sharded | asked)
        assert len(list(resumed.path.glob("measurements/*.json"))) == 2 * len(asked.get("measurements", ()))
        assert_same_results(expected, resumed)
    started = train(tmp_path / "grown", num_devices=1, num_segments=2, **sharded)
    assert list(started.path.glob("checkpoints/step_*.npz"))
    assert_same_results(expected, train(tmp_path / "grown", num_devices=4, **sharded))


WORKLOADS = {
    "pruned by gradients": {"sparsity": 0.5, "pruner": "snip", "base_optimizer": "adam"},
    "memory of a rule": {"sam_variant": "friendly", "microbatch": 16, "weight_average": "ema"},
    "batch norm": {"model": "ResNet18", "num_filters": 48, "num_blocks": (1,)},
    "scanned blocks": {"model": "ViT", "hidden_size": 128, "num_layers": 2},
    "linearized": {"linearized": True, "sam_variant": "gsam", "accumulation_steps": 2},
    "graphs": {"model": "GCN", "dataset": "made_molecules", "loss": "binary_cross_entropy", "hidden_size": 128}
    | {"num_layers": 2, "train_examples": 120, "batch_size": 12, "learning_rate": 0.01},
}


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
def test_sharded_runs_of_any_kind_give_the_numbers_of_one_device(workload, tmp_path):
    fields = {"num_epochs": 1, "train_examples": 200, "checkpoint_every_seconds": 60.0} | WORKLOADS[workload]
    alone = train(tmp_path / "alone", num_devices=1, **fields)
    sharded = train(tmp_path / "sharded", num_devices=4, shard_parameters=True, **fields)
    assert checkpoints.existing(sharded.checkpoints / checkpoints.FINAL).suffix == ".orbax"
    assert_same_results(alone, sharded)
