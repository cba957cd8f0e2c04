"""How far a group has come in its topics, and how old the first record is that it has not settled."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig
from streamer.config.pipeline import start_time_ms
from streamer.core.onlooker import OPEN_TRANSACTION_MS, View
from streamer.core.record import TopicPartition
from streamer.core.settle.calls import Act
from streamer.kafka.coordinator import when_loaded
from streamer.kafka.errors import act_on_consumer, answer, is_missing
from streamer.kafka.group_view import look_at
from streamer.kafka.heads import REQUEST_S, Head, explained, first_records
from streamer.kafka.settled import settled_offsets
from streamer.kafka.topics import connect, require

_Asked = tuple[int, TopicPartition]  # the number of a group among those asked for, and a partition that it reads

_AT_ONCE = 4
_AGAIN_S = 0.2
_MOVES_WITHIN_S = 1.0
_LEADER_MOVES = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)  # or the topic is new
_UNSUPPORTED = (KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE)
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_NEWEST: OffsetSpec = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]


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
                    raise explained(self._kafka, error, "Describe", f"topic {topic}") from None
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
        return self.views_of([(group, list(topics), start)])[0]

    def views_of(self, asked: Sequence[tuple[str, Sequence[str], str]]) -> list[list[View]]:
        """The views of several groups, each given by its name, topics and start. All groups share the requests; only
        the settled offsets are asked for group by group, a few at a time."""
        topics = list(dict.fromkeys(topic for _, wanted, _ in asked for topic in wanted))
        by_topic: dict[str, list[TopicPartition]] = {topic: [] for topic in topics}
        for each in self.partitions(topics):
            by_topic[each[0]].append(each)
        places = {
            index: [each for topic in wanted for each in by_topic[topic]] for index, (_, wanted, _) in enumerate(asked)
        }
        # Settled offsets first: what is settled meanwhile then counts as behind, and never as less than nothing.
        settled = self._settled({index: (asked[index][0], each) for index, each in places.items()})
        every = [each for found in by_topic.values() for each in found]
        earliest, ends, highs = self.earliest(every), self.ends(every), self.ends(every, open_too=True)
        starts: dict[_Asked, int] = {}
        for index, (_, _, start) in enumerate(asked):
            starts |= self._starts(index, places[index], settled[index], start, earliest, ends)
        heads = self._heads({each: at for each, at in starts.items() if at < ends[each[1]]})
        opened = self._opened({each: ends[each] for each in every if ends[each] < highs[each]})
        return [
            [
                _view(
                    each,
                    earliest[each],
                    ends[each],
                    highs[each],
                    starts[index, each],
                    settled[index].get(each),
                    heads.get((index, each)),
                    opened.get(each),
                )
                for each in places[index]
            ]
            for index in places
        ]

    def members(self, groups: Iterable[str]) -> dict[str, list[str]]:
        """Who is in each group, by slot, of those groups that we may see; nothing where not every broker answers."""
        found: dict[str, list[str]] = {}
        for group in sorted(set(groups)):
            try:
                found[group] = [member.slot for member in look_at(self._admin, group, REQUEST_S).members]
            except KafkaException as error:
                if act_on_consumer(error) is not Act.DENIED:
                    return {}
        return found

    def committed(self, group: str, partitions: Iterable[TopicPartition] = ()) -> dict[TopicPartition, int]:
        """The offsets that the group has settled; of all partitions that it ever did when none are named."""
        found = self._committed(group, list(partitions))
        return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}

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

    def _settled(
        self, asked: Mapping[int, tuple[str, list[TopicPartition]]]
    ) -> dict[int, dict[TopicPartition, KafkaPartition]]:
        """What each of these groups has settled, by its number."""
        with ThreadPoolExecutor(min(_AT_ONCE, max(len(asked), 1)), thread_name_prefix="settled") as pool:
            answers = pool.map(lambda one: self._committed(*one), asked.values())
            return {
                index: {(each.topic, each.partition): each for each in found if each.offset >= 0}
                for index, found in zip(asked, answers, strict=True)
            }

    def _starts(
        self,
        index: int,
        places: list[TopicPartition],
        settled: Mapping[TopicPartition, KafkaPartition],
        start: str,
        earliest: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> dict[_Asked, int]:
        """Where one group goes on, or would begin."""
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
        return {(index, each): at for each, at in starts.items()}

    def _heads(self, starts: Mapping[_Asked, int]) -> dict[_Asked, Head]:
        """The first record from where each group goes on. One consumer reads a partition at one place at a time, so
        groups that share a partition and stand elsewhere take turns."""
        found: dict[_Asked, Head] = {}
        left = dict(starts)
        while left:
            now: dict[TopicPartition, int] = {}
            for (_, place), at in left.items():
                now.setdefault(place, at)
            heads = self._first(now)
            done = [each for each, at in left.items() if now[each[1]] == at]
            found |= {each: heads[each[1]] for each in done if each[1] in heads}
            for each in done:
                del left[each]
        return found

    def _first(self, starts: Mapping[TopicPartition, int], *, open_too: bool = False) -> dict[TopicPartition, Head]:
        return first_records(self._kafka, starts, open_too=open_too, check=self.ends)

    def _opened(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, Head]:
        """The first record of the transaction that is open at each of these ends; no entry where there is but a marker.
        Where the end moves, it was a younger one than its record's timestamp says, which producers choose as they like.
        """
        found = self._first(ends, open_too=True)
        now_ms = int(time.time() * 1000)
        old = [each for each, head in found.items() if head.written_ms < now_ms - OPEN_TRANSACTION_MS]
        if old:
            time.sleep(_MOVES_WITHIN_S)
            later = self.ends(old)
            found |= {each: Head(now_ms) for each in old if later[each] != ends[each]}
        return found

    def _committed(self, group: str, places: list[TopicPartition]) -> list[KafkaPartition]:
        """What the group has settled in these partitions; in all where none are named."""
        try:
            if not places:
                return self._committed_anywhere(group)
            asked = [KafkaPartition(*each) for each in places]
            return settled_offsets(self._kafka, group, asked, REQUEST_S)
        except KafkaException as error:
            raise explained(self._kafka, error, "Describe", f"group {group}") from None

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
                        raise explained(self._kafka, error, "Describe", f"topic {each.topic}") from None
            if asked:
                time.sleep(_AGAIN_S)
        return found


def _view(
    partition: TopicPartition,
    earliest: int,
    end: int,
    high: int,
    start: int,
    settled: KafkaPartition | None,
    head: Head | None,
    opened: Head | None,
) -> View:
    return View(
        partition=partition,
        earliest=earliest,
        end=end,
        high=high if opened else end,
        start=start,
        settled=settled.offset if settled else None,
        note=(settled.metadata or "") if settled else "",
        first_ms=head.written_ms if head and not head.damage else None,
        damage=head.damage if head else "",
        framed=bool(head and head.framed),
        open_ms=opened.written_ms if opened and not opened.damage else None,
    )
