"""Show executed notebooks as pages of the site: a hook of MkDocs that writes each as Markdown, with its outputs."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook; the notebook itself stays a file to download."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        notebook = json.loads(Path(config.docs_dir, file.src_uri).read_text(encoding="utf-8"))
        page = file.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, page, content=markdown(notebook, name=Path(file.src_uri).name)))
    return files


def on_page_markdown(text: str, **_: Any) -> str:
    """Let links to a notebook, which a repository shows itself, lead to its page."""
    return re.sub(r"\((\S*notebooks/\w+)\.ipynb\)", r"(\1.md)", text)


def markdown(notebook: Mapping[str, Any], *, name: str) -> str:
    """Write a notebook as Markdown: its text, its code and the outputs of each cell."""
    blocks = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        blocks.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        blocks += _outputs(cell.get("outputs", []))
    return "\n\n".join([*blocks, f"[Download this notebook]({name})\n"])


def _outputs(outputs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Write outputs: figures as pictures, tables as HTML, all else as text."""
    for output in outputs:
        data = {kind: "".join(lines) for kind, lines in output.get("data", {}).items()}
        if picture := data.get("image/svg+xml"):
            encoded = base64.b64encode(picture.encode()).decode()
            yield f'<img alt="figure" src="data:image/svg+xml;base64,{encoded}">'
        elif table := re.search(r"<table.*?(<thead>.*</tbody>)", data.get("text/html", ""), flags=re.DOTALL):
            yield f"<table>{table[1]}</table>"
        else:
            # A line that was redrawn ends with what it showed last.
            text = re.sub(r"[^\n]*\r", "", "".join(output.get("text", [])) or data["text/plain"])
            yield f"```text\n{text.rstrip()}\n```"
