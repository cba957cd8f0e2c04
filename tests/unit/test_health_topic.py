"""What the app knows of its own topic: baselines, what monitors said, the windows of the week, and what is too old."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

pytest.importorskip("faust", reason="needs the extra health")

from streamer.config.load import load
from streamer.core.health.keeper import Keeper
from streamer.core.health.windows.fold import DAY_MS, FIVE_MINUTES_MS, HOUR_MS, MINUTE_MS, Fold
from streamer.core.health.words import WindowWord, decode, encode
from streamer.health.drift import Drift
from streamer.telemetry.health_metrics import HealthMetrics
from tests.health_kit import NOW_MS, measured
from tests.unit.drifting_kit import drifting, fill


def made() -> Drift:
    return Drift(load(None, {}, []), HealthMetrics())


def word(start_ms: int, length_ms: int) -> WindowWord:
    fold = Fold()
    fold.add(msgspec.structs.replace(measured(3), time_ms=start_ms))
    (window,) = fold.windows("p", length_ms)
    found = WindowWord(pipeline="p", revision="r1", start_ms=window.start_ms, length_ms=length_ms, window=window)
    read = decode(encode(found))
    assert isinstance(read, WindowWord)
    return read


def test_windows_of_minutes_leave_the_topic_after_a_month() -> None:
    """Once, when that is written; hours stay, and so does what is younger."""
    drift = made()
    times = NOW_MS - 31 * DAY_MS, NOW_MS - 29 * DAY_MS
    words = [word(start_ms, length_ms) for start_ms in times for length_ms in (MINUTE_MS, FIVE_MINUTES_MS, HOUR_MS)]
    for one in words:
        drift.take(one.key, one, NOW_MS)
    for _ in range(2):
        changes = asyncio.run(drift.look(Keeper("reports"), NOW_MS))
        assert sorted(changes) == sorted((one.key, None) for one in words[:2])
    drift.written(changes)
    assert asyncio.run(drift.look(Keeper("reports"), NOW_MS)) == []


def test_the_week_is_read_from_the_topic() -> None:
    """As it was said; what is no window of this version is passed over."""
    drift = made()
    one = word(NOW_MS - DAY_MS, FIVE_MINUTES_MS)
    drift.take(one.key, one, NOW_MS)
    assert drift.drifts.season.results("p", "r1") == (1, measured(3).results)
    newer = msgspec.structs.replace(one, window={"pipeline": 3})
    drift.take("p/window/r1/300000/1", newer, NOW_MS)
    assert drift.drifts.season.results("p", "r1") == (1, measured(3).results)


def test_only_what_has_changed_is_written() -> None:
    """What monitors of a retired revision had said is taken back, as is a baseline that somebody has deleted."""
    drift, known, keeper = made(), drifting(), Keeper("reports")
    drift.drifts.baselines, drift.drifts._judged = known.baselines, known._judged
    keeper.newest_ms["p"] = NOW_MS
    changes = dict(asyncio.run(drift.look(keeper, NOW_MS)))
    said = list(known.words(["p"]))
    assert list(changes) == said and "p/drift/r1/label" in said
    assert dict(asyncio.run(drift.look(keeper, NOW_MS))) == changes, "not written yet"
    drift.written(changes.items())
    assert asyncio.run(drift.look(keeper, NOW_MS)) == []
    assert b'monitor_drift{monitor="label",pipeline="p",revision="r1"} 1.0' in drift._metrics.page()[1]
    fill(keeper.fold, NOW_MS + HOUR_MS, 1, revision="r2")
    changes = dict(asyncio.run(drift.look(keeper, NOW_MS + 2 * HOUR_MS)))
    assert changes == dict.fromkeys(said)
    (key,) = drift.drifts.baselines
    drift.take(key, None, NOW_MS)
    assert not drift.drifts.baselines


def test_each_pipeline_has_its_own_budget() -> None:
    """That of [health] where it has none."""
    overrides = ["health.false_alarms_per_month=3", "pipelines.a.false_alarms_per_month=0.1"]
    for name in "ab":
        settings = {
            "task": "text-classification",
            "model": "builtin:null",
            "input": f"{name}.in",
            "output": f"{name}.out",
        }
        overrides += [f"pipelines.{name}.{key}={value}" for key, value in settings.items()]
    config = load(None, {}, overrides)
    drift = Drift(config, HealthMetrics())
    assert [drift.monthly(name) for name in ("a", "b", "unknown")] == [0.1, 3.0, 3.0]


def test_before_anything_is_judged_the_page_says_how_to_save_a_baseline() -> None:
    """Of each configured pipeline, by its name, also where none has reported."""
    settings = {"task": "text-classification", "input": "in", "output": "out", "model": "builtin:null"}
    config = load(None, {}, [f"pipelines.mood.{name}={value}" for name, value in settings.items()])
    page = json.loads(Drift(config, HealthMetrics()).page(Fold(), {}).body)
    assert "streamer health baseline save mood" in page["pipelines"]["mood"]["what"]
    assert page["pipelines"]["mood"]["drifting_monitors"] is None


def test_metrics_tell_insufficient_from_ok() -> None:
    """Neither fires; of one of them it is not known."""
    metrics = HealthMetrics()
    for rule, state, value in (("drift", "insufficient", None), ("latency", "ok", 3.0)):
        metrics.rule("p", rule, "ticket", state, value)
    lines = metrics.page()[1].decode().splitlines()
    assert 'streamer_health_rule_insufficient{pipeline="p",rule="drift"} 1.0' in lines
    assert 'streamer_health_rule_insufficient{pipeline="p",rule="latency"} 0.0' in lines
    assert 'streamer_health_rule_firing{pipeline="p",rule="drift",severity="ticket"} 0.0' in lines
