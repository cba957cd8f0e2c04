"""Benchmarks of whole pipelines on a Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamer.cli.bench.shown import on_kafka, progress, rounds
from streamer.cli.options import number
from streamer.extras import require

if TYPE_CHECKING:
    from streamer.bench.harness.bench import Bench
    from streamer.bench.harness.figures import Section

PARTS = ("null", "cache", "spans", "reports", "vectors", "minilm")
HEALTH = ("feedback", "rebuild")
PARTITIONS = 4
"""Of a backlog; a member without one has nothing to do."""
RECORDS = 300_000
RECORDS_OF_MEMBERS = 1_500_000
"""So that they share the backlog for long beside the seconds in which they join."""


@click.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Run only this part; may be repeated.")
@click.option(
    "--records",
    type=click.IntRange(1),
    help=f"How many events the backlog has. Default: {RECORDS:,}, and {RECORDS_OF_MEMBERS:,} with --members.",
)
@rounds(5)
@number("--texts", 8_000, "How many events the model gets.", min=64)
@click.option(
    "--raw-size",
    type=click.IntRange(0),
    default=0,
    help="How many records the raw loop takes at once. Default: the best of four.",
)
@click.option(
    "--members",
    type=click.IntRange(2, PARTITIONS),
    help="Compare so many members of the null pipeline with one instead.",
)
@on_kafka(redis=lambda given: "cache" in _parts(**given), minilm=lambda given: "minilm" in _parts(**given))
def throughput(
    place: Bench,
    only: tuple[str, ...],
    records: int | None,
    rounds: int,
    texts: int,
    raw_size: int,
    members: int | None,
) -> list[Section]:
    """Measure records a second over a backlog: against the raw loop, with cache, with tracing, without reports, with
    vectors (of a fifth of the records), and with a model."""
    from streamer.bench.minilm import minilm_throughput
    from streamer.bench.throughput import CACHE, NULL, SPANS, null_throughput, of_members, reports_throughput
    from streamer.bench.vectors import vector_throughput

    parts = _parts(only, members)
    records_of_members = records or RECORDS_OF_MEMBERS
    records = records or RECORDS
    cases = [
        case for part, some in (("null", NULL), ("cache", CACHE), ("spans", SPANS)) if part in parts for case in some
    ]
    sections = [null_throughput(place, cases, records, rounds, raw_size, progress)] if cases else []
    if "reports" in parts:
        sections.append(reports_throughput(place, records, rounds, progress))
    if "vectors" in parts:
        sections.append(vector_throughput(place, max(records // 5, 1), rounds, progress))
    if "minilm" in parts:
        sections.append(minilm_throughput(place, texts, rounds, progress))
    if members:
        sections.append(of_members(place, members, records_of_members, rounds, progress))
    return sections


def _parts(only: tuple[str, ...], members: int | None, **_: Any) -> tuple[str, ...]:
    return only or (() if members else PARTS)


@click.command()
@number("--events", 300, "How many single events each side gets.")
@number("--rate", 20.0, "How many events a second to send.", min=0, min_open=True)
@number("--seconds", 15.0, "How long to run at each load.")
@click.option(
    "--only",
    type=click.Choice(["null", "minilm", "load", "worker"]),
    multiple=True,
    help="Run only this; may be repeated.",
)
@on_kafka(minilm=lambda given: given["only"] != ("null",))
def latency(place: Bench, events: int, rate: float, seconds: float, only: tuple[str, ...]) -> list[Section]:
    """Measure milliseconds from producer to read_committed reader: single events, and with a model under load."""
    from streamer.bench.latency import single_events
    from streamer.bench.live import under_load, worker_under_load

    parts = only or ("null", "minilm", "load", "worker")
    sections = []
    if "null" in parts or "minilm" in parts:
        sections.append(single_events(place, events, rate, model="minilm" in parts, progress=progress))
    if "load" in parts:
        sections += under_load(place, seconds, progress)
    if "worker" in parts:
        sections.append(worker_under_load(seconds, progress))
    return sections


@click.command()
@click.option(
    "--model",
    "models",
    type=click.Choice(["builtin:null", "MiniLM"]),
    multiple=True,
    help="Which model to serve. Default: both.",
)
@rounds(what="How often to kill each.")
@on_kafka(minilm=lambda given: given["models"] != ("builtin:null",))
def restart(place: Bench, models: tuple[str, ...], rounds: int) -> list[Section]:
    """Measure the seconds from a restart after kill -9 to the first new result."""
    from streamer.bench.restart import MODELS, restarts

    return [restarts(place, list(models or MODELS), rounds, progress)]


@click.command()
@number("--records", 500_000, "How many events the backlog has.")
@number("--seconds", 40.0, "How long to watch each, at most.")
@on_kafka(redis=lambda _: True)
def memory(place: Bench, records: int, seconds: float) -> list[Section]:
    """Measure the driver's memory over a backlog: with a worker that can't keep up, and with the null model."""
    from streamer.bench.memory import driver_memory

    return [driver_memory(place, records, seconds, progress)]


@click.command()
@number("--records", 100_000, "How many events each backlog has.", min=100)
@rounds()
@on_kafka()
def poison(place: Bench, records: int, rounds: int) -> list[Section]:
    """Measure what it costs the other texts when 1 % make the model raise."""
    from streamer.bench.poison import poison_cost

    return [poison_cost(place, records, rounds, progress)]


@click.command()
@number("--records", 1_000_000, "How many dead letters to list.", min=100)
@rounds()
@on_kafka()
def dlq(place: Bench, records: int, rounds: int) -> list[Section]:
    """Measure how many dead letters a second `dlq list` filters, against the shortest such loop, and its memory."""
    from streamer.bench.dlq import dead_letter_listing

    return [dead_letter_listing(place, records, rounds, progress)]


@click.command()
@click.option("--only", type=click.Choice(HEALTH), multiple=True, help="Only this part; may be repeated.")
@number("--results", 200_000, "Results to begin with.")
@number("--results-per-s", 20_000.0, "Written meanwhile.")
@number("--labels", 5_000, "Written at once, first.")
@number("--labels-per-s", 500.0, "Written after that.")
@number("--seconds", 8.0, "For how long.")
@number("--reports", 7_200, "Of each pipeline, to sum at a start.")
@number("--pipelines", 2, "That wrote those reports.")
@on_kafka()
def health(
    place: Bench,
    only: tuple[str, ...],
    results: int,
    results_per_s: float,
    labels: int,
    labels_per_s: float,
    seconds: float,
    reports: int,
    pipelines: int,
) -> list[Section]:
    """Measure how fast the health app joins feedback with results, how soon a label counts, and its memory; and how
    long a start takes that sums two hours of reports again."""
    require("this benchmark", "health")
    from streamer.bench.health import feedback_speed
    from streamer.bench.rebuild import rebuild

    parts, sections = only or HEALTH, []
    if "feedback" in parts:
        sections.append(feedback_speed(place, results, results_per_s, labels, labels_per_s, seconds, progress))
    if "rebuild" in parts:
        sections.append(rebuild(place, reports, pipelines, progress))
    return sections
