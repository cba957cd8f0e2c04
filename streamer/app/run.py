"""`streamer run` of one pipeline in this process, from its start to its end."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from streamer.app.growth import most_processes
from streamer.app.start import RunOptions, find_model, start
from streamer.app.workers import pipeline_of
from streamer.config.load import Config
from streamer.config.seats import Seat, address_at, share_of
from streamer.errors import ConfigurationError, ExitCode, StreamerError
from streamer.machine.affinity import on_one_core
from streamer.machine.malloc import share_one_arena
from streamer.stopping import Stopping
from streamer.telemetry.logs import last_words

if TYPE_CHECKING:
    from streamer.app.assembly import Assembly
    from streamer.app.life import Show
    from streamer.telemetry.http import Server

TELEMETRY_CLOSE_S = 3.0
SECOND_SIGNAL_WORDS_S = 0.2
GC_THRESHOLDS = (200_000, 20, 100)

log = logging.getLogger(__name__)


def run_pipeline(
    config: Config,
    name: str,
    options: RunOptions,
    stopping: Stopping,
    show: Show | None = None,
) -> ExitCode:
    """Run one pipeline, or one of its members, in this process until it is done or a signal stops it. `show` is told
    twice a second how it does.

    SIGTERM or SIGINT stops gracefully within `stop_deadline_s`; the second one ends the process now: its open
    transaction is aborted by the broker, its workers end with it.
    """
    pipeline_of(config, name)
    config = share_of(config, name, most_processes())
    pipeline = config.pipelines[name]
    within_s = pipeline.stop_deadline_s
    assembly: Assembly | None = None
    asked_by = ""
    began = time.monotonic()

    def act(number: signal.Signals, count: int) -> None:
        nonlocal asked_by
        asked_by = number.name
        if count > 1 and options.supervised:
            return  # a service manager may signal us, too; the supervisor kills us at a second one of its own
        if count > 1:
            try:
                last_words(SECOND_SIGNAL_WORDS_S)
            finally:
                os._exit(ExitCode.SECOND_SIGNAL)
        words = f"stopping because of {number.name}: finishing the work in progress within {within_s:g} s"
        log.info("stopping", extra={"data": {"signal": number.name, "within_s": within_s}, "words": words})
        if assembly is not None:
            assembly.driver.stop(within_s)

    find_model(pipeline)
    stopping.act(act)
    share_one_arena()
    assembly = start(config, name, options, show, began)
    if stopping.signals:
        assembly.driver.stop(within_s)
    code = ExitCode.BUG
    try:
        code = drive(config, assembly, name, options)
        return code
    except StreamerError as error:
        code = error.exit_code
        raise
    finally:
        assembly.close(TELEMETRY_CLOSE_S)
        why = assembly.life.ended(code, asked_by)
        assembly.announcer.ended(code, assembly.driver.last_words or why)


def drive(config: Config, assembly: Assembly, name: str, options: RunOptions) -> ExitCode:
    """Run to the end, with health and metrics served meanwhile, and all adapters closed then whatever happens."""
    from streamer.telemetry.stacks import StandingWatch

    with ExitStack() as until_then:
        with ExitStack() as undo:
            undo.callback(assembly.driver.close)
            if config.telemetry.http:
                server = serve(config, assembly, name, options)
                until_then.callback(server.close)
            undo.pop_all()
        watch = StandingWatch(assembly.standing)
        watch.start()
        until_then.callback(watch.close)
        place = options.index if options.siblings > 1 else None
        until_then.enter_context(on_one_core(config.pipelines[name].driver_affinity, place))
        tune_garbage_collection()
        return assembly.driver.run()


def tune_garbage_collection() -> None:
    """Let the cyclic garbage collector run less often. Records make hundreds of thousands of young objects that
    are no cycles. At CPython's thresholds it takes a quarter of the driver's time (`streamer bench throughput`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def serve(config: Config, assembly: Assembly, name: str, options: RunOptions) -> Server:
    """/metrics, /livez and /readyz. The first of several members is ready when all are: a probe asks one port. Raises
    ConfigurationError where the address can't be listened on."""
    from streamer.telemetry.http import start as start_server

    http, unready = config.telemetry.http, assembly.unready
    if options.others and not address_at(http, 0).endswith(":0"):
        from streamer.telemetry.scrape import unready_at

        def of_others() -> list[str]:
            asked = enumerate(options.others, 2)
            return [f"member {member}: {reason}" for member, place in asked for reason in unready_at(http, place)]

        unready = lambda: [*assembly.unready(), *of_others()]  # noqa: E731

    address = address_at(http, options.index)
    server = start_server(address, assembly.metrics.registry, assembly.standing, unready, name)
    words = f"metrics and health on http://{server.address}/metrics, /livez and /readyz"
    log.info("metrics and health are served", extra={"data": {"address": server.address}, "words": words})
    return server


def serve_down(config: Config, seat: Seat, index: int, reason: str) -> Server | None:
    """In the place of a pipeline that is down for good: not ready, and why. Live, since a restart does not fix it."""
    if not config.telemetry.http:
        return None
    from streamer.telemetry.http import start as start_server
    from streamer.telemetry.metrics import Metrics

    try:
        address = address_at(config.telemetry.http, index)
        return start_server(address, Metrics(*seat).registry, list, lambda: [reason], seat.pipeline)
    except ConfigurationError as error:
        log.warning("%s", error, extra={"data": seat.fields})
        return None
