"""A report in a headless Chromium: nothing in its console, every section with its data, no wider than a phone."""

import json
from pathlib import Path

import pytest
from browser import BROWSER, DESKTOP, PHONE, Page, open_browser
from toy_report import NAMES, make_report_home, train, written

from msdn.app.report.report import write_report

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(BROWSER is None, reason="no chromium is installed here: apt-get install chromium"),
]
SECTIONS = """
[...document.querySelectorAll("section")].map(section => [section.id, {
  charts: [...section.querySelectorAll("svg[role=img]")].map(svg => svg.getBoundingClientRect().width > 100
    && svg.querySelectorAll("path, use").length > 3 && svg.querySelector("title").textContent.length > 0),
  images: [...section.querySelectorAll("img")].map(image => image.naturalWidth),
  data: [...section.querySelectorAll("pre")].map(data => data.textContent.split("\\n").length),
  rows: section.querySelectorAll("tr").length,
}])
"""
MINIMUM = {  # of charts, images, data and rows
    "summary": (0, 0, 0, 3),
    "curve": (2, 0, 2, 0),
    "training": (3, 0, 3, 0),
    "classes": (0, 0, 0, 12),
    "confusion": (1, 0, 1, 0),
    "confidence": (2, 0, 2, 0),
    "pictures": (6, 0, 6, 0),
    "attention": (0, 7, 1, 0),
    "protocol": (0, 0, 0, 20),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home, cache = make_report_home(tmp_path_factory.mktemp("made"))
    return write_report(home, [train(home, cache).path]).page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Page:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_every_section_is_shown_without_a_word_in_the_console(
    report: Path, browser: Page, width: int, dark: bool
) -> None:
    browser.said.clear()
    browser.asked_for.clear()
    browser.open(report, width, dark)
    sections = dict(browser.evaluate(SECTIONS))
    assert sections.keys() == MINIMUM.keys()
    for name, (charts, images, data, rows) in MINIMUM.items():
        found = sections[name]
        assert len(found["charts"]) == charts and all(found["charts"]), name
        assert len(found["images"]) >= images and all(found["images"]), name
        assert len(found["data"]) == data and all(count > 2 for count in found["data"]), name
        assert found["rows"] >= rows, name
    assert browser.said == []
    loaded = [address for address in browser.asked_for if not address.startswith("data:")]
    assert loaded == [report.resolve().as_uri()], "the page asks nobody for anything"
    assert browser.evaluate("document.documentElement.scrollWidth") <= width, "nothing makes the page wider"
    assert browser.evaluate("window.innerWidth") == width
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = browser.evaluate("getComputedStyle(document.body).color")
    dark_first = [sum(map(int, colour.strip("rgb()").split(","))) for colour in (background, ink)]
    assert (dark_first[0] < dark_first[1]) == dark


def test_hostile_names_are_text_and_run_nothing(report: Path, browser: Page) -> None:
    browser.open(report)
    shown = browser.evaluate("document.body.textContent")
    for name in NAMES.values():
        assert written(name) in shown
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.evaluate("document.querySelectorAll('img[src=x], b').length") == 0
    assert browser.said == [], json.dumps(browser.said)


def test_text_in_charts_can_be_read(report: Path, browser: Page) -> None:
    browser.open(report, PHONE)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('figure:not(.square) svg[role=img] text')]"
        ".map(text => text.getBoundingClientRect()).filter(box => box.width > 0)"
        ".map(box => Math.min(box.width, box.height))"
    )
    assert len(sizes) > 30 and min(sizes) > 4
