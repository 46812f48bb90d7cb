"""The group that fits into the memory of a device, by the compiled program: chosen, told, and kept."""

import pytest

from flatwide import config as configs
from flatwide import machine
from flatwide.runs import memory, preview
from flatwide.runs.directory import run_directories
from flatwide.study import command, plan, sizing

FIELDS = {"num_neurons": (8,), "num_epochs": 1, "batch_size": 64, "train_examples": 128, "rho": 0.1}
STUDY = {"axes": {"seed": tuple(range(8))}, "workers": 1, "group_size": "auto"}


@pytest.fixture(scope="module")
def needed():
    """Return the bytes of the programs of groups, by their size."""
    each = (configs.resolve(FIELDS | {"group_size": size}) for size in (1, 2, 4, 8))
    return {config["group_size"]: memory.of_program(preview.assemble(config)) for config in each}


@pytest.mark.parametrize(("limit", "missing", "expected"), [(8, 0, 8), (8, 1, 4), (4, 0, 4), (4, 1, 2), (1, 1, 1)])
def test_the_largest_group_that_fits_is_taken(needed, monkeypatch, limit, missing, expected):
    monkeypatch.setattr(machine, "free_memory", lambda: needed[limit] - missing)
    (fit,) = sizing.fits([(configs.resolve(FIELDS), 8)], {})
    assert (fit.group_size, fit.num_bytes, fit.free) == (expected, needed[expected], needed[limit] - missing)
    if expected < 8:
        assert fit.larger[0] > expected
        assert fit.larger[1] == needed[fit.larger[0]] > fit.free
    (shared,) = sizing.fits([(configs.resolve(FIELDS), 8)], {}, workers=8)
    assert shared.group_size == max([size for size in needed if needed[size] <= fit.free // 8], default=1)


def test_a_study_says_why_trains_in_that_group_and_keeps_it(needed, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "free_memory", lambda: needed[8] - 1)
    text = command.dry_run(FIELDS | {"study": STUDY}, tmp_path)
    sizes = [preview.readable(number) for number in (needed[4], needed[8] - 1, needed[8])]
    assert "\ngroup_size=4 of 8 runs at width (8,), SAM: needs {} of {} that a worker has free; ".format(*sizes) in text
    assert f"; 8 would need {sizes[2]}\n" in text
    done = command.run(FIELDS | {"study": STUDY | {"axes": {"seed": (0, 1, 2, 3)}}}, tmp_path)
    assert done.num_done == 4
    assert {run.read_config()["group_size"] for run in run_directories(tmp_path)} == {4}
    monkeypatch.setattr(machine, "free_memory", lambda: 2 * needed[8])
    text = command.dry_run(FIELDS | {"study": STUDY}, tmp_path)
    assert "study of 8 runs: 4 done, 4 to do" in text
    assert "group_size=4 of 8 runs at width (8,), SAM: as in the work directory" in text
    two = STUDY | {"axes": {"seed": tuple(range(10, 14))}, "workers": 2}
    text = command.dry_run(FIELDS | {"study": two}, tmp_path / "other")
    assert "group_size=2 of 4 runs" in text
    assert "; more would leave a worker without runs\n" in text


def test_runs_that_cannot_share_a_program_stay_alone(tmp_path):
    text = command.dry_run(FIELDS | {"steps_per_eval": 1, "study": STUDY}, tmp_path)
    assert "group_size=1 of 8 runs" in text
    assert "its epochs cannot be trained in one program" in text


@pytest.mark.parametrize(
    ("fields", "study", "message"),
    [
        ({}, {"group_size": "atuo"}, "config.study.group_size='atuo': expected 'auto' or None"),
        ({"group_size": 4}, {}, "config.study.group_size='auto': config.group_size is set too"),
        ({}, {"axes": {"group_size": (1, 2)}}, "config.study.group_size='auto': config.group_size is set too"),
        ({}, {"executor": "slurm"}, "config.study.group_size='auto': expected the local executor"),
    ],
)
def test_what_contradicts_it_is_one_line(fields, study, message):
    with pytest.raises(configs.ConfigError) as raised:
        plan.expand(FIELDS | fields | {"study": STUDY | study})
    assert [fault for fault in raised.value.faults if fault.startswith(message)] == raised.value.faults


@pytest.mark.slow
def test_a_process_with_the_devices_of_a_worker_tells_what_each_holds():
    config = configs.resolve(FIELDS | {"num_neurons": (1024,), "shard_parameters": True})
    ((halves,), (whole,)) = (sizing.fits([(config, 1)], {"devices_per_run": count}) for count in (2, 1))
    assert halves.num_bytes < 0.9 * whole.num_bytes
    odd = configs.resolve(FIELDS | {"batch_size": 33})
    with pytest.raises(configs.ConfigError, match=r"could not be determined: .*expected a multiple of the 2 devices"):
        sizing.fits([(odd, 1)], {"devices_per_run": 2})
