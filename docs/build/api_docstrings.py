"""Turn this project's docstrings into Markdown for the API reference.

A section begins on the line of its title (`Returns: one row a width`); its further lines are indented. The items of
`Args`, and the fields of a tuple, are `name: text`.
"""

import re

import griffe

_SECTION = re.compile(r"^(Args|Args, Raises|Args and raises|Returns|Raises|Equation|Cost|Source):(?: +(.*))?$")
_ITEM = re.compile(r"^(?:  )?(\w+(?:\([^)]*\))?(?: -> [^:]+)?(?:, \w+)*): (.*)$")


class Sections(griffe.Extension):
    """Rewrite the docstring of each module, class and function."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Write a docstring as Markdown: bold sections, lists of items, equations and listings as they were typed."""
    lines: list[str] = []
    section, is_fenced = "", False
    for line in text.splitlines():
        is_within = line.startswith("  ") or not line.strip()
        if is_fenced and not is_within:
            lines, is_fenced = [*lines, "```", ""], False
        if match := _SECTION.match(line):
            section, rest = match[1], match[2] or ""
            if section == "Equation":
                lines, is_fenced = [*lines, "", "**Equation**", "", "```text", *filter(None, [rest])], True
            else:
                lines += ["", f"**{section}** {rest}".rstrip()] + ([""] if section == "Args" else [])
        elif not section and not is_fenced and line.startswith("    "):
            lines, is_fenced = [*lines, "```text", line[4:]], True
        elif is_fenced:
            lines.append(line.strip() if section else line[4:])
        elif match := _ITEM.match(line) if section in ("", "Args") else None:
            is_first = not lines or not lines[-1].startswith(("- ", "  "))
            lines += [*([""] if is_first and lines and lines[-1] else []), f"- `{match[1]}`: {match[2]}"]
        else:
            lines.append(f"  {line.strip()}" if lines and lines[-1].startswith(("- ", "  ")) and is_within else line)
    return "\n".join([*lines, "```"] if is_fenced else lines)
