"""Key tables in LaTeX, for the booktabs package."""

from flatwide.report.key_table import KeyTable

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
        "ρ": r"$\rho$",
        "–": "--",
        "−": "$-$",
        "±": r"$\pm$",
        "×": r"$\times$",
    }
)


def table(found: KeyTable) -> str:
    """Write a table with its title and note as a caption; `\\usepackage{booktabs}` is all that it needs."""
    sides = "l" + "r" * (len(found.columns) - 1)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_text(_sentence(found.title))} {_text(found.note)}}}"]
    lines += [rf"\label{{tab:{found.name}}}", rf"\begin{{tabular}}{{{sides}}}", r"\toprule", _row(found.columns)]
    lines += [r"\midrule", *map(_row, found.rows), r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return " & ".join(map(_text, cells)) + r" \\"


def _sentence(title: str) -> str:
    return title if title.endswith(("?", ".", "!")) else f"{title}."


def _text(text: str) -> str:
    return text.translate(_ESCAPES)
