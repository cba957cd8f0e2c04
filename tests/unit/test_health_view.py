"""What pages keep of the health topic, and the sentence that they show first."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.health.pages.picture import STALE_MS, Headline, Picture, headline, picture
from streamer.core.health.pages.view import KEEP, MOST_WORDS, REVISIONS, HealthView
from streamer.core.health.windows.fold import DAY_MS, FIVE_MINUTES_MS, HOUR_MS, MINUTE_MS
from streamer.core.health.windows.window import window_of
from streamer.core.health.words import VERSION, BaselineWord, DriftWord, StateWord, WindowWord, Word, decode, encode
from tests.health_kit import NOW_MS, measured, report
from tests.made_health import NEW, OLD, words


def seen(now_ms: int = NOW_MS, *, drifts: bool = True) -> HealthView:
    """What a page knows that has read the topic."""
    view = HealthView()
    for key, word in words("p", now_ms, drifts=drifts):
        assert view.wants(key, len(encode(word)), now_ms)
        view.take(key, decode(encode(word)))
    return view


def state(rule: str, **fields: object) -> StateWord:
    given = {"metric": "m", "state": "ok", "severity": "page", "what": f"p: {rule} it is", "time_ms": NOW_MS}
    return msgspec.convert(
        {"kind": "state", "version": VERSION, "pipeline": "p", "rule": rule, "since_ms": 0, "threshold": 1.0}
        | given
        | fields,
        StateWord,
    )


def test_a_picture_has_all_that_the_app_said() -> None:
    """Each revision has its columns, without a gap in time; answers are shares; what drifts comes first."""
    found = picture("p", seen().pipelines["p"], FIVE_MINUTES_MS, NOW_MS)
    assert [each.revision for each in found.series] == [NEW, OLD]
    assert [after - before for before, after in zip(found.time_s, found.time_s[1:], strict=False)] == [300.0] * 239
    new, old = found.series
    assert [value is None for value in new.columns["rate"]] == [True] * 96 + [False] * 144
    assert [value is None for value in old.columns["rate"]] == [False] * 96 + [True] * 144
    assert list(new.labels) == ["praise", "question", "complaint", "order", "spam", "refund", ""]
    assert sum(shares[-1] or 0 for shares in new.labels.values()) == pytest.approx(1, abs=1e-4)
    assert new.columns["estimated_accuracy"][-1] < new.columns["estimated_accuracy"][100]  # type: ignore[operator]
    assert [each.monitor for each in found.drift if each.state == "drift"] == ["label", "confidence"]
    assert [each.state for each in found.drift] == ["drift"] * 2 + ["ok"] * 8
    label, confidence = found.drift[:2]
    assert (label.kind, confidence.kind) == ("categories", "histogram")
    (complaint,) = [bar for bar in label.bars if bar[0] == "complaint"]
    assert complaint[1] == pytest.approx(0.12, abs=0.02)
    assert complaint[2] == pytest.approx(0.27, abs=0.03)
    middles = [float(name) for name, *_ in confidence.bars]
    assert middles == sorted(middles)
    assert found.baselines[NEW].records == 58_800


def test_the_worst_is_said_first() -> None:
    """What fires and what drifts, then that nothing moved; and nothing at all of an app that is silent."""
    view = seen().pipelines["p"]
    said = headline(view, NOW_MS)
    assert (said.level, said.state) == ("warn", "drift")
    assert re.match(r"label complaint 1\d % → 2\d %", said.what)
    assert said.what.endswith("; 1 more monitor drifts")
    view.states["p/silent"] = state("silent", state="firing")
    said = headline(view, NOW_MS)
    assert (said.level, said.state) == ("bad", "firing")
    assert said.what.startswith("silent it is; label complaint")
    assert headline(view, NOW_MS + STALE_MS).level == "bad"
    silent = headline(view, NOW_MS + STALE_MS + 1)
    assert silent == Headline("unknown", "no word", "the health app has not spoken for 3 min: does it run?")
    well = headline(seen(drifts=False).pipelines["p"], NOW_MS)
    assert (well.level, well.state) == ("ok", "ok")
    assert well.what.startswith("nothing moved of 10 figures")


def test_without_a_judgement_nothing_is_called_well() -> None:
    """Where no monitor has seen enough, the sentence says so, and the state is not ok."""
    view = HealthView()
    view.take("p/drift", state("drift", metric="drifting_monitors", state="insufficient", what="p: no baseline yet"))
    assert headline(view.pipelines["p"], NOW_MS) == Headline("unknown", "can't tell", "no baseline yet")


def test_what_is_taken_back_is_gone() -> None:
    """A tombstone takes back what a monitor said, a rule's state and a baseline."""
    view = seen()
    one = view.pipelines["p"]
    for key in [*one.drifts, *one.states, f"p/baseline/{NEW}"]:
        view.take(key, None)
    assert not (one.drifts or one.states or one.baselines)


def test_it_is_bounded() -> None:
    """Windows of a minute, old ones, and snapshots are not even decoded; of the others the latest are kept."""
    view = HealthView()
    old_ms = NOW_MS - 25 * HOUR_MS
    wanted = {
        (f"a/b/window/r/{FIVE_MINUTES_MS}/{NOW_MS}", 10**6): True,
        (f"a/b/window/r/{FIVE_MINUTES_MS}/{old_ms}", 500): False,
        (f"a/b/window/r/{HOUR_MS}/{old_ms}", 500): True,
        (f"a/b/window/r/{MINUTE_MS}/{NOW_MS}", 500): False,
        (f"a/quality/r/{HOUR_MS}/{old_ms}", 500): True,
        (f"a/quality/r/{DAY_MS}/{NOW_MS - 8 * DAY_MS}", 500): False,
        ("snapshot/streamer.reports", 10**5): False,
        ("feedback/streamer.feedback/0/1", 10**5): False,
        ("snapshot/drift", 500): True,
        ("a/window/baseline/r", 10**5): True,
        ("a/drift/r/label", 500): True,
    }
    assert {(key, size): view.wants(key, size, NOW_MS) for key, size in wanted} == wanted
    for at in range(KEEP[FIVE_MINUTES_MS] * REVISIONS + 10):
        view.add(window_of(report(NOW_MS + at * FIVE_MINUTES_MS), FIVE_MINUTES_MS))
    points = view.pipelines["p"].points[FIVE_MINUTES_MS]
    assert len(points) == KEEP[FIVE_MINUTES_MS] * REVISIONS
    assert min(points) == (NOW_MS + 10 * FIVE_MINUTES_MS, "r1")


def test_what_was_said_longest_ago_goes_first() -> None:
    """However many revisions a pipeline has had, and whether it was read in one go or the last day first."""
    (baseline,) = [word for _, word in words("p", NOW_MS) if isinstance(word, BaselineWord)]
    whole, newer, older = HealthView(), HealthView(), HealthView()
    for number in [*range(MOST_WORDS + 100), 150]:
        word = msgspec.structs.replace(baseline, revision=f"r{number}", saved_ms=number)
        for view in (whole, newer if number > 300 else older):
            view.take(word.key, word)
    newer.put_before(older)
    wanted = {f"r{number}" for number in range(100, MOST_WORDS + 100)}
    assert whole.pipelines["p"].baselines.keys() == newer.pipelines["p"].baselines.keys() == wanted


def test_only_what_can_be_taken_back_is_remembered_as_gone() -> None:
    """The app takes back windows by the ten thousands."""
    assert HealthView.is_window(f"a/b/window/r/{MINUTE_MS}/{NOW_MS}")
    assert HealthView.is_window(f"a/quality/r/{HOUR_MS}/{NOW_MS}")
    assert not any(
        map(HealthView.is_window, ("a/baseline/r", "window/baseline/r/1/x", "a/drift/r/label", "a/drift", ""))
    )


def test_words_of_a_version_to_come_do_not_hurt() -> None:
    """A window that is none, monitors and labels that nobody knows."""
    view = HealthView()
    view.take("k", WindowWord(pipeline="p", revision="r", start_ms=0, length_ms=FIVE_MINUTES_MS, window={"a": 1}))
    assert view.pipelines == {}
    (drift,) = [word for _, word in words("p", NOW_MS) if isinstance(word, DriftWord) and word.monitor == "label"]
    view.take("k", msgspec.structs.replace(drift, monitor="new", before={"1": 1.0}, after={"x": 1.0}))
    view.add(window_of(measured(7), FIVE_MINUTES_MS))
    found = picture("p", view.pipelines["p"], FIVE_MINUTES_MS, NOW_MS + FIVE_MINUTES_MS + 10_000)
    assert [each.bars for each in found.drift] == [[("1", 1.0, 0.0), ("x", 0.0, 1.0)]]
    assert found.series[0].columns["rate"][-1]


@settings(deadline=None, max_examples=20)
@given(split=st.integers(0, 300), back=st.lists(st.integers(0, 300), max_size=3))
def test_what_is_read_later_and_was_said_before_changes_nothing(split: int, back: list[int]) -> None:
    """The last day is read first, and then what is older: a page knows the same as one that has read all in order."""
    whole, newer, older = HealthView(), HealthView(), HealthView()
    said = [*SAID, *((SAID[at % len(SAID)][0], None) for at in back), *SAID[-3:]]
    gone = set()
    for at, (key, word) in enumerate(said):
        for view in (whole, newer if at >= split else older):
            view.take(key, word)
        if word is None and at >= split:
            gone.add(key)
    for key in gone:
        older.take(key, None)
    newer.put_before(older)
    for length_ms in KEEP:
        assert _shown(newer, length_ms) == _shown(whole, length_ms)


SAID: list[tuple[str, Word | None]] = [(key, decode(encode(word))) for key, word in words("p", NOW_MS)]


def _shown(view: HealthView, length_ms: int) -> Picture:
    return picture("p", view.pipelines["p"], length_ms, NOW_MS)
