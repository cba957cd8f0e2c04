"""Throughput with a model: MiniLM through Kafka, the same worker fed in bulk, and the loop that people write."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial

from streamer.bench.bulk import MINILM, MINILM_TASK, BulkWorker, planned_threads
from streamer.bench.harness.bench import PIPELINE, Bench, Setup
from streamer.bench.harness.figures import Section, Target, compared, fast_bfloat16, interleaved
from streamer.bench.harness.program import Program
from streamer.bench.harness.workload import Workload
from streamer.inference.models.reference import Located, resolve
from streamer.kafka.clients import reader_properties, writer_properties

WRITTEN_BATCH = 32
WRITTEN_SHARE = 8  # the loop that people write is slower: it gets an eighth of the texts
THROUGH_KAFKA = Target(at_least=0.85)
FAST = Target(at_least=5.0)
PLAIN = Target(at_least=2.5)


def minilm_throughput(bench: Bench, records: int, rounds: int, progress: Callable[[str], None]) -> Section:
    """Texts a second, three ways, interleaved."""
    workload = Workload(records)
    texts = list(workload.texts())
    backlog = bench.setup().input
    bench.fill(backlog, workload.events())
    threads = planned_threads()
    runs: dict[str, Callable[[], float]] = {
        "MiniLM: streamer": partial(_ours, bench, backlog, records),
        "MiniLM: in bulk": partial(_in_bulk, texts),
    }
    installed = has_written_loop()
    if installed:
        fewer = max(1, records // WRITTEN_SHARE // WRITTEN_BATCH) * WRITTEN_BATCH
        runs["MiniLM: written loop"] = partial(written_rate, bench, backlog, fewer, threads)
    ours, bulk, *written = interleaved(rounds, runs, progress).values()
    bench.delete(backlog)
    names = "streamer texts/s", "other texts/s"
    figures = [compared("against the worker in bulk", ours, bulk, names, THROUGH_KAFKA)]
    if written:
        target = FAST if fast_bfloat16() else PLAIN
        figures.append(compared("against the written loop", ours, written[0], names, target))
    notes = [
        f"{records:,} texts of 24 tokens in the mean, {threads} thread(s); median ratio of {rounds} interleaved rounds",
        "worker in bulk: the same worker process, given all texts at once, results thrown away",
        "written loop: consume 32, sentence-transformers in fp32, produce, no transaction"
        if installed
        else "written loop: not measured, since sentence-transformers is not installed",
    ]
    return Section("MiniLM embeddings through Kafka, exactly once", figures, notes)


def _ours(bench: Bench, backlog: str, records: int) -> float:
    setup = bench.setup(input_topic=backlog, pipeline={"task": MINILM_TASK, "model": MINILM})
    return bench.measure(setup, bench.start(setup, "--until-end"), records).records_per_s


def _in_bulk(texts: Sequence[str]) -> float:
    with BulkWorker() as worker:
        return worker.run(texts).texts_per_s


def has_written_loop() -> bool:
    """Whether the loop that people write can be measured here."""
    return importlib.util.find_spec("sentence_transformers") is not None


def written_rate(bench: Bench, backlog: str, records: int, threads: int) -> float:
    """Texts a second of that loop over the first `records` of a backlog, a multiple of its batches."""
    setup = bench.setup(input_topic=backlog)
    return bench.measure(setup, start_written(bench, setup, threads, records), records).records_per_s


def start_written(bench: Bench, setup: Setup, threads: int, records: int = sys.maxsize) -> Program:
    """Start that loop; it ends after `records`."""
    model = resolve(MINILM)
    assert isinstance(model, Located)
    group = setup.config.pipelines[PIPELINE].group
    settings = {
        "consumer": {**reader_properties(bench.kafka), "group.id": group, "enable.auto.commit": True},
        "producer": writer_properties(bench.kafka),
        "source": setup.input,
        "target": setup.output,
        "path": str(model.path),
        "threads": threads,
        "batch_records": WRITTEN_BATCH,
        "records": records,
    }
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    return bench.start_loop(setup, "encode_loop", settings, environment)
