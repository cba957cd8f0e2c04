"""Why partitions of an input are stuck, as their reader sees it: what can't be read, and how people go on behind it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from streamer.core.read_progress import Suspect
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing

RETRY_S: Final = 60.0
GIVE_UP_S: Final = 10.0
GIVE_UP_UNSURE_S: Final = 60.0  # it may be slow and no more
_LOOK_S: Final = 1.0
TOLD: Final = 5  # partitions that are named in one message


class Ends(NamedTuple):
    """Offsets behind the last record that can be read now, where an open transaction begins, and behind the last."""

    stable: int
    high: int


def judge(
    key: TopicPartition, suspect: Suspect, ends: Ends, *, group: str, address: str, stand_s: float
) -> Standing | None:
    """Why a partition has stood for `stand_s`, by where it stands and where its log ends; None where it has nothing to
    give. `group` and `address` are for the commands that fix it."""
    topic, number = key
    position = suspect.position
    if position >= ends.high:
        return None
    if position >= ends.stable:
        tool = f"kafka-transactions.sh --bootstrap-server {address}"
        place = f"--topic {topic} --partition {number}"
        return Standing(
            key,
            ends.stable,
            Reason.OPEN_TRANSACTION,
            f"a producer has left a transaction open there, and nothing after it can be read (up to {ends.high})",
            f"the broker aborts it after the producer's transaction.timeout.ms; `{tool} describe-producers {place}` "
            f"names the producer, `{tool} abort {place} --start-offset {ends.stable}` ends it now",
        )
    if not suspect.asked:
        return None
    return Standing(
        key,
        position,
        Reason.UNKNOWN,
        f"there are records up to offset {ends.stable}, and the client has been given none for {stand_s:g} s",
        "check whether the network or a quota of the brokers is too slow, and the log of the partition's leader; if a "
        f"batch is damaged, {_skip_words(key, group, address)}",
    )


def missing_input(topic: str) -> Standing:
    """An input topic no longer exists."""
    return Standing(
        (topic, -1),
        -1,
        Reason.INPUT_MISSING,
        "this input topic does not exist",
        "create it again (`streamer topics create`), or remove it from `input` and restart",
    )


# --- batches that can't be read --------------------------------------------------------------------------------------


class Damage(Enum):
    """What the client says of a batch."""

    CHECKSUM = auto()
    PACKED = auto()
    FORMAT = auto()


@dataclass(slots=True)
class _Hold:
    offset: int  # of the batch, or ours within it
    damage: Damage
    retry_at: float
    held: bool = True


class Unreadable:
    """Partitions whose next batch can't be read: each is held alone, and tried again at intervals. On the source's
    thread, but for `standing`. `group` and `address` are for people.

    The client itself would ask for the batch again twenty times a second and say so each time. After a checksum that
    does not match it even reads on at a place that means nothing (librdkafka 2.16.0), so that what it gives after such
    an error is thrown away, and the next try begins where we stand.
    """

    def __init__(self, group: str, address: str) -> None:
        self._group = group
        self._address = address
        self._holds: dict[TopicPartition, _Hold] = {}

    @property
    def held(self) -> Set[TopicPartition]:
        """The partitions that are not asked now."""
        return {key for key, hold in self._holds.items() if hold.held}

    def hold(self, key: TopicPartition, offset: int, damage: Damage, now: float) -> None:
        """This partition's batch at `offset` can't be read."""
        self._holds[key] = _Hold(offset, damage, now + RETRY_S)

    def offset(self, key: TopicPartition) -> int | None:
        """Where this partition is held: what the client says of it is out of date. None where it is asked."""
        hold = self._holds.get(key)
        return hold.offset if hold is not None and hold.held else None

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
            Standing(key, hold.offset, Reason.UNREADABLE, *self._words(key, hold.damage))
            for key, hold in list(self._holds.items())
        ]

    def _words(self, key: TopicPartition, damage: Damage) -> tuple[str, str]:
        fix = _skip_words(key, self._group, self._address)
        match damage:
            case Damage.PACKED:
                return (
                    "the client can't unpack the batch there: it is damaged, or larger than receive.message.max.bytes",
                    "raise receive.message.max.bytes in kafka.properties and restart if the batch is sound; else "
                    + fix,
                )
            case Damage.FORMAT:
                return "the batch there has a format that the client does not know", fix
            case Damage.CHECKSUM:
                return "the batch there is damaged on the broker: its checksum does not match", fix


def _skip_words(key: TopicPartition, group: str, address: str) -> str:
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


# --- a run to the end that does not come to it -----------------------------------------------------------------------


class UntilEnd:
    """Whether what is left to read has been stuck for a while. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._look_at = 0.0
        self._since = float("inf")

    def give_up_reason(
        self, left: Collection[TopicPartition], standing: Callable[[], list[Standing]], idle: bool, now: float
    ) -> str:
        """Why to stop waiting for the end, or "": all that is `left` has been stuck for long, or the group or a topic
        has, while nothing is in flight (`idle`)."""
        if now < self._look_at:
            return ""
        self._look_at = now + _LOOK_S
        found = standing() if idle else []
        places = {one.partition for one in found}
        if not found or not all(key in places or (key[0], -1) in places for key in left):
            self._since = float("inf")
            return ""
        self._since = min(self._since, now)
        unsure = any(one.reason is Reason.UNKNOWN for one in found)
        if now - self._since <= (GIVE_UP_UNSURE_S if unsure else GIVE_UP_S):
            return ""
        more = f"; and {len(found) - TOLD} more" if len(found) > TOLD else ""
        return f"not all was read: {'; '.join(map(str, found[:TOLD]))}{more}"
