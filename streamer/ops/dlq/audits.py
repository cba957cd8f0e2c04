"""Read what operators did to dead letters."""

from __future__ import annotations

from streamer.core.deadletters.audit import AUDIT_TOPIC, Audit, read_audit
from streamer.ops.dlq.ports import Log


class Audits:
    """The audit topic, read on from where the last look ended. For one thread."""

    def __init__(self) -> None:
        self._identity: str | None = None
        self._next: dict[int, int] = {}
        self._found: list[tuple[str, Audit]] = []
        self._last: dict[str, int] = {}

    def read(self, log: Log) -> list[tuple[str, Audit]]:
        """Each start of a job: when it began, and the last that was said of it; the oldest first. Nothing where there
        is no audit topic yet."""
        identity = log.identity(AUDIT_TOPIC)
        if identity != self._identity:
            self._reset(identity)
        if identity is None:
            return []
        with log.scan(AUDIT_TOPIC, starts=self._next) as scan:
            if any(scan.ends.get(partition, 0) < place for partition, place in self._next.items()):
                self._reset(None)  # the log is shorter than it was
                return self.read(log)
            said = [read_audit(record.value()) for records in scan.batches() for record in records]
            self._next = dict(scan.ends)
        for audit in said:
            if audit is not None:  # else another program's record
                self._take(audit)
        return sorted(self._found, key=lambda each: each[0])

    def _take(self, said: Audit) -> None:
        if said.event == "began" or said.job not in self._last:
            self._last[said.job] = len(self._found)
            self._found.append((said.time, said))
        else:
            index = self._last[said.job]
            self._found[index] = (self._found[index][0], said)

    def _reset(self, identity: str | None) -> None:
        self._identity, self._next, self._found, self._last = identity, {}, [], {}
