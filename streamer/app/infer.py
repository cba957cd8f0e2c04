"""`streamer infer`: the same pipeline on files instead of topics; also the baseline for what Kafka costs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

from streamer.app.brokerless import brokerless, make_inbox
from streamer.app.fetch import fetch_model
from streamer.app.file_workers import on_all_cores
from streamer.app.parts import encoder_of
from streamer.app.workers import pipeline_of, worker_plan
from streamer.config.load import Config
from streamer.core.events.codec import Codec
from streamer.core.events.shape import Shape
from streamer.errors import ExitCode
from streamer.files.rows import Rows
from streamer.files.sink import LineSink, Target
from streamer.files.source import LineSource
from streamer.inference.models.presence import refuse_early

WITHIN_S = 5.0


@dataclass(slots=True)
class Progress:
    """How far a run is: rows written, those of them that failed, by code, and those that a cache knew. `loaded` is when
    the model was ready, in seconds of the monotonic clock; None before."""

    loaded: float | None = None
    written: int = 0
    failed: int = 0
    cached: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False


def infer(
    config: Config,
    name: str,
    rows: Rows,
    target: Target,
    *,
    done: int = 0,
    files: tuple[str, ...] = (),
    shape: Shape | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[ExitCode, Progress]:
    """Run the pipeline `name` over `rows`, of which the first `done` are answered already; one line each goes to
    `target`, in order. `files` are the files' names where lines shall carry them; `shape` is that of rows that are not
    events.

    `progress` is called a few times a second. The code is SOME_FAILED when a row failed, and 130 after
    a signal.
    """
    pipeline_config = pipeline_of(config, name)
    fetch_model(pipeline_config)
    refuse_early(pipeline_config.model, pipeline_config.adapter, pipeline_config.task)
    plan, inbox = worker_plan(on_all_cores(pipeline_config, rows.total_bytes), name), make_inbox(None)
    source = LineSource(rows, inbox.put, pipeline_config.micro_batch_records, done)
    sink = LineSink(target, partial(encoder_of, config, name), inbox.put, files)
    driver = brokerless(config, name, Codec(name, shape=shape), plan, inbox, source, sink)
    interrupted = threading.Event()

    def on_signal(*_: int | FrameType | None) -> None:
        interrupted.set()
        driver.stop(WITHIN_S)

    def now() -> Progress:
        return Progress(sink.opened, sink.written, sink.failed, sink.cached, dict(sink.codes), interrupted.is_set())

    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(now, progress, ended), daemon=True)
    watcher.start()
    try:
        with _on_signals(on_signal):
            code = driver.run()
    finally:
        ended.set()
        watcher.join()
    if code is ExitCode.DONE and interrupted.is_set():
        code = ExitCode.SECOND_SIGNAL
    return ExitCode.SOME_FAILED if code is ExitCode.DONE and sink.failed else code, now()


@contextmanager
def _on_signals(act: Callable[..., None]) -> Iterator[None]:
    """Only the main thread may hear of signals; the previous handlers are restored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, act) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(now: Callable[[], Progress], progress: Callable[[Progress], None], ended: threading.Event) -> None:
    last = False
    while not last:
        last = ended.wait(0.2)
        progress(now())
