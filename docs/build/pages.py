"""Write the pages of results, claims, costs and studies from docs/studies/*/study.toml and the tables beside it.

    python docs/build/pages.py

The costs of the paper's grid on docs/costs.md stay: `costs.py` counts them.
"""

from pathlib import Path

import claims
import costs
import language_models
import results
from studies import studies

STUDIES = Path(__file__).parents[1] / "studies.md"
_HEAD = "| study | gain by, or question | runs | data |\n|---|---|---|---|\n"


def table_of_studies() -> str:
    """Write the rows of the studies that ship."""
    return "".join(
        f"| [`{study.name}`](studies/{study.name}.md) | {study.question} | {study.runs} | {study.data} |\n"
        for study in studies()
        if study.question
    )


def pages() -> dict[Path, str]:
    """Write the text of every page."""
    before, head, _ = STUDIES.read_text().partition(_HEAD)
    return {
        results.PAGE: results.page(),
        claims.PAGE: claims.page(),
        costs.PAGE: costs.with_measured(costs.PAGE.read_text()),
        STUDIES: before + head + table_of_studies(),
        **language_models.pages(),
    }


if __name__ == "__main__":
    results.draw()
    language_models.draw()
    for path, text in pages().items():
        path.write_text(text)
