"""What the brokers do not take of a plan, as the sink reports it; `refusals` decides what follows."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Refused(StrEnum):
    """What the brokers object to."""

    MISSING = "missing"  # the topic, or that partition of it, is not there
    TOPIC = "topic"  # whatever is written to it now
    RECORD = "record"  # one record or more of those that were written
    SIZE = "size"  # the same, for its size
    COMMIT = "commit"  # the group's offset of the input partition that `topic` and `partition` name


class Refusal(msgspec.Struct, frozen=True):
    """The brokers do not take what a plan writes to a partition of `topic` (-1: to any), and will not the next time.

    `letters` says that dead letters go there, None that something of every plan does. `code` is Kafka's name of the
    error; `what` and `fix` are sentences without a full stop.
    """

    topic: str
    partition: int
    kind: Refused
    code: str
    what: str
    fix: str
    letters: bool | None = False
