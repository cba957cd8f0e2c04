"""The health page of the console in a real Chromium: a sentence first, then pictures, each also as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from streamer.local.ports import free_ports
from tests.acceptance.browser import OUTPUT, PATIENCE_MS, chromium, opened
from tests.made_console import LONG, MadeFeed, made_console
from tests.made_health import NEW

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def console() -> Iterator[tuple[MadeFeed, str]]:
    """A console of two pipelines of which no health app has spoken yet, and its address."""
    (port,) = free_ports(1)
    with made_console(2, port) as feed:
        yield feed, f"http://127.0.0.1:{port}/#/health"


def test_model_health_is_seen_and_read(console: tuple[MadeFeed, str]) -> None:
    """Before the app has spoken the page says what to do. Then each pipeline has a line, the worst first; by keyboard
    one comes to its charts by revision, to both histograms of what drifts, to those of all others, and to tables. On a
    phone nothing is wider than the screen; a baseline that is missing is named with its command."""
    feed, url = console
    expect.set_options(timeout=PATIENCE_MS)
    OUTPUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        with opened(browser, url) as page:
            _is_empty(feed, page)
            feed.speak("pipeline-00")
            feed.speak(LONG, drifts=False)
            _is_read_by_keyboard(page)
            page.screenshot(path=OUTPUT / "console-health-wide.png", full_page=True)
        feed.health.take(f"pipeline-00/baseline/{NEW}", None, 0)
        with opened(browser, f"{url}/pipeline-00", viewport=PHONE, color_scheme="dark") as page:
            expect(page.locator("#health canvas")).to_have_count(10)
            expect(page.get_by_text("There is no baseline of m@9d2f5a101111")).to_contain_text(
                "streamer health baseline save pipeline-00"
            )
            page.get_by_role("radio", name="14 days").check()
            expect(page.get_by_text("Means of an hour")).to_be_visible()
            page.screenshot(path=OUTPUT / "console-health-phone.png", full_page=True)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
            page.goto(f"{url}/nobody")
            expect(page.locator("#health .empty:visible")).to_contain_text("said nothing of a pipeline nobody")
        browser.close()


def _is_empty(feed: MadeFeed, page: Page) -> None:
    empty = page.locator("#health .empty")
    feed.health.source.error = "there is no topic streamer.health, the health app has not run here"
    expect(empty).to_contain_text("there is no topic streamer.health")
    expect(empty.locator("code")).to_have_text("streamer health run")
    feed.health.source.error = ""
    expect(empty).to_contain_text("streamer.health is there, and empty")


def _is_read_by_keyboard(page: Page) -> None:
    expect(page.locator("nav a[data-view=health]")).to_have_text("Model health ▲")
    lines = page.locator(".health-list li")
    expect(lines).to_have_count(2)
    expect(lines.first).to_contain_text(re.compile(r"▲ drift.*pipeline-00.*Label complaint 1\d % → 2\d % since", re.S))
    expect(lines.last).to_contain_text("Nothing moved of 10 figures")
    page.locator("#health").get_by_role("link", name="pipeline-00").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#health .says")).to_contain_text(re.compile("Label complaint 1. % → 2. %"))
    expect(page.locator("#health canvas")).to_have_count(10)

    plot = page.get_by_role("img", name="Shares of answers, 9d2f5a10")
    expect(plot).to_have_attribute("aria-label", re.compile(r"complaint 2\d %"))
    plot.focus()
    for _ in range(4):
        page.keyboard.press("PageUp")
    expect(plot).to_have_attribute("aria-label", re.compile(r"complaint (9\.\d|1\d) %"))

    matrix = page.get_by_role("table", name="Confusion matrix")
    expect(matrix.get_by_role("row", name=re.compile("^praise")).locator("td.right")).to_have_text(re.compile(r"\d\d+"))
    expect(page.get_by_role("img", name="Reliability diagram")).to_be_visible()
    expect(page.get_by_text("900 results have feedback since")).to_be_visible()
    expect(page.get_by_role("table", name="Quality by day").get_by_role("row")).to_have_count(3)

    label = page.locator('[data-monitor="label"]')
    row = label.get_by_role("row", name=re.compile("complaint"))
    expect(row.get_by_role("cell").nth(1)).to_have_text(re.compile(r"1\d %"))
    expect(row.get_by_role("cell").nth(2)).to_have_text(re.compile(r"2\d %"))
    assert [float(bar.get_attribute("width") or 0) for bar in row.locator("rect").all()] == sorted(
        float(bar.get_attribute("width") or 0) for bar in row.locator("rect").all()
    )
    expect(page.locator('[data-monitor="script"]')).to_have_count(0)
    page.get_by_text("What 8 other monitors see").press("Enter")
    expect(page.locator('[data-monitor="script"]').get_by_role("row", name=re.compile("latin"))).to_contain_text("97 %")
    page.locator('[data-monitor="text_chars"] summary').press("Enter")
    expect(page.locator('[data-monitor="text_chars"]').get_by_role("row")).to_have_count(11)
    page.get_by_text("All of it as a table").press("Enter")
    expect(page.get_by_role("table", name="Model health of pipeline-00 over time").locator("tbody tr")).to_have_count(
        240
    )
    expect(page.get_by_text(re.compile(r"58,\d00 results up to"))).to_be_visible()
    expect(page.get_by_text("There is no baseline")).to_have_count(0)
