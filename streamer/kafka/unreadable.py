"""Partitions whose next batch the client can't read: each is held alone, and tried again at intervals.

The client itself would ask for the batch again twenty times a second and say so each time. After a checksum that does
not match it even reads on at a place that means nothing (librdkafka 2.16.0), so that what it gives after such an error
is thrown away, and the next try begins where we stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError

from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing

RETRY_S: Final = 60.0


@dataclass(slots=True)
class _Hold:
    offset: int  # of the batch, or ours within it
    code: int
    retry_at: float
    held: bool = True


class Unreadable:
    """On the source thread, but for `standing`. `group` and `address` are for people."""

    def __init__(self, group: str, address: str) -> None:
        self._group = group
        self._address = address
        self._holds: dict[TopicPartition, _Hold] = {}

    @property
    def held(self) -> Set[TopicPartition]:
        """The partitions that are not asked now."""
        return {key for key, hold in self._holds.items() if hold.held}

    def hold(self, key: TopicPartition, offset: int, code: int, now: float) -> None:
        """This partition's batch at `offset` can't be read."""
        self._holds[key] = _Hold(offset, code, now + RETRY_S)

    def holds(self, key: TopicPartition) -> bool:
        """Whether this partition is not asked now: what the client says of it is of before."""
        return key in self._holds and self._holds[key].held

    def offset(self, key: TopicPartition) -> int:
        """Where this partition is held."""
        return self._holds[key].offset

    def retry(self, now: float) -> None:
        """Let those be asked again whose time has come."""
        for hold in self._holds.values():
            if hold.held and now >= hold.retry_at:
                hold.held = False

    def gave(self, keys: Iterable[TopicPartition]) -> None:
        """These gave records, or came to their end."""
        for key in keys:
            if key in self._holds and not self._holds[key].held:
                del self._holds[key]

    def keep(self, owned: Set[TopicPartition]) -> None:
        """No others are ours."""
        for key in self._holds.keys() - owned:
            del self._holds[key]

    def standing(self) -> list[Standing]:
        """All of them, with what can be done. From any thread."""
        return [
            Standing(key, hold.offset, Reason.UNREADABLE, *self._words(key, hold.offset, hold.code))
            for key, hold in list(self._holds.items())
        ]

    def _words(self, key: TopicPartition, offset: int, code: int) -> tuple[str, str]:
        if code == KafkaError._BAD_COMPRESSION:
            what = "the client can't unpack the batch there: it is damaged, or larger than receive.message.max.bytes"
            fix = "raise receive.message.max.bytes in kafka.properties and restart if the batch is sound; else "
        elif code == KafkaError._NOT_IMPLEMENTED:
            what, fix = "the batch there has a format that the client does not know", ""
        else:
            what, fix = "the batch there is damaged on the broker: its checksum does not match", ""
        return what, fix + skip_words(key, self._group, self._address)


def skip_words(key: TopicPartition, group: str, address: str) -> str:
    """How people go on behind what can't be read."""
    return (
        f"repair it on the broker (from another replica), or skip it: {offset_words(key, group, address)}, where N is "
        "the offset after the batch (kafka-dump-log.sh shows it)"
    )


def offset_words(key: TopicPartition, group: str, address: str) -> str:
    """How people move a group's offset."""
    return (
        f"stop this group, then kafka-consumer-groups.sh --bootstrap-server {address} --group {group} "
        f"--topic {key[0]}:{key[1]} --reset-offsets --to-offset N --execute"
    )
