"""The pages have the data of the studies' descriptions, and their joint intervals are those of the report."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flatwide import config as configs
from flatwide.analysis import gain
from flatwide.answers import headline
from flatwide.study import plan

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results(load_script):
    """Import the command's file."""
    return load_script("docs/build/results.py")


@pytest.fixture(scope="module")
def tables(load_script):
    """Import the file that reads the tables."""
    return load_script("docs/build/result_tables.py")


def rows_of(text):
    """Return the rows of all tables, with the texts and targets of links."""
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.slow
def test_the_tables_of_every_page_are_what_the_command_writes(load_script):
    for path, text in load_script("docs/build/pages.py").pages().items():
        assert rows_of(path.read_text()) == rows_of(text) != [], "run: python docs/build/pages.py"


def test_every_shipped_study_is_described_with_its_number_of_runs(load_script):
    described = {study.name: study for study in load_script("docs/build/studies.py").studies()}
    shipped = {path.stem for path in (ROOT / "configs" / "studies").glob("*.py")}
    assert {name for name, study in described.items() if study.question} == shipped
    assert all((ROOT / "docs" / "studies" / f"{name}.md").is_file() for name in described)
    for name in ("digits_width", "late_sam"):
        assert (
            len(plan.expand(configs.load_file(str(ROOT / f"configs/studies/{name}.py"))).runs) == described[name].runs
        )


def test_a_description_with_an_unknown_field_is_refused(load_script, tmp_path):
    studies = load_script("docs/build/studies.py")
    (tmp_path / "study.toml").write_text('place = 1\n[results.width]\ndata = "digits"\nmodel = "MLP"\nfolders = "x"\n')
    with pytest.raises(TypeError, match="folders"):
        studies._read(tmp_path / "study.toml")


@pytest.mark.slow
def test_the_figure_has_the_gains_of_the_summaries(results):
    drawn = pd.read_csv(f"{results.FIGURE}.csv").dropna(subset=["low"])
    by_panel = {study.panel: study for study in results.results() if study.panel}
    assert set(drawn["panel"]) == by_panel.keys()
    for panel, rows in drawn.groupby("panel"):
        gains = [width.gain for width in results.widths(by_panel[panel])]
        np.testing.assert_allclose(rows["gain"], gains, rtol=1e-12, err_msg=panel)


def test_rows_have_the_numbers_of_the_studies_own_pages(results):
    """Digits with wrong labels: the numbers of its page, which its report wrote."""
    (study,) = (study for study in results.results() if study.panel.startswith("Digits, wrong labels"))
    assert results.row(study) in results.PAGE.read_text()
    cells = [cell.strip() for cell in results.row(study).strip("|").split("|")]
    page = (ROOT / "docs" / "studies" / "digits_label_noise.md").read_text()
    gain = re.match(r"−2\.71 \(.*\)<br>→ \+(\S+) \(8\.5\d to 16\.4\d\)$", cells[3])
    assert gain, cells[3]
    assert f"| {gain[1]} (" in page
    assert cells[1:3] + cells[5:] == ["310<br>→ 9,610", "8", "0.02<br>→ 0.35"]


def test_the_answer_has_the_gains_of_the_summaries(results):
    """Of the largest network and its interval alone, read from the committed table by other means."""
    rows = pd.read_csv(ROOT / "docs/studies/mnist_label_noise/half_wrong/summary.csv").query("row == 'width'")
    largest = 100 * rows.set_index("num_params").loc[1426410, ["corrected_gain", "corrected_low", "corrected_high"]]
    text = "{:.1f} points ({:.1f} to {:.1f}) at 1,426,410 parameters on MNIST".format(*largest)
    assert text in " ".join(results.answer().split())


def test_joint_intervals_are_those_of_the_report(tables):
    """From the 95 % interval of a summary alone, and from the runs themselves: the same."""
    random = np.random.default_rng(3)
    shared = {"status": "finished", "optimizer": "sam", "metric_name": "accuracy", "higher_is_better": True}
    base_noise = 0.03 * random.normal(size=(3, 8))
    runs = pd.DataFrame(
        shared
        | {"num_params": 10 ** (width + 1), "rho": rho, "seed": seed}
        | {"test_metric": 0.5 + (base_noise[width, seed] if rho == 0 else 0.03 * random.normal())}
        for width in range(3)
        for rho in (0.0, 0.1, 0.2, 0.5)
        for seed in range(8)
    )
    (reported,) = headline.headlines(runs)
    for row, exact in zip(gain.corrected_gain(runs).to_dict("records"), reported.rows, strict=True):
        width = tables._corrected(row | {"best_rho": exact.best_rho})
        low, high = tables.joint_interval(width, 3)
        assert (low, high) == pytest.approx((exact.low, exact.high))
        assert high - low > 1.2 * (width.high - width.low)


def test_a_slope_has_the_errors_of_its_widths(tables, monkeypatch):
    """Two widths whose seeds happen to rise alike: the slope is no more certain than the two gains."""
    row = {"corrected_num_seeds": 8, "num_rhos": 7, "best_rho": 0.1, "corrected_gain": 0.0}
    ends = {"corrected_standard_error": 1.0, "corrected_low": -2.5, "corrected_high": 2.5}
    rows = [tables._corrected(row | ends | {"num_params": size}) for size in (10, 100)]
    monkeypatch.setattr(tables, "widths", lambda study: rows)
    gains = pd.DataFrame([[0.0] * 8, [1.0] * 8], index=[10, 100])
    monkeypatch.setattr(tables, "seed_gains", lambda study, sizes=None: gains)
    slope = tables.slope(tables.Result("study", "data", "MLP"))
    assert (slope.value, slope.error) == pytest.approx((1.0, 2**0.5))


def test_the_slope_of_tuned_arms_by_hand(results, tables):
    """MNIST with wrong labels, weight decay: two sizes, each seed at the cells that the other two choose."""
    runs = pd.read_csv(ROOT / "docs/studies/mnist_label_noise/weight_decay/runs.csv")
    gains = {}
    for size, of_size in runs.groupby("num_params"):
        arms = [of_size[of_size.rho == 0], of_size[of_size.rho > 0]]
        wide = [arm.pivot(index="seed", columns=["weight_decay", "rho"], values="test_metric") for arm in arms]
        gains[size] = [
            sam.loc[seed, sam.drop(seed).mean().idxmax()] - base.loc[seed, base.drop(seed).mean().idxmax()]
            for base, sam in [wide]
            for seed in base.index
        ]
    rise = np.subtract(gains[266610], gains[61035]) / np.log10(266610 / 61035)
    (study,) = (study for study in results.results() if study.tune == "weight_decay")
    slope = tables.slope(study)
    assert slope.value == pytest.approx(rise.mean())
    assert slope.error >= rise.std(ddof=1) / 3**0.5


def test_gains_of_seeds_are_the_corrected_ones(results, tables):
    """Their means are the gains of the widths, which are corrected for the choice of rho."""
    studies = [study for study in results.results() if study.gains and not study.tune]
    assert len(studies) > 25
    for study in studies:
        gains = tables.seed_gains(study)  # of the seeds that all widths have
        expected = {width.num_params: width.gain for width in tables.widths(study) if width.num_seeds == gains.shape[1]}
        assert expected, study.data
        means = gains.loc[list(expected)].mean(axis="columns")
        assert means.to_dict() == pytest.approx(expected, rel=1e-3, abs=1e-6), study.data


def test_a_column_that_is_not_there_is_an_error(tables):
    """Not every row of the table."""
    with pytest.raises(KeyError, match="label_nose"):
        tables.read("mnist_label_noise/runs.csv", {"label_nose": 0.5})
