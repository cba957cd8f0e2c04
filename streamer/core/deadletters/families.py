"""Whose dead letter is it, and what does it say: the header families of streamer and of other tools, as one value.

| family | headers | partition, offset |
|---|---|---|
| streamer | `__connect.errors.*` and `streamer.error.*` | text |
| share group (KIP-1191) | `__dlq.errors.*` | text |
| Kafka Streams (KIP-1034) | `__streams.errors.*` | text |
| Spring | `kafka_dlt-*`, `retry_topic-*` | big-endian, 4 and 8 bytes |
| Kafka Connect | `__connect.errors.*` | text |
| Arroyo | `original_partition`, `original_offset` | text; no topic |
| Redpanda Connect | `fallback_error` | none |

A record may carry several, e.g. when its producer copied a dead letter; the first of this order counts.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypedDict

import msgspec

from streamer.core import headers as names
from streamer.core.deadletters.envelope import original_headers
from streamer.core.record import Headers

Named = dict[str, bytes | None]  # of a repeated header the last counts

_SHARE = "__dlq.errors."
_STREAMS = "__streams.errors."
_SPRING = "kafka_dlt-"
_SPRING_RETRY = "retry_topic-"
_ARROYO_PARTITION, _ARROYO_OFFSET = "original_partition", "original_offset"
_REDPANDA = "fallback_error"
_OMISSIONS = {names.ERROR_VALUE: "value", names.ERROR_HEADERS: "headers", names.ERROR_KEY: "key"}


class Family(StrEnum):
    """Which tool wrote a dead letter."""

    STREAMER = "streamer"
    SHARE = "share-group"
    STREAMS = "kafka-streams"
    SPRING = "spring"
    CONNECT = "kafka-connect"
    ARROYO = "arroyo"
    REDPANDA = "redpanda"
    UNKNOWN = "unknown"


class Reason(msgspec.Struct, frozen=True, gc=False):
    """Why a record is dead-lettered and where it came from; None is what the family does not say.

    `code` is ours, and the family's name in the dead letters of others. `pipeline` is who gave up: our pipeline, a
    connector, or a group. `omitted` names the parts of the record that are not there, so that it can't be replayed.
    """

    family: Family
    code: str
    failure_class: str | None = None
    stage: str | None = None
    exception: str | None = None
    message: str | None = None
    attempts: int = 1
    pipeline: str | None = None
    model: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    omitted: tuple[str, ...] = ()


def read(found: Named) -> Reason:
    """What the headers say. Never raises: what can't be read is absent."""
    for has, parse in _FAMILIES:
        if has in found:
            return parse(found)
    return Reason(Family.UNKNOWN, Family.UNKNOWN)


def without_reason(headers: Headers, family: Family) -> Headers:
    """The headers that the record came with: all but what the family adds."""
    if family is Family.STREAMER:
        return original_headers(headers)
    added = _ADDED.get(family, ())
    return [header for header in headers if not header[0].startswith(added)]


def _streamer(found: Named) -> Reason:
    code = _text(found, names.ERROR_CODE) or Family.UNKNOWN
    return Reason(
        Family.STREAMER,
        code,
        failure_class=_text(found, names.ERROR_CLASS),
        stage=_text(found, names.CONNECT_STAGE),
        exception=_text(found, names.CONNECT_EXCEPTION),
        message=_text(found, names.CONNECT_MESSAGE),
        attempts=count(found.get(names.ERROR_ATTEMPTS)) or 1,
        pipeline=_text(found, names.ERROR_PIPELINE),
        model=_text(found, names.ERROR_MODEL),
        omitted=tuple(part for name, part in _OMISSIONS.items() if name in found),
        **_origin(found, names.CONNECT_PREFIX),
    )


def _share(found: Named) -> Reason:
    return Reason(
        Family.SHARE,
        Family.SHARE,
        message=_text(found, _SHARE + "message"),
        attempts=count(found.get(_SHARE + "delivery.count")) or 1,
        pipeline=_text(found, _SHARE + "group"),
        **_origin(found, _SHARE),
    )


def _streams(found: Named) -> Reason:
    # The exception's `toString()`: its class, then a colon and its message.
    exception = _text(found, _STREAMS + "exception")
    return Reason(
        Family.STREAMS,
        Family.STREAMS,
        exception=exception.partition(":")[0] if exception else None,
        message=_text(found, _STREAMS + "message"),
        **_origin(found, _STREAMS),
    )


def _spring(found: Named) -> Reason:
    # Spring wraps what the listener raised in its own exception; the cause says more.
    return Reason(
        Family.SPRING,
        Family.SPRING,
        exception=_text(found, _SPRING + "exception-cause-fqcn") or _text(found, _SPRING + "exception-fqcn"),
        message=_text(found, _SPRING + "exception-message"),
        attempts=_big_endian(found, _SPRING_RETRY + "attempts") or 1,
        pipeline=_text(found, _SPRING + "original-consumer-group"),
        topic=_text(found, _SPRING + "original-topic"),
        partition=_big_endian(found, _SPRING + "original-partition"),
        offset=_big_endian(found, _SPRING + "original-offset"),
    )


def _connect(found: Named) -> Reason:
    return Reason(
        Family.CONNECT,
        Family.CONNECT,
        stage=_text(found, names.CONNECT_STAGE),
        exception=_text(found, names.CONNECT_EXCEPTION),
        message=_text(found, names.CONNECT_MESSAGE),
        pipeline=_text(found, names.CONNECT_PREFIX + "connector.name"),
        **_origin(found, names.CONNECT_PREFIX),
    )


def _arroyo(found: Named) -> Reason:
    return Reason(
        Family.ARROYO,
        Family.ARROYO,
        partition=count(found.get(_ARROYO_PARTITION)),
        offset=count(found.get(_ARROYO_OFFSET)),
    )


def _redpanda(found: Named) -> Reason:
    return Reason(Family.REDPANDA, Family.REDPANDA, message=_text(found, _REDPANDA))


# Each with a header that all its dead letters have.
_FAMILIES: tuple[tuple[str, Callable[[Named], Reason]], ...] = (
    (names.ERROR_CODE, _streamer),
    (_SHARE + "topic", _share),
    (_STREAMS + "exception", _streams),
    (_SPRING + "original-topic", _spring),
    (names.CONNECT_TOPIC, _connect),
    (_ARROYO_OFFSET, _arroyo),
    (_REDPANDA, _redpanda),
)
_ADDED: dict[Family, tuple[str, ...]] = {
    Family.SHARE: (_SHARE,),
    Family.STREAMS: (_STREAMS,),
    Family.SPRING: (_SPRING, _SPRING_RETRY),
    Family.CONNECT: (names.CONNECT_PREFIX,),
    Family.ARROYO: (_ARROYO_PARTITION, _ARROYO_OFFSET),
    Family.REDPANDA: (_REDPANDA,),
}


class _Origin(TypedDict):
    topic: str | None
    partition: int | None
    offset: int | None


def _origin(found: Named, prefix: str) -> _Origin:
    return {
        "topic": _text(found, prefix + "topic"),
        "partition": count(found.get(prefix + "partition")),
        "offset": count(found.get(prefix + "offset")),
    }


def _text(found: Named, name: str) -> str | None:
    value = found.get(name)
    return None if value is None else value.decode("utf-8", "replace")


def count(value: bytes | None) -> int | None:
    """A number ≥ 0 written as text in at most 19 digits; None for anything else."""
    return int(value) if value is not None and len(value) <= 19 and value.isdigit() else None


def _big_endian(found: Named, name: str) -> int | None:
    """A Java number of at most 8 bytes; None when it is negative, as an unset one is."""
    value = found.get(name)
    if not value or len(value) > 8:
        return None
    number = int.from_bytes(value, "big", signed=True)
    return number if number >= 0 else None
