"""The Faust app: agents that take reports and feedback, timers, and web views. What it knows is kept elsewhere.

No number that must be right lives in a Faust table: those undercount when a worker is killed, and their windows expire
by the wall clock. Faust declares no topic, elects no leader, keeps no store, and commits nothing.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import faust
from faust.types import TP
from faust.web import Request, Response, View

from streamer.config.fields import KafkaConfig
from streamer.core.record import TopicPartition
from streamer.errors import ConfigurationError
from streamer.health.security import credentials_of
from streamer.health.transport import FAUST_LOG, ReadingConsumer, ReadingTransport

TICK_S: Final = 1.0
_BUFFERED_EVENTS: Final = 256
_REQUEST_S: Final = 40.0
_METADATA_MS: Final = 30_000
# What Faust would serve of its own: routers, tables and graphs, which an app without tables has no use for.
_NO_PAGES: Final[dict[str, Any]] = dict.fromkeys(
    ("web_tables_enabled", "web_stats_enabled", "web_graph_enabled", "web_router_enabled", "web_metrics_enabled"), False
)


class Message(NamedTuple):
    """One record that an agent took."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time_ms: int


class Page(NamedTuple):
    """The answer to a request."""

    content_type: str
    body: bytes
    status: int = 200


class Work(NamedTuple):
    """What the app does. `takers` take the records of a topic, one after the other, and raise nothing; `tick` is called
    once a second with how late it comes; `pages` answer by path, given the query."""

    takers: Mapping[str, Callable[[Message], Awaitable[None]]]
    tick: Callable[[float], Awaitable[None]]
    pages: Mapping[str, Callable[[Mapping[str, str]], Page]]


class HealthApp(faust.App):
    """A Faust app that reads all partitions from `starts` on, in no group."""

    logger = FAUST_LOG
    starts: dict[TP, int]

    def _new_transport(self) -> ReadingTransport:
        return ReadingTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Faust would make a folder for tables in the current one, which need not be writable."""

    def fetched(self, topic: str) -> int:
        """Records of a topic that were handed over to its agent."""
        consumer = self.consumer
        return consumer.fetched[topic] if isinstance(consumer, ReadingConsumer) else 0

    def hold(self, topic: str, held: bool) -> None:
        """Fetch a topic no further for now. An agent that waits instead would in the end hold up the other topics."""
        consumer = self.consumer
        if isinstance(consumer, ReadingConsumer):
            consumer.hold(place for place in self.starts if held and place.topic == topic)

    def position(self, place: TopicPartition) -> int | None:
        """The offset that is fetched next; it has passed transactions' markers. None before the first fetch."""
        consumer = self.consumer
        return consumer.fetched_to(TP(*place)) if isinstance(consumer, ReadingConsumer) else None


def make_app(
    kafka: KafkaConfig, client: str, starts: Mapping[TopicPartition, int], listen: tuple[str, int] | None, work: Work
) -> HealthApp:
    """An app that is to be started in the running event loop. Raises ConfigurationError."""
    servers = [server.strip().rpartition("://")[2] for server in kafka.bootstrap_servers.split(",")]
    # Without pages Faust keeps its own defaults: port 0 it refuses.
    web: dict[str, Any] = {}
    if listen is not None:
        web = {"web_bind": listen[0], "web_host": listen[0], "web_port": listen[1]}
    app = HealthApp(
        client,
        broker=[f"kafka://{server}" for server in servers],
        broker_client_id=client,
        broker_credentials=credentials_of(kafka),
        broker_request_timeout=_REQUEST_S,
        consumer_metadata_max_age_ms=_METADATA_MS,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_buffer_maxsize=_BUFFERED_EVENTS,
        stream_wait_empty=False,
        web_enabled=listen is not None,
        **web,
        **_NO_PAGES,
        loop=asyncio.get_running_loop(),
    )
    app.starts = {TP(*place): offset for place, offset in starts.items()}
    for topic, take in work.takers.items():
        _add_agent(app, topic, take)
    _add_tick(app, work.tick)
    for path, answer in work.pages.items():
        _add_page(app, path, answer)
    return app


def check_port(address: str) -> None:
    """Raises ConfigurationError where nobody can listen there."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    bare = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        socket.create_server((bare, int(port)), family=family).close()
    except OSError as error:
        raise ConfigurationError(
            f'health.http: can\'t listen on {address}: {error.strerror}; choose another port, or "" for none'
        ) from None


def _add_agent(app: HealthApp, topic: str, take: Callable[[Message], Awaitable[None]]) -> None:
    # Without acks there is nothing to commit, and nothing that grows with what was not committed.
    # What Faust decodes, and fails to, ends the agent for good, in silence: raw bytes can't fail.
    raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw", "key_type": bytes, "value_type": bytes}
    channel = app.topic(topic, acks=False, **raw)

    async def agent(stream: Any) -> None:
        async for event in stream.events():
            found = event.message
            time_ms = int(found.timestamp * 1000)
            await take(Message(found.partition, found.offset, found.key, found.value, time_ms))

    app.agent(channel, name=f"{app.conf.id}.{topic}", concurrency=1)(agent)


def _add_tick(app: HealthApp, tick: Callable[[float], Awaitable[None]]) -> None:
    expected = 0.0

    async def run() -> None:
        nonlocal expected
        began = time.monotonic()
        late_s = max(began - expected, 0.0) if expected else 0.0
        await tick(late_s)
        expected = time.monotonic() + TICK_S

    app.timer(TICK_S)(run)


def _add_page(app: HealthApp, path: str, answer: Callable[[Mapping[str, str]], Page]) -> None:
    async def view(page: View, request: Request) -> Response:
        found = answer(request.query)
        headers = {"Cache-Control": "no-store"}
        return page.bytes(found.body, content_type=found.content_type, status=found.status, headers=headers)

    app.page(path, name=path)(view)
