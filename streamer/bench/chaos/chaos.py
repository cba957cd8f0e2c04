"""Ten minutes in which everything breaks: brokers, members, workers, Redis and the links between them.

Three brokers with three replicas of everything, members of one group behind proxies, unique events at an even pace, a
read_committed reader all along and another one at the end; between them the seed's faults.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.bench.bulk import MINILM, MINILM_TASK, BulkWorker
from streamer.bench.chaos import checker
from streamer.bench.chaos.beside import Listening, Storm
from streamer.bench.chaos.faults import DEADLY, FAULTS, Fault
from streamer.bench.chaos.members import FOR_GOOD, Member
from streamer.bench.chaos.scene import LEASE_S, Incident, Scene
from streamer.bench.chaos.workload import EventWriter, TextOf, Watcher, read_all
from streamer.bench.harness.bench import PARTITIONS, Bench
from streamer.bench.harness.program import BenchError
from streamer.bench.harness.proxy import Proxies
from streamer.bench.harness.workload import Workload
from streamer.kafka.topics import connect
from streamer.local import Listener, Stack
from streamer.local.ports import LOOPBACK, free_ports

BROKERS = 3
REPEAT_EVERY = 8
LOADS = 3
SENTENCES = 2_000
WARM_UP_S = 120.0
SETTLE_S = 15.0  # a broker compiles what it runs for the first time, on cores that the first recovery would lack
DRAIN_S = 120.0
CALM_S = (0.3, 2.0)
FRAGILE = "python:streamer.bench.models:Fragile"
MODELS = {"null": (FRAGILE, "chaos"), "MiniLM": (MINILM, MINILM_TASK)}
# A topic's new partitions are found by asking for its metadata; librdkafka does so each 5 min by itself.
PROPERTIES = {"topic.metadata.refresh.interval.ms": "3000"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: each kind of fault once at least, and so on until the time is up and all events are written."""

    minutes: float
    seed: int
    events: int
    model: str
    members: int
    kinds: Sequence[str] = ()

    @property
    def faults(self) -> list[Fault]:
        """The kinds asked for; only our own model dies of a record."""
        return [
            fault
            for fault in FAULTS
            if fault.kind in (self.kinds or [each.kind for each in FAULTS])
            and (self.model == "null" or fault.kind != DEADLY)
        ]


@dataclass(frozen=True, slots=True)
class ChaosRun:
    """What happened. `ends` holds by slot the exit codes of members that ended by themselves, `failures` by name why
    events were not acknowledged; `directory` the logs, where they are worth keeping."""

    plan: Plan
    incidents: list[Incident]
    verdict: checker.Verdict
    ends: dict[str, list[int]]
    failures: Counter[str]
    load_s: float
    chaos_s: float
    directory: Path

    @property
    def anomalous(self) -> bool:
        """Whether a law was broken, or a member ended in a way that no fault excuses."""
        return self.verdict.anomalous or any(code in FOR_GOOD for codes in self.ends.values() for code in codes)

    @property
    def worth_keeping(self) -> bool:
        """Whether somebody will want to read the logs."""
        return self.anomalous or any(self.ends.values())


def run(plan: Plan, progress: Callable[[str], None]) -> ChaosRun:
    """Start everything, break it, and judge. The logs are kept where they are worth it."""
    directory = Path(tempfile.mkdtemp(prefix="streamer-chaos-"))
    result = None
    try:
        result = _run(plan, directory, progress)
        return result
    finally:
        if result is not None and not result.worth_keeping:
            shutil.rmtree(directory)


def _run(plan: Plan, directory: Path, progress: Callable[[str], None]) -> ChaosRun:
    model, task = MODELS[plan.model]
    with contextlib.ExitStack() as stage:
        proxies = stage.enter_context(Proxies())
        listeners, links = [], []
        all_ports = free_ports(plan.members * BROKERS)
        for number in range(plan.members):
            ports = all_ports[number * BROKERS :][:BROKERS]
            links.append([proxies.open(port) for port in ports])
            listeners.append(Listener(f"MEMBER{number}", ports, [proxy.port for proxy in links[-1]]))
        progress(f"{BROKERS} brokers and Redis start")
        stack = stage.enter_context(Stack.start(brokers=BROKERS, listeners=listeners, directory=directory, keep=True))
        assert stack.redis_url is not None
        redis = proxies.open(int(stack.redis_url.rpartition(":")[2].partition("/")[0]))
        bench = Bench(stack.bootstrap_servers, f"redis://{LOOPBACK}:{redis.port}/0", directory)
        setup = bench.setup(
            cache=True,
            memory_mb=0,
            pipeline={
                "model": model,
                "task": task,
                "workers": 1,
                "threads": 1,
                "lease_s": LEASE_S if plan.model == "null" else 6 * LEASE_S,
                "on_out_of_range": "earliest",
            },
            telemetry={"http": "", "spans": "", "log_level": "debug", "log_format": "json"},
        )
        rate = plan.events / (plan.minutes * 60)
        writer = stage.enter_context(EventWriter(bench.kafka, setup.input, PARTITIONS, rate, _texts(plan.model)))
        watcher = stage.enter_context(Watcher(bench.kafka, setup, PARTITIONS, writer.sent_at))
        members = [
            Member(f"member-{number}", setup, link, PROPERTIES, f"{LOOPBACK}:{port}")
            for number, (link, port) in enumerate(zip(links, free_ports(plan.members), strict=True))
        ]
        stage.callback(_kill, members)
        scene = Scene(stack, connect(bench.kafka), setup, members, redis, writer, watcher)
        scene.await_in_sync()
        progress(f"{plan.members} members start")
        for member in members:
            member.start()
        listener = stage.enter_context(Listening(scene))
        _warm_up(scene)
        progress("the brokers settle; the model's load is timed")
        scene.rest(SETTLE_S)
        load_s = _load_s(model, task)
        began = time.monotonic()
        _strike_all(plan, scene, progress)
        chaos_s = time.monotonic() - began
        progress("the rest is written and read")
        events = writer.finish(plan.events)
        _drain(scene, events)
        listener.end()
        ends = {member.slot: member.ends for member in members}
        _stop(members)
        after = read_all(bench.kafka, setup)
        scene.wait(lambda: len(watcher.outcomes) >= len(after), DRAIN_S)
        verdict = checker.check(events, list(watcher.outcomes), after, scene.deleted, listener.silence.found)
        return ChaosRun(plan, scene.incidents, verdict, ends, writer.failures, load_s, chaos_s, directory)


def _load_s(model: str, task: str) -> float:
    """How long a worker takes to load the model beside the brokers and members at work, as in a restart."""
    loads = []
    for _ in range(LOADS):
        with BulkWorker(model, task) as worker:
            loads.append(worker.ready_s)
    return statistics.median(loads)


def _texts(model: str) -> TextOf:
    """Most texts are new, so that workers have work; every eighth is an earlier one, so that the cache has answers."""
    if model == "null":
        return lambda number: (str(_text_number(number)), _text_number(number))
    sentences = list(Workload(SENTENCES).texts())
    return lambda number: (f"{sentences[_text_number(number) % SENTENCES]} {_text_number(number)}", None)


def _text_number(number: int) -> int:
    return number // 2 if number % REPEAT_EVERY == REPEAT_EVERY - 1 else number


def _warm_up(scene: Scene) -> None:
    """Until every member owns partitions and every partition has results of its newest events."""
    if not scene.wait(lambda: all(member.owned() for member in scene.members), WARM_UP_S):
        raise BenchError(f"not every member owned partitions after {WARM_UP_S:.0f} s; see {scene.setup.path.parent}")
    at = time.monotonic()
    if not scene.wait(lambda: all(scene.watcher.seen_after(each, at) for each in scene.all_partitions), WARM_UP_S):
        raise BenchError(f"no results within {WARM_UP_S:.0f} s; see {scene.setup.path.parent}")


def _strike_all(plan: Plan, scene: Scene, progress: Callable[[str], None]) -> None:
    """Rounds of all faults, each round in an order of its own; in every second one light faults strike beside them."""
    rng = random.Random(plan.seed)
    until = time.monotonic() + plan.minutes * 60
    number = 0
    while number == 0 or time.monotonic() < until:
        scene.stormy = number % 2 == 1
        storm = Storm(scene, [fault for fault in plan.faults if fault.light], random.Random(rng.random()))
        if scene.stormy:
            storm.start()
        try:
            for fault in rng.sample(plan.faults, len(plan.faults)):
                if number and time.monotonic() > until:
                    break
                left_s = max(until - time.monotonic(), 0.0)
                progress(f"{'storm' if scene.stormy else 'calm'}, {left_s:.0f} s to go: {fault.kind}")
                scene.rest(rng.uniform(*CALM_S))
                fault.strike(scene, rng, fault.kind)
        finally:
            storm.end()
        number += 1
    scene.stormy = False


def _drain(scene: Scene, events: Sequence[checker.Event]) -> None:
    """Until every acknowledged event that retention left has an outcome, or the time is up: the checker will tell."""
    wanted = {
        event.number
        for event in events
        if event.acknowledged and (event.offset is None or event.offset >= scene.deleted.get(event.partition, 0))
    }
    met = 0

    def drained() -> bool:
        nonlocal met
        count = len(scene.watcher.outcomes)
        wanted.difference_update(outcome.number for outcome in scene.watcher.outcomes[met:count])
        met = count
        return not wanted

    scene.wait(drained, DRAIN_S)


def _stop(members: Sequence[Member]) -> None:
    """All together; an end that is no orderly one is among the member's ends."""
    for member in members:
        member.ask_to_stop()
    for member in members:
        if code := member.await_end():
            member.ends.append(code)


def _kill(members: Sequence[Member]) -> None:
    for member in members:
        member.kill()
        member.kill_leftovers()
