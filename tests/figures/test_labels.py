"""Axis titles: words and units, for existing columns."""

import re

import pytest

from flatwide.columns import RESULT_FIELDS
from flatwide.config import SCHEMA
from flatwide.figures import labels


@pytest.mark.parametrize(
    ("name", "metric_name", "title"),
    [
        ("num_params", "accuracy", "number of parameters"),
        ("test_metric", "accuracy", "test accuracy (%)"),
        ("test_metric", "mean_average_precision", "test mean average precision (%)"),
        ("test_metric", "loss", "test loss"),
        ("gain", "accuracy", "gain in accuracy (points)"),
        ("gain", "loss", "gain in loss"),
        ("my_column", "accuracy", "my_column"),
    ],
)
def test_titles(name, metric_name, title):
    assert labels.label(name, metric_name=metric_name) == title


def test_every_title_is_of_a_word_in_the_glossary(root):
    glossary_names = set(re.findall(r"^\| `(\w+)` ", (root / "docs" / "glossary.md").read_text(), flags=re.MULTILINE))
    assert set(labels.LABELS) - {"loss", "metric"} <= glossary_names | SCHEMA.keys() | RESULT_FIELDS.keys()
