"""`streamer infer`: the same pipeline on files instead of topics; also the baseline for what Kafka costs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import FrameType

from streamer.app.assemble import make_cache, policy_of
from streamer.app.driver import Adapters, Driver
from streamer.app.fetch import fetch_model
from streamer.app.file_workers import on_all_cores
from streamer.app.workers import pipeline_of, worker_plan
from streamer.config.load import Config
from streamer.core.codec import Codec
from streamer.core.encoder import Encoder, OutputLimits
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import Input
from streamer.core.shape import Shape
from streamer.errors import ExitCode
from streamer.files.rows import Rows
from streamer.files.sink import LineSink, Target
from streamer.files.source import LineSource
from streamer.inference.models.presence import refuse_early
from streamer.inference.parent.pool import WorkerPool

NO_LIMIT_BYTES = 1 << 31
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
    `target`, in order. `files` are the files' names where lines shall carry them; `shape` is that of rows that are no
    events.

    `progress` is called a few times a second. The code is SOME_FAILED when a row failed, and 130 after
    a signal.
    """
    pipeline_config = pipeline_of(config, name)
    fetch_model(pipeline_config)
    refuse_early(pipeline_config.model)
    inbox: SimpleQueue[Input] = SimpleQueue()
    workers, spec = worker_plan(on_all_cores(pipeline_config, rows.total_bytes), name)
    limits = OutputLimits(NO_LIMIT_BYTES, NO_LIMIT_BYTES)
    sink = LineSink(
        target,
        lambda card: Encoder(
            pipeline=name,
            task=pipeline_config.task,
            card=card,
            output_topic="",
            dead_letter_topic="",
            limits=limits,
        ),
        inbox.put,
        files,
    )
    adapters = Adapters(
        LineSource(rows, inbox.put, pipeline_config.micro_batch_records, done),
        sink,
        WorkerPool(spec, workers, inbox.put),
        make_cache(config, name, inbox.put),
    )
    driver = Driver(Pipeline(policy_of(config, name, workers), Codec(name, shape=shape)), inbox, adapters)
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
    """Only the main thread may hear of signals; the handlers of before come back."""
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
