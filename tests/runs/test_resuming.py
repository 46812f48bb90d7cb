"""A run goes on only from checkpoints and rows that are its own; else it falls back, or is refused unchanged."""

import json
import shutil

import pytest
from trained_runs import FIELDS, After, directory_of, run, without_times

import flatwide
from flatwide import experiment, runner
from flatwide.measurements import measuring
from flatwide.runs import checkpoints, driver, recording
from flatwide.runs import experiment as runs_experiment
from flatwide.runs.directory import RunDirectory

LINES = {"validation_fraction": 0.0, "num_epochs": 8}  # 8 evaluations, of which a stopped run has some


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return without_times(run(tmp_path_factory.mktemp("undisturbed"), **LINES))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Stop a run after five of its evaluations; every test damages a copy of what it left."""
    workdir = tmp_path_factory.mktemp("stopped")
    with pytest.raises(driver.Stopped):
        runner.run(FIELDS | LINES, workdir, should_stop=After(4), quiet=True)
    directory = directory_of(workdir, **LINES)
    assert len(directory.read_metrics()) == 5
    assert len(list(directory.checkpoints.glob("step_*.npz"))) == 2
    return workdir


@pytest.fixture
def cut(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "cut")
    return directory_of(tmp_path / "cut", **LINES)


def newest_step(directory):
    return max((int(path.stem.split("_")[1]) for path in directory.checkpoints.glob("step_*.npz")), default=0)


def resume(directory):
    return run(directory.path.parents[1], **LINES)


def edited(directory, line, before, after):
    """Write another text into a line of metrics.csv; the header is line 0."""
    lines = directory.metrics_file.read_bytes().split(b"\n")
    assert before in lines[line]
    lines[line] = lines[line].replace(before, after, 1)
    directory.metrics_file.write_bytes(b"\n".join(lines))


def without_line(directory, line):
    lines = directory.metrics_file.read_bytes().split(b"\n")
    directory.metrics_file.write_bytes(b"\n".join(lines[:line] + lines[line + 1 :]))


DAMAGES = {
    "lost": lambda directory: directory.metrics_file.unlink(),
    "a cell": lambda directory: edited(directory, 2, b".", b".9"),
    "swapped names": lambda directory: edited(directory, 0, b"test_loss,test_metric", b"test_metric,test_loss"),
    "a header that is none": lambda directory: edited(directory, 0, b"step", b"st\xffp"),
    "a row missing": lambda directory: without_line(directory, 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_whose_rows_are_not_those_it_wrote_is_refused(cut, damage):
    DAMAGES[damage](cut)
    before = {path: path.read_bytes() for path in cut.path.rglob("*.*") if "events" not in path.name}
    with pytest.raises(
        ValueError, match=r"metrics\.csv: the first 5 rows, which lead to step_\d+\.npz, (are|were)"
    ) as error:
        resume(cut)
    assert "Restore what was lost or changed from a copy, or train the run again in another --workdir" in str(
        error.value
    )
    assert {path: path.read_bytes() for path in before if path.exists()} == before


def test_a_run_falls_back_to_a_checkpoint_whose_rows_are_unchanged(cut, undisturbed, capsys):
    edited(cut, 5, b".", b".9")
    result = runner.run(FIELDS | LINES, cut.path.parents[1], tensorboard=False)
    errors = capsys.readouterr().err
    assert "metrics.csv: the first 5 rows, which lead to step_" in errors
    assert "were changed after they were written. Using the checkpoint before it." in errors
    assert without_times(result) == undisturbed


TAILS = {
    "zeros": b"\0" * 300,
    "not UTF-8": b"78,6.0,\xff\xfe\n",
    "a row that never was": b"78,6.0,0.1,0.1,,,,,0.0,1.0\n",
}


@pytest.mark.parametrize("tail", TAILS)
def test_what_follows_the_checkpoint_does_not_matter(cut, undisturbed, tail):
    with open(cut.metrics_file, "ab") as file:
        file.write(TAILS[tail])
    assert without_times(resume(cut)) == undisturbed


def test_checkpoints_of_another_run_are_refused(cut, tmp_path, undisturbed):
    other = FIELDS | LINES | {"seed": 1}
    with pytest.raises(driver.Stopped):
        runner.run(other, tmp_path / "other", should_stop=After(4), quiet=True)
    foreign = directory_of(tmp_path / "other", **LINES, seed=1)
    shutil.copytree(cut.checkpoints, tmp_path / "kept")
    shutil.rmtree(cut.checkpoints)
    shutil.copytree(foreign.checkpoints, cut.checkpoints)
    shutil.copy(cut.metrics_file, tmp_path / "metrics.csv")
    shutil.copy(foreign.metrics_file, cut.metrics_file)
    with pytest.raises(ValueError, match=r"step_\d+\.npz: it is of another run \(identity") as error:
        resume(cut)
    assert f"identity {foreign.name[-8:]}; expected {cut.name[-8:]}" in str(error.value)
    shutil.copytree(tmp_path / "kept", cut.checkpoints, dirs_exist_ok=True)
    shutil.copy(tmp_path / "metrics.csv", cut.metrics_file)
    assert without_times(resume(cut)) == undisturbed


def test_networks_of_another_run_are_neither_loaded_nor_measured(pair):
    first, second = pair
    measuring.open_run(first, num_examples=10).subject(1)
    shutil.copy(second.snapshot(1), first.snapshot(1))
    shutil.copy(second.checkpoints / "final.npz", first.checkpoints / "final.npz")
    with pytest.raises(ValueError, match=r"epoch-1\.npz: it is of another run"):
        measuring.open_run(first, num_examples=10).subject(1)
    with pytest.raises(ValueError, match=r"final\.npz: it is of another run"):
        flatwide.load_run(first.path)
    flatwide.load_run(second.path)


def test_checkpoints_of_earlier_versions_resume(cut, undisturbed):
    forget_what_is_new(cut)
    with open(cut.metrics_file, "ab") as file:
        file.write(b"\0" * 30)  # after the row of the checkpoint's step
    assert without_times(resume(cut)) == undisturbed


def forget_what_is_new(directory):
    """Write the files of a run as they were before they knew their run, and checkpoints their rows."""
    path = directory.path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: config[name] for name in config.keys() - {"checksum", "file_version"}}))
    state = experiment.build(FIELDS | LINES).init()
    for path in directory.checkpoints.glob("*.npz"):
        tree, extra = checkpoints.load(path, state)
        old = {name: extra[name] for name in ("started", "seconds", "loss_total", "loss_count")}
        checkpoints.write(path, int(tree.step), tree, extra=old)


def test_a_run_that_was_killed_before_its_result_has_the_same(cut, undisturbed):
    resume(cut)
    (cut.path / "result.json").unlink()
    assert without_times(resume(cut)) == undisturbed
    (cut.path / "result.json").unlink()
    cut.metrics_file.unlink()
    with pytest.raises(ValueError, match=r"the first 8 rows, which lead to final\.npz, are not complete"):
        resume(cut)


def test_rows_changed_while_a_run_trains_give_no_result(cut, undisturbed):
    changes = []

    def change():
        if len(cut.read_metrics()) == 6 and not changes:
            changes.append(edited(cut, 1, b".", b".9"))
        return False

    with pytest.raises(ValueError, match=r"metrics\.csv: the file was changed while the run trained"):
        runner.run(FIELDS | LINES, cut.path.parents[1], should_stop=change, quiet=True)
    assert cut.status() == "failed"
    edited(cut, 1, b".9", b".")
    assert without_times(resume(cut)) == undisturbed


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_them(tmp_path, monkeypatch):
    """In a power failure a checkpoint may not survive the rows that lead to it."""
    events = []

    def told(function, name):
        def call(*arguments, **options):
            events.append(name)
            return function(*arguments, **options)

        return call

    for owner, name in (
        (RunDirectory, "append_metrics"),
        (RunDirectory, "sync_metrics"),
        (checkpoints, "save"),
    ):
        monkeypatch.setattr(owner, name, told(getattr(owner, name), name))
    run(tmp_path)
    order = " ".join(events)
    assert order.endswith("sync_metrics save")
    assert order.count("sync_metrics save") == events.count("save") > 1
    assert events.count("append_metrics") > 0


def test_an_evaluation_after_the_last_checkpoint_is_made_again(tmp_path, monkeypatch):
    """A run on data that stream saves before each evaluation: its row may be there and the checkpoint not know it."""
    monkeypatch.setattr(recording.data, "is_compiled", lambda split: False)
    monkeypatch.setattr(runs_experiment, "_SMALL_EPOCH", 0)
    fields = FIELDS | {"checkpoint_every_seconds": 1e9}
    runner.run(fields, tmp_path / "whole", quiet=True, tensorboard=False)

    class KilledError(BaseException):
        pass

    write_rows = recording.Recording._write_rows

    def killed_after(self):
        write_rows(self)
        if self.directory.read_metrics():
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(recording.Recording, "_write_rows", killed_after)
        with pytest.raises(KilledError):
            runner.run(fields, tmp_path / "cut", quiet=True, tensorboard=False)
    whole, cut = (directory_of(tmp_path / name) for name in ("whole", "cut"))
    assert len(cut.read_metrics()) == 1
    assert newest_step(cut) == cut.read_metrics()[0]["step"]
    runner.run(fields, tmp_path / "cut", quiet=True, tensorboard=False)
    assert cut.metrics_file.read_bytes() == whole.metrics_file.read_bytes()


def test_a_run_of_a_group_that_cannot_write_its_result_leaves_the_others(tmp_path, monkeypatch):
    group = [FIELDS | {"num_epochs": 1, "group_size": 2, "seed": seed} for seed in (0, 1)]
    assert [outcome.status for outcome in runner.run_together(group, tmp_path)] == ["finished"] * 2
    for path in tmp_path.glob("runs/*/result.json"):
        path.unlink()
    write = RunDirectory.write_result

    def full_disk(self, result):
        if "seed0" in self.name:
            raise OSError("No space left on device")
        write(self, result)

    monkeypatch.setattr(RunDirectory, "write_result", full_disk)
    outcomes = runner.run_together(group, tmp_path)
    assert [outcome.status for outcome in outcomes] == ["failed", "finished"]
    assert "No space left" in outcomes[0].problem


def swapped(first, second):
    """Exchange the content of two files."""
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])


PAIR = {"num_epochs": 2, "measure_epochs": (0, 1), "measurements": ("gradient", "edge"), "measure_examples": 32}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Train and measure two runs that differ in the seed alone."""
    workdir = tmp_path_factory.mktemp("measured")
    for seed in (0, 1):
        run(workdir, **PAIR, seed=seed)
    return workdir


@pytest.fixture
def pair(measured, tmp_path):
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    return [directory_of(tmp_path, **PAIR, seed=seed) for seed in (0, 1)]


def test_files_that_are_swapped_are_named(pair):
    first, second = pair
    workdir = first.path.parents[1]
    assert set(flatwide.load(workdir)["status"]) == {"finished"}
    assert "problem" not in flatwide.load(workdir)
    swapped(first.path / "result.json", second.path / "result.json")
    table = flatwide.load(workdir)
    assert set(table["status"]) == {"damaged"}
    assert f"result.json: it is of another run (identity {second.name[-8:]}; expected" in table["problem"][0]
    swapped(first.path / "result.json", second.path / "result.json")
    for name, problem in {
        "measurements/gradient-examples32.json": "it is of another run (identity",
        "measurements/edge-examples32.npz": "it was changed",
        "metrics.csv": "its rows are not those with which the run ended",
    }.items():
        swapped(first.path / name, second.path / name)
        table = flatwide.load(workdir)
        assert all(f"{name}: {problem}" in text for text in table["problem"])
        swapped(first.path / name, second.path / name)
    snapshots = first.snapshot(0), first.snapshot(1)
    swapped(*snapshots)
    with pytest.raises(ValueError, match=r"epoch-1\.npz: it is the network after step 0; expected that after step"):
        measuring.open_run(first, num_examples=10).subject(1)
    swapped(*snapshots)
    files = [first.path / "measurements" / f"gradient-epoch{epoch}-examples32.json" for epoch in (0, 1)]
    swapped(*files)
    assert f"{files[0]}: it is a copy of {files[1].name}" in flatwide.load(workdir)["problem"][0]
    swapped(*files)
    assert "problem" not in flatwide.load(workdir)
    (first.path / "result.json").unlink()
    shutil.copy(second.path / "result.json", first.path / "result.json")
    with pytest.raises(ValueError, match=r"result\.json: it is of another run"):
        run(workdir, **PAIR)


def test_a_removed_checksum_and_an_edited_config_are_named(pair):
    first, second = pair
    workdir = first.path.parents[1]
    for name in ("result.json", "config.json"):
        text = (first.path / name).read_text()
        content = json.loads(text)
        del content["checksum"]
        (first.path / name).write_text(json.dumps(content | {"test_metric": 1.0}))
        table = flatwide.load(workdir)
        assert table["status"][0] == "damaged"
        assert f"{name}: its checksum was removed" in table["problem"][0]
        (first.path / name).write_text(text)
    content = json.loads((second.path / "config.json").read_text())
    old = {name: content[name] for name in content.keys() - {"checksum", "file_version"}}
    (second.path / "config.json").write_text(json.dumps(old))
    assert set(flatwide.load(workdir)["status"]) == {"finished"}  # as earlier versions wrote it
    for name, value in {"rho": 0.2, "seed": 7, "label_noise": 0.0, "momentum": 0.0, "optimizer": "sgd"}.items():
        (second.path / "config.json").write_text(json.dumps(old | {name: value}))
        table = flatwide.load(workdir)
        assert table["status"][1] == "damaged", name
        assert "in its identity," in table["problem"][1]
