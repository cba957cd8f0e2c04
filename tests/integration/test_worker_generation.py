"""A worker process that generates: answers as they end, what is under way announced, its death told."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from streamer.core.pipeline.protocol import ForwardDone, ForwardStarted, Work, WorkerLost
from streamer.core.record import Answer
from streamer.inference.spec import WorkerSpec
from tests.language_models import tiny_decoder
from tests.workers import Workers

LONG, SHORT, DRAWN = 0, 1, 2
LONG_TOKENS = 4000


@pytest.mark.slow
def test_a_worker_answers_short_texts_while_a_long_one_keeps_its_lease(tmp_path: Path) -> None:
    """What runs by continuous batching and what runs plainly are answered as they end. The long one is announced
    again and again, so that its lease is renewed, and is what the driver must suspect when the worker dies."""
    path = tiny_decoder(tmp_path, "llama", max_tokens=8192)
    with Workers(WorkerSpec("test", "text-generation", str(path), dtype="float32")) as workers:
        assert workers.cards[0].temperature == 0.0
        asked = [{"max_new_tokens": LONG_TOKENS}, {"max_new_tokens": 3}, {"max_new_tokens": 3, "top_k": 4, "seed": 1}]
        workers.pool.send(0, Work([LONG, SHORT, DRAWN], ["long", "short", "drawn"], None, list(asked)))
        ended: dict[int, Answer] = {}
        while len(ended) < 2:
            done = workers.wait_for(ForwardDone)
            for number, outcome in zip(done.numbers, done.outcomes, strict=True):
                assert isinstance(outcome, Answer)
                ended[number] = outcome
        assert set(ended) == {SHORT, DRAWN}
        assert json.loads(ended[SHORT].output)["completion_tokens"] == 3
        for _ in range(2):
            assert workers.wait_for(ForwardStarted).numbers == [LONG]
        os.kill(workers.pool.pids[0], signal.SIGKILL)
        lost = workers.wait_for(WorkerLost)
        assert lost.signal == signal.SIGKILL
        assert workers.announced()[-1] == [LONG]
