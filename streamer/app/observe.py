"""What stands, and why: for /readyz, the log, the metrics, and the end of a process that stands for good."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from streamer.app.driver import Observer
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import ForwardDone, Input, SinkFailed
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing, Standings
from streamer.core.unanswered import ReadState, Unanswered
from streamer.errors import ExitCode

LOOK_EVERY_S = 1.0
SINK_STANDING_S = 90.0
SLOW_PLAN_S = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watchdog(Observer):
    """Lets the sink leave calls of librdkafka that do not return, and ends the process where it stands all the same: a
    restart is safe."""

    busy_since: Callable[[], float | None]
    replace_if_hung: Callable[[float], None]
    give_up: Callable[[SinkFailed], None]
    limit_s: float = SINK_STANDING_S
    _gave_up: bool = False

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Look at the clock."""
        self.replace_if_hung(now)
        since = self.busy_since()
        if since is not None and now - since > self.limit_s and not self._gave_up:
            self._gave_up = True
            message = f"the Kafka producer has not answered for {now - since:.0f} s: start this process again"
            self.give_up(SinkFailed(ExitCode.DEPENDENCY, message))


def _say(one: Standing) -> None:
    topic, partition = one.partition
    data = {"topic": topic, "partition": partition, "offset": one.offset, "reason": one.reason.value}
    log.error("%s", one, extra={"data": data})


@dataclass(slots=True)
class Signals(Observer):
    """Says what stands, and why: by `say` to the log, by `show` how many for each reason, and to whoever asks for
    `standings`. `origins` are all those who may know of a partition that stands; each names all that it knows of. What
    none of them names and gets no answer all the same, the general rule names; `ahead` is what the source knows for it
    of the partitions that are ours."""

    origins: tuple[Callable[[], Iterable[Standing]], ...]
    ahead: Callable[[], Mapping[TopicPartition, ReadState]]
    say: Callable[[Standing], None] = _say
    show: Callable[[Mapping[Reason, int]], None] = lambda _: None
    standings: Standings = field(default_factory=Standings)
    _unanswered: Unanswered = field(default_factory=Unanswered)
    _next_look: float = 0.0

    def facts(self, fact: Input) -> None:
        """Note that workers answer."""
        if isinstance(fact, ForwardDone):
            self._unanswered.computed()

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """Ask all, once a second."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        found = [one for origin in self.origins for one in origin()]
        named = {one.partition for one in found}
        for one in self._unanswered.look(pipeline, self.ahead(), now):
            topic, _ = one.partition
            if one.partition not in named and (topic, -1) not in named:
                found.append(one)
        for one in self.standings.look(found, now):
            self.say(one)
        self.show(self.standings.counts())


def unready(pipeline: Pipeline, *, owns: bool, plan_since: float | None, standings: Standings, now: float) -> list[str]:
    """What keeps a pipeline from serving, for /readyz; broken dependencies are among the reasons. `owns` says whether
    any partition is ours, `plan_since` since when one plan is being settled."""
    reasons = []
    if pipeline.fleet.ready_workers == 0:
        reasons.append("no worker is ready")
    if not owns:
        reasons.append("no partition is assigned")
    if pipeline.settling.rollbacks > 2:
        reasons.append(f"{pipeline.settling.rollbacks} settles in a row were rolled back")
    if plan_since is not None and now - plan_since > SLOW_PLAN_S:
        reasons.append(f"a settle has been under way for {now - plan_since:.0f} s: Kafka is slow or away")
    return [*reasons, *map(str, standings.current)]
