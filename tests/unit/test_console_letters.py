"""Dead letters on the page: nothing that may quote an event is told unless texts are shown."""

from __future__ import annotations

import hashlib
import json

import pytest

from streamer.cli.dlq.views import whole
from streamer.console.letters import cause_document, letter_document, value_document, whole_document
from streamer.core.deadletters.causes import Causes
from streamer.core.deadletters.families import read
from streamer.core.deadletters.letter import DeadLetter
from streamer.core.record import Headers
from streamer.errors import Code
from tests.records import FakeRecord
from tests.unit.deadletters_kit import CONNECT, SHARE, SPRING, STREAMS

SECRET = b"the patient is called Ada"
OURS: Headers = [
    ("__connect.errors.topic", b"in"),
    ("__connect.errors.partition", b"0"),
    ("__connect.errors.offset", b"1"),
    ("__connect.errors.exception.message", b"the model raised"),
    ("streamer.error.code", Code.INFER_EXCEPTION.value.encode()),
]


def letter(headers: Headers, value: bytes | None = SECRET) -> DeadLetter:
    return DeadLetter(FakeRecord(value, b"k", headers, "dlq"), headers, read(dict(headers)))


def quoting(headers: Headers) -> Headers:
    """As that tool writes them, with a message, exception and stack trace that quote the event."""
    ends = ("message", "stacktrace", "exception")
    return [(name, SECRET if name.endswith(ends) else value) for name, value in headers]


@pytest.mark.parametrize("headers", [OURS, *map(quoting, (CONNECT, STREAMS, SHARE, SPRING))])
def test_no_text_leaves_the_console(headers: Headers) -> None:
    """Neither the value nor another tool's message or stack trace; our own messages never quote."""
    causes = Causes()
    causes.add(letter(headers))
    for told in (
        whole_document(letter(headers), None, show_text=False),
        letter_document(letter(headers), None, show_text=False),
        cause_document(causes.by_count()[0], 0, 1, show_text=False),
    ):
        assert SECRET.decode() not in json.dumps(told)


def test_headers_are_text_whatever_they_hold() -> None:
    """Lines stay lines on the page; what could play a trick, or is no text, is spelt out. A terminal gets one line."""
    odd: Headers = [("lines", b"a\nb\tc"), ("tricks", "a\u202eb\x1b[2J".encode()), ("bytes", b"\xff\x00")]
    told = whole_document(letter([*OURS, *odd]), None, show_text=False)["headers"][-3:]
    assert [each["value"] for each in told] == ["a\nb\tc", "a\\u202eb\\x1b[2J", "0xff00"]
    shown = [line for line in whole(letter([*OURS, *odd]), None, "auto") if " = " in line][-3:]
    assert [line.split(" = ")[1] for line in shown] == ["a\\nb\\tc", "a\\u202eb\\x1b[2J", "0xff00"]


def test_our_own_message_is_told() -> None:
    """It is why the page is opened."""
    told = whole_document(letter(OURS), None, show_text=False)
    assert told["error"]["message"] == "the model raised"
    assert {"name": "__connect.errors.exception.message", "value": "the model raised"} in told["headers"]


def test_what_is_withheld_says_so() -> None:
    """A reader learns that there is a message, and how large it is."""
    told = whole_document(letter(quoting(CONNECT)), None, show_text=False)
    assert told["error"]["withheld"] is True
    sizes = {header["name"]: header.get("size_bytes") for header in told["headers"]}
    assert sizes["__connect.errors.exception.message"] == len(SECRET)


def test_a_value_is_told_by_size_and_digest_or_shown() -> None:
    """As text, or in hexadecimal where it is none; null stays null."""
    digest = hashlib.sha256(SECRET).hexdigest()
    assert value_document(SECRET, show_text=False) == {"size_bytes": len(SECRET), "sha256": digest}
    shown = value_document(SECRET, show_text=True)
    assert shown is not None
    assert shown["text"] == SECRET.decode()
    binary = value_document(b"\xff\x00", show_text=True)
    assert binary is not None
    assert binary["hex"] == "ff 00"
    assert value_document(None, show_text=True) is None
