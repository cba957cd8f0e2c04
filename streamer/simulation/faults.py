"""The faults that strike from outside. Each is a function that strikes now, or says that it can't yet."""

from __future__ import annotations

import signal
from collections.abc import Callable

from streamer.core.pipeline.protocol import SinkFailed, SourceFailed
from streamer.core.record import TopicPartition
from streamer.errors import ExitCode
from streamer.simulation import member_faults
from streamer.simulation.judge import INPUT, OUTPUT
from streamer.simulation.member_faults import Fault, Life, Passer, some
from streamer.simulation.process import REVOKE_DEADLINE_S, Process
from streamer.simulation.scenario import PARTITIONS
from streamer.testing import Stage, Trouble

STALLS_S = (0.3, 1.2, 2.5)  # within everything; past the revoke deadline; past the transaction's timeout
DENIED = (ExitCode.CONFIGURATION, "a right was taken away")
WALL_JUMPS_S = (-3600.0, 3600.0)


def _on_worker(strike: Callable[[Process, int], None], choose: str) -> Fault:
    def fault(life: Life) -> bool:
        choices = [(process, worker) for process in life.running() for worker in getattr(process.workers, choose)()]
        if not choices:
            return False
        strike(*life.world.rng.choice(choices))
        return True

    return fault


def bad_start(life: Life) -> bool:
    """A worker's device fails, and again at the next start."""
    for process in life.running():
        alive = process.workers.alive()
        if alive:
            process.workers.failing_starts = 1
            process.workers.break_device(alive[0])
            return True
    return False


def unannounced_deaths(life: Life) -> bool:
    """A worker dies twice before it announces anything: whoever is to blame, it can't be told."""
    process = some(life)
    if process is None or process.workers.failing_encodes:
        return False
    process.workers.failing_encodes = 2
    return True


def slow_worker(life: Life) -> bool:
    """The model takes ten times as long for a while."""
    process = some(life)
    if process is None:
        return False
    process.workers.slowness = 10.0
    life.world.clock.later(1.0, lambda: setattr(process.workers, "slowness", 1.0))
    return True


def _on_cache(field: str, value: object, usual: object) -> Fault:
    def fault(life: Life) -> bool:
        process = some(life)
        if process is None or not life.world.scenario.shared_cache:
            return False
        setattr(process.cache, field, value)
        life.world.clock.later(0.3 + life.world.rng.random(), lambda: setattr(process.cache, field, usual))
        return True

    return fault


def _in_sink(trouble: Trouble) -> Fault:
    def fault(life: Life) -> bool:
        process = some(life)
        if process is None or trouble in process.sink.trouble:
            return False
        process.sink.trouble.append(trouble)
        return True

    return fault


def withheld(life: Life) -> bool:
    """A commit has no answer, and the brokers lose its end: its process gives up when nobody will ever tell."""
    process = some(life)
    if process is None or Trouble.WITHHELD in process.sink.trouble:
        return False
    process.excused.add(ExitCode.DEPENDENCY)
    process.sink.trouble.append(Trouble.WITHHELD)
    return True


def _ends_by_itself(strike: Callable[[Process, int], None], end: ExitCode) -> Fault:
    """A fault that no process of ours goes on after; its supervisor starts it again, once that is fixed."""

    def fault(life: Life) -> bool:
        choices = [(process, worker) for process in life.running() for worker in process.workers.alive()]
        if not choices:
            return False
        process, worker = life.world.rng.choice(choices)
        process.excused.add(end)
        strike(process, worker)
        return True

    return fault


def stall(life: Life) -> bool:
    """A broker that takes its time, somewhere between the records and the commit."""
    process = some(life)
    if process is None or Trouble.STALL in process.sink.trouble:
        return False
    rng = life.world.rng
    process.sink.stall_s = rng.choice(STALLS_S)
    process.sink.stall_before = rng.choice(list(Stage))
    process.sink.trouble.append(Trouble.STALL)
    return True


def slow_revoke(life: Life) -> bool:
    """A plan outlasts the revoke deadline, and its partitions come back before it ends."""
    for process in life.running():
        if process.sink.busy and not process.sink.trouble and len(process.source.ownership.epochs) > 1:
            process.sink.stall_s = REVOKE_DEADLINE_S + 0.6
            process.sink.stall_before = Stage.COMMIT if life.world.scenario.exactly_once else Stage.OFFSETS
            process.sink.trouble.append(Trouble.STALL)
            Passer(life.world, REVOKE_DEADLINE_S + 0.1)
            return True
    return False


def sink_fenced(life: Life) -> bool:
    """Somebody takes the sink's transactional id and goes away again."""
    process = some(life)
    if process is None:
        return False
    life.world.log.init_producer(process.transactional_id)
    return True


def wall_jump(life: Life) -> bool:
    """The wall clock is set an hour forward or back."""
    life.world.wall_s += life.world.rng.choice(WALL_JUMPS_S)
    return True


def _endless_s(life: Life) -> float:
    """How long something stands that does not pass by itself, until somebody sees to it: also for longer than the law
    of signals allows to be silent."""
    return life.world.rng.choice((3.0, 70.0))


def _some_unanswered(life: Life) -> TopicPartition | None:
    """A partition that has records before it."""
    world = life.world
    keys = [key for key in world.log.partitions_of([INPUT]) if world.judge.unanswered(key)]
    return world.rng.choice(keys) if keys else None


def open_input(life: Life) -> bool:
    """A producer leaves a transaction open on the input; what others write behind it can't be read."""
    world = life.world
    key = world.rng.choice(world.log.partitions_of([INPUT]))
    seconds = _endless_s(life)
    producer = world.log.init_producer("left open", 2 * seconds)
    producer.begin()
    producer.send([(*key, None, b'{"text":"never committed"}', [])])
    world.clock.later(seconds, producer.abort)
    return True


def unreadable(life: Life) -> bool:
    """The next record of a partition is damaged on the broker's disk."""
    key = _some_unanswered(life)
    if key is None:
        return False
    log = life.world.log
    log.damage(key, life.world.group.offsets.get(key, 0))
    life.world.clock.later(_endless_s(life), lambda: log.damage(key, None))
    return True


def beyond_end(life: Life) -> bool:
    """The log is that of a mirror which is behind: it ends before the committed offset."""
    world = life.world
    offsets = {key: offset for key, offset in world.group.offsets.items() if offset > 1}
    if not offsets:
        return False
    key = world.rng.choice(sorted(offsets))
    world.log.shorten(key, offsets[key] - 1)
    world.clock.later(_endless_s(life), lambda: world.log.shorten(key, None))
    return True


def output_refuses(life: Life) -> bool:
    """The output takes no record, whoever writes it and how often."""
    refusing = life.world.log.refusing
    refusing.add(OUTPUT)
    life.world.clock.later(_endless_s(life), lambda: refusing.discard(OUTPUT))
    return True


def registry_lags(life: Life) -> bool:
    """The schema registry gives no schema that is newer than now; records of others go on."""
    world = life.world
    registry = world.registry
    if registry.newest is not None:
        return False
    registry.newest = PARTITIONS + int(2 * world.clock.now)

    def catch_up() -> None:
        # After a death records are handed over one portion at a time, and the next one waits for the schemas, too; a
        # micro-batch that is larger than the budget leaves no room.
        for process in life.running() if life.faults.keys().isdisjoint(LASTING) else ():
            waiting, budget_bytes = process.pipeline.seals.partitions.values(), process.pipeline.flow.budget_bytes
            if not process.source.careful and all(one.segment.size_bytes < budget_bytes for one in waiting):
                world.judge.others_go_on(process.signals.standings.current)
        registry.catch_up()

    world.clock.later(_endless_s(life), catch_up)
    return True


FAULTS: dict[str, tuple[float, Fault]] = {
    "join": (1.5, member_faults.join),
    "leave": (1.5, member_faults.leave),
    "rebalances": (1.0, member_faults.rebalances),
    "lost": (1.5, member_faults.lost),
    "killed": (1.5, member_faults.killed),
    "killed_in_transaction": (1.5, member_faults.killed_in_transaction),
    "killed_in_revoke": (3.0, member_faults.killed_in_revoke),
    "usurped": (1.0, member_faults.usurped),
    "worker_segfault": (1.0, _on_worker(lambda one, worker: one.workers.die(worker, signal.SIGSEGV), "running")),
    "worker_sigkill": (1.0, _on_worker(lambda one, worker: one.workers.die(worker, signal.SIGKILL), "alive")),
    "worker_hang": (1.0, _on_worker(lambda one, worker: one.workers.hang(worker), "running")),
    "suspect_dies": (1.0, _on_worker(lambda one, worker: one.workers.die(worker, signal.SIGSEGV), "judging")),
    "device": (1.0, _on_worker(lambda one, worker: one.workers.break_device(worker), "alive")),
    "bad_start": (0.7, bad_start),
    "unannounced_deaths": (0.7, unannounced_deaths),
    "slow_worker": (0.7, slow_worker),
    "cache_down": (0.8, _on_cache("available", False, True)),
    "cache_slow": (0.8, _on_cache("delay_s", 0.1, 0.0)),
    "cache_garbled": (0.8, _on_cache("garbled", True, False)),
    "model_fails": (0.4, _ends_by_itself(lambda one, worker: one.workers.break_model(worker), ExitCode.HALTED)),
    "model_replaced": (
        0.4,
        _ends_by_itself(lambda one, worker: one.workers.replace_model(worker), ExitCode.DEPENDENCY),
    ),
    "read_denied": (
        0.4,
        _ends_by_itself(lambda one, _: one.post(SourceFailed(*DENIED)), ExitCode.CONFIGURATION),
    ),
    "write_denied": (0.4, _ends_by_itself(lambda one, _: one.post(SinkFailed(*DENIED)), ExitCode.CONFIGURATION)),
    "abort": (1.0, _in_sink(Trouble.ABORT)),
    "unclear_applied": (1.0, _in_sink(Trouble.UNCLEAR_APPLIED)),
    "unclear_lost": (1.0, _in_sink(Trouble.UNCLEAR_LOST)),
    "unclear_late": (1.0, _in_sink(Trouble.UNCLEAR_LATE)),
    "away": (0.7, _in_sink(Trouble.AWAY)),
    "cut_off": (0.7, _in_sink(Trouble.CUT_OFF)),
    "hangs": (0.3, _in_sink(Trouble.HANGS)),
    "undelivered": (1.0, _in_sink(Trouble.UNDELIVERED)),
    "commit_failed": (1.0, _in_sink(Trouble.COMMIT_FAILED)),
    "commit_unclear": (1.0, _in_sink(Trouble.COMMIT_UNCLEAR)),
    "refuse_records": (1.0, _in_sink(Trouble.REFUSE_RECORDS)),
    "refuse_topic": (1.0, _in_sink(Trouble.REFUSE_TOPIC)),
    "slow_revoke": (3.0, slow_revoke),
    "stall": (1.5, stall),
    "sink_fenced": (0.7, sink_fenced),
    "wall_jump": (0.7, wall_jump),
    "withheld": (0.3, withheld),
    "open_input": (0.1, open_input),
    "unreadable": (0.1, unreadable),
    "beyond_end": (0.1, beyond_end),
    "output_refuses": (0.1, output_refuses),
    "registry_lags": (1.0, registry_lags),
}
"""Each kind with its weight. A kind that strikes a good suspect must strike once a seed at most: see `ONCE`."""

LASTING = frozenset({"open_input", "unreadable", "beyond_end", "output_refuses"})
ONCE = LASTING | {"suspect_dies", "withheld", "registry_lags"}
"""Two deaths alone convict a record, whoever caused them; three if they were SIGKILL. The others last for long."""
