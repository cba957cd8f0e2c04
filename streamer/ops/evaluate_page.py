"""An evaluation as one page that needs no network: a sentence, then pictures."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from streamer.core.health.evaluation.evaluation import Evaluation, Versus
from streamer.core.health.evaluation.headline import (
    headline,
    main_metrics,
    metric_words,
    remarks,
    told_difference,
    told_example,
    verdict,
)
from streamer.core.health.evaluation.slices import Slice
from streamer.core.health.quality.confusion import Confusion
from streamer.core.health.quality.counts import macro, micro, weighted
from streamer.core.health.quality.quality import Quality
from streamer.core.tally import plural
from streamer.ops.pictures import Bar, Point, bars, grid, heat_map, page, reliability

MATRIX: Final = 24
"""Labels of a matrix; of more, the most frequent confusions are listed."""
ROWS: Final = 200


def page_of(found: Evaluation, versus: Versus | None, by: str) -> str:
    """The whole page. It has texts only if `found` has examples."""
    return page(f"{found.name}: {headline(found)}", "\n".join(_parts(found, versus, by)))


def _parts(found: Evaluation, versus: Versus | None, by: str) -> Iterator[str]:
    quality = found.quality
    yield f'<p class="quiet small">{escape(found.task)} · {escape(found.model)} · {escape(found.revision[:12])}</p>'
    yield f"<h1>{escape(_capital(headline(found)))}.</h1>"
    if said := remarks(found):
        yield f"<ul>{''.join(f'<li>{escape(_capital(each))}.</li>' for each in said)}</ul>"
    yield _numbers(quality)
    yield '<div class="two">'
    if versus is not None:
        yield _versus(found, versus)
    yield from _labels(quality)
    if quality.calibration is not None and quality.calibration.total:
        points = [Point(each.confidence, each.accuracy, each.count) for each in quality.calibration.table()]
        note = "On the dashed line a model is right as often as it says; below it, it is more confident than right."
        yield _section("Can its confidence be trusted?", f'{reliability(points)}<p class="quiet small">{note}</p>')
    slices = _slices("By length in characters", found, found.by_length.by_length())
    if found.by_field is not None:
        slices += _slices(f"By {by}", found, found.by_field.by_size())
    yield f'<div class="stack">{slices}</div>'
    if found.worst:
        yield _section("Where it is most wrong", "".join(_examples(found)), wide=True)
    yield "</div>"


def _numbers(quality: Quality) -> str:
    shown = main_metrics(quality).items()
    each = (f"<div><dt>{escape(metric_words(name))}</dt><dd>{_number(value)}</dd></div>" for name, value in shown)
    return f'<dl class="numbers">{"".join(each)}</dl>'


def _versus(found: Evaluation, versus: Versus) -> str:
    said = [verdict(found, versus)]
    if versus.f1 is not None and versus.f1 is not versus.difference:
        said.append(f"{told_difference(versus.f1)}, by a paired bootstrap")
    if versus.left_out:
        said.append(f"{plural(versus.left_out, 'row')} left out: not both models answered")
    first, second = main_metrics(found.quality), main_metrics(versus.second.quality)
    rows = [[metric_words(name), _number(first[name]), _number(second[name])] for name in first if name in second]
    told = "".join(f"<p>{escape(_capital(each))}.</p>" for each in said)
    return _section("Which model is better?", told + grid(["", found.name, versus.second.name], rows), wide=True)


def _labels(quality: Quality) -> Iterator[str]:
    labels = quality.by_label()
    if not labels:
        return
    confusion = quality.confusion
    if confusion is not None and len(labels) > 1:
        if len(labels) <= MATRIX:
            names = confusion.labels()
            cells = [[confusion.cells.get(one, {}).get(other, 0) for other in names] for one in names]
            note = "Rows are true labels, columns what the model answered. Colours are shares of a row."
            content = f'{heat_map(names, cells)}<p class="quiet small">{note}</p>'
            yield _section("What is taken for what?", content, wide=len(labels) > 6)
        else:
            yield _section("What is most often taken for what?", _confusions(confusion))
    rows = [
        [label, f"{own.precision:.3f}", f"{own.recall:.3f}", f"{own.f1:.3f}", f"{own.support:,}"]
        for label, own in sorted(labels.items(), key=lambda each: -each[1].support)[:ROWS]
    ]
    for name, average in (("macro average", macro), ("weighted average", weighted), ("micro average", micro)):
        rows.append([name, *(f"{each:.3f}" for each in average(labels)), ""])
    yield _section("Label by label", grid(["label", "precision", "recall", "F1", "true"], rows))


def _confusions(confusion: Confusion) -> str:
    wrong = [(n, true, given) for true, row in confusion.cells.items() for given, n in row.items() if true != given]
    rows = [[true, given, f"{number:,}"] for number, true, given in sorted(wrong, reverse=True)[:MATRIX]]
    return grid(["true", "called", "texts"], rows)


def _slices(title: str, found: Evaluation, groups: list[tuple[str, Slice]]) -> str:
    means = [own.mean for _, own in groups if own.mean is not None]
    most = max([*means, 0.0]) if found.lower_is_better else 1.0
    rows = [
        Bar(name, own.mean, ("" if own.mean is None else f"{own.mean:.3f} · ") + _told(own)) for name, own in groups
    ]
    note = f"{_capital(found.value)}, and how many texts it is the mean of."
    return _section(title, f'{bars(title, rows, most)}<p class="quiet small">{escape(note)}</p>')


def _told(own: Slice) -> str:
    return f"{own.answered:,}" + (f" (+{own.failed:,} failed)" if own.failed else "")


def _examples(found: Evaluation) -> Iterator[str]:
    for each in found.worst:
        yield f'<p><span class="quiet small">{escape(each.place)}</span> <b>{escape(told_example(each))}</b></p>'
        yield f"<blockquote>{escape(each.text)}</blockquote>"


def _section(title: str, content: str, *, wide: bool = False) -> str:
    width = ' class="wide"' if wide else ""
    return f"<section{width}><h2>{escape(title)}</h2>{content}</section>"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
