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


def table(key_table: KeyTable) -> str:
    """Return a table with its title and note as a caption; it needs only `\\usepackage{booktabs}`."""
    sides = "l" + "r" * (len(key_table.columns) - 1)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_text(_sentence(key_table.title))} {_text(key_table.note)}}}",
    ]
    lines += [
        rf"\label{{tab:{key_table.name}}}",
        rf"\begin{{tabular}}{{{sides}}}",
        r"\toprule",
        _row(key_table.columns),
    ]
    lines += [r"\midrule", *map(_row, key_table.rows), r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return " & ".join(map(_text, cells)) + r" \\"


def _sentence(title: str) -> str:
    return title if title.endswith(("?", ".", "!")) else f"{title}."


def _text(text: str) -> str:
    return text.translate(_ESCAPES)
