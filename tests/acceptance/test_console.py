"""The operators' page in a real Chromium: it shows what the pipelines do, and replays dead letters with the token."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from streamer.local.ports import free_ports
from tests.acceptance.browser import OUTPUT, PATIENCE_MS, PHONE, WIDE, chromium, opened, until
from tests.acceptance.console_page import figures_agree, high_pixels
from tests.acceptance.harness import PIPELINE, Given, Lab, Reader, Run, wait_for
from tests.acceptance.test_telemetry import read_spans
from tests.conftest import Kafka

TOKEN = "a-token-of-the-operators"
SCRIPT = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
FLAWED = 40
EVENTS = 400


@dataclass(frozen=True, slots=True)
class Stage:
    """A pipeline at work, its dead letters, a console, and a browser."""

    lab: Lab
    reader: Reader
    browser: Browser
    url: str
    away_url: str
    fixed: Path

    def page(self, path: str = "", **options: object) -> AbstractContextManager[Page]:
        """A page of the console."""
        return opened(self.browser, f"{self.url}{path}", **options)


@pytest.fixture(scope="module")
def stage(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One driver, one console that may replay and shows texts, and one whose brokers are away."""
    expect.set_options(timeout=PATIENCE_MS)
    OUTPUT.mkdir(exist_ok=True)
    folder = tmp_path_factory.mktemp("console")
    metrics, port, away_port = free_ports(3)
    (folder / "token").write_text(TOKEN)
    fixed = folder / "fixed"
    with Lab(kafka.bootstrap_servers, folder) as lab, sync_playwright() as playwright:
        lab.topics(2)
        lab.telemetry["spans"] = f"{lab.name}.spans"
        lab.create({"streamer.audit": {}, lab.telemetry["spans"]: {}}, 1)
        model = "python:tests.python_models:Fixed"
        config = lab.config(model, options={"fixed": str(fixed)})
        config.write_text(config.read_text().replace('http = ""', f'http = "127.0.0.1:{metrics}"'))
        driver = lab.start(config)
        replay = ("--allow-replay", "--token-file", str(folder / "token"), "--show-text")
        console = _console(lab, config, port, *replay)
        away = _console(lab, config, away_port, "--set", "kafka.bootstrap_servers=127.0.0.1:1")
        reader = lab.reader()
        browser = chromium(playwright)
        wait_for(driver.assigned, "partitions", run=driver)
        for run in (console, away):
            wait_for(lambda run=run: "the console is at" in run.log, "the console", run=run)
        url, away_url = (f"http://127.0.0.1:{each}/" for each in (port, away_port))
        yield Stage(lab, reader, browser, url, away_url, fixed)
        browser.close()
        for run in (console, away):
            run.signal(15)
        for run in (console, away):
            assert run.wait() == 0, run.log
            assert "Traceback" not in run.log
            assert "FLAW" not in run.log


@pytest.fixture(scope="module")
def dead_letters(stage: Stage) -> None:
    """A tenth of the events failed, the first of them with a script in its text."""
    stage.lab.produce(_event(number, SCRIPT if number == 0 else "") for number in range(EVENTS))
    wait_for(lambda: sum(bool(each.code) for each in stage.reader.outcomes) == FLAWED, "the dead letters")


def _console(lab: Lab, config: Path, port: int, *arguments: str) -> Run:
    command = [sys.executable, "-m", "streamer", "console", "--config", str(config), "--port", str(port), *arguments]
    run = Run(command, lab.folder / f"console-{port}.log")
    lab.runs.append(run)
    return run


def _event(number: int, words: str = "") -> Given:
    flaw = "FLAW" if number % (EVENTS // FLAWED) == 0 else ""
    return Given(b"k%d" % number, json.dumps({"text": f"{number} {words} {flaw}"}).encode(), [])


def _cause(page: Page) -> Locator:
    """Of the events with a flaw; other tests make others."""
    return page.locator("li.cause", has_text="ZeroDivisionError")


def _dead_letters(page: Page) -> None:
    expect(_cause(page)).to_have_count(1)


def _replayed(reader: Reader) -> int:
    """Results whose event lay somewhere else first: a replay keeps its id, which is that place."""
    sources = [(each.body["id"], each.body["source"]) for each in reader.outcomes[: reader.count] if not each.code]
    return sum(name != f"{at['topic']}/{at['partition']}/{at['offset']}" for name, at in sources)


@contextmanager
def _load(lab: Lab) -> Iterator[None]:
    """Events without a flaw, some hundred a second, until the end of the block."""
    stop = threading.Event()

    def produce() -> None:
        while not stop.wait(0.2):
            lab.produce(Given(None, json.dumps({"text": f"{number} fine"}).encode(), []) for number in range(60))

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_charts_move_under_load(stage: Stage) -> None:
    """Throughput, lag, latency, settles and workers are shown, and the lines rise when events come."""
    with stage.page() as page:
        card = page.locator(f'article[data-pipeline="{PIPELINE}"]')
        expect(page.locator(".overview tbody .state")).to_have_text("✓ idle", timeout=PATIENCE_MS)
        page.get_by_role("link", name=PIPELINE, exact=True).click()
        figure = {key: card.locator(f'[data-figure="{key}"] b') for key in ("results", "lag", "latency", "settle")}
        expect(card.locator('[data-figure="workers"] b')).to_have_text("1")
        expect(figure["lag"]).to_have_text("0")
        expect(card.locator(".state")).to_have_text("✓ idle")
        expect(figure["results"]).to_have_text("0")
        with _load(stage.lab):
            expect(card.locator(".state")).to_have_text("✓ working")
            expect(figure["results"]).to_have_text(re.compile(r"^\d{2,}$"))
            expect(figure["latency"]).to_have_text(re.compile(r"\d m?s$"))
            expect(figure["settle"]).to_have_text(re.compile(r"\d"))
            until(lambda: high_pixels(page) > 3, page)
            page.screenshot(path=OUTPUT / "console-pipeline.png", full_page=True)
            assert figures_agree(page) == [True] * 6
            expect(card.locator(".plot").first).to_have_attribute("aria-label", re.compile(r"results \d+"))
            page.go_back()
            row = page.locator(f'.overview [data-pipeline="{PIPELINE}"]')
            expect(row.locator("td").nth(3)).to_have_text(re.compile(r"^\d{2,}$"))
            expect(row.locator("td").nth(6)).to_have_text("2 / 1")
            page.screenshot(path=OUTPUT / "console-pipelines.png", full_page=True)


def test_a_replay_is_executed_cancelled_and_gone_on_with(stage: Stage, dead_letters: None) -> None:
    """A wrong token gets no dry run; with the right one it says what would move and what that means. It is seen to run,
    is cancelled, and goes on to its end; the fixed model answers all."""
    with stage.page("#/dead-letters") as page:
        _dead_letters(page)
        expect(_cause(page).locator(".amount")).to_have_text(str(FLAWED))
        page.screenshot(path=OUTPUT / "console-dead-letters.png", full_page=True)
        _cause(page).get_by_role("button", name="Replay").click()
        dialog = page.get_by_role("dialog", name="Replay")
        execute = dialog.get_by_role("button", name="Execute")
        expect(execute).to_be_disabled()
        dialog.get_by_role("spinbutton", name="Records a second").fill("4")
        token = dialog.get_by_role("textbox", name="Token")
        token.fill("not the token of the operators")
        dialog.get_by_role("button", name="Dry run").click()
        expect(dialog.get_by_text("the token is missing or wrong")).to_be_visible()
        expect(token).to_be_focused()
        expect(execute).to_be_disabled()
        page.screenshot(path=OUTPUT / "console-wrong-token.png")

        stage.fixed.touch()
        token.fill(TOKEN)
        dialog.get_by_role("button", name="Dry run").click()
        expect(dialog.get_by_text(f"{FLAWED} records would move")).to_be_visible()
        expect(dialog.get_by_text(f"If you execute this: {FLAWED} records will be written")).to_be_visible()
        expect(execute).to_have_text(f"Execute: move {FLAWED}")
        page.screenshot(path=OUTPUT / "console-dry-run.png")
        execute.click()
        job = page.locator(".jobs li").first
        expect(job.locator(".state")).to_have_text("running")
        expect(job.locator(".number")).to_have_text(re.compile(rf"^[1-9]\d* of {FLAWED} moved$"))
        expect(job.locator(".progress")).to_contain_text(re.compile(r"/s · limit 4.0/s · .* left"))
        page.screenshot(path=OUTPUT / "console-replay.png", full_page=True)
        job.get_by_role("button", name="Cancel").click()
        dialog = page.get_by_role("dialog", name="Cancel")
        expect(dialog).to_contain_text(re.compile(r"they stay moved.*The other \d+ stay open dead letters"))
        page.screenshot(path=OUTPUT / "console-cancel.png")
        dialog.get_by_role("button", name="Cancel the job").click()
        expect(job.locator(".state")).to_have_text("▲ stopped")
        expect(job).to_contain_text("cancelled by operator")

        page.reload()
        job.get_by_role("button", name="Go on").click()
        dialog = page.get_by_role("dialog", name="Replay")
        dialog.get_by_role("spinbutton", name="Records a second").fill("")
        dialog.get_by_role("textbox", name="Token").fill(TOKEN)
        dialog.get_by_role("button", name="Dry run").click()
        dialog.get_by_role("button", name=re.compile(r"Execute: move \d+")).click()
        expect(job.locator(".state")).to_have_text("✓ done")
        expect(job.locator(".number")).to_have_text(f"{FLAWED} of {FLAWED} moved")
        wait_for(lambda: _replayed(stage.reader) == FLAWED, "the results of what was replayed")
        job.get_by_role("button", name="What became of them?").click()
        expect(job).to_contain_text(f"Of {FLAWED} sent: {FLAWED} answered.")
        page.get_by_role("link", name="Dead letters", exact=True).click()
        expect(page.get_by_text("No open dead letters")).to_be_visible()
    ids = {name: wait_for(lambda name=name: _spans(stage.lab, name), f"a span {name}") for name in TRACED}
    assert ids["replay dead letters"] <= ids["POST /api/orders/execute"]
    assert not _spans(stage.lab, "GET /api/now")


TRACED = ("POST /api/orders/survey", "POST /api/orders/execute", "POST /api/jobs/{job}/cancel", "replay dead letters")


def _spans(lab: Lab, name: str) -> set[bytes]:
    """The trace ids of the spans of this name."""
    return {span.trace_id for span in read_spans(lab, lab.telemetry["spans"]) if span.name == name}


def test_a_dead_letter_is_found_edited_and_replayed(stage: Stage, dead_letters: None) -> None:
    """By its key, and where it lies; its new value is answered. Another one is discarded with a reason, and the audit
    has both. Other tests may have replayed the rest, so these two are new, and are no JSON."""
    known = stage.reader.count
    stage.lab.produce(Given(key, b"no JSON", []) for key in (b"edit-me", b"drop-me"))
    wait_for(lambda: stage.reader.count == known + 2, "the two dead letters")
    with stage.page(f"#/dead-letters?pipeline={PIPELINE}") as page:
        search = page.get_by_role("searchbox", name="Search")
        search.fill("edit-me")
        page.keyboard.press("Enter")
        row = page.locator("tr", has_text="edit-me")
        place = row.get_by_role("link").inner_text()
        search.fill(place)
        page.get_by_role("button", name="Find").click()
        row.get_by_role("link").click()
        page.get_by_role("dialog").get_by_role("button", name="Edit and replay").click()
        dialog = page.get_by_role("dialog", name="Edit and replay")
        value = dialog.get_by_role("textbox", name="Value")
        expect(value).to_have_value("no JSON")
        value.fill('{"text": "fine by now"}')
        dialog.get_by_role("textbox", name="Token").fill(TOKEN)
        dialog.get_by_role("button", name="Dry run").click()
        expect(dialog).to_contain_text("it keeps its old value until its topic's retention deletes it")
        page.screenshot(path=OUTPUT / "console-edit.png")
        dialog.get_by_role("button", name="Execute: move 1").click()
        job = page.locator(".jobs li").first
        expect(job).to_contain_text("edit")
        expect(job.locator(".state")).to_have_text("✓ done")
        wait_for(lambda: stage.reader.count == known + 3, "the answer to what was edited")
        assert not stage.reader.outcomes[known + 2].code

        page.go_back()
        search.fill("drop-me")
        page.keyboard.press("Enter")
        page.locator("tr", has_text="drop-me").get_by_role("link").click()
        page.get_by_role("dialog").get_by_role("button", name="Discard").click()
        dialog = page.get_by_role("dialog", name="Discard")
        dialog.get_by_role("textbox", name="Why").fill("a test of ours")
        dialog.get_by_role("button", name="Dry run").click()
        expect(dialog).to_contain_text("their events never get a result")
        dialog.get_by_role("button", name="Execute: discard 1").click()
        expect(job.locator(".headline")).to_contain_text("discard")
        expect(job.locator(".state")).to_have_text("✓ done")
        job.get_by_text("What was asked for").click()
        expect(job).to_contain_text("a test of ours")
        expect(job).to_contain_text("operator (console of ")
        page.screenshot(path=OUTPUT / "console-jobs.png", full_page=True)


def test_a_script_in_an_events_text_is_only_text(stage: Stage, dead_letters: None) -> None:
    """With --show-text the value is there to read, word for word, and nothing of it runs."""
    with stage.page("#/dead-letters") as page:
        page.get_by_label("replayed and discarded too").check()
        _dead_letters(page)
        page.get_by_role("searchbox", name="Search").fill("k0")
        page.get_by_role("button", name="Find").click()
        page.locator("tr", has_text="k0").get_by_role("link").click()
        value = page.get_by_role("dialog").locator("pre")
        expect(value).to_contain_text(SCRIPT)
        expect(page.get_by_role("dialog")).to_contain_text("streamer.error.code")
        page.screenshot(path=OUTPUT / "console-dead-letter.png")
        assert value.locator("*").count() == 0
        assert page.evaluate("() => window.owned === undefined")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_everything_is_reached_by_keyboard(stage: Stage, dead_letters: None) -> None:
    """Tab reaches the views, the pipeline, the range, the charts and the buttons, each with a visible focus; arrows
    read a chart."""
    with stage.page() as page:
        page.get_by_role("link", name=PIPELINE, exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.locator(".plot canvas").first).to_be_visible()
        page.locator(".skip").focus()
        reached: list[str] = []
        for _ in range(14):
            page.keyboard.press("Tab")
            name, outline = page.evaluate(
                """() => {
                  const on = document.activeElement;
                  const shown = on.type === "radio" ? on.nextElementSibling : on;
                  const name = `${on.tagName} ${on.name ?? ""} ${on.className}`.trim();
                  return [name, getComputedStyle(shown).outlineStyle];
                }"""
            )
            reached.append(name)
            assert outline != "none", name
        assert sum(name.startswith("A") for name in reached) >= 4
        assert "INPUT range" in reached
        assert sum(name.endswith("plot") for name in reached) == 6, reached
        plot = page.locator(".plot").first
        plot.focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("figcaption").first).to_contain_text(re.compile(r"\d\d:\d\d:\d\d"))

        page.goto(f"{stage.url}#/dead-letters")
        page.get_by_label("replayed and discarded too").focus()
        page.keyboard.press("Space")
        for button in ("Examples", "Replay"):
            _dead_letters(page)
            _cause(page).get_by_role("button", name=button).focus()
            page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="Replay")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.locator(".examples").get_by_role("link").first.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("came from")


@pytest.mark.case(90)
def test_many_tabs_are_one_stream(stage: Stage) -> None:
    """A browser keeps six connections to a host: however many tabs there are, all are live, and when the one that
    streams is closed another goes on."""
    streams: list[str] = []
    context = stage.browser.new_context()
    context.on("request", lambda request: streams.append(request.url) if request.url.endswith("/api/live") else None)
    try:
        pages = [context.new_page() for _ in range(9)]
        for page in pages:
            page.goto(stage.url)
        for page in pages:
            expect(page.locator("#status")).to_have_text("live")
        assert len(streams) == 1
        pages[0].close()
        until(lambda: len(streams) == 2, pages[1])
        for page in pages[1:]:
            expect(page.locator("#status")).to_have_text("live")
            page.evaluate(
                """() => {
                  const channel = new BroadcastChannel(`streamer-live ${location.pathname}`);
                  window.told = new Promise((done) => {
                    channel.onmessage = ({ data }) => done(data.pipelines.length);
                  });
                }"""
            )
        assert [page.evaluate("() => window.told") for page in pages[1:]] == [1] * 8
    finally:
        context.close()


@pytest.mark.parametrize(("name", "viewport", "scheme"), [("phone", PHONE, "light"), ("dark", WIDE, "dark")])
def test_it_fits_a_phone_and_the_dark(
    stage: Stage, dead_letters: None, name: str, viewport: dict[str, int], scheme: str
) -> None:
    """No page is wider than a phone, and in the dark the page and its charts are dark."""
    with stage.page(viewport=viewport, color_scheme=scheme) as page:
        views = {
            "pipelines": ".overview tbody",
            f"pipelines/{PIPELINE}": ".plot canvas",
            "dead-letters": "#dead-letters h2",
            "jobs": '.jobs li, #jobs .empty:text("Nobody")',
            "health": "#health .empty",
        }
        for view, shown in views.items():
            page.goto(f"{stage.url}#/{view}")
            expect(page.locator(shown).first).to_be_visible()
            if view == "dead-letters":
                page.get_by_label("replayed and discarded too").check()
                _dead_letters(page)
            page.screenshot(path=OUTPUT / f"console-{name}-{view.partition('/')[0]}.png", full_page=True)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= viewport["width"]
        background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", background)[:3]))
        assert brightness < 120 if scheme == "dark" else brightness > 600
        expect(page.locator("#health .empty")).to_contain_text("streamer.health")


def test_brokers_away_are_told_of(stage: Stage) -> None:
    """A banner names them and says that the console keeps trying, and nothing is made up."""
    with opened(stage.browser, stage.away_url) as page:
        banner = page.locator(".banner.bad")
        expect(banner).to_contain_text("Kafka at 127.0.0.1:1 does not answer")
        expect(banner).to_contain_text("keeps trying")
        expect(page.locator("#status")).to_have_text("brokers away")
        row = page.locator(".overview tbody")
        expect(row.locator(".state")).to_have_text("? unknown")
        expect(row.locator("td").nth(3)).to_have_text("–")
        page.screenshot(path=OUTPUT / "console-brokers-away.png")
