"""The page in a real browser: charts, tooltips, legends, the table of runs, keyboard, screen sizes, schemes, print."""

import csv
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from flatwide import report
from flatwide.report import charts

SIZES = {"desktop": (1400, 900), "laptop": (1280, 800), "phone": (400, 812), "small": (400, 800)}


@pytest.fixture(scope="module")
def open_page(browser, page):
    """Return a function that opens the report; no network requests and no console messages are allowed."""
    contexts, messages = [], []

    def open_one(size="desktop", scheme="light", path=page, *, has_clock=False):
        width, height = SIZES[size]
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        shown = contexts[-1].new_page()
        shown.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
        shown.on("pageerror", lambda error: messages.append(f"error: {error}"))
        shown.on(
            "request", lambda request: messages.extend([request.url] if not request.url.startswith("file:") else [])
        )
        if has_clock:
            shown.clock.install()
        shown.goto(path.as_uri())
        shown.wait_for_selector("html[data-charts=drawn]", timeout=60_000)
        return shown

    yield open_one
    for context in contexts:
        context.close()
    assert [text for text in messages if not text.startswith("data:")] == []


@pytest.fixture(scope="module")
def desktop(open_page):
    """Open the report on a desktop, once for the tests that do not change it."""
    return open_page()


def cells(shown, name):
    """Return the cells of a column of the table of runs."""
    heads = shown.locator("#run-table thead button").all_inner_texts()
    index = next(i for i, head in enumerate(heads) if re.sub(r" [▲▼]$", "", head) == name)
    return shown.locator(f"#run-table tbody tr > :nth-child({index + 1})").all_inner_texts()


TOO_WIDE = """() => [...document.querySelectorAll("body *")].filter(element => {
    const scroller = element.closest(".scroll, pre, nav ul");
    if (element.closest("#vg-tooltip-element") || (scroller && scroller !== element)) return false;
    const box = element.getBoundingClientRect();
    if (box.width === 0) return false;
    const outer = element.parentElement.getBoundingClientRect();
    const isSpilling = !scroller && !element.closest("svg") && element.scrollWidth > element.clientWidth + 1;
    const isBlock = getComputedStyle(element).display !== "inline";
    return box.right > Math.min(innerWidth, outer.right) + 1 || box.left < outer.left - 1 || (isBlock && isSpilling);
}).map(element => element.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_loads_quietly_and_fits_the_screen(open_page, size, scheme):
    shown = open_page(size, scheme)
    assert shown.locator(".chart").count() == shown.locator(".chart svg").count() >= 2
    assert shown.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    shown.evaluate("document.querySelectorAll('details').forEach(element => element.open = true)")
    assert shown.evaluate(TOO_WIDE) == []
    ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", ground)))
    assert (brightness > 600) == (scheme == "light")


@pytest.fixture(scope="module")
def complete(workdir, page, tmp_path_factory):
    """Write the report of the study as complete, without a note on its progress."""
    return report.write(workdir, num_planned=36, path=tmp_path_factory.mktemp("complete") / "page.html", name="study")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["laptop", "small"])
def test_headline_figure_and_findings_are_on_the_first_screen(open_page, complete, size, scheme):
    shown = open_page(size, scheme, path=complete)
    parts = [shown.locator(f"#answer {part}") for part in (".headline", "figure .chart", ".findings")]
    parts += [shown.locator("#answer .scroll").filter(has=shown.locator(":text('best rho')"))]
    boxes = [part.bounding_box() for part in parts]
    tops, bottoms = [box["y"] for box in boxes], [box["y"] + box["height"] for box in boxes]
    assert max(bottoms[:3] if size == "small" else bottoms) <= 800
    assert bottoms[0] < tops[1]
    assert bottoms[2] < tops[3]
    assert size == "laptop" or tops[2] > bottoms[1]  # beside the figure, or below it
    growth, of_sam = shown.locator("#answer .findings li").all_inner_texts()  # the best rho has no interval
    assert growth.startswith("The gain grows with width: +")
    assert of_sam.startswith("SAM itself improves with width: +")
    assert not shown.locator("#answer .answer").first.is_visible()
    shown.get_by_text("In detail").click()
    assert "The gain of SAM over SGD grows with width" in shown.locator("#answer .answer").first.inner_text()
    assert shown.locator("#cautions > ul > li").count() == 3


COLORS = """selector => {
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const element = document.querySelector(selector);
    let behind = element;
    while ((parse(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
    return [parse(getComputedStyle(element).color), parse(getComputedStyle(behind).backgroundColor)];
}"""


def contrast(shown, selector):
    """Compute the contrast of a text against its background."""
    return ratio(*shown.evaluate(COLORS, selector))


def ratio(one_color, other_color):
    """Compute the contrast of two colors, as defined by WCAG 2."""

    def light(color):
        channels = [c / 255 / 12.92 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color[:3]]
        return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), channels, strict=True))

    darker, lighter = sorted(map(light, (one_color, other_color)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_kind_of_text_is_legible(open_page, scheme):
    shown = open_page(scheme=scheme)
    kinds = [
        ".answer",
        ".explanation",
        ".cautions li",
        "figcaption",
        ".chart-note",
        "summary",
        "nav a",
        ".legend button",
    ]
    for kind in [
        *kinds,
        ".subtitle",
        ".hint",
        "#run-table td",
        "thead button",
        "pre code",
        "dd",
        ".progress",
        "footer p",
    ]:
        assert contrast(shown, kind) >= 4.5, kind


# The contrast of each text of a chart, and of each opaque line, dot and swatch, with the card behind it.
INK = """() => {
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const style = element => getComputedStyle(element);
    const marks = [...document.querySelectorAll(".chart svg :is(.mark-line, .mark-symbol, .mark-rule) path")];
    const visible = marks.map(style).filter(s => Math.min(s.opacity, s.strokeOpacity, s.fillOpacity) >= 0.9);
    const labels = [...document.querySelectorAll(".chart svg text")].filter(e => !e.closest(".role-mark"));
    return {
        card: parse(style(document.querySelector("figure")).backgroundColor),
        texts: labels.map(e => parse(style(e).fill)),
        marks: [
            ...visible.map(s => (s.stroke !== "none" ? s.stroke : s.fill)).filter(c => c !== "none").map(parse),
            ...[...document.querySelectorAll(".swatch")].map(e => parse(style(e).backgroundColor)),
        ],
    };
}"""


def test_charts_are_legible_in_the_dark(open_page, page, tmp_path):
    violet = SimpleNamespace(spec={"layer": [{"mark": {"color": "#440154"}}]})  # the darkest of an ordered series
    path = tmp_path / "violet.html"
    text = page.read_text().replace("#0072B2", "#440154")
    path.write_text(text.replace("</style>", f"{charts.dark_rules([violet])}</style>", 1))
    shown = open_page(scheme="dark", path=path)
    ink = shown.evaluate(INK)
    assert sum(ink["card"]) < 150
    assert min(ratio(color, ink["card"]) for color in ink["texts"]) >= 4.5
    assert len(ink["marks"]) > 20
    assert min(ratio(color, ink["card"]) for color in ink["marks"] if color[3:] != [0]) >= 3
    shown.emulate_media(media="print")
    assert sum(shown.evaluate(INK)["texts"][0]) < 150  # dark ink on paper


def test_the_first_column_of_a_table_stays_and_a_hint_says_that_it_scrolls(open_page, desktop):
    shown = open_page("phone")
    region = shown.get_by_role("region", name="Table: The gain at each width")
    hint = region.locator("xpath=preceding-sibling::p[contains(@class, 'scroll-hint')]")
    assert hint.inner_text() == "This table scrolls sideways →"
    region.evaluate("element => element.scrollLeft = 150")
    lefts = region.evaluate(
        "element => [element, ...element.querySelectorAll('tr > :first-child')]"
        ".map(child => child.getBoundingClientRect().left)"
    )
    assert max(lefts) - min(lefts) <= 1  # the border of the region
    assert region.evaluate("element => element.scrollLeft") == 150
    assert region.locator("tbody th").first.bounding_box()["height"] < 45  # sizes stay on one line
    assert shown.locator("#run-table tbody th").first.bounding_box()["width"] < 200  # long names leave room for others
    short = desktop.get_by_role("region", name="In short: gains by width")
    assert not short.locator("xpath=preceding-sibling::p[contains(@class, 'scroll-hint')]").last.is_visible()


def saved(shown, name):
    """Press a button; return the name and the text of the file that it saves."""
    with shown.expect_download() as download:
        shown.get_by_role("button", name=name, exact=True).press("Enter")
    return download.value.suggested_filename, Path(download.value.path()).read_text()


def test_tables_runs_and_pictures_are_saved_by_keyboard(desktop):
    name, text = saved(desktop, "Save data (CSV): The gain at each width")
    assert name == "gain_by_width_table.csv"
    rows = list(csv.reader(text.splitlines()))
    assert rows[0][:3] == ["num_neurons", "parameters", "SGD (%)"]
    assert [row[1] for row in rows[1:]] == ["310", "1210", "4810"]  # no separators of thousands
    assert rows[1][rows[0].index("95 % interval")].startswith(("'+", "'-"))  # no formula for a spreadsheet
    desktop.get_by_label("Filter the runs").fill("rho=0.1")
    name, text = saved(desktop, "Save data (CSV): the runs that match")
    desktop.get_by_label("Filter the runs").fill("")
    assert name == "runs.csv"
    assert len(text.splitlines()) == 1 + 9
    name, text = saved(desktop, "Save picture (SVG): " + desktop.locator("#figure-gain_by_width h3").inner_text())
    assert name == "gain_by_width.svg"
    picture = ElementTree.fromstring(text)
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert 'fill="white"' in text  # its paper


def test_a_command_is_copied(open_page):
    shown = open_page()
    shown.get_by_role("button", name="Copy: Command").press("Enter")
    shown.get_by_role("button", name="Copied: Command").wait_for()
    field = shown.get_by_label("Filter the runs")
    field.press("Control+v")
    assert field.input_value() == shown.locator("pre").first.inner_text()


def test_pointing_at_a_seed_shows_its_run(desktop):
    desktop.locator("#figure-gain_by_width .chart").scroll_into_view_if_needed()
    desktop.locator("#figure-gain_by_width .chart .mark-symbol path").first.hover(force=True)
    tip = desktop.locator("#vg-tooltip-element.visible")
    tip.wait_for(timeout=5000)
    assert re.search(r"digits-MLP\d+-rho[\d.]+-seed\d", tip.inner_text())
    desktop.mouse.move(0, 0)


def test_the_legend_hides_and_shows_a_series_by_keyboard(desktop):
    figure = desktop.locator("#figure-metric_by_width")
    hidden = figure.locator('.chart svg [opacity="0"]')
    button = figure.locator(".legend button", has_text="SAM")
    assert hidden.count() == 0
    button.focus()
    desktop.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    hidden.first.wait_for(state="attached")
    assert hidden.count() < figure.locator(".chart svg .mark-symbol path").count()
    desktop.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    desktop.wait_for_function("document.querySelectorAll('#figure-metric_by_width svg [opacity=\"0\"]').length === 0")


def test_runs_are_sorted_by_keyboard(desktop):
    button = desktop.locator("#run-table thead button", has_text="test accuracy (%)").first
    head = button.locator("..")
    assert head.get_attribute("aria-sort") == "none"
    button.focus()
    desktop.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    values = cells(desktop, "test accuracy (%)")
    assert values[-1] == ""  # the run that diverged is last either way
    numbers = [float(value) for value in values[:-1]]
    assert numbers == sorted(numbers)
    assert len(numbers) == 35
    desktop.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    values = cells(desktop, "test accuracy (%)")
    assert [float(value) for value in values[:-1]] == sorted(numbers, reverse=True)
    assert desktop.locator('#run-table thead th[aria-sort="descending"]').count() == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("rho=0.1", 9),
        ("rho=0.1 seed<2", 6),
        ("RHO=0.1 num_neurons=64", 3),
        ("status=diverged", 1),
        ("mlp64", 12),
        ("rho != 0.1 seed >= 1", 18),
        ("num_params=4,810 rho>0", 9),
        ('"rho0.1-seed0" status="finished"', 3),
        ("nothing", 0),
        ("test_accuracy>85", None),
    ],
)
def test_runs_are_filtered_as_one_types(desktop, text, number):
    field = desktop.get_by_label("Filter the runs")
    field.focus()
    desktop.keyboard.type(text)
    shown = desktop.locator("#run-table tbody tr").count()
    if number is None:
        assert 0 < shown < 36
        assert min(map(float, cells(desktop, "test accuracy (%)"))) >= 85
    else:
        assert shown == number
    assert desktop.get_by_role("status").inner_text() == f"{shown} of 36 runs"
    field.fill("")
    assert desktop.get_by_role("status").inner_text() == "36 runs"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed<2 rho=", "At character 8: the value after “rho=” is missing."),
        ("=0.1", "At character 1: the column before “=” is missing."),
        ("rho=>0.1", "At character 1: unknown comparison “=>”; expected one of = != < <= > >=."),
        ("rhoo=0.1", "At character 1: unknown column “rhoo”; expected one of run, status, "),
        ("rho=large", "At character 1: “large” is not a number, as the values of “rho” are."),
        ("status<5", "At character 1: “status” is text, which “<” cannot compare; expected = or !=."),
        ('rho=0.1 "mlp', "At character 9: the closing quote of this text is missing."),
    ],
)
def test_a_filter_with_an_error_says_what_and_where_and_keeps_the_rows(desktop, text, problem):
    field = desktop.get_by_label("Filter the runs")
    field.fill("rho=0.1")
    field.fill(text)
    assert desktop.locator("#filter-problem").inner_text().startswith(problem)
    assert field.get_attribute("aria-invalid") == "true"
    assert desktop.get_by_role("status").inner_text() == "9 of 36 runs"
    field.fill("")
    assert desktop.locator("#filter-problem").inner_text() == ""
    assert field.get_attribute("aria-invalid") == "false"


def test_the_keyboard_reaches_everything_in_order(open_page):
    shown = open_page()
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.className") == "skip"
    assert shown.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    shown.keyboard.press("Enter")
    assert shown.evaluate("document.activeElement.id") == "answer"
    seen = []
    for _ in range(300):
        shown.keyboard.press("Tab")
        seen.append(shown.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if seen[-1] == "BODY":
            break
        assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", seen[-1]
    assert {"filter", "SUMMARY", "BUTTON", "PRE"} <= set(seen)


def test_elements_have_roles_and_names(desktop):
    for role, name in [
        ("navigation", "Contents"),
        ("region", "The answer"),
        ("region", "Before you rely on this"),
        ("heading", "Which rho for my width?"),
        ("searchbox", "Filter the runs"),
    ]:
        assert desktop.get_by_role(role, name=name).count() == 1, (role, name)
    assert desktop.get_by_role("figure").count() == desktop.locator("figure").count()
    assert desktop.get_by_role("columnheader", name="seed", exact=True).count() >= 1


def test_it_prints_with_tables_and_without_controls(open_page):
    shown = open_page(scheme="dark")
    paper = shown.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page[^s]", paper)) >= 3
    shown.emulate_media(media="print")
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not shown.locator("#filter").is_visible()
    assert shown.locator("#run-table tbody tr").count() == 36
    assert shown.locator("details[open] table").first.is_visible()
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.locator("details[open]").count() == 0


def minute_later(shown):
    """Let a minute pass for the page; return the text on its progress, if it has any."""
    shown.clock.fast_forward(61_000)
    shown.wait_for_timeout(200)
    shown.wait_for_selector("html[data-charts=drawn]")
    return " ".join(shown.locator(".progress").all_inner_texts())


def test_an_incomplete_page_reloads_until_it_is_complete(open_page, page, tmp_path):
    path = tmp_path / "live.html"
    path.write_text(page.read_text())
    shown = open_page(path=path, has_clock=True)
    pause = shown.get_by_role("button", name="Pause reloading")
    pause.click()
    path.write_text(page.read_text().replace("36 of 40", "39 of 40"))
    assert "36 of 40" in minute_later(shown)
    pause.click()
    shown.locator("main details").first.locator("summary").click()  # its reader is busy
    assert "36 of 40" in minute_later(shown)
    shown.locator("main details").first.locator("summary").click()
    assert "39 of 40" in minute_later(shown)
    os.utime(path, (time.time() - 7200,) * 2)  # the study has stopped
    shown.reload()
    path.write_text(page.read_text().replace("36 of 40", "40 of 40"))
    assert "39 of 40" in minute_later(shown)


def test_names_that_look_like_code_stay_text(open_page, tmp_path):
    import pandas as pd

    evil = "<img src=x onerror=\"document.title='owned'\">"
    rows = [
        {
            "size": size,
            "rho": rho,
            "seed": seed,
            "acc": 0.8 + rho * size / 1e4,
            "run": f"{evil}{size}",
            evil: f"{evil}{seed}",
        }
        for size in (10, 1000)
        for rho in (0.0, 0.1)
        for seed in (0, 1, 2)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    shown = open_page(path=report.write_table(tmp_path / "runs.csv"))
    shown.locator("#figure-gain_by_width .chart .mark-symbol path").first.hover(force=True)
    shown.locator("#vg-tooltip-element.visible").wait_for(timeout=5000)
    assert shown.title() == "SAM against its base optimizer: runs.csv"
    assert shown.locator("img").count() == 0
    assert evil in shown.locator("#run-table").inner_text()


def test_ten_thousand_runs_are_sorted_and_filtered_at_once(open_page, tmp_path):
    from flatwide.answers import short
    from flatwide.report import content, page

    columns = [
        {"name": name, "label": name, "kind": kind, "percent": False}
        for name, kind in (("run", "text"), ("x", "number"))
    ]
    empty = content.Content(
        *("1", "many", "", "", short.Short("", [], [], [], "test_metric"), None, None, [], "", [], [], {}, []),
        runs={"columns": columns, "rows": [[f"run{i}", (i * 7919) % 10007 / 7] for i in range(10_000)]},
        commands=[],
        unrecorded="",
        settings=[],
        settings_heading="",
        facts=[],
        notes=(),
        terms=[],
    )
    path = tmp_path / "many.html"
    path.write_text(page.render(empty))
    shown = open_page(path=path)
    took = shown.evaluate(
        """() => {
            const begin = performance.now();
            document.querySelectorAll("#run-table thead button")[1].click();
            const filter = document.getElementById("filter");
            filter.value = "x>100";
            filter.dispatchEvent(new Event("input"));
            return performance.now() - begin;
        }"""
    )
    assert shown.locator("#run-table tbody tr").count() == 50
    assert float(cells(shown, "x")[0]) == pytest.approx(100, abs=0.2)
    assert took < 2000  # milliseconds; some tens on a machine with nothing else to do
