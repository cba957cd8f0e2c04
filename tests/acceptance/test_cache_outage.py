"""The cache changes cost, never an answer."""

from __future__ import annotations

import random
from itertools import count

import pytest

from tests.acceptance.harness import Lab, check, event, wait_for
from tests.integration.redis_server import RedisServer

TEXTS = 1_000


@pytest.mark.slow
@pytest.mark.case(32, 33)
@pytest.mark.promise(6)
def test_redis_dies_returns_and_lies(lab: Lab) -> None:
    """Redis killed, restarted, given answers under each other's keys, filled with garbage, and frozen, with work in
    flight: every answer is right, nothing is an error, exit 0."""
    lab.topics()
    reader = lab.reader()
    numbers = count()
    with RedisServer() as redis:
        config = lab.config(
            cache={"url": redis.url, "memory_mb": 0},
            micro_batch_records=200,
            options={"cacheable": True, "text_us": 300},
        )
        run = lab.start(config)

        def feed(records: int, *, leave: int = 0) -> None:
            """Write events and wait for all outcomes but the last few."""
            lab.produce(event(next(numbers) % TEXTS) for _ in range(records))
            wanted = len(lab.given) - leave
            wait_for(lambda: reader.count >= wanted, f"{wanted} outcomes", run=run)

        feed(3_000)
        feed(4_000, leave=3_500)
        redis.kill()
        feed(3_000, leave=2_000)
        redis.start()
        client = redis.client

        def filled() -> bool:
            feed(200)
            return client.dbsize() >= TEXTS // 2

        wait_for(filled, "answers in the new Redis")
        keys = list(client.scan_iter(count=TEXTS))
        values = [client.get(key) or b"" for key in keys]
        random.Random(5).shuffle(values)
        client.mset(dict(zip(keys, values, strict=True)))
        feed(2_000)
        for number, key in enumerate(keys):
            client.delete(key)
            client.rpush(key, "a list") if number % 2 else client.set(key, b'{"n": 1}')
        feed(2_000, leave=1_500)
        redis.pause()
        feed(2_000)
        redis.resume()
        feed(500)
        assert run.stop() == 0, run.log
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)
    assert sum(outcome.body["cached"] for outcome in reader.outcomes) > TEXTS, "Redis was hardly used"
    assert '"level":"error"' not in run.log
