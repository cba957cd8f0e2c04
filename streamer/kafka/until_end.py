"""A run to the end that does not come to it: when what is left to read stands, and has for a while."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing

GIVE_UP_S: Final = 10.0
GIVE_UP_UNSURE_S: Final = 60.0  # it may be slow and no more
LOOK_EVERY_S: Final = 1.0
TOLD: Final = 5  # partitions that are named in one message


class UntilEnd:
    """Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._look_at = 0.0
        self._since = float("inf")

    def in_vain(
        self, left: Collection[TopicPartition], standing: Callable[[], list[Standing]], idle: bool, now: float
    ) -> str:
        """Words to end with, or "": whether all that is `left` has been `standing` for long, or the group or a topic
        has, while nothing is in flight (`idle`)."""
        if now < self._look_at:
            return ""
        self._look_at = now + LOOK_EVERY_S
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
