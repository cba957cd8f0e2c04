"""A worker whose model another program serves, against a server that misbehaves in every way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamer.core.pipeline.protocol import ForwardDone, Work, WorkerHolds
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure
from tests.model_server import MODEL, ModelServer, spec
from tests.workers import Workers


def outputs(outcomes: list[Answer | DataFailure]) -> list[Any]:
    return [json.loads(one.output) if isinstance(one, Answer) else one.code for one in outcomes]


def test_what_an_event_asks_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Params by the API's names, conversations as such, the key from the environment; connections are kept, torch is
    not loaded, and tokens are those that the server counted."""
    monkeypatch.setenv("TINY_KEY", "s3cret")
    with (
        ModelServer(key="s3cret") as server,
        Workers(spec(server, options={"max_new_tokens": 9}, served={"key_env": "TINY_KEY"})) as workers,
    ):
        card = workers.cards[0]
        assert (card.name, card.backend, card.revision[:5], card.temperature) == (MODEL, "openai", "fp_1-", 0.0)
        params: list[dict[str, Any] | None] = [
            {"max_new_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["x"]},
            {"messages": [{"role": "system", "content": "be brief"}]},
            {"wrong": 1},
        ]
        server.bodies.clear()
        outcomes = workers.run(["abc", "def", "ghi"], params=params)
        answer = {"finish_reason": "stop", "prompt_tokens": 5, "completion_tokens": 2}
        assert outputs(outcomes) == [{"text": "cba", **answer}, {"text": "fed", **answer}, Code.VALIDATE_PARAMS]
        assert isinstance(outcomes[0], Answer) and outcomes[0].tokens == 7
        bodies = {"chat" if "messages" in one else "plain": one for one in server.bodies}
        asked = {"max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["x"]}
        assert bodies["plain"] == {"model": MODEL, "prompt": "abc", **asked}
        turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "def"}]
        assert bodies["chat"] == {"model": MODEL, "messages": turns, "temperature": 0, "max_tokens": 9}
        workers.run([f"text {number}" for number in range(200)])
        assert server.connections <= 66  # 64 at a time, for 203 requests
        assert "libtorch" not in Path(f"/proc/{workers.pool.pids[0]}/maps").read_text()


def test_a_restart_of_the_server_is_waited_for_and_said() -> None:
    """What was under way, and what comes then, is asked again; meanwhile the worker says whom it waits for and why."""
    with ModelServer(delay_s=0.02) as server, Workers(spec(server)) as workers:
        workers.pool.send(0, Work(list(range(200)), [f"text {number}" for number in range(200)]))
        workers.wait_for(ForwardDone)
        server.stop()
        workers.pool.send(0, Work(list(range(200, 300)), [f"text {number}" for number in range(200, 300)]))
        workers.wait_for(WorkerHolds, lambda one: one.why == f"{server.url}/v1: it refuses connections")
        server.start()
        while len({number for one in workers.seen if isinstance(one, ForwardDone) for number in one.numbers}) < 300:
            workers.wait_for(ForwardDone)
        done = [one for one in workers.seen if isinstance(one, ForwardDone)]
        assert sorted(number for one in done for number in one.numbers) == list(range(300))
        assert all(isinstance(outcome, Answer) for one in done for outcome in one.outcomes)
        if [one.why for one in workers.seen if isinstance(one, WorkerHolds)][-1]:
            workers.wait_for(WorkerHolds, lambda one: not one.why)
