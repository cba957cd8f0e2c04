"""The app's pages: whether it is well, windows and states as JSON, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streamer.core.health.keeper import Keeper
from streamer.core.health.windows.fold import LENGTHS
from streamer.core.health.words import StateWord
from streamer.health.app import Page

MAX_WINDOWS: Final = 2000
_JSON: Final = "application/json"


def json_page(body: Any, status: int = 200) -> Page:
    """A body as JSON."""
    return Page(_JSON, msgspec.json.encode(body) + b"\n", status)


def windows_page(keeper: Keeper, query: Mapping[str, str]) -> Page:
    """/windows?pipeline=NAME&length_ms=60000&since_ms=0: the windows of one length, oldest first, of all revisions."""
    try:
        length_ms, since_ms = int(query.get("length_ms", LENGTHS[0])), int(query.get("since_ms", 0))
    except ValueError:
        return json_page({"error": "length_ms and since_ms are whole numbers of milliseconds"}, 400)
    if length_ms not in LENGTHS:
        return json_page({"error": f"length_ms is one of {', '.join(map(str, LENGTHS))}"}, 400)
    wanted = query.get("pipeline")
    names = [name for name in keeper.pipelines if wanted in (None, name)]
    found = [window for name in names for window in keeper.fold.windows(name, length_ms, since_ms)]
    found.sort(key=lambda window: (window.start_ms, window.pipeline, window.revision))
    return json_page({"windows": found[-MAX_WINDOWS:], "left_out": max(len(found) - MAX_WINDOWS, 0)})


def states_page(standing: Mapping[str, StateWord], query: Mapping[str, str]) -> Page:
    """/states?pipeline=NAME: how each rule stands."""
    wanted = query.get("pipeline")
    return json_page({"states": [word for _, word in sorted(standing.items()) if wanted in (None, word.pipeline)]})
