"""The page as a file: complete, safe against the contents of tables, accessible and small."""

import itertools
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd

from flatwide import report
from flatwide.report import charts


class Elements(HTMLParser):
    """A parser that collects start tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._silent = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._silent -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._silent:
            self.words.append(data)

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_headings_are_in_order_and_ids_are_unique(page):
    elements = Elements(page.read_text())
    levels = [int(tag[1]) for tag, _ in elements.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for attributes in elements.named("a")]
    assert targets
    assert {target.removeprefix("#") for target in targets if target} <= set(ids)
    pointed = [
        attributes[name] for _, attributes in elements.tags for name in ("aria-labelledby", "for") if name in attributes
    ]
    assert set(pointed) <= set(ids)


def test_landmarks_and_texts_in_place_of_charts_are_there(page):
    elements = Elements(page.read_text())
    tags = [tag for tag, _ in elements.tags]
    assert [tags.count(name) for name in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    assert tags.count("figure") == tags.count("figcaption") + 1 >= 2  # the first is explained in what it unfolds
    assert tags.count("details") > tags.count("figure")
    charts = [attributes for attributes in elements.named("div") if "data-chart" in attributes]
    assert len(charts) == tags.count("figure")
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert elements.named("html")[0]["lang"] == "en"


def test_layer_sizes_are_joined_by_hyphens(tmp_path, make):
    for neurons, rho in itertools.product(((30,), (300, 100)), (0.0, 0.1)):
        make(tmp_path, neurons[0], rho, 0, num_neurons=neurons)
    text = report.write(tmp_path, formats=()).read_text()
    assert "<dd>30, 300-100</dd>" in text
    assert '"300-100"' in text  # in the table of runs
    assert "<td>300-100</td>" in text or '<th scope="row">300-100</th>' in text
    charts_and_tables = re.sub(r"<pre.*?</pre>|<script>.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r"\(\d+,[\d,]*\)", charts_and_tables) == []


def test_only_colors_that_are_hard_to_see_in_the_dark_are_lightened():
    spec = {"config": {"title": {"color": "#222222"}}, "layer": [{"mark": {"color": "#440154"}}]}
    spec["encoding"] = {"color": {"scale": {"range": ["#D55E00", "#440154", "white"]}}}
    rules = charts.dark_rules([SimpleNamespace(spec=spec)])
    assert set(re.findall(r'"(#\w+)" i', rules)) == {"#440154"}
    assert {'[stroke="#440154" i]', '[fill="#440154" i]', '[style*="#440154" i]'} <= set(re.findall(r"\[.*?\]", rules))
    assert charts.dark_rules([SimpleNamespace(spec={"mark": {"color": "#D55E00"}})]) == ""


def test_only_an_incomplete_study_reloads_its_page(workdir, page):
    assert "data-reload-seconds" in page.read_text()
    complete = report.write(workdir, formats=(), num_planned=36).read_text()
    assert "data-reload-seconds=" not in complete
    assert "location.reload" not in complete
    report.write(workdir, formats=(), num_planned=40)


def test_nothing_is_loaded_from_elsewhere(page):
    elements = Elements(page.read_text())
    assert not elements.named("iframe", "object", "embed")
    assert not [attributes for _, attributes in elements.tags if "src" in attributes]
    assert [attributes["href"] for attributes in elements.named("link")] == ["data:,"]
    policy = next(a["content"] for a in elements.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    (style,) = re.findall(r"<style>(.*?)</style>", page.read_text(), flags=re.DOTALL)
    assert "url(" not in style


def test_the_answer_comes_first_and_cautions_before_figures(page):
    text = page.read_text()
    positions = [
        text.index(f'<section id="{name}"') for name in ("answer", "cautions", "figures", "tables", "runs", "repeat")
    ]
    assert positions == sorted(positions)
    words = " ".join(Elements(text).words)
    assert "The gain of SAM over SGD grows with width" in words
    assert "1 run diverged" in words
    assert "36 of 40" in words  # runs of the study
    assert "python main.py --workdir=W --config=study.py" in words
    assert "jax 0.10.2" in words
    assert "c0ffee" in words  # the fingerprint of the data


def test_what_a_table_holds_cannot_become_markup(tmp_path, embedded):
    evil = "</script><script>document.title='owned'</script><!--"
    rows = [
        {"size": size, "rho": rho, "seed": seed, "acc": 0.8 + rho / 2, "run": f"{evil}{size}", "dataset": data}
        | {"<b>&'\"": evil if seed else 1}
        for size, rho, seed, data in itertools.product((10, 100), (0.0, 0.1), (0, 1, 2), (evil, "<i>"))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    text = report.write_table(tmp_path / "runs.csv").read_text()
    plain = report.write_table(_plain(tmp_path)).read_text()
    for tag in ("<script>", "<b>", "<i>", "</script", "<!--"):
        assert text.count(tag) == plain.count(tag)
    data = embedded(text, "run-data")
    assert {row[0] for row in data["rows"]} == {f"{evil}10", f"{evil}100"}
    assert "<b>&'\"" in [column["name"] for column in data["columns"]]
    assert evil in Elements(text).words


def _plain(folder):
    rows = [
        {"size": size, "rho": rho, "seed": seed, "acc": 0.8 + rho / 2, "run": f"r{size}", "dataset": data}
        for size, rho, seed, data in itertools.product((10, 100), (0.0, 0.1), (0, 1, 2), "xy")
    ]
    pd.DataFrame(rows).to_csv(folder / "plain.csv", index=False)
    return folder / "plain.csv"


def test_a_study_of_500_runs_is_below_2_mb(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        {"num_params": 75 * width + 10, "rho": rho, "seed": seed, "test_accuracy": random.uniform(0.7, 0.9)}
        | {"run": f"digits-MLP{width}-rho{rho}-seed{seed}-0123abcd", "train_loss": random.uniform()}
        for width, rho, seed in itertools.product(
            (4, 8, 16, 32, 64, 128, 256), (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1), range(9)
        )
    ]
    assert len(rows) > 500
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    page = report.write_table(tmp_path / "runs.csv")
    assert page.stat().st_size < 2_000_000


def test_the_same_table_gives_the_same_bytes(workdir, page):
    before = page.read_bytes()
    report.write(workdir, formats=())
    assert page.read_bytes() == before


def test_a_caution_of_several_parts_appears_once(content_of_table):
    rows = [
        {"size": size, "rho": rho, "seed": seed, "acc": 0.8 + rho / 2 + seed / 100, "label_noise": noise}
        for size, rho, seed, noise in itertools.product((10, 100), (0.0, 0.1), (0, 1, 2), (0.0, 0.25, 0.5))
        if (rho, seed, noise) != (0.1, 2, 0.5)
    ]
    content = content_of_table(pd.DataFrame(rows))
    (few,) = [text for text in content.cautions if "seeds at a width" in text]
    assert few.startswith(
        "label_noise=0.0 and label_noise=0.25 (as few as 3 seeds at a width); label_noise=0.5 (as few as 2 seeds at a "
        "width): intervals are wide"
    )
    (short,) = [text for text in content.cautions if "ewer than three values of rho" in text]
    assert short.startswith("Fewer")  # it holds for all, so no part is named
    assert {f"label_noise={noise}" for noise in (0.0, 0.25, 0.5)} <= {part for part, _ in content.answers}
