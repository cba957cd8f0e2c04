"""From configuration to a running pipeline: the last step of a start, which puts all parts together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from streamer import __version__
from streamer.app.announcer import origin_of
from streamer.app.driver import Adapters, Driver, Observer
from streamer.app.outlet import Outlet, failure
from streamer.app.workers import RunOptions, Started, pipeline_of
from streamer.cache.events import CacheEvent
from streamer.cache.late import LateCache
from streamer.cache.lean_import import without
from streamer.cache.null import NullCache
from streamer.config.load import Config, PipelineConfig, start_time_ms
from streamer.config.shapes import shape_of
from streamer.core.codec import Codec
from streamer.core.encoder import Encoder
from streamer.core.intake import SourcePolicy
from streamer.core.pipeline.breaker import BreakerPolicy
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.pipeline.waiting import waiting
from streamer.core.plan_encoder import PlanEncoder
from streamer.core.report import Report, ReportBuilder
from streamer.core.stored import Vault
from streamer.inference.parent.pool import WorkerPool
from streamer.kafka.clients import consumer_properties, in_flight_bytes, make_consumer
from streamer.kafka.former_owners import FormerOwners
from streamer.kafka.orphans import OrphanWatch
from streamer.kafka.output_topics import OutputTopics
from streamer.kafka.settled import held_by_transaction
from streamer.kafka.sink import KafkaSink
from streamer.kafka.slots import Slot
from streamer.kafka.source.cluster import ClusterView
from streamer.kafka.source.source import KafkaSource
from streamer.kafka.source.topic_ids import TopicIds
from streamer.kafka.span_topic import SpanTopic
from streamer.ports import Cache
from streamer.telemetry.spans import SpanExporter

if TYPE_CHECKING:
    from streamer.app.life import Life
    from streamer.app.observe import Signals, Tracer, Watchdog
    from streamer.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Assembly:
    """A pipeline with all its parts, ready to run."""

    driver: Driver
    pipeline: Pipeline
    source: KafkaSource
    sink: KafkaSink
    workers: WorkerPool
    slot: Slot
    metrics: Metrics
    watchdog: Watchdog
    signals: Signals
    closers: list[Callable[[float], None]]

    def close(self, timeout_s: float) -> None:
        """Close what outlives the driver: telemetry last, since all others still report; then the slot."""
        for close in self.closers:
            close(timeout_s)
        self.slot.release()


def assemble(
    config: Config, name: str, options: RunOptions, started: Started, outlet: Outlet, life: Life | None = None
) -> Assembly:
    """Build one pipeline on Kafka around its workers and its outlet; `life` tells people of it. Raises StreamerError
    (wrong configuration), and closes the workers."""
    pipeline_config = pipeline_of(config, name)
    inbox, slot, pool, sink = started.inbox, started.slot, started.pool, outlet.sink
    with ExitStack() as undo:  # of a start that fails
        undo.callback(started.close)
        codec = Codec(name, shape=shape_of(pipeline_config))
        pipeline = Pipeline(policy_of(config, name, pool.count, options.accept_dead_letters), codec)
        properties = consumer_properties(config.kafka, pipeline_config, slot.name)
        properties["enable.partition.eof"] = options.until_end
        ids = TopicIds(debug="debug" in config.kafka.properties)
        source = KafkaSource(
            lambda: make_consumer(properties, ids=ids),
            _source_policy(config, pipeline_config, options),
            inbox.put,
            partial(held_by_transaction, config.kafka, pipeline_config.group),
            FormerOwners(
                config.kafka, pipeline_config.group, pipeline_config.crash_limit, int(properties["session.timeout.ms"])
            ),
            ClusterView(config.kafka),
            ids,
        )
        reports: dict[int, Report] = {}
        sink.attach(source, partial(_make_encoder, config, name, outlet.topics, reports, slot.name))
        # Whoever assembles no whole pipeline does without the metrics' library, a tenth of all that a driver imports.
        from streamer.app.observe import Follow, Meter, Signals, Watchdog, on_cache_event
        from streamer.telemetry.metrics import Metrics

        metrics = Metrics(name)
        cache = make_cache(config, name, inbox.put, on_cache_event(metrics))
        available = (lambda: cache.available) if config.cache.url else None
        follows = (
            Follow(lambda: source.intake.out_of_range_records, metrics.out_of_range),
            Follow(lambda: source.outlook.stuck.healed, metrics.unstuck),
            Follow(lambda: codec.bad_traceparents, metrics.bad_traceparents),
        )
        meter = Meter(
            metrics, slot.name, reports, lambda: source.outlook.ahead, lambda: source.starts, available, follows
        )
        if life is not None:
            life.behind, meter.on_settled = lambda: meter.behind, life.settled
        watchdog = Watchdog(lambda: sink.busy_since, sink.relieve, inbox.put)
        model_waits = lambda: waiting(pipeline, pipeline_config.input, time.monotonic())  # noqa: E731
        settling = lambda: pipeline.settling.standing(time.monotonic())  # noqa: E731
        closers: list[Callable[[float], None]] = []
        watch = OrphanWatch(
            source,
            config.kafka,
            pipeline_config.group,
            pipeline_config.input,
            output=pipeline_config.output,
            dynamic=not pipeline_config.static_membership,
            client=str(properties["client.id"]),
        )
        signals = Signals(metrics, (source.standing, settling, model_waits, watch.standing), source.ahead)
        source.on_joining = watch.start
        closers.append(watch.close)
        tracer = _make_tracer(config, name, slot, metrics, closers)
        observers: list[Observer] = [meter, watchdog, signals]
        observers += [each for each in (life, tracer) if each is not None]
        adapters = Adapters(source, sink, pool, cache, tuple(observers))
        undo.pop_all()
        driver = Driver(pipeline, inbox, adapters)
        return Assembly(driver, pipeline, source, sink, pool, slot, metrics, watchdog, signals, closers)


def _make_tracer(
    config: Config, name: str, slot: Slot, metrics: Metrics, closers: list[Callable[[float], None]]
) -> Tracer | None:
    if not config.telemetry.spans:
        return None
    from streamer.app.observe import Tracer
    from streamer.telemetry.otlp import OtlpEncoder  # brings protobuf, which takes a quarter second to import

    topic = SpanTopic(config.kafka, config.telemetry.spans)
    exporter = SpanExporter(topic.send, OtlpEncoder(slot.name, __version__), metrics.spans)
    closers += [exporter.close, topic.close]
    return Tracer(exporter, name, config.pipelines[name].group)


def policy_of(config: Config, name: str, workers: int, accept_dead_letters: int = 0) -> Policy:
    """The pipeline's settings as the core needs them."""
    pipeline = config.pipelines[name]
    return Policy(
        name=name,
        workers=workers,
        lease_s=pipeline.lease_s,
        load_s=pipeline.load_s,
        budget_bytes=in_flight_bytes(pipeline.budget_mb),
        lru_bytes=config.cache.memory_mb * 1_000_000,
        shared_cache=bool(config.cache.url),
        settings={
            "options": pipeline.options,
            "on_overflow": pipeline.on_overflow,
            "compile": pipeline.compile,
        },
        max_spans_per_s=config.telemetry.max_spans_per_s if config.telemetry.spans else 0,
        breaker=BreakerPolicy(pipeline.breaker_share, pipeline.breaker_window, accept=accept_dead_letters),
    )


def make_cache(
    config: Config,
    name: str,
    post: Callable[[Any], None],
    on_event: Callable[[CacheEvent, int], None] = lambda *_: None,
) -> Cache:
    """Redis for the pipeline `name`, or nothing. What is wrong with a key file that the configuration names is posted;
    without a default one answers are not shared."""
    if not config.cache.url:
        return NullCache(post)

    def make() -> Cache:
        # Imported only where it is used: the client takes longer to import than the rest of the driver. Two fifths of
        # that are OpenTelemetry's metrics, for figures that we don't ask of it.
        with without("opentelemetry.metrics", "opentelemetry.sdk.metrics"):
            from streamer.cache.redis_cache import RedisCache

        from streamer.cache.secret import NoKeyError, secret_of
        from streamer.core.outputs import parser_of

        try:
            secret = secret_of(config.cache.key_file)
        except NoKeyError as error:  # a cache saves work: without one all is answered, too
            log.warning("answers are not shared through Redis: %s", error)
            return NullCache(post)
        vault = Vault(secret) if secret else Vault(secret, parser_of(config.pipelines[name].task))
        return RedisCache(config.cache.url, vault, config.cache.ttl_s, post, on_event=on_event)

    return LateCache(make, lambda error: post(failure(error, "the cache could not be set up")))


def _source_policy(config: Config, pipeline: PipelineConfig, options: RunOptions) -> SourcePolicy:
    start_ms = start_time_ms(pipeline.start)
    return SourcePolicy(
        topics=pipeline.input,
        group=pipeline.group,
        start=pipeline.start if start_ms is None else start_ms,
        skip_out_of_range=pipeline.on_out_of_range == "earliest",
        crash_limit=pipeline.crash_limit,
        until_end=options.until_end,
        micro_batch_records=pipeline.micro_batch_records,
        linger_ms=pipeline.linger_ms,
        budget_bytes=in_flight_bytes(pipeline.budget_mb),
        hold_s=pipeline.hold_s,
        revoke_deadline_s=pipeline.revoke_deadline_s,
        address=config.kafka.bootstrap_servers,
    )


def _make_encoder(
    config: Config, name: str, topics: OutputTopics, pending: dict[int, Report], member: str, card: ModelCard
) -> PlanEncoder:
    pipeline = config.pipelines[name]
    return PlanEncoder(
        Encoder(
            pipeline=name,
            task=pipeline.task,
            card=card,
            output_topic=pipeline.output,
            dead_letter_topic=pipeline.dead_letter,
            limits=topics.limits(),
            newest=topics.limits,
            by_key=pipeline.partitioning == "key",
        ),
        new_report=partial(
            ReportBuilder, pipeline=name, task=pipeline.task, card=card, origin=origin_of(config, name, member)
        ),
        reports_topic=config.telemetry.reports,
        on_report=pending.__setitem__,
    )
