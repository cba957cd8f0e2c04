"""Whether a family of tasks answers on the device as it does on the CPU in float32, each text alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from streamer.bench.device.models import KINDS, Event, make
from streamer.bench.device.report import Report
from streamer.bench.device.steps import Settings
from streamer.errors import DataFailure
from streamer.inference.channel import Done, Holding, Started
from streamer.inference.generation.generator import Generator, StreamingModel
from streamer.inference.model import Encoded, Model
from streamer.inference.spec import DType, WorkerSpec
from streamer.inference.worker.forwarder import Computation, Forwarder
from streamer.inference.worker.worker import Pool

SAME = 2e-3
"""In float32: of a number, and of its part where it is above 1."""
ALIKE = 0.25
"""In a lower precision, which each model is held to at load: what is beyond this is no rounding."""
_PRECISIONS: tuple[DType, ...] = ("float32", "auto")


def compare(settings: Settings, report: Report, family: str) -> None:
    """In float32, where every word must be the same, and in the precision that the device would get."""
    from streamer.inference.tasks.families import load

    kind = KINDS[family]
    path = make(kind, settings.folder / family.replace(" ", "-"))
    plain = WorkerSpec(
        "device", kind.task, str(path), dtype="float32", backend="torch", device="cpu", options=dict(kind.options)
    )
    model = load(plain)
    expected = [answers(model, [event])[0] for event in kind.events]
    close(model)
    for dtype in _PRECISIONS:
        model = load(replaced(plain, settings.device, dtype))
        report.say(f"{dtype}: runs", how(model))
        found = answers(model, kind.events)
        close(model)
        far, same = distance(expected, found)
        report.figure(f"{dtype}: largest difference of a number", far)
        report.figure(f"{dtype}: words that are the same", same)
        if failures := [one for one in found if not isinstance(one, dict)]:
            report.wrong(f"in {dtype} {len(failures)} of {len(found)} events failed, the first with {failures[0]}")
        if dtype == "float32" and (same < 1 or not far <= SAME):
            report.wrong(f"in float32 {same:.1%} of the words are the same, and a number is {far:.3g} away")
        elif not far <= ALIKE:
            report.wrong(f"in {model.card.dtype} a number is {far:.3g} away")


def replaced(spec: WorkerSpec, device: str, dtype: DType) -> WorkerSpec:
    """The same on the device."""
    import msgspec

    return msgspec.structs.replace(spec, device=device, dtype=dtype)


def how(model: Model) -> str:
    """The way that was found at load."""
    packed: Any = getattr(model, "_packed", None)
    words = [model.card.device, model.card.dtype, model.card.backend]
    words += ["packed"] if packed is not None else []
    words += ["CUDA graphs"] if getattr(packed, "graphs", None) is not None else []
    if isinstance(model, StreamingModel):
        words += ["continuous batching" if getattr(model, "_streams", None) is not None else "plain generation"]
    return ", ".join(words)


def close(model: Model) -> None:
    """End its threads, where it has some."""
    end: Any = getattr(model, "close", None)
    if end is not None:
        end()


def answers(model: Model, events: Sequence[Event]) -> list[Any]:
    """Each event's output, as a worker computes them together; its failure's words where it has one."""
    texts, pairs, params = ([event[column] for event in events] for column in range(3))
    encoded = model.encode(texts, pairs if any(pairs) else None, params)  # type: ignore[arg-type]
    found: dict[int, Any] = {number: str(one) for number, one in enumerate(encoded) if isinstance(one, DataFailure)}
    ready = [Computation(number, one) for number, one in enumerate(encoded) if isinstance(one, Encoded)]
    pool = Pool()

    def emit(message: Started | Done | Holding) -> None:
        if isinstance(message, Done):
            for index, (number, output) in enumerate(zip(message.numbers, message.outputs, strict=True)):
                found[number] = str(message.failures[index]) if output is None else json.loads(output)
        if len(found) == len(events):
            pool.stop()

    if isinstance(model, StreamingModel) and ready:
        pool.put(ready, tokens=0)
        Generator(model, emit, pool).run()
    elif ready:
        Forwarder(model, emit).run(ready)
    return [found[number] for number in range(len(events))]


def distance(expected: object, found: object) -> tuple[float, float]:
    """The largest difference of two numbers at one place, and the share of all else that is the same."""
    pairs = list(_leaves(expected, found))
    numbers = [(one, other) for one, other in pairs if isinstance(one, float) and isinstance(other, float)]
    offs = [abs(one - other) / max(1.0, abs(one)) for one, other in numbers]
    far = max(offs, key=lambda off: (math.isnan(off), off), default=0.0)
    words = [one == other for one, other in pairs if not (isinstance(one, float) and isinstance(other, float))]
    return far, sum(words) / len(words) if words else 1.0


def _leaves(one: object, other: object) -> Iterator[tuple[object, object]]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name in one:
            yield from _leaves(one[name], other[name])
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for own, given in zip(one, other, strict=True):
            yield from _leaves(own, given)
    else:
        yield one, other
