"""One process of the simulation: a real driver with a real pipeline, and everything else in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from queue import SimpleQueue
from random import Random

from streamer.app.driver import Adapters, Driver, Observer
from streamer.app.observe import Signals, unready
from streamer.core.deadletters.burial import buried
from streamer.core.events.codec import Codec
from streamer.core.intake import RECORD_OVERHEAD_BYTES
from streamer.core.output import Output
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import Finish, Input, ModelCard, Revoking, Stop, Taken, Tick
from streamer.core.record import Answer, Record
from streamer.core.results.encoder import Encoder, OutputLimits
from streamer.core.results.plan_encoder import PlanEncoder
from streamer.errors import ExitCode
from streamer.simulation.judge import DEAD_LETTERS, INPUT, OUTPUT, Judge, Step
from streamer.simulation.scenario import CRASH_LIMIT, Scenario
from streamer.testing import (
    Group,
    ManualClock,
    MemoryCache,
    MemoryIdempotentSink,
    MemoryLog,
    MemorySink,
    MemorySource,
    Reaction,
    ScriptedWorkers,
)
from streamer.testing.schemas import MemoryRegistry, MemorySchemas

PIPELINE = "p"
TICK_S = 0.1
HOP_S = 0.0005  # from an adapter's post to the driver's turn
LEASE_S = 1.0
STANDING_S = 30.0
REVOKE_DEADLINE_S = 1.0
SPANS_PER_S = 50  # fewer than there are sampled records
RECORD_BYTES = RECORD_OVERHEAD_BYTES + 76  # about what a record of the scenario takes of the budget
LIMITS = OutputLimits(1 << 20, 1 << 20)


@dataclass(slots=True)
class World:
    """What the processes share."""

    scenario: Scenario
    rng: Random
    clock: ManualClock
    log: MemoryLog
    group: Group
    judge: Judge
    last_steps: deque[Step]
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    answers: dict[bytes, Answer] = field(default_factory=dict)
    wall_s: float = 1_700_000_000.0  # may jump
    processes: int = 0
    steps: int = 0
    digest: int = 0

    def latency(self, mean_s: float) -> float:
        """Anything between nothing and twice the mean."""
        return self.rng.random() * 2.0 * mean_s

    def buried(self, record: Record, deaths: int) -> Output:
        """The dead letter of a record that somebody buries."""
        return buried(
            record,
            deaths,
            pipeline=PIPELINE,
            dead_letter_topic=DEAD_LETTERS,
            limit_bytes=LIMITS.dead_letter_bytes,
            time_ms=self.wall_ms(),
        )

    def wall_ms(self) -> int:
        return int((self.wall_s + self.clock.now) * 1000)


class Process(Observer):
    """A member of the group. Its inbox is fed by its adapters; each fact is one turn of its driver."""

    def __init__(self, world: World, slot: str) -> None:
        world.processes += 1
        scenario, clock = world.scenario, world.clock
        self.slot = slot
        self.number = world.processes
        self.stopping = False
        self.rivalled = False  # another process took its slot
        self.killed_by_revoke = False
        self.excused: set[ExitCode] = set()  # ends that a fault has asked for
        self.finish: Finish | None = None
        self.killed = False
        self._world = world
        self._inbox: deque[Input] = deque()
        self._awake = False
        self._handled_at = 0.0
        policy = Policy(
            PIPELINE,
            workers=scenario.workers,
            lease_s=LEASE_S,
            budget_bytes=scenario.budget_records * RECORD_BYTES,
            lru_bytes=scenario.lru_bytes,
            shared_cache=scenario.shared_cache,
            max_spans_per_s=SPANS_PER_S if scenario.traced else 0,
        )
        self.schemas = MemorySchemas(world.registry, self.post, clock, world.latency)
        self.pipeline = Pipeline(policy, Codec(PIPELINE, schemas=self.schemas if scenario.framed else None))
        self.source = MemorySource(
            world.log,
            world.group,
            [INPUT],
            self.post,
            clock,
            instance=slot if scenario.static else None,
            micro_batch_records=scenario.micro_batch_records,
            revoke_deadline_s=REVOKE_DEADLINE_S,
            crash_limit=CRASH_LIMIT,
            latency=world.latency,
            wall_ns=lambda: world.wall_ms() * 1_000_000,
        )
        self.sink = (MemorySink if scenario.exactly_once else MemoryIdempotentSink)(
            world.log,
            world.group,
            self.transactional_id,
            make_encoder,
            self.source,
            self.post,
            clock,
            latency=world.latency,
            wall_ms=world.wall_ms,
        )
        self.workers = ScriptedWorkers(
            self.post,
            clock,
            scenario.card,
            self._react,
            latency=world.latency,
            batch_size=lambda: world.rng.randint(1, scenario.forward_records),
            on_death=lambda number, text: world.judge.died(self.number, number, text),
        )
        self.cache = MemoryCache(self.post, world.answers, clock)
        origins = (self.source.standing, self.sink.standing, lambda: self.schemas.standing(self.pipeline))
        self.signals = Signals(origins, self.source.ahead, lambda one: self._note(str(one)))
        self.driver = Driver(
            self.pipeline,
            SimpleQueue(),
            Adapters(
                self.source,
                self.sink,
                self.workers,
                self.cache,
                (self, self.signals),
                learn=self.schemas.learn,
                pause=self.source.pause,
            ),
            clock,
        )
        self._largest_bytes = scenario.micro_batch_records * 2 * RECORD_BYTES

    @property
    def transactional_id(self) -> str:
        return f"g.{self.slot}"

    @property
    def running(self) -> bool:
        """Whether there is still somebody at home."""
        return self.finish is None and not self.killed

    def start(self) -> None:
        self._turn(Tick())
        self._tick()

    def post(self, fact: Input) -> None:
        """What the adapters are given: the driver's inbox."""
        if self.killed_by_revoke and isinstance(fact, Revoking):
            self.kill()
            return
        self._inbox.append(fact)
        if not self._awake:
            self._awake = True
            self._world.clock.later(self._world.latency(HOP_S), self._wake)

    def stop(self, within_s: float) -> None:
        """A stop signal."""
        self.stopping = True
        self.post(Stop(self._world.clock.now + within_s))

    def kill(self) -> None:
        """kill -9: nobody closes anything, and the workers end with it."""
        self.killed = True
        self.source.kill()
        self.sink.kill()
        self.workers.close(0.0)

    def _react(self, text: str) -> Reaction:
        """What the model makes of a text; some take the whole process down."""
        if self._world.scenario.poison.get(text) == "poison_forward":
            self._taken_down(text)
        return self._world.scenario.reactions[text]

    def _taken_down(self, text: str) -> None:
        if self.running:
            self._world.judge.taken_down(text)
            self.kill()

    def _dies_of(self, fact: Input) -> bool:
        """Whether these records take the process down before it has looked at them all."""
        for segment in fact.batch.segments if isinstance(fact, Taken) else ():
            for record in segment.records:
                self._world.judge.handed(self.number, (segment.partition, record.offset()))
                if b"poison_decode" in (record.value() or b""):
                    self._taken_down("poison_decode")
                    return True
        return False

    def unready(self) -> list[str]:
        """What its /readyz says."""
        return unready(
            self.pipeline,
            owns=bool(self.source.ownership.epochs),
            plan_since=self.sink.plan_since,
            standings=self.signals.standings,
            now=self._world.clock.now,
        )

    def idle(self) -> bool:
        """Whether nothing is in flight anywhere; also what a leak would keep from ever coming true."""
        pipeline = self.pipeline
        flow, fleet = pipeline.flow, pipeline.fleet
        return (
            pipeline.ledger.empty
            and not pipeline.flights.by_key
            and not fleet.held
            and not fleet.waiting
            and not fleet.suspects
            and flow.in_flight_bytes == 0
            and flow.ended_records == flow.taken_records
        )

    # --- the driver's observer ----------------------------------------------------------------------------------------

    def tick(self, pipeline: Pipeline, now: float) -> None:
        """A driver that ticks is alive, whatever is broken around it."""
        self.sink.replace_if_hung(now)
        if reasons := self.driver.standing(STANDING_S):
            self._world.judge.stands_still(reasons)

    def _wake(self) -> None:
        if not self.running:
            return
        self._turn(self._inbox.popleft())
        if self._inbox:
            self._world.clock.later(self._world.latency(HOP_S), self._wake)
        else:
            self._awake = False

    def _tick(self) -> None:
        if self.running:
            if not self._awake and self._world.clock.now - self._handled_at >= TICK_S:
                self._turn(Tick())
            self._world.clock.later(TICK_S, self._tick)

    def _turn(self, fact: Input) -> None:
        world = self._world
        now = self._handled_at = world.clock.now
        world.steps += 1
        world.digest = hash((world.digest, self.number, now))
        self._note(fact)
        if self._dies_of(fact):
            return
        if not self.driver.step(fact, now):
            self.finish = self.driver.close()
            self._note(repr(self.finish))
            return
        world.judge.stepped(self.pipeline, self._largest_bytes)
        if rests_until := self.pipeline.settling.rests_until:
            world.clock.later(rests_until - now, self._rested)

    def _rested(self) -> None:
        if self.running and not self._awake and self.pipeline.settling.rests_until:
            self._turn(Tick())

    def _note(self, what: Input | str) -> None:
        self._world.last_steps.append((self._world.clock.now, f"{self.slot}#{self.number}", what))


def make_encoder(card: ModelCard) -> PlanEncoder:
    """The real encoder, without reports."""
    return PlanEncoder(
        Encoder(
            pipeline=PIPELINE,
            task=card.task,
            card=card,
            output_topic=OUTPUT,
            dead_letter_topic=DEAD_LETTERS,
            limits=LIMITS,
        )
    )
