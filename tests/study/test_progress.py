"""What a study says while it trains, in which order it trains, and how long it thinks that it takes."""

import io

import pytest

from flatwide import config as configs
from flatwide.runs.logs import duration_text
from flatwide.study import command, describe, inventory, orders, plan, stalls, supervise


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def planned():
    axes = {"num_neurons": ((4,), (8,)), "rho": (0.1, 0.0), "seed": tuple(range(5))}
    values = configs.plain(configs.default()) | {"num_epochs": 1, "study": {"axes": axes, "workers": 2}}
    return plan.expand(values)


@pytest.fixture
def stored(planned, tmp_path):
    return inventory.take(planned, tmp_path)


def test_base_runs_are_trained_first_and_then_the_longest_group(planned, stored, tmp_path):
    written = command._write_orders(planned, stored.to_do(), str(tmp_path), describe.Estimate(stored))
    kinds = [(group[0].config["num_neurons"], group[0].config["rho"]) for group in orders.read(written.path).groups]
    assert kinds == [([8], 0.0), ([4], 0.0), ([8], 0.1), ([4], 0.1)]
    assert all(len({task.config["rho"] for task in group}) == 1 for group in written.groups)


def test_the_time_left_counts_what_is_in_training_and_what_one_worker_alone_must_end(stored):
    estimate = describe.Estimate(stored)
    shapes = list(dict.fromkeys(state.run.shape for state in stored.states))
    first = {shape: next(state for state in stored.states if state.run.shape == shape) for shape in shapes}
    for shape, seconds in zip(shapes, (10.0, 20.0, 30.0, 40.0), strict=True):
        estimate.learn(first[shape], 1e6)  # with compiling, until what it took without is known
        estimate.learn(first[shape], seconds)
    left = dict.fromkeys(shapes, 4)
    assert estimate.left(left, workers=2) == pytest.approx(4 * (10 + 20 + 30 + 40) / 2)
    assert estimate.left(left, workers=2, training=[(shapes[0], 5.0), (shapes[1], 99.0)]) == pytest.approx(
        (400 - 25) / 2
    )
    assert estimate.left({shapes[3]: 1, shapes[0]: 1}, workers=2) == 40
    assert estimate.left({shapes[3]: 1, shapes[0]: 1}, workers=2, training=[(shapes[3], 30.0), (shapes[0], 3.0)]) == 10


def test_the_time_left_counts_the_compilation_of_shapes_that_no_worker_has_begun(stored):
    estimate = describe.Estimate(stored)
    shapes = list(dict.fromkeys(state.run.shape for state in stored.states))
    done = next(state for state in stored.states if state.run.shape == shapes[0])
    estimate.learn(done, 10.0, compiling=30.0)
    each = estimate.run_seconds(shapes[1])
    assert estimate.left({shapes[0]: 4}, workers=2) == 20
    assert estimate.left({shapes[0]: 4, shapes[1]: 4}, workers=2) == pytest.approx((40 + 4 * each + 30) / 2)
    begun = estimate.left({shapes[0]: 4, shapes[1]: 4}, workers=2, training=[(shapes[1], 0.0)])
    assert begun == pytest.approx((40 + 4 * each) / 2)
    assert estimate.left({shapes[1]: 1}, workers=2) == pytest.approx(each + 30)


def progress_of(planned, stored, tmp_path, stream):
    tasks, estimate = stored.to_do(), describe.Estimate(stored)
    written = command._write_orders(planned, tasks, str(tmp_path), estimate)
    watch = stalls.Watch(written)
    made = command._Progress(stored, tasks, estimate, orders=written, watch=watch, workers=2, stream=stream)
    return made, written, watch


def test_a_study_says_how_far_it_is_while_no_run_ends(planned, stored, tmp_path, monkeypatch):
    stream = io.StringIO()
    progress, written, watch = progress_of(planned, stored, tmp_path, stream)
    progress.tick()
    assert stream.getvalue() == ""
    monkeypatch.setattr(command, "_QUIET_SECONDS", 0.0)
    written.write_assigned("0-0", [written.groups[0][0].name])
    watch.check({"0-0"})
    progress.tick()
    assert stream.getvalue() == "runs 0/20  1 in training\n"


def test_a_terminal_shows_a_bar_in_one_line_and_messages_above_it(planned, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_LIVE_SECONDS", 0.0)
    stream = Terminal()
    progress, written, _ = progress_of(planned, stored, tmp_path, stream)
    for task in written.groups[0]:
        written.write_seconds(task.name, 2.0)
        progress.ended(supervise.Outcome(task, "finished", 50.0))
    shape = progress._states[written.groups[0][0].name].run.shape
    assert progress._estimate.seconds(shape) == 2.0
    progress.message("warning: something")
    progress.close()
    lines = stream.getvalue().split("\n")
    assert [line.count("\r") for line in lines] == [6, 0, 0]
    assert lines[0].endswith("\rwarning: something\x1b[K")
    assert lines[1].startswith("[#####---------------]  runs 5/20  about ")
    left = progress._estimate.left(
        {state.run.shape: 5 for state in stored.states} | dict.fromkeys([shape], 0), workers=2
    )
    assert lines[1].endswith(f"about {duration_text(left)} left")


@pytest.mark.parametrize("seconds", [None, 3.0])
def test_how_long_a_run_took_without_compiling_is_learnt_when_its_worker_has_written_it(
    planned, stored, tmp_path, monkeypatch, seconds
):
    progress, written, _ = progress_of(planned, stored, tmp_path, io.StringIO())
    task = written.groups[0][0]
    progress.ended(supervise.Outcome(task, "finished", 50.0))
    if seconds is not None:
        written.write_seconds(task.name, seconds)
    shape = progress._states[task.name].run.shape
    progress._learn()
    assert progress._estimate.seconds(shape) == seconds
    monkeypatch.setattr(command.time, "monotonic", lambda: 1e9)
    progress._learn()
    assert progress._estimate.seconds(shape) == (seconds or 50.0)


def test_tables_and_report_are_rebuilt_once_a_minute_and_in_a_twentieth_of_the_time():
    now, calls = [0.0], []

    def rebuild():
        calls.append(now[0])
        now[0] += 1.0 if len(calls) == 1 else 30.0

    refresher = command._Refresher(rebuild, clock=lambda: now[0])
    while now[0] < 1200:
        refresher.tick()
        now[0] += 1.0
    assert calls[:3] == [60.0, 121.0, 121.0 + 30 + 600]
