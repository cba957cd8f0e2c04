"""Encoding, in a thread of its own beside the forward passes.

What is encoded is announced portion by portion, as forward batches are: the driver then knows the suspects of a death,
and each portion has a lease. A portion takes about `PORTION_S`, so that announcing costs next to nothing. What is
encoded and not yet computed is bounded, since a short event may ask for a hundred times its size.
"""

from __future__ import annotations

import queue
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NoReturn, Protocol

import msgspec

from streamer.errors import Code, DataFailure, FailureClass
from streamer.inference.channel import Compute, Done, Encoding
from streamer.inference.model import Encoded, Model
from streamer.inference.worker.forwarder import Computation, OnError, WorkerFailureError, ignore

PORTION_S = 0.02
_FIRST_PORTION = 64
_LARGEST_PORTION = 8192
_PORTION_CHARACTERS = 1 << 20
_READY_TOKENS = 1 << 20

Emit = Callable[[Encoding | Done], object]


class Shelf(Protocol):
    """Where encoded computations wait: `worker.Pool`."""

    def full(self, tokens: int) -> bool:
        """Whether `put` would wait."""
        ...

    def put(self, computations: list[Computation], tokens: int) -> None:
        """Add computations; waits for room."""
        ...

    def put_suspects(self, suspects: Iterator[Computation]) -> None:
        """Add suspects, which are encoded as they are taken."""
        ...


class Encoder:
    """Turns work into computations. What fails here is answered at once."""

    def __init__(
        self, model: Model, emit: Emit, shelf: Shelf, max_text_bytes: int = 0, on_error: OnError = ignore
    ) -> None:
        self._model = model
        self._on_error = on_error
        self._emit = emit
        self._shelf = shelf
        self._max_text_bytes = max_text_bytes
        self._portion = _FIRST_PORTION

    def run(self, inbox: queue.SimpleQueue[Compute]) -> NoReturn:
        """Encode what comes. Raises `WorkerFailureError` when the worker must end."""
        while True:
            work = inbox.get()
            self.encode(work)
            if not work.alone and inbox.empty():
                self._emit(Encoding([]))

    def encode(self, work: Compute) -> None:
        """Encode this and put it on the shelf. Raises `WorkerFailureError` when the worker must end."""
        if work.alone:
            self._shelf.put_suspects(self._suspects(work))
        else:
            self._encode_all(work)

    def _encode_all(self, work: Compute) -> None:
        """All of it, sorted and cut together; or as much as may be ready at once."""
        ready: list[Computation] = []
        tokens = 0
        for first, last in self._portions(_characters(work)):
            part = _part(work, first, last)
            self._emit(Encoding(part.numbers))
            began = time.perf_counter()
            encoded = self._answer_failures(part, self._encoded(part))
            self._adapt(time.perf_counter() - began, last - first)
            ready += encoded
            tokens += sum([one.encoded.length * one.encoded.rows for one in encoded])
            if tokens >= _READY_TOKENS:
                self._hand_over(ready, tokens)
                ready, tokens = [], 0
        if ready:
            self._hand_over(ready, tokens)

    def _suspects(self, work: Compute) -> Iterator[Computation]:
        """One by one, by the thread that computes them: no two are under way at a time."""
        for index in range(len(work.numbers)):
            part = _part(work, index, index + 1)
            self._emit(Encoding(part.numbers))
            encoded = self._answer_failures(part, self._encoded(part))
            self._emit(Encoding([]))
            yield from encoded

    def _encoded(self, part: Compute) -> list[Encoded | DataFailure]:
        return encode_work(self._model, part, self._max_text_bytes, self._on_error)

    def _portions(self, characters: list[int]) -> Iterator[tuple[int, int]]:
        ends = list(accumulate(characters))
        first = 0
        while first < len(ends):
            before = ends[first - 1] if first else 0
            last = min(bisect_right(ends, before + _PORTION_CHARACTERS), first + self._portion)
            last = max(last, first + 1)
            yield first, last
            first = last

    def _adapt(self, seconds: float, texts: int) -> None:
        if seconds > 2 * PORTION_S:
            self._portion = max(_FIRST_PORTION // 4, self._portion // 2)
        elif seconds < PORTION_S / 2 and texts == self._portion:
            self._portion = min(_LARGEST_PORTION, self._portion * 2)

    def _hand_over(self, computations: list[Computation], tokens: int) -> None:
        if self._shelf.full(tokens):
            self._emit(Encoding([]))
        self._shelf.put(computations, tokens)

    def _answer_failures(self, work: Compute, encoded: list[Encoded | DataFailure]) -> list[Computation]:
        """Send what failed; returns the others."""
        pairs = list(zip(work.numbers, encoded, strict=True))
        failures = [(number, one) for number, one in pairs if type(one) is DataFailure]
        if failures:
            self._emit(
                Done(
                    numbers=[number for number, _ in failures],
                    outputs=[None] * len(failures),
                    tokens=[0] * len(failures),
                    truncated=[],
                    failures={index: failure for index, (_, failure) in enumerate(failures)},
                )
            )
        traces = work.traces
        return [Computation(number, one, traces) for number, one in pairs if type(one) is not DataFailure]  # type: ignore[arg-type]


def encode_work(
    model: Model, work: Compute, max_text_bytes: int, on_error: OnError = ignore
) -> list[Encoded | DataFailure]:
    """Encode all at once; when that raises, one by one, so that only the text at fault fails. Raises
    `WorkerFailureError` when there is no memory for one alone."""
    try:
        encoded = model.encode(work.texts, work.pairs, work.params)
    except BaseException as error:
        on_error(work.numbers, error)
        encoded = [_encode_one(model, _part(work, index, index + 1), on_error) for index in range(len(work.texts))]
    if max_text_bytes:
        for index, text in enumerate(work.texts):
            # A character has at most four bytes: most texts need no count.
            if len(text) * 4 > max_text_bytes and len(text.encode("utf-8", "surrogatepass")) > max_text_bytes:
                message = f"the text is larger than max_text_bytes ({max_text_bytes})"
                encoded[index] = DataFailure(Code.INFER_TOO_LONG, message)
    return encoded


def _encode_one(model: Model, work: Compute, on_error: OnError) -> Encoded | DataFailure:
    try:
        return model.encode(work.texts, work.pairs, work.params)[0]
    except MemoryError:
        message = "out of memory while a single text was encoded: give the worker more memory"
        raise WorkerFailureError(FailureClass.DEVICE, message, suspects=work.numbers) from None
    except BaseException as error:
        on_error(work.numbers, error)
        name = type(error).__name__
        return DataFailure(Code.INFER_EXCEPTION, f"the text could not be encoded ({name})", name)


def _part(work: Compute, first: int, last: int) -> Compute:
    part = slice(first, last)
    return Compute(
        work.numbers[part],
        work.texts[part],
        None if work.pairs is None else work.pairs[part],
        None if work.params is None else work.params[part],
        traces=work.traces,
    )


def _characters(work: Compute) -> list[int]:
    """About how many of each are to be read: params may ask for the text once more with each entry of a list."""
    sizes = list(map(len, work.texts))
    for index, pair in enumerate(work.pairs or ()):
        sizes[index] += len(pair or "")
    for index, params in enumerate(work.params or ()):
        if params:
            sizes[index] = (sizes[index] + len(msgspec.json.encode(params))) * _entries(params)
    return sizes


def _entries(params: dict[str, Any]) -> int:
    return max(1, sum(len(value) for value in params.values() if isinstance(value, list)))
