"""Lines of code of each domain that ships with flatwide.

Run:     python benchmarks/domain_lines.py
Does:    counts the lines specific to a domain, without blank lines, comments and docstrings.
Prints:  a row for each domain: data, model, loss and metric, total. A shared file counts for the first domain.
"""

import ast
import io
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "flatwide"

# A file, or file:function, relative to the package.
DOMAINS = {
    "teacher and student": (["data/synthetic.py:teacher_student"], [], []),
    "vision transformer": ([], ["models/vit.py"], []),
    "part-of-speech tagging": (["data/words.py", "data/conllu.py"], ["models/transformer.py"], []),
    "text classification": (["data/labelled_text.py"], ["models/lstm.py"], []),
    "molecules": (
        ["data/graphs.py", "data/ogb.py", "data/smiles.py"],
        ["models/gcn.py", "models/dropout.py"],
        ["objectives.py:binary_cross_entropy", "objectives.py:average_precision", "objectives.py:_average_precision"],
    ),
    "MinAtar": (
        ["data/played.py", "data/minatar.py", "training/rollouts.py"],
        ["models/actor_critic.py"],
        ["objectives.py:ppo", "objectives.py:policy_and_values", "objectives.py:_policy_and_values"],
    ),
    "Atari": (["data/emulator.py", "data/atari.py", "training/hosted.py"], [], []),
}


def code_lines(where: str) -> int:
    """Count the lines of a file or a function that contain code."""
    name, _, function = where.partition(":")
    text = (PACKAGE / name).read_text()
    tree = ast.parse(text)
    if function:
        (tree,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
        text = ast.get_source_segment(text, tree) or ""
        tree = ast.parse(text)
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def main() -> None:
    print("| domain | data | model | loss and metric | in all |\n|---|---|---|---|---|")
    for domain, parts in DOMAINS.items():
        counts = [sum(map(code_lines, part)) for part in parts]
        print(f"| {domain} | {' | '.join(str(count or '-') for count in counts)} | {sum(counts)} |")


if __name__ == "__main__":
    main()
