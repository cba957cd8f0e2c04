"""Recorded passes of a packed encoder: a GPU replays one with a single launch, where each pass otherwise takes a
hundred or more from Python.

A recording reads what lies in its own buffers and writes to its own, at every replay. So a pass is copied in with its
padding, and what it gives must be copied out before the next one. Whatever fails here, passes go on without
recordings. Not yet run on a GPU; a recorder that keeps the same contract stands for it in the tests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from streamer.inference.backends.copies import to_device
from streamer.inference.backends.graph_buckets import KeptGraphs, PassBucket, bucket_of, padding_of
from streamer.inference.worker.trouble import place_of

log = logging.getLogger(__name__)

Encode = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, int], Any]
"""The encoder's output, given ids, positions, types (tokens,), the sequences' bounds, and the longest of them."""

MOST_RECORDINGS: Final = 64
_MOST_BYTES: Final = 2 << 30
_AFTER: Final = 3
_WARM_UPS: Final = 2
_GIVEN: Final = {"last_hidden_state", "pooler_output"}
# Of hidden states, between a recorded pass and the same one as it is: other shapes may take other kernels.
_CLOSE: Final = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class Recorder(Protocol):
    """Records what a function does on the device."""

    def record(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None], int]:
        """The tensor that `run` gave, which every call of the second overwrites as `run` would with what its inputs
        hold by then, and the bytes that this took. The tensor holds nothing before the first call."""
        ...

    def forget(self) -> None:
        """All that was recorded is gone."""
        ...


class CudaRecorder:
    """CUDA's graphs, which share their memory: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def record(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None], int]:
        """See `Recorder`."""
        with torch.cuda.device(self._device):
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(aside):  # kernels are chosen and libraries set up by what is not recorded
                for _ in range(_WARM_UPS):
                    run()
            torch.cuda.current_stream(self._device).wait_stream(aside)
            torch.cuda.empty_cache()  # what the graph takes is what is reserved anew
            before = torch.cuda.memory_reserved(self._device)
            graph = torch.cuda.CUDAGraph()
            # Other threads may allocate meanwhile; nothing of theirs is recorded.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                given = run()
            return given, graph.replay, max(0, torch.cuda.memory_reserved(self._device) - before)

    def forget(self) -> None:
        """See `Recorder`."""
        self._pool = None


@dataclass(frozen=True, slots=True)
class _Recording:
    """`ids`, `positions` and `types` (tokens,), `bounds` (sequences + 1), `hidden` (tokens, d): its own buffers."""

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor | None
    bounds: torch.Tensor
    hidden: torch.Tensor
    replay: Callable[[], None]


class Graphs:
    """The recordings of one encoder, on one device."""

    def __init__(self, encode: Encode, recorder: Recorder) -> None:
        self.kept: KeptGraphs[_Recording] = KeptGraphs(MOST_RECORDINGS, _MOST_BYTES, _AFTER)
        self.failed = ""
        """Why there are no recordings any more."""
        self.replayed = 0
        """How many passes were replayed."""
        self.kind: Any = None
        """The class of the encoder's output, once one was recorded."""
        self.pools = False
        """Whether that has a pooled one."""
        self.encode = encode
        self._recorder = recorder

    def run(
        self,
        bounds: npt.NDArray[np.int32],
        longest: int,
        ids: torch.Tensor,
        positions: torch.Tensor,
        types: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """The hidden states (tokens, d) of a packed pass, None where it is to be run as it is. `bounds` are those of
        its sequences; ids, positions and types (tokens,) lie on the device. The next call overwrites what this gave."""
        tokens, sequences = len(ids), len(bounds) - 1
        bucket = None if self.failed else bucket_of(tokens, sequences, longest)
        if bucket is None:
            return None
        key = bucket, types is not None
        recording = self.kept.find(key)
        if recording is None and not self.kept.wants(key):
            return None
        try:
            ends = tokens + np.cumsum(padding_of(bucket, tokens, sequences))
            filled = to_device(np.concatenate([bounds, ends]).astype(np.int32), ids.device)
            if recording is None:
                recording = self._record(key, bucket, filled, [ids, positions, types])
            else:
                recording.bounds.copy_(filled)
                for own, given in zip(_inputs(recording), (ids, positions, types), strict=True):
                    if own is not None and given is not None:
                        _lay(own, given)
            recording.replay()
            self.replayed += 1
            return recording.hidden[:tokens]
        except Exception as error:  # of CUDA, and of networks that do on the way what can't be recorded
            log.debug("a pass could not be replayed", exc_info=True)
            self.give_up(f"{type(error).__name__} at {place_of(error)}")
            return None

    def give_up(self, reason: str) -> None:
        """From now on every pass runs as it is."""
        log.warning("passes run without CUDA graphs from now on: %s", reason)
        self.failed = reason
        self.clear()

    def clear(self) -> None:
        """Let all recordings go, and their memory."""
        self.kept.clear()
        self._recorder.forget()

    def _record(
        self, key: object, bucket: PassBucket, bounds: torch.Tensor, given: Sequence[torch.Tensor | None]
    ) -> _Recording:
        self.kept.make_room()
        buffers = [None if one is None else _lay(one.new_empty(bucket.tokens), one) for one in given]
        ids, positions, types = buffers
        assert ids is not None
        assert positions is not None
        bounds = bounds.clone()

        def run() -> torch.Tensor:
            output = self.encode(ids, positions, types, bounds, bucket.longest)
            if not output.keys() <= _GIVEN:
                raise NotImplementedError("an encoder that gives more than hidden states")
            self.kind, self.pools = type(output), "pooler_output" in output
            hidden: torch.Tensor = output.last_hidden_state[0]
            return hidden

        hidden, replay, made_bytes = self._recorder.record(run)
        recording = _Recording(ids, positions, types, bounds, hidden, replay)
        self.kept.put(key, recording, made_bytes)
        return recording


def differs(
    graphs: Graphs, vocabulary: int, longest: int, *, numbered_from: int, typed: bool, device: torch.device
) -> str:
    """How recorded passes of random tokens differ from the same ones as they are, in words; "" where they do not.
    Passes share recordings, so that what one leaves in a buffer shows in the next; one is the longest that there is."""
    draw = np.random.default_rng(0)
    middle = max(1, longest // 3)
    for lengths in ([longest], [middle, 1, 3], [3, middle, 2], [1, 1], [longest, 1], [2] * 9, [1] * 11):
        count = sum(lengths)
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        places = np.arange(count) - np.repeat(bounds[:-1], lengths) + numbered_from
        ids = to_device(draw.integers(0, vocabulary, count), device)
        positions = to_device(places.astype(np.int64), device)
        types = torch.zeros_like(ids) if typed else None
        own = graphs.run(bounds, max(lengths), ids, positions, types)
        if own is None:
            if graphs.failed:
                return graphs.failed
            continue
        own = own.float()
        plain = graphs.encode(ids, positions, types, to_device(bounds, device), max(lengths)).last_hidden_state[0]
        allowed = _CLOSE.get(plain.dtype, 0.0)
        plain = plain.float()
        off = float(((own - plain).norm(dim=-1) / plain.norm(dim=-1).clamp_min(1e-6)).max())
        if not off <= allowed:  # NaN is more
            return f"a recorded pass is {off:.3g} away from the same pass as it is"
    return ""


def _inputs(recording: _Recording) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    return recording.ids, recording.positions, recording.types


def _lay(buffer: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Copy a pass in. What pads it is 0 throughout: a token, a position and a type that every network has."""
    buffer[: len(values)].copy_(values)
    buffer[len(values) :].zero_()
    return buffer
