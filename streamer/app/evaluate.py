"""`streamer evaluate`: a model over files that have labels, and how right it was."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import msgspec

from streamer.app.infer import Progress, infer
from streamer.app.resample import f1_difference
from streamer.config.load import Config
from streamer.core.health.evaluation.certainty import difference_interval
from streamer.core.health.evaluation.comparison import Comparison, Reached
from streamer.core.health.evaluation.evaluation import Difference, Evaluation, Example, Versus
from streamer.core.health.evaluation.slices import Slices, length_group
from streamer.core.health.judges.verdict import Judge, Verdict
from streamer.core.health.quality.quality import Quality
from streamer.core.pipeline.protocol import ModelCard
from streamer.errors import ExitCode, UsageError
from streamer.files.labelled import LabelledRows

EXAMPLES: Final = 20
SURE: Final = 0.05
LOOK_AFTER: Final = 200  # answers; by then a label of the file should have been one of the model's


class Judging:
    """`streamer.files.sink.Target`: holds each line of results to its row's label. `kept` takes what is needed to
    compare the model with another, a line for each row, and `other` is such a file, of the same rows."""

    own_errors = False

    def __init__(
        self, rows: LabelledRows, judge: Judge, task: str, *, by: bool, kept: BinaryIO | None, other: BinaryIO | None
    ) -> None:
        self.evaluation = Evaluation("", "", task, Quality(), by_field=Slices() if by else None)
        self.comparison = Comparison() if other is not None else None
        self.bug: Exception | None = None
        self._rows = rows
        self._judge = judge
        self._kept = kept
        self._other = other
        self._worst: list[tuple[float, int, Example]] = []
        self._row = 0
        self._decode = msgspec.json.Decoder().decode
        self._decode_reached = msgspec.json.Decoder(Reached).decode

    def begin(self, card: ModelCard) -> None:
        """The model is there."""
        self.evaluation.model, self.evaluation.revision = card.name, card.revision

    def write(self, results: bytes, errors: bytes) -> None:
        """Judge some lines. What goes wrong ends the reading; the sink's thread goes on, so that the run can end."""
        for line in results.splitlines():
            if self.bug is not None or self._rows.problem is not None:
                return
            try:
                self._line(self._decode(line))
            except Exception as error:
                self.bug = error
                self._rows.stop(UsageError("the answers can't be judged"))

    def reached(self, rows: int, failed: int) -> None:
        """Nobody goes on from here."""

    def end(self) -> Evaluation:
        """All that was found. Raises UsageError where nothing could be compared, and what went wrong before."""
        if self.bug is not None:
            raise self.bug
        if self._rows.problem is not None:
            raise self._rows.problem
        found, self._rows.problem = self.evaluation, None
        found.value, found.lower_is_better = self._judge.value_name, self._judge.lower
        found.unlabelled = self._rows.unlabelled
        found.worst = [example for _, _, example in sorted(self._worst, reverse=True)]
        self._strangers()
        if (problem := self._rows.problem) is not None:
            raise problem
        return found

    def _line(self, line: dict[str, Any]) -> None:
        labelled, quality = self._rows.next_label(), self.evaluation.quality
        self._row += 1
        length = length_group(len(labelled.text))
        groups = [(self.evaluation.by_length, length)] if labelled.readable else []
        if self.evaluation.by_field is not None:
            groups.append((self.evaluation.by_field, labelled.group))
        if "error" in line:
            quality.fail(line["error"]["code"])
            for slices, group in groups:
                slices.fail(group)
            self._compare(Reached())
            return
        try:
            evidence, verdict = self._judge.hold(labelled.truth, line["output"])
            quality.fits(evidence)
        except ValueError as error:
            self._rows.stop(UsageError(f"{labelled.place}: the label {error}"))
            return
        except (KeyError, TypeError, AttributeError):  # of a class of the user's own
            task = self.evaluation.task
            self._rows.stop(UsageError(f"{labelled.place}: the model's answer does not have the fields of task {task}"))
            return
        quality.count(evidence, b"%d" % self._row)
        for slices, group in groups:
            slices.add(group, verdict.value, verdict.weight)
        self._compare(Reached.of(verdict))
        self._remember(verdict, labelled.text, labelled.place)
        if self._row == LOOK_AFTER:
            self._strangers()

    def _remember(self, verdict: Verdict, text: str, place: str) -> None:
        if verdict.right or (verdict.badness <= -1.0 and verdict.right is None):
            return
        if len(self._worst) < EXAMPLES or verdict.badness > self._worst[0][0]:
            example = Example(place, text, verdict.truth, verdict.answer)
            add = heapq.heappush if len(self._worst) < EXAMPLES else heapq.heapreplace
            add(self._worst, (verdict.badness, -self._row, example))

    def _compare(self, reached: Reached) -> None:
        if self._kept is not None:
            self._kept.write(msgspec.json.encode(reached) + b"\n")
        if self._other is not None and self.comparison is not None:
            self.comparison.add(self._decode_reached(self._other.readline()), reached)

    def _strangers(self) -> None:
        """Where no label of the files is one that the model gives, all would count as wrong, and mean nothing."""
        quality = self.evaluation.quality
        quality.labels = sorted(self._judge.known)
        labels = quality.by_label()
        true = [label for label, own in labels.items() if own.support]
        if not quality.labels or not true or quality.spans is not None or set(true) & set(quality.labels):
            return
        theirs, ours = (", ".join(some[:8]) + (" …" if len(some) > 8 else "") for some in (true, quality.labels))
        self._rows.stop(
            UsageError(
                f"no label of the files ({theirs}) is one that the model gives ({ours});"
                f" say which is which: --map {true[0]}=LABEL"
            )
        )


def evaluate(
    config: Config,
    name: str,
    rows: LabelledRows,
    judge: Judge,
    *,
    by: bool = False,
    kept: BinaryIO | None = None,
    other: BinaryIO | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[ExitCode, Evaluation, Comparison | None, Progress]:
    """Run the pipeline `name` over `rows` and judge its answers. With `kept`, what a comparison needs is written
    there; with `other`, such a file of another model on the same rows, both are compared.

    Raises UsageError where labels and answers can't be compared.
    """
    judging = Judging(rows, judge, config.pipelines[name].task, by=by, kept=kept, other=other)
    code, counts = infer(config, name, rows, judging, progress=progress)
    if code not in (ExitCode.DONE, ExitCode.SOME_FAILED) and judging.bug is None and rows.problem is None:
        return code, judging.evaluation, None, counts
    return code, judging.end(), judging.comparison, counts


def versus(first: Evaluation, second: Evaluation, comparison: Comparison) -> Versus:
    """What the counted pairs say of both models."""
    if not comparison.texts:
        return Versus(second, 0, comparison.left_out, Difference(first.value, 0.0))
    f1 = None
    if comparison.cells:
        name = "f1_macro" if first.quality.confusion is not None else "f1_micro"
        f1 = Difference.of(name, *f1_difference(comparison.cells))
    p = None
    if first.quality.spans is not None and f1 is not None:
        main = f1
    else:
        name = "nats a text" if first.quality.perplexity is not None else first.value
        interval = comparison.values.interval
        if (p := comparison.p) is not None:
            interval = difference_interval(comparison.only_first, comparison.only_second, comparison.texts)
        main = Difference.of(name, comparison.values.mean, interval)
    winner = None
    if (p < SURE) if p is not None else main.is_certain:
        winner = "second" if (main.value > 0) != first.lower_is_better else "first"
    return Versus(
        second,
        comparison.texts,
        comparison.left_out,
        main,
        f1,
        p,
        comparison.only_first,
        comparison.only_second,
        winner,
    )
