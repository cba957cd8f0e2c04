"""Records a second through Kafka, by members that share the device, where there is a Kafka or one can be started."""

from __future__ import annotations

from contextlib import ExitStack

from streamer.bench.device.busy import busy
from streamer.bench.device.report import Report, SkippedStepError
from streamer.bench.device.speed import random_encoder
from streamer.bench.device.steps import Settings
from streamer.bench.harness.bench import Bench, opened
from streamer.bench.harness.workload import Workload
from streamer.bench.throughput import TOGETHER, of_members
from streamer.errors import DependencyError

_NULL, _TEXTS, _FEW = 400_000, 100_000, 400
_MEMBERS, _FEW_MEMBERS = (1, 4), (1,)


def rates(settings: Settings, report: Report) -> None:
    """The null pipeline's, then an encoder's on the device, with vectors in base64."""
    with ExitStack() as stack:
        try:
            bench = stack.enter_context(opened(settings.bootstrap_servers))
        except DependencyError as error:
            raise SkippedStepError(f"no Kafka: {error}") from None
        if not settings.small:
            for figure in of_members(bench, _MEMBERS[-1], _NULL, 1, lambda _: None).figures:
                report.figure(f"builtin:null, {figure.name}", figure.value, figure.unit)
                report.say(f"builtin:null, {figure.name}", dict(figure.columns))
        _encoder(bench, settings, report)


def _encoder(bench: Bench, settings: Settings, report: Report) -> None:
    path = random_encoder(settings.folder / "kafka", "tiny" if settings.small else "minilm")
    records = _FEW if settings.small else _TEXTS
    backlog = bench.setup().input
    bench.fill(backlog, Workload(records).events())
    for members in _FEW_MEMBERS if settings.small else _MEMBERS:
        fields = {"task": "embedding", "model": str(path), "device": settings.device, "members": members}
        setup = bench.setup(input_topic=backlog, pipeline=fields, options={"encoding": "base64"})
        part = TOGETHER if members > 1 else (0, 1)
        with busy(report, f"members: {members}", settings.device):
            found = bench.measure(setup, bench.start(setup, "--until-end"), records, part)
        report.figure(f"MiniLM, members: {members}", found.records_per_s, "/s")
    bench.delete(backlog)
