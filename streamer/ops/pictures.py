"""Pictures as SVG and HTML, for pages that need no script and no network. All that is shown is escaped here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

STYLE: Final = """
:root { --bg: #f5f6f8; --surface: #fff; --line: #e2e5ea; --text: #1b2330; --muted: #5f6b7c; --blue: #2f6fb3;
  --on-blue: #fff; --green: #2c8058; --red: #bd3b2a; --track: #e9edf2; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --bg: #11151b; --surface: #181e26; --line: #29313c; --text: #e3e8ef;
  --muted: #93a0b2; --blue: #6ba6e3; --on-blue: #0d1520; --green: #5dba8c; --red: #ea7665; --track: #252d38; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 48px; max-width: 1080px; background: var(--bg); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
h1 { font-size: 22px; line-height: 1.3; margin: 4px 0 8px; text-wrap: balance; }
h2 { font-size: 16px; margin: 0 0 8px; }
p, ul { margin: 6px 0; }
ul { padding-left: 20px; }
.quiet { color: var(--muted); }
.small { font-size: 13px; }
section { background: var(--surface); border: 1px solid var(--line); border-radius: 10px; padding: 16px; min-width: 0; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 16px; margin: 16px 0;
  align-items: start; }
.stack { display: grid; gap: 16px; min-width: 0; }
.wide { grid-column: 1 / -1; }
.numbers { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 16px 0; }
.numbers div { min-width: 84px; }
.numbers dt { color: var(--muted); font-size: 13px; }
.numbers dd { margin: 0; font-size: 20px; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; }
table.full { width: 100%; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line); overflow-wrap: normal; }
th { font-weight: 600; }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.heat td { min-width: 56px; height: 34px; border: 2px solid var(--surface); border-radius: 6px; text-align: center;
  background: color-mix(in srgb, var(--hue) calc(var(--share) * 100%), var(--track)); }
.heat th { border: 0; }
.heat tbody th { white-space: nowrap; }
.heat thead th { text-align: center; }
.heat .strong { color: var(--on-blue); }
svg { display: block; width: 100%; height: auto; max-width: 520px; }
svg text { fill: var(--muted); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
svg text.value { fill: var(--text); }
.track { fill: var(--track); } .bar { fill: var(--blue); } .soft { fill: var(--blue); opacity: .35; }
.axis { stroke: var(--line); } .ideal { stroke: var(--muted); stroke-dasharray: 4 4; }
.curve { stroke: var(--blue); stroke-width: 2; fill: none; } .dot { fill: var(--blue); }
.dot.few { fill: none; stroke: var(--blue); }
@media (max-width: 480px) { section { padding: 12px; } table { font-size: 13px; } th, td { padding: 4px 5px; } }
blockquote { margin: 2px 0 14px; padding: 2px 0 2px 12px; border-left: 3px solid var(--line); white-space: pre-wrap; }
"""


def page(title: str, body: str) -> str:
    """A whole page; `body` is HTML. It may load nothing, and run no script."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n<body>\n{body}\n</body>\n</html>\n"
    )


FEW: Final = 10
"""Answers: a point of a reliability diagram that stands for fewer is hollow, and the line leaves it out."""


class Bar(NamedTuple):
    """A bar from 0 to `value`, and what is written beside it; None has no bar."""

    name: str
    value: float | None
    told: str


def bars(title: str, rows: Sequence[Bar], most: float) -> str:
    """Horizontal bars, which all end at `most`. `title` says what is seen to who sees nothing."""
    height, left, width = 28, 112, 150
    parts = []
    for place, row in enumerate(rows):
        top = place * height
        name = row.name if len(row.name) <= 16 else row.name[:15] + "…"
        parts.append(f'<text x="{left - 10}" y="{top + 18}" text-anchor="end">{escape(name)}')
        parts.append(f'<title>{escape(row.name)}</title></text><rect class="track" x="{left}" y="{top + 6}"')
        parts.append(f' width="{width}" height="16" rx="3"/>')
        if row.value is not None and most > 0:
            long = max(0.0, min(1.0, row.value / most)) * width
            parts.append(f'<rect class="bar" x="{left}" y="{top + 6}" width="{long:.1f}" height="16" rx="3"/>')
        parts.append(f'<text class="value" x="{left + width + 10}" y="{top + 18}">{escape(row.told)}</text>')
    told = "; ".join(f"{row.name}: {row.told}" for row in rows)
    return _svg(430, len(rows) * height, f"{title}. {told}", "".join(parts))


class Point(NamedTuple):
    """Of a reliability diagram: mean confidence, share of right answers, how many."""

    confidence: float
    accuracy: float
    answers: float


def reliability(points: Sequence[Point]) -> str:
    """Confidence against accuracy, with the line of a model that keeps what it promises; below, how many answers."""
    left, size, top = 44, 330, 12
    parts = []
    for step in range(0, 11, 2):
        at, share = size * step / 10, step / 10
        parts.append(f'<line class="axis" x1="{left}" x2="{left + size}" y1="{top + at:.0f}" y2="{top + at:.0f}"/>')
        parts.append(f'<text x="{left - 8}" y="{top + size - at + 4:.0f}" text-anchor="end">{share:.1f}</text>')
        parts.append(f'<text x="{left + at:.0f}" y="{top + size + 68}" text-anchor="middle">{share:.1f}</text>')
    parts.append(f'<line class="ideal" x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}"/>')
    places = [(left + size * one.confidence, top + size * (1 - one.accuracy), one) for one in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, one in places if one.answers >= FEW)
    parts.append(f'<polyline class="curve" points="{path}"/>')
    largest = max((one.answers for one in points), default=1)
    foot = top + size + 50
    for x, y, one in places:
        told = f"confidence {one.confidence:.3f}, right {one.accuracy:.3f}, {one.answers:,} answers"
        few = " few" if one.answers < FEW else ""
        parts.append(f'<circle class="dot{few}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{told}</title></circle>')
        high = max(1.0, 40 * one.answers / largest)
        parts.append(f'<rect class="soft" x="{x - 5:.1f}" y="{foot - high:.1f}" width="10" height="{high:.1f}">')
        parts.append(f"<title>{told}</title></rect>")
    parts.append(f'<line class="axis" x1="{left}" x2="{left + size}" y1="{foot}" y2="{foot}"/>')
    parts.append(f'<text x="{left + size / 2}" y="{foot + 36}" text-anchor="middle">confidence</text>')
    parts.append(
        f'<text transform="translate(12 {top + size / 2}) rotate(-90)" text-anchor="middle">share right</text>'
    )
    told = "; ".join(f"{one.confidence:.2f}: {one.accuracy:.2f} of {one.answers:,}" for one in points)
    return _svg(left + size + 16, foot + 42, f"Reliability diagram, share right by confidence. {told}", "".join(parts))


def heat_map(labels: Sequence[str], cells: Sequence[Sequence[float]]) -> str:
    """A confusion matrix as a table, whose cells are coloured by their share of the row."""
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    rows = []
    for place, (label, row) in enumerate(zip(labels, cells, strict=True)):
        total = sum(row)
        each = []
        for column, number in enumerate(row):
            share = number / total if total else 0.0
            strong = ' class="strong"' if share > 0.55 else ""
            hue = "--blue" if place == column else "--red"
            each.append(f'<td{strong} style="--share:{share:.3f};--hue:var({hue})" title="{share:.1%}">{number:,}</td>')
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{"".join(each)}</tr>')
    return (
        '<div class="scroll" tabindex="0"><table class="heat"><thead><tr><th scope="col">true \\ called</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table; its first column names the rows."""
    top = "".join(f'<th scope="col">{_breakable(each)}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(each)}</td>" for each in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="full"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _breakable(name: str) -> str:
    """Long names of models may go on in the next line: where a part of them ends, and within a long part."""
    return "<wbr>".join(escape(part) for part in re.findall(r"@?[^-./:_@]{1,9}[-./:_]?|.", name))


def _svg(width: float, height: float, told: str, inside: str) -> str:
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(told)}">{inside}</svg>'
