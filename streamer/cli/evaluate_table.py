"""An evaluation on a terminal: a sentence, then tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.core.health.evaluation.evaluation import Evaluation, Versus
from streamer.core.health.evaluation.headline import headline, remarks, told_difference, told_example, verdict
from streamer.core.health.evaluation.slices import Slice
from streamer.core.health.quality.confusion import Confusion
from streamer.core.health.quality.counts import Scores, macro, micro, weighted
from streamer.core.health.quality.quality import Quality
from streamer.core.tally import plural

LABELS: Final = 30
"""Rows of a table; the rest is in the page and in --json."""
MATRIX: Final = 12


def tell(console: Console, found: Evaluation, versus: Versus | None, by: str) -> None:
    """Print all that a person looks at."""
    _line(console, headline(found), "bold")
    for remark in remarks(found):
        _line(console, remark)
    if versus is not None:
        _line(console, verdict(found, versus), "bold")
        if versus.f1 is not None and versus.f1 is not versus.difference:
            _line(console, f"{told_difference(versus.f1)}, by a paired bootstrap")
        if versus.left_out:
            _line(console, f"{plural(versus.left_out, 'row')} left out of the comparison: not both models answered")
    for table in tables(found, by):
        console.print()
        console.print(table)
    for example in found.worst:
        console.print()
        _line(console, f"{example.place}: {told_example(example)}")
        _line(console, f"  {example.text}")


def tables(found: Evaluation, by: str) -> Iterator[Table]:
    """The most useful first."""
    quality = found.quality
    if labels := quality.by_label():
        yield _labels(quality)
        if quality.confusion is not None and len(labels) > 1:
            yield _matrix(quality.confusion)
    if quality.calibration is not None and quality.calibration.total:
        yield _reliability(quality)
    yield _slices("characters", found.by_length.by_length(), found.value)
    if found.by_field is not None:
        yield _slices(by, found.by_field.by_size(), found.value)


def _labels(quality: Quality) -> Table:
    table = _table("label", "precision", "recall", "F1", "true")
    labels = quality.by_label()
    largest = sorted(labels, key=lambda label: -labels[label].support)
    for label in sorted(largest[:LABELS]):
        own = labels[label]
        table.add_row(Text(label), f"{own.precision:.3f}", f"{own.recall:.3f}", f"{own.f1:.3f}", f"{own.support:,}")
    if len(labels) > LABELS:
        table.add_row(f"… {len(labels) - LABELS} more", "", "", "", "")
    table.add_section()
    averages = {"macro": macro(labels), "weighted": weighted(labels), "micro": micro(labels)}
    for name, scores in averages.items():
        table.add_row(f"{name} average", *_numbers(scores), "")
    return table


def _numbers(scores: Scores) -> list[str]:
    return [f"{each:.3f}" for each in scores]


def _matrix(confusion: Confusion) -> Table:
    labels = confusion.labels()
    if len(labels) > MATRIX:
        table = _table("true", "called", "texts")
        wrong = [(n, true, given) for true, row in confusion.cells.items() for given, n in row.items() if true != given]
        for number, true, given in sorted(wrong, reverse=True)[:MATRIX]:
            table.add_row(Text(true), Text(given), f"{number:,}")
        table.title = "Most frequent confusions"
        return table
    table = _table("true \\ called", *labels)
    for truth in labels:
        row = confusion.cells.get(truth, {})
        cells = [Text(f"{row.get(each, 0):,}", style="green" if each == truth else "") for each in labels]
        table.add_row(Text(truth), *cells)
    return table


def _reliability(quality: Quality) -> Table:
    assert quality.calibration is not None
    table = _table("confidence", "mean", "right", "answers")
    for each in quality.calibration.table():
        edges = f"{each.low:.2f}–{each.high:.2f}"
        table.add_row(edges, f"{each.confidence:.3f}", f"{each.accuracy:.3f}", f"{each.count:,}")
    return table


def _slices(name: str, groups: list[tuple[str, Slice]], value: str) -> Table:
    table = _table(name, value, "answered", "no answer")
    for group, own in groups[:LABELS]:
        mean = "" if own.mean is None else f"{own.mean:.3f}"
        table.add_row(Text(group), mean, f"{own.answered:,}", f"{own.failed:,}" if own.failed else "")
    if len(groups) > LABELS:
        table.add_row(f"… {len(groups) - LABELS} more", "", "", "")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column(Text(first))
    for each in others:
        table.add_column(Text(each), justify="right")
    return table


def _line(console: Console, text: str, style: str = "") -> None:
    """Whole, for who searches it."""
    console.print(Text(text, style=style), soft_wrap=True)
