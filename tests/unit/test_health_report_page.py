"""`streamer health report`: the page that it writes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec

from streamer.core.health.pages.picture import Picture, picture
from streamer.core.health.pages.view import HealthView
from streamer.core.health.windows.fold import FIVE_MINUTES_MS
from streamer.core.health.words import BaselineWord, DriftWord
from streamer.health.summary.page import page_of
from tests.health_kit import NOW_MS
from tests.made_health import words


def made(name: str = "p", *, baselines: bool = True, drifts: bool = True) -> Picture:
    view = HealthView()
    for key, word in words(name, NOW_MS, drifts=drifts):
        if baselines or not isinstance(word, BaselineWord | DriftWord):
            view.take(key, word)
    return picture(name, view.pipelines[name], FIVE_MINUTES_MS, NOW_MS)


class Reader(HTMLParser):
    """Reads a page as a browser does: what it loads or runs, and whether each element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "onload"}
        self.tags.append(tag)
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_says_it_first_and_shows_it_then() -> None:
    """A sentence for each pipeline, a chart for each figure, both histograms of what drifts, and tables of all."""
    page = page_of([made(), made("well", drifts=False)], NOW_MS, "streamer.health")
    read = Reader(page)
    assert read.open == []
    assert "script" not in read.tags
    assert re.search(r'class="says">Label complaint 1\d % → 2\d % since \d\d:\d\d UTC, [\d,]+ texts; 1 more', page)
    assert "Nothing moved of 10 figures" in page
    assert page.count('class="line s1"') == 2 * 9
    assert page.count("Reliability diagram") == page.count('class="heat"') == 2
    assert page.count("900 labels") == 2
    assert page.count('class="area ') == 2 * 2 * 7
    assert re.search(
        r'aria-label="Confidence, mean over time; last: m@9d2f5a101111 0\.6\d, m@4be01c770000 0\.\d\d"', page
    )
    complaint = re.search(r'<th scope="row">complaint</th><td>1\d %</td><td>2\d %</td>', page)
    assert complaint, page
    assert page.count(">All lines as a table<") == 2
    assert "58,800 results from" in page


def test_names_are_no_markup() -> None:
    """Labels, models and pipelines come from elsewhere."""
    one, evil = made(), "<script>alert(1)</script>"
    (first, second), (label, *others) = one.series, one.drift
    first = msgspec.structs.replace(first, model=evil, labels={evil: first.labels["praise"]})
    label = msgspec.structs.replace(label, what=evil, bars=[(evil, 0.5, 0.4)])
    one = msgspec.structs.replace(one, pipeline=evil, series=[first, second], drift=[label, *others])
    page = page_of([one], NOW_MS, evil)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 5


def test_without_a_baseline_it_says_how_to_save_one() -> None:
    """And shows the rest."""
    page = page_of([made(baselines=False)], NOW_MS, "streamer.health")
    assert "There is no baseline yet." in page
    assert "streamer health baseline save p" in page
    assert "Accuracy, estimated" not in page
