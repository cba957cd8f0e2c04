"""`streamer run` of one pipeline in this process."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from streamer.app.fetch import fetch_model
from streamer.app.workers import RunOptions, pipeline_of, start_workers
from streamer.config.load import Config
from streamer.errors import ConfigurationError, ExitCode, StreamerError
from streamer.machine.affinity import OneCore
from streamer.machine.malloc import share_one_arena
from streamer.stopping import Stopping
from streamer.telemetry.logs import last_words

if TYPE_CHECKING:
    from streamer.app.assemble import Assembly
    from streamer.app.life import Show, Wait
    from streamer.app.outlet import Outlet
    from streamer.telemetry.http import Server, Verdict

STANDING_S = 30.0
TELEMETRY_CLOSE_S = 3.0
BROKERS_S = 3.0
TRANSACTION_S = 5.0
MODEL_S = 10.0
GROUP_S = 5.0
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
    """Run one pipeline in this process until it is done or a signal stops it. `show` is told twice a second how it
    does.

    SIGTERM or SIGINT stops gracefully within `stop_deadline_s`; the second one ends the process now: its open
    transaction is aborted by the broker, its workers end with it.
    """
    pipeline = pipeline_of(config, name)
    within_s = pipeline.stop_deadline_s
    assembly: Assembly | None = None
    asked_by = ""
    began = time.monotonic()

    def act(number: signal.Signals, count: int) -> None:
        nonlocal asked_by
        asked_by = number.name
        if count > 1 and options.pipelines > 1:
            return  # a service manager may signal us, too; the supervisor kills us at a second one of its own
        if count > 1:
            try:
                last_words(SECOND_SIGNAL_WORDS_S)
            finally:
                os._exit(ExitCode.SECOND_SIGNAL)
        words = f"stopping because of {number.name} asks: finishing the work in progress within {within_s:g} s"
        log.info("stopping", extra={"data": {"signal": number.name, "within_s": within_s}, "words": words})
        if assembly is not None:
            assembly.driver.stop(within_s)

    fetch_model(pipeline)
    stopping.act(act)
    share_one_arena()
    started = start_workers(config, name, options)
    from streamer.app.life import Life  # while the workers load

    life = Life(name, show, began=began)
    life.loads(model=pipeline.model, task=pipeline.task, workers=started.pool.count, device=pipeline.device)
    from streamer.app.outlet import open_outlet

    outlet = open_outlet(config, name, started)
    from streamer.app.announcer import Announcer
    from streamer.app.assemble import assemble  # while the brokers answer, too
    from streamer.telemetry.stacks import StandingWatch

    assembly = assemble(config, name, options, started, outlet, life)
    announcer = Announcer(config, name, started.slot.name)
    life.on_ready = announcer.started
    life.waits = partial(waits_for, assembly, outlet, config.kafka.bootstrap_servers, pipeline.group)
    if stopping.signals:
        assembly.driver.stop(within_s)
    server = _serve(config, assembly, name, options.index)
    watch = StandingWatch(partial(standing, assembly))
    watch.start()
    one_core = OneCore()
    one_core.start()
    spare_the_collector()
    code = ExitCode.BUG
    try:
        code = assembly.driver.run()
        return code
    except StreamerError as error:
        code = error.exit_code
        raise
    finally:
        one_core.close()
        watch.close()
        assembly.close(TELEMETRY_CLOSE_S)
        if server is not None:
            server.close()
        why = life.ended(code, asked_by)
        announcer.ended(code, assembly.driver.last_words or why)


def waits_for(assembly: Assembly, outlet: Outlet, address: str, group: str) -> Wait | None:
    """What keeps the pipeline from reading, where nothing is wrong with it as yet."""
    from streamer.app.life import Wait
    from streamer.core.pipeline.pipeline import Phase

    pipeline, source = assembly.pipeline, assembly.source
    if not outlet.topics.ready.done():
        return Wait(f"Kafka at {address} to answer", BROKERS_S)
    if pipeline.card is None:
        return Wait("the model to load", MODEL_S)
    if not outlet.sink.is_connected:
        return Wait(f"Kafka at {address} to end what this slot left open, and to let it write", TRANSACTION_S)
    if source.ownership.epochs or pipeline.phase is not Phase.RUNNING:
        return None
    if source.awaits_group:
        return Wait(f"group {group} to assign partitions", GROUP_S)
    return Wait(f"a partition: the other members of group {group} have them all", GROUP_S)


def spare_the_collector() -> None:
    """Tell the cyclic garbage collector of the load to come: records make hundreds of thousands of young objects that
    are no cycles. At CPython's thresholds it takes a quarter of the driver's time (`streamer bench throughput`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _serve(config: Config, assembly: Assembly, name: str, index: int) -> Server | None:
    """/metrics, /livez and /readyz."""
    if not config.telemetry.http:
        return None
    from streamer.telemetry.http import Verdict, start  # imported while the brokers and the workers answer

    def livez() -> Verdict:
        reasons = standing(assembly)
        return Verdict(not reasons, tuple(reasons))

    def readyz() -> Verdict:
        reasons = unready(assembly)
        return Verdict(not reasons, tuple(reasons))

    server = start(http_address(config, index), assembly.metrics.registry, livez, readyz, name)
    words = f"metrics and health on http://{server.address}/metrics, /livez and /readyz"
    log.info("metrics and health are served", extra={"data": {"address": server.address}, "words": words})
    return server


def serve_down(config: Config, name: str, index: int, reason: str) -> Server | None:
    """In the place of a pipeline that is down for good: not ready, and why. Live, since a restart does not fix it."""
    if not config.telemetry.http:
        return None
    from streamer.telemetry.http import Verdict, start
    from streamer.telemetry.metrics import Metrics

    address = http_address(config, index)
    try:
        return start(address, Metrics(name).registry, lambda: Verdict(True), lambda: Verdict(False, (reason,)), name)
    except ConfigurationError as error:
        log.warning("%s", error, extra={"data": {"pipeline": name}})
        return None


def http_address(config: Config, index: int) -> str:
    """Of several pipelines each has its own port: the configured one and those after; port 0 takes any."""
    host, _, port = config.telemetry.http.rpartition(":")
    return f"{host}:{int(port) + index if int(port) else 0}"


def unready(assembly: Assembly) -> list[str]:
    """What keeps the pipeline from serving."""
    from streamer.app.observe import unready as unready_of

    return unready_of(
        assembly.pipeline,
        owns=bool(assembly.source.ownership.epochs),
        plan_since=assembly.sink.plan_since,
        standings=assembly.signals.standings,
        now=time.monotonic(),
    )


def standing(assembly: Assembly) -> list[str]:
    """Which of our own loops stand still; broken dependencies are not among the reasons, since a restart of ours
    does not fix them."""
    now = time.monotonic()
    reasons = assembly.driver.standing(STANDING_S)
    if assembly.pipeline.card is not None and now - assembly.source.polled_at > STANDING_S:
        reasons.append(f"the source has not polled for {now - assembly.source.polled_at:.0f} s")
    busy_since = assembly.sink.busy_since
    if busy_since is not None and now - busy_since > assembly.watchdog.limit_s:
        reasons.append(f"the sink has been at one plan for {now - busy_since:.0f} s")
    return reasons
