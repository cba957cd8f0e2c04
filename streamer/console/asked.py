"""What the page asks for: which dead letters, and what to do with them. The words are those of `streamer dlq`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from streamer.core.deadletters.letter import Place
from streamer.core.deadletters.replay import MAX_ATTEMPTS
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.state import JOB_NAME
from streamer.errors import UsageError

_Time = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_FIELDS = ("causes", "codes", "pipelines")


class _Which(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    causes: list[str] = []
    codes: list[str] = []
    pipelines: list[str] = []
    since_ms: _Time | None = None
    until_ms: _Time | None = None

    def selection(self) -> Selection:
        """The same for the dead-letter tools, as far as they know it."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return Selection(**fields, since_ms=self.since_ms, until_ms=self.until_ms)


class Filter(_Which, frozen=True):
    """Which dead letters; empty and None do not narrow it. Times are milliseconds, both included. `text` is a key, an
    event's id, a trace id, or the place of a dead letter or of where it came from."""

    text: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    closed: bool = False


class Wanted(_Which, frozen=True, rename={"addressee": "for"}):
    """An order as the page gives it. With `places` (TOPIC/PARTITION/OFFSET) these dead letters and no others are
    meant. An edit has one place, and its new `value`; a discard has a reason."""

    action: Literal["replay", "edit", "discard"] = "replay"
    places: list[str] = []
    value: str | None = None
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    to: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{0,249}$")] = ""
    to_dead_letters: bool = False
    addressee: str = ""
    rate: Annotated[float, msgspec.Meta(gt=0)] | None = None
    most: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_attempts: Annotated[int, msgspec.Meta(ge=1)] = MAX_ATTEMPTS
    job: Annotated[str, msgspec.Meta(pattern=f"^{JOB_NAME}$")] | None = None

    def check(self) -> None:
        """Raise UsageError for what does not go together."""
        if self.action == "edit" and (len(self.places) != 1 or self.value is None):
            raise UsageError("an edit changes one dead letter: name its place and its new value")
        if self.action != "edit" and self.value is not None:
            raise UsageError("only an edit has a value")
        if self.action == "discard" and not self.reason.strip():
            raise UsageError("say why these dead letters are discarded: the reason is kept with each")

    def words(self) -> dict[str, Any]:
        """The filter for the audit, as the command line would write it."""
        words: dict[str, Any] = {name: getattr(self, name) for name in (*_FIELDS, "places") if getattr(self, name)}
        for name, time_ms in (("since", self.since_ms), ("until", self.until_ms)):
            if time_ms is not None:
                words[name] = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
        return words


def place_of(text: str) -> Place | None:
    """TOPIC/PARTITION/OFFSET, None for anything else."""
    topic, *numbers = text.rsplit("/", 2)
    if not topic or len(numbers) != 2 or not all(each.isascii() and each.isdecimal() for each in numbers):
        return None
    partition, offset = map(int, numbers)
    return Place(topic, partition, offset) if partition < 2**31 and offset < 2**63 else None
