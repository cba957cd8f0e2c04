"""One seed's life: members start, records arrive, faults strike, all heals, everything drains, all stop."""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import dataclass
from random import Random

from streamer.core.pipeline.attempts import Note
from streamer.core.pipeline.pipeline import Phase
from streamer.core.record import Headers, TopicPartition
from streamer.errors import ExitCode
from streamer.simulation.faults import FAULTS, ONCE
from streamer.simulation.judge import DEAD_LETTERS, INPUT, LAST_STEPS, OUTPUT, BrokenLawError, Judge, ViolationError
from streamer.simulation.process import TICK_S, Process, World
from streamer.simulation.scenario import FIRST_AT_S, PARTITIONS, SEEDS_A_FRAMED_ONE, STRIKING_S, Arrival, draw
from streamer.testing import LogError, ManualClock, MemoryLog

FEWEST_FAULTS = 10
MEMBERS = 2
TRANSACTION_TIMEOUT_S = 2.0
SESSION_TIMEOUT_S = 2.0
LAST_AT_S = FIRST_AT_S + STRIKING_S
HEALED_S = LAST_AT_S + 2.0  # no fault works on after this, but those that last until somebody sees to them
OTHERWISE = "rebalances"  # a fault that can always strike
DRAIN_S = 180.0  # what somebody has to see to lasts 70 s, and what could not be read is tried again every 60 s
STOP_S = 10.0
RETRY_S = 0.01
LOOK_S = 0.25
ATTEND_S = 1.0

_DRIVERS_LOG = logging.getLogger("streamer.app.driver")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a seed was like. `digest` is equal for equal runs."""

    seed: int
    records: int
    steps: int
    virtual_s: float
    faults: dict[str, int]
    outcomes: dict[str, int]
    rebalances: int
    digest: int


class Life:
    """Builds the world of a seed and runs it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        rng = Random(seed)
        weights = {kind: weight for kind, (weight, _) in FAULTS.items()}
        framed = seed % SEEDS_A_FRAMED_ONE == SEEDS_A_FRAMED_ONE // 2
        scenario = draw(rng, weights, FEWEST_FAULTS, framed=framed)
        clock = ManualClock()
        log = MemoryLog(clock, TRANSACTION_TIMEOUT_S)
        for topic in (INPUT, OUTPUT, DEAD_LETTERS):
            log.create_topic(topic, PARTITIONS)
        group = log.group("g", [INPUT], SESSION_TIMEOUT_S)
        judge = Judge(scenario, log)
        group.on_offsets.append(judge.offsets)
        self.world = World(scenario, rng, clock, log, group, judge, deque(maxlen=LAST_STEPS))
        self.faults = Counter(scenario.poison.values())
        self._members: dict[str, Process] = {}
        self._rivals: list[Process] = []
        self._released: set[tuple[TopicPartition, int]] = set()
        self._visits = 0
        self._ending = False

    def run(self) -> Outcome:
        """Live. Raises ViolationError. The drivers' warnings of what strikes are not heard meanwhile."""
        _DRIVERS_LOG.addFilter(_is_error)
        try:
            return self._run()
        finally:
            _DRIVERS_LOG.removeFilter(_is_error)

    def _run(self) -> Outcome:
        world = self.world
        try:
            for index in range(MEMBERS):
                self._start(f"slot-{index}")
            for arrival in world.scenario.arrivals:
                world.clock.later(arrival.at_s, lambda arrival=arrival: self._arrive(arrival))  # type: ignore[misc]
            self._attend()
            for at_s, kind in world.scenario.faults:
                world.clock.later(at_s, lambda kind=kind: self._strike(kind))  # type: ignore[misc]
            self._look()
            self._run_until(HEALED_S)
            self._drain()
            self._stop()
        except BrokenLawError as error:
            raise self._violation(str(error)) from None
        except ViolationError:
            raise
        except Exception as error:
            raise self._violation(f"{type(error).__name__}: {error}") from error
        return Outcome(
            self.seed,
            world.scenario.records,
            world.steps,
            world.clock.now,
            dict(self.faults),
            dict(world.judge.outcomes),
            world.group.rebalances,
            world.digest,
        )

    # --- what faults may reach ---------------------------------------------------------------------------------------

    def running(self) -> list[Process]:
        """The members that live, and are in the group or on their way."""
        return [one for one in self._members.values() if one.running and one.pipeline.phase is not Phase.LOADING]

    def visitor(self) -> Process | None:
        """A new third member, unless there is one."""
        if len([one for one in self._members.values() if one.running]) > MEMBERS:
            return None
        self._visits += 1
        return self._start(f"visitor-{self._visits}")

    def rival(self, process: Process) -> None:
        """Start a second process in a slot; from now on it is the slot's."""
        process.rivalled = True
        self._rivals.append(process)
        self._start(process.slot)

    # --- events ------------------------------------------------------------------------------------------------------

    def _start(self, slot: str) -> Process:
        process = self._members[slot] = Process(self.world, slot)
        process.start()
        self.world.clock.later(LOOK_S, lambda: self._look_after(process))
        return process

    def _look_after(self, process: Process) -> None:
        """What a supervisor does: a process that ended starts again in its slot, unless it was told not to."""
        if process.running:
            self.world.clock.later(LOOK_S, lambda: self._look_after(process))
            return
        if process.finish is not None:
            self._check_exit(process)
        visitor = process.slot.startswith("visitor") and not process.killed
        if self._members[process.slot] is process and not self._ending and not visitor:
            pause_s = self.world.rng.choice((0.0, 0.2, 3.0))
            self.world.clock.later(pause_s, lambda: None if self._ending else self._start_again(process.slot))

    def _look(self) -> None:
        """Hold the law of signals; once a second, for as long as there is life."""
        world = self.world
        running = [one for one in [*self._members.values(), *self._rivals] if one.running]
        owners = {
            key: tuple(one.number for one in running if key in one.source.ownership.epochs)
            for key in world.log.partitions_of([INPUT])
        }

        def told(key: TopicPartition) -> bool:
            """Whether the partition's owners say so, or everybody where it has none. Where no process is left, the
            supervisor has said it."""
            asked = [one for one in running if one.number in owners[key]] or running
            return not asked or any(one.unready() for one in asked)

        world.judge.look(owners, told)
        world.clock.later(1.0, self._look)

    def _start_again(self, slot: str) -> None:
        if not self._members[slot].running:
            self._start(slot)

    def _attend(self) -> None:
        """What people do about a partition that is held: try again once, or bury the record at its head."""
        world = self.world
        world.clock.later(ATTEND_S, self._attend)
        for key, metadata in list(world.group.notes.items()):
            note, offset = Note.read(metadata), world.group.offsets[key]
            if not note.held:
                continue
            again = world.rng.random() < 0.5 and (key, note.at) not in self._released
            try:
                records = [] if again else world.log.read(key, offset, 1)[0]
            except LogError:  # it can't be read now
                continue
            if not (again or records):
                continue
            producer = world.log.init_producer("dlq")
            producer.begin()
            if again:
                self._released.add((key, note.at))
            else:
                offset = records[0].offset() + 1
                producer.send([world.buried(records[0], len(note.by))])
            producer.send_offsets(world.group, {key: offset}, None, {key: note.after_hold().write()})
            producer.commit()

    def _check_exit(self, process: Process) -> None:
        assert process.finish is not None
        expected = {ExitCode.FENCED, *process.excused}
        if process.stopping:
            expected |= {ExitCode.DONE, ExitCode.DRAIN_DEADLINE}
        if process.finish.exit_code not in expected:
            raise BrokenLawError(f"{process.slot}#{process.number} ended with {process.finish!r}")

    def _arrive(self, arrival: Arrival) -> None:
        log, clock = self.world.log, self.world.clock
        now_ms = int(clock.now * 1000)
        if not arrival.transaction:
            for value in arrival.values:
                log.append(INPUT, arrival.partition, value, headers=self._trace(), timestamp_ms=now_ms)
            return
        producer = log.init_producer(f"writer-{arrival.at_s}-{arrival.transaction}")
        producer.begin()
        producer.send((INPUT, arrival.partition, None, value, []) for value in arrival.values)
        clock.later(
            self.world.rng.random() * 0.3, producer.commit if arrival.transaction == "commit" else producer.abort
        )

    def _trace(self) -> Headers:
        """What a producer that traces puts beside a record: sampled, not sampled, or no trace at all."""
        rng = self.world.rng
        if not self.world.scenario.traced or rng.random() < 0.2:
            return []
        trace, span = rng.getrandbits(127) + 1, rng.getrandbits(63) + 1  # neither may be 0
        return [("traceparent", b"00-%032x-%016x-%02x" % (trace, span, rng.randrange(2)))]

    def _strike(self, kind: str) -> None:
        """Strike; where that is not possible yet, try again soon; where it was not in time, strike otherwise."""
        clock = self.world.clock
        if (kind in ONCE and self.faults[kind]) or clock.now > LAST_AT_S:
            kind = OTHERWISE
        if FAULTS[kind][1](self):
            self.faults[kind] += 1
            self.world.last_steps.append((clock.now, "fault", kind))
        else:
            clock.later(RETRY_S, lambda: self._strike(kind))

    # --- phases ------------------------------------------------------------------------------------------------------

    def _run_until(self, at_s: float) -> None:
        clock = self.world.clock
        while clock.now < at_s and clock.step():
            pass

    def _drain(self) -> None:
        """No fault strikes any more: all records end, and nothing stays behind."""
        clock, judge = self.world.clock, self.world.judge
        for process in self._members.values():
            process.sink.trouble.clear()
        deadline = clock.now + DRAIN_S
        while True:
            self._run_until(clock.now + LOOK_S)
            busy = [one for one in self._members.values() if one.running and not one.idle()]
            missing = judge.missing()
            starting = sum(one.running for slot, one in self._members.items() if slot.startswith("slot")) < MEMBERS
            if not missing and not busy and not starting:
                return
            if clock.now > deadline:
                told = {reason for one in self._members.values() if one.running for reason in one.unready()}
                names = [f"{one.slot}#{one.number} in {one.pipeline.phase.name}" for one in busy]
                raise BrokenLawError(
                    f"it does not drain: {len(missing)} records are missing ({', '.join(missing[:5])}); "
                    f"busy: {names}; told: {sorted(told)}; "
                    f"group {self.world.group.members}, generation {self.world.group.generation}"
                )

    def _stop(self) -> None:
        self._ending = True
        everybody = [one for one in [*self._members.values(), *self._rivals] if one.running]
        for process in everybody:
            process.stop(STOP_S)
        deadline = self.world.clock.now + STOP_S + TICK_S  # it looks at its own deadline once a tick
        while any(one.running for one in everybody):
            if self.world.clock.now > deadline or not self.world.clock.step():
                raise BrokenLawError("a stop signal does not end a process")
        for process in everybody:
            self._check_exit(process)

    def _violation(self, anomaly: str) -> ViolationError:
        return ViolationError(self.seed, self.world.steps, anomaly, list(self.world.last_steps))


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def live(seed: int) -> Outcome:
    """Run a seed. Raises ViolationError."""
    return Life(seed).run()
