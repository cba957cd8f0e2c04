"""How right a model was on files that have labels, alone or beside another one."""

from __future__ import annotations

import msgspec

from streamer.core.health.evaluation.certainty import Interval
from streamer.core.health.evaluation.slices import Slices
from streamer.core.health.quality.quality import Quality


class Example(msgspec.Struct, frozen=True):
    """A text that a model was wrong about, and where it stands."""

    place: str
    text: str
    truth: str
    answer: str


class Evaluation(msgspec.Struct):
    """`value` is what `by_length` and `by_field` have the mean of; `worst` are examples, the worst first. `unlabelled`
    rows were not asked about."""

    model: str
    revision: str
    task: str
    quality: Quality
    value: str = ""
    lower_is_better: bool = False
    unlabelled: int = 0
    by_length: Slices = msgspec.field(default_factory=Slices)
    by_field: Slices | None = None
    worst: list[Example] = []

    @property
    def name(self) -> str:
        """The last part of the model's name, with the beginning of its revision."""
        return f"{self.model.rpartition('/')[2]}@{self.revision[:12]}"


class Difference(msgspec.Struct, frozen=True):
    """One number of the second model less that of the first, and its 95 % interval; None where there is none, as for a
    single text."""

    metric: str
    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, metric: str, value: float, interval: Interval | None) -> Difference:
        """The difference, with its interval if there is one."""
        return cls(metric, value) if interval is None else cls(metric, value, interval.low, interval.high)

    @property
    def is_certain(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Versus(msgspec.Struct, frozen=True):
    """A second model on the same texts. `winner` is "first" or "second", None where it can't be told. It goes by
    McNemar's `p` where answers are right or wrong, else by the interval of `difference`. `only_first` and `only_second`
    count texts that one of both has right. `left_out` are texts that one of both did not answer."""

    second: Evaluation
    texts: int
    left_out: int
    difference: Difference
    f1: Difference | None = None
    p: float | None = None
    only_first: int = 0
    only_second: int = 0
    winner: str | None = None
