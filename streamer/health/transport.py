"""Faust's Kafka transport as the health app needs it: committed records only, in no group, from places that we name.

Faust commits by counting offsets, and each report is followed by a transaction's marker, a gap in that count. The app
keeps its own places, so nothing is committed, no group exists, and two apps read everything without knowing of one
another. The topics that are read need `acks=False`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, cast

import aiokafka
import aiokafka.client
from aiokafka.protocol.metadata import MetadataRequest
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Transport,
    credentials_to_aiokafka_auth,
    server_list,
)
from faust.types import TP

FAUST_LOG = logging.getLogger("faust.health")
"""Mode gives each class the logger of its module, and what Faust says of every step would count as ours."""

# There is no option for it: a client that asks for a topic that was deleted would have the brokers create it.
aiokafka.client.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)

_GENERATION = 1
_FETCH_WAIT_MS = 250


class ReadingThread(AIOKafkaConsumerThread):
    """Reads all partitions of the topics that agents ask for."""

    logger = FAUST_LOG
    fetched: Counter[str] = Counter()
    """Records handed over to the agents since the start, by topic."""
    held: frozenset[TP] = frozenset()
    """Partitions of which nothing is handed over for now."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        self.fetched = Counter()
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=None,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            check_crcs=True,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            **credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Take all partitions of these topics."""
        await self.call_thread(self._take_all, set(topics))

    async def _take_all(self, topics: set[str]) -> None:
        consumer = self._ensure_consumer()
        places = [place for place in self._places() if place.topic in topics]
        if not places or set(places) == self.assignment():
            return
        consumer.assign([aiokafka.TopicPartition(*place) for place in places])
        self.app.on_rebalance_start()
        self.app.consumer_generation_id = _GENERATION
        # Faust waits in there until this subscription is told to be done.
        self._assigning = asyncio.create_task(self.on_partitions_assigned(set(places), _GENERATION))

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the places that the app names."""
        starts = self._places()
        await self.call_thread(self._seek_all, starts)
        return {place: offset for place, offset in starts.items() if offset}

    async def _seek_all(self, starts: Mapping[TP, int]) -> None:
        for place, offset in starts.items():
            self._ensure_consumer().seek(aiokafka.TopicPartition(*place), offset)

    async def _fetch_records(self, consumer: Any, active_partitions: set[TP], *args: Any, **kwargs: Any) -> Any:
        # Faust's own pause drops records that are fetched already.
        records = await super()._fetch_records(consumer, active_partitions - self.held, *args, **kwargs)
        for place, found in records.items():
            self.fetched[place.topic] += len(found)
        return records

    def fetched_to(self, place: TP) -> int | None:
        """The offset to fetch next in a partition; None before it is known."""
        subscription = self._ensure_consumer()._subscription.subscription
        partition = aiokafka.TopicPartition(*place)
        if subscription is None or subscription.assignment is None or partition not in subscription.assignment.tps:
            return None
        state = subscription.assignment.state_value(partition)
        return state.position if state.has_valid_position else None

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust would miss commits, of which there are none; the app watches the ends itself."""

    def _places(self) -> dict[TP, int]:
        return cast("dict[TP, int]", self.app.starts)  # type: ignore[attr-defined]


class ReadingConsumer(Consumer):
    """Hands what Faust asks over to the thread that reads."""

    logger = FAUST_LOG

    def _new_consumer_thread(self) -> ReadingThread:
        return ReadingThread(self, loop=self.loop, beacon=self.beacon)

    def hold(self, places: Iterable[TP]) -> None:
        """Hand nothing over of these partitions for now, and of all others."""
        cast("ReadingThread", self._thread).held = frozenset(places)

    @property
    def fetched(self) -> Counter[str]:
        """Records handed over to the agents since the start, by topic."""
        return cast("ReadingThread", self._thread).fetched

    def fetched_to(self, place: TP) -> int | None:
        """The offset to fetch next in a partition, past all that was handed over and past transactions' markers."""
        return cast("ReadingThread", self._thread).fetched_to(place)


class ReadingTransport(Transport):
    """The transport of an app that has `starts`: all partitions to read, each with the offset to read next."""

    Consumer = ReadingConsumer
