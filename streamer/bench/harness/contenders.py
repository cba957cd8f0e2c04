"""Who takes part in `bench inference`: a worker's model in this process, and programs of others."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.bench.bulk import MINILM, MINILM_TASK
from streamer.bench.harness.program import BenchError
from streamer.inference.channel import Done, Started
from streamer.inference.spec import WorkerSpec
from streamer.machine.malloc import keep_freed

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one turn."""

    wall_s: float
    cpu_s: float


class Ours:
    """A worker's model and forwarder: encode all, then forward batches as a worker cuts them."""

    def __init__(self, dtype: str, backend: str, model: str = MINILM) -> None:
        from streamer.inference.tasks.families import load

        spec = WorkerSpec(
            pipeline="bench",
            task=MINILM_TASK,
            model=model,
            dtype=dtype,  # type: ignore[arg-type]
            backend=backend,  # type: ignore[arg-type]
            options={"normalize": True},
        )
        self.model: Any = load(spec)
        keep_freed()  # as a worker does
        self.real_tokens = 0
        self.computed_tokens = 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The vectors, read back from the JSON of the answers."""
        from streamer.inference.model import Encoded
        from streamer.inference.worker.forwarder import WINDOW, Computation, Forwarder

        sent: list[Started | Done] = []
        encoded = self.model.encode(texts, None, None)
        computations = [Computation(number, one) for number, one in enumerate(encoded) if isinstance(one, Encoded)]
        forwarder = Forwarder(self.model, sent.append)
        for first in range(0, len(computations), WINDOW):
            forwarder.run(computations[first : first + WINDOW])
        answers: dict[int, bytes | None] = {}
        self.real_tokens = self.computed_tokens = 0
        for done in sent:
            if isinstance(done, Done):
                answers.update(zip(done.numbers, done.outputs, strict=True))
                self.real_tokens += done.real_tokens
                self.computed_tokens += done.computed_tokens
        if len(answers) != len(texts) or None in answers.values():
            raise BenchError("the model has no answer for a text")
        self.answers = [answers[number] for number in range(len(texts))]
        return np.empty(0, np.float32)

    def vectors(self) -> Vectors:
        """The vectors of the last run, read outside of the time measured, as a subscriber would."""
        return np.array([msgspec.json.decode(answer or b"")["vector"] for answer in self.answers], np.float32)


class Elsewhere:
    """A program of another process, perhaps in another Python's environment, that encodes in one or more ways. A
    context manager."""

    def __init__(self, command: Sequence[str], settings: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [*command, msgspec.json.encode(settings).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._told: deque[bytes] = deque(maxlen=20)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what a request left to be written
                pipe.close()

    def way(self, name: str = "") -> Way:
        """The one of that name."""
        return Way(self, name)

    def ask(self, request: Any) -> Any:
        """The answer. Raises `BenchError` when the program has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._listener.join()
            raise BenchError("another process ended: " + b"".join(self._told).decode(errors="replace"))
        return msgspec.json.decode(line)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        self._told.extend(self._process.stderr)


@dataclass(frozen=True, slots=True)
class Way:
    """One of another process's ways to encode."""

    elsewhere: Elsewhere
    name: str

    def timed(self, texts: Sequence[str]) -> Took:
        """Encode them; the seconds are those of the other process."""
        return Took(*self.elsewhere.ask({"way": self.name, "texts": list(texts)}))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions)."""
        self.timed(texts)
        return np.array(self.elsewhere.ask({}), np.float32)
