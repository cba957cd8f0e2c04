"""A real Chromium for the tests of web pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright

from tests.acceptance.harness import ROOT

OUTPUT = ROOT / "test-output"  # screenshots, kept for who looks at what the tests saw
PATIENCE_MS = 30_000
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 375, "height": 812}
_FLAGS = ("--disable-gpu", "--no-first-run", "--disable-background-networking")


def chromium(playwright: Playwright) -> Browser:
    """The system's Chromium, else Playwright's own."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    path = found or playwright.chromium.executable_path
    if not Path(path).exists():
        pytest.fail("these tests need Chromium: apt-get install chromium, or .venv/bin/playwright install chromium")
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return playwright.chromium.launch(executable_path=path, args=flags)


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page with cookies and storage of its own; an error in its scripts fails the test."""
    context = browser.new_context(**{"viewport": WIDE, **options})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    assert errors == []


def until(condition: Callable[[], bool], page: Page) -> None:
    """Wait for what no locator can see, letting the page live."""
    for _ in range(PATIENCE_MS // 100):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError("not in time")
