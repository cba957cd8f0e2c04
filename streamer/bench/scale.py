"""What a rate of events needs, by what one process of each kind was measured to do. Pure: no clock, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EVENT_EXTRA_BYTES: Final = 100
"""About what an event takes beside its text: id, key, headers, and what Kafka adds."""
RESULT_EXTRA_BYTES: Final = 400
"""About what a result takes beside its output: source, model, key and headers."""
TOKEN_BYTES: Final = 5
"""A token of English text, its space included."""
WRITTEN_TOPICS: Final = 3
"""Input, output and dead letters have as many partitions each."""
CLUSTER_REPLICAS: Final = 200_000
BROKER_REPLICAS: Final = 4_000
"""Partitions with their replicas that a cluster and a broker are recommended to hold at most (KIP-578)."""


@dataclass(frozen=True, slots=True)
class EventSize:
    """What the events are like. `tokens` and `output_bytes` are means; `cached` is the share of events that the cache
    answers; `readers` is how many applications read each result."""

    tokens: float = 24.0
    output_bytes: float = 100.0
    cached: float = 0.0
    readers: int = 1

    @property
    def event_bytes(self) -> float:
        """Bytes of an event on the wire."""
        return self.tokens * TOKEN_BYTES + EVENT_EXTRA_BYTES

    @property
    def result_bytes(self) -> float:
        """Bytes of a result on the wire."""
        return self.output_bytes + RESULT_EXTRA_BYTES


@dataclass(frozen=True, slots=True)
class Costs:
    """What one of each does at most, a second.

    `member_records` is of a member without a model, `worker_tokens` of one worker, `workers` how many of these one
    machine runs. `member_settles` is how many transactions a member makes under a backlog, which is the fewest;
    `broker_transactions` how many one broker ends. `redis_keys` is of one Redis, 0 where there is none.
    `partition_bytes` and `broker_bytes` are what is written to one partition, and what goes into or out of one broker,
    replication included.
    """

    member_records: float
    worker_tokens: float
    workers: int
    member_settles: float
    broker_transactions: float
    redis_keys: float = 0.0
    partition_bytes: float = 10e6
    broker_bytes: float = 100e6


@dataclass(frozen=True, slots=True)
class Needs:
    """What so many events a second need. Rates are a second; `because` says what decides the number of members and of
    brokers, `beyond` what Kafka is not recommended to hold in one cluster."""

    rate: float
    members: int
    machines: int
    workers: int
    partitions: int
    brokers: int
    redis: int
    tokens: float
    bytes_in: float
    bytes_out: float
    redis_keys: float
    transactions: float
    because: Mapping[str, str]
    beyond: str


def plan(rate: float, size: EventSize, costs: Costs, replication: int = 3, load: float = 0.7) -> Needs:
    """The least that settles `rate` events a second while each unit does `load` of what it can."""
    tokens = rate * (1 - size.cached) * size.tokens
    workers = _units(tokens, costs.worker_tokens, load)
    machines = max(math.ceil(workers / costs.workers), 1)
    by_driver = _units(rate, costs.member_records, load)
    members = max(by_driver, machines)
    written = rate * max(size.event_bytes, size.result_bytes)
    partitions = max(members, _units(written, costs.partition_bytes, load))
    partitions = math.ceil(partitions / members) * members  # each member has as much to do as the next

    stored = rate * (size.event_bytes + size.result_bytes)
    bytes_in = stored * replication
    bytes_out = stored * (replication - 1) + rate * (size.event_bytes + size.readers * size.result_bytes)
    transactions = members * costs.member_settles
    replicas = partitions * WRITTEN_TOPICS * replication
    brokers = {
        "copies": replication,
        "bytes": _units(max(bytes_in, bytes_out), costs.broker_bytes, load),
        "partitions": _units(replicas, BROKER_REPLICAS, 1.0),
        "transactions": _units(transactions, costs.broker_transactions, load),
    }
    keys = rate + rate * (1 - size.cached) if costs.redis_keys else 0.0
    return Needs(
        rate=rate,
        members=members,
        machines=machines,
        workers=max(workers, members),
        partitions=partitions,
        brokers=max(brokers.values()),
        redis=_units(keys, costs.redis_keys, load) if costs.redis_keys else 0,
        tokens=tokens,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        redis_keys=keys,
        transactions=transactions,
        because={
            "members": "the driver" if by_driver > machines else "the model",
            "brokers": max(brokers, key=lambda why: brokers[why]),
        },
        beyond=(
            f"{replicas:,} partitions with their replicas are more than the {CLUSTER_REPLICAS:,} recommended for one"
            " cluster: divide the events among several"
            if replicas > CLUSTER_REPLICAS
            else ""
        ),
    )


def one_does(size: EventSize, costs: Costs, replication: int = 3) -> dict[str, float]:
    """Events a second that one unit of each kind settles at its most; of a machine, what all its workers compute."""
    computed = (1 - size.cached) * size.tokens
    stored = size.event_bytes + size.result_bytes
    out = stored * (replication - 1) + size.event_bytes + size.readers * size.result_bytes
    does = {
        "member": costs.member_records,
        "machine": costs.workers * costs.worker_tokens / computed if computed else math.inf,
        "partition": costs.partition_bytes / max(size.event_bytes, size.result_bytes),
        "broker": costs.broker_bytes / max(stored * replication, out),
    }
    if costs.redis_keys:
        does["Redis"] = costs.redis_keys / (2 - size.cached)
    return does


def _units(needed: float, one: float, load: float) -> int:
    return max(math.ceil(round(needed / (one * load), 9)), 1)
