"""Key tables in LaTeX, for the packages booktabs and graphicx."""

import re
import textwrap

from flatwide.report.key_table import KeyTable

_LONGEST = 40  # characters of a cell that stays on one line
_NUMBER = r"[+-]?[\d,.]+(?:e[+-]?\d+)?"
_NUMERIC = re.compile(rf"–|{_NUMBER}(?: %)?(?: (?:to|±) {_NUMBER})?(?: \({_NUMBER} to {_NUMBER}\))?")
_MINUS = re.compile(r"(?<!\w)-(?=\d)")
_LETTERS = {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "η": "eta", "λ": "lambda"}
_LETTERS |= {"μ": "mu", "ρ": "rho", "σ": "sigma"}
_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "−": "$-$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "²": "$^2$",
        "‖": r"$\Vert$",
        "…": r"\dots{}",
        **{letter: rf"$\{name}$" for letter, name in _LETTERS.items()},
    }
)


def table(key_table: KeyTable) -> str:
    """Return a table with a short caption, shrunk to the width of the line if it is wider.

    The note of the table precedes it as a comment, as the text of a paper has its definitions.
    """
    note = textwrap.wrap(key_table.note, 100, initial_indent="% ", subsequent_indent="% ")
    heads = [_head(name) for name in key_table.columns]
    caption = key_table.caption or key_table.title
    caption += "" if caption.endswith(("?", ".", "!")) else "."
    return "\n".join(
        [
            *note,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_text(caption)}}}",
            rf"\label{{tab:{key_table.name}}}",
            r"\footnotesize",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{_alignment(key_table)}}}",
            r"\toprule",
            _row(heads),
            r"\midrule",
            *(_row([_text(cell) for cell in row]) for row in key_table.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _alignment(key_table: KeyTable) -> str:
    """Return the columns of a tabular: numbers to the right, texts to the left, long texts in paragraphs."""
    kinds = []
    for cells in zip(*key_table.rows, strict=True):
        is_long = max(map(len, cells)) > _LONGEST
        is_numeric = all(_NUMERIC.fullmatch(cell) for cell in cells if cell)
        kinds.append(r"p{0.35\linewidth}" if is_long else "r" if is_numeric else "l")
    return "".join(kinds)


def _head(name: str) -> str:
    """Return the head of a column, with long ones on several lines."""
    lines = textwrap.wrap(name, 12, break_long_words=False, break_on_hyphens=False)
    if len(lines) <= 1:
        return _text(name)
    return r"\begin{tabular}[b]{@{}c@{}}" + r" \\ ".join(map(_text, lines)) + r"\end{tabular}"


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _text(text: str) -> str:
    return _MINUS.sub("−", text).translate(_ESCAPES)
