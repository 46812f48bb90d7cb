"""What a person sees: rate, time left and values on the stream, and each step once in TensorBoard."""

import io

import pytest

from flatwide.runs import logs


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(stream, **options):
    clock = Clock()
    progress = logs.Progress(1000, steps_per_epoch=100, stream=stream, clock=clock, **options)
    return progress, clock


def test_plain_lines_come_when_enough_steps_and_seconds_went_by():
    stream = io.StringIO()
    progress, clock = make(stream, every_steps=20, every_seconds=10)
    for step in range(0, 1001, 10):
        progress.update(step, {"train_loss": 1 / (1 + step)})
        clock.now += 2.5  # 4 steps a second: a line may come every 40 steps
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 26
    assert lines[0] == "epoch 0/10  step 0/1000  train_loss 1"
    assert lines[1] == "epoch 1/10  step 40/1000  4 steps/s  4m00s left  train_loss 0.02439"
    assert lines[-1] == "epoch 10/10  step 1000/1000  4 steps/s  0s left  train_loss 0.000999"


def test_few_steps_hold_a_line_back_however_slow_they_are():
    stream = io.StringIO()
    progress, clock = make(stream, every_steps=100, every_seconds=0)
    for step in range(0, 1001, 10):
        clock.now += 1000
        progress.update(step)
    assert len(stream.getvalue().splitlines()) == 11


def test_the_last_step_is_shown_at_once_and_once():
    stream = io.StringIO()
    progress, _ = make(stream)
    for step in (998, 999, 1000, 1000):
        progress.update(step)
    assert stream.getvalue().splitlines() == ["epoch 10/10  step 998/1000", "epoch 10/10  step 1000/1000"]


def test_a_resumed_run_counts_only_its_own_steps():
    stream = io.StringIO()
    progress, clock = make(stream)
    progress.update(500)
    clock.now += 10
    progress.update(600)
    assert stream.getvalue().splitlines()[-1] == "epoch 6/10  step 600/1000  10 steps/s  40s left"


def test_steps_that_end_within_an_epoch():
    stream = io.StringIO()
    progress = logs.Progress(250, steps_per_epoch=100, stream=stream)
    progress.update(250)
    assert stream.getvalue() == "epoch 3/3  step 250/250\n"


def test_values_stay_until_new_ones_come():
    stream = io.StringIO()
    progress, clock = make(stream)
    progress.update(1, {"test_accuracy": 0.97123, "validation_accuracy": None})
    clock.now += 10
    progress.update(2)
    assert stream.getvalue().splitlines()[-1].endswith("left  test_accuracy 97.12 %")


def test_a_terminal_has_one_line_that_is_written_over(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    progress, clock = make(stream, every_steps=500, every_seconds=1000)
    for step in (0, 10, 20):
        progress.update(step, {"train_loss": 0.5})
        clock.now += 1
    progress.message("saved")
    progress.update(30, {"test_accuracy": 0.5, "validation_accuracy": 0.25})
    progress.close()
    progress.message("done")
    erase = "\x1b[K"
    assert stream.getvalue().split("\r") == [
        "",
        f"epoch 0/10  step 0/1000  train_loss 0.5{erase}",
        f"epoch 1/10  step 10/1000  10 steps/s  1m39s left  train_los{erase}",
        f"epoch 1/10  step 20/1000  10 steps/s  1m38s left  train_los{erase}",
        f"saved{erase}\nepoch 1/10  step 20/1000  10 steps/s  1m38s left  train_los",
        f"epoch 1/10  step 30/1000  10 steps/s  1m37s left  test_accu{erase}\ndone\n",
    ]


def test_a_terminal_is_not_flooded():
    stream = Terminal()
    progress, clock = make(stream)
    for step in range(1000):
        progress.update(step)
        clock.now += 0.001
    assert 9 <= stream.getvalue().count("\r") <= 11  # one second at ten lines a second


def test_messages_between_plain_lines():
    stream = io.StringIO()
    progress, _ = make(stream)
    progress.message("hello")
    progress.close()
    assert stream.getvalue() == "hello\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (100, "1m40s"), (3600, "1h00m"), (7500, "2h05m"), (273_700, "3d04h")],
)
def test_durations(seconds, text):
    assert logs.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.5, "50.00 %"),
        ("test_accuracy", 0.97126, "97.13 %"),
        ("test_mean_average_precision", 0.25, "25.00 %"),
        ("inaccuracy", 0.5, "0.5"),
        ("train_loss", 0.123456, "0.1235"),
        ("loss", float("nan"), "nan"),
        ("seconds", 3, "3"),
    ],
)
def test_values(name, value, text):
    assert logs.value_text(name, value) == text


def scalars(directory, tag):
    """Read as TensorBoard does, all event files of a directory together."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory), size_guidance={"scalars": 0}).Reload().Scalars(tag)
    return [(event.step, event.value) for event in events]


def test_events_are_read_back(tmp_path):
    board = logs.TensorBoard(tmp_path)
    board.write(1, {"loss": 0.5, "missing": None})
    board.write(2, {"loss": float("nan")})
    board.close()
    assert scalars(tmp_path, "loss")[0] == (1, 0.5)
    assert [step for step, _ in scalars(tmp_path, "loss")] == [1, 2]


def test_a_board_without_values_leaves_no_file(tmp_path):
    board = logs.TensorBoard(tmp_path)
    board.close()
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_shows_no_step_twice(tmp_path):
    killed = logs.TensorBoard(tmp_path)
    for step in range(1, 11):
        killed.write(step, {"loss": step})
    killed.close()
    resumed = logs.TensorBoard(tmp_path, purge_step=6)  # the checkpoint was at step 5
    for step in range(6, 13):
        resumed.write(step, {"loss": -step})
    resumed.close()
    assert scalars(tmp_path, "loss") == [(step, float(step if step < 6 else -step)) for step in range(1, 13)]
