"""Frames between driver and worker: four bytes of length, big-endian, then one tagged struct in msgpack."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

from streamer.core.pipeline.pass_spans import CodeSpans, Forwarded
from streamer.core.pipeline.protocol import ModelCard
from streamer.errors import DataFailure, ExitCode, FailureClass
from streamer.inference.spec import WorkerSpec

_LENGTH = struct.Struct(">I")


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first frame: who you are and what you serve."""

    worker: int
    spec: WorkerSpec


class Compute(msgspec.Struct, frozen=True, tag=True):
    """`protocol.Work` on the wire."""

    numbers: list[int]
    texts: list[str]
    pairs: list[str | None] | None = None
    params: list[dict[str, Any] | None] | None = None
    alone: bool = False
    answer_bytes: int = 0
    traces: list[bytes] = []


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Finish the forward batch under way, then exit."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded and its probe passed."""

    card: ModelCard


class Encoding(msgspec.Struct, frozen=True, tag=True):
    """These are about to be encoded, beside a forward batch; none: nothing is."""

    numbers: list[int]


class Started(msgspec.Struct, frozen=True, tag=True):
    """A forward batch is about to run; on the wire before it does."""

    numbers: list[int]


class Holding(msgspec.Struct, frozen=True, tag=True):
    """`protocol.WorkerHolds` on the wire."""

    why: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """A forward batch's outcomes as columns. `outputs[i]` is None where `failures` has i; `truncated` holds indexes;
    `measures` is empty where no answer has any."""

    numbers: list[int]
    outputs: list[bytes | None]
    tokens: list[int]
    truncated: list[int]
    failures: dict[int, DataFailure]
    real_tokens: int = 0
    computed_tokens: int = 0
    seconds: float = 0.0
    passes: int = 0
    measures: list[bytes] = []
    forwarded: list[Forwarded] = []
    code_spans: list[CodeSpans] = []


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The worker's last word."""

    failure: FailureClass
    exit_code: ExitCode
    message: str
    suspects: list[int] = []


class Said(msgspec.Struct, frozen=True, tag=True):
    """A log line, with a level of `logging`."""

    level: int
    message: str


ToWorker = Start | Compute | Stop
FromWorker = Ready | Encoding | Started | Holding | Done | Failed | Said

_Incoming = TypeVar("_Incoming")


class Channel(Generic[_Incoming]):
    """One end of a socket pair. Any thread may send; one thread receives."""

    def __init__(self, sock: socket.socket, incoming: Any) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=1 << 16)
        self._decoder: msgspec.msgpack.Decoder[_Incoming] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._sending = threading.Lock()

    def send(self, message: ToWorker | FromWorker) -> bool:
        """Blocks until the kernel has it all; False when the other side is gone."""
        payload = self._encoder.encode(message)
        try:
            with self._sending:
                self._sock.sendall(_LENGTH.pack(len(payload)) + payload)
        except OSError:
            return False
        return True

    def receive(self) -> _Incoming | None:
        """The next message; None when the other side is gone, also in mid-frame, or does not talk as we do."""
        try:
            header = self._file.read(_LENGTH.size)
            if len(header) < _LENGTH.size:
                return None
            (size,) = _LENGTH.unpack(header)
            payload = self._file.read(size)
        except OSError:
            return None
        try:
            return self._decoder.decode(payload) if len(payload) == size else None
        except msgspec.MsgspecError:  # somebody else wrote there, e.g. a model that closed our end and opened its own
            return None

    def end(self) -> None:
        """The other side is gone, whoever has inherited its end: what it sent is still received, and then None."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end; the other side then receives None."""
        self._file.close()
        self._sock.close()
