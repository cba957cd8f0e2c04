"""Pictures of model health as SVG and HTML, for pages that need no script and no network: numbers over time, and two
histograms side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape
from typing import Final, NamedTuple

from streamer.ops.pictures import grid

# Colours that stay apart for the colour-blind (after Okabe and Ito), in lightness too; lines differ by their dashes.
STYLE: Final = """
:root { --s1: #0072b2; --s2: #d98200; --s3: #00805d; --s4: #b65f96; --s5: #45a5de; --s6: #b84a00; --rest: #98a2b0; }
@media (prefers-color-scheme: dark) { :root { --s1: #3f9ad6; --s2: #e9a73a; --s3: #22a982; --s4: #d58bb8;
  --s5: #93d0f5; --s6: #dd6f2c; --rest: #7d8897; } }
.s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); } .s4 { --c: var(--s4); } .s5 { --c: var(--s5); }
.s6 { --c: var(--s6); } .rest { --c: var(--rest); }
.line { stroke: var(--c); stroke-width: 1.5; fill: none; } .area { fill: var(--c); stroke: var(--surface); }
.alone, .filled { fill: var(--c); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; background: var(--c); }
.keys { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; color: var(--muted); margin: 0 0 4px; }
.keys b { color: var(--text); font-weight: 600; }
.state { display: inline-block; padding: 1px 10px; border-radius: 99px; font-size: 13px; font-weight: 600;
  background: var(--track); }
.state.warn { color: #8b5505; } .state.bad { color: var(--red); } .state.ok { color: var(--green); }
@media (prefers-color-scheme: dark) { .state.warn { color: #d8a348; } }
h2.pipeline { margin: 28px 0 4px; font-size: 19px; }
h3 { font-size: 14px; margin: 0 0 4px; }
.says { font-size: 17px; margin: 4px 0 12px; }
details { margin-top: 6px; } summary { cursor: pointer; color: var(--muted); font-size: 13px; }
details .scroll { max-height: 360px; overflow: auto; }
"""

_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 480, 120, 56, 8, 22
_DASHES = ("", "6 4", "2 3", "8 3 2 3", "4 2")
_DAYS_S = 2 * 86_400


class Line(NamedTuple):
    """A series: its name, the class of its colour, and a value for each time, None where there is none."""

    name: str
    colour: str
    values: Sequence[float | None]


def lines(title: str, times_s: Sequence[float], rows: Sequence[Line], told: Callable[[float], str], top: float) -> str:
    """Values over time, from 0 to `top` or to what is largest."""
    most = top or _ceiling(max((value for row in rows for value in row.values if value is not None), default=0))
    parts = []
    for place, row in enumerate(rows):
        dash = _DASHES[place % len(_DASHES)]
        for stretch in _stretches(row.values):
            at = [(_x(index, len(times_s)), _y(min(value, most), most)) for index, value in stretch]
            if len(at) == 1:
                parts.append(f'<circle class="alone {row.colour}" cx="{at[0][0]:.1f}" cy="{at[0][1]:.1f}" r="2"/>')
                continue
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
            dashes = f' stroke-dasharray="{dash}"' if dash else ""
            parts.append(f'<polyline class="line {row.colour}"{dashes} points="{points}"/>')
    return _figure(title, times_s, rows, told, most, "".join(parts))


def stacked(title: str, times_s: Sequence[float], rows: Sequence[Line], told: Callable[[float], str]) -> str:
    """Shares of one over time, the first on top."""
    parts = []
    for place, row in enumerate(rows):
        below = [
            None if row.values[at] is None else sum(other.values[at] or 0.0 for other in rows[place:])
            for at in range(len(times_s))
        ]
        for stretch in _stretches(below):
            ends = [*stretch, (stretch[-1][0] + 1, stretch[-1][1])] if len(stretch) == 1 else stretch
            over = " ".join(f"{_x(index, len(times_s)):.1f},{_y(value, 1):.1f}" for index, value in ends)
            first, last = (_x(ends[end][0], len(times_s)) for end in (0, -1))
            foot = f"{last:.1f},{_y(0, 1):.1f} {first:.1f},{_y(0, 1):.1f}"
            parts.append(f'<polygon class="area {row.colour}" points="{over} {foot}"/>')
    return _figure(title, times_s, rows, told, 1.0, "".join(parts))


def sides(title: str, kind: str, bars: Sequence[tuple[str, float, float]], told: Callable[[float], str]) -> str:
    """Two histograms side by side, the first what was usual; below, their numbers."""
    most = max((share for bar in bars for share in bar[1:]), default=0) or 1.0
    picture = _columns(title, bars, most) if kind == "histogram" else _rows(title, bars, most, told)
    keys = (
        '<p class="keys"><span class="rest"><i class="key"></i>baseline</span><span class="s1">'
        '<i class="key"></i>now</span></p>'
    )
    return keys + picture + table([title, "baseline", "now"], [[name, told(old), told(new)] for name, old, new in bars])


def table(head: Sequence[str], rows: Sequence[Sequence[str]], summary: str = "As a table") -> str:
    """Numbers that open under a picture."""
    return f"<details><summary>{escape(summary)}</summary>{grid(head, rows)}</details>"


def _columns(title: str, bars: Sequence[tuple[str, float, float]], most: float) -> str:
    wide = (_WIDTH - 20) / max(len(bars), 1)
    each = min(wide * 0.4, 16)
    parts = []
    for place, (name, old, new) in enumerate(bars):
        middle = 10 + (place + 0.5) * wide
        for share, left, colour in ((old, middle - each, "rest"), (new, middle, "s1")):
            high = _HEIGHT * share / most
            parts.append(f'<rect class="filled {colour}" x="{left:.1f}" y="{_TOP + _HEIGHT - high:.1f}"')
            parts.append(f' width="{each:.1f}" height="{high:.1f}"/>')
        if place % -(-len(bars) // 9) == 0:
            parts.append(f'<text x="{middle:.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">{escape(name)}</text>')
    return _svg(f"Histograms of {title} in the baseline and now; the numbers are in the table", "".join(parts))


def _rows(title: str, bars: Sequence[tuple[str, float, float]], most: float, told: Callable[[float], str]) -> str:
    left, width, height = 130, 210, 24
    parts = []
    for place, (name, old, new) in enumerate(bars):
        top = place * height
        short = name if len(name) <= 18 else name[:17] + "…"
        parts.append(f'<text x="{left - 8}" y="{top + 16}" text-anchor="end">{escape(short)}')
        parts.append(f"<title>{escape(name)}</title></text>")
        for share, down, colour in ((old, 3, "rest"), (new, 12, "s1")):
            long = width * share / most
            parts.append(f'<rect class="filled {colour}" x="{left}" y="{top + down}" width="{long:.1f}" height="8"/>')
        parts.append(f'<text class="value" x="{left + width + 8}" y="{top + 16}">{told(old)} → {told(new)}</text>')
    said = f"Shares of {title} in the baseline and now; the numbers are in the table"
    return _svg(said, "".join(parts), len(bars) * height)


def _figure(
    title: str,
    times_s: Sequence[float],
    rows: Sequence[Line],
    told: Callable[[float], str],
    most: float,
    inside: str,
) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _y(share, 1)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{told(share * most)}</text>')
    for index in range(0, len(times_s), max(1, len(times_s) // 4)):
        x, anchor = _x(index, len(times_s)), "end" if index > len(times_s) * 0.95 else "middle" if index else "start"
        when = _clock(times_s[index], times_s[-1] - times_s[0])
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="{anchor}">{when}</text>')
    keys, said = [], []
    for row in rows:
        last = next((value for value in reversed(row.values) if value is not None), None)
        value = "–" if last is None else told(last)
        keys.append(f'<span class="{row.colour}"><i class="key"></i>{escape(row.name)} <b>{value}</b></span>')
        said.append(f"{row.name} {value}")
    picture = _svg(f"{title} over time; last: {', '.join(said)}", "".join(parts) + inside)
    return f'<h3>{escape(title)}</h3><p class="keys">{"".join(keys)}</p>{picture}'


def _stretches(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The values without those that are not there, which break a line."""
    found: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is not None:
            found[-1].append((index, value))
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def _x(index: int, count: int) -> float:
    return _LEFT + (_WIDTH - _LEFT) * index / max(count - 1, 1)


def _y(value: float, most: float) -> float:
    return _TOP + _HEIGHT * (1 - value / most)


def _ceiling(most: float) -> float:
    """A round number above."""
    if most <= 0:
        return 1.0
    size = 10.0 ** (len(f"{most:.0f}") - 1) if most >= 1 else 10.0 ** -len(f"{1 / most:.0f}")
    return next((step * size for step in (1, 2, 5, 10, 20, 50) if step * size >= most), most)


def _clock(time_s: float, over_s: float) -> str:
    return datetime.fromtimestamp(time_s).astimezone().strftime("%d %b" if over_s > _DAYS_S else "%H:%M")


def _svg(told: str, inside: str, height: float = _TOP + _HEIGHT + _FOOT) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(told)}">{inside}</svg>'
