"""Feedback: what somebody says of a result, and which record it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from streamer.core.headers import CONNECT_MESSAGE, CONNECT_OFFSET, CONNECT_PARTITION, CONNECT_TOPIC, ERROR_CODE
from streamer.core.record import Headers

NAMES: Final = ("id", "ce_id", "origin")
VERDICTS: Final = ("label", "labels", "entities", "text", "score")
_Text = Annotated[str, Meta(min_length=1)]
_Label = Annotated[str, Meta(min_length=1, max_length=256)]
_INT32_MAX: Final = 2**31 - 1
_INT64_MAX: Final = 2**63 - 1
_MOST_DIGITS: Final = len(str(_INT64_MAX))


class Span(msgspec.Struct, frozen=True):
    """An entity, in characters of its text."""

    start: Annotated[int, Meta(ge=0)]
    end: Annotated[int, Meta(ge=1)]
    label: _Label


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of the feedback topic. One of `id`, `ce_id` and `origin` (topic, partition, offset of the event) says
    which result it is about, one of `label`, `labels`, `entities`, `text` and `score` what would have been right.
    `probability` is the chance with which that result was chosen to be labelled: it stands for 1 / `probability`."""

    id: _Text | None = None
    ce_id: _Text | None = None
    origin: tuple[_Text, Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]] | None = None
    pipeline: _Text | None = None
    label: _Label | None = None
    labels: list[_Label] | None = None
    entities: list[Span] | None = None
    text: str | None = None
    score: float | None = None
    probability: Annotated[float, Meta(ge=1e-6, le=1)] | None = None
    time: str | None = None


class Refused(NamedTuple):
    """Why a message is no feedback; neither quotes it."""

    code: str
    message: str


class Place(NamedTuple):
    """An event, and the pipeline whose result it is about."""

    pipeline: str
    topic: str
    partition: int
    offset: int


class Said(NamedTuple):
    """Feedback with the time that it was given, in ms, and where it lies in the feedback topic."""

    feedback: Feedback
    time_ms: int
    at: tuple[int, int] = (0, -1)


_decode = msgspec.json.Decoder(Feedback).decode


def read(value: bytes | None, written_ms: int) -> Said | Refused:
    """The feedback in a record; where it names no time, it is of when the record was written."""
    try:
        feedback = _decode(value or b"")
    except msgspec.ValidationError as error:
        return Refused("feedback.type", f"{_field(error)}; see schemas/feedback.json")
    except UnicodeDecodeError:
        return Refused("feedback.type", "a text is not UTF-8; see schemas/feedback.json")
    except (msgspec.DecodeError, RecursionError):
        return Refused("feedback.json", "not a JSON object; write one, see schemas/feedback.json")
    if sum(getattr(feedback, name) is not None for name in NAMES) != 1:
        return Refused("feedback.place", f"name the result by one of {', '.join(NAMES)}")
    if sum(getattr(feedback, name) is not None for name in VERDICTS) != 1:
        return Refused("feedback.verdict", f"say what is right by one of {', '.join(VERDICTS)}")
    if feedback.time is None:
        return Said(feedback, written_ms)
    try:
        time = datetime.fromisoformat(feedback.time)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        return Refused("feedback.time", "time is not an RFC 3339 time with its offset, such as 2026-11-24T08:00:00Z")
    return Said(feedback, int(time.timestamp() * 1000))


def place_of(feedback: Feedback, inputs: Mapping[str, Sequence[str]]) -> Place | None:
    """The event that feedback is about, given each pipeline's input topics. None where it names none of them, or one
    that several pipelines read without saying whose result it means, and for numbers that no event of Kafka's has.

    An `id` is a place only where it is one that streamer gave, `topic/partition/offset`; `reader_of` says whose results
    have one that the event brought along.
    """
    pipeline, named = feedback.pipeline, feedback.id
    if feedback.ce_id is not None:
        pipeline, _, named = feedback.ce_id.partition("/")
    event = feedback.origin if named is None else _event(named)
    if event is None or event[1] > _INT32_MAX or event[2] > _INT64_MAX:  # clients raise OverflowError for larger ones
        return None
    readers = [name for name, topics in inputs.items() if event[0] in topics and pipeline in (None, name)]
    if len(readers) != 1:
        return None
    topics = inputs[readers[0]]
    return Place(readers[0], topics[topics.index(event[0])], *event[1:])  # names that are in memory once


def reader_of(feedback: Feedback, inputs: Mapping[str, Sequence[str]]) -> str | None:
    """The pipeline whose result feedback names by an id that the event brought along: the one that it says, or the only
    one. None where that can't be told, or where it names its result otherwise."""
    named = [name for name in inputs if feedback.pipeline in (None, name)]
    return named[0] if feedback.id is not None and len(named) == 1 else None


def refusal_headers(refused: Refused, topic: str, partition: int, offset: int) -> Headers:
    """The headers of a message's dead letter."""
    return [
        (ERROR_CODE, refused.code.encode()),
        (CONNECT_MESSAGE, refused.message.encode()),
        (CONNECT_TOPIC, topic.encode()),
        (CONNECT_PARTITION, b"%d" % partition),
        (CONNECT_OFFSET, b"%d" % offset),
    ]


def _field(error: msgspec.ValidationError) -> str:
    """What is wrong with which field; the names are those of the schema, and values are not quoted."""
    _, _, path = str(error).partition(" - at `$.")
    if not path:
        return "a field is missing, or this is no object"
    return f"{path.rstrip('`')} is of the wrong type, or out of its bounds"


def _event(text: str) -> tuple[str, int, int] | None:
    """`topic/partition/offset`."""
    topic, *numbers = text.rsplit("/", 2)
    if len(numbers) != 2 or not topic or not all(map(_is_number, numbers)):
        return None
    return topic, int(numbers[0]), int(numbers[1])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
