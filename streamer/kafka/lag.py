"""How far a group has come in its topics, and how old the first record is that it has not settled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar, cast

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
)
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig, start_time_ms
from streamer.core.diagnosis import is_framed
from streamer.core.onlooker import OPEN_TRANSACTION_MS, View
from streamer.core.record import TopicPartition
from streamer.core.settle.calls import Act
from streamer.core.timestamps import written_ms
from streamer.kafka.clients import make_consumer, reader_properties
from streamer.kafka.errors import UNREADABLE, act_on_consumer, answer, is_missing, start_error
from streamer.kafka.settled import settled_offsets
from streamer.kafka.topics import connect, require

T = TypeVar("T")

REQUEST_S = 10.0
_AGAIN_S = 0.2
_MOVES_WITHIN_S = 1.0
_LOADING = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE)
_LEADER_MOVES = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)  # or the topic is new
_UNSUPPORTED = (KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE)
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_NEWEST: OffsetSpec = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]


def when_loaded(ask: Callable[[], Future[T]]) -> T:
    """The answer to a request about a group, asked again while the group's coordinator loads. Raises KafkaException."""
    return _until_loaded(lambda: answer(ask(), REQUEST_S))


def _until_loaded(ask: Callable[[], T]) -> T:
    deadline = time.monotonic() + REQUEST_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _LOADING or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_S)


class _Head(NamedTuple):
    """What of a record is looked at: when it was written, in ms (0 where it does not say), or why it can't be read."""

    written_ms: int = 0
    damage: str = ""
    framed: bool = False


class GroupOffsets:
    """Reads offsets, and single records; joins and commits nothing.

    Raises DependencyError when the cluster does not answer, ConfigurationError for a missing topic or right.
    """

    def __init__(self, kafka: KafkaConfig, admin: AdminClient | None = None) -> None:
        self._kafka = kafka
        self._admin = admin or connect(kafka)

    def counts(self, topics: Iterable[str]) -> dict[str, int]:
        """How many partitions each topic has: 0 where it does not exist, no entry where we may not see it."""
        wanted = sorted(set(topics))
        found: dict[str, int] = {}
        described = self._admin.describe_topics(TopicCollection(wanted), request_timeout=REQUEST_S)
        for topic, future in described.items():
            try:
                found[topic] = len(answer(future, REQUEST_S).partitions)
            except KafkaException as error:
                if is_missing(error):
                    found[topic] = 0
                elif act_on_consumer(error) is not Act.DENIED:
                    raise self._explained(error, "Describe", f"topic {topic}") from None
        return found

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics."""
        wanted = list(topics)
        counts = self.counts(wanted)
        return [
            (topic, number)
            for topic in wanted
            for number in range(counts.get(topic) or require(self._admin, self._kafka, topic).partitions)
        ]

    def views(self, group: str, topics: Iterable[str], start: str) -> list[View]:
        """All partitions of these topics, as they lie before this group. `start` is where it begins that has settled
        nothing: earliest, latest, or a time."""
        places = self.partitions(topics)
        # Settled offsets first: what is settled meanwhile then counts as behind, and never as less than nothing.
        settled = {(each.topic, each.partition): each for each in self._committed(group, places) if each.offset >= 0}
        earliest, ends, highs = self.earliest(places), self.ends(places), self.ends(places, open_too=True)
        starts = {each: max(found.offset, earliest[each]) for each, found in settled.items()}
        begun = {topic for topic, _ in settled}
        fresh = [each for each in places if each not in settled]
        if start == "latest":  # what a topic gets after the group began with it is read from its first record
            starts |= {each: (earliest if each[0] in begun else ends)[each] for each in fresh}
        elif (time_ms := start_time_ms(start)) is None:
            starts |= {each: earliest[each] for each in fresh}
        else:
            found_at = self.at_time(fresh, time_ms)
            starts |= {each: found_at.get(each, ends[each]) for each in fresh}
        heads = self._first({each: at for each, at in starts.items() if at < ends[each]})
        opened = self._opened({each: ends[each] for each in places if ends[each] < highs[each]})
        views = []
        for each in places:
            known, head, written = settled.get(each), heads.get(each), opened.get(each)
            views.append(
                View(
                    partition=each,
                    earliest=earliest[each],
                    end=ends[each],
                    high=highs[each] if written else ends[each],
                    start=starts[each],
                    settled=known.offset if known else None,
                    note=(known.metadata or "") if known else "",
                    first_ms=head.written_ms if head and not head.damage else None,
                    damage=head.damage if head else "",
                    framed=bool(head and head.framed),
                    open_ms=written.written_ms if written and not written.damage else None,
                )
            )
        return views

    def committed(self, group: str, partitions: Iterable[TopicPartition] = ()) -> dict[TopicPartition, int]:
        """The offsets that the group has settled; of all partitions that it ever did when none are named."""
        found = self._committed(group, list(partitions))
        return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}

    def members(self, group: str) -> dict[str, int]:
        """Who is in the group, and how many partitions each has."""
        try:
            description = when_loaded(
                lambda: self._admin.describe_consumer_groups([group], request_timeout=REQUEST_S)[group]
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:  # of brokers from 4.0 on
                return {}
            raise self._explained(error, "Describe", f"group {group}") from None
        return {
            member.group_instance_id or member.member_id: (
                len(member.assignment.topic_partitions) if member.assignment else 0
            )
            for member in description.members
        }

    def earliest(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that is still there."""
        return {each: found.offset for each, found in self._offsets(partitions, _EARLIEST).items()}

    def ends(self, partitions: Iterable[TopicPartition], *, open_too: bool = False) -> dict[TopicPartition, int]:
        """The offset after the last committed record, where open transactions begin; with `open_too` that after the
        last record of all."""
        return {each: found.offset for each, found in self._offsets(partitions, _LATEST, open_too=open_too).items()}

    def at_time(self, partitions: Iterable[TopicPartition], time_ms: int) -> dict[TopicPartition, int]:
        """The first offset of that time or later; partitions without one are left out."""
        found = self._offsets(partitions, OffsetSpec.for_timestamp(time_ms))
        return {each: info.offset for each, info in found.items() if info.offset >= 0}

    def newest_ms(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The highest timestamp in each partition, transaction markers' included; empty ones are left out, and all
        where the brokers are older than 3.0 (KIP-734)."""
        found = self._offsets(partitions, _NEWEST)
        return {each: info.timestamp for each, info in found.items() if info.timestamp >= 0}

    def _first(self, starts: Mapping[TopicPartition, int], *, open_too: bool = False) -> dict[TopicPartition, _Head]:
        """The first record at or after each offset. Partitions where only transaction markers are left have none."""
        found: dict[TopicPartition, _Head] = {}
        if not starts:
            return found
        consumer = make_consumer(
            {
                **reader_properties(self._kafka),
                "isolation.level": "read_uncommitted" if open_too else "read_committed",
                "enable.partition.eof": True,
                # One record of each partition is wanted: what is fetched beyond it is waste.
                "queued.min.messages": 1,
                "fetch.message.max.bytes": 16_384,
                # Without this some damage is skipped in silence, and behind other damage the client goes on anywhere.
                "check.crcs": True,
                "auto.offset.reset": "error",
            }
        )
        try:
            consumer.assign([KafkaPartition(*place, offset) for place, offset in starts.items()])
            left = set(starts)
            deadline = time.monotonic() + REQUEST_S
            while left:
                message = consumer.poll(0.2)
                if message is None:
                    if time.monotonic() > deadline:
                        self.ends(left)  # raises where the brokers do not answer
                        return found | dict.fromkeys(left, _Head(damage=f"nothing came for {REQUEST_S:g} s"))
                    continue
                place = (message.topic() or "", message.partition() or 0)
                if place not in left:
                    continue
                error = message.error()
                if error is None:
                    found[place] = _Head(written_ms(message.timestamp()) or 0, framed=_is_framed(message))
                elif error.code() in UNREADABLE:
                    found[place] = _Head(damage=error.name().lstrip("_"))
                elif error.code() != KafkaError._PARTITION_EOF:
                    if act_on_consumer(error) is Act.RETRY and time.monotonic() < deadline:
                        continue
                    raise self._explained(error, "Read", f"topic {place[0]}")
                left.discard(place)
                consumer.incremental_unassign([KafkaPartition(*place)])
        finally:
            consumer.close()
        return found

    def _opened(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, _Head]:
        """The first record of the transaction that is open at each of these ends; no entry where there is but a marker.
        Where the end moves, it was a younger one than its record's timestamp says, which producers choose as they like.
        """
        found = self._first(ends, open_too=True)
        now_ms = int(time.time() * 1000)
        old = [each for each, head in found.items() if head.written_ms < now_ms - OPEN_TRANSACTION_MS]
        if old:
            time.sleep(_MOVES_WITHIN_S)
            later = self.ends(old)
            found |= {each: _Head(now_ms) for each in old if later[each] != ends[each]}
        return found

    def _committed(self, group: str, places: list[TopicPartition]) -> list[KafkaPartition]:
        """What the group has settled in these partitions; in all where none are named."""
        try:
            if not places:
                return self._committed_anywhere(group)
            asked = [KafkaPartition(*each) for each in places]
            return _until_loaded(lambda: settled_offsets(self._kafka, group, asked, REQUEST_S))
        except KafkaException as error:
            raise self._explained(error, "Describe", f"group {group}") from None

    def _committed_anywhere(self, group: str) -> list[KafkaPartition]:
        wanted = [ConsumerGroupTopicPartitions(group)]
        found = when_loaded(lambda: self._admin.list_consumer_group_offsets(wanted, request_timeout=REQUEST_S)[group])
        return list(found.topic_partitions)

    def _offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec, *, open_too: bool = False
    ) -> dict[TopicPartition, Any]:
        asked = {KafkaPartition(*each): spec for each in partitions}
        isolation = IsolationLevel.READ_UNCOMMITTED if open_too else IsolationLevel.READ_COMMITTED
        found, deadline = {}, time.monotonic() + REQUEST_S
        while asked:
            futures = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=REQUEST_S)
            asked = {}
            for each, future in futures.items():
                try:
                    found[each.topic, each.partition] = answer(future, REQUEST_S)
                except KafkaException as error:
                    code = error.args[0].code()
                    if code in _LEADER_MOVES and time.monotonic() < deadline:
                        asked[each] = spec
                    elif code not in _UNSUPPORTED:
                        raise self._explained(error, "Describe", f"topic {each.topic}") from None
            if asked:
                time.sleep(_AGAIN_S)
        return found

    def _explained(self, error: KafkaException | KafkaError, operation: str, resource: str) -> Exception:
        address = self._kafka.bootstrap_servers
        return start_error(error, address=address, operation=operation, resource=resource)


def _is_framed(message: Message) -> bool:
    """Of a record that is read as JSON, since it does not say what else it is."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    named = any(name.lower() == "content-type" for name, _ in headers)
    return not named and is_framed(message.value() or b"")
