"""What the demo found: figures, and the checks that decide its exit code."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.demo.health import Health, health_of
from streamer.demo.script import Item
from streamer.demo.watch import CLEAR_SCORE, Outcome, Place, Result, Seen, Watch, decode_output

SKIPPED = "skipped"
RESULT = "result"
_NOTHING = "nothing"
_TOMBSTONE = "tombstone"
# Nearer ones say the same in other punctuation, which shows little.
_NEAREST_SHOWN = 0.8


class Latency(msgspec.Struct, frozen=True):
    """From a record's timestamp until a subscriber had its outcome, in ms, over `records` of live traffic."""

    records: int
    per_s: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Throughput(msgspec.Struct, frozen=True):
    """Records a second from when `records` were sent at once until a subscriber had the last of their outcomes."""

    records: int
    per_s: float


class Repeats(msgspec.Struct, frozen=True):
    """Events whose text came before: answered by the cache, or together with the first while that was computed.

    `different` counts those whose answer is not byte for byte the first's: such a text was computed twice.
    """

    events: int
    cached: int
    together: int
    different: int


class Sizes(msgspec.Struct, frozen=True):
    """How many of something there were, and how many records it held."""

    count: int
    median: int
    largest: int


class Accuracy(msgspec.Struct, frozen=True):
    """The share of events whose label is the sign of a human score that is at least `score` either way."""

    score: float
    events: int
    share: float


class Example(msgspec.Struct, frozen=True):
    """An event's text and what the model says of it."""

    text: str
    output: dict[str, Any]


class Spans(msgspec.Struct, frozen=True):
    """Spans that were read from `topic`: one for each micro-batch, and one for each record that came with a sampled
    trace."""

    topic: str
    micro_batches: int
    records: int


class PipelineSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One pipeline. `lost`, `duplicate` and `foreign` count inputs without outcome, with several, and outcomes of
    inputs that there are not; `micro_batches` is None where no spans were written."""

    task: str
    model: str
    revision: str
    results: int
    dead_letters: dict[str, int]
    skipped: dict[str, int]
    lost: int
    duplicate: int
    foreign: int
    repeats: Repeats
    latency: Latency
    throughput: Throughput
    micro_batches: Sizes | None
    settles: Sizes
    example: Example
    accuracy: Accuracy | None = None
    health: Health | None = None


class PoisonSummary(msgspec.Struct, frozen=True):
    """A poison record: the code it must get, and what it got in each pipeline."""

    name: str
    why: str
    expected: str
    got: dict[str, str]

    @property
    def as_expected(self) -> bool:
        """Whether every pipeline judged as it should."""
        return all(got == self.expected for got in self.got.values())


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole demo; `problems` is empty when all checks hold. `load` is the machine's over the last minute, the
    demo's own included. `capacity_per_s` is how many records a second both pipelines together answered while no more
    were under way than in live traffic, which came at half of that. `spans` is None where none were written."""

    ok: bool
    problems: list[str]
    events: int
    poison: list[PoisonSummary]
    pipelines: dict[str, PipelineSummary]
    capacity_per_s: float
    spans: Spans | None
    seconds: dict[str, float]
    cores: int
    load: float


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
    classifies = config.task == "text-classification"
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
        example=_classified(results) if classifies else _embedded(results),
        accuracy=_accuracy([result for _, result in results]) if classifies else None,
        health=health_of(watch, seen, results) if classifies else None,
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


def _accuracy(results: Sequence[Result]) -> Accuracy:
    clear = [
        (result.metadata.human_score, decode_output(result)["label"])
        for result in results
        if result.metadata is not None and abs(result.metadata.human_score) >= CLEAR_SCORE
    ]
    right = sum(label == ("positive" if score > 0 else "negative") for score, label in clear)
    return Accuracy(CLEAR_SCORE, len(clear), round(right / max(1, len(clear)), 4))


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
