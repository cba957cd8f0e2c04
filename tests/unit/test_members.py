"""Several members of a pipeline on one machine: which there are, where each listens, and what each may use."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from streamer.app import growth
from streamer.app.growth import LOOK_S, LOOKS, Growth, idle_s, used_s
from streamer.config.load import Config, load
from streamer.config.seats import Seat, address_at, seats_of, share_of
from streamer.core.membership import SPARE_S, Ask, Membership, Starts
from streamer.core.pipeline.attempts import Attempts
from streamer.core.surroundings import MachineInfo, ModelInfo
from streamer.core.tally import Vitals, live_words
from streamer.errors import ConfigurationError
from streamer.kafka.inspect import held_slot
from streamer.kafka.slots import SlotTakenError, take_slot
from streamer.machine.affinity import OneCore
from streamer.ops.doctor import machine, pipelines
from streamer.ops.premises import memory_remarks
from streamer.telemetry.catalogue import WORKERS_READY
from streamer.telemetry.logs import JsonFormatter
from streamer.telemetry.metrics import Metrics
from streamer.telemetry.scrape import metrics_urls, unready_at

PIPELINES = ["pipelines.p.members=3", "pipelines.p.slot=s", "pipelines.q.members=2"]


def configured(*flags: str) -> Config:
    """Two pipelines."""
    fields = {"task": "t", "model": "builtin:null", "input": "in", "output": "out"}
    own = [f"pipelines.{name}.{field}={value}" for name in "pq" for field, value in fields.items()]
    return load(None, {}, [*own, *flags])


def test_the_first_members_keep_the_ports_of_their_pipelines() -> None:
    """Further ones have those after, so that no other pipeline moves."""
    found = seats_of(configured(*PIPELINES).pipelines)
    assert list(map(str, found)) == ["p/1", "q/1", "p/2", "p/3", "q/2"]
    assert list(map(str, seats_of(configured().pipelines))) == ["p", "q"]
    assert [address_at("h:9464", place) for place in (0, 4)] == ["h:9464", "h:9468"]
    assert address_at("h:0", 4) == "h:0"
    config = configured(*PIPELINES, "telemetry.http=0.0.0.0:70")
    assert metrics_urls(config)[-1] == "http://127.0.0.1:74/metrics" and len(metrics_urls(config)) == 5


def test_each_port_has_to_exist() -> None:
    """That of the last member, too."""
    with pytest.raises(ConfigurationError, match="5 processes listen on the ports from 65532 to 65536"):
        configured(*PIPELINES, "telemetry.http=h:65532")
    with pytest.raises(ConfigurationError, match=r"pipelines\.p\.members"):
        configured("pipelines.p.members=65")


def test_memory_is_shared_out() -> None:
    """Of one member nothing changes, and nothing of another pipeline does."""
    config = configured("pipelines.p.members=3", "pipelines.p.budget_mb=100", "cache.memory_mb=10")
    mine = share_of(config, "p")
    assert (mine.pipelines["p"].budget_mb, mine.cache.memory_mb) == (33, 4)
    assert mine.pipelines["q"] is config.pipelines["q"]
    assert share_of(config, "q") is config
    assert share_of(configured("pipelines.p.members=3", "pipelines.p.budget_mb=1"), "p").pipelines["p"].budget_mb == 1


def test_members_by_measurement_have_no_more_than_a_fixed_number_has() -> None:
    """Each has from the start what it will have when there are as many as the cores allow."""
    config = configured("pipelines.p.members=0", "pipelines.p.budget_mb=100", "cache.memory_mb=10")
    mine = share_of(config, "p", 4)
    assert (mine.pipelines["p"].budget_mb, mine.cache.memory_mb) == (25, 3)
    assert share_of(config, "p", 1) is config
    assert share_of(config, "q", 4) is config, "one that has one member keeps what it has"


def test_no_member_is_added_without_memory_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What those that run and their children hold is looked at."""
    own = growth._resident_bytes(os.getpid())
    program = "import time; x = b'1' * 50_000_000; print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline()
        monkeypatch.setattr(growth, "usable_memory_bytes", lambda: 100 * own)
        assert growth.fits_one_more([os.getpid()])
        monkeypatch.setattr(growth, "usable_memory_bytes", lambda: int(2 * own / growth.ROOM) + 1)
        assert not growth.fits_one_more([os.getpid()]), "the child counts"
        child.kill()
    assert growth.fits_one_more([10**9]), "one that has just ended"


def test_members_that_can_not_fit_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a container's memory, by the drivers' budgets and the models' files; `run` and `config check` say so."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros(250_000, np.float32)}, tmp_path / "model.safetensors")
    config = configured("pipelines.p.members=4", f"pipelines.p.model={tmp_path}", "pipelines.p.device=cpu")
    monkeypatch.setattr("streamer.machine.limits.usable_memory_bytes", lambda: 2_000_000_000)
    (found,) = memory_remarks(config, {"p": (1, 1)})
    assert found.problem.startswith(
        "drivers take up to 0.6 GB (budget_mb, memory_mb) and workers 2.4 GB; there are 2.0"
    )
    assert "members" in found.fix
    assert not list(memory_remarks(config, {"q": (1, 1)}))


def test_members_have_slots_of_their_own(tmp_path: Path) -> None:
    """Of a replica's name the first has it as it is; of names that are chosen each takes one that is free."""
    places = [str(tmp_path)]
    one, two = (take_slot("g", "a", {}, places, member) for member in (1, 2))
    assert (one.name, two.name) == ("a", "a.2")
    with pytest.raises(SlotTakenError, match=r"slot a\.2 of group g"):
        take_slot("g", "a", {}, places, 2)
    chosen = [take_slot("g", "", {}, places, member) for member in (1, 2)]
    assert chosen[0].name != chosen[1].name
    for slot in (one, two, *chosen):
        slot.release()


def test_the_slot_of_any_member_may_be_held() -> None:
    """`doctor` looks at all that a start would take."""
    pipeline = configured(*PIPELINES, f"pipelines.p.group=held.{__name__}").pipelines["p"]
    assert held_slot(pipeline) == ""
    slot = take_slot(pipeline.group, "s.3")
    assert held_slot(pipeline) == "s.3"
    slot.release()


def test_a_member_without_partitions_does_not_end_at_once() -> None:
    """With `--until-end`: a group tells who joins that nothing is theirs, until the owner has let go."""
    member = Membership(Attempts(6), until_end=True, revoke_deadline_s=10)
    _hear(member, now=100.0)
    assert not member.at_end(100.0) and not member.at_end(109.0 + SPARE_S)
    assert member.at_end(110.0 + SPARE_S)


def _hear(member: Membership, now: float) -> None:
    """The group gives nothing."""
    steps = member.assigned([])
    answer: Any = None
    try:
        while True:
            asked = steps.send(answer)
            answer = ({}, frozenset()) if isinstance(asked, Starts) else now if asked is Ask.NOW else None
    except StopIteration:
        return


def test_metrics_and_logs_name_the_member() -> None:
    """Where there are several."""
    metrics = Metrics("p", 2)
    metrics.set(WORKERS_READY, 1)
    assert metrics.registry.get_sample_value(WORKERS_READY.name, {"pipeline": "p", "member": "2"}) == 1
    record = logging.LogRecord("n", logging.INFO, "f", 1, "m", (), None)
    assert json.loads(JsonFormatter("p", 2).format(record))["member"] == 2
    assert "member" not in json.loads(JsonFormatter("p").format(record))


def test_a_member_that_is_away_is_not_ready() -> None:
    """As long as it is started again nobody listens there."""
    assert unready_at("127.0.0.1:1", 0) == ["it does not answer"]


def test_members_take_a_core_each() -> None:
    """By their places, and once round."""
    assert [OneCore(place)._choice([4, 7]) for place in (0, 1, 2)] == [4, 7, 4]


def test_people_are_told_of_members() -> None:
    """Of processes whose names have a number."""
    at_work = Vitals("", 0.0, 10.0, 0, 0.0, 0)
    assert live_words({"p/1": at_work, "p/2": at_work}).startswith("2 of 2 members running · 20 results/s")
    assert (Seat("p").words, Seat("p", 2).words) == ("pipeline p", "member 2 of pipeline p")


def test_the_doctor_counts_members() -> None:
    """Their memory and threads, and partitions that there are not for all."""
    config = configured(*PIPELINES)
    (found,) = pipelines.judge_members("p", config.pipelines["p"], 2)
    assert found.code == "pipelines.members" and "2 partitions" in found.what
    assert not list(pipelines.judge_members("p", config.pipelines["p"], 3))
    info = MachineInfo(4, 4_000_000_000)
    found_here = machine.judge(config, {"p": (1, 2)}, {"p": ModelInfo(worker_bytes=10**9)}, info, {})
    assert [each.code for each in found_here] == ["machine.memory", "machine.cores"]


def test_a_member_more_where_all_are_busy_and_cores_idle() -> None:
    """After some looks in a row, once for each; not where one waits, where no core is left, or beyond the most."""
    growth, now, pids, used, idle = Growth(3), 0.0, [1], {1: 0.0}, 0.0

    def looks(count: int, share: float, spare: float) -> str:
        nonlocal now, idle
        told = ""
        for _ in range(count):
            now, idle = now + LOOK_S, idle + spare * LOOK_S
            for place, pid in enumerate(pids):
                used[pid] = used.get(pid, 0.0) + LOOK_S * (share if place == len(pids) - 1 else 1.0)
            told += growth.decide(now, {"p": dict(used), "q": {9: 0.0}}, len(pids), idle)
        return told

    assert growth.due(0.0) and looks(1, 1.0, 8.0) == ""
    assert not growth.due(now + LOOK_S / 2) and growth.due(now + LOOK_S)
    assert looks(LOOKS - 1, 1.0, 8.0) == "" and looks(1, 1.0, 8.0) == "p"
    pids.append(2)
    assert looks(9, 0.5, 8.0) == "" and looks(9, 1.0, 1.0) == ""
    assert looks(LOOKS, 1.0, 8.0) == "p"
    pids.append(3)
    assert looks(9, 1.0, 8.0) == ""


def test_what_this_machine_says_of_its_time() -> None:
    """Of this process, and of a number that is none."""
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert used_s([os.getpid(), 2**22 + 1]).keys() == {os.getpid()}
    assert 0.03 < used_s([os.getpid()])[os.getpid()] <= sum(os.times()[:2]) + 0.03
    assert idle_s() > 0
