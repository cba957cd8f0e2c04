"""--min and --max of `streamer evaluate`."""

from __future__ import annotations

import pytest

from streamer.cli.evaluate_bounds import bounds_of
from streamer.core.health.evaluation.evaluation import Evaluation
from streamer.core.health.judges.by_task import metrics_of
from streamer.core.health.quality.confusion import Confusion
from streamer.core.health.quality.quality import Quality
from streamer.errors import UsageError

TASK = "text-classification"
KNOWN = metrics_of(TASK)


@pytest.mark.parametrize(
    ("flag", "given", "words"),
    [
        ("--min", "accuracy=0.75", ""),
        ("--min", "accuracy=0.76", "accuracy is 0.7500, and --min asks for 0.76"),
        ("--max", "accuracy=0.75", ""),
        ("--max", "accuracy=0.7", "accuracy is 0.7500, and --max asks for 0.7"),
        ("--min", "recall.a=b=0.5", ""),
        ("--min", "recall.absent=0", "there is no number recall.absent, for --min; there are: answered, accuracy"),
    ],
)
def test_a_number_is_held_to_its_bound(flag: str, given: str, words: str) -> None:
    """What is exactly at the bound passes, what is not there does not."""
    found = Evaluation("m", "r", TASK, Quality(4, confusion=Confusion({"a=b": {"a=b": 3, "c": 1}})))
    (bound,) = bounds_of(flag, (given,), KNOWN, TASK)
    assert bound.missed(found).startswith(words)
    assert bool(bound.missed(found)) == bool(words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("acuracy=1", "has no number 'acuracy'; did you mean accuracy?"),
        ("perplexity=1", "has no number 'perplexity'"),
        ("accuracy", "write NAME=VALUE"),
        ("accuracy=high", "'high' is not a finite number"),
        ("accuracy=nan", "'nan' is not a finite number"),
    ],
)
def test_what_can_not_be_asked_is_refused_before_the_run(given: str, words: str) -> None:
    """With the flag as it was given."""
    with pytest.raises(UsageError, match=f"--min {given}: ") as caught:
        bounds_of("--min", (given,), KNOWN, TASK)
    assert words in str(caught.value)
