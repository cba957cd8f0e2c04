"""The jobs that moved or closed dead letters, whoever started them: from the audit and the state topic, so that they
are known after a restart, too."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Literal

from streamer.config.load import KafkaConfig
from streamer.core.deadletters.audit import AUDIT_TOPIC, Audit
from streamer.core.deadletters.state import STATE_TOPIC, Claim
from streamer.errors import DependencyError
from streamer.kafka.replay import TopicLog
from streamer.ops.dlq.audits import Audits
from streamer.ops.dlq.claims import LAPSE_S
from streamer.ops.dlq.closed import Closed
from streamer.ops.dlq.find import catch_up, read_closed_from_topic

MAX_JOBS: Final = 200
BUSY_S, QUIET_S = 1.0, 3.0  # how old what is told may be, while a job runs and else
WAIT_S: Final = 5.0  # so long an answer is waited for
PACE_S: Final = 20.0  # over how long the pace of a job is taken

JobStatus = Literal["running", "done", "stopped", "silent"]


@dataclass(slots=True)
class Start:
    """A start of a job. `silent` is one that did not end and shows no life: it was killed, or its host is away. `moved`
    and `total` count the earlier starts in; `total` is 0 where it is not known, and the pace None."""

    audit: Audit
    began: str
    state: JobStatus
    moved: int
    per_s: float | None = None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        audit = self.audit
        total = audit.total
        left = max(total - self.moved, 0)
        return {
            "job": audit.job,
            "action": audit.action,
            "by": audit.by,
            "began": self.began,
            "ended": None if audit.event == "began" else audit.time,
            "state": self.state,
            "moved": self.moved,
            "total": total or None,
            "refused": audit.refused,
            "per_s": self.per_s,
            "limit_per_s": audit.rate_per_s,
            "eta_s": left / self.per_s if self.per_s and total and self.state == "running" else None,
            "outcome": audit.outcome,
            "digest": audit.digest,
            "wanted": audit.wanted,
        }


class Pace:
    """How fast each job moves, by looks at it."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def look(self, job: str, moved: int, now_s: float) -> float | None:
        """Records a second over the last looks; None at the first."""
        seen = self._seen.setdefault(job, deque())
        seen.append((now_s, moved))
        while now_s - seen[0][0] > PACE_S:
            seen.popleft()
        since_s, before = seen[0]
        return (moved - before) / (now_s - since_s) if now_s > since_s else None


class Life:
    """Whether claims are alive, by watching their beats grow: the clocks of hosts differ."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Claim, float]] = {}

    def look(self, claims: dict[str, Claim], now_s: float) -> set[str]:
        """The jobs that live, as far as is known: one is given some time to show it."""
        before = self._seen
        self._seen = {
            topic: before[topic] if topic in before and before[topic][0] == claim else (claim, now_s)
            for topic, claim in claims.items()
        }
        return {claim.job for claim, since_s in self._seen.values() if now_s - since_s < LAPSE_S}


def starts(
    audits: list[tuple[str, Audit]], counts: dict[str, int], alive: set[str], pace: Pace, now_s: float
) -> list[Start]:
    """The starts of jobs, the newest first. `counts` is what each job that has not ended moved by now."""
    found = []
    last = {audit.job: index for index, (_, audit) in enumerate(audits)}
    for index, (began, audit) in enumerate(audits):
        if audit.event != "began":
            found.append(Start(audit, began, "done" if audit.event == "ended" else "stopped", audit.count))
            continue
        current = last[audit.job] == index
        moved = counts.get(audit.job, audit.count) if current else audit.count
        runs = current and audit.job in alive
        per_s = pace.look(audit.job, moved, now_s) if runs else None
        found.append(Start(audit, began, "running" if runs else "silent", moved, per_s))
    return found[::-1][:MAX_JOBS]


class History:
    """Reads the topics when somebody asks, by one thread, and not more often than each second."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="console-history")
        self._log: TopicLog | None = None
        self._closed: Closed | None = None
        self._audits = Audits()
        self._pace, self._life = Pace(), Life()
        self._told: list[Start] | None = None
        self._told_s = float("-inf")
        self._looking: Future[list[Start]] | None = None
        self._looks = 0

    def starts(self) -> list[Start]:
        """The starts of jobs, the newest first, as they were before while a look takes long. Raises DependencyError
        where they are being read for the first time, and that takes long: all of the topics is read then."""
        with self._lock:
            runs = any(each.state == "running" for each in self._told or ())
            if self._looking is None and time.monotonic() - self._told_s > (BUSY_S if runs else QUIET_S):
                self._looks += 1
                self._looking = self._pool.submit(self._look, self._looks)
            looking, told = self._looking, self._told
        if looking is None:
            return told or []
        if not wait([looking], WAIT_S).done:
            if told is None:
                raise DependencyError(f"{AUDIT_TOPIC} and {STATE_TOPIC} are still being read; ask again in a while")
            return told
        return looking.result()

    def forget(self) -> None:
        """A job began or ended here: look again at the next question."""
        with self._lock:
            self._looks += 1
            self._told_s, self._looking = float("-inf"), None

    def close(self) -> None:
        """End the thread, once a look that is under way has ended."""
        with self._lock:
            if self._looking is not None:
                self._looking.cancel()
        self._pool.submit(self._let_go)
        self._pool.shutdown(wait=False)

    def _look(self, number: int) -> list[Start]:
        found = None
        try:
            found = self._read()
            return found
        finally:
            with self._lock:
                if number == self._looks:  # else somebody wants a later one
                    self._looking = None
                    if found is not None:
                        self._told, self._told_s = found, time.monotonic()

    def _let_go(self) -> None:
        """By the thread that opened it, the only one that may close it."""
        if self._closed is not None:
            self._closed.close()
        self._log = self._closed = None

    def _read(self) -> list[Start]:
        self._log = self._log or TopicLog(self._kafka)
        try:
            if self._closed is None:
                self._closed = read_closed_from_topic(self._log)
            else:
                catch_up(self._log, self._closed)
            audits = self._audits.read(self._log)
        except BaseException:
            self._let_go()
            raise
        closed, now_s = self._closed, time.monotonic()
        counts = {audit.job: closed.count(audit.job) for _, audit in audits if audit.event == "began"}
        return starts(audits, counts, self._life.look(closed.claims, now_s), self._pace, now_s)
