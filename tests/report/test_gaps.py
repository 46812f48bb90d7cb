"""What a report lacks is said in the terminal too."""

import json

from flatwide import load
from flatwide.analysis import table
from flatwide.report.command import report
from flatwide.report.gaps import gaps


def test_the_terminal_names_damaged_files_missing_arms_and_empty_parts(tmp_path, make):
    for width, rho in ((4, 0.0), (4, 0.1), (16, 0.0), (64, 0.1)):
        make(tmp_path, width, rho, 0)
    for rho in (0.0, 0.1):
        make(tmp_path, 4, rho, 0, dataset="spirals")
    wrong = make(tmp_path, 16, 0.1, 0)
    (tmp_path / "runs" / make(tmp_path, 4, 0.0, 1, dataset="blobs") / "result.json").unlink()
    path = tmp_path / "runs" / wrong / "result.json"
    path.write_text(path.read_text().replace('"best_epoch": 2.0', '"best_epoch": 1.0'))
    printed = report([str(tmp_path), "--formats="])
    assert f"damaged: {path}: it was changed after it was written; restore it from a copy." in printed
    assert "2 of 8 runs are not done and are excluded: 1 damaged, 1 unfinished" in printed
    assert "blobs: no run is done" in printed
    assert "digits: no SAM run at 1,210 parameters, so no gain there" in printed
    assert "digits: no base run (rho=0) at 4,810 parameters, so no gain there" in printed
    assert "spirals: no" not in printed


def test_a_part_with_one_arm_is_named_although_another_part_has_both(tmp_path, make):
    for noise, rho in ((0.0, 0.0), (0.0, 0.1), (0.5, 0.0)):
        make(tmp_path, 4, rho, 0, label_noise=noise)
    assert gaps(table.split(load(tmp_path))) == ["label_noise=0.5: no SAM run at 310 parameters, so no gain there"]


def test_a_complete_study_lacks_nothing_and_many_lines_are_cut(workdir, tmp_path, make):
    assert gaps(table.split(load(workdir))) == []
    for seed in range(7):
        path = tmp_path / "runs" / make(tmp_path, 4, 0.1, seed) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rho": 0.3}))
    lines = gaps(table.split(load(tmp_path)))
    assert len(lines) == 8
    assert lines[5] == "and 2 more such lines"
