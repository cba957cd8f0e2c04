"""Which model each pipeline runs now, as its reports say: what failed with the same one is likely to fail again."""

from __future__ import annotations

from typing import Final

import msgspec

from streamer.core.report import UNKNOWN, Model
from streamer.ops.dlq.ports import Log

_LAST_REPORTS: Final = 200


class _Said(msgspec.Struct):
    pipeline: str
    time_ms: int
    model: Model


_decode = msgspec.json.Decoder(_Said).decode


def current_models(log: Log, reports: str) -> dict[str, str]:
    """`name@revision` by pipeline, of those that are in the last reports. Nothing without the topic, or with ""."""
    if not reports or log.identity(reports) is None:
        return {}
    with log.scan(reports) as scan:
        starts = {partition: max(end - _LAST_REPORTS, 0) for partition, end in scan.ends.items()}
        ends = dict(scan.ends)
    newest: dict[str, _Said] = {}
    with log.scan(reports, starts=starts, ends=ends) as scan:
        for records in scan.batches():
            for record in records:
                try:
                    said = _decode(record.value() or b"")
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
                if said.model.revision == UNKNOWN:
                    continue
                if said.pipeline not in newest or newest[said.pipeline].time_ms <= said.time_ms:
                    newest[said.pipeline] = said
    return {name: f"{said.model.name}@{said.model.revision}" for name, said in newest.items()}
