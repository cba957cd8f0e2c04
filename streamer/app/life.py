"""A pipeline's life, told to people in a few lines: loading, ready, what it waits for, a line a minute, its end.

JSON lines carry the same as facts. On a terminal a live line shows how it does now.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from streamer.app.driver import Observer
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import Input, ModelCard, WorkerReady
from streamer.core.tally import Tally, Vitals, duration, lag_words, plural
from streamer.errors import ExitCode

LINE_EVERY_S: Final = 60.0
LIVE_EVERY_S: Final = 0.5
RATE_OVER_S: Final = 5.0
ALL_WORKERS_S: Final = 5.0
"""How long the first worker that is ready waits for the others, before it is said how many are."""
SHORT_DIGEST: Final = 12

ENDS: Final = {
    ExitCode.DONE: "done",
    ExitCode.BUG: "a bug",
    ExitCode.USAGE: "its command line was refused",
    ExitCode.CONFIGURATION: "its configuration, its model or its rights are wrong",
    ExitCode.DEPENDENCY: "a dependency is absent, or the model's files changed",
    ExitCode.HALTED: "it halted",
    ExitCode.FENCED: "another process has its slot",
    ExitCode.DRAIN_DEADLINE: "it could not finish within stop_deadline_s",
}

log = logging.getLogger(__name__)


Show = Callable[[Vitals | None], None]


class Wait(NamedTuple):
    """What a pipeline waits for, and how long that is usual: so much later it is said."""

    what: str
    usual_s: float


@dataclass(slots=True)
class Life(Observer):
    """Tells what becomes of the pipeline `name`, which `began` then by the `clock`, or when this is made.

    `tally` counts what is durable; `behind` is its lag in records and seconds, and `waits` what it waits for now.
    `show` shows people how it does, where some look on, and None once it has ended; `on_ready` is told of the model
    once.
    """

    name: str
    workers: int
    tally: Tally
    behind: Callable[[], tuple[int, float]]
    show: Show | None = None
    waits: Callable[[], Wait | None] = lambda: None
    on_ready: Callable[[ModelCard], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    began: float = 0.0
    _ready_at: float | None = None
    _said_ready: bool = False
    _waits_for: str = ""
    _waits_since: float = 0.0
    _say_wait_at: float = 0.0
    _line_at: float = 0.0
    _line_before: tuple[float, Tally] = (0.0, Tally())
    _live_at: float = 0.0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.began = self.began or self.clock()

    def facts(self, fact: Input) -> None:
        """Hear of the model."""
        if isinstance(fact, WorkerReady):
            self._loaded(fact.model, self.clock())
            if self.workers == 1:
                self._say_ready(fact.model, 1, 1)

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Say what is due."""
        if now < self._live_at and (self._ready_at is not None or pipeline.card is None):
            return
        self._live_at = now + LIVE_EVERY_S
        self._ready(pipeline, now)
        wait = self.waits()
        self._wait(wait, now)
        if self._said_ready and now >= self._line_at:
            self._line(now)
        if self.show is not None:
            self.show(self._vitals(wait, now))

    def ended(self, code: int, signal: str = "") -> str:
        """All that is to be settled is. `signal` asked for it, if any did. Returns why it ended."""
        seconds = self.clock() - self.began
        why = f"stopped by {signal}" if signal and code == ExitCode.DONE else ENDS.get(ExitCode(code), "")
        tally = self.tally
        if self.show is not None:
            self.show(None)
        _say(
            "ended",
            f"ended after {duration(seconds)} with exit code {int(code)} ({why}): "
            + (f"took {plural(tally.records, 'record')}: {tally}" if tally.records else "took no record"),
            records=tally.records,
            **tally.facts(),
            seconds=round(seconds, 3),
            exit_code=int(code),
            reason=why,
        )
        return why

    def _loaded(self, card: ModelCard, now: float) -> None:
        if self._ready_at is None:
            self._ready_at = now
            self._line_before, self._line_at = (now, self.tally.copy()), now + LINE_EVERY_S
            self.on_ready(card)

    def _ready(self, pipeline: Pipeline, now: float) -> None:
        card = pipeline.card
        if self._said_ready or card is None:
            return
        self._loaded(card, now)
        assert self._ready_at is not None
        ready, workers = pipeline.fleet.ready_workers, pipeline.policy.workers
        if ready < workers and now - self._ready_at < ALL_WORKERS_S and not pipeline.ledger.partitions:
            return
        self._say_ready(card, ready, workers)

    def _say_ready(self, card: ModelCard, ready: int, workers: int) -> None:
        if self._said_ready:
            return
        self._said_ready = True
        seconds = (self._ready_at or self.began) - self.began
        of = "1 worker" if workers == 1 else f"{ready} of {workers} workers"
        way = f", {card.dtype} by {card.backend}" if card.backend != "none" else ""
        _say(
            "ready",
            f"ready after {duration(seconds)}: {of} on {card.device}{way}, revision {card.revision[:SHORT_DIGEST]}",
            seconds=round(seconds, 3),
            workers=ready,
            of=workers,
            model=card.name,
            revision=card.revision,
            device=card.device,
            dtype=card.dtype,
            backend=card.backend,
        )

    def _wait(self, wait: Wait | None, now: float) -> None:
        if wait is None:
            self._waits_for = ""
            return
        if wait.what != self._waits_for:
            self._waits_for, self._waits_since = wait.what, now
            self._say_wait_at = now + wait.usual_s
        if now < self._say_wait_at:
            return
        self._say_wait_at = now + LINE_EVERY_S
        seconds = now - self._waits_since
        words = f"waiting for {wait.what}, for {seconds:.0f} s so far"
        _say("waiting", words, waits_for=wait.what, seconds=round(seconds, 1))

    def _line(self, now: float) -> None:
        then, before = self._line_before
        lately, (records, seconds) = self.tally.since(before), self.behind()
        self._line_at, self._line_before = now + LINE_EVERY_S, (now, self.tally.copy())
        rate = lately.results / (now - then) if now > then else 0.0
        words = [f"{rate:,.1f} results/s", lag_words(records, seconds)]
        if lately.results:
            words.append(f"{lately.cached / lately.results:.0%} cached")
        if lately.dead_letters:
            codes = ", ".join(f"{code} {count:,}" for code, count in lately.dead_letters.most_common())
            words.append(f"dead letters: {codes}")
        facts = {"rate": round(rate, 3), "lag_records": records, "lag_s": round(seconds, 3), **lately.facts()}
        _say("at work", "; ".join(words), **facts)

    def _vitals(self, wait: Wait | None, now: float) -> Vitals:
        seen, results = self._seen, self.tally.results
        seen.append((now, results))
        while now - seen[0][0] > RATE_OVER_S:
            seen.popleft()
        since, before = seen[0]
        rate = (results - before) / (now - since) if now > since else 0.0
        if wait is not None:
            return Vitals(wait.what, now - self._waits_since)
        return Vitals("", 0.0, rate, *self.behind(), self.tally.dead_letters.total())


def say_loading(model: str, task: str, workers: int, device: str) -> None:
    """The workers were started."""
    on = "" if device == "auto" else f" on {device}"
    words = f"loading {model} for {task} in {plural(workers, 'worker')}{on}"
    _say("loading", words, model=model, task=task, workers=workers, device=device)


def _say(message: str, words: str, **facts: Any) -> None:
    log.info(message, extra={"data": facts, "words": words})
