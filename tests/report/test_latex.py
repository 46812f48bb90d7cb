"""Tables in LaTeX: complete, escaped, and compiled where there is a TeX."""

import re
import shutil
import subprocess

import pytest

from flatwide import catalogue, report
from flatwide.report import latex
from flatwide.report.key_table import KeyTable

TABLE = KeyTable(
    name="gain_table",
    title="Does it gain?",
    note="In 95 % of cases & more.",
    columns=["num_neurons", "trend", "corrected gain (points)", "95 % interval"],
    rows=[["300-100", "none", "-1.0", "-2.01 to +7.66"], ["4", "grows", "+2,410", "–"]],
    caption="Gain of SAM",
)


def test_a_table_has_a_short_caption_a_label_rules_and_aligned_columns():
    lines = latex.table(TABLE).splitlines()
    assert lines[0] == "% In 95 % of cases & more."  # the note, for the text of the paper
    assert r"\caption{Gain of SAM.}" in lines
    assert r"\label{tab:gain_table}" in lines
    assert r"\begin{tabular}{llrr}" in lines
    rules = [line for line in lines if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"300-100 & none & $-$1.0 & $-$2.01 to +7.66 \\" in lines
    assert r"4 & grows & +2,410 & -- \\" in lines
    text = "\n".join(lines)
    assert text.count(r"\begin") == text.count(r"\end")
    assert re.search(r"\{@\{\}c@\{\}\}corrected \\\\ gain \\\\ \(points\)", text)  # narrow heads


def test_a_title_that_asks_is_its_caption_without_another():
    assert r"\caption{Does it gain?}" in latex.table(TABLE._replace(caption=""))


def test_no_sign_of_latex_is_left_bare():
    table = KeyTable(name="t", title="", note="", columns=[r"\{}&%$#_~^<>ρ–"], rows=[["x"]])
    line = next(line for line in latex.table(table).splitlines() if "textbackslash" in line)
    assert line == (
        r"\textbackslash{}\{\}\&\%\$\#\_\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}$\rho$-- " + r"\\"
    )


def test_the_signs_of_all_measurements_are_escaped():
    quantities = [quantity for measurement in catalogue.MEASUREMENTS.values() for quantity in measurement.quantities]
    names = [f"{quantity.title} {quantity.symbol} {quantity.unit}" for quantity in quantities]
    text = latex.table(TABLE._replace(columns=["x"], rows=[[name] for name in names]))
    assert [sign for sign in text if ord(sign) > 127] == []


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_the_tables_of_a_study_compile_and_fit_the_line(workdir, tmp_path):
    report.write(workdir, path=tmp_path / "page.html", formats=("latex",))
    tables = sorted((tmp_path / "page").glob("*.tex"))
    assert len(tables) >= 4
    inputs = "\n".join(rf"\input{{{path}}}\clearpage" for path in tables)
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}" + inputs + r"\end{document}"
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
