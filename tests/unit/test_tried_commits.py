"""At least once: no commit goes back behind one that may have been done."""

from __future__ import annotations

from streamer.core.pipeline.protocol import Settle
from streamer.core.pipeline.tried_commits import TriedCommits

KEY, OTHER = ("in", 0), ("in", 1)


def committed(tried: TriedCommits, epoch: int = 1, **offsets: int) -> dict[object, int]:
    keys = {"key": KEY, "other": OTHER}
    wanted = {keys[name]: offset for name, offset in offsets.items()}
    return dict(tried.raise_to_tried(Settle(1, [], wanted, dict.fromkeys(wanted, epoch))).offsets)


def test_a_smaller_plan_commits_what_was_tried() -> None:
    """Of its own partitions, and as long as they are the same assignment's: what is read again begins anew."""
    tried = TriedCommits()
    assert committed(tried, key=21, other=5) == {KEY: 21, OTHER: 5}
    assert committed(tried, key=11) == {KEY: 21}
    assert committed(tried, key=30, other=4) == {KEY: 30, OTHER: 5}
    assert committed(tried, epoch=2, key=7) == {KEY: 7}
