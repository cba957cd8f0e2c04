"""Model health as one page that needs no script and no network: a sentence for each pipeline, then pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from streamer.core.health.pages.graded import Graded
from streamer.core.health.pages.picture import Bars, Picture
from streamer.core.tally import duration, plural
from streamer.health.summary.status import SHORT_DIGEST, percent
from streamer.ops.pictures import Point, grid, heat_map, page, reliability
from streamer.ops.pictures_over_time import STYLE, Line, lines, sides, stacked, table

_SIGNS = {"ok": "✓", "warn": "▲", "bad": "✖", "unknown": "?"}


def _plain(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _ms(value: float) -> str:
    return duration(value / 1000)


def _share(value: float) -> str:
    return f"{value:.2f}" if 0 < value < 1 else f"{value:.0f}"


_CHARTS: dict[str, tuple[str, Callable[[float], str], float]] = {
    "rate": ("Results a second", _plain, 0.0),
    "dead_letter_share": ("Dead letters", percent, 0.0),
    "confidence": ("Confidence, mean", _share, 1.0),
    "p50_ms": ("Latency, p50", _ms, 0.0),
    "p99_ms": ("Latency, p99", _ms, 0.0),
    "chars": ("Text length, characters", _plain, 0.0),
    "estimated_accuracy": ("Accuracy, estimated without labels", percent, 1.0),
    "realised": ("From feedback", _share, 0.0),
    "coverage": ("Results with feedback", percent, 0.0),
}


def page_of(pictures: Sequence[Picture], now_ms: int, source: str) -> str:
    """The whole page; `source` is the topic that it was read from. It has names of labels, and no text of an event."""
    head = f"Model health, {_clock(now_ms)}"
    body = f"<style>{STYLE}</style><h1>{escape(head)}</h1>"
    body += f'<p class="quiet small">From the topic {escape(source)}. Times are those of where it was made.</p>'
    return page(head, body + "".join("".join(_pipeline(one)) for one in pictures))


def _pipeline(one: Picture) -> Iterator[str]:
    said = one.headline
    yield f'<h2 class="pipeline">{escape(one.pipeline)} '
    yield f'<span class="state {said.level}">{_SIGNS[said.level]} {escape(said.state)}</span></h2>'
    yield f'<p class="says">{escape(_capital(said.what))}.</p><div class="two">'
    yield from _course(one)
    yield from _answers(one)
    yield from _drift(one)
    yield from _quality(one)
    yield from _rules(one)
    yield "</div>"


def _course(one: Picture) -> Iterator[str]:
    if not one.series:
        yield '<section class="wide"><p>Nothing was settled in this time.</p></section>'
    for name, (title, told, top) in _CHARTS.items():
        rows = [
            Line(f"{each.model}@{each.revision[:SHORT_DIGEST]}", f"s{place + 1}", each.columns[name])
            for place, each in enumerate(one.series)
            if _has(each.columns[name])
        ]
        if name == "realised":
            title = f"{_capital(next((each.metric for each in one.series if each.metric), ''))}, from feedback"
        if rows:
            yield f"<section>{lines(title, one.time_s, rows, told, top)}</section>"
    if one.series:
        yield f'<div class="wide">{_table(one)}</div>'


def _table(one: Picture) -> str:
    """What the lines show, the newest first."""
    charts = {name: chart for name, chart in _CHARTS.items() if any(_has(each.columns[name]) for each in one.series)}
    rows = [
        [
            _clock(round(time_s * 1000)),
            each.revision[:SHORT_DIGEST],
            *(
                "–" if (value := each.columns[name][at]) is None else told(value)
                for name, (_, told, _) in charts.items()
            ),
        ]
        for at, time_s in reversed(list(enumerate(one.time_s)))
        for each in one.series
        if each.columns["rate"][at] is not None
    ]
    return table(["from", "revision", *(title for title, _, _ in charts.values())], rows, "All lines as a table")


def _has(column: Sequence[float | None]) -> bool:
    return any(value is not None for value in column)


def _answers(one: Picture) -> Iterator[str]:
    for each in one.series:
        rows = [
            Line(label or "others", f"s{place + 1}" if label else "rest", shares)
            for place, (label, shares) in enumerate(each.labels.items())
        ]
        if not rows:
            continue
        picture = stacked(f"Answers of {each.revision[:SHORT_DIGEST]}", one.time_s, rows, percent)
        told = [
            [
                _clock(round(time_s * 1000)),
                *("–" if (share := row.values[at]) is None else percent(share) for row in rows),
            ]
            for at, time_s in enumerate(one.time_s)
            if rows[0].values[at] is not None
        ]
        yield f"<section>{picture}{table(['from', *(row.name for row in rows)], told[::-1])}</section>"


def _drift(one: Picture) -> Iterator[str]:
    told = [
        f"the baseline of {revision[:SHORT_DIGEST]}, {plural(saved.records, 'result')} from {_clock(saved.since_ms)} to"
        f" {_clock(saved.until_ms)}{'' if saved.covers_a_week else ', less than a week'}"
        for revision, saved in one.baselines.items()
    ]
    if any(each.against == "season" for each in one.drift):
        told.append("the same hour of the days before")
    held = f"Held against {'; '.join(told)}." if told else "There is no baseline yet."
    yield f'<section class="wide"><h2>Drift</h2><p class="quiet">{escape(held)}</p>'
    if newest := next((each for each in one.series[:1] if each.revision not in one.baselines), None):
        command = f"streamer health baseline save {one.pipeline}"
        yield f"<p>Once all is as usual, save a baseline of {escape(newest.model)}@{newest.revision[:SHORT_DIGEST]}:"
        yield f" <code>{escape(command)}</code></p>"
    moved = [each for each in one.drift if each.state == "drift"]
    if one.drift and not moved:
        yield "<p>No monitor says drift.</p>"
    yield "</section>"
    for each in moved:
        yield f"<section>{_monitor(each)}</section>"
    if others := [each for each in one.drift if each.state != "drift"]:
        inside = "".join(f"<section>{_monitor(each)}</section>" for each in others)
        summary = f"What {plural(len(others), 'other monitor')} see{'s' if len(others) == 1 else ''}"
        yield f'<details class="wide"><summary>{summary}</summary><div class="two">{inside}</div></details>'


def _monitor(each: Bars) -> str:
    name = each.monitor.replace("_", " ")
    mark = {"drift": " ▲ drifts", "insufficient": ": too few to tell"}.get(each.state, "")
    head = f'<h3>{escape(_capital(name))}{mark}</h3><p class="quiet small">{escape(_capital(each.what))}</p>'
    if each.kind == "ratio":
        return head
    more = f'<p class="quiet small">{each.left_out:,} more are not shown.</p>' if each.left_out else ""
    return head + sides(name, each.kind, each.bars, percent) + more


def _quality(one: Picture) -> Iterator[str]:
    said = "" if one.quality else "<p>There is no feedback yet.</p>"
    yield f'<section class="wide"><h2>Quality</h2>{said}{"".join(map(_days, one.quality))}</section>'
    for each in one.quality:
        if each.reliability:
            points = [Point(bin_.confidence, bin_.accuracy, bin_.count) for bin_ in each.reliability]
            head = f"<h3>Can the confidence of {each.revision[:SHORT_DIGEST]} be trusted?</h3>"
            yield f"<section>{head}{reliability(points)}</section>"
        if each.confusion:
            names = sorted({*each.confusion, *(given for row in each.confusion.values() for given in row)})
            cells = [[each.confusion.get(truth, {}).get(given, 0) for given in names] for truth in names]
            wide = ' class="wide"' if len(names) > 6 else ""
            yield f"<section{wide}><h3>What does {each.revision[:SHORT_DIGEST]} take for what?</h3>"
            yield f'{heat_map(names, cells)}<p class="quiet small">A row is what texts are, a column what they were'
            yield " called. Colours are shares of a row.</p></section>"


def _days(each: Graded) -> str:
    names = list(dict.fromkeys(name for day in each.days for name in day.metrics))
    rows = [
        [
            _day(day.start_ms),
            f"{day.labels:,}",
            percent(day.coverage),
            duration(day.lag_p50_s),
            *(f"{day.metrics[name]:.3f}" if name in day.metrics else "–" for name in names),
        ]
        for day in each.days
    ]
    head = ["day (UTC)", "labels", "of all results", "label lag, half", *(_capital(name) for name in names)]
    return f"<p>{each.revision[:SHORT_DIGEST]}: {plural(each.labels, 'label')}.</p>{grid(head, rows)}"


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


def _rules(one: Picture) -> Iterator[str]:
    if one.rules:
        rows = (
            f"<li><b>{escape(word.rule)}</b>, {word.state} since {_clock(word.since_ms)}:"
            f" {escape(word.what.removeprefix(f'{word.pipeline}: '))}</li>"
            for word in one.rules
        )
        yield f'<section class="wide"><h2>Rules</h2><ul>{"".join(rows)}</ul></section>'


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
