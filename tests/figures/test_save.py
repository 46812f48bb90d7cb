"""Files of a figure: the same bytes from the same table, without a network, and the table next to the picture."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from flatwide.figures import curves, gain, rendering, save
from flatwide.figures.tables import to_csv

ROWS = [
    {"epoch": epoch, "running_train_loss": 1 / epoch, "test_loss": None, "test_metric": 1 - 0.1**epoch}
    for epoch in range(1, 4)
]
PAIRS = pd.DataFrame({"num_params": [10, 10, 20, 20], "seed": [0, 1, 0, 1], "gain": [0.1, 0.2, 0.3, 1 / 3]})


def test_svg_and_csv_lie_side_by_side(tmp_path):
    chart = curves.training_curves(ROWS, metric_name="accuracy")
    svg, table = save.save(chart, tmp_path / "new" / "curves.v1", data=ROWS)
    assert (svg, table) == (tmp_path / "new" / "curves.v1.svg", tmp_path / "new" / "curves.v1.csv")
    root = ElementTree.parse(svg).getroot()
    assert root.tag.endswith("svg")
    texts = "".join(root.itertext())
    assert "accuracy (%)" in texts
    assert "training" in texts
    pd.testing.assert_frame_equal(pd.read_csv(table), pd.DataFrame(ROWS).astype({"test_loss": float}), check_exact=True)


def test_same_table_same_bytes_also_in_another_process(tmp_path):
    chart = gain.gain_against_width(PAIRS)
    first = [path.read_bytes() for path in save.save(chart, tmp_path / "a", data=PAIRS)]
    PAIRS.to_pickle(tmp_path / "pairs.pkl")
    code = (
        "import sys, pandas; from flatwide.figures import gain, save; folder = sys.argv[1]\n"
        "pairs = pandas.read_pickle(folder + '/pairs.pkl')\n"
        "save.save(gain.gain_against_width(pairs), folder + '/b', data=pairs)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    # If the system allows it, in a network namespace without connections.
    isolated = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") and subprocess.run([*isolated, "true"], capture_output=True).returncode == 0:
        command = [*isolated, *command]
    subprocess.run(command, check=True, env=environment)
    assert [(tmp_path / f"b.{suffix}").read_bytes() for suffix in ("svg", "csv")] == first


def test_an_unknown_format_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"'eps' is not known. Known: svg, pdf"):
        save.save(gain.gain_against_width(PAIRS), tmp_path / "a", data=PAIRS, formats=("svg", "eps"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("as_rows", [True, False])
def test_csv_has_every_column_and_every_bit(as_rows):
    table = pd.DataFrame({"a": [1, 2], "b": [0.1 + 0.2, None], "c": ["x, y", "z"]})
    rows = [{"a": 1, "b": 0.1 + 0.2, "c": "x, y"}, {"a": 2, "b": None, "c": "z"}]
    assert to_csv(rows if as_rows else table) == 'a,b,c\n1,0.30000000000000004,"x, y"\n2,,z\n'


def test_many_charts_are_drawn_by_one_process_as_each_alone(tmp_path, monkeypatch):
    charts = [curves.training_curves(ROWS), gain.gain_against_width(PAIRS)]
    alone = [save.save(chart, tmp_path / f"alone{i}", data=ROWS)[0].read_bytes() for i, chart in enumerate(charts)]
    started = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: started.append(args) or run(*args, **options))
    pictures = [save.Picture(chart, tmp_path / f"together{i}", ROWS) for i, chart in enumerate(charts)]
    together = save.save_all(pictures, formats=("svg", "pdf"))
    assert [files[0].read_bytes() for files in together] == alone
    assert [file.name for file in together[1]] == ["together1.svg", "together1.pdf", "together1.csv"]
    pdf = together[1][1].read_bytes()
    assert (pdf[:5], pdf.rstrip()[-5:]) == (b"%PDF-", b"%%EOF")
    assert len(started) == 1


def test_a_chart_that_cannot_be_drawn_leaves_its_table(tmp_path):
    with pytest.raises(rendering.RenderingError, match="The charts could not be drawn: "):
        save.save({"mark": 5}, tmp_path / "a", data=ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
