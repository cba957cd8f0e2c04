"""What the windows of a pipeline say, in a sentence and in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streamer.core.health.windows import figures
from streamer.core.health.windows.fold import Fold
from streamer.core.health.windows.window import Window, merged
from streamer.core.tally import duration, plural

SHORT_DIGEST = 12
QUIET_MS = 60_000
"""Who settles nothing for this long is said to be quiet."""
AHEAD_MS = 3_600_000
"""A clock may be ahead by so much; what was settled later than that belongs in no row."""
NAMED = 3


@dataclass(frozen=True, slots=True)
class Course:
    """One revision of a pipeline's model: its windows in the order of time, at least one. `ahead` are results of times
    that are yet to come. `findings` are sentences on what has moved, for those who judge windows to fill in."""

    windows: Sequence[Window]
    total: Window
    ahead: int = 0
    findings: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """Its name and the short digest of its files."""
        return f"{self.total.model}@{self.total.revision[:SHORT_DIGEST]}"

    def stretches(self) -> Iterator[Window | tuple[int, int]]:
        """The windows, and between them the times, from when to when, in which nothing was settled."""
        end_ms = self.windows[0].start_ms
        for window in self.windows:
            if window.start_ms > end_ms:
                yield end_ms, window.start_ms
            yield window
            end_ms = window.end_ms


def courses(fold: Fold, pipeline: str, length_ms: int, since_ms: int, now_ms: int) -> list[Course]:
    """A pipeline's revisions since then, the one that settled last at the end."""
    by_revision: dict[str, list[Window]] = {}
    ahead: Counter[str] = Counter()
    for window in fold.windows(pipeline, length_ms, since_ms):
        if window.start_ms > now_ms + AHEAD_MS:
            ahead[window.revision] += window.results
        else:
            by_revision.setdefault(window.revision, []).append(window)
    found = [Course(windows, merged(windows), ahead[revision]) for revision, windows in by_revision.items()]
    return sorted(found, key=lambda course: (course.total.last_ms, course.total.revision))


def sentence(course: Course, now_ms: int) -> str:
    """How this revision did, in a line."""
    total = course.total
    parts = [f"{plural(total.results, 'result')} since {clock(total.start_ms, now_ms)}"]
    now = course.windows[-1]
    if now_ms - total.last_ms > QUIET_MS:
        parts[0] += f", the last one {duration((now_ms - total.last_ms) / 1000)} ago"
    elif now_ms - now.start_ms >= 1_000:
        parts[0] += f", {figures.rate(now, now_ms):,.3g}/s now"
    parts.append(_dead_letters(total))
    if shares := figures.label_shares(total, NAMED):
        parts.append("answers " + ", ".join(f"{label or 'others'} {percent(share)}" for label, share in shares.items()))
    if (confidence := figures.mean_confidence(total)) is not None:
        parts.append(f"confidence {confidence:.2f} on average")
    half, most = figures.latency_ms(total, 0.5), figures.latency_ms(total, 0.99)
    if half is not None and most is not None:
        parts.append(f"half within {duration(half / 1000)}, 99 % within {duration(most / 1000)}")
    if total.settled_again:
        parts.append(f"at least {plural(total.settled_again, 'offset')} settled more than once, and counted so")
    if course.ahead:
        parts.append(f"{plural(course.ahead, 'result')} left out whose member's clock is more than an hour ahead")
    return "; ".join(parts)


def percent(share: float | None) -> str:
    """A share for people; never 0 % for something, nor 100 % where something is missing."""
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{share * 100:.0f} %" if share in (0, 1) or 0.1 <= share <= 0.9 else f"{share * 100:.1f} %"


def clock(time_ms: int, now_ms: int) -> str:
    """A time of today by the clock, another one with its date; local time."""
    try:
        time, now = (datetime.fromtimestamp(each / 1000).astimezone() for each in (time_ms, now_ms))
    except (ValueError, OverflowError, OSError):  # of a clock that is wrong by thousands of years
        return f"{time_ms} ms"
    return time.strftime("%H:%M" if time.date() == now.date() else "%Y-%m-%d %H:%M")


def described(window: Window, now_ms: int) -> dict[str, Any]:
    """A window's figures for machines; None where there is nothing to take one of."""
    numbers = {
        "results_per_s": figures.rate(window, now_ms),
        "dead_letter_share": figures.dead_letter_share(window),
        "cached_share": figures.cached_share(window),
        "truncated_share": figures.truncated_share(window),
        "confidence": figures.mean_confidence(window),
        "chars": figures.mean_chars(window),
        "tokens_per_char": figures.tokens_per_char(window),
        "unknown_token_share": figures.unknown_share(window),
        "empty_share": figures.empty_share(window),
        "repeat_share": figures.repeat_share(window),
        "perplexity": figures.perplexity(window),
    }
    return {
        "start_ms": window.start_ms,
        "end_ms": window.end_ms,
        "results": window.results,
        "dead_letters": window.dead_letters,
        "skipped": window.skipped,
        "settled_again": window.settled_again,
        "p50_ms": figures.latency_ms(window, 0.5),
        "p99_ms": figures.latency_ms(window, 0.99),
        **{name: _rounded(value) for name, value in numbers.items()},
        "labels": _shares(figures.label_shares(window).items()),
        "scripts": _shares(figures.script_shares(window).items()),
    }


def _dead_letters(total: Window) -> str:
    count = sum(total.dead_letters.values())
    if not count:
        return "no dead letters"
    ranked = sorted(total.dead_letters.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{code} {number:,}" for code, number in ranked[:NAMED])
    more = f", {len(ranked) - NAMED} other codes" if len(ranked) > NAMED else ""
    return f"{percent(figures.dead_letter_share(total))} dead letters ({named}{more})"


def _shares(shares: Iterable[tuple[str, float]]) -> dict[str, float | None]:
    return {name: _rounded(share) for name, share in shares}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
