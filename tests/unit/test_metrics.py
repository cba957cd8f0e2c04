from __future__ import annotations

import re
import time
from pathlib import Path

from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import streamer
from streamer.app.meter import Meter, count_cache, show_stuck
from streamer.cache.events import CacheEvent
from streamer.core.pipeline.protocol import Assigned, ForwardDone, Lost, Settled, Unsettled, WorkerLost
from streamer.core.read_progress import Ahead
from streamer.core.record import TopicPartition
from streamer.core.report import BOUNDS
from streamer.core.standing import Reason
from streamer.errors import Code, FailureClass
from streamer.telemetry import catalogue as of
from streamer.telemetry.metrics import Metrics
from tests.records import FakeRecord
from tests.unit.pipeline_kit import Kit, segment, taken

ROOT = Path(__file__).parents[2]
SIMPLE_GAUGES = [metric for metric in of.METRICS if metric.kind == "gauge" and not metric.labels]


def used() -> Metrics:
    """Metrics after one call for each."""
    metrics = Metrics("sentiment")
    metrics.add(of.RECORDS, 990, "result", "")
    metrics.add(of.RECORDS, 10, "dead_letter", "infer.nan")
    metrics.observe_all(of.EVENT_LATENCY, [(0.004, 900), (0.126, 100)], 16.2)
    metrics.set(of.LAG_RECORDS, 12, "reviews", "0")
    metrics.set(of.LAG_SECONDS, 0.5, "reviews", "0")
    for number, gauge in enumerate(SIMPLE_GAUGES, 1):
        metrics.set(gauge, number)
    metrics.observe(of.FORWARD, 0.05)
    metrics.observe(of.SETTLE, 0.004)
    metrics.add(of.TRANSACTIONS, 1, "settled")
    metrics.total(of.UNSTUCK, 7)
    metrics.only(of.INFO, "0.1.0", "host-0", "m", "ff", "cpu")
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset({"pipeline": "sentiment", **labels}.items())))


def test_what_was_counted_is_shown() -> None:
    """Each call ends in the sample that it names, with the pipeline as label."""
    metrics = used()
    assert value(metrics, "streamer_records_total", outcome="result", code="") == 990
    assert value(metrics, "streamer_records_total", outcome="dead_letter", code="infer.nan") == 10
    assert value(metrics, "streamer_lag_records", topic="reviews", partition="0") == 12
    assert value(metrics, "streamer_lag_seconds", topic="reviews", partition="0") == 0.5
    assert [value(metrics, gauge.name) for gauge in SIMPLE_GAUGES] == list(range(1, len(SIMPLE_GAUGES) + 1))
    assert value(metrics, "streamer_transactions_total", outcome="settled") == 1
    assert value(metrics, "streamer_unstuck_partitions_total") == 7


def test_a_forward_batch_and_a_settle_are_counted() -> None:
    """What the driver hears of, by the metrics that it moves."""
    metrics = Metrics("sentiment")
    meter = Meter(metrics, "s", {}, dict, dict)
    meter.facts(ForwardDone(0, [1, 2], [], seconds=0.05, passes=3, real_tokens=700, computed_tokens=720))
    meter.facts(Settled(1, seconds=0.004))
    meter.facts(Unsettled(2, "abort"))
    meter.facts(Assigned({("reviews", 0): 1}))
    assert value(metrics, "streamer_tokens_total", kind="real") == 700
    assert value(metrics, "streamer_tokens_total", kind="computed") == 720
    assert value(metrics, "streamer_forward_records_total") == 2
    assert value(metrics, "streamer_forward_passes_total") == 3
    assert value(metrics, "streamer_forward_seconds_sum") == 0.05
    assert value(metrics, "streamer_settle_seconds_count") == 2
    assert value(metrics, "streamer_transactions_total", outcome="settled") == 1
    assert value(metrics, "streamer_transactions_total", outcome="abort") == 1
    assert value(metrics, "streamer_rebalances_total", kind="assigned") == 1


def test_a_fresh_process_has_all_that_it_may_count() -> None:
    """Counters are 0 from the first scrape on, since a rate sees no rise from nothing to one. What a process counts
    later makes no new series."""
    fresh = samples(Metrics("sentiment"))
    counters = {metric.name for metric in of.METRICS if metric.kind == "counter"}
    assert counters <= {name for name, _ in fresh}
    assert not any(fresh.values())
    metrics = used()
    for code in Code:
        metrics.add(of.RECORDS, 1, "dead_letter", code)
    show_stuck(metrics, dict.fromkeys(Reason, 1))
    for event in CacheEvent:
        count_cache(metrics, event, 1)
    words = [WorkerLost(0, failure=one) for one in (FailureClass.DEVICE, FailureClass.CODE)]
    for lost in (WorkerLost(0), WorkerLost(0, signal=9), WorkerLost(0, hung=True), *words):
        Meter(metrics, "s", {}, dict, dict).facts(lost)
    later = {each for each in samples(metrics) if each[0] in counters or each[0] == "streamer_stuck_partitions"}
    assert later <= fresh.keys()


def test_every_end_of_a_settle_is_known() -> None:
    """The reasons that the sinks give are in the catalogue."""
    given = set()
    for path in (Path(streamer.__file__).parent / "core" / "settle").glob("*.py"):
        given |= set(re.findall(r'(?:Unsettled|_back)\(\s*(?:plan, began|[^,)]+),\s*"(\w+)"', path.read_text()))
    assert len(given) >= 5
    assert {(reason,) for reason in given} <= set(of.TRANSACTIONS.known)


def test_histograms_take_many_at_once() -> None:
    """A value on a bound counts in that bucket; buckets are cumulated; sum and count are those of all."""
    metrics = Metrics("sentiment")
    metrics.observe_all(of.EVENT_LATENCY, [(0.004, 900), (0.0041, 5), (9_999.0, 2)], 20_000.0)
    metrics.observe_all(of.EVENT_LATENCY, [(0.001, 1)], 0.001)
    buckets = [value(metrics, "streamer_event_latency_seconds_bucket", le=le) for le in ("0.001", "0.004", "0.008")]
    assert buckets == [1, 901, 906]
    assert value(metrics, "streamer_event_latency_seconds_bucket", le=str(of.LATENCY_BOUNDS_S[-1])) == 906
    assert value(metrics, "streamer_event_latency_seconds_bucket", le="+Inf") == 908
    assert value(metrics, "streamer_event_latency_seconds_count") == 908
    assert value(metrics, "streamer_event_latency_seconds_sum") == 20_000.001


def test_single_observations_count_once() -> None:
    """Forward batches and settles are observed one by one."""
    metrics = used()
    assert value(metrics, "streamer_forward_seconds_count") == 1
    assert value(metrics, "streamer_forward_seconds_sum") == 0.05
    assert value(metrics, "streamer_settle_seconds_bucket", le="0.004") == 1
    assert value(metrics, "streamer_settle_seconds_bucket", le="0.002") == 0


def test_a_reports_histogram_fits_without_error() -> None:
    """Every latency bound is one of the reports' bounds, to the last digit."""
    assert set(of.LATENCY_BOUNDS_S) <= {bound / 1000 for bound in BOUNDS}
    assert list(of.LATENCY_BOUNDS_S) == sorted(of.LATENCY_BOUNDS_S)


def test_a_partition_given_away_has_no_lag() -> None:
    """Its gauges disappear; one that never had any is no error."""
    metrics = used()
    for partition in (0, 9):
        Meter(metrics, "s", {}, dict, dict).facts(Lost(frozenset({("reviews", partition)})))
    assert not any(name.startswith("streamer_lag") for name, _ in samples(metrics))


def test_a_partition_that_was_let_go_has_no_lag() -> None:
    """Between the group's word and its release the lag is told as before; nobody would take it back afterwards."""
    kit, metrics, ahead = Kit(), Metrics("sentiment"), dict[TopicPartition, Ahead]()
    meter = Meter(metrics, "s", {}, lambda: ahead, lambda: {("in", 0): 0, ("in", 1): 0})
    ahead |= {("in", 0): Ahead(0, 50), ("in", 1): Ahead(0, 50)}
    meter.facts(Lost(frozenset({("in", 1)})))
    meter.tick(kit.pipeline, 100.0)
    assert value(metrics, "streamer_lag_records", topic="in", partition="1") == 50
    kit.feed(Lost(frozenset({("in", 1)})))
    meter.tick(kit.pipeline, 101.0)
    assert value(metrics, "streamer_lag_records", topic="in", partition="0") == 50
    for name in ("streamer_lag_records", "streamer_lag_seconds"):
        assert value(metrics, name, topic="in", partition="1") is None


def test_a_clock_that_is_ahead_hides_no_lag() -> None:
    """The producer's is by an hour. A record counts as old as it was seen to be there, also when it was taken of a
    backlog only now; and what is left in Kafka does."""
    kit, metrics, ahead = Kit(), Metrics("sentiment"), dict[TopicPartition, Ahead]()
    meter = Meter(metrics, "s", {}, lambda: ahead, lambda: {("in", 0): 0, ("in", 1): 0})
    ahead |= {("in", 0): Ahead(0, 50), ("in", 1): Ahead(0, 50)}
    meter.tick(kit.pipeline, 100.0)
    late = segment(())
    late.records.append(FakeRecord(b"a", offset=40, timestamp_ms=int(time.time() * 1000) + 3_600_000))
    fact = taken(1, late)
    fact.batch.taken = 699.0
    kit.feed(fact)
    ahead |= {("in", 0): Ahead(41, 90), ("in", 1): Ahead(40, 90)}
    meter.tick(kit.pipeline, 700.0)
    for partition in ("0", "1"):
        assert value(metrics, "streamer_lag_seconds", topic="in", partition=partition) == 600


def test_info_tells_the_present_only() -> None:
    """A new model replaces the old one's line."""
    metrics = used()
    metrics.only(of.INFO, "0.1.0", "host-0", "m", "ee", "cpu")
    shown = [dict(labels)["revision"] for name, labels in samples(metrics) if name == "streamer_info"]
    assert shown == ["ee"]


def test_two_pipelines_in_one_process_do_not_meet() -> None:
    """Each has a registry of its own."""
    one, other = used(), Metrics("other")
    assert one.registry is not other.registry
    assert not any(sample == 990 for sample in samples(other).values())


def test_what_is_exported_is_what_is_defined() -> None:
    """Every metric has its family, with its meaning as the help that /metrics shows."""
    helps = {family.name: family.documentation for family in Metrics("p").registry.collect()}
    assert helps == {metric.name.removesuffix("_total"): metric.meaning for metric in of.METRICS}


def test_names_follow_the_conventions_of_prometheus() -> None:
    """Counters end in _total, what is measured in base units, and every metric says what it means and what to do."""
    for metric in of.METRICS:
        assert metric.name.startswith("streamer_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert metric.kind != "histogram" or metric.name.endswith("_seconds")
        assert metric.meaning.endswith(".") and metric.change.endswith(".")
        assert all(len(values) == len(metric.labels) for values in metric.known)


def test_the_page_is_what_the_catalogue_says() -> None:
    """`python -m streamer.telemetry.catalogue > docs/metrics.md` after a change."""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == of.page()
    assert all(metric.name in of.page() for metric in of.METRICS)


def test_there_are_no_series_of_creation_times() -> None:
    """Each would double a counter's series."""
    assert not [name for name, _ in samples(used()) if name.endswith("_created")]


def test_a_followed_total_is_counted_once() -> None:
    """What is new since the last look is added, for each series by itself."""
    metrics = Metrics("sentiment")
    for total in (0, 3, 3, 5):
        metrics.total(of.CACHE_LOOKUPS, total, "memory", "hit")
        metrics.total(of.CACHE_LOOKUPS, 2 * total, "memory", "miss")
    assert value(metrics, "streamer_cache_lookups_total", tier="memory", outcome="hit") == 5
    assert value(metrics, "streamer_cache_lookups_total", tier="memory", outcome="miss") == 10


def test_what_the_shared_cache_counts_is_shown() -> None:
    """Values that others wrote apart from misses: somebody may be forging answers."""
    metrics = Metrics("p")
    for number, event in enumerate(CacheEvent, 1):
        count_cache(metrics, event, number)
    shown = {
        (name, dict(labels).get("tier"), dict(labels)["outcome"]): value
        for (name, labels), value in samples(metrics).items()
        if name in ("streamer_cache_lookups_total", "streamer_cache_stores_total")
    }
    assert shown[("streamer_cache_lookups_total", "shared", "rejected")] == 1 + list(CacheEvent).index(
        CacheEvent.REJECTED
    )
    assert len(shown) >= len(CacheEvent)


def test_the_latency_names_a_trace_where_openmetrics_is_asked_for() -> None:
    """An exemplar in the bucket of its value, the newest; Prometheus' own text format has none."""
    metrics = Metrics("p")
    metrics.observe(of.EVENT_LATENCY, 0.2)
    metrics.exemplify(of.EVENT_LATENCY, 0.24, 1, 2)
    metrics.exemplify(of.EVENT_LATENCY, 0.2, 0xABC, 0xDEF)
    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    (line,) = [line for line in encode(metrics.registry).decode().splitlines() if " # " in line]
    assert line.startswith('streamer_event_latency_seconds_bucket{le="0.251",pipeline="p"} 1.0 # ')
    assert f'{{span_id="{0xDEF:016x}",trace_id="{0xABC:032x}"}} 0.2 ' in line
    plain = choose_encoder("text/plain")[0](metrics.registry).decode()
    assert " # {" not in plain
