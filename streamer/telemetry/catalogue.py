"""Every metric of a pipeline, each defined once: `Metrics` makes the objects of it, and `page` the documentation.

`python -m streamer.telemetry.catalogue > docs/metrics.md` after a change.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final, Literal

from streamer.core.standing import Reason
from streamer.errors import Code

# Nearly powers of two, from 1 ms to 66 min; a subset of the bounds of the reports' histograms, so that a report's
# counts fall into these buckets without error.
LATENCY_BOUNDS_S: Final = tuple(round(10 ** (0.3 * step)) / 1000 for step in range(23))


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric; each has the label `pipeline` before `labels`, and a histogram the bounds `LATENCY_BOUNDS_S`.
    `change` says what to do when it moves. `known` are the values of the labels that are known beforehand; with them,
    and without labels, a counter is there from the first scrape on: a rate sees no rise from nothing to one."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    change: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


def _each(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


RECORDS: Final = Metric(
    "streamer_records_total",
    "counter",
    "Settled records by outcome (result, dead_letter, skipped) and code: a dead letter's cause, or why it was skipped.",
    "Dead letters grow: look at their code with `streamer dlq list`; decode and validate are the producers', infer is"
    " the model's, publish.too_large wants a larger max.message.bytes, publish.refused another output topic or keys.",
    ("outcome", "code"),
    (
        ("result", ""),
        *(("skipped", reason) for reason in ("tombstone", "replay", "delete", "truncate", "message")),
        *(("dead_letter", code.value) for code in Code),
    ),
)
EVENT_LATENCY: Final = Metric(
    "streamer_event_latency_seconds",
    "histogram",
    "Time from an input record's timestamp until it is settled; a backlog counts in full.",
    "If it rises with streamer_lag_seconds, there is too little capacity: add workers or replicas. If it rises "
    "alone, see streamer_head_of_line_seconds and streamer_settle_seconds.",
)
LAG_RECORDS: Final = Metric(
    "streamer_lag_records",
    "gauge",
    "Records of an owned partition after the last settled one. On a transactional input, 1 is the marker at its end.",
    "Alert on streamer_lag_seconds rather than on this.",
    ("topic", "partition"),
)
LAG_SECONDS: Final = Metric(
    "streamer_lag_seconds",
    "gauge",
    "Age of the oldest record of an owned partition that is not settled: by its timestamp, and at least the time for"
    " which this process has seen that it is there, if the clock of its producer is ahead.",
    "Grows on all partitions: add workers, replicas or a faster dtype. Grows on one: a hot key, or a slow record ahead"
    " (streamer_head_of_line_seconds).",
    ("topic", "partition"),
)
DRAIN: Final = Metric(
    "streamer_drain_seconds",
    "gauge",
    "How long settling what is waiting in the owned partitions takes at the rate of the last minute, without new "
    "arrivals; while nothing is settled, the age of the oldest record.",
    "Scale on this: its ratio to the drain time you want is the ratio of the replicas you need to those you have.",
)
HEAD_OF_LINE: Final = Metric(
    "streamer_head_of_line_seconds",
    "gauge",
    "How long the longest-waiting unfinished record has been in flight.",
    "Near lease_s: the model hangs or forward batches are too large; lower batch_tokens or raise lease_s.",
)
IN_FLIGHT_BYTES: Final = Metric(
    "streamer_in_flight_bytes",
    "gauge",
    "Bytes of records taken and not settled.",
    "Constantly at budget_mb is normal under a backlog. Raise budget_mb if workers are idle at the same time.",
)
HELD: Final = Metric(
    "streamer_source_held",
    "gauge",
    "1 while nothing is taken because the budget is full or workers are missing, else 0.",
    "1 for long without lag falling: look at streamer_workers_ready and streamer_settle_seconds.",
)
FORWARD: Final = Metric(
    "streamer_forward_seconds",
    "histogram",
    "Time of one forward batch in the model.",
    "If it rises at equal tokens, the device is shared or throttled. If it rises with tokens, lower batch_tokens "
    "for latency.",
)
FORWARD_RECORDS: Final = Metric(
    "streamer_forward_records_total",
    "counter",
    "Computations that forward batches finished; divided by the count of streamer_forward_seconds, it is the mean"
    " batch.",
    "Small batches under load: raise micro_batch_records or batch_tokens.",
)
FORWARD_PASSES: Final = Metric(
    "streamer_forward_passes_total",
    "counter",
    "Calls of the model, including those that halve a batch after an error or out of memory.",
    "Many more than forward batches: records that raise (see the dead letters), or batch_tokens is too high.",
)
TOKENS: Final = Metric(
    "streamer_tokens_total",
    "counter",
    "Tokens computed: real counts those of the texts, computed counts padding too.",
    "computed far above real: lengths differ much within a batch; raise micro_batch_records so that they sort better.",
    ("kind",),
    _each("real", "computed"),
)
CACHE_LOOKUPS: Final = Metric(
    "streamer_cache_lookups_total",
    "counter",
    "Keys looked up by tier (memory, shared) and outcome: hit, miss, rejected (a value that we did not write: a "
    "miss), unavailable (a miss because Redis did not answer).",
    "unavailable: Redis is down or slow. rejected: something else writes under our prefix. Few hits: inputs do "
    'not repeat; set memory_mb = 0 and url = "".',
    ("tier", "outcome"),
    (
        *(("memory", outcome) for outcome in ("hit", "miss")),
        *(("shared", outcome) for outcome in ("hit", "miss", "rejected", "unavailable")),
    ),
)
CACHE_STORES: Final = Metric(
    "streamer_cache_stores_total",
    "counter",
    "Keys given to the shared cache: stored, dropped (no room in the queue, stores suspended, too large), failed.",
    "dropped or failed: Redis is full, read-only or too slow; results do not suffer.",
    ("outcome",),
    _each("stored", "dropped", "failed"),
)
CACHE_AVAILABLE: Final = Metric(
    "streamer_cache_available",
    "gauge",
    "1 while the shared cache is asked, 0 while its circuit breaker is open.",
    "0: look at Redis; the log names the kind of error.",
)
WORKERS_READY: Final = Metric(
    "streamer_workers_ready",
    "gauge",
    "Workers that have loaded the model and take work.",
    "Below `workers` for long: see streamer_worker_restarts_total and the log.",
    known=((),),
)
WORKER_RESTARTS: Final = Metric(
    "streamer_worker_restarts_total",
    "counter",
    "Workers lost and started again: exit, killed, hung, device, code.",
    "killed with signal 9: out of memory, lower workers or batch_tokens. hung: raise lease_s or find the text.",
    ("reason",),
    _each("exit", "killed", "hung", "device", "code"),
)
TRANSACTIONS: Final = Metric(
    "streamer_transactions_total",
    "counter",
    "Settles by outcome: settled, or why not (ownership, abort, rebuild, refused, delivery, commit).",
    "ownership now and then is a rebalance. abort or rebuild again and again: the brokers are in trouble.",
    ("outcome",),
    _each("settled", "ownership", "abort", "rebuild", "refused", "delivery", "commit"),
)
SETTLE: Final = Metric(
    "streamer_settle_seconds",
    "histogram",
    "Time from the start of a settle to its end.",
    "If it rises: the brokers are slow or far away; with min.insync.replicas, the slowest replica counts.",
)
REBALANCES: Final = Metric(
    "streamer_rebalances_total",
    "counter",
    "Assignments, revocations and losses of partitions.",
    "lost: this process did not reach the group in time; look for a starved CPU. Many of any kind: members come "
    "and go.",
    ("kind",),
    _each("assigned", "revoked", "lost"),
)
SPANS: Final = Metric(
    "streamer_spans_total",
    "counter",
    "Spans handed to the topic or the OTLP endpoint (sent), dropped (queue full, topic away) and capped (over"
    " max_spans_per_s).",
    "capped: sample less at the producers or raise max_spans_per_s. dropped: the spans topic or its brokers.",
    ("outcome",),
    _each("sent", "dropped", "capped"),
)
OTLP_SPANS: Final = Metric(
    "streamer_otlp_spans_total",
    "counter",
    "Spans for the OTLP endpoint over HTTP: sent, rejected by it, or dropped (no room in the queue of 16 MB, refused,"
    " or not taken within a minute).",
    "dropped: the log names the endpoint and what it answers; results do not suffer. rejected: the receiver's own log"
    " says why.",
    ("outcome",),
    _each("sent", "rejected", "dropped"),
)
OUT_OF_RANGE: Final = Metric(
    "streamer_out_of_range_records_total",
    "counter",
    'Records that retention deleted before they were read, if on_out_of_range = "earliest" skips them.',
    "Above 0: these records have no outcome. Raise the input's retention.ms, or add workers or replicas.",
)
INPUT_RESETS: Final = Metric(
    "streamer_input_resets_total",
    "counter",
    "Partitions that were read from their start again, because their topic was deleted and recreated, or truncated.",
    "Above 0: what the old topic held and nobody had read is gone. Produce it again if it matters; the log names the"
    " topic.",
)
STUCK: Final = Metric(
    "streamer_stuck_partitions",
    "gauge",
    "Partitions with records that are not being answered, by reason.",
    "Above 0: /readyz and the log name topic, partition, offset and the fix.",
    ("reason",),
    _each(*(reason.value for reason in Reason)),
)
UNSTUCK: Final = Metric(
    "streamer_unstuck_partitions_total",
    "counter",
    "Partitions from which the client returned nothing although there was something to read, until it was told to"
    " seek.",
    "If it keeps rising: a bug in the Kafka client; look for a newer version.",
)
BAD_TRACEPARENTS: Final = Metric(
    "streamer_bad_traceparents_total",
    "counter",
    "Records whose traceparent header is invalid; they are processed without a trace.",
    "Tell the producers: their traces end at the topic.",
)
LOG_LINES_LOST: Final = Metric(
    "streamer_log_lines_lost_total",
    "counter",
    "Lines of the log that were not written: its disk was full, or its reader had stopped.",
    "Above 0: free that disk, or see to what reads the log. Results do not suffer.",
)
INFO: Final = Metric(
    "streamer_info",
    "gauge",
    "Always 1: what runs here.",
    "More than one revision among replicas: a deployment is under way, or is stuck.",
    ("version", "slot", "model", "revision", "device"),
)

METRICS: Final = tuple(each for each in [*vars().values()] if isinstance(each, Metric))

_HEAD: Final = """\
# Metrics

<!-- Generated: python -m streamer.telemetry.catalogue > docs/metrics.md -->

Each pipeline serves these at `/metrics`, by default on http://127.0.0.1:9464/metrics (`telemetry.http`; with several
pipelines or members each has the next port). Every metric has the label `pipeline`, and `member` where a pipeline has
several on one machine. Counters are 0 from the first scrape on, for each of the values that are listed here.
`deploy/prometheus/` holds alerts on them, `deploy/grafana/` a dashboard, and `deploy/keda/` scales by one.
"""


def page() -> str:
    """The whole page: what each metric means, and what to do when it moves."""
    return "".join((_HEAD, *map(_section, METRICS)))


def _section(metric: Metric) -> str:
    lines = [f"\n## `{metric.name}`\n", f"{metric.meaning}\n", f"- A {metric.kind}."]
    for place, label in enumerate(metric.labels):
        values = dict.fromkeys(known[place] for known in metric.known)
        shown = ": " + ", ".join(f"`{value}`" if value else "empty" for value in values) if values else ""
        lines.append(f"- Label `{label}`{shown}")
    return "\n".join((*lines, f"- **When it moves:** {metric.change}\n"))


if __name__ == "__main__":
    sys.stdout.write(page())
