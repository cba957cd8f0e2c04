"""What picks dead letters on the command line."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.selection import Selection
from streamer.errors import StreamerError, UsageError

if TYPE_CHECKING:
    from streamer.kafka.replay import TopicLog
    from streamer.ops.dlq.closed import Closed
    from streamer.telemetry.tool_tracer import ToolTracer

_log = logging.getLogger(__name__)

_Command = Callable[..., Any]
_SETS = ("pipelines", "codes", "classes", "causes", "origin_topics", "origin_partitions", "ids", "traces")
_FILTER = (*_SETS, "origin_offsets", "since", "until", "keys", "headers", "attempts")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGO = re.compile(r"([0-9]+)([smhd])")
_RANGE = re.compile(r"([0-9]{1,19})(?:(?:-|\.\.)([0-9]{1,19})?)?")


@dataclass(frozen=True)
class Search:
    """Which dead letters a command is about: of these topics those that are selected, in the operator's `words`."""

    config: Config
    topics: list[str]
    selection: Selection
    words: dict[str, Any]

    @functools.cached_property
    def log(self) -> TopicLog:
        """The topics. Raises DependencyError when the brokers do not answer."""
        from streamer.kafka.readings import readings_of
        from streamer.kafka.replay import TopicLog

        return TopicLog(self.config.kafka, readings_of(self.config))

    @functools.cached_property
    def closed(self) -> Closed:
        """What was replayed or discarded, until the command ends."""
        from streamer.ops.dlq.find import read_closed

        return click.get_current_context().with_resource(read_closed(self.log))

    def letters(self, *, with_closed: bool = False) -> Iterator[DeadLetter]:
        """Those that are meant; without `with_closed` the open ones."""
        from streamer.ops.dlq.find import find

        return find(self.log, self.topics, self.selection, None if with_closed else self.closed)


def searching(command: _Command) -> _Command:
    """Adds TOPICS, the filter's options and those of `configured`; hands over what they say as a `Search`, first."""

    @functools.wraps(command)
    def wrapper(config: Config, topics: tuple[str, ...], selection: Selection, asked: Any, **given: Any) -> Any:
        return command(Search(config, dead_letter_topics(config, topics), selection, asked), **given)

    # Options are listed in the order in which they are added, the last one first: those of `configured` come last.
    own, wrapper.__dict__["__click_params__"] = wrapper.__dict__.get("__click_params__", []), []
    whole = configured(wrapper)
    whole.__dict__["__click_params__"] += own
    return click.argument("topics", nargs=-1)(selecting(whole))


def selecting(command: _Command) -> _Command:
    """Adds the filter's options; hands over what they say as `selection`, and their words as `asked`."""
    options = (
        click.option("--pipeline", "pipelines", multiple=True, metavar="NAME", help="The pipeline that gave up. This"
                     " option and those below may be repeated: one of the values must match."),
        click.option("--code", "codes", multiple=True, metavar="CODE", help="The code, e.g. infer.exception."),
        click.option("--class", "classes", multiple=True, metavar="CLASS", help="The class of the error, e.g. data."),
        click.option("--cause", "causes", multiple=True, metavar="FINGERPRINT", help="The cause, from `dlq causes`."),
        click.option("--origin-topic", "origin_topics", multiple=True, metavar="TOPIC", help="The topic it came from."),
        click.option("--origin-partition", "origin_partitions", multiple=True, type=click.IntRange(0), metavar="N",
                     help="The partition it came from."),
        click.option("--origin-offsets", metavar="A-B", help="The offsets there, both ends included."),
        click.option("--since", metavar="TIME", help="Dead-lettered since this time: RFC 3339, 2h or 7d."),
        click.option("--until", metavar="TIME", help="Dead-lettered until this time, written like --since."),
        click.option("--key", "keys", multiple=True, metavar="KEY", help="The record's key, as text."),
        click.option("--id", "ids", multiple=True, metavar="ID", help="The id of the event, or of its result."),
        click.option("--trace", "traces", multiple=True, metavar="TRACE_ID", help="The trace id, 32 hex digits."),
        click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of the record."),
        click.option("--attempts", metavar="N..M", help="How often the record has failed: N, N.. or N..M."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _FILTER}
        now = datetime.now(UTC)
        selection = Selection(
            **{name: given[name] for name in _SETS},
            origin_offsets=_range("--origin-offsets", given["origin_offsets"]),
            since_ms=time_ms("--since", given["since"], now),
            until_ms=time_ms("--until", given["until"], now),
            keys=tuple(key.encode() for key in given["keys"]),
            headers=tuple(_header(text) for text in given["headers"]),
            attempts=_range("--attempts", given["attempts"]),
        )
        asked = {name: value for name, value in given.items() if value not in ((), None)}
        return command(*args, selection=selection, asked=asked, **kwargs)

    return wrapper


def dead_letter_topics(config: Config, topics: tuple[str, ...]) -> list[str]:
    """The topics named, or all dead-letter topics of the configuration. Raises UsageError when there is none."""
    found = list(dict.fromkeys(topics or (pipeline.dead_letter for pipeline in config.pipelines.values())))
    if not found:
        raise UsageError(
            "no topic is named and the configuration has no pipeline: write `streamer dlq … TOPIC`, or --config FILE"
        )
    return found


def tracing(config: Config, log: TopicLog) -> AbstractContextManager[ToolTracer]:
    """What sends the spans of a command that writes; to their topic only if there is one, as brokers may create what is
    written to. Nobody's replay ends because of it: who has no right on that topic sends none there."""
    from streamer.app.tool_spans import tool_spans

    topic = config.telemetry.spans
    try:
        to_topic = bool(topic) and log.describe([topic])[topic] is not None
    except StreamerError as error:
        _log.warning("no spans go to their topic", extra={"data": {"topic": topic, "error": str(error)}})
        to_topic = False
    return tool_spans(config, "dlq", to_topic=to_topic)


def place(text: str) -> Place:
    """TOPIC/PARTITION/OFFSET. Raises UsageError."""
    topic, *numbers = text.rsplit("/", 2)
    if not topic or len(numbers) != 2 or not all(number.isdecimal() and number.isascii() for number in numbers):
        raise UsageError(f"{text}: write TOPIC/PARTITION/OFFSET, e.g. reviews.sentiment.dlq/0/17")
    return Place(topic, int(numbers[0]), int(numbers[1]))


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--header {text}: write --header NAME=VALUE")
    return name, value.encode()


def _range(option: str, text: str | None) -> tuple[int, int | None] | None:
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UsageError(f"{option} {text}: write N, N-M, or N- for no end")
    low, high = int(match[1]), match[2]
    if high is None:
        return low, (low if match[0].isdecimal() else None)
    if int(high) < low:
        raise UsageError(f"{option} {text}: the second number is the smaller one")
    return low, int(high)


def time_ms(option: str, text: str | None, now: datetime) -> int | None:
    """Milliseconds since the epoch of a time, or of so long ago. Raises UsageError."""
    if text is None:
        return None
    if match := _AGO.fullmatch(text):
        return int((now - timedelta(seconds=min(int(match[1]), 10**7) * _UNITS[match[2]])).timestamp() * 1000)
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{option} {text}: write a time with its offset, e.g. 2026-11-24T08:00:00Z, or 30m, 2h, 7d ago"
        ) from None
    return int(time.timestamp() * 1000)
