"""Past: how a revision stood before each of its last windows was judged, to go back to where a late report has
changed one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from streamer.core.health.judged import Judged
from streamer.core.health.window import Window

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Judged).decode


class _Before(NamedTuple):
    records: int
    state: bytes


class Past:
    """The past of one revision. A window is known by its start and by how many records it had."""

    def __init__(self) -> None:
        self._before: dict[int, _Before] = {}

    def keep(self, window: Window, judged: Judged) -> None:
        """It is judged now; `judged` is how its revision stands without it."""
        self._before[window.start_ms] = _Before(window.records, _encode(judged))

    def rewound(self, windows: Iterable[Window]) -> Judged | None:
        """How the revision stood before the first of these windows that was judged as something else, or not at all
        although later ones were. None where there is none, and of those before all that is known here."""
        oldest, newest = min(self._before, default=0), max(self._before, default=-1)
        changed = [
            window.start_ms
            for window in windows
            if oldest <= window.start_ms <= newest
            and ((known := self._before.get(window.start_ms)) is None or known.records != window.records)
        ]
        if not changed:
            return None
        back_ms = min(start_ms for start_ms in self._before if start_ms >= min(changed))
        state = self._before[back_ms].state
        self._before = {start_ms: one for start_ms, one in self._before.items() if start_ms < back_ms}
        return _decode(state)

    def forget(self, before_ms: int) -> None:
        """What is older is judged no more."""
        self._before = {start_ms: one for start_ms, one in self._before.items() if start_ms >= before_ms}
