"""The failure algebra of forward batches, with models of a few lines."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, FailureClass
from streamer.inference.channel import Done, Started
from streamer.inference.model import CPU_BATCHING, NON_FINITE, Batching, Encoded, NonFinite, cut
from streamer.inference.worker.batch_record import BatchRecord
from streamer.inference.worker.forwarder import Computation, Forwarder, WorkerFailureError

Rule = Callable[[Sequence[str]], list[Answer | NonFinite]]
OK = Answer(b"{}", tokens=1)
PROBE = "probe"


class RuleModel:
    """A model of one rule over the texts of a batch."""

    batching = CPU_BATCHING
    card = ModelCard("rule", "1", "any", "none", "none")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.probe = encoded(PROBE)
        self.freed = 0

    def encode(self, texts: Sequence[str], pairs: object, params: object) -> list[Encoded | DataFailure]:
        """Unused: the tests encode by hand."""
        return [encoded(text) for text in texts]

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """Apply the rule."""
        return self.rule([one.content for one in batch])

    def free_memory(self) -> None:
        """Count the calls."""
        self.freed += 1


def encoded(text: str) -> Encoded:
    """A text whose length is its number of words."""
    length = len(text.split()) or 1
    return Encoded(length, length, False, text)


class Run:
    """A forwarder with all that it sent."""

    def __init__(self, rule: Rule, budget: int = 0, card: ModelCard | None = None) -> None:
        self.sent: list[Started | Done] = []
        self.model = RuleModel(rule)
        self.model.card = card or RuleModel.card
        self.forwarder = Forwarder(self.model, self.sent.append, budget)

    def window(self, texts: list[str]) -> Run:
        """Run these texts, numbered from 0."""
        self.forwarder.run([Computation(number, encoded(text)) for number, text in enumerate(texts)])
        return self

    @property
    def announced(self) -> list[list[int]]:
        """The numbers of every forward batch."""
        return [message.numbers for message in self.sent if isinstance(message, Started)]

    @property
    def done(self) -> list[Done]:
        """Every report."""
        return [message for message in self.sent if isinstance(message, Done)]

    @property
    def failures(self) -> dict[int, DataFailure]:
        """Every failure by its number."""
        return {one.numbers[index]: failure for one in self.done for index, failure in one.failures.items()}

    @property
    def answered(self) -> list[int]:
        """The numbers with an answer."""
        return sorted(n for one in self.done for n, out in zip(one.numbers, one.outputs, strict=True) if out)


def raising_for(mark: str) -> Rule:
    """Raises for any batch with a text that holds the mark, and quotes it."""

    def rule(texts: Sequence[str]) -> list[Answer | NonFinite]:
        for text in texts:
            if mark in text:
                raise ValueError(f"bad text: {text}")
        return [OK] * len(texts)

    return rule


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 100, 257])
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_one_poison_costs_at_most_two_logarithms_of_passes(size: int, where: float) -> None:
    """And only the poison fails."""
    poison = int(size * where)
    texts = ["POISON" if number == poison else "fine" for number in range(size)]
    run = Run(raising_for("POISON")).window(texts)
    assert list(run.failures) == [poison]
    assert run.answered == [number for number in range(size) if number != poison]
    assert len(run.announced) - 1 <= 2 * math.ceil(math.log2(size))
    assert sum(one.passes for one in run.done) == len(run.announced)


def test_every_batch_is_announced_before_it_runs() -> None:
    """At the moment of a pass the newest announcement holds exactly its numbers."""
    seen: list[tuple[list[int], list[str]]] = []

    def rule(texts: Sequence[str]) -> list[Answer | NonFinite]:
        seen.append((run.announced[-1], list(texts)))
        return raising_for("POISON")(texts)

    texts = [f"t{number}" for number in range(9)] + ["POISON"]
    run = Run(rule)
    run.window(texts)
    assert len(seen) > 1
    assert all([texts[number] for number in numbers] == ran for numbers, ran in seen)


def test_a_failure_never_quotes_its_text() -> None:
    """It names the exception's class and place."""
    failure = Run(raising_for("SECRET")).window(["a SECRET word", "fine"]).failures[0]
    assert failure.code is Code.INFER_EXCEPTION
    assert failure.exception == "ValueError"
    assert "SECRET" not in failure.message
    assert "test_inference_forwarder.py" in failure.message


def test_several_poisons_fail_alone() -> None:
    """Neighbours of three poisons in one batch all get answers."""
    texts = ["POISON" if number in (3, 4, 50) else "fine" for number in range(64)]
    run = Run(raising_for("POISON")).window(texts)
    assert sorted(run.failures) == [3, 4, 50]
    assert len(run.answered) == 61


@pytest.mark.case(71)
def test_a_model_is_broken_only_when_its_probe_fails_too() -> None:
    """However many texts of one template fail in a row: whether that is too many, the breaker says."""
    run = Run(raising_for("BAD")).window(["BAD template"] * 70 + ["fine"] * 3)
    assert len(run.failures) == 70
    assert run.answered == [70, 71, 72]


def test_thirty_two_failures_after_a_success_are_data() -> None:
    """One good text among the first shows that the model works."""
    texts = ["fine", *["POISON"] * 63]
    run = Run(raising_for("POISON")).window(texts)
    assert run.answered == [0]
    assert len(run.failures) == 63


def test_a_batch_without_success_asks_the_probe() -> None:
    """Three poisons alone are data while the probe passes; when it does not, this process is spoiled, and they are
    suspects."""
    good = Run(raising_for("POISON")).window(["POISON"] * 3)
    assert len(good.failures) == 3
    broken = Run(raising_for(""))
    with pytest.raises(WorkerFailureError) as caught:
        broken.window(["any"] * 3)
    assert (caught.value.failure, caught.value.suspects) == (FailureClass.DEVICE, [0, 1, 2])
    assert broken.done == []


@pytest.mark.case(70)
def test_the_words_of_a_class_that_may_quote_a_text_decide_nothing() -> None:
    """Its exception is the text's, whatever it says; torch's own words are torch's."""
    words = "CUDA error: out of memory"

    def rule(texts: Sequence[str]) -> list[Answer | NonFinite]:
        if any(words in text for text in texts):
            raise RuntimeError(f"can't read {texts}")
        return [OK] * len(texts)

    quoting = Run(rule, card=replace(RuleModel.card, backend="python")).window(["a", words, "b", "c"])
    assert list(quoting.failures) == [1]
    assert quoting.failures[1].code is Code.INFER_EXCEPTION
    assert quoting.answered == [0, 2, 3]
    assert quoting.forwarder.batching == RuleModel.batching
    with pytest.raises(WorkerFailureError) as caught:
        Run(rule).window(["a", words])
    assert caught.value.failure is FailureClass.DEVICE


@pytest.mark.case(70)
def test_a_text_that_always_exhausts_memory_is_suspect_and_shrinks_no_batches() -> None:
    """What it can't have does not say that the others have too much."""

    def rule(texts: Sequence[str]) -> list[Answer | NonFinite]:
        if "GREEDY" in texts:
            raise MemoryError
        return [OK] * len(texts)

    run = Run(rule)
    with pytest.raises(WorkerFailureError) as caught:
        run.window([*["fine"] * 5, "GREEDY", *["fine"] * 5])
    assert (caught.value.failure, caught.value.suspects) == (FailureClass.DEVICE, [5])
    assert run.forwarder.batching == RuleModel.batching


@pytest.mark.case(28)
def test_out_of_memory_splits_and_remembers() -> None:
    """All texts get answers, and the next window starts at the smaller budget."""

    def rule(texts: Sequence[str]) -> list[Answer | NonFinite]:
        if len(texts) > 10:
            raise MemoryError
        return [OK] * len(texts)

    run = Run(rule).window(["one"] * 64)
    assert len(run.answered) == 64
    assert run.failures == {}
    assert run.model.freed > 0
    before = len(run.announced)
    run.window(["one"] * 64)
    assert all(len(numbers) <= 10 for numbers in run.announced[before:])


def test_out_of_memory_for_one_text_alone_ends_the_worker() -> None:
    """It is no data failure yet: it is tried alone on fresh workers."""

    def rule(texts: Sequence[str]) -> list[Answer | NonFinite]:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    run = Run(rule)
    with pytest.raises(WorkerFailureError) as caught:
        run.window(["one", "two"])
    assert caught.value.failure is FailureClass.DEVICE
    assert run.done == []


@pytest.mark.case(29)
def test_a_broken_context_is_the_device() -> None:
    """At once: no later pass on it could succeed."""

    def rule(texts: Sequence[str]) -> list[Answer | NonFinite]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    run = Run(rule)
    with pytest.raises(WorkerFailureError) as caught:
        run.window(["one", "two"])
    assert caught.value.failure is FailureClass.DEVICE
    assert len(run.announced) == 1


@pytest.mark.case(31)
def test_a_text_that_is_not_finite_fails_alone_while_the_probe_is() -> None:
    """The others of its batch keep their answers of the first pass."""
    run = Run(lambda texts: [NON_FINITE if "NAN" in text else OK for text in texts]).window(["a", "NAN", "b"])
    assert run.answered == [0, 2]
    assert run.failures[1].code is Code.INFER_NAN
    assert run.announced == [[0, 1, 2], [1]]


def test_a_text_that_is_finite_alone_gets_its_answer() -> None:
    """What went wrong in company is not held against it."""
    run = Run(lambda texts: [NON_FINITE if len(texts) > 1 and "odd" in text else OK for text in texts])
    run.window(["a", "odd", "b"])
    assert run.answered == [0, 1, 2]
    assert run.failures == {}


def test_a_probe_that_is_not_finite_is_the_device() -> None:
    """Then no text is at fault."""
    run = Run(lambda texts: [NON_FINITE] * len(texts))
    with pytest.raises(WorkerFailureError) as caught:
        run.window(["a", "b"])
    assert caught.value.failure is FailureClass.DEVICE
    assert run.done == []


def test_suspects_run_alone_after_the_probe() -> None:
    """Each is announced by itself."""
    ran: list[list[str]] = []

    def rule(texts: Sequence[str]) -> list[Answer | NonFinite]:
        ran.append(list(texts))
        return [OK] * len(texts)

    run = Run(rule)
    run.forwarder.run_alone([Computation(number, encoded(text)) for number, text in ((7, "x"), (9, "y"))])
    assert ran == [[PROBE], ["x"], ["y"]]
    assert run.announced == [[7], [9]]


def test_batches_hold_similar_lengths_within_the_budget() -> None:
    """Padded tokens stay under the budget, padding under the waste cap but for small batches."""
    texts = [" ".join(["w"] * (1 + number % 90)) for number in range(500)]
    run = Run(lambda given: [Answer(b"{}", tokens=len(text.split())) for text in given], budget=1000).window(texts)
    assert run.answered == list(range(500))
    assert all(one.computed_tokens <= 1000 for one in run.done)
    assert sum(one.computed_tokens for one in run.done) <= 1.05 * sum(one.real_tokens for one in run.done)


def test_a_text_beyond_the_budget_still_runs() -> None:
    """By itself."""
    assert cut([(600, 1), (600, 1)], Batching(512, 1.05, 256)) == 1
    assert cut([(100, 30), (100, 1)], Batching(512, 1.05, 256)) == 1


def test_all_rows_of_a_computation_count() -> None:
    """Two computations of three rows each do not fit where four rows do."""
    assert cut([(100, 3), (100, 1), (100, 1)], Batching(400, 1.05, 256)) == 2


def raising_together(texts: Sequence[str]) -> list[Answer | NonFinite]:
    """A model that can't run batches, as one without a padding token."""
    if len(texts) > 1:
        raise IndexError("index out of range in self")
    return [OK]


def test_batches_that_can_not_run_are_given_up_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """After three, all texts run one by one: a pass each, with an answer each."""
    run = Run(raising_together, budget=4)
    with caplog.at_level(logging.WARNING, logger="streamer"):
        run.window(["one"] * 40)
    assert run.answered == list(range(40))
    assert [numbers for numbers in run.announced if len(numbers) > 1][6:] == [[8, 9, 10, 11], [8, 9], [10, 11]]
    assert len(run.announced) == 3 * (1 + 2 + 4) + 28
    (said,) = [one.getMessage() for one in caplog.records]
    assert "one by one" in said
    assert "IndexError" in said
    assert "test_inference_forwarder.py" in said
    before = len(run.announced)
    run.window(["one"] * 8)
    assert len(run.announced) - before == 8


def test_a_text_at_fault_does_not_end_batches(caplog: pytest.LogCaptureFixture) -> None:
    """Neither one in each batch, nor batches of two of which both fail."""
    run = Run(raising_for("POISON"), budget=2)
    run.window(["POISON", "fine"] * 20)
    run.window(["POISON"] * 10)
    assert run.window(["fine"] * 4).announced[-2:] == [[0, 1], [2, 3]]
    assert caplog.records == []


@pytest.mark.parametrize(
    ("passes", "hopeless"),
    [
        ([(4, True), (2, True), (1, False), (1, False), (2, True), (1, False), (1, False)], True),
        ([(2, True), (1, False), (1, False)], True),
        ([(4, True), (2, False), (2, True), (1, True), (1, False)], False),  # one text at fault
        ([(2, True), (1, True), (1, False)], False),
        ([(4, True), (2, False), (2, False)], False),  # too many at once
        ([(3, True), (1, False), (2, True), (1, True), (1, False)], False),
        ([(4, True), (2, True), (1, True), (1, False), (2, True), (1, False), (1, False)], True),  # and one at fault
        ([(4, False)], False),
        ([(1, False)], False),
    ],
)
def test_a_batch_is_hopeless_when_only_its_single_texts_succeed(passes: list[tuple[int, bool]], hopeless: bool) -> None:
    """Three in a row show it, and are told once; a single text between them says nothing."""
    record = BatchRecord()
    shown = []
    for _ in range(4):
        for texts, raised in passes:
            record.note(texts, raised=raised)
        shown.append(record.close())
        record.note(1, raised=False)
        shown.append(record.close())
    assert shown == [False] * 4 + [hopeless] + [False] * 3


def test_one_batch_that_runs_gives_batches_another_three() -> None:
    """What failed may have been their lengths."""
    record = BatchRecord()
    for number in range(7):
        record.note(2, raised=number != 2)
        if number != 2:
            record.note(1, raised=False)
            record.note(1, raised=False)
        assert record.close() is (number == 5)


@pytest.mark.case(31)
def test_too_few_answers_are_the_models_fault() -> None:
    """No text can be told its answer."""
    run = Run(lambda _: [])
    with pytest.raises(WorkerFailureError) as caught:
        run.window(["a", "b"])
    assert caught.value.failure is FailureClass.DEVICE
    assert run.done == []
