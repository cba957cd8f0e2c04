"""What the steps of a settle ask for, and what they are told."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, Final, TypeVar

from streamer.core.record import TopicPartition

CALL_PATIENCE_S: Final = 9.0  # below transaction.timeout.ms: past it the broker has aborted by itself

T = TypeVar("T")


class Act(StrEnum):
    """What an error asks for."""

    RETRY = "retry"  # call again with the same arguments; a consumer goes on polling
    STALE = "stale"  # the group has moved on: abort the transaction, keep the outcomes, produce again
    ABORT = "abort"  # the transaction can only be aborted, for another reason, such as an outage
    REBUILD = "rebuild"  # destroy the client, make a new one, then ask for the committed offsets
    FENCED = "fenced"  # a newer owner of this id: for a producer also a transaction that the broker timed out
    DENIED = "denied"  # a right or a login is missing: people must act
    TOO_LARGE = "too_large"  # over the topic's max.message.bytes
    BAD_RECORD = "bad_record"  # the topic does not take a record that was written, and will not the next time
    BAD_TOPIC = "bad_topic"  # the topic, or a partition of it, takes nothing of what is written
    OUT_OF_RANGE = "out_of_range"  # retention deleted the records before they were read
    IGNORE = "ignore"  # the expected end of what we purged ourselves


REFUSALS: Final = frozenset({Act.TOO_LARGE, Act.BAD_RECORD, Act.BAD_TOPIC})


class Failed(Exception):  # noqa: N818 - thrown into the steps as an answer, as often as not
    """A call failed, or a delivery report says so. `name` is Kafka's name of the error; `error` is the client's own."""

    def __init__(self, act: Act, name: str, error: Any = None) -> None:
        super().__init__(name)
        self.act = act
        self.name = name
        self.error = error


class CutOffError(Exception):
    """The brokers were all lost in the middle of a plan."""


class ClosingError(Exception):
    """The process ends: nobody plans again."""


class FencedError(Exception):
    """A second owner of the slot keeps coming back."""


class Client(Enum):
    """Whether the producer can be used as it is."""

    FINE = auto()
    CUT_OFF = auto()  # the brokers were away
    OTHER_SIZES = auto()  # the topics take records of other sizes than it was made for


class Call(Enum):
    """What the steps ask for. Behind each: the answer, where there is one. Each but the first may raise `Failed`."""

    NOW = auto()  # seconds of a monotonic clock
    CLIENT = auto()  # Client
    NEW_PRODUCER = auto()  # drops the producer and makes another; raises ClosingError
    INIT = auto()  # ends what an earlier producer of this id left open; exactly once only
    PLACES = auto()  # tuple[Refusal, ...]: where outcomes of the plan have no place
    OWNERSHIP = auto()  # Ownership: the newest
    BEGIN = auto()
    WRITE = auto()  # hands the plan's records over; raises TakenBackError
    DELIVER = auto()  # waits until all are acknowledged or given up; raises ClosingError
    COMMIT = auto()
    ABORT = auto()
    REPORTS = auto()  # list[Failed]: delivery reports since the last WRITE
    WRITTEN = auto()  # Written: since the last WRITE
    COMMITTED = auto()  # dict[TopicPartition, int]: what the group has of the plan's partitions; raises ClosingError
    WITHHELD = auto()  # StreamerError | None: a transaction that does not end and withholds these offsets


@dataclass(frozen=True, slots=True)
class SendOffsets:
    """Add the plan's offsets to the transaction, under this metadata. Raises CutOffError."""

    metadata: Any


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """Commit these offsets outside a transaction, while the plan's partitions are ours; answered with those that
    failed. Raises ClosingError."""

    offsets: dict[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class LookAtRefusals:
    """Look at the topics: what they refuse of the plan for good. None where they have changed, so that the plan, made
    again, is another one. `why` is the transaction's own error."""

    why: Failed | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Rest a while, since an earlier call failed."""

    seconds: float
    why: Failed


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes of the plan that were handed over, and about how many of them the brokers have taken."""

    size_bytes: int = 0
    delivered_bytes: int = 0


Asked = Call | SendOffsets | CommitOffsets | LookAtRefusals | Pause
Steps = Generator[Asked, Any, T]


def again(call: Asked, patience_s: float = CALL_PATIENCE_S) -> Steps[Any]:
    """Repeat a call that may be repeated with the same arguments, while the transaction lives."""
    deadline = (yield Call.NOW) + patience_s
    while True:
        try:
            return (yield call)
        except Failed as failed:
            if failed.act is not Act.RETRY or (yield Call.NOW) > deadline:
                raise
