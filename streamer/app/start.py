"""The start of `streamer run`, step by step, in the order in which it happens.

The load of the model takes longest, so that the workers are started first; the brokers come next, and most of what
drives a pipeline is imported while they answer. Hence each step imports what it needs and no more (of half a second in
all). That is for the time alone: nothing here has to be imported before anything else.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import structs

from streamer.app.failure import failure
from streamer.app.fetch import fetch_model
from streamer.app.workers import pipeline_of, worker_plan
from streamer.config.load import Config, PipelineConfig
from streamer.config.otel import Otel, read
from streamer.core.pipeline.protocol import Input
from streamer.inference.models.presence import refuse_early
from streamer.inference.parent.pool import WorkerPool
from streamer.kafka.slots import Slot, take_slot

if TYPE_CHECKING:
    from streamer.app.assembly import Assembly
    from streamer.app.life import Show, Wait
    from streamer.core.pipeline.pipeline import Pipeline
    from streamer.core.pipeline.protocol import ModelCard
    from streamer.core.report import Report
    from streamer.core.results.plan_encoder import PlanEncoder
    from streamer.kafka.orphans import OrphanWatch
    from streamer.kafka.output_topics import OutputTopics
    from streamer.kafka.schemas import RegistrySchemas
    from streamer.kafka.sink import KafkaSink, Offsets
    from streamer.kafka.source.source import KafkaSource

BROKERS_S = 3.0
TRANSACTION_S = 5.0
MODEL_S = 10.0
GROUP_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `streamer run` was asked beside the configuration. `siblings` processes run beside one another on this
    machine, this one as number `index` (from 0); `member` (from 1) says which of several of its pipeline it is; the
    first knows the numbers of the `others`. A `supervised` one gets its signals from its parent."""

    until_end: bool = False
    accept_dead_letters: int = 0
    siblings: int = 1
    index: int = 0
    member: int = 0
    others: tuple[int, ...] = ()
    supervised: bool = False


@dataclass(frozen=True)
class Start:
    """What all steps know."""

    config: Config
    name: str
    options: RunOptions
    inbox: SimpleQueue[Input]
    slot: Slot

    @cached_property
    def otel(self) -> Otel:
        """What the `OTEL_*` variables say of spans; what of them is ignored is logged."""
        otel, _, warnings = read(os.environ, self.config.telemetry)
        for variable, text in warnings:
            log.warning("environment variable %s: %s", variable, text)
        return otel

    @property
    def traced(self) -> bool:
        """Whether spans go anywhere."""
        return bool(self.otel.endpoint or (self.config.telemetry.spans and not self.otel.off))

    @property
    def pipeline(self) -> PipelineConfig:
        return self.config.pipelines[self.name]


class Ends(NamedTuple):
    """What of a pipeline talks to Kafka."""

    topics: OutputTopics
    source: KafkaSource
    strangers: OrphanWatch
    sink: KafkaSink


def start(config: Config, name: str, options: RunOptions, show: Show | None = None, began: float = 0.0) -> Assembly:
    """All steps but the first; returns a pipeline that is ready to be driven. `show` is told how it does, and that it
    `began` then.

    Raises StreamerError: no such pipeline, a slot that is taken, a wrong configuration. What was begun is undone then.
    """
    pipeline = pipeline_of(config, name)
    with ExitStack() as undo:
        slot = take_slot(pipeline.group, pipeline.slot, member=options.member)
        one = Start(config, name, options, SimpleQueue(), slot)
        undo.callback(one.slot.release)
        pool = start_workers(one)
        undo.callback(pool.close, 0.0)
        topics = look_at_topics(one)
        reports: dict[int, Report] = {}
        awaited: Future[Offsets] = Future()
        sink = connect_sink(one, topics, awaited, partial(make_encoder, one, topics, reports))
        source, strangers = make_source(one)
        awaited.set_result(source)
        assembly = put_together(one, pool, Ends(topics, source, strangers, sink), reports, show, began)
        undo.pop_all()
        return assembly


def find_model(pipeline: PipelineConfig) -> None:
    """1. Download the model where that is allowed, and refuse one that is not there. It may take minutes, or end here:
    nothing is taken yet, so that a signal may end the process at once."""
    fetch_model(pipeline)
    refuse_early(pipeline.model, pipeline.adapter, pipeline.task)


def start_workers(one: Start) -> WorkerPool:
    """2. Start the workers, since a model's load takes longest, and a worker needs nothing but its orders."""
    from streamer import __version__
    from streamer.telemetry.spans import resource_of

    count, spec = worker_plan(one.pipeline, one.name, one.options.siblings)
    resource = resource_of(one.slot.name, __version__, one.otel.resource)
    spec = structs.replace(spec, traced=one.traced, resource=resource)
    pool = WorkerPool(spec, count, one.inbox.put)
    pool.start_early()
    return pool


def look_at_topics(one: Start) -> OutputTopics:
    """3. Look at the topics, on a thread of its own: all that is written waits for it. What is wrong with them is
    posted."""
    from streamer.kafka.output_topics import OutputTopics

    topics = OutputTopics(one.config, one.name)

    def check_now() -> None:
        try:
            topics.check()
        except Exception as error:
            topics.ready.set_exception(error)
            one.inbox.put(failure(error, "the topics could not be checked"))
        else:
            topics.ready.set_result(None)

    threading.Thread(target=check_now, name="topic-check", daemon=True).start()
    return topics


def connect_sink(
    one: Start, topics: OutputTopics, source: Future[Offsets], encoder: Callable[[ModelCard], PlanEncoder]
) -> KafkaSink:
    """4. Let the sink connect, on a thread of its own: the slot's last owner may have left a transaction open, which
    takes the brokers a while to end. What is wrong with it is raised by `KafkaSink.open`."""
    from streamer.kafka.clients import producer_properties
    from streamer.kafka.producers import Producers

    config, pipeline, slot = one.config, one.pipeline, one.slot.name

    def properties(smallest: int, largest: int) -> dict[str, Any]:
        return producer_properties(config.kafka, pipeline, slot, batch_bytes=smallest, largest_bytes=largest)

    address, group = config.kafka.bootstrap_servers, pipeline.group
    parts = Producers(topics.sizes, properties), topics, source, encoder, one.inbox.put, address
    sink: KafkaSink
    if pipeline.guarantee == "exactly_once":
        from streamer.kafka.transactional_sink import TransactionalSink

        sink = TransactionalSink(*parts, group=group, transactional_id=f"{group}.{slot}")
    else:
        from streamer.kafka.idempotent_sink import IdempotentSink

        sink = IdempotentSink(*parts, group=group)
    sink.connect()
    return sink


def make_source(one: Start) -> tuple[KafkaSource, OrphanWatch]:
    """5. Make what reads the input, which joins the group once the model is loaded, and what looks at the group for
    partitions that nobody reads."""
    from streamer.config.load import start_time_ms
    from streamer.core.intake import SourcePolicy
    from streamer.kafka.clients import consumer_properties, in_flight_bytes, make_consumer
    from streamer.kafka.former_owners import FormerOwners
    from streamer.kafka.orphans import OrphanWatch
    from streamer.kafka.settled import held_by_transaction
    from streamer.kafka.source.cluster import ClusterView
    from streamer.kafka.source.source import KafkaSource
    from streamer.kafka.source.topic_ids import TopicIds

    kafka, pipeline, until_end = one.config.kafka, one.pipeline, one.options.until_end
    properties = consumer_properties(kafka, pipeline, one.slot.name)
    properties["enable.partition.eof"] = until_end
    start_ms = start_time_ms(pipeline.start)
    policy = SourcePolicy(
        topics=pipeline.input,
        group=pipeline.group,
        start=pipeline.start if start_ms is None else start_ms,
        skip_out_of_range=pipeline.on_out_of_range == "earliest",
        crash_limit=pipeline.crash_limit,
        until_end=until_end,
        micro_batch_records=pipeline.micro_batch_records,
        linger_ms=pipeline.linger_ms,
        budget_bytes=in_flight_bytes(pipeline.budget_mb),
        hold_s=pipeline.hold_s,
        revoke_deadline_s=pipeline.revoke_deadline_s,
        address=kafka.bootstrap_servers,
    )
    ids = TopicIds(debug="debug" in kafka.properties)
    source = KafkaSource(
        lambda: make_consumer(properties, ids=ids),
        policy,
        one.inbox.put,
        partial(held_by_transaction, kafka, pipeline.group),
        FormerOwners(kafka, pipeline.group, pipeline.crash_limit, int(properties["session.timeout.ms"])),
        ClusterView(kafka),
        ids,
    )
    strangers = OrphanWatch(
        source,
        kafka,
        pipeline.group,
        pipeline.input,
        output=pipeline.output,
        dynamic=not pipeline.static_membership,
        client=str(properties["client.id"]),
    )
    source.on_joining = strangers.start
    return source, strangers


def put_together(
    one: Start, pool: WorkerPool, ends: Ends, reports: dict[int, Report], show: Show | None, began: float
) -> Assembly:
    """6. Make the rest, while workers and brokers answer; nothing of it waits for anything. The cache is made on a
    thread of its own, since the import of its client takes as long as all else here, and nobody asks it yet."""
    from streamer.app.announcer import Announcer
    from streamer.app.assembly import Assembly
    from streamer.app.driver import Adapters, Driver, Observer
    from streamer.app.life import Life, say_loading
    from streamer.app.meter import Meter, count_cache, show_stuck
    from streamer.app.observe import Signals, Watchdog
    from streamer.app.parts import make_cache, policy_of
    from streamer.config.shapes import shape_of
    from streamer.core.events.codec import Codec
    from streamer.core.pipeline.pipeline import Pipeline
    from streamer.core.pipeline.waiting import waiting
    from streamer.telemetry import catalogue
    from streamer.telemetry.logs import lost_lines
    from streamer.telemetry.metrics import Metrics

    config, name, post, source, sink = one.config, one.name, one.inbox.put, ends.source, ends.sink
    say_loading(one.pipeline.model, one.pipeline.task, pool.count, one.pipeline.device)
    metrics = Metrics(name, one.options.member)
    cache = make_cache(config, name, post, partial(count_cache, metrics))
    schemas = make_schemas(one)
    codec = Codec(name, shape=shape_of(one.pipeline), schemas=schemas)
    policy = policy_of(config, name, pool.count, one.options.accept_dead_letters)
    most_spans = config.telemetry.max_spans_per_s if one.traced else 0
    policy = replace(policy, max_spans_per_s=most_spans, traced=one.traced, sampler=one.otel.sampler)
    policy = replace(policy, until_end=one.options.until_end)
    pipeline = Pipeline(policy, codec)
    meter = Meter(
        metrics,
        one.slot.name,
        reports,
        ahead=lambda: source.read_progress.ahead,
        starts=lambda: source.starts,
        totals={
            catalogue.OUT_OF_RANGE: lambda: source.intake.out_of_range_records,
            catalogue.INPUT_RESETS: lambda: source.resets,
            catalogue.LOG_LINES_LOST: lost_lines,
            catalogue.UNSTUCK: lambda: source.read_progress.stuck.healed,
            catalogue.BAD_TRACEPARENTS: lambda: codec.bad_traceparents,
        },
        cache_available=(lambda: cache.available) if config.cache.url else None,
    )
    watchdog = Watchdog(lambda: sink.busy_since, sink.replace_if_hung, post)
    model_waits = lambda: waiting(pipeline, one.pipeline.input, time.monotonic())  # noqa: E731
    settling = lambda: pipeline.settling.standing(time.monotonic())  # noqa: E731
    schema_waits = lambda: schemas.standing(pipeline) if schemas else ()  # noqa: E731
    origins = (source.standing, settling, model_waits, schema_waits, ends.strangers.standing)
    signals = Signals(origins, source.ahead, show=partial(show_stuck, metrics))
    announcer = Announcer(config, name, one.slot.name)
    waits = partial(waits_for, one, pipeline, ends)
    life = Life(name, pool.count, meter.tally, lambda: meter.behind, show, waits, announcer.started, began=began)
    observers: list[Observer] = [meter, watchdog, signals, life]
    closers: list[Callable[[float], None]] = [ends.strangers.close]
    if one.traced:
        from streamer.app.outlets import make_tracer

        observers.append(make_tracer(one, metrics, closers))
    adapters = Adapters(source, sink, pool, cache, tuple(observers))
    if schemas is not None:
        adapters = replace(adapters, learn=schemas.learn, pause=source.pause)
        closers.append(schemas.close)
    driver = Driver(pipeline, one.inbox, adapters)
    watched = (metrics, watchdog, signals, life, announcer)
    return Assembly(driver, pipeline, source, sink, one.slot, *watched, one.options.member > 0, tuple(closers))


def make_schemas(one: Start) -> RegistrySchemas | None:
    """What opens values by the schemas of a registry; None for plain JSON."""
    if one.pipeline.input_format == "json":
        return None
    from streamer.kafka.schemas import RegistrySchemas

    return RegistrySchemas(one.config.schema_registry, one.pipeline, one.inbox.put)


def make_encoder(one: Start, topics: OutputTopics, reports: dict[int, Report], card: ModelCard) -> PlanEncoder:
    """What makes records and a report of a plan, once the model is known."""
    from streamer.app.announcer import origin_of
    from streamer.app.parts import encoder_of
    from streamer.core.report import ReportBuilder
    from streamer.core.results.plan_encoder import PlanEncoder

    config, name = one.config, one.name
    origin = origin_of(config, name, one.slot.name)
    seal = None
    if one.pipeline.output_format != "json":
        from streamer.kafka.result_registry import register

        seal = register(config.schema_registry, one.pipeline)
    return PlanEncoder(
        encoder_of(config, name, card, topics.limits(), topics.limits, seal),
        new_report=partial(ReportBuilder, pipeline=name, task=one.pipeline.task, card=card, origin=origin),
        reports_topic=config.telemetry.reports,
        on_report=reports.__setitem__,
    )


def waits_for(one: Start, pipeline: Pipeline, ends: Ends) -> Wait | None:
    """What keeps the pipeline from reading, where nothing is wrong with it as yet."""
    from streamer.app.life import Wait
    from streamer.core.pipeline.pipeline import Phase

    address, group, source = one.config.kafka.bootstrap_servers, one.pipeline.group, ends.source
    if not ends.topics.ready.done():
        return Wait(f"Kafka at {address} to answer", BROKERS_S)
    if pipeline.card is None:
        return Wait("the model to load", MODEL_S)
    if not ends.sink.is_connected:
        return Wait(f"Kafka at {address} to end what this slot left open, and to let it write", TRANSACTION_S)
    if source.ownership.epochs or pipeline.phase is not Phase.RUNNING:
        return None
    if source.awaits_group:
        return Wait(f"group {group} to assign partitions", GROUP_S)
    return Wait(f"a partition: the other members of group {group} have them all", GROUP_S)
