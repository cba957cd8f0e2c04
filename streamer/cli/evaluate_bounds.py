"""What `streamer evaluate` is asked to hold a model to: --min and --max."""

from __future__ import annotations

import difflib

import msgspec

from streamer.core.health.evaluation.evaluation import Evaluation
from streamer.core.health.judges.numbers import number_of
from streamer.errors import UsageError


class Bound(msgspec.Struct, frozen=True):
    """`flag` says on which side of `value` the number has to be."""

    flag: str
    metric: str
    value: float

    def missed(self, found: Evaluation) -> str:
        """What to say where the number is beyond it; empty where it is not. A number that is not there is missed:
        a label that never came must not pass."""
        metrics = found.quality.metrics()
        if self.metric not in metrics:
            return f"there is no number {self.metric}, for {self.flag}; there are: {', '.join(metrics)}"
        value = metrics[self.metric]
        if value is None:
            return f"{self.metric} is not defined, and {self.flag} asks for {self.value:g}"
        if value < self.value if self.flag == "--min" else value > self.value:
            return f"{self.metric} is {value:.4f}, and {self.flag} asks for {self.value:g}"
        return ""


def bounds_of(flag: str, given: tuple[str, ...], known: frozenset[str], task: str) -> list[Bound]:
    """The bounds that METRIC=VALUE options ask for. Raises UsageError for a number that the task does not have."""
    found = []
    for each in given:
        metric, text = pair_of(flag, each)
        if metric.partition(".")[0] not in known:
            near = difflib.get_close_matches(metric, known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known))}"
            raise UsageError(f"{flag} {each}: task {task} has no number {metric!r}; {meant}")
        if (value := number_of(text)) is None:
            raise UsageError(f"{flag} {each}: {text!r} is not a finite number")
        found.append(Bound(flag, metric, value))
    return found


def pair_of(flag: str, given: str) -> tuple[str, str]:
    """NAME=VALUE; a name may have an equals sign, too. Raises UsageError."""
    name, equals, value = given.rpartition("=")
    if not equals or not name or not value:
        raise UsageError(f"{flag} {given}: write NAME=VALUE")
    return name, value
