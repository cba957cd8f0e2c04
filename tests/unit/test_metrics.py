from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import streamer
from streamer.app.observe import Follow, Meter, on_cache_event
from streamer.cache.events import CacheEvent
from streamer.core.pipeline.protocol import WorkerLost
from streamer.core.report import BOUNDS
from streamer.core.standing import Reason
from streamer.errors import Code, FailureClass
from streamer.telemetry.catalogue import LATENCY_BOUNDS_S, METRICS, TRANSACTIONS, markdown_table
from streamer.telemetry.metrics import Metrics


def used() -> Metrics:
    """Metrics after one call of everything."""
    metrics = Metrics("sentiment")
    metrics.records({("result", ""): 990, ("dead_letter", "infer.nan"): 10})
    metrics.event_latency([(0.004, 900), (0.126, 100)], 16.2)
    metrics.lag("reviews", 0, 12, 0.5)
    metrics.drain(30.5)
    metrics.in_flight(1000, 0.25, held=True)
    metrics.forward(0.05, 32, 3, 700, 720)
    metrics.cache_lookups("memory", "hit", 5)
    metrics.cache_stores("stored", 7)
    metrics.cache_available(False)
    metrics.workers_ready(2)
    metrics.worker_restart("hung")
    metrics.settled("settled", 0.004)
    metrics.rebalance("assigned")
    metrics.spans("capped", 3)
    metrics.out_of_range(50)
    metrics.unstuck(1)
    metrics.bad_traceparents(4)
    metrics.info("0.1.0", "host-0", "m", "ff", "cpu")
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
    assert value(metrics, "streamer_drain_seconds") == 30.5
    assert value(metrics, "streamer_in_flight_bytes") == 1000
    assert value(metrics, "streamer_head_of_line_seconds") == 0.25
    assert value(metrics, "streamer_source_held") == 1
    assert value(metrics, "streamer_out_of_range_records_total") == 50
    assert value(metrics, "streamer_unstuck_partitions_total") == 1
    assert value(metrics, "streamer_bad_traceparents_total") == 4
    assert value(metrics, "streamer_tokens_total", kind="real") == 700
    assert value(metrics, "streamer_tokens_total", kind="computed") == 720
    assert value(metrics, "streamer_forward_records_total") == 32
    assert value(metrics, "streamer_forward_passes_total") == 3
    assert value(metrics, "streamer_cache_lookups_total", tier="memory", outcome="hit") == 5
    assert value(metrics, "streamer_cache_stores_total", outcome="stored") == 7
    assert value(metrics, "streamer_cache_available") == 0
    assert value(metrics, "streamer_workers_ready") == 2
    assert value(metrics, "streamer_worker_restarts_total", reason="hung") == 1
    assert value(metrics, "streamer_transactions_total", outcome="settled") == 1
    assert value(metrics, "streamer_rebalances_total", kind="assigned") == 1
    assert value(metrics, "streamer_spans_total", outcome="capped") == 3


def test_a_fresh_process_has_all_that_it_may_count() -> None:
    """Counters are 0 from the first scrape on, since a rate sees no rise from nothing to one. What a process counts
    later makes no new series."""
    fresh = samples(Metrics("sentiment"))
    counters = {metric.name for metric in METRICS if metric.kind == "counter"}
    assert counters <= {name for name, _ in fresh}
    assert not any(fresh.values())
    metrics = used()
    metrics.records(dict.fromkeys([("dead_letter", code) for code in Code], 1))
    metrics.stuck(dict.fromkeys(Reason, 1))
    for event in CacheEvent:
        on_cache_event(metrics)(event, 1)
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
    assert {(reason,) for reason in given} <= set(TRANSACTIONS.known)


def test_histograms_take_many_at_once() -> None:
    """A value on a bound counts in that bucket; buckets are cumulated; sum and count are those of all."""
    metrics = Metrics("sentiment")
    metrics.event_latency([(0.004, 900), (0.0041, 5), (9_999.0, 2)], 20_000.0)
    metrics.event_latency([(0.001, 1)], 0.001)
    buckets = [value(metrics, "streamer_event_latency_seconds_bucket", le=le) for le in ("0.001", "0.004", "0.008")]
    assert buckets == [1, 901, 906]
    assert value(metrics, "streamer_event_latency_seconds_bucket", le=str(LATENCY_BOUNDS_S[-1])) == 906
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
    assert set(LATENCY_BOUNDS_S) <= {bound / 1000 for bound in BOUNDS}
    assert list(LATENCY_BOUNDS_S) == sorted(LATENCY_BOUNDS_S)


def test_a_partition_given_away_has_no_lag() -> None:
    """Its gauges disappear; one that never had any is no error."""
    metrics = used()
    metrics.no_lag("reviews", 0)
    metrics.no_lag("reviews", 9)
    assert not any(name.startswith("streamer_lag") for name, _ in samples(metrics))


def test_info_tells_the_present_only() -> None:
    """A new model replaces the old one's line."""
    metrics = used()
    metrics.info("0.1.0", "host-0", "m", "ee", "cpu")
    shown = [dict(labels)["revision"] for name, labels in samples(metrics) if name == "streamer_info"]
    assert shown == ["ee"]


def test_two_pipelines_in_one_process_do_not_meet() -> None:
    """Each has a registry of its own."""
    one, other = used(), Metrics("other")
    assert one.registry is not other.registry
    assert not any(sample == 990 for sample in samples(other).values())


def test_the_catalogue_describes_exactly_what_is_exported() -> None:
    """Every metric is exported with the labels that it is described with, and nothing else is."""
    exported = {
        (re.sub(r"_(bucket|count|sum|created)$", "", name), frozenset(dict(labels)) - {"pipeline", "le"})
        for name, labels in samples(used())
        if not name.endswith("_created")
    }
    assert exported == {(metric.name, frozenset(metric.labels)) for metric in METRICS}


def test_names_follow_the_conventions_of_prometheus() -> None:
    """Counters end in _total, units are base units, and every metric says what it means and what to change."""
    for metric in METRICS:
        assert metric.name.startswith("streamer_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert bool(metric.bounds) == (metric.kind == "histogram")
        if metric.unit in ("seconds", "bytes"):
            assert metric.name.endswith(f"_{metric.unit}")
        assert metric.meaning.endswith(".") and metric.change.endswith(".")


def test_the_table_has_a_row_a_metric() -> None:
    """The documentation's table is made from the same data."""
    rows = markdown_table().splitlines()
    assert len(rows) == 2 + len(METRICS)
    assert all(row.count("|") == 6 for row in rows)


def test_there_are_no_series_of_creation_times() -> None:
    """Each would double a counter's series."""
    assert not [name for name, _ in samples(used()) if name.endswith("_created")]


def test_a_followed_total_is_counted_once() -> None:
    """What is new since the last look is added."""
    totals, added = iter([0, 3, 3, 5]), list[int]()
    follow = Follow(lambda: next(totals), added.append)
    for _ in range(4):
        follow.look()
    assert added == [0, 3, 0, 2]


def test_what_the_shared_cache_counts_is_shown() -> None:
    """Values that others wrote apart from misses: somebody may be forging answers."""
    metrics = Metrics("p")
    count = on_cache_event(metrics)
    for number, event in enumerate(CacheEvent, 1):
        count(event, number)
    shown = {
        (name, dict(labels).get("tier"), dict(labels)["outcome"]): value
        for (name, labels), value in samples(metrics).items()
        if name in ("streamer_cache_lookups_total", "streamer_cache_stores_total")
    }
    assert shown[("streamer_cache_lookups_total", "shared", "rejected")] == 1 + list(CacheEvent).index(
        CacheEvent.REJECTED
    )
    assert len(shown) >= len(CacheEvent)
