"""What the app writes is whole, whoever else writes to the topic, and what can't be written is written later."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest

pytest.importorskip("faust", reason="needs the extra health")

from streamer.config.load import load
from streamer.core.health.feedback import memory
from streamer.core.health.feedback.feedback import Place, Said, read
from streamer.core.health.feedback.join import Joiner, Result, Revision, Source
from streamer.core.health.feedback.memory import assembled
from streamer.core.health.keeper import Keeper
from streamer.core.health.windows.fold import DAY_MS
from streamer.core.health.words import FeedbackWord, PartWord, Word
from streamer.health.alarms import Alarms
from streamer.health.app import Message
from streamer.health.drift import Drift
from streamer.health.feedback.grades import Grades
from streamer.health.feedback.labels import Labels
from streamer.health.feedback.memories import ABANDONED_MS, Memories
from streamer.health.saying import Saying
from streamer.telemetry.health_metrics import HealthMetrics
from tests.health_kit import NOW_MS, report

CONFIG = load(None, {}, [])
TOPIC = CONFIG.health.feedback


class Topic:
    """The last word on each key, and what the snapshots held when they were made."""

    def __init__(self) -> None:
        self.words: dict[str, Word] = {}
        self.contents: dict[str, bytes] = {}

    def put(self, key: str, word: Word | None) -> None:
        """A record. Whoever reads now finds a snapshot that is whole, if ever one was."""
        if word is None:
            self.words.pop(key, None)
        else:
            self.words[key] = word
        if self.head is not None:
            assert assembled(self.head, self.parts.values()) == self.contents[self.head.snapshot]

    @property
    def head(self) -> FeedbackWord | None:
        word = self.words.get(f"feedback/{TOPIC}")
        return word if isinstance(word, FeedbackWord) else None

    @property
    def parts(self) -> dict[str, PartWord]:
        return {key: word for key, word in self.words.items() if isinstance(word, PartWord)}


class App:
    """One that writes a record at each step, and begins a snapshot where it has nothing more to write."""

    def __init__(self, topic: Topic, draw: random.Random, now_ms: int) -> None:
        self._topic, self._draw = topic, draw
        self._memories = Memories(Labels(CONFIG, HealthMetrics()))
        self._memories.restore(topic.head, topic.parts, now_ms)
        self._queue: list[tuple[str, Word | None]] = []
        self._head: FeedbackWord | None = None

    def step(self, now_ms: int) -> None:
        """One record; sometimes what was written is not acknowledged."""
        if not self._queue:
            content = self._draw.randbytes(self._draw.randint(1, 60))
            changes, self._head = self._memories.parts(content, 0.0, now_ms)
            self._topic.contents[self._head.snapshot] = b"".join(
                word.content for _, word in changes if isinstance(word, PartWord)
            )
            self._queue = [*changes, (self._head.key, self._head)]
        self._topic.put(*self._queue.pop(0))
        if not self._queue and self._head is not None and self._draw.random() < 0.8:
            self._memories.written(self._head)


def test_apps_that_share_a_topic_leave_each_other_a_whole_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """After every record, whatever the order of two apps' records is, and whenever one is killed. What nothing names is
    taken back in the end."""
    monkeypatch.setattr(memory, "PART_BYTES", 10)
    draw, topic, now_ms = random.Random(1), Topic(), NOW_MS
    apps = [App(topic, draw, now_ms), App(topic, draw, now_ms)]
    for _ in range(2_000):
        now_ms += 5_000
        if draw.random() < 0.01:
            apps[draw.randrange(2)] = App(topic, draw, now_ms)
        draw.choice(apps).step(now_ms)
    assert topic.head is not None
    last = App(topic, draw, now_ms + DAY_MS)
    for _ in range(100):
        last.step(now_ms + DAY_MS)
    assert len({part.snapshot for part in topic.parts.values()}) <= 6


def test_parts_that_another_app_is_writing_are_left_alone() -> None:
    """Those of an app that is gone are taken back, with the first snapshot."""
    labels = Labels(CONFIG, HealthMetrics())
    for age_ms, gone in ((1_000, False), (ABANDONED_MS + 1, True)):
        parts, _ = memory.split(TOPIC, "other", NOW_MS - age_ms, b"content")
        memories = Memories(labels)
        assert not memories.restore(None, {part.key: part for part in parts}, NOW_MS)
        changes, _ = memories.parts(b"mine", 0.0, NOW_MS)
        assert [key for key, word in changes if word is None] == ([parts[0].key] if gone else [])


class Bench:
    """All that says something, with a report and a message that is refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        metrics = HealthMetrics()
        self.keeper, self.labels = Keeper("reports"), Labels(CONFIG, metrics)
        self.drift = Drift(CONFIG, metrics)
        monkeypatch.setattr(self.drift, "news", list)
        alarms = Alarms(CONFIG.health, self.labels, self.drift, metrics)
        grades, memories = Grades(self.labels, metrics), Memories(self.labels)
        self.saying = Saying(CONFIG, self.keeper, self.drift, self.labels, grades, memories, alarms, metrics)
        self.saying.caught_up = True
        self.published: list[set[str]] = []
        self.works = True
        monkeypatch.setattr(self.saying._publisher, "publish", self._publish)
        self.keeper.take(0, 0, msgspec.json.encode(report(NOW_MS)))
        self.labels.take(Message(0, 4, None, b"nonsense", NOW_MS))

    def _publish(self, records: list[Any], snapshots: list[Any]) -> bool:
        if not self.works:
            raise BufferError
        self.published.append({f"{one.topic} {one.key!r}"[:60] for one in [*records, *snapshots]})
        return True

    def say(self) -> None:
        """Once."""
        self.saying._look_at = self.saying._snapshot_at = 0.0
        asyncio.run(self.saying.say(final=True))


@pytest.mark.parametrize("fault", ["publish", "look"])
def test_what_can_not_be_written_is_written_next_time(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, whether the brokers are away, or something fails before they are asked."""
    well, ill = Bench(monkeypatch), Bench(monkeypatch)
    well.say()
    with monkeypatch.context() as patch:
        ill.works = fault != "publish"
        if fault == "look":
            patch.setattr(ill.labels, "memory", lambda: 1 / 0)
        ill.say()
        assert not ill.published and not ill.labels.written
    ill.works = True
    ill.say()
    (wanted,), (found,) = well.published, ill.published
    assert {key for key in found if "b'feedback/" not in key} == {key for key in wanted if "b'feedback/" not in key}
    assert any(key.startswith(f"{TOPIC}.dlq") for key in found) and any("b'feedback/" in key for key in found)
    assert any("b'p/window/" in key for key in found) and any("b'snapshot/" in key for key in found)
    assert ill.labels.written == {0: 5} and not ill.labels.unsaved


def test_a_feedback_topic_that_is_made_anew_has_its_dead_letters() -> None:
    """Up to where they were written is an offset of the topic before."""
    labels = Labels(CONFIG, HealthMetrics())
    labels.upto, labels.written = {0: 100}, {0: 100}
    assert labels.begin(0, 0, 0, 3) == 0
    labels.take(Message(0, 0, None, b"nonsense", NOW_MS))
    letters, written = labels.refused()
    assert len(letters) == 1 and written == {0: 1}


def said(label: str, age_ms: int) -> Said:
    found = read(b'{"ce_id": "p/in/0/1", "label": "%s"}' % label.encode(), NOW_MS - age_ms)
    assert isinstance(found, Said)
    return found


@pytest.mark.parametrize("is_found", [False, True])
def test_feedback_that_is_read_again_takes_no_place_of_newer_feedback(is_found: bool) -> None:
    """The newer one lies in another partition, and is read first after a restart, or even joined by then."""
    joiner, place = Joiner(86_400), Place("p", "in", 0, 1)
    result = Result("p", Revision("r"), {"label": "a", "score": 0.9}, Source("in", 0, 1, NOW_MS - 60_000))
    joiner.take(place, said("b", 1_000), NOW_MS)
    if is_found:
        joiner.found(place, result, NOW_MS)
    joiner.resume(place, said("a", 2_000), NOW_MS, 1)
    if not is_found:
        joiner.found(place, result, NOW_MS)
    (grade,) = joiner.realised.grades("p", DAY_MS)
    assert grade.quality.confusion is not None and grade.quality.confusion.cells == {"b": {"a": 1}}
    assert joiner.tally("p").outcomes == {"matched": 1, "duplicate": 1}
    assert joiner.fresh == 0 and not joiner.wanted(NOW_MS, 10)
