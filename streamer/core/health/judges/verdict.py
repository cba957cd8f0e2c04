"""What became of one text, and the judges that say so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any, Final, NamedTuple, Protocol

from streamer.core.health.quality.evidence import Evidence

SHOWN_CHARS: Final = 500


class Verdict(NamedTuple):
    """What became of one text. `value` is what means are made of, each counting `weight` times; `cell` what a paired
    comparison counts: the true and the given label, or hits, false ones and misses. `badness` ranks examples."""

    value: float
    badness: float
    truth: str
    answer: str
    weight: float = 1.0
    cell: tuple[str, ...] | tuple[int, ...] = ()
    right: bool | None = None


class Judge(Protocol):
    """`value_name` is what a verdict's value is called; `lower`, whether a small one is good."""

    value_name: str
    lower: bool
    needs_label: bool

    @property
    def known(self) -> Set[str]:
        """The labels that the model's answers have shown it to know."""

    def read(self, label: Any, text: str | None) -> Any:
        """A label as a file has it; of a text that is not known, None. Raises ValueError, with words that go on after
        "the label"."""

    def hold(self, truth: Any, output: Mapping[str, Any]) -> tuple[Evidence, Verdict]:
        """Hold an answer to its label. Raises ValueError, with words that go on after "the label", where both can't be
        compared."""


def list_of(label: str) -> Any:
    """What a list says that stands as JSON in a string, as in CSV. Raises ValueError."""
    try:
        return json.loads(label)
    except (ValueError, RecursionError):
        raise ValueError("is not a JSON list") from None
