"""`streamer infer`: the same pipeline on lines instead of topics; also the baseline for what Kafka costs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from io import BufferedReader
from queue import SimpleQueue
from types import FrameType
from typing import BinaryIO

from streamer.assemble import make_cache, policy_of
from streamer.config import Config
from streamer.core.codec import Codec
from streamer.core.encoder import Encoder, OutputLimits
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import Input
from streamer.driver import Adapters, Driver
from streamer.errors import ExitCode
from streamer.files.sink import LineSink
from streamer.files.source import LineSource
from streamer.inference.pool import WorkerPool
from streamer.workers import pipeline_of, worker_plan

NO_LIMIT_BYTES = 1 << 31
WITHIN_S = 5.0


def infer(
    config: Config,
    name: str,
    source: BufferedReader,
    sink: BinaryIO,
    *,
    wrap: Callable[[bytes], bytes] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExitCode:
    """Run the pipeline `name` over the lines of `source`; one line each goes to `sink`, in order.

    `progress` is called a few times a second with the lines written and those of them that failed. Returns
    SOME_FAILED when a line failed.
    """
    pipeline_config = pipeline_of(config, name)
    inbox: SimpleQueue[Input] = SimpleQueue()
    workers, spec = worker_plan(pipeline_config, name)
    limits = OutputLimits(NO_LIMIT_BYTES, NO_LIMIT_BYTES)
    lines_out = LineSink(
        sink,
        lambda card: Encoder(
            pipeline=name,
            task=pipeline_config.task,
            card=card,
            output_topic="",
            dead_letter_topic="",
            limits=limits,
        ),
        inbox.put,
    )
    adapters = Adapters(
        LineSource(source, inbox.put, pipeline_config.micro_batch_records, wrap),
        lines_out,
        WorkerPool(spec, workers, inbox.put),
        make_cache(config, name, inbox.put),
    )
    driver = Driver(Pipeline(policy_of(config, name, workers), Codec(name)), inbox, adapters)

    def on_signal(*_: int | FrameType | None) -> None:
        driver.stop(WITHIN_S)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(lines_out, progress, done), daemon=True)
    watcher.start()
    try:
        code = driver.run()
    finally:
        done.set()
        watcher.join()
    return ExitCode.SOME_FAILED if code is ExitCode.DONE and lines_out.failed else code


def _watch(sink: LineSink, progress: Callable[[int, int], None] | None, done: threading.Event) -> None:
    while progress is not None:
        ended = done.wait(0.2)
        progress(sink.written, sink.failed)
        if ended:
            return
