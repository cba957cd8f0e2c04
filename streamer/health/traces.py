"""Spans of what the app evaluated: of each window that has ended, and of each rule that changed its state."""

from __future__ import annotations

from collections.abc import Iterable

from streamer.core.health.words import StateWord, WindowWord
from streamer.telemetry.tool_tracer import ToolTracer


def tell(tracer: ToolTracer, began_ns: int, windows: Iterable[WindowWord], states: Iterable[StateWord]) -> None:
    """What was said just now, and was begun to be evaluated then: one trace, with a span for each."""
    changed = [word for word in states if word.since_ms == word.time_ms]  # others are said again each minute
    told = [*map(_window, windows), *map(_state, changed)]
    if not told:
        return
    with tracer.begin("evaluate", {"streamer.windows": len(told) - len(changed)}, start_ns=began_ns) as whole:
        for name, attributes in told:
            tracer.begin(name, attributes, parent=whole.context, start_ns=began_ns).end()


def _window(word: WindowWord) -> tuple[str, dict[str, str | int]]:
    window = word.window
    return "evaluate window", {
        "streamer.pipeline": word.pipeline,
        "streamer.model": window.model,
        "streamer.window.start_ms": word.start_ms,
        "streamer.window.length_ms": word.length_ms,
        "streamer.results": window.results,
        "streamer.dead_letters": sum(window.dead_letters.values()),
    }


def _state(word: StateWord) -> tuple[str, dict[str, str | int]]:
    return f"rule {word.state}", {
        "streamer.pipeline": word.pipeline,
        "streamer.rule": word.rule,
        "streamer.rule.state": word.state,
        "streamer.rule.severity": word.severity,
        "streamer.rule.records": word.records,
    }
