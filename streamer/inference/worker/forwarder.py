"""Runs encoded computations in forward batches and finds out whose fault a failure is.

Every forward batch is announced before it runs, so that the driver knows the suspects of a crash. A batch that
raises is halved until the texts at fault stand alone: at most 2·log2(n) extra passes for one of n. Where batches keep
raising though each of their texts succeeds alone, no text is at fault but the batches: the rest runs one by one. The
model is at fault only where its probe, a known text, fails too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import msgspec

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ExitCode, FailureClass, ModelError
from streamer.inference.channel import Done, Started
from streamer.inference.model import Batching, Encoded, Model, NonFinite
from streamer.inference.next_pass import next_pass
from streamer.inference.worker.batch_record import HOPELESS_BATCHES, BatchRecord
from streamer.inference.worker.forward_traces import ForwardTraces
from streamer.inference.worker.memory_budget import MemoryBudget
from streamer.inference.worker.trouble import Failure, Trouble, place_of, trouble_of

log = logging.getLogger(__name__)

# After so many single texts that fail without a success between, the known input is asked whether the model works.
ASK_AFTER = 32


class WorkerFailureError(Exception):
    """The worker can't go on; `str()` is for the operator and never quotes a text. `suspects` are the computations that
    may have brought it about."""

    def __init__(
        self,
        failure: FailureClass,
        message: str,
        exit_code: ExitCode = ExitCode.HALTED,
        suspects: Sequence[int] = (),
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.exit_code = exit_code
        self.suspects = list(suspects)


class Computation(msgspec.Struct, frozen=True, gc=False):
    """One numbered computation, encoded. A struct: one is made a text."""

    number: int
    encoded: Encoded
    traces: Sequence[bytes] = ()


class ProbeError(WorkerFailureError):
    """The model does not answer its known input. Later than at the start this process is spoiled, whoever did it, and
    the first probe of a fresh one tells what is at fault: `at_start` is the exit code then, None where it is the
    device."""

    def __init__(self, message: str, at_start: ExitCode | None) -> None:
        super().__init__(FailureClass.DEVICE, message)
        self.at_start = at_start


Batch = Sequence[Computation]
More = Callable[[int], Batch]
"""Gives what has come meanwhile, at most so many, without waiting."""

# Of so many computations the lengths are sorted before they are cut into forward batches: with 1,024 a padded batch
# holds about 1.07 to 1.17 tokens for each real one.
WINDOW = 1024

OnError = Callable[[Sequence[int], BaseException], object]
"""Told of each exception of the model with the numbers of the computations that it came of, none for the probe. What it
raises goes through."""


def ignore(_: Sequence[int], __: BaseException) -> None:
    """The code and the place of an exception are all that a worker process tells of it."""


class Forwarder:
    """Runs windows of computations; `emit` gets each announcement and each forward batch's outcomes at once.

    `batching.tokens` (the model's own, or `batch_tokens`) only ever shrinks: out of memory halves it for the life of
    the worker, and for those that come after it.
    """

    def __init__(
        self,
        model: Model,
        emit: Callable[[Started | Done], object],
        batch_tokens: int = 0,
        on_error: OnError = ignore,
        traces: ForwardTraces | None = None,
    ) -> None:
        self._model = model
        self._traces = traces or ForwardTraces()
        self._emit = emit
        self._on_error = on_error
        self._quotes = model.card.backend == "python"
        """Whether the exceptions of forward passes may hold words of a text: those of an operator's class may."""
        self._budget = MemoryBudget(model.card)
        tokens = batch_tokens or model.batching.tokens
        self.batching = replace(model.batching, tokens=min(tokens, self._budget.read() or tokens))
        model.batching = self.batching
        self._held: list[tuple[int, DataFailure]] = []
        self._record = BatchRecord()
        self._one_by_one = False
        self._succeeded = False
        self._passes = 0
        self._computed_tokens = 0
        self._seconds = 0.0

    def run(self, window: Batch, more: More | None = None) -> None:
        """Run all of a window, oldest first, and of what comes meanwhile, in batches of similar lengths, each with the
        oldest that waits. Raises `WorkerFailureError` when the worker must end."""
        waiting = list(window)
        while waiting:
            if more is not None and len(waiting) <= WINDOW // 2:
                waiting += more(WINDOW - len(waiting))
            places = [0] if self._one_by_one else next_pass(_sizes(waiting), self.batching)
            self._run_batch([waiting[place] for place in places])
            if len(places) == len(waiting):
                waiting = []
            else:
                gone = set(places)
                waiting = [one for place, one in enumerate(waiting) if place not in gone]

    def run_alone(self, suspects: Iterable[Computation]) -> None:
        """Run the probe, then each suspect by itself; it is encoded only then."""
        self.run_probe()
        for suspect in suspects:
            self._run_batch([suspect])

    def run_probe(self) -> None:
        """Run the known input; raises `ProbeError` unless its answer is finite."""
        match self._attempt([], [self._model.probe], quotes=False):
            case Failure(Trouble.RAISED, exception, place, words):
                said = words or f"{exception} at {place}"
                raise ProbeError(f"the model fails for its probe: {said}", ExitCode.CONFIGURATION)
            case Failure(_, exception):
                raise ProbeError(f"the probe failed on the device ({exception})", None)
            case answers if NonFinite.NON_FINITE in answers:
                raise ProbeError("the model gives NaN or infinity for a known text", ExitCode.HALTED)

    def _ask(self, suspects: Sequence[int]) -> None:
        """Whether the model still works, after something that speaks against these."""
        try:
            self.run_probe()
        except ProbeError as error:
            error.suspects = list(suspects)
            raise

    def _run_batch(self, batch: Batch) -> None:
        self._succeeded = False
        tokens = self.batching.tokens
        raised = self._divide(batch)
        if self._record.close() and raised is not None:
            self._one_by_one = True
            log.warning(
                "the model can't run texts together: %d batches raised (%s at %s), and each of their texts succeeded "
                "alone; from now on they run one by one, which is slower",
                HOPELESS_BATCHES,
                raised.exception,
                raised.place,
            )
        if self.batching.tokens < tokens:
            self._budget.write(self.batching.tokens)
        if self._held:  # nothing in the batch speaks for the model: let the known input
            self._ask([number for number, _ in self._held])
            self._release()

    def _divide(self, batch: Batch) -> Failure | None:
        """Run a batch, and its halves where it fails; returns how it failed itself."""
        outcome = self._announced(batch)
        if not isinstance(outcome, Failure):
            self._record.note(len(batch), raised=False)
            self._deliver(batch, outcome)
            return None
        if outcome.trouble is Trouble.RAISED:
            self._record.note(len(batch), raised=True)
        self._refuse_broken_device(batch, outcome)
        if outcome.trouble is Trouble.MEMORY:
            self._model.free_memory()
        if len(batch) == 1:
            if outcome.trouble is Trouble.MEMORY:
                self._run_in_smaller_passes(batch[0])
            else:
                self._hold(batch[0].number, outcome)
            return outcome
        half = len(batch) // 2
        failed = [self._divide(batch[:half]), self._divide(batch[half:])]
        if outcome.trouble is Trouble.MEMORY and failed == [None, None]:
            # It was too much at once, which a text that always runs out of memory does not show.
            self._shrink(batch)
        return outcome

    def _refuse_broken_device(self, batch: Batch, failure: Failure) -> None:
        if failure.trouble is Trouble.DEVICE:
            message = f"the device's context is broken ({failure.exception})"
            raise WorkerFailureError(FailureClass.DEVICE, message, suspects=[one.number for one in batch])

    def _run_in_smaller_passes(self, one: Computation) -> None:
        """There was no memory for one computation: its rows in smaller passes, down to single rows."""
        before = self.batching
        while one.encoded.rows > 1 and self.batching.tokens >= one.encoded.length:
            self._shrink([one])
            outcome = self._announced([one])
            if not isinstance(outcome, Failure):
                self._deliver([one], outcome)
                return
            self._model.free_memory()
            self._refuse_broken_device([one], outcome)
            if outcome.trouble is Trouble.RAISED:
                self._use(before)
                self._hold(one.number, outcome)
                return
        self._use(before)
        message = "out of memory for a single text: give the worker more memory or lower the model's maximum length"
        raise WorkerFailureError(FailureClass.DEVICE, message, suspects=[one.number])

    def _shrink(self, batch: Batch) -> None:
        """Half of what this batch takes is the most from now on."""
        computed = self.batching.computed(_sizes(batch))
        self._use(replace(self.batching, tokens=max(1, min(self.batching.tokens, computed) // 2)))

    def _use(self, batching: Batching) -> None:
        self.batching = self._model.batching = batching

    def _announced(self, batch: Batch) -> Sequence[Answer | NonFinite | DataFailure] | Failure:
        numbers = [computation.number for computation in batch]
        self._emit(Started(numbers))
        opened = self._traces.begin(batch)
        began = time.perf_counter()
        outcome = self._attempt(numbers, [computation.encoded for computation in batch], quotes=self._quotes)
        self._seconds += time.perf_counter() - began
        if opened is not None:
            tokens = sum(computation.encoded.tokens for computation in batch)
            if isinstance(outcome, Failure):
                self._traces.end(opened, tokens, error=outcome.exception)
            else:
                told = sum(answer.tokens for answer in outcome if isinstance(answer, Answer))
                self._traces.end(opened, tokens, max(told - tokens, 0))
        self._passes += 1
        if batch[0].encoded.tokens:
            self._computed_tokens += self.batching.computed(_sizes(batch))
        return outcome

    def _attempt(
        self, numbers: Sequence[int], batch: Sequence[Encoded], *, quotes: bool
    ) -> Sequence[Answer | NonFinite | DataFailure] | Failure:
        """A failure instead of an exception, whose traceback holds the batch's tensors: gone before a retry."""
        try:
            answers = self._model.forward(batch)
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} inputs")
            return answers
        except WorkerFailureError:  # of a model that knows itself whose fault it is
            raise
        except BaseException as error:  # also SystemExit and the panics of native extensions
            self._on_error(numbers, error)
            words = str(error) if isinstance(error, ModelError) else ""
            trouble = trouble_of(error, quotes=quotes, alone=len(batch) == 1)
            return Failure(trouble, type(error).__name__, place_of(error), words)

    def _deliver(self, batch: Batch, answers: Sequence[Answer | NonFinite | DataFailure]) -> None:
        if all(type(answer) is Answer for answer in answers):
            self._succeeded = True
            self._release()
            self._report_answers([computation.number for computation in batch], answers)  # type: ignore[arg-type]
            return
        finite: list[tuple[int, Answer | DataFailure]] = []
        refused: list[tuple[int, Answer | DataFailure]] = []
        suspects: list[Computation] = []
        for computation, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Answer):
                finite.append((computation.number, answer))
            elif isinstance(answer, DataFailure):
                refused.append((computation.number, answer))
            else:
                suspects.append(computation)
        if finite:
            self._succeeded = True
            self._release()
            self._report(finite)
        if refused:
            self._report(refused)
        for suspect in suspects:
            self._judge_non_finite(suspect, ran_alone=len(batch) == 1)

    def _judge_non_finite(self, suspect: Computation, *, ran_alone: bool) -> None:
        if not ran_alone:
            again = self._announced([suspect])
            if isinstance(again, Failure) or again[0] is not NonFinite.NON_FINITE:
                if isinstance(again, Failure):
                    self._settle_single(suspect, again)
                else:
                    self._deliver([suspect], again)
                return
        self._ask([suspect.number])
        failure = DataFailure(Code.INFER_NAN, "the model's output for this text is not finite, though its probe's is")
        self._report([(suspect.number, failure)])

    def _settle_single(self, suspect: Computation, failure: Failure) -> None:
        if failure.trouble is not Trouble.RAISED:
            message = f"the device failed for a single text ({failure.exception})"
            raise WorkerFailureError(FailureClass.DEVICE, message, suspects=[suspect.number])
        self._hold(suspect.number, failure)

    def _hold(self, number: int, failure: Failure) -> None:
        """Keep a single text's failure until one success in its batch shows that the model works."""
        message = f"the model raised {failure.exception} at {failure.place} for this text alone"
        self._held.append((number, DataFailure(Code.INFER_EXCEPTION, message, failure.exception)))
        if self._succeeded:
            self._release()
        elif len(self._held) >= ASK_AFTER:
            self._ask([held for held, _ in self._held])
            self._release()

    def _release(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._report(list(held))

    def _report_answers(self, numbers: list[int], answers: list[Answer]) -> None:
        """The common case, where nothing failed: columns without looking at each outcome's kind."""
        tokens = [answer.tokens for answer in answers]
        outputs: list[bytes | None] = [answer.output for answer in answers]
        truncated = [index for index, answer in enumerate(answers) if answer.truncated]
        self._emit_done(numbers, outputs, tokens, truncated, {}, [answer.measures for answer in answers])

    def _report(self, outcomes: Sequence[tuple[int, Answer | DataFailure]]) -> None:
        """Send outcomes with what was spent since the last ones."""
        answers = [outcome if isinstance(outcome, Answer) else None for _, outcome in outcomes]
        tokens = [answer.tokens if answer is not None else 0 for answer in answers]
        self._emit_done(
            [number for number, _ in outcomes],
            [answer.output if answer is not None else None for answer in answers],
            tokens,
            [index for index, answer in enumerate(answers) if answer is not None and answer.truncated],
            {index: outcome for index, (_, outcome) in enumerate(outcomes) if isinstance(outcome, DataFailure)},
            [answer.measures if answer is not None else b"" for answer in answers],
        )

    def _emit_done(
        self,
        numbers: list[int],
        outputs: list[bytes | None],
        tokens: list[int],
        truncated: list[int],
        failures: dict[int, DataFailure],
        measures: list[bytes],
    ) -> None:
        forwarded, code_spans = self._traces.take()
        self._emit(
            Done(
                numbers=numbers,
                outputs=outputs,
                tokens=tokens,
                truncated=truncated,
                failures=failures,
                real_tokens=sum(tokens),
                computed_tokens=self._computed_tokens,
                seconds=self._seconds,
                passes=self._passes,
                measures=measures if any(measures) else [],
                forwarded=forwarded,
                code_spans=code_spans,
            )
        )
        self._passes = 0
        self._computed_tokens = 0
        self._seconds = 0.0


def _sizes(batch: Batch) -> list[tuple[int, int]]:
    return [(computation.encoded.length, computation.encoded.rows) for computation in batch]
