"""Which model each pipeline runs now, as its reports say: what failed with the same one is likely to fail again."""

from __future__ import annotations

from typing import Final

from streamer.core.report import UNKNOWN, Report, read
from streamer.ops.dlq.ports import Log

_LAST_REPORTS: Final = 200


def current_models(log: Log, reports: str) -> dict[str, str]:
    """`name@revision` by pipeline, of those that are in the last reports. Nothing without the topic, or with ""."""
    if not reports or log.identity(reports) is None:
        return {}
    with log.scan(reports) as scan:
        starts = {partition: max(end - _LAST_REPORTS, 0) for partition, end in scan.ends.items()}
        ends = dict(scan.ends)
    newest: dict[str, Report] = {}
    with log.scan(reports, starts=starts, ends=ends) as scan:
        for records in scan.batches():
            for record in records:
                said = read(record.value())
                if said is None or said.model.revision == UNKNOWN:
                    continue
                if said.pipeline not in newest or newest[said.pipeline].time_ms <= said.time_ms:
                    newest[said.pipeline] = said
    return {name: f"{said.model.name}@{said.model.revision}" for name, said in newest.items()}
