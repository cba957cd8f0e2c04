"""Every metric: what it means, in what unit, by which labels, and what to change when it moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from streamer.core.standing import Reason
from streamer.errors import Code

# Nearly powers of two, from 1 ms to 66 min; a subset of the bounds of the reports' histograms, so that a report's
# counts fall into these buckets without error.
LATENCY_BOUNDS_S: Final = tuple(round(10 ** (0.3 * step)) / 1000 for step in range(23))


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `unit` is the base unit or "" for none; every metric has the label `pipeline` before `labels`.
    `known` are the values of these that are known beforehand; with them, and without labels, a counter is there from
    the first scrape on: a rate sees no rise from nothing to one."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    change: str
    bounds: tuple[float, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


RECORDS = Metric(
    "streamer_records_total",
    "counter",
    "records",
    ("outcome", "code"),
    "Settled records by outcome (result, dead_letter, skipped) and code: a dead letter's cause, or why it was skipped.",
    "Dead letters grow: look at their code with `streamer dlq list`; decode and validate are the producers', infer is"
    " the model's, publish.too_large wants a larger max.message.bytes, publish.refused another output topic or keys.",
    known=(
        ("result", ""),
        ("skipped", "tombstone"),
        ("skipped", "replay"),
        ("skipped", "delete"),
        ("skipped", "truncate"),
        ("skipped", "message"),
        *(("dead_letter", code.value) for code in Code),
    ),
)
EVENT_LATENCY = Metric(
    "streamer_event_latency_seconds",
    "histogram",
    "seconds",
    (),
    "Time from an input record's timestamp until it is settled; a backlog counts in full.",
    "If it rises with streamer_lag_seconds, there is too little capacity: add workers or replicas. If it rises alone,"
    " see"
    " streamer_head_of_line_seconds and streamer_settle_seconds.",
    LATENCY_BOUNDS_S,
)
LAG_RECORDS = Metric(
    "streamer_lag_records",
    "gauge",
    "records",
    ("topic", "partition"),
    "Records of an owned partition after the last settled one. On a transactional input, 1 is the marker at its end.",
    "Alert on streamer_lag_seconds rather than on this.",
)
LAG_SECONDS = Metric(
    "streamer_lag_seconds",
    "gauge",
    "seconds",
    ("topic", "partition"),
    "Age of the oldest record of an owned partition that is not settled.",
    "Grows on all partitions: add workers, replicas or a faster dtype. Grows on one: a hot key, or a slow record ahead"
    " (streamer_head_of_line_seconds).",
)
DRAIN = Metric(
    "streamer_drain_seconds",
    "gauge",
    "seconds",
    (),
    "How long settling what is waiting in the owned partitions takes at the rate of the last minute, without new"
    " arrivals; while nothing is settled, the age of the oldest record.",
    "Scale on this: its ratio to the drain time you want is the ratio of the replicas you need to those you have.",
)
HEAD_OF_LINE = Metric(
    "streamer_head_of_line_seconds",
    "gauge",
    "seconds",
    (),
    "How long the longest-waiting unfinished record has been in flight.",
    "Near lease_s: the model hangs or forward batches are too large; lower batch_tokens or raise lease_s.",
)
IN_FLIGHT_BYTES = Metric(
    "streamer_in_flight_bytes",
    "gauge",
    "bytes",
    (),
    "Bytes of records taken and not settled.",
    "Constantly at budget_mb is normal under a backlog. Raise budget_mb if workers are idle at the same time.",
)
HELD = Metric(
    "streamer_source_held",
    "gauge",
    "",
    (),
    "1 while nothing is taken because the budget is full or workers are missing, else 0.",
    "1 for long without lag falling: look at streamer_workers_ready and streamer_settle_seconds.",
)
FORWARD = Metric(
    "streamer_forward_seconds",
    "histogram",
    "seconds",
    (),
    "Time of one forward batch in the model.",
    "If it rises at equal tokens, the device is shared or throttled. If it rises with tokens, lower batch_tokens for"
    " latency.",
    LATENCY_BOUNDS_S,
)
FORWARD_RECORDS = Metric(
    "streamer_forward_records_total",
    "counter",
    "records",
    (),
    "Computations that forward batches finished; divided by the count of streamer_forward_seconds, it is the mean"
    " batch.",
    "Small batches under load: raise micro_batch_records or batch_tokens.",
)
FORWARD_PASSES = Metric(
    "streamer_forward_passes_total",
    "counter",
    "passes",
    (),
    "Calls of the model, including those that halve a batch after an error or out of memory.",
    "Many more than forward batches: records that raise (see the dead letters), or batch_tokens is too high.",
)
TOKENS = Metric(
    "streamer_tokens_total",
    "counter",
    "tokens",
    ("kind",),
    "Tokens computed: real counts those of the texts, computed counts padding too.",
    "computed far above real: lengths differ much within a batch; raise micro_batch_records so that they sort better.",
    known=(("real",), ("computed",)),
)
CACHE_LOOKUPS = Metric(
    "streamer_cache_lookups_total",
    "counter",
    "keys",
    ("tier", "outcome"),
    "Keys looked up by tier (memory, shared) and outcome: hit, miss, rejected (a value that we did not write: a miss),"
    " unavailable (a miss because Redis did not answer).",
    "unavailable: Redis is down or slow. rejected: something else writes under our prefix. Few hits: inputs do not"
    ' repeat; set memory_mb = 0 and url = "".',
    known=(
        ("memory", "hit"),
        ("memory", "miss"),
        *(("shared", outcome) for outcome in ("hit", "miss", "rejected", "unavailable")),
    ),
)
CACHE_STORES = Metric(
    "streamer_cache_stores_total",
    "counter",
    "keys",
    ("outcome",),
    "Keys given to the shared cache: stored, dropped (no room in the queue, stores suspended, too large), failed.",
    "dropped or failed: Redis is full, read-only or too slow; results do not suffer.",
    known=(("stored",), ("dropped",), ("failed",)),
)
CACHE_AVAILABLE = Metric(
    "streamer_cache_available",
    "gauge",
    "",
    (),
    "1 while the shared cache is asked, 0 while its circuit breaker is open.",
    "0: look at Redis; the log names the kind of error.",
)
WORKERS_READY = Metric(
    "streamer_workers_ready",
    "gauge",
    "workers",
    (),
    "Workers that have loaded the model and take work.",
    "Below `workers` for long: see streamer_worker_restarts_total and the log.",
    known=((),),
)
WORKER_RESTARTS = Metric(
    "streamer_worker_restarts_total",
    "counter",
    "restarts",
    ("reason",),
    "Workers lost and started again: exit, killed, hung, device, code.",
    "killed with signal 9: out of memory, lower workers or batch_tokens. hung: raise lease_s or find the text.",
    known=(("exit",), ("killed",), ("hung",), ("device",), ("code",)),
)
TRANSACTIONS = Metric(
    "streamer_transactions_total",
    "counter",
    "transactions",
    ("outcome",),
    "Settles by outcome: settled, or why not (ownership, abort, rebuild, refused, delivery, commit).",
    "ownership now and then is a rebalance. abort or rebuild again and again: the brokers are in trouble.",
    known=(("settled",), ("ownership",), ("abort",), ("rebuild",), ("refused",), ("delivery",), ("commit",)),
)
SETTLE = Metric(
    "streamer_settle_seconds",
    "histogram",
    "seconds",
    (),
    "Time from the start of a settle to its end.",
    "If it rises: the brokers are slow or far away; with min.insync.replicas, the slowest replica counts.",
    LATENCY_BOUNDS_S,
)
REBALANCES = Metric(
    "streamer_rebalances_total",
    "counter",
    "events",
    ("kind",),
    "Assignments, revocations and losses of partitions.",
    "lost: this process did not reach the group in time; look for a starved CPU. Many of any kind: members come and"
    " go.",
    known=(("assigned",), ("revoked",), ("lost",)),
)
SPANS = Metric(
    "streamer_spans_total",
    "counter",
    "spans",
    ("outcome",),
    "Spans sent, dropped (queue full, topic away) and capped (over max_spans_per_s).",
    "capped: sample less at the producers or raise max_spans_per_s. dropped: the spans topic or its brokers.",
    known=(("sent",), ("dropped",), ("capped",)),
)
OUT_OF_RANGE = Metric(
    "streamer_out_of_range_records_total",
    "counter",
    "records",
    (),
    'Records that retention deleted before they were read, if on_out_of_range = "earliest" skips them.',
    "Above 0: these records have no outcome. Raise the input's retention.ms, or add workers or replicas.",
)
STUCK = Metric(
    "streamer_stuck_partitions",
    "gauge",
    "partitions",
    ("reason",),
    "Partitions with records that are not being answered, by why (`streamer/core/standing.py` lists the reasons).",
    "Above 0: /readyz and the log name topic, partition, offset and the fix.",
    known=tuple((reason.value,) for reason in Reason),
)
UNSTUCK = Metric(
    "streamer_unstuck_partitions_total",
    "counter",
    "partitions",
    (),
    "Partitions from which the client returned nothing although there was something to read, until it was told to"
    " seek.",
    "If it keeps rising: a bug in the Kafka client; look for a newer version.",
)
BAD_TRACEPARENTS = Metric(
    "streamer_bad_traceparents_total",
    "counter",
    "records",
    (),
    "Records whose traceparent header is invalid; they are processed without a trace.",
    "Tell the producers: their traces end at the topic.",
)
INFO = Metric(
    "streamer_info",
    "gauge",
    "",
    ("version", "slot", "model", "revision", "device"),
    "Always 1: what runs here.",
    "More than one revision among replicas: a deployment is under way, or is stuck.",
)

METRICS: Final = (
    RECORDS,
    EVENT_LATENCY,
    LAG_RECORDS,
    LAG_SECONDS,
    DRAIN,
    HEAD_OF_LINE,
    IN_FLIGHT_BYTES,
    HELD,
    FORWARD,
    FORWARD_RECORDS,
    FORWARD_PASSES,
    TOKENS,
    CACHE_LOOKUPS,
    CACHE_STORES,
    CACHE_AVAILABLE,
    WORKERS_READY,
    WORKER_RESTARTS,
    TRANSACTIONS,
    SETTLE,
    REBALANCES,
    SPANS,
    OUT_OF_RANGE,
    STUCK,
    UNSTUCK,
    BAD_TRACEPARENTS,
    INFO,
)


def markdown_table() -> str:
    """All metrics as a table for the documentation."""
    rows = ["| metric | kind | labels | meaning | what to change when it moves |", "|---|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(("pipeline", *metric.labels))
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} | {metric.change} |")
    return "\n".join(rows) + "\n"
