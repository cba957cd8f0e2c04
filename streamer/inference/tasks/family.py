"""What all families of tasks share: texts to rows of token ids, and rows of numbers to answers.

One computation may need several rows: windows of a long text, a pair with each label, a text and its candidates. They
travel together, and rows of many computations share forward passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import tokenizers

from streamer.core.measures import pack
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure
from streamer.inference.model import NON_FINITE, Encoded, NonFinite
from streamer.inference.models.tokenizer import Given, Row, TextTokenizer
from streamer.inference.spec import Overflow, WorkerSpec
from streamer.inference.tasks.option_values import read_options
from streamer.inference.tasks.params import NoParams, read_params
from streamer.inference.worker.sizes import MAX_CHARACTERS, too_large
from streamer.model import Input

Numbers = npt.NDArray[np.float32]
"""What the network makes of one row: (d,), or (tokens, d) of a family with `token_rows`."""
_Options = TypeVar("_Options", bound=msgspec.Struct)

# Of differing lengths, so that a check of them also covers padding.
CHECK_TEXTS = (
    "Fine.",
    "It works.",
    "The delivery was late and nobody answered the telephone.",
    "I love this film, the music, the cast, everything about it!",
    "Why would anyone pay forty euros for a cable that breaks within a week?",
    "Die Lieferung kam pünktlich, aber das Gerät war beschädigt; wir haben es zurückgeschickt.",
    "The committee met on Tuesday to discuss the budget for the next two years, and after a long debate about "
    "schools, roads and the harbour it decided to meet again on Thursday.",
    "In 1969, 3.5 kg of stones (Apollo 11) changed what was known about the Moon: basalt, 3.7 billion years old, "
    "with less water than any stone of the Earth. Fifty years later the same samples, opened under nitrogen, are "
    "measured again with instruments that nobody had dreamt of, by people who were not yet born.",
)


class Asked(msgspec.Struct, frozen=True, gc=False):
    """One computation before tokenising: what stands in each row, and what the answer needs besides."""

    rows: list[Given]
    own: Any = None


class Content(msgspec.Struct, frozen=True, gc=False):
    """One computation as the network reads it, and what the answer needs besides."""

    rows: list[Row]
    own: Any = None


class TaskFamily(ABC):
    """A family of tasks, whatever runs its network. `tolerance` is how far a lower precision may lie from fp32."""

    tolerance: ClassVar[float]
    takes_pair: ClassVar[bool] = False
    params: ClassVar[type[msgspec.Struct]] = NoParams
    offsets: ClassVar[bool] = False
    """Whether `details` reads the character offsets of encodings."""
    reads_mask: ClassVar[bool] = False
    """Whether the mask token in a text stays one where `special_tokens_in_text` is `text`."""
    token_rows: ClassVar[bool] = False
    """Whether the network's numbers are of each token, not of each row."""

    tokenizer: TextTokenizer
    config: Any
    _spec: WorkerSpec

    # --- a family's part ---

    @abstractmethod
    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Check the task's options against the model's files. Raises `ModelError`."""

    def ask(self, text: str, pair: str | None, params: Any) -> Asked | DataFailure:
        """What stands in each row for one event; its params are read into the family's struct."""
        return Asked([text if pair is None else (text, pair)])

    def details(self, asked: Asked, encodings: list[tokenizers.Encoding]) -> Any | DataFailure:
        """What the answer needs besides the network's numbers; `encodings` are those of the rows."""
        return asked.own

    def check_inputs(self, texts: Sequence[str]) -> list[Input]:
        """Events of known texts: the first of all is the probe, and every way to run the network is held to them."""
        alone = [Input(text, None, {}) for text in texts]
        pairs = [Input(one, other, {}) for one, other in zip(texts, (*texts[1:], texts[0]), strict=True)]
        return alone + pairs if self.takes_pair else alone

    @abstractmethod
    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """How far a row's numbers in low precision lie from fp32's, to hold against `tolerance`."""

    @abstractmethod
    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """The JSON of each computation's `output` field; `numbers` are those of all rows, one after the other."""

    def measures(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """What reports count of each answer beside its output (`core.measures`)."""
        return [pack(one.unknown) for one in batch]

    @abstractmethod
    def compute(self, rows: Sequence[Row]) -> list[Numbers]:
        """The network's numbers of each row, in order, in as many passes as the batching asks for."""

    # --- encoding ---

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Tokenise all in one call."""
        asked = [
            self._ask(text, pairs[index] if pairs is not None else None, params[index] if params is not None else None)
            for index, text in enumerate(texts)
        ]
        return self._encode(asked, self._spec.on_overflow)

    def encode_checks(self, texts: Sequence[str] = CHECK_TEXTS) -> list[Encoded]:
        """Known inputs of these texts, cut where they are too long for the model."""
        asked = [self._ask(one.text, one.text_pair, one.params) for one in self.check_inputs(texts)]
        return [one for one in self._encode(asked, "truncate") if isinstance(one, Encoded)]

    def _ask(self, text: str, pair: str | None, params: dict[str, Any] | None) -> Asked | DataFailure:
        if pair is not None and not self.takes_pair:
            return DataFailure(Code.VALIDATE_TEXT_PAIR, f"task {self._spec.task} takes no text_pair")
        read = read_params(self.params, params, self._spec.task)
        asked = read if isinstance(read, DataFailure) else self.ask(text, pair, read)
        return asked if isinstance(asked, DataFailure) else self._too_large(asked.rows) or asked

    def _too_large(self, rows: list[Given]) -> DataFailure | None:
        """Of rows that hold too much; most need no more than a look at their letters."""
        characters = sum([len(row) if isinstance(row, str) else len(row[0]) + len(row[1]) for row in rows])
        if characters > MAX_CHARACTERS and self._spec.on_overflow != "window":
            characters = sum(map(self.tokenizer.characters_read, rows))
        return too_large(rows=len(rows), characters=characters)

    def _encode(self, asked: Sequence[Asked | DataFailure], overflow: Overflow) -> list[Encoded | DataFailure]:
        given = [row for one in asked if isinstance(one, Asked) for row in one.rows]
        encodings = iter(self.tokenizer.encode(given, offsets=self.offsets))
        return [
            self._encoded(one, list(islice(encodings, len(one.rows))), overflow) if isinstance(one, Asked) else one
            for one in asked
        ]

    def _encoded(
        self, asked: Asked, found: list[tokenizers.Encoding | DataFailure], overflow: Overflow
    ) -> Encoded | DataFailure:
        encodings: list[tokenizers.Encoding] = []
        for one in found:
            if isinstance(one, DataFailure):
                return one
            encodings.append(one)
        truncated = any(map(self.tokenizer.is_cut, encodings))
        given = asked.rows
        if truncated and overflow == "reject":
            message = f'the text has more than {self.tokenizer.max_tokens} tokens and on_overflow is "reject"'
            return DataFailure(Code.INFER_TOO_LONG, message)
        if truncated and overflow == "window":
            windows = self.tokenizer.windows(given[0], offsets=self.offsets)
            if isinstance(windows, DataFailure):
                return windows
            encodings, truncated, given = windows, False, given * len(windows)
        if (failure := too_large(rows=len(encodings), tokens=sum(map(len, encodings)))) is not None:
            return failure
        own = next(filter(None, map(self.tokenizer.unreadable, encodings)), None) or self.details(asked, encodings)
        if isinstance(own, DataFailure):
            return own
        rows = [self.tokenizer.row(encoding, one) for encoding, one in zip(encodings, given, strict=True)]
        lengths = [len(row.ids) for row in rows]
        return Encoded(
            length=max(1, *lengths),
            tokens=sum(lengths),
            truncated=truncated,
            content=Content(rows, own),
            rows=len(rows),
            unknown=sum([self.tokenizer.unknown.count(row.ids) for row in rows]),
        )

    # --- answering ---

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """Answers; those of computations with NaN or infinity in a row are `NON_FINITE`."""
        numbers = self.compute(list(chain.from_iterable([one.content.rows for one in batch])))
        if np.isfinite(np.concatenate(numbers, axis=None)).all():
            return self._answered(batch, numbers)
        well = [all(np.isfinite(own).all() for own in group) for group in groups(batch, numbers)]
        good = [one for one, fine in zip(batch, well, strict=True) if fine]
        kept = [own for group, fine in zip(groups(batch, numbers), well, strict=True) if fine for own in group]
        answers = iter(self._answered(good, kept) if good else [])
        return [next(answers) if fine else NON_FINITE for fine in well]

    def _answered(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[Answer | NonFinite]:
        outputs, measures = self.outputs(batch, numbers), self.measures(batch, numbers)
        return [
            Answer(output, one.truncated, False, one.tokens, False, measured)
            for one, output, measured in zip(batch, outputs, measures, strict=True)
        ]

    def options_as(self, kind: type[_Options], options: dict[str, Any]) -> _Options:
        """The task's options, checked. Raises `ModelError`."""
        return read_options(kind, options, self._spec.task)


def groups(batch: Sequence[Encoded], numbers: Sequence[Numbers]) -> Iterator[Sequence[Numbers]]:
    """The numbers of each computation's rows."""
    first = 0
    for one in batch:
        yield numbers[first : first + one.rows]
        first += one.rows


def merged(batch: Sequence[Encoded], numbers: list[Numbers]) -> list[Numbers]:
    """One row each: of a text read in windows their mean, weighted by their tokens."""
    if len(numbers) == len(batch):
        return numbers
    return [
        own[0] if one.rows == 1 else np.average(own, axis=0, weights=[len(row.ids) for row in one.content.rows])
        for one, own in zip(batch, groups(batch, numbers), strict=True)
    ]
