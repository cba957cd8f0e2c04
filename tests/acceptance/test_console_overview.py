"""The overview of many pipelines in a real Chromium: the worst first, one click to each, on any screen."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from streamer.local.ports import free_ports
from tests.acceptance.browser import OUTPUT, PATIENCE_MS, chromium, opened
from tests.made_console import LONG, MadeFeed, made_console

PIPELINES = 25
MAX_TICK_BYTES = 30_000  # of an overview: each browser gets one a second


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all."""
    expect.set_options(timeout=PATIENCE_MS)
    OUTPUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        found = chromium(playwright)
        yield found
        found.close()


@pytest.fixture
def made() -> Iterator[tuple[MadeFeed, str]]:
    """A console of many pipelines, and its address."""
    (port,) = free_ports(1)
    with made_console(PIPELINES, port, "http://prometheus:9090/graph?pipeline={pipeline}") as feed:
        yield feed, f"http://127.0.0.1:{port}/"


def states(page: Page) -> list[str]:
    return [text.split(" ", 1)[1] for text in page.locator(".overview tbody .state").all_inner_texts()]


def test_the_worst_is_on_top_and_one_click_away(browser: Browser, made: tuple[MadeFeed, str]) -> None:
    """By mouse and by keyboard, with an address of its own; back leads back. What is wrong is said with its fix, by a
    sign and a word besides the colour."""
    feed, url = made
    assert len(feed.overview()) < MAX_TICK_BYTES
    with opened(browser, url) as page:
        rows = page.locator(".overview tbody")
        expect(rows).to_have_count(PIPELINES)
        found = states(page)
        order = ["stuck", "no member", "falling behind", "dead letters", "working", "idle"]
        assert found == sorted(found, key=order.index)
        expect(rows.nth(0)).to_contain_text(LONG)
        expect(rows.nth(0)).to_contain_text("a producer has opened a transaction there")
        expect(rows.nth(0)).to_contain_text("Fix: end that producer")
        expect(rows.nth(0)).to_contain_text("✖ 31 min 40 s")
        page.get_by_role("searchbox", name="Show pipelines by name").fill("EUROPE")
        expect(page.locator(".overview tbody:visible")).to_have_count(1)

        page.get_by_role("link", name=LONG).focus()
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{url}#/pipelines/{LONG}")
        expect(page.get_by_role("heading", name=LONG)).to_be_visible()
        expect(page.locator(".plot canvas")).to_have_count(6)
        more = page.get_by_role("link", name="More than 6 h")
        expect(more).to_have_attribute("href", f"http://prometheus:9090/graph?pipeline={LONG}")
        page.go_back()
        expect(page.get_by_role("link", name=LONG)).to_be_focused()
        expect(page.locator(".overview tbody:visible")).to_have_count(1)
        page.goto(f"{url}#/pipelines/nobody")
        expect(page.locator("#pipeline .empty")).to_contain_text("There is no pipeline nobody")


def test_old_figures_say_how_old_they_are(browser: Browser, made: tuple[MadeFeed, str]) -> None:
    """A driver that falls silent, and then the brokers."""
    feed, url = made
    with opened(browser, url) as page:
        row = page.locator('[data-pipeline="pipeline-08"]')
        expect(row).to_contain_text(re.compile(r"A driver has not answered for \d+ min"))
        feed.fall_silent()
        expect(row.locator(".state")).to_have_text("? unknown")
        expect(row).to_contain_text(re.compile(r"\d s ago"))
        expect(row.locator("td").nth(3)).to_have_text(re.compile(r"^\d{2,}$"))
        assert row.locator("td").nth(3).evaluate("(cell) => getComputedStyle(cell).opacity") < "1"
        expect(page.locator(".banner.bad")).to_contain_text("What is shown is as of")


@pytest.mark.parametrize("width", [390, 800])
def test_long_names_and_many_rows_fit(browser: Browser, made: tuple[MadeFeed, str], width: int) -> None:
    """Nothing is wider than the screen, and no name is cut off."""
    _, url = made
    with opened(browser, url, viewport={"width": width, "height": 844}) as page:
        expect(page.locator(".overview tbody")).to_have_count(PIPELINES)
        page.screenshot(path=OUTPUT / f"console-overview-{width}.png")
        for view in ("pipelines", f"pipelines/{LONG}"):
            page.goto(f"{url}#/{view}")
            expect(page.get_by_text(LONG).locator("visible=true").first).to_be_visible()
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
            names = page.locator(".overview th[scope=row], h2")
            assert names.evaluate_all("(all) => all.every((one) => one.scrollWidth <= one.clientWidth + 1)")
