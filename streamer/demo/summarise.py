"""Folds what the demo saw into its summary."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.core.health.quality.quality import Quality
from streamer.demo.health import clear_labels, health_of, quality
from streamer.demo.script import Item
from streamer.demo.summary import (
    Accuracy,
    Example,
    Latency,
    PipelineSummary,
    PoisonSummary,
    Repeats,
    Sizes,
    Spans,
    Summary,
    Throughput,
)
from streamer.demo.watch import CLEAR_SCORE, Outcome, Place, Result, Seen, Watch, decode_output

SKIPPED = "skipped"
RESULT = "result"
_NOTHING = "nothing"
_TOMBSTONE = "tombstone"
# Nearer ones say the same in other punctuation, which shows little.
_NEAREST_SHOWN = 0.8


def summarise(watch: Watch, spans: Sequence[dict[str, Any]], exit_code: int, seconds: dict[str, float]) -> Summary:
    """Fold what was seen. `spans` are as `streamer tail` decodes them, `exit_code` that of `streamer run`."""
    poison = [
        PoisonSummary(
            item.poison.name,
            item.poison.why,
            item.poison.expect,
            {name: _got(seen, place, item) for name, seen in watch.seen.items()},
        )
        for place, item in _in_order(watch)
        if item.poison is not None
    ]
    pipelines = {name: _pipeline(watch, name, spans) for name in watch.seen}
    problems = [] if exit_code == 0 else [f"`streamer run` ended with exit code {exit_code}"]
    if len(watch.inputs) != len(watch.script.items):
        problems.append(f"{len(watch.inputs)} records in the input, {len(watch.script.items)} were sent")
    for name, pipeline in pipelines.items():
        for count, what in (
            (pipeline.lost, "inputs without an outcome"),
            (pipeline.duplicate, "inputs with more than one outcome"),
            (pipeline.foreign, "outcomes of no input"),
            (watch.script.events - pipeline.results, "events without a result"),
        ):
            if count:
                problems.append(f"{name}: {count} {what}")
    problems += [
        f"{one.name} got {', '.join(one.got.values())} instead of {one.expected}"
        for one in poison
        if not one.as_expected
    ]
    return Summary(
        ok=not problems,
        problems=problems,
        events=watch.script.events,
        poison=poison,
        pipelines=pipelines,
        capacity_per_s=watch.course.capacity_per_s,
        spans=_spans(watch.config.telemetry.spans, spans),
        seconds=seconds,
        cores=os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 1),
    )


def _in_order(watch: Watch) -> list[tuple[Place, Item]]:
    """The inputs as they were sent."""
    number = {item.value: index for index, item in enumerate(watch.script.items)}
    return sorted(watch.inputs.items(), key=lambda entry: number[entry[1].value])


def _got(seen: Seen, place: Place, item: Item) -> str:
    """What came of a poison record: a code, "result", "skipped", or "nothing"."""
    outcomes = seen.outcomes.get(place, [])
    if not outcomes:
        return SKIPPED if item.value is None and seen.skipped[_TOMBSTONE] else _NOTHING
    return " and ".join(outcome.code or RESULT for outcome in outcomes)


def _pipeline(watch: Watch, name: str, spans: Sequence[dict[str, Any]]) -> PipelineSummary:
    seen, config = watch.seen[name], watch.config.pipelines[name]
    inputs = _in_order(watch)
    results = [(item, outcome.result) for item, outcome in _first(seen, inputs) if outcome.result is not None]
    model = results[0][1].model
    without = sum(place not in seen.outcomes for place in watch.inputs)
    batches = [
        int(count)
        for span in spans
        if span["attributes"].get("streamer.pipeline") == name
        and (count := span["attributes"].get("messaging.batch.message_count"))
    ]
    held = quality(clear_labels(result for _, result in results)) if config.task == "text-classification" else None
    return PipelineSummary(
        task=config.task,
        model=model.name,
        revision=model.revision,
        results=seen.results,
        dead_letters=dict(
            Counter(outcome.code for outcomes in seen.outcomes.values() for outcome in outcomes if outcome.code)
        ),
        skipped=dict(seen.skipped),
        lost=max(0, without - seen.skipped.total()),
        duplicate=sum(len(outcomes) > 1 for outcomes in seen.outcomes.values()),
        foreign=sum(place not in watch.inputs for place in seen.outcomes),
        repeats=_repeats(results),
        latency=_latency(watch, seen, inputs),
        throughput=_throughput(watch, seen, inputs),
        micro_batches=_sizes(batches) if batches else None,
        settles=_sizes(seen.settles),
        example=_classified(results) if held is not None else _embedded(results),
        accuracy=_accuracy(held) if held is not None else None,
        health=health_of(watch, seen, results, held) if held is not None else None,
    )


def _first(seen: Seen, inputs: Iterable[tuple[Place, Item]]) -> list[tuple[Item, Outcome]]:
    """Each input with its first outcome, where it has one."""
    return [(item, seen.outcomes[place][0]) for place, item in inputs if place in seen.outcomes]


def _repeats(results: list[tuple[Item, Result]]) -> Repeats:
    first: dict[str, bytes] = {}
    cached = together = different = 0
    for item, result in results:
        output = bytes(result.output)
        before = first.setdefault(_text(item), output)
        if before is not output:
            cached += result.cached
            together += not result.cached
            different += before != output
    return Repeats(cached + together, cached, together, different)


def _latency(watch: Watch, seen: Seen, inputs: list[tuple[Place, Item]]) -> Latency:
    live = inputs[watch.course.live.start : watch.course.live.stop]
    taken = sorted(
        outcome.seen_ms - outcome.result.source.timestamp_ms
        for _, outcome in _first(seen, live)
        if outcome.result is not None
    )
    p50_ms, p99_ms = (round(taken[int(share * (len(taken) - 1))], 1) for share in (0.5, 0.99))
    return Latency(len(live), watch.course.live_per_s, p50_ms, p99_ms, round(taken[-1], 1))


def _throughput(watch: Watch, seen: Seen, inputs: list[tuple[Place, Item]]) -> Throughput:
    burst = inputs[watch.course.burst.start : watch.course.burst.stop]
    end_ms = max(outcome.seen_ms for _, outcome in _first(seen, burst))
    return Throughput(len(burst), round(len(burst) * 1000 / max(end_ms - watch.burst_at_ms, 1.0), 1))


def _spans(topic: str, spans: Sequence[dict[str, Any]]) -> Spans | None:
    records = sum("streamer.outcome" in span["attributes"] for span in spans)
    batches = sum("messaging.batch.message_count" in span["attributes"] for span in spans)
    return Spans(topic, batches, records) if spans else None


def _sizes(sizes: Sequence[int]) -> Sizes:
    ordered = sorted(sizes)
    return Sizes(len(ordered), ordered[len(ordered) // 2], ordered[-1])


def _accuracy(held: Quality) -> Accuracy:
    share = held.confusion.accuracy if held.confusion is not None else 0.0
    return Accuracy(CLEAR_SCORE, held.answered, round(share, 4))


def _classified(results: list[tuple[Item, Result]]) -> Example:
    """The first event whose sentiment people found clear."""
    item, result = next(
        (each for each in results if each[1].metadata and abs(each[1].metadata.human_score) >= 2), results[0]
    )
    human = {"human_score": result.metadata.human_score} if result.metadata else {}
    return Example(_text(item), {**decode_output(result), **human})


def _embedded(results: list[tuple[Item, Result]]) -> Example:
    """A text and the one that is nearest to it: of all such pairs the nearest that is not nearly the same text."""
    outputs = {_text(item): decode_output(result) for item, result in results}
    texts = list(outputs)
    vectors = np.array([output["vector"] for output in outputs.values()], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.max(axis=1)
    one = int(np.where(nearest <= _NEAREST_SHOWN, nearest, -1).argmax())
    other = int(cosines[one].argmax())
    return Example(
        texts[one],
        {
            "dimensions": outputs[texts[one]]["dimensions"],
            "vector": outputs[texts[one]]["vector"][:4],
            "nearest": texts[other],
            "cosine": round(float(cosines[one, other]), 3),
        },
    )


def _text(item: Item) -> str:
    text: str = msgspec.json.decode(item.value or b"")["text"]
    return text
