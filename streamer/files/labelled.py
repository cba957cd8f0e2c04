"""Rows that carry labels: what goes on to the model, and what is kept here to judge its answers by."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Protocol

import msgspec

from streamer.errors import UsageError
from streamer.files.row import Fields, Row, at, event_of
from streamer.files.rows import Format, Rows, format_of

NOT_THERE = "(none)"


class TruthReader(Protocol):
    """What makes a truth of a label. Raises ValueError, with words that go on after "the label"."""

    def __call__(self, label: Any, text: str) -> Any: ...


class Labelled(NamedTuple):
    """A row that was handed over: its truth and text, the value that it is grouped by, and where it stands. `readable`
    is False where it is no object and nothing is known of it."""

    truth: Any
    text: str
    group: str
    place: str
    readable: bool = True


@dataclass(frozen=True, slots=True)
class LabelFields:
    """Columns, or paths of dots into JSON objects; `label` and `by` are empty where nobody asks for them."""

    label: str
    text: str = ""
    id: str = ""
    by: str = ""


class LabelledRows(Rows):
    """The rows that have a label, in their order. Their labels wait until `next_label` is asked, so that no more of
    them are held than rows are on their way. `labelled` counts them; rows without a label are counted in `unlabelled`
    and left out. An empty text is a label only where it may be: `empty`."""

    def __init__(
        self,
        paths: Sequence[str],
        stdin: BinaryIO,
        format_: Format | None,
        fields: LabelFields,
        read: TruthReader,
        *,
        empty: bool = False,
    ) -> None:
        super().__init__(paths, stdin, format_, Fields(fields.text, fields.id, whole=True))
        self.labelled = self.unlabelled = 0
        self.problem: UsageError | None = None
        """What ended the reading early."""
        self._names = paths
        self._asked = fields
        self._event = Fields(fields.text, fields.id)
        self._read = read
        self._empty = empty
        self._looked_at = -1
        self._labels: deque[Labelled] = deque()
        self._decode = msgspec.json.Decoder().decode
        self._stopped = threading.Event()

    def open(self) -> None:
        """Look at the first file and its first label, so that what is wrong is said before a model is loaded."""
        super().open()
        if self._waiting:
            self._labelled(self._waiting[0])
            self._labels.clear()
            self.labelled = self.unlabelled = 0

    def read(self, most: int, most_bytes: int) -> list[Row]:
        """The next rows that have a label. At one that has a wrong label they end, and `problem` names file and row."""
        while not self._stopped.is_set() and (rows := super().read(most, most_bytes)):
            try:
                kept = [one for row in rows if (one := self._labelled(row)) is not None]
            except UsageError as error:
                self.stop(error)
                return []
            if kept:
                return kept
        return []

    def next_label(self) -> Labelled:
        """The label of the first row that was read and not asked for yet."""
        return self._labels.popleft()

    def stop(self, problem: UsageError) -> None:
        """Read no further, since `problem` makes the rest useless."""
        self.problem = self.problem or problem
        self._stopped.set()

    def _labelled(self, row: Row) -> Row | None:
        place = f"{self._names[row.file]}, row {row.line}"
        found = self._object(row.value)
        if found is None:
            self._labels.append(Labelled(None, "", NOT_THERE, place, readable=False))
            return row
        if row.file != self._looked_at:
            self._has_columns(row.file, found)
        text = at(found, self._asked.text or "text")
        text = text if isinstance(text, str) else ""
        label = at(found, self._asked.label) if self._asked.label else None
        if self._asked.label and (label is None or (label == "" and not self._empty)):
            self.unlabelled += 1
            return None
        try:
            truth = self._read(label, text)
        except ValueError as error:
            field = self._asked.label
            raise UsageError(
                f"{place}: the label in {field!r} {error}; fix it, or name a field: --label-field"
            ) from None
        group = at(found, self._asked.by) if self._asked.by else None
        self.labelled += 1
        self._labels.append(Labelled(truth, text, NOT_THERE if group in (None, "") else _name(group), place))
        return row if self._is_event(row.file) else row._replace(value=event_of(found, self._event))

    def _is_event(self, file: int) -> bool:
        kind = self._format or format_of(self._names[file]) or "jsonl"
        return kind == "text" or (kind == "jsonl" and not self._event.named)

    def _has_columns(self, file: int, row: dict[str, Any]) -> None:
        """A table has the same ones in all rows."""
        self._looked_at = file
        if (self._format or format_of(self._names[file])) not in ("csv", "parquet"):
            return
        asked = (
            ("--text-field", self._asked.text or "text"),
            ("--label-field", self._asked.label),
            ("--by", self._asked.by),
        )
        for flag, path in asked:
            if path and path not in row and path.partition(".")[0] not in row:
                there = ", ".join(row)
                raise UsageError(f"{self._names[file]} has no column {path!r} (it has {there}); name one with {flag}")

    def _object(self, value: bytes | None) -> dict[str, Any] | None:
        try:
            found = self._decode(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def _name(value: Any) -> str:
    return (value if isinstance(value, str) else msgspec.json.encode(value).decode())[:80]
