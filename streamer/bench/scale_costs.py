"""What one member, one worker, one broker and one Redis do on this machine, each measured for a few seconds."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

from confluent_kafka import Producer
from redis import Redis

from streamer.bench.bulk import BulkWorker, planned_threads
from streamer.bench.device.speed import spec_of
from streamer.bench.harness.bench import PARTITIONS, Bench, opened
from streamer.bench.harness.workload import MAX_WORDS, Workload
from streamer.bench.scale import Costs
from streamer.core.report import read
from streamer.inference.spec import plan_threads
from streamer.kafka.reader import Reader
from streamer.machine.processors import usable_cores

RECORDS = 150_000
TEXT_S = 5.0
PROBE_TEXTS = 64
SPELL_S = 2.0
PRODUCERS = 4
KEYS = 100
START_S = 30.0
Progress = Callable[[str], None]


def measured(
    given: Costs, tokens: float, model: str, device: str, bootstrap_servers: str, redis_url: str, progress: Progress
) -> Costs:
    """`given` with what is 0 in it measured. Starts a Kafka or a Redis where one is needed and no address is given."""
    costs, kafka = given, not (given.member_records and given.member_settles and given.broker_transactions)
    if kafka or not costs.redis_keys:
        with opened(bootstrap_servers, redis_url, redis=not costs.redis_keys) as bench:
            if not (costs.member_records and costs.member_settles):
                progress(f"a member without a model over {RECORDS:,} events")
                rate, settles = member(bench)
                costs = replace(
                    costs, member_records=given.member_records or rate, member_settles=given.member_settles or settles
                )
            if not costs.broker_transactions:
                progress("transactions")
                costs = replace(costs, broker_transactions=transactions(bench))
            if not costs.redis_keys:
                progress("Redis")
                costs = replace(costs, redis_keys=redis_keys(bench.redis_url))
    if not costs.workers:
        costs = replace(costs, workers=plan_threads(0, 0, usable_cores())[0])
    if not costs.worker_tokens:
        progress("a worker")
        costs = replace(costs, worker_tokens=worker_tokens(model, device, tokens))
    return costs


def member(bench: Bench) -> tuple[float, float]:
    """Records and settles a second of `builtin:null` over a backlog, exactly once."""
    reports = f"bench.{uuid.uuid4().hex[:8]}.reports"
    setup = bench.setup(telemetry={"reports": reports})
    bench.fill(setup.input, Workload(RECORDS).events())
    found = bench.measure(setup, bench.start(setup, "--until-end"), RECORDS)
    with Reader(bench.kafka, [reports]) as reader:
        told = [read(record.value() or b"") for record in reader.read_until_end()]
    bench.delete(setup.input, reports)
    settles = sum(report is not None and report.event is None for report in told)
    return found.records_per_s, found.records_per_s * settles / RECORDS


def worker_tokens(model: str, device: str, tokens: float) -> float:
    """Tokens a second of one worker, over texts of so many tokens, or of as many as the workload's may have."""
    mean = round(min(tokens, MAX_WORDS))
    spec = spec_of(model, device=device, dtype="auto", backend="auto", threads=planned_threads(), batch_tokens=0)
    with BulkWorker(spec=spec) as worker:
        probe = worker.run(list(Workload(PROBE_TEXTS, mean_tokens=mean).texts()))
        texts = max(PROBE_TEXTS * 4, int(TEXT_S * PROBE_TEXTS / probe.whole_s))
        return worker.run(list(Workload(texts, seed=2, mean_tokens=mean).texts())).tokens_per_s


def transactions(bench: Bench) -> float:
    """Transactions a second that several producers at once get from one broker. Each writes to as many partitions as a
    member of this bench does."""
    setup = bench.setup()
    ends, counts = time.monotonic() + SPELL_S, [0] * PRODUCERS

    def write(number: int, producer: Producer) -> None:
        while time.monotonic() < ends:
            producer.begin_transaction()
            for partition in range(PARTITIONS):
                producer.produce(setup.output, b"x", partition=partition)
            producer.commit_transaction()
            counts[number] += 1

    producers = list(_producers(bench))
    ends = time.monotonic() + SPELL_S
    threads = [threading.Thread(target=write, args=each) for each in enumerate(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.delete(setup.input, setup.output)
    return sum(counts) / SPELL_S


def _producers(bench: Bench) -> Iterator[Producer]:
    for _ in range(PRODUCERS):
        producer = Producer(
            {
                "bootstrap.servers": bench.kafka.bootstrap_servers,
                "transactional.id": f"bench.{uuid.uuid4().hex}",
                "retry.backoff.ms": 5,
            }
        )
        producer.init_transactions(START_S)
        yield producer


def redis_keys(url: str) -> float:
    """Keys a second that one client gets and sets, half of each, in batches."""
    client = Redis.from_url(url)
    keys = [f"streamer:bench:{number}" for number in range(KEYS)]
    count, ends = 0, time.monotonic() + SPELL_S / 2
    while time.monotonic() < ends:
        client.mget(keys)
        with client.pipeline(transaction=False) as batch:
            for key in keys:
                batch.setex(key, 10, b"x" * 200)
            batch.execute()
        count += 2 * KEYS
    client.close()
    return count / (SPELL_S / 2)
