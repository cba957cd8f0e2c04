"""How far behind: what is computed of offsets, timestamps and reports, and what KEDA is told to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pytest
import yaml

from streamer.cli.lag import described, table, trend
from streamer.config.load import Config, PipelineConfig
from streamer.core.backlog import Drain, LogEnds, caught_up_s, drain_s
from streamer.core.onlooker import View
from streamer.core.record import TopicPartition
from streamer.core.tally import duration
from streamer.ops.lag import LagWatch, Tokens
from streamer.telemetry.catalogue import METRICS
from tests.health_kit import report as report_of

ROOT = Path(__file__).parents[2]


class Cluster:
    """Offsets set by hand."""

    def __init__(self) -> None:
        self.settled: dict[TopicPartition, int] = {}
        self.end: dict[TopicPartition, int] = {("in", 0): 100, ("in", 1): 10}
        self.high: dict[TopicPartition, int] = {}
        self.start: dict[TopicPartition, int] = {("in", 0): 5, ("in", 1): 5}
        self.written_ms: dict[TopicPartition, int] = {("in", 0): 40_000, ("in", 1): 50_000}
        self.partitions = {"in": 2, "out": 2, "out.dlq": 2}

    def counts(self, topics: Iterable[str]) -> dict[str, int]:
        return {topic: self.partitions[topic] for topic in topics if topic in self.partitions}

    def views_of(self, asked: Sequence[tuple[str, Sequence[str], str]]) -> list[list[View]]:
        return [self._views() for _ in asked]

    def _views(self) -> list[View]:
        views = []
        for each, end in self.end.items():
            begin = self.settled.get(each, self.start[each])
            first_ms = self.written_ms.get(each) if begin < end else None
            high = self.high.get(each, end)
            views.append(View(each, 0, end, high, begin, self.settled.get(each), first_ms=first_ms, open_ms=45_000))
        return views


def watch(cluster: Cluster, tokens: Tokens | None = None) -> LagWatch:
    """A watch of one pipeline."""
    pipeline = PipelineConfig(
        task="t", model="builtin:null", input=["in"], output="out", dead_letter="out.dlq", group="g"
    )
    return LagWatch(Config(pipelines={"p": pipeline}), ["p"], cluster, tokens or Tokens())


def report(tokens: int, results: int, pipeline: str = "p") -> bytes:
    """A report as a pipeline writes it."""
    return msgspec.json.encode(
        report_of(0, pipeline=pipeline, results=results, dead_letters={"infer.exception": 1}, tokens=tokens)
    )


def test_behind_is_counted_from_what_is_settled() -> None:
    """Records and the first one's age by partition; the sum and the oldest for the pipeline."""
    cluster = Cluster()
    cluster.settled = {("in", 0): 90, ("in", 1): 8}
    (lag,) = watch(cluster).look(60.0)
    assert [(each.settled, each.records, each.seconds) for each in lag.partitions] == [(90, 10, 20.0), (8, 2, 10.0)]
    assert (lag.records, lag.seconds, lag.rate_in, lag.drain_s) == (12, 20.0, None, None)


def test_rates_come_with_the_second_look() -> None:
    """In by the ends, out by the settled offsets; drain without log_ends, caught up with them."""
    cluster = Cluster()
    cluster.settled = {("in", 0): 60, ("in", 1): 10}
    watching = watch(cluster)
    watching.look(60.0)
    cluster.settled[("in", 0)] = 80
    cluster.end[("in", 0)] = 110
    (lag,) = watching.look(62.0)
    assert (lag.rate_in, lag.rate_out, lag.records) == (5.0, 10.0, 30)
    assert (lag.drain_s, lag.caught_up_s) == (3.0, 6.0)
    assert trend(lag) == "30 behind: caught up in 6.0 s"


def test_transaction_markers_are_no_backlog() -> None:
    """A partition with offsets but no record after the settled one is caught up."""
    cluster = Cluster()
    cluster.settled = {("in", 0): 99, ("in", 1): 10}
    cluster.written_ms = {}
    (lag,) = watch(cluster).look(60.0)
    assert [(each.records, each.seconds, each.drain_s) for each in lag.partitions] == [(0, 0.0, 0.0)] * 2
    assert trend(lag) == "caught up"


def test_what_was_never_settled_counts_from_the_start() -> None:
    """A new group is behind by what it would read."""
    (lag,) = watch(Cluster()).look(60.0)
    assert [each.records for each in lag.partitions] == [95, 5]
    assert [each.settled for each in lag.partitions] == [None, None]


@pytest.mark.case(51)
def test_records_behind_an_open_transaction_are_never_caught_up_with() -> None:
    """All that was read before it is settled; what waits behind it counts, and its age is that of the transaction."""
    cluster = Cluster()
    cluster.settled = dict(cluster.end)
    cluster.high = {("in", 0): 130}
    (lag,) = watch(cluster).look(60.0)
    assert (lag.records, lag.seconds, lag.partitions[0].end) == (30, 15.0, 100)
    assert trend(lag) == "30 behind: stuck (open_transaction)"
    (told,) = described(lag)["standing"]
    assert (told["topic"], told["partition"], told["offset"]) == ("in", 0, 100)
    (lag,) = watch(cluster).look(46.0)  # a producer that is about to commit
    assert (lag.records, lag.standing, trend(lag)) == (30, [], "30 behind")


def test_topics_that_are_missing_or_too_small_are_named() -> None:
    """With lag that is told all the same; what we may not see is not held against anybody."""
    cluster = Cluster()
    cluster.partitions = {"in": 2, "out": 1}
    cluster.settled = dict(cluster.end)
    (lag,) = watch(cluster).look(60.0)
    assert [(each.partition, each.reason) for each in lag.standing] == [(("out", 1), "output_missing")]
    cluster.partitions = {"in": 0, "out": 0, "out.dlq": 2}
    (lag,) = watch(cluster).look(60.0)
    assert [(each.partition, each.reason) for each in lag.standing] == [
        (("in", -1), "input_missing"),
        (("out", -1), "output_missing"),
    ]
    assert trend(lag) == "0 behind: stuck (input_missing, output_missing)"


def test_a_record_without_a_timestamp_has_no_age() -> None:
    """Unknown is not zero."""
    cluster = Cluster()
    cluster.written_ms = {("in", 0): 0}
    (lag,) = watch(cluster).look(60.0)
    assert lag.partitions[0].seconds is None
    assert lag.partitions[0].records == 95


def test_tokens_behind_come_of_the_reports() -> None:
    """The mean over what reports settled, of this pipeline alone; garbage is passed over."""
    tokens = Tokens()
    for value in (report(190, 9), report(210, 9), report(9_000, 1, "q"), b"{", None):
        tokens.add(value)
    cluster = Cluster()
    cluster.settled = {("in", 0): 90, ("in", 1): 10}
    (lag,) = watch(cluster, tokens=tokens).look(60.0)
    assert (lag.tokens_per_record, lag.tokens) == (20.0, 200.0)
    assert described(lag)["tokens"] == 200.0


def test_the_table_holds_every_partition_and_the_sum() -> None:
    """What people see, rendered."""
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(watch(Cluster()).look(60.0)))
    shown = captured.get()
    assert all(word in shown for word in ("in/0", "in/1", "all", "100", "20.0 s"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0"), (0.25, "250 ms"), (1.5, "1.5 s"), (600.0, "10 min"), (7200.0, "2 h"), (3e6, "35 d"), (None, "?")],
)
def test_durations_read_well(seconds: float | None, text: str) -> None:
    """One number and one unit."""
    assert duration(seconds) == text


def test_drain_and_catching_up_differ_by_what_arrives() -> None:
    """Falling behind has a drain time but no end; nothing settled has neither."""
    assert (drain_s(100, 10.0), drain_s(100, 0.0), drain_s(0, 0.0)) == (10.0, None, 0.0)
    assert (caught_up_s(100, 5.0, 10.0), caught_up_s(100, 10.0, 10.0), caught_up_s(0, 9.0, 0.0)) == (20.0, None, 0.0)


def test_a_drivers_drain_time_follows_the_present_backlog() -> None:
    """Idle is 0; a burst is judged by its own pace and not by the lull before; a stall grows with its age."""
    drain = Drain()
    lull = [drain.look(float(second), second % 2, 2 * second, 0.1) for second in range(1, 100)]
    assert lull == [0.5, 0.0] * 49 + [0.5]
    assert drain.look(100.0, 10_000, 200, 0.5) == 0.5
    assert drain.look(101.0, 9_000, 1_200, 1.5) == pytest.approx(9.0, rel=0.1)
    assert drain.look(102.0, 8_000, 2_200, 2.5) == pytest.approx(8.0, rel=0.1)
    for second in range(103, 163):
        drain.look(float(second), 8_000, 2_200, second - 99.5)
    assert drain.look(163.0, 8_000, 2_200, 63.5) == 63.5


def test_how_long_records_have_been_there_is_known_without_their_timestamps() -> None:
    """By the ends that were heard of: ten a second arrive, one a second is settled; then all are."""
    log_ends, key = LogEnds(), ("in", 0)
    assert log_ends.waited_s(key, 7, 7, 0.0) == 0.0
    waited = [log_ends.waited_s(key, second, 10 * second, float(second)) for second in range(1, 3_601)]
    for second, seconds in enumerate(waited, 1):  # the record at offset 360 was there after 37 s
        truth = second - (second // 10 + 1)
        assert truth * 0.93 - 1 <= seconds <= truth
    assert len(log_ends._ends[key]) < 400
    assert log_ends.waited_s(key, 36_000, 36_000, 3_601.0) == 0.0
    assert log_ends.waited_s(key, 0, 3, 3_602.0) == 0.0  # the topic was recreated
    assert log_ends.waited_s(key, 0, 3, 3_612.0) == 10.0
    log_ends.keep(())
    assert log_ends.waited_s(key, 0, 3, 3_613.0) == 0.0


def test_keda_reads_what_streamer_serves() -> None:
    """The example of KEDA's own triggers names our group and our metric, and has the fields that they need."""
    (scaled,) = yaml.safe_load_all((ROOT / "deploy" / "keda" / "scaledobject.yaml").read_text())
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    triggers = {trigger["type"]: trigger for trigger in scaled["spec"]["triggers"]}
    kafka, prometheus = triggers["kafka"]["metadata"], triggers["prometheus"]
    assert {"bootstrapServers", "consumerGroup", "topic", "lagThreshold", "activationLagThreshold"} <= kafka.keys()
    assert kafka["consumerGroup"] == "streamer.sentiment"
    assert int(kafka["activationLagThreshold"]) >= scaled["spec"]["maxReplicaCount"]
    assert kafka["offsetResetPolicy"] == "latest"  # with earliest, deleted records of a new group are work
    assert prometheus["metricType"] == "Value"
    assert {"serverAddress", "query", "threshold"} <= prometheus["metadata"].keys()
    assert any(metric.name in prometheus["metadata"]["query"] for metric in METRICS)
    # KEDA refuses metadata that is not text.
    assert all(isinstance(value, str) for trigger in triggers.values() for value in trigger["metadata"].values())
