"""The report of a work directory and its files, for runs in any state."""

import html
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys

import pandas as pd
import pytest

from flatwide import load, report
from flatwide.analysis import table, widths
from flatwide.analysis.summary import summary
from flatwide.report import workdir as reports
from flatwide.runs import commands


def test_page_summary_and_figures_are_written(workdir, page):
    assert page == workdir / "report.html"
    expected = summary(load(workdir))
    written = pd.read_csv(workdir / "summary.csv")
    assert list(written.columns) == list(expected.columns)
    assert written["corrected_gain"].dropna().tolist() == expected["corrected_gain"].dropna().tolist()
    drawn = sorted((workdir / "figures").glob("*.svg"))
    assert len(drawn) >= 2
    assert all(path.with_suffix(".csv").exists() for path in drawn)
    assert all(path.read_text().startswith("<svg") for path in drawn)


def test_what_a_killed_report_left_half_written_is_removed_and_what_is_being_written_stays(workdir, page):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = workdir / "figures" / f"gain.svg.{socket.gethostname()}.{ended.pid}.tmp"
    others = workdir / "figures" / f"gain.svg.{socket.gethostname()}.{os.getppid()}.tmp"
    for path in (left, others):
        path.write_text("<sv")
    report.write(workdir, formats=())
    assert not left.exists()
    assert others.exists()
    others.unlink()


def test_settings_of_a_report_are_stored_for_the_next(workdir, page, content_of):
    assert content_of(workdir).progress.startswith("This study is incomplete: 36 of 40 runs are done.")
    assert content_of(workdir, num_planned=36, metric="test_metric_best").progress == ""
    again = content_of(workdir)
    assert (again.progress, again.short.metric) == ("", "test_metric_best")
    content_of(workdir, num_planned=40, metric="test_metric")


def test_the_page_shows_the_commands_as_they_were_given(page):
    text = page.read_text()
    assert "<code>python main.py --workdir=W --config=study.py &#39;--config.sam_variant=own rule&#39;</code>" in text
    assert "<code># a study\ndef get_config():\n    return 1 &lt; 2\n</code>" in text
    assert "36 runs started before these commands, by commands that were not recorded." in text
    assert "differ from their defaults" not in text


def test_commands_of_one_config_share_its_text(tmp_path, make, content_of):
    make(tmp_path, 16, 0.1, 0, data_dir="/data/mnist")
    for seed in (0, 1):
        arguments = ["--config=a.py", f"--config.seed={seed}"]
        commands.keep(tmp_path, arguments, config_path="a.py", config_text="text of a", config={"seed": seed})
    commands.keep(tmp_path, ["--config=b.py"], config_path="b.py", config_text="text of b", config={})
    recorded = content_of(tmp_path).commands
    assert [(each.config_text, each.commands.count("--config.seed")) for each in recorded] == [
        ("text of a", 2),
        ("text of b", 0),
    ]


def test_old_work_directories_say_what_is_known(tmp_path, make, capsys, content_of):
    for rho in (0.0, 0.1):
        path = tmp_path / "runs" / make(tmp_path, 16, rho, 0) / "config.json"
        stored = json.loads(path.read_text())
        if rho:
            path.write_text(json.dumps({name: stored[name] for name in stored.keys() - {"checksum", "file_version"}}))
    (tmp_path / "report.json").write_text(json.dumps({"command": "python main.py --config=old.py"}))
    content = content_of(tmp_path, num_planned=2)
    said = capsys.readouterr().err
    assert "1 run is of an earlier version of flatwide, whose files do not say to which run they belong" in said
    assert path.parent.name in said
    assert content.unrecorded.endswith("The last command of the study was: python main.py --config=old.py.")
    settings = dict(content.settings)
    assert (settings["rho"], settings["num_neurons"]) == ("0.0, 0.1", "16")
    assert "momentum" not in settings  # at its default
    assert json.loads((tmp_path / "report.json").read_text())["command"] == "python main.py --config=old.py"


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_with_a_path_nothing_is_written_into_the_work_directory(workdir, page, tmp_path):
    before = listing(workdir)
    alone = tmp_path / "alone.html"
    assert report.write(workdir, path=alone, metric="test_metric_best", num_planned=50) == alone
    assert list(tmp_path.iterdir()) == [alone]
    report.write(workdir, path=tmp_path / "more.html", formats=("pdf", "latex"))
    names = {path.name for path in (tmp_path / "more").iterdir()}
    assert {"summary.csv", "gain_by_width.pdf", "gain_by_width.csv", "gain_by_width_table.tex"} <= names
    assert (tmp_path / "more" / "gain_by_width.pdf").read_bytes().startswith(b"%PDF")
    assert "gain_by_width.svg" not in names
    assert listing(workdir) == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/dev/null", "--output=/dev/null: flatwide did not write this file"),
        ("/proc/x", "--output=/proc/x: no file can be written in /proc"),
        ("/dev/null/page.html", "--output=/dev/null/page.html: "),
        ("nowhere/in/it.html", "--output=nowhere/in/it.html: there is no folder nowhere; make it first"),
    ],
)
def test_an_output_is_checked_before_the_work(workdir, monkeypatch, path, message):
    monkeypatch.setattr("flatwide.report.workdir.read_runs", None)
    with pytest.raises(ValueError, match=message):
        report.write(workdir, path=path)


def test_an_output_may_be_no_folder_and_needs_no_ending(workdir, tmp_path):
    with pytest.raises(ValueError, match=r"it is a folder; name a file in it, such as .*report\.html"):
        report.write(workdir, path=tmp_path)
    with pytest.raises(ValueError, match=r"--output=/: it is a folder; name a file in it, such as /report\.html"):
        report.write(workdir, path="/")
    with pytest.raises(ValueError, match="expected at most 100 folders in a path"):
        report.write(workdir, path=tmp_path / ("x/" * 1000))
    report.write(workdir, path=tmp_path / "page", formats=("latex",))
    assert (tmp_path / "page.files" / "summary.csv").exists()


def test_a_page_of_a_single_run_says_what_is_missing(tmp_path, make):
    name = make(tmp_path, 16, 0.1, 0)
    text = html.unescape(report.write(tmp_path, formats=()).read_text())
    assert "No answer: no run without SAM (rho = 0). Train the same widths and seeds with rho = 0 too" in text
    assert "The only run has a test accuracy (%) of" in text
    assert name in text
    assert not (tmp_path / "report.json").exists()  # it was told nothing


def test_runs_without_sam_have_a_report(tmp_path, make, content_of):
    for width in (4, 16):
        make(tmp_path, width, 0.0, 0)
    content = content_of(tmp_path)
    assert content.short.sentence.startswith("No answer: no run with SAM (rho > 0).")
    assert content.answers[-1][1].startswith("The best of 2 runs")
    assert content.tables == []


def test_runs_that_are_not_done_are_listed(tmp_path, make, content_of):
    make(tmp_path, 16, 0.0, 0)
    unfinished = tmp_path / "runs" / make(tmp_path, 16, 0.1, 0)
    (unfinished / "result.json").unlink()
    damaged = tmp_path / "runs" / make(tmp_path, 64, 0.1, 0)
    (damaged / "result.json").write_text("{")
    (tmp_path / "runs" / make(tmp_path, 4, 0.1, 0)).rename(tmp_path / "runs" / "copy-00c0ffee")
    content = content_of(tmp_path)
    assert dict(content.facts)["runs"] == "1 done, 1 unfinished, 1 damaged, 1 mismatch"
    (told,) = (text for text in content.cautions if "excluded from the analysis" in text)
    assert all(state in told for state in ("1 unfinished", "Damaged: restore the file", "Mismatch: a copied folder"))


@pytest.mark.parametrize("damage", ["zeros", "header", "column", "pipe", "loop"])
def test_one_unreadable_file_of_evaluations_is_named_once_and_the_rest_is_read(tmp_path, make, capsys, damage):
    names = [make(tmp_path, 16, rho, 0) for rho in (0.0, 0.1)]
    path = tmp_path / "runs" / names[0] / "metrics.csv"
    text = path.read_text()
    path.unlink()
    if damage == "pipe":
        os.mkfifo(path)
    elif damage == "loop":
        path.symlink_to(path)
    else:
        replacement = {"zeros": ("2,", "\0\0"), "header": ("step", "stop"), "column": ("test_metric", "tset_metric")}
        path.write_text(text.replace(*replacement[damage], 1))
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs" / "loop")
    curves = reports.Curves(tmp_path)
    assert [len(curves[name]) for name in names * 2] == [0, 3, 0, 3]
    printed = capsys.readouterr().err
    assert printed.count("warning") == 1
    assert f"warning: no training curve of {names[0]}: {path}: " in printed


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a work directory with a run in runs/"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_is_not_known_is_refused(workdir):
    with pytest.raises(ValueError, match=r"pfd.*pdf"):
        report.write(workdir, formats=("pfd",))


def test_a_report_does_not_start_jax(workdir):
    script = f"from flatwide import report; report.write({str(workdir)!r}, formats=())\n"
    script += "import sys; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_part_whose_runs_all_diverged_hides_no_other(tmp_path, make, content_of):
    for noise, status in ((0.0, "finished"), (0.5, "diverged")):
        for rho, seed in itertools.product((0.0, 0.1), (0, 1)):
            make(tmp_path, 16, rho, seed, status=status, label_noise=noise)
    answers = content_of(tmp_path).answers
    for noise, begin in ((0.0, "SAM is not shown to help here: its gain over SGD is +"), (0.5, "There is no gain yet")):
        assert any(part == f"label_noise={noise}" and text.startswith(begin) for part, text in answers)


LITTLE = 16 * 10**9  # bytes of address space: enough for all but the renderer, which reserves more at once


def test_a_report_without_addresses_for_the_renderer_says_so(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "w", ignore=shutil.ignore_patterns("figures"))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)\n"
        "from flatwide import cli; sys.exit(cli.main(['report', sys.argv[2]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(LITTLE), tmp_path / "w"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "w" / "report.html").read_text()
    assert "The charts could not be drawn: the renderer was killed by SIG" in page
    assert 'class="chart"' not in page
    assert "The numbers of this figure" in page
    figures = tmp_path / "w" / "figures"
    assert {path.suffix for path in figures.glob("*.*")} == {".csv"}


def test_a_report_remembers_what_each_arm_chose_for_itself(tmp_path, make, content_of):
    for rate, rho, seed in itertools.product((0.05, 0.1), (0.0, 0.1), (0, 1)):
        make(tmp_path, 4, rho, seed, learning_rate=rate)
    content_of(tmp_path, tune=("learning_rate",))
    assert json.loads((tmp_path / "report.json").read_text())["tune"] == ["learning_rate"]
    assert "tuned_gain" in [each.name for each in content_of(tmp_path).tables]


def test_an_unknown_metric_lists_the_metrics_and_is_not_kept(workdir):
    before = (workdir / "report.json").read_text() if (workdir / "report.json").exists() else None
    for name in ("metric", "choose_by"):
        with pytest.raises(
            ValueError, match=rf"{name}='test_metrics' is not known. Did you mean 'test_metric'"
        ) as raised:
            report.write(workdir, **{name: "test_metrics"}, formats=())
        listed_names = str(raised.value).partition("Known: ")[2].rstrip(".").split(", ")
        assert {"test_metric", "test_loss", "train_metric"} <= set(listed_names)
        assert {"seed", "num_params", "seconds", "versions.jax"}.isdisjoint(listed_names)
        for column in ("run", "status", "device"):
            with pytest.raises(ValueError, match=f"--{name}='{column}' is not known"):
                report.write(workdir, **{name: column}, formats=())
    assert before == ((workdir / "report.json").read_text() if before else None)


def test_a_report_splits_its_table_once(workdir, tmp_path, monkeypatch):
    calls = {"split": 0, "arranged": 0}

    def counted(name, function):
        def counting(*args, **options):
            calls[name] += 1
            return function(*args, **options)

        return counting

    monkeypatch.setattr(table, "domains", counted("split", table.domains))
    monkeypatch.setattr(widths, "arrange", counted("arranged", widths.arrange))
    report.write(workdir, path=tmp_path / "page.html", formats=())
    assert calls == {"split": 1, "arranged": 1}
