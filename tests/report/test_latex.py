"""Tables in LaTeX."""

from flatwide.report import latex
from flatwide.report.key_table import KeyTable


def test_a_table_is_whole_and_its_signs_are_escaped():
    table = KeyTable(
        name="gain_table",
        title="The gain",
        note="In 95 % of cases & more.",
        columns=["num_neurons", "gain"],
        rows=[["(4,)", "+1.0"]],
    )
    text = latex.table(table)
    assert r"\caption{The gain. In 95 \% of cases \& more.}" in text
    assert "num\\_neurons & gain \\\\" in text
    assert "(4,) & +1.0 \\\\" in text
    assert r"\begin{tabular}{lr}" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert r"\label{tab:gain_table}" in text


def test_a_title_that_asks_gets_no_period():
    assert r"\caption{Which rho? The best.}" in latex.table(KeyTable("t", "Which rho?", "The best.", ["a"], [["x"]]))


def test_no_sign_of_latex_is_left_bare():
    table = KeyTable("t", "", "", [r"\{}&%$#_~^<>ρ–"], [["x"]])
    line = next(line for line in latex.table(table).splitlines() if "textbackslash" in line)
    assert line == (
        r"\textbackslash{}\{\}\&\%\$\#\_\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}$\rho$-- " + r"\\"
    )
