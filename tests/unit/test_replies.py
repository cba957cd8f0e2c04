"""What an HTTP status says, and what of an error's body is repeated."""

from __future__ import annotations

import json

import pytest

from streamer.core.replies import Verdict, is_too_long, retry_after_s, verdict, words_of


def test_each_status_is_somebodys() -> None:
    """A record's own, the server's, or the configuration's."""
    assert {verdict(status) for status in (400, 413, 422)} == {Verdict.RECORD}
    assert {verdict(status) for status in (408, 424, 500, 502, 503, 504, 529)} == {Verdict.SERVER}
    assert {verdict(status) for status in (204, 301, 308, 401, 402, 403, 404, 405)} == {Verdict.SETTING}
    assert (verdict(200), verdict(429)) == (Verdict.ANSWER, Verdict.LOAD)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"error": {"message": "my secret", "type": "BadRequestError", "param": "temperature"}},
            "BadRequestError, temperature",
        ),
        ({"error": "my secret", "error_type": "Validation"}, "Validation"),
        ({"error": {"type": "no: my secret", "code": "x" * 65, "param": "messages[0].content"}}, "messages[0].content"),
        ({"error": {"type": "secret", "code": 400}}, ""),
        ([1], ""),
    ],
)
def test_no_word_of_a_text_is_repeated(body: object, words: str) -> None:
    """Servers quote what they refuse: only types, codes and names of fields are, and none that stand in the text."""
    assert words_of(json.dumps(body).encode(), ["my secret"]) == words
    assert words_of(b"<html>my secret", []) == ""


def test_a_text_that_is_too_long_is_told_apart() -> None:
    """By the status, or by the code of OpenAI's API."""
    long = json.dumps({"error": {"code": "context_length_exceeded"}}).encode()
    assert is_too_long(413, b"") and is_too_long(400, long) and not is_too_long(400, b"{}")


def test_retry_after_is_seconds_or_a_date() -> None:
    """Anything else asks for nothing."""
    assert retry_after_s("1.5", 0) == 1.5
    assert retry_after_s("Thu, 01 Jan 1970 00:01:40 GMT", 90.0) == 10.0
    assert retry_after_s("Thu, 01 Jan 1970 00:01:40 GMT", 900.0) == 0.0
    assert (retry_after_s(None, 0), retry_after_s("soon", 0)) == (None, None)
