"""A worker without a sign of life is told of, and killed only where that is safe."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from flatwide import machine
from flatwide.study import orders, stalls, supervise
from flatwide.study.executors import Ended, Site, crew, local
from flatwide.study.orders import LocksError, Task

BUSY = [sys.executable, "-S", "-c", "while True: pass"]
IDLE = ["sleep", "600"]


@pytest.fixture
def todo(tmp_path, monkeypatch):
    """Return orders for one run, with limits of fractions of a second."""
    monkeypatch.setattr(stalls, "LEAST_SECONDS", 0.4)
    monkeypatch.setattr(stalls, "_EVERY_SECONDS", 0.0)
    return orders.write(tmp_path, [[Task("a-run", {})]], session="now", tensorboard=False)


@pytest.fixture
def start():
    """Start processes that are killed at the end."""
    started = []

    def start(command):
        started.append(subprocess.Popen(command))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def show(todo, worker, process, *, host=None):
    """Write the file of a worker for another process."""
    info = machine.process(process.pid)
    where = f"{host or socket.gethostname()} {process.pid} {info.started}"
    (todo.path.parent / f"worker-{worker}").write_text(f"{where}\na-run")


def wait_for(watch, workers, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (stalls_found := watch.check(workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return stalls_found


@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGCONT])
def test_an_idle_worker_of_this_machine_is_killed(todo, start, sent):
    process = start(IDLE)
    process.send_signal(sent)
    show(todo, "0-0", process)
    (stalled,) = wait_for(stalls.Watch(todo), {"0-0"})
    assert stalled.is_idle
    for word in (f"process {process.pid} on {socket.gethostname()}", "a-run", "is killed"):
        assert word in stalled.text()
    assert stalls.kill(stalled)
    assert process.wait(10) == -signal.SIGKILL


def test_a_worker_that_computes_is_told_of_again_and_again_and_left_alone(todo, start):
    process = start(BUSY)
    show(todo, "0-0", process)
    watch = stalls.Watch(todo, patience=lambda names: 0.8)
    (first,), (second,) = wait_for(watch, {"0-0"}), wait_for(watch, {"0-0"})
    assert 0.8 <= first.seconds < second.seconds / 1.9
    assert not first.is_idle
    assert f"left alone. If it hangs: kill -9 {process.pid}" in first.text()
    assert not stalls.kill(first)
    assert process.poll() is None


def test_a_process_of_another_machine_or_a_later_one_of_the_same_id_is_never_killed(todo, start):
    process = start(IDLE)
    show(todo, "0-0", process, host="node7")
    (stalled,) = wait_for(stalls.Watch(todo), {"0-0"})
    assert not stalls.kill(stalled._replace(is_idle=True))
    assert f"end it there: kill -9 {process.pid}" in stalled.text()
    later = stalled.assigned._replace(host=socket.gethostname(), started=stalled.assigned.started + 1)
    assert not stalls.kill(stalled._replace(is_idle=True, assigned=later))
    assert process.poll() is None


def test_a_worker_that_hangs_before_it_trains_is_killed_too(todo):
    at_work = local.LocalCrew(Site(todo.path, threads=1))
    at_work.start("0-0")
    (process,) = at_work._processes.values()
    process.send_signal(signal.SIGSTOP)
    (stalled,) = wait_for(stalls.Watch(todo), {"0-0"})
    assert "it trains no run" in stalled.text()
    assert stalls.kill(stalled)
    process.wait(10)
    assert at_work.ended()[0].problem.startswith("killed by SIGKILL")


def test_a_sign_of_life_is_heard(todo, start, monkeypatch):
    monkeypatch.setattr(stalls, "LEAST_SECONDS", 1.0)
    show(todo, "0-0", start(IDLE))
    watch, began = stalls.Watch(todo), time.monotonic()
    while time.monotonic() - began < 1.5:
        todo.beat("0-0")
        assert not watch.check({"0-0"})
        time.sleep(0.05)
    assert watch.training().keys() == {"a-run"}


class Sleepers:
    """Workers that hang from the start."""

    def __init__(self, todo, start, host=None):
        self.todo, self.start_process, self.host, self.processes = todo, start, host, {}

    def start(self, worker):
        self.processes[worker] = self.start_process(IDLE)
        show(self.todo, worker, self.processes[worker], host=self.host)

    def ended(self):
        codes = {worker: process.poll() for worker, process in self.processes.items()}
        return [Ended(name, f"exit code {code}") for name, code in codes.items() if code is not None and self.pop(name)]

    def pop(self, worker):
        return self.processes.pop(worker)

    def stop(self):
        pass


@pytest.mark.parametrize("host", [None, "node7"])
def test_the_work_of_a_hung_worker_is_handed_to_another(todo, start, host):
    warnings, sleepers = [], Sleepers(todo, start, host)
    workers = supervise.supervise(
        todo, sleepers, workers=1, should_stop=lambda: "0-1" in sleepers.processes, tell=warnings.append
    )
    with pytest.raises(supervise.Stopped):
        list(workers)
    assert "worker 0-0 " in warnings[0]
    assert set(sleepers.processes) == ({"0-1"} if host is None else {"0-0", "0-1"})


def test_stopping_wakes_a_stopped_worker_which_saves_and_kills_one_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "IDLE_SECONDS", 1.0)
    at_work = local.LocalCrew(Site(tmp_path / "orders.json", threads=1))
    heard = "import signal, sys, time; signal.signal(signal.SIGTERM, {}); print(flush=True); time.sleep(600)"
    for worker, handler in (("0-0", "lambda *_: sys.exit(143)"), ("1-1", "signal.SIG_IGN")):
        command = [sys.executable, "-c", heard.format(handler)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdout.readline()
        process.stdout.close()
        at_work._processes[worker] = process
    stopped, hung = at_work._processes.values()
    stopped.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    at_work.stop()
    assert time.monotonic() - began < crew.STOP_SECONDS / 4
    assert (stopped.returncode, hung.returncode) == (143, -signal.SIGKILL)


def test_a_stopped_worker_of_a_killed_command_is_woken_and_then_killed_if_it_stays_idle(todo, start, monkeypatch):
    monkeypatch.setattr(supervise, "_BUSY_SECONDS", 0.05)
    script = (
        "import signal, time; signal.signal(signal.SIGCONT, lambda *_: print('woken', flush=True)); print(flush=True)"
    )
    command = [sys.executable, "-S", "-c", f"{script}\nwhile True: time.sleep(600)"]
    process = subprocess.Popen(
        [*command, "-m", "flatwide.study.worker", str(todo.path), "0-0"], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    orphans, holders = stalls.Orphans(), [f"{process.pid} on {socket.gethostname()}", None, "just started"]

    def wait():
        deadline = time.monotonic() + 20
        while not (lines := orphans.end(holders)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return lines

    try:
        with todo.held():  # the command lives
            time.sleep(1)
            assert orphans.end(holders) == []
            time.sleep(1)
            assert orphans.end(holders) == []
        assert "was woken" in wait()[0]
        assert process.stdout.readline() == "woken\n"
        assert "was killed" in wait()[0]
        assert process.wait(10) == -signal.SIGKILL
    finally:
        process.kill()
        process.stdout.close()


def test_who_is_no_worker_is_neither_woken_nor_killed(todo, start):
    process = start(IDLE)
    orphans = stalls.Orphans()
    for _ in range(3):
        assert orphans.end([f"{process.pid} on {socket.gethostname()}", f"{process.pid} on node7"]) == []
        time.sleep(0.5)
    assert process.poll() is None


def test_a_worker_that_can_take_the_lock_of_a_living_command_stops(todo, monkeypatch):
    monkeypatch.setattr(orders, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(orders, "_DEAD_SECONDS", 0.5)
    todo.check_locks(lambda: False)  # nobody commands
    with todo.held():
        todo.check_locks(lambda: False)
    todo.check_locks(lambda: False)  # the command has died
    path = todo.path.parent / "command"
    timer = threading.Timer(0.2, os.utime, [path])
    timer.start()
    with pytest.raises(LocksError, match="does not see the lock that the study's command holds on"):
        todo.check_locks(lambda: False)
    timer.join()


def test_orders_of_killed_commands_are_swept_and_those_in_force_are_not(tmp_path):
    given = {
        name: orders.write(tmp_path, [], session=name, tensorboard=False, may_outlive=name == "jobs")
        for name in ("killed", "jobs", "alive", "begins")
    }
    with given["killed"].held(), given["jobs"].held():
        pass
    (tmp_path / "study" / "slurm").mkdir()
    with given["alive"].held():
        orders.sweep(tmp_path)
        assert {path.name for path in (tmp_path / "study").iterdir()} == {"jobs", "alive", "begins", "slurm"}
    for name in ("jobs", "begins"):
        for path in (*(tmp_path / "study" / name).iterdir(), tmp_path / "study" / name):
            os.utime(path, (0, 0))
    orders.sweep(tmp_path)
    assert {path.name for path in (tmp_path / "study").iterdir()} == {"slurm"}


@pytest.mark.parametrize(
    "left",
    [
        (),
        ("valid",),
        ("valid", "orders.json.HOST.PID.tmp"),
        ("valid", "orders.json"),
        ("command", "worker-0"),
        ("seconds-run",),
    ],
)
def test_what_a_command_leaves_that_is_killed_at_any_instant_is_swept(tmp_path, start, left):
    written = orders.write(tmp_path, [], tensorboard=False, may_outlive=False).path.parent
    killed, alive = start(["true"]), start(IDLE)
    killed.wait()
    for process in (killed, alive):
        folder = written.with_name(written.name.replace(f".{os.getpid()}", f".{process.pid}"))
        folder.mkdir()
        for name in left:
            (folder / name).touch()
    orders.remove(orders.read(written / "orders.json"))
    orders.sweep(tmp_path)
    assert [path.name for path in (tmp_path / "study").iterdir()] == [folder.name]


def test_a_removed_work_directory_ends_the_study_and_is_not_made_again(tmp_path, start):
    todo = orders.write(tmp_path / "w", [[Task("a-run", {})]], tensorboard=False)

    def remove():
        if todo.path.exists():
            subprocess.run(["rm", "-r", str(tmp_path / "w")], check=True)
        return False

    with pytest.raises(supervise.WorkerError, match="was removed while the study trained"):
        list(supervise.supervise(todo, Sleepers(todo, start), workers=1, should_stop=remove))
    orders.remove(todo)
    assert not (tmp_path / "w").exists()
