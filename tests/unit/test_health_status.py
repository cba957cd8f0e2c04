"""What `streamer health status` says of windows."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from streamer.cli.health.baseline import table as baselines
from streamer.cli.health.status import table
from streamer.core.health.windows.fold import HOUR_MS, KEEP, MINUTE_MS, Fold
from streamer.health.summary.moved import moved
from streamer.health.summary.status import Course, clock, courses, described, percent, sentence
from tests.health_kit import NOW_MS, histogram, report
from tests.unit.drifting_kit import fill, saved

SAID: dict[str, Any] = {
    "results": 97,
    "dead_letters": {"decode.json": 2, "infer.nan": 1},
    "labels": {"positive": 60, "negative": 37},
    "confidence": [0] * 19 + [97],
    "latency_ms": histogram(*[10] * 99, 1000),
}


def course(*minutes: int, **fields: Any) -> Course:
    """One revision that settled in these minutes."""
    fold = Fold()
    for minute in minutes:
        one = {**SAID, **fields}
        fold.add(report(NOW_MS + minute * MINUTE_MS, minute * 100, minute * 100 + 99, **one))
    (found,) = courses(fold, "p", MINUTE_MS, NOW_MS, NOW_MS)
    return found


def shown(found: Course, width: int) -> list[list[str]]:
    """The table's rows as words; none is wider than the terminal."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table(found, NOW_MS + 9 * MINUTE_MS, width))
    lines = capture.get().splitlines()
    assert all(len(line) <= width and "…" not in line for line in lines)
    return [line.split() for line in lines if line.strip() and "─" not in line]


def heading(found: Course, width: int) -> str:
    return " ".join(shown(found, width)[0])


def test_what_has_moved_is_said() -> None:
    """Against the hours before: a label that doubled is named, and who sees none move says so."""
    fold, since_ms = Fold(), NOW_MS
    for minute in range(-180, 60):
        share = 0.6 if minute < 30 else 0.3
        for half in range(2):
            fold.add(
                report(
                    NOW_MS + minute * MINUTE_MS + half * 30_000,
                    minute * 1000 + half * 100 + 1_000_000,
                    minute * 1000 + half * 100 + 1_000_099,
                    results=100,
                    labels={
                        "positive": round(100 * share) + minute % 5,
                        "negative": round(100 - 100 * share) - minute % 5,
                    },
                )
            )
    calm = moved(fold, "p", "r1", NOW_MS - 180 * MINUTE_MS, since_ms, NOW_MS + 30 * MINUTE_MS)
    assert calm[0].startswith("nothing moved of ")
    (said,) = moved(fold, "p", "r1", NOW_MS - 180 * MINUTE_MS, since_ms, NOW_MS + 60 * MINUTE_MS)
    assert "positive" in said or "negative" in said
    none = moved(fold, "p", "r1", since_ms - 5 * MINUTE_MS, since_ms, NOW_MS + 60 * MINUTE_MS)
    assert none[0].startswith("there is nothing to compare with")


def test_a_sentence_that_a_person_understands() -> None:
    """How many, what share was lost, what the model says, how long it takes."""
    found = course(0, 1)
    at = clock(NOW_MS, NOW_MS)
    assert sentence(found, NOW_MS + MINUTE_MS + 10_000) == (
        f"194 results since {at}, 9.7/s now; 3.0 % dead letters (decode.json 4, infer.nan 2); answers positive 62 %, "
        "negative 38 %; confidence 0.97 on average; half within 10 ms, 99 % within 10 ms"
    )
    assert f"194 results since {at}, the last one 59 min ago;" in sentence(found, NOW_MS + 60 * MINUTE_MS)
    plain = course(0, labels=None, confidence=None, dead_letters={}, latency_ms=histogram())
    assert sentence(plain, NOW_MS + 500) == f"97 results since {at}; no dead letters"
    many = course(0, dead_letters={f"code.{number}": 1 for number in range(5)})
    assert "(code.0 1, code.1 1, code.2 1, 2 other codes)" in sentence(many, NOW_MS)


def test_records_that_count_twice_are_told() -> None:
    """Whether they were settled again within a minute or later; nobody takes results for records."""
    fold = Fold()
    for minute, first in ((0, 0), (0, 5), (1, 0)):
        fold.add(report(NOW_MS + minute * MINUTE_MS, first, first + 9))
    said = sentence(courses(fold, "p", MINUTE_MS, 0, NOW_MS)[0], NOW_MS)
    assert "30 results" in said and said.endswith("at least 15 offsets settled more than once, and counted so")


def test_the_table_fits_the_terminal() -> None:
    """What matters most stays; the most frequent labels have a column each, in one order for all rows."""
    found = course(0, 1, labels={"negative": 10, "positive": 87})
    assert heading(found, 120) == "from results/s dead p50 p99 positive negative conf tok/char cached"
    assert heading(found, 50) == "from results/s dead p50 p99 positive"
    assert heading(found, 30) == "from results/s dead"
    assert shown(found, 120)[1][1:8] == ["1.62", "3.0", "%", "10", "ms", "10", "ms"]


def test_what_reports_do_not_say_has_no_column() -> None:
    """Neither labels nor a confidence for a model that gives none."""
    assert heading(course(0, labels=None, confidence=None), 120) == "from results/s dead p50 p99 tok/char cached"


def test_times_without_a_window_are_told() -> None:
    """Nothing settled is a row, not a gap that nobody sees."""
    first, missing, last = (row[:2] for row in shown(course(0, 4), 100)[1:])
    at = [clock(NOW_MS + minute * MINUTE_MS, NOW_MS) for minute in (0, 1, 4)]
    assert (first[0], missing, last[0]) == (at[0], [f"{at[1]}-{at[2]}", "0"], at[2])


def test_labels_are_words_of_others() -> None:
    """They are shown as they are, and write nothing to the terminal."""
    rows = shown(course(0, labels={"[bold]x\x1b[2J": 97}), 120)
    assert "[bold]x" in rows[0] and "\x1b" not in "".join(rows[0])


def test_revisions_have_a_sentence_each() -> None:
    """The one that settled last comes last."""
    fold = Fold()
    for minute, revision in enumerate(["b", "a", "c", "a"]):
        fold.add(report(NOW_MS + minute * MINUTE_MS, minute * 10, minute * 10 + 9, revision=revision))
    found = courses(fold, "p", MINUTE_MS, NOW_MS, NOW_MS)
    assert [(one.model, one.total.results) for one in found] == [("m@b", 10), ("m@c", 10), ("m@a", 20)]
    assert len(courses(fold, "p", MINUTE_MS, NOW_MS + MINUTE_MS, NOW_MS)) == 2


def test_a_member_whose_clock_is_ahead() -> None:
    """Its results are told, and no row of the next century takes the place of those of today."""
    found = course(0, 1, 60 * 24 * 36_500)
    assert len(found.windows) == 2 and found.total.results == 194
    assert sentence(found, NOW_MS).endswith("; 97 results left out whose member's clock is more than an hour ahead")


def test_figures_for_machines() -> None:
    """Names with units; None where nothing is known."""
    (window,) = course(0).windows
    found = described(window, NOW_MS + MINUTE_MS)
    assert found["dead_letter_share"] == 0.03 and found["labels"] == {"positive": 0.618557, "negative": 0.381443}
    assert (found["start_ms"], found["end_ms"]) == (NOW_MS, NOW_MS + MINUTE_MS)
    assert (found["p50_ms"], found["p99_ms"], found["perplexity"]) == (10, 10, None)


@pytest.mark.parametrize(
    ("share", "told"),
    [(None, "-"), (0, "0 %"), (0.0001, "<0.1 %"), (0.034, "3.4 %"), (0.5, "50 %"), (0.9999, ">99.9 %"), (1, "100 %")],
)
def test_shares_for_people(share: float | None, told: str) -> None:
    """Something is never 0 %, and never everything."""
    assert percent(share) == told


def test_a_clock_that_is_far_off_is_no_crash() -> None:
    """The time is told as it is."""
    assert clock(10**17, NOW_MS) == f"{10**17} ms"


def test_the_list_of_baselines_cuts_no_name() -> None:
    """A model's ends with what tells it from others: its revision."""
    fold = Fold(KEEP)
    fill(fold, NOW_MS - 3 * HOUR_MS, 36)
    word = saved(fold, until_ms=NOW_MS)
    word.model, word.revision = "people/a-model-whose-name-is-longer-than-any-terminal-is-wide-english", "3f1c09a2b7d4"
    word.saved_ms = NOW_MS
    console = Console(width=80)
    with console.capture() as capture:
        console.print(baselines([word], NOW_MS / 1000))
    lines = capture.get().splitlines()
    heading = next(line for line in lines if "model" in line)
    model = "".join(line[heading.index("model") : heading.index("age") - 1].strip() for line in lines)
    assert model.endswith(f"{word.model}@{word.revision}")
    assert all(len(line) <= 80 for line in lines) and f"{word.records:,}" in capture.get()
