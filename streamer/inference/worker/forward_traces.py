"""What a worker tells of its forward batches for their spans, and the place of the spans that a model's own code makes:
below that of the forward batch."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from streamer.core.pipeline.pass_spans import CodeSpans, Forwarded
from streamer.inference.spec import WorkerSpec
from streamer.inference.worker.trouble import place_of

if TYPE_CHECKING:
    from streamer.inference.worker.code_spans import CodeTracing

_API = "opentelemetry.trace"
_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class OfMicroBatches(Protocol):
    """A computation, which the records of some micro-batches wait for."""

    @property
    def traces(self) -> Sequence[bytes]: ...


class Opened(msgspec.Struct, gc=False):
    """A forward batch under way. `traces` are those of the micro-batches that it serves, the first one its parent."""

    traces: list[bytes]
    span_id: bytes
    records: int
    start_ns: int
    token: object = None


class ForwardTraces:
    """Notes forward batches whose micro-batches are sampled. Where the model's code has imported OpenTelemetry
    (`own_code`), each of them is the current span of that code meanwhile."""

    def __init__(self, spec: WorkerSpec | None = None, *, own_code: bool = False) -> None:
        self._spec = spec
        self._own_code = own_code and spec is not None and spec.traced
        self._code: CodeTracing | None = None
        self._done: list[Forwarded] = []

    def begin(self, batch: Sequence[OfMicroBatches]) -> Opened | None:
        """A forward batch is about to run. The first of its computations says whether it is sampled."""
        if self._own_code and _API in sys.modules:
            self._own_code = False
            self._guarded(self._trace_code)
        if not batch[0].traces:
            if self._code is None:
                return None
            return Opened([], bytes(8), 0, 0, self._guarded(partial(self._code.attach, b"", b"")))
        distinct = list(dict.fromkeys([trace for computation in batch for trace in computation.traces if trace]))
        opened = Opened(distinct, os.urandom(8), len(batch), time.time_ns())
        if self._code is not None:
            opened.token = self._guarded(partial(self._code.attach, distinct[0][:16], opened.span_id))
        return opened

    def end(self, opened: Opened | None, tokens: int, output_tokens: int = 0, error: str = "") -> None:
        """It ended; `error` is the class of the exception that it raised."""
        if opened is None:
            return
        if self._code is not None and opened.token is not None:
            self._guarded(partial(self._code.detach, opened.token))
        if opened.traces:
            self._note(opened, tokens, output_tokens, error)

    def streamed(self, computation: OfMicroBatches, seconds: float, tokens: int, output_tokens: int) -> None:
        """One that streamed, beside others that come and go, ended after so many seconds."""
        if computation.traces:
            start_ns = time.time_ns() - int(seconds * 1e9)
            opened = Opened([trace for trace in computation.traces if trace], os.urandom(8), 1, start_ns)
            self._note(opened, tokens, output_tokens)

    def _note(self, opened: Opened, tokens: int, output_tokens: int, error: str = "") -> None:
        parent, *links = opened.traces
        end_ns = time.time_ns()
        one = (parent, opened.span_id, links, opened.start_ns, end_ns, opened.records, tokens, output_tokens, error)
        self._done.append(Forwarded(*one))

    def take(self) -> tuple[list[Forwarded], list[CodeSpans]]:
        """What ended since the last call, and the spans of the model's code."""
        done, self._done = self._done, []
        code_spans: list[CodeSpans] = []
        if self._code is not None:
            code_spans = self._guarded(self._code.take) or []
        return done, code_spans

    def _guarded(self, call: Callable[[], _Result]) -> _Result | None:
        """Telemetry never fails the job, whatever the class has done to OpenTelemetry."""
        try:
            return call()
        except Exception as error:
            self._code = None
            name, place = type(error).__name__, place_of(error)
            log.warning("spans of the model's code are recorded no more, after %s at %s", name, place)
            return None

    def _trace_code(self) -> None:
        assert self._spec is not None
        from streamer.inference.worker.code_spans import tracing

        self._code = tracing(self._spec.resource)
