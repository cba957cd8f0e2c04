"""Records of other programs on our topics are passed over, whatever is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError

from streamer.config.fields import KafkaConfig
from streamer.config.load import Config, PipelineConfig
from streamer.core.health.feedback.feedback import Place
from streamer.errors import DependencyError
from streamer.kafka import lookup
from streamer.kafka.lookup import Source, _at
from streamer.ops.changes import changes_of
from streamer.ops.lag import Tokens

DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("value", [None, b"", b"text", b'{"pipeline":"\xff"}', DEEP])
@pytest.mark.parametrize(
    "read",
    [
        lambda value: _at(1, value or b"", Source("in", 0)),
        lambda value: Tokens().add(value),
        lambda value: changes_of([value], 0).changes or None,
    ],
)
def test_what_is_none_of_ours_is_passed_over(read: Callable[[bytes | None], object], value: bytes | None) -> None:
    """Bytes of no encoding and arrays without end, too."""
    assert read(value) is None


def test_look_ups_go_on_after_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for their task: one that ended would leave all feedback waiting."""
    pytest.importorskip("faust", reason="needs the extra health")
    from streamer.health.feedback import labels

    made = Mock()
    made.return_value.find.side_effect = [ValueError("secret"), asyncio.CancelledError()]
    monkeypatch.setattr(labels, "Lanes", made)
    monkeypatch.setattr(labels, "FAILED_S", 0.0)
    metrics = Mock()
    found = labels.Labels(Config(), metrics)
    waiting = {"wanted.return_value": [Place("p", "in", 0, 5)], "put_off.return_value": []}
    monkeypatch.setattr(found, "joiner", Mock(**waiting))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(found.look_up())
    assert made.call_count == 2
    metrics.failure.assert_called_once_with("look_up")


@pytest.mark.parametrize(
    ("code", "words"), [(KafkaError._BAD_MSG, "can't be read at offset 7"), (KafkaError._UNKNOWN_TOPIC, "sent nothing")]
)
def test_a_look_up_ends_where_the_client_has_errors_alone(
    monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    """It says the same of a damaged batch, or of a topic that is gone, for ever."""
    said = Mock(**{"error.return_value": KafkaError(code), "offset.return_value": 7, "topic.return_value": "out"})
    consumer = Mock(**{"poll.return_value": said, "consume.return_value": []})
    monkeypatch.setattr(lookup, "make_consumer", lambda _: consumer)
    monkeypatch.setattr(lookup, "PATIENCE_S", 0.1)
    with pytest.raises(DependencyError, match=words):
        lookup.ResultLookUp(KafkaConfig()).read("out", 0, Source("in", 0), 0, 10)


def test_a_partition_that_can_not_be_read_holds_up_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with it is said once the others' results are found."""
    pytest.importorskip("faust", reason="needs the extra health")
    from streamer.health.feedback import lanes

    def find(output: str, partition: int, source: Source, events: list[int]) -> list[str]:
        if partition == 0:
            raise DependencyError("damaged")
        return ["it"]

    monkeypatch.setattr(lanes, "ResultLookUp", lambda *_, **__: Mock(find=find))
    places = [Place("p", "in", partition, 5) for partition in (0, 1)]
    found: list[Any] = []

    async def look_up() -> None:
        config = Config(pipelines={"p": PipelineConfig(task="t", model="m", input=["in"], output="out")})
        await lanes.Lanes(config).find(places, lambda place, result: found.append((place, result)))

    with pytest.raises(DependencyError, match="damaged"):
        asyncio.run(look_up())
    assert found == [(places[1], "it")]
