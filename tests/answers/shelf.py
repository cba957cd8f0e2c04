"""Builds model directories, opens them with the product and runs events, each thing once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamer.errors import DataFailure
from streamer.inference.channel import Done, Started
from streamer.inference.model import Encoded, Model
from streamer.inference.spec import Backend, DType, WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.tasks.text_generation import TextGeneration
from streamer.inference.worker.forwarder import Computation, Forwarder
from tests.answers.building import Files
from tests.answers.rows import Row
from tests.answers.texts import Event
from tests.generation_kit import Loop

Seen = dict[str, Any] | DataFailure


@dataclass
class Served:
    """A model as a worker has it, and what it says of each of the row's events alone."""

    model: Model
    events: Sequence[Event]
    batches: int = 0
    """Forward batches of the last run, those that failed too."""
    _alone: list[Seen] = field(default_factory=list)

    def run(self, events: Sequence[Event], batch_tokens: int = 0) -> list[Seen]:
        """All in one call, as a worker runs them."""
        texts, pairs, params = ([event[column] for event in events] for column in range(3))
        if isinstance(self.model, TextGeneration):
            return list(Loop(self.model).run(texts, params))  # type: ignore[arg-type]
        self.batches = 0
        found: dict[int, Seen] = {}

        def emit(message: Started | Done) -> None:
            if isinstance(message, Started):
                self.batches += 1
                return
            for index, (number, output) in enumerate(zip(message.numbers, message.outputs, strict=True)):
                found[number] = message.failures[index] if output is None else json.loads(output)

        encoded = self.model.encode(texts, pairs if any(one is not None for one in pairs) else None, params)  # type: ignore[arg-type]
        found.update((number, one) for number, one in enumerate(encoded) if isinstance(one, DataFailure))
        ready = [Computation(number, one) for number, one in enumerate(encoded) if isinstance(one, Encoded)]
        Forwarder(self.model, emit, batch_tokens).run(ready)
        return [found[number] for number in range(len(events))]

    @property
    def alone(self) -> list[Seen]:
        """Each event by itself."""
        if not self._alone:
            self._alone = [self.run([event])[0] for event in self.events]
        return self._alone


class Shelf:
    """What was built and opened in this session."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, Files] = {}
        self._rows: dict[str, Row] = {}
        self._served: dict[tuple[str, str, str], Served] = {}

    def path(self, files: Files) -> Path:
        """The directory, made by the first that asks."""
        path = self._root / files.name
        if files.name not in self._made:
            path.mkdir(parents=True, exist_ok=True)
            files.make(path)
            self._made[files.name] = files
        assert self._made[files.name] is files, f"two directories have the name {files.name}"
        return path

    def served(self, row: Row, backend: Backend = "torch", dtype: DType = "float32") -> Served:
        """The row's model. Raises `ModelError`."""
        key = (row.name, backend, dtype)
        assert self._rows.setdefault(row.name, row) is row, f"two rows have the name {row.name}"
        if key not in self._served:
            if row.task == "text-generation":  # their threads go on while they stand there
                self.close()
            spec = WorkerSpec(
                "table", row.task, str(self.path(row.files)), dtype=dtype, backend=backend, options=row.options
            )
            self._served[key] = Served(load(spec), row.events)
        return self._served[key]

    def close(self) -> None:
        """End the threads of language models."""
        for key, one in list(self._served.items()):
            if isinstance(one.model, TextGeneration):
                one.model.close()
                del self._served[key]
