"""Read what operators did to dead letters."""

from __future__ import annotations

import msgspec

from streamer.core.deadletters.audit import AUDIT_TOPIC, Audit
from streamer.ops.dlq.ports import Log

_decode = msgspec.json.Decoder(Audit).decode


def read_audits(log: Log) -> list[tuple[str, Audit]]:
    """Each start of a job: when it began, and the last that was said of it; the oldest first. Nothing where there is no
    audit topic yet."""
    if log.identity(AUDIT_TOPIC) is None:
        return []
    found: list[tuple[str, Audit]] = []
    last: dict[str, int] = {}
    with log.scan(AUDIT_TOPIC) as scan:
        for records in scan.batches():
            for record in records:
                try:
                    said = _decode(record.value() or b"")
                except (msgspec.MsgspecError, UnicodeDecodeError):  # another program's record
                    continue
                if said.event == "began" or said.job not in last:
                    last[said.job] = len(found)
                    found.append((said.time, said))
                else:
                    index = last[said.job]
                    found[index] = (found[index][0], said)
    return sorted(found, key=lambda each: each[0])
