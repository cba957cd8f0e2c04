"""What vectors cost on their way to Kafka: as lists of numbers and as base64, by a class that answers at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from streamer.bench.harness.bench import Bench, Measured, rates
from streamer.bench.harness.figures import Section, Target, compared, interleaved
from streamer.bench.harness.workload import Workload
from streamer.model import Input, Model

DIMENSIONS = 384
_ROWS = 1024


class VectorsReady(Model):
    """Vectors that are there already."""

    files = ()

    def __init__(self, options: dict[str, Any]) -> None:
        import numpy as np

        self.encoding = options["encoding"]
        self._rows = np.random.default_rng(1).standard_normal((_ROWS, DIMENSIONS), np.float32)

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """One by the length of each text."""
        return [{"vector": self._rows[len(one.text) % _ROWS]} for one in inputs]


def vector_throughput(bench: Bench, records: int, rounds: int, progress: Callable[[str], None]) -> Section:
    """Records a second with either encoding, on the same input."""
    backlog = bench.setup().input
    progress(f"vectors: writing {records:,} events")
    bench.fill(backlog, Workload(records).events())
    runs = {encoding: partial(_run, bench, backlog, records, encoding) for encoding in ("base64", "float")}
    strings, lists = interleaved(rounds, runs, progress).values()
    bench.delete(backlog)
    columns = ("base64 records/s", "lists records/s")
    figure = compared("base64", rates(strings), rates(lists), columns, Target(at_least=2.0), "× lists")
    return Section(f"vectors of {DIMENSIONS} float32 through a class that answers at once, exactly once", [figure])


def _run(bench: Bench, backlog: str, records: int, encoding: str) -> Measured:
    model = f"python:{__name__}:{VectorsReady.__name__}"
    setup = bench.setup(input_topic=backlog, pipeline={"model": model}, options={"encoding": encoding})
    return bench.measure(setup, bench.start(setup, "--until-end"), records)
