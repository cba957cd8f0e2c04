from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from streamer.errors import ConfigurationError
from streamer.telemetry.logs import FIELDS, LogFormat, configure, last_words, lost_lines

log = logging.getLogger("streamer.test")


class Terminal(io.StringIO):
    """A stream that people look at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("streamer")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def lines(log_format: LogFormat = "json", level: str = "info", stream: io.StringIO | None = None) -> io.StringIO:
    stream = io.StringIO() if stream is None else stream
    configure(log_format, level, stream)
    return stream


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_a_json_line_has_time_level_logger_message_and_facts() -> None:
    """One object a line; the time is ISO 8601 in UTC."""
    stream = lines()
    log.warning("lost", extra={"data": {"topic": "reviews", "partitions": [("reviews", 3)], "error": None}})
    line = only(stream)
    assert datetime.fromisoformat(line.pop("time")).utcoffset() is not None
    assert line == {
        "level": "warning",
        "logger": "streamer.test",
        "message": "lost",
        "topic": "reviews",
        "partitions": [["reviews", 3]],
        "error": None,
    }


def test_a_field_that_nobody_allowed_is_withheld() -> None:
    """Its name is told so that somebody can allow it, its value is not."""
    for log_format in ("json", "console"):
        stream = lines(log_format)
        log.info("connected", extra={"data": {"sasl.password": "canary", "text": "canary", "slot": "h-0"}})
        assert "canary" not in stream.getvalue()
        assert "sasl.password" in stream.getvalue() and "h-0" in stream.getvalue()


def test_no_allowed_field_is_a_secret() -> None:
    """The list of fields has none that is likely to hold a secret or a text."""
    for word in ("password", "secret", "key", "text", "value", "header", "url", "credential"):
        assert not any(word in field for field in FIELDS)


@pytest.mark.parametrize(
    "message",
    [
        "can't reach redis://user:canary@host:6379/0",
        "can't reach redis://:ca/canary@x#canary@host:6379/0",
        "sasl.password=canary",
        'config {"sasl.password": "canary", "a": 1}',
        "ssl.key.password = 'canary'",
        "Authorization token: canary",
        "client.secret=canary",
    ],
)
def test_what_looks_like_a_secret_in_a_message_is_starred(message: str) -> None:
    """A second line of defence, for what other libraries say."""
    stream = lines()
    logging.getLogger("redis").error(message)
    assert "canary" not in stream.getvalue()
    assert "***" in stream.getvalue()


def test_token_counts_are_no_secret() -> None:
    """Words that only resemble a secret stay readable."""
    stream = lines()
    log.info("batch_tokens=512 max_tokens: 256")
    assert only(stream)["message"] == "batch_tokens=512 max_tokens: 256"


def test_an_exception_is_told_by_class_and_place() -> None:
    """Its message may quote an input and stays out, that of its cause too."""
    stream = lines()
    try:
        try:
            json.loads("canary")
        except ValueError as error:
            raise RuntimeError("canary") from error
    except RuntimeError:
        log.exception("stopped")
    assert "canary" not in stream.getvalue()
    told = only(stream)["exception"]
    assert told[0] == "builtins.RuntimeError"
    assert any("test_logs.py" in line for line in told)
    assert "json.decoder.JSONDecodeError" in told


def test_our_own_errors_keep_their_message() -> None:
    """They are written for users and never quote a record."""
    stream = lines()
    try:
        raise ConfigurationError("cache.url is not a Redis address")
    except ConfigurationError:
        log.exception("stopped")
    assert "cache.url is not a Redis address" in only(stream)["exception"][0]


@pytest.mark.case(25)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_message_can_not_forge_a_line(log_format: LogFormat) -> None:
    """Line breaks and control characters in messages and values become spaces."""
    stream = lines(log_format)
    log.info("a\nb\u2028c\x1b[31m", extra={"data": {"reason": "x\r\ny"}})
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_an_endless_value_is_cut() -> None:
    """A line stays readable."""
    stream = lines()
    log.info("m", extra={"data": {"reason": "x" * 100_000}})
    assert len(stream.getvalue()) < 2_000


def test_the_console_has_facts_behind_the_message() -> None:
    """Lines for people: clock, level, message, name=value."""
    stream = lines("console")
    log.warning("lost", extra={"data": {"topic": "reviews", "reason": "no answer"}})
    assert stream.getvalue()[9:] == 'warning lost topic=reviews reason="no answer"\n'


def test_auto_looks_at_the_stream() -> None:
    """JSON lines into a file, lines for people on a terminal."""
    assert_json, assert_people = lines("auto"), Terminal()
    log.info("m")
    assert only(assert_json)["message"] == "m"
    lines("auto", stream=assert_people)
    log.info("m")
    assert not assert_people.getvalue().startswith("{")


def test_the_level_is_ours_and_others_start_at_warning() -> None:
    """debug makes streamer talk, not its libraries."""
    stream = lines(level="debug")
    log.debug("ours")
    logging.getLogger("redis").info("theirs")
    logging.getLogger("redis").warning("theirs, grave")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["ours", "theirs, grave"]


def test_configuring_again_replaces() -> None:
    """The last call holds: no line comes twice."""
    first, second = lines(), lines()
    log.info("m")
    assert first.getvalue() == "" and len(second.getvalue().splitlines()) == 1


def test_lines_that_a_full_disk_takes_none_of_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a process writes to standard error counts, for the metric that raises an alert."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr("sys.stderr", full)
        monkeypatch.setattr(threading, "excepthook", threading.excepthook)
        monkeypatch.setattr("streamer.stderr.descriptor", None)
        configure("json", "info")
        log.info("m")
        print("a warning of a library", file=sys.stderr)
        last_words()
        assert lost_lines() == 2


def test_a_log_call_with_wrong_arguments_is_still_a_line() -> None:
    """A mistake in a library's log call does not raise."""
    stream = lines()
    logging.getLogger("redis").error("%d of %s", "one")
    assert only(stream)["message"] == "%d of %s"


def test_each_line_names_its_pipeline() -> None:
    """A JSON line always, one for people in the column that it is given; what a call says itself holds."""
    stream = io.StringIO()
    configure("json", "info", stream, pipelines=["a", "b"])
    log.info("m")
    log.info("n", extra={"data": {"pipeline": "a"}})
    assert [json.loads(line)["pipeline"] for line in stream.getvalue().splitlines()] == ["a,b", "a"]
    for column in ("a  ", ""):
        stream = io.StringIO()
        configure("console", "info", stream, pipelines=["a"], column=column)
        log.info("m")
        line = stream.getvalue()
        assert line.startswith("a   ") if column else line[2] == ":"
        assert line.endswith(" m\n")


def test_people_are_told_in_words_what_json_has_as_facts() -> None:
    """The words take the place of message and facts; control characters and secrets in them do not come through."""
    extra = {"data": {"records": 3}, "words": "took 3 records\npassword=canary"}
    stream = lines("console")
    log.info("ended", extra=extra)
    assert stream.getvalue()[9:] == "info    took 3 records password=***\n"
    stream = lines("json")
    log.info("ended", extra=extra)
    assert only(stream)["message"] == "ended" and only(stream)["records"] == 3 and "words" not in only(stream)


@pytest.mark.case(79)
def test_how_many_lines_were_left_out_is_a_fact() -> None:
    """A loop's lines are one, and the end of the process says how many more there were."""
    stream = lines()
    for number in range(50):
        log.warning("attempt %d failed", number, extra={"data": {"topic": "t"}})
    log.warning("attempt %d failed", 1, extra={"data": {"topic": "other"}})
    last_words()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["topic"], line.get("left_out", 0)) for line in told] == [("t", 0), ("other", 0), ("t", 48)]
