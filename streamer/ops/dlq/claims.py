"""One job at a time moves the dead letters of a topic: who is at it says so in the state topic.

A claim is a record whose beat grows while its job lives. Whether one that did not end is alive is told by watching it,
not by clocks, which differ between hosts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from streamer.core.deadletters.replay import Signature
from streamer.core.deadletters.state import STATE_TOPIC, Claim, claim_record
from streamer.core.output import Output
from streamer.errors import ExitCode, StreamerError
from streamer.ops.dlq.closed import Closed
from streamer.ops.dlq.find import catch_up
from streamer.ops.dlq.ports import Log

BEAT_S: Final = 2.0
LAPSE_S: Final = 12.0
_LOOK_S: Final = 0.5


class RunningError(StreamerError):
    """Another job moves dead letters of the same topic."""

    exit_code = ExitCode.FENCED


def ensure_free(
    log: Log,
    closed: Closed,
    topics: Sequence[str],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    waiting: Callable[[str], None] = lambda _: None,
) -> None:
    """Return when nobody moves dead letters of these topics. `closed` is read on; `waiting` is told of a claim that has
    to be watched, because its job did not say that it ended.

    Raises RunningError, which names the job and who runs it.
    """
    catch_up(log, closed)
    first = {topic: claim for topic, claim in closed.claims.items() if topic in topics}
    if not first:
        return
    for topic, claim in first.items():
        waiting(f"job {claim.job} of {claim.by} did not say that it ended on {topic}: checking whether it is alive")
    deadline = clock() + LAPSE_S
    while clock() < deadline:
        sleep(_LOOK_S)
        catch_up(log, closed)
        for topic, claim in list(first.items()):
            now = closed.claims.get(topic)
            if now is None:
                del first[topic]
            elif now != claim:
                raise RunningError(
                    f"job {now.job} of {now.by} has been moving dead letters of {topic} since {now.since}, so"
                    " nothing was moved here: wait until it ends, or stop it where it runs"
                )
        if not first:
            return


class Beat:
    """The claim of a job on one topic after another."""

    def __init__(self, signature: Signature, clock: Callable[[], float]) -> None:
        self._signature, self._clock = signature, clock
        self._topic = ""
        self._count = 0
        self._next = 0.0

    def begin(self, topic: str) -> list[Output]:
        """Claim this topic."""
        self._topic = topic
        self._next = 0.0
        return self.due()

    def due(self) -> list[Output]:
        """What is to be written now, which is mostly nothing."""
        if self._clock() < self._next:
            return []
        self._count += 1
        self._next = self._clock() + BEAT_S
        return [self._output(ended=False)]

    def end(self) -> list[Output]:
        """Give the topic back, if one is claimed."""
        if not self._topic:
            return []
        outputs = [self._output(ended=True)]
        self._topic = ""
        return outputs

    def _output(self, *, ended: bool) -> Output:
        sign = self._signature
        key, value = claim_record(self._topic, Claim(sign.job, sign.by, sign.time, self._count, ended))
        return STATE_TOPIC, -1, key, value, []
