"""How the app judges drift: baselines, the same hour of the days before, revisions that come and go, restarts."""

from __future__ import annotations

import msgspec
import pytest

from streamer.core.health.alerts.alerts import judge
from streamer.core.health.alerts.drifts import Drifts, Told
from streamer.core.health.alerts.rules import DEFAULTS, Measured
from streamer.core.health.drift.estimate import estimates
from streamer.core.health.drift.season import Season
from streamer.core.health.evaluation.evaluation import Evaluation
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import DAY_MS, FIVE_MINUTES_MS, HOUR_MS, KEEP, Fold
from streamer.core.health.words import DriftWord, decode, encode
from streamer.errors import UsageError
from streamer.health.baselines import calibrated, taken
from streamer.health.summary.standing import DriftStanding
from streamer.ops.evaluate_json import sums
from tests.health_kit import NOW_MS, measured
from tests.unit.drifting_kit import closed, drifting, fill, saved

LATER_MS = NOW_MS + 60_000


def states(drifts: Drifts, pipeline: str = "p") -> dict[str, str]:
    return {word.monitor: word.state for word in drifts.words([pipeline]).values()}


def fresh() -> tuple[Fold, Drifts]:
    return Fold({**KEEP, FIVE_MINUTES_MS: 9 * 288}), Drifts(lambda _: 1.0)


def test_a_move_is_named() -> None:
    """The monitor, by how much, since when, both histograms; the rule counts the monitors that say so."""
    drifts = drifting()
    assert states(drifts)["label"] == "drift" and states(drifts)["text_chars"] == "ok"
    word = drifts.words(["p"])["p/drift/r1/label"]
    assert word.what.startswith("label positive 60 % → 40 % since 11:")
    assert word.against == "baseline" and word.effect > word.floor
    assert word.before["positive"] == pytest.approx(0.6, abs=0.01)
    assert word.after["positive"] == pytest.approx(0.4, abs=0.01)
    told = drifts.told("p")
    assert told.measured.value == sum(state == "drift" for state in states(drifts).values()) >= 1
    assert told.what.startswith("p: label positive 60 % → 40 %")
    assert told.what.endswith("the baseline covers 4 h only, so that it may be the hour of the day or the day")


def test_what_is_as_usual_says_so() -> None:
    fold, drifts = fresh()
    fill(fold, NOW_MS - 5 * HOUR_MS, 60)
    word = saved(fold)
    drifts.baselines[word.key] = word
    drifts.look(fold, "p", LATER_MS)
    assert set(states(drifts).values()) == {"ok"}
    told = drifts.told("p")
    assert told.measured.value == 0 and told.what.startswith("p: nothing moved of ")


def test_without_a_baseline_one_is_offered_and_none_is_taken() -> None:
    """As soon as there is enough to take one of; the rule is insufficient, not ok."""
    fold, drifts = fresh()
    fill(fold, NOW_MS - HOUR_MS // 2, 6)
    closed(drifts, fold)
    drifts.look(fold, "p", LATER_MS)
    assert drifts.told("p").measured.value is None
    assert drifts.told("p").what == (
        "p: no baseline yet: it takes 1,000 results, spread over 10 stretches of five minutes; there are 6,000 in 6"
    )
    fill(fold, NOW_MS - HOUR_MS, 6)
    closed(drifts, fold)
    drifts.look(fold, "p", LATER_MS)
    assert drifts.told("p").measured.value is None
    assert drifts.told("p").what == (
        "p: no baseline yet; once all is as usual, save one: streamer health baseline save p"
    )
    assert not drifts.baselines and not drifts.words(["p"])


def test_few_records_are_insufficient() -> None:
    fold, drifts = fresh()
    fill(fold, NOW_MS - 5 * HOUR_MS, 48)
    fill(fold, NOW_MS - HOUR_MS // 2, 2, records=100)
    word = saved(fold, until_ms=NOW_MS - HOUR_MS)
    drifts.baselines[word.key] = word
    only = Fold()
    fill(only, NOW_MS - HOUR_MS // 2, 2, records=100)
    drifts.look(only, "p", LATER_MS)
    assert set(states(drifts).values()) == {"insufficient"}
    told = drifts.told("p")
    assert told.measured.value is None and "too few records to judge drift" in told.what


def test_a_rule_with_a_monitor_that_cannot_tell_is_not_ok() -> None:
    """Although all others can, and say that nothing moved; once one drifts, it fires."""
    drifts = drifting()
    (one,) = drifts.judged("p")
    for label, expected in (("drift", "firing"), ("ok", "ok"), ("insufficient", "insufficient")):
        for finding in one.findings:
            finding.state = "ok" if finding.monitor != "label" else label  # type: ignore[assignment]
        told = drifts.told("p")
        word = judge(DEFAULTS["drift"], "p", told.measured, NOW_MS, None)
        assert word.state == expected
        assert (word.value is None) == (expected == "insufficient")
    assert told.what.startswith("p: nothing moved of ")
    assert "too few records to judge label" in told.what


def test_the_same_hour_of_the_days_before_judges_too() -> None:
    """With no baseline at all: three days tell what noon is like, two do not."""
    for days, expected in ((2, {}), (3, {"label": "drift"})):
        fold, drifts = fresh()
        for day in range(1, days + 1):
            fill(fold, NOW_MS - day * DAY_MS - HOUR_MS, 24)
        fill(fold, NOW_MS - HOUR_MS // 2, 6, 0.3)
        closed(drifts, fold)
        drifts.look(fold, "p", LATER_MS)
        assert {name: state for name, state in states(drifts).items() if name == "label"} == expected
    assert {word.against for word in drifts.words(["p"]).values()} == {"season"}
    assert "judged by the same hour of the days before alone, no baseline yet" in drifts.told("p").what


def test_an_evening_that_is_like_any_other_is_no_drift() -> None:
    """Against a baseline of a morning it can't be told; the same hour of the days before knows better."""
    fold, drifts = fresh()
    for day in range(1, 5):
        fill(fold, NOW_MS - day * DAY_MS - HOUR_MS, 24, 0.4)
    fill(fold, NOW_MS - 5 * HOUR_MS, 36)
    fill(fold, NOW_MS - HOUR_MS, 12, 0.4)
    word = taken(fold, "p", NOW_MS - 5 * HOUR_MS, NOW_MS - 2 * HOUR_MS, 1)
    drifts.baselines[word.key] = word
    drifts.look(fold, "p", LATER_MS)
    assert states(drifts)["label"] == "insufficient", "without the season"
    closed(drifts, fold)
    again = Drifts(lambda _: 1.0)
    again.baselines, again.season = drifts.baselines, drifts.season
    again.look(fold, "p", LATER_MS)
    assert states(again)["label"] == "ok"


def test_a_move_against_a_few_hours_is_told_and_is_no_alarm() -> None:
    """Whether it is the hour of the day can't be told: the rule is insufficient, and its sentence says what to do."""
    fold, drifts = fresh()
    fill(fold, NOW_MS - 5 * HOUR_MS, 54)
    fill(fold, NOW_MS - HOUR_MS // 2, 6, 0.4)
    word = taken(fold, "p", 0, NOW_MS - HOUR_MS, 1)
    drifts.baselines[word.key] = word
    drifts.look(fold, "p", LATER_MS)
    assert states(drifts)["label"] == "insufficient" and states(drifts)["text_chars"] == "ok"
    told = drifts.told("p")
    assert told.measured.value is None
    assert told.what.startswith("p: label positive 60 % → 40 % since 11:")
    assert "that may be the hour of the day, as the baseline covers 4 h only" in told.what
    assert told.what.endswith("a longer one tells: streamer health baseline save p --replace")


def test_an_hour_that_a_baseline_has_not_seen_is_no_drift() -> None:
    """Two mornings are more than a day apart, and say nothing of noon, but something of the third morning."""
    for noon, expected in ((True, "insufficient"), (False, "drift")):
        fold, drifts = fresh()
        now_ms = NOW_MS + 2 * DAY_MS - (0 if noon else 3 * HOUR_MS)
        for day in range(2):
            fill(fold, NOW_MS + day * DAY_MS - 5 * HOUR_MS, 36)
        fill(fold, now_ms - HOUR_MS // 2, 6, 0.4)
        word = taken(fold, "p", 0, NOW_MS + DAY_MS, 1)
        drifts.baselines[word.key] = word
        drifts.look(fold, "p", now_ms + 60_000)
        assert states(drifts)["label"] == expected
        assert ("as the baseline has not seen this hour" in drifts.told("p").what) == noon


def test_drift_does_not_end_because_an_hour_is_a_new_one() -> None:
    """It was raised at half past eleven, against two days of such mornings; at noon it goes on."""
    fold, drifts = fresh()
    for day in range(2):
        fill(fold, NOW_MS + day * DAY_MS - 5 * HOUR_MS, 60)
    fill(fold, NOW_MS + 2 * DAY_MS - HOUR_MS // 2, 12, 0.4)
    word = taken(fold, "p", 0, NOW_MS + DAY_MS, 1)
    drifts.baselines[word.key] = word
    for after in range(1, 7):
        drifts.look(fold, "p", LATER_MS + 2 * DAY_MS + after * FIVE_MINUTES_MS)
        assert states(drifts)["label"] == "drift"


def test_a_restart_changes_nothing() -> None:
    """Whether it comes before or after a window: from a snapshot, the same findings follow. No window counts twice."""
    fold, through = fresh()
    fill(fold, NOW_MS - 5 * HOUR_MS, 54)
    word = saved(fold, until_ms=NOW_MS - HOUR_MS)
    through.baselines[word.key] = word
    for at in range(6):
        now_ms = LATER_MS + at * FIVE_MINUTES_MS
        after = Drifts(lambda _: 1.0)
        after.baselines = through.baselines
        assert after.restore(through.snapshot())
        fill(fold, NOW_MS + (at - 1) * FIVE_MINUTES_MS, 1, 0.4)
        for one in (through, after, after):
            one.look(fold, "p", now_ms)
        assert after.words(["p"]) == through.words(["p"])
        assert after.snapshot() == through.snapshot()
    assert states(through)["label"] == "drift"
    assert not after.restore(b"nonsense")
    assert states(after)["label"] == "drift"


def test_a_baseline_that_is_saved_anew_starts_anew() -> None:
    """What is usual now is no drift."""
    drifts, fold = drifting(), Fold()
    fill(fold, NOW_MS - HOUR_MS, 12, 0.4)
    word = saved(fold, until_ms=NOW_MS, saved_ms=2)
    drifts.baselines[word.key] = word
    drifts.look(fold, "p", LATER_MS)
    assert states(drifts)["label"] == "ok"


def test_revisions_are_judged_apart_and_retire() -> None:
    """A new one has no baseline. The old one's drift is over half an hour after it settled for the last time."""
    drifts, fold = drifting(), Fold()
    fill(fold, NOW_MS, 12, 0.9, revision="r2")
    drifts.look(fold, "p", NOW_MS + 2 * FIVE_MINUTES_MS + 60_000)
    assert [one.revision for one in drifts.judged("p")] == ["r1", "r2"]
    assert drifts.told("p").measured.value and "no baseline yet" in drifts.told("p").what
    drifts.look(fold, "p", NOW_MS + HOUR_MS + 60_000)
    assert [one.revision for one in drifts.judged("p")] == ["r2"]
    assert drifts.told("p").measured.value is None


def test_a_pipeline_that_went_silent_keeps_its_drift() -> None:
    """It is over when windows show it."""
    drifts = drifting()
    drifts.look(Fold(), "p", NOW_MS + DAY_MS)
    assert states(drifts)["label"] == "drift"


def test_what_never_settled_is_not_judged() -> None:
    drifts = Drifts(lambda _: 1.0)
    drifts.look(Fold(), "p", NOW_MS)
    told = drifts.told("p")
    assert told.measured.value is None and "no five minutes of the last two hours" in told.what
    assert "streamer health baseline save p" in told.what
    fold = Fold()
    fill(fold, NOW_MS - 5 * HOUR_MS, 24)
    word = saved(fold)
    drifts.baselines[word.key] = word
    assert "streamer health baseline save" not in drifts.told("p").what


def test_the_season_keeps_what_monitors_read() -> None:
    """And no more: neither offsets, nor sums of vectors."""
    fold, season = Fold(), Season()
    fold.add(measured(3))
    (window,) = fold.windows("p", FIVE_MINUTES_MS)
    season.take(window)
    season.take(window)
    assert season.results("p", window.revision) == (1, window.results)
    (kept,) = season._windows["p"].values()
    assert kept.embedding is not None and kept.embedding.sum == b"" and kept.ranges == {}
    assert kept.embedding.projections == window.embedding.projections  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("windows", "records", "told"),
    [
        (0, 100, "no result in that stretch of time"),
        (9, 1_000, "it takes 1,000 results, spread over 10 stretches of five minutes; there are 9,000 in 9"),
        (12, 50, "there are 600 in 12"),
    ],
)
def test_too_little_is_no_baseline(windows: int, records: int, told: str) -> None:
    fold = Fold()
    fill(fold, NOW_MS, windows, records=records)
    with pytest.raises(UsageError) as error:
        taken(fold, "p", 0, NOW_MS + DAY_MS, 1)
    assert told in str(error.value)


def test_which_revision_and_which_time() -> None:
    """The one that answered last, or one that is named; windows that lie in the stretch as a whole."""
    fold = Fold()
    fill(fold, NOW_MS, 12)
    fill(fold, NOW_MS + HOUR_MS, 20, revision="r2")
    until_ms = NOW_MS + DAY_MS
    assert taken(fold, "p", 0, until_ms, 1).revision == "r2"
    first = taken(fold, "p", 0, until_ms, 1, revision="r1")
    assert (first.revision, first.records, first.baseline.windows) == ("r1", 12_000, 12)
    assert taken(fold, "p", 0, NOW_MS + 2 * HOUR_MS - 1, 1, revision="r2").baseline.windows == 11
    for name in ("r", "r3"):
        with pytest.raises(UsageError, match="there are: r1, r2"):
            taken(fold, "p", 0, until_ms, 1, revision=name)


def test_accuracy_is_estimated_from_the_confidence() -> None:
    """Four in five confident answers are right, and one in two of the others; 100 answers are the least."""
    calibration = Calibration()
    for at in range(10):
        calibration.add(0.97, at < 8)
        calibration.add(0.52, at < 5)
    fold = Fold()
    fill(fold, NOW_MS, 1, 0.5)
    fill(fold, NOW_MS + HOUR_MS, 1, 0.5, records=80)
    windows = fold.windows("p", FIVE_MINUTES_MS)
    (found,) = estimates(windows, calibration)
    positive = windows[0].labels["positive"]  # type: ignore[index]
    assert found.accuracy == pytest.approx((0.8 * positive + 0.5 * (1_000 - positive)) / 1_000)
    assert (found.start_ms, found.answers) == (NOW_MS, 1_000)
    assert estimates(windows, None) == []


def test_a_calibration_comes_from_an_evaluation() -> None:
    """As `streamer evaluate --save-baseline` writes it; the estimate is then part of what is told."""
    fold, drifts = fresh()
    fill(fold, NOW_MS - 5 * HOUR_MS, 60)
    word = saved(fold)
    found = Evaluation("m", "r1", "text-classification", Quality(200, calibration=Calibration([10] * 20, [8] * 20)))
    evaluation = msgspec.json.encode(sums(found)).decode()
    revision, word.calibration = calibrated(evaluation.encode(), "e.json")
    assert revision == "r1" and decode(encode(word)) == word
    drifts.baselines[word.key] = word
    drifts.look(fold, "p", LATER_MS)
    assert drifts.told("p").what.endswith("accuracy is estimated at 80.0%")
    for wrong, told in (
        (evaluation.replace("10,", "0,").replace("10]", "0]"), "has no calibration"),
        ('{"revision": "r1", "quality": {}}', "has no calibration"),
        ('{"quality": {}}', "is not an evaluation"),
        ("[", "is not an evaluation"),
        (evaluation.replace('"squares":0.0', '"squares":"a"'), "is not an evaluation"),
    ):
        with pytest.raises(UsageError, match=told):
            calibrated(wrong.encode(), "e.json")


def test_words_come_back() -> None:
    for word in drifting().words(["p"]).values():
        assert isinstance(word, DriftWord) and decode(encode(word)) == word


def test_an_app_that_is_gone_judges_nothing() -> None:
    """In the terminal the last word of a dead app is not taken for how things stand."""
    told = Told(Measured(1, 500), "p: label moved")
    word = msgspec.structs.replace(judge(DEFAULTS["drift"], "p", told.measured, NOW_MS, None), what=told.what)
    standing = DriftStanding(word, [])
    assert standing.sentence(NOW_MS + 60_000) == "drift, firing: label moved"
    assert standing.sentence(NOW_MS + HOUR_MS).endswith("the health app is not running")
