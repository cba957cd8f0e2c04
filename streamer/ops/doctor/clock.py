"""A rule on clocks.

No request of Kafka's returns a broker's clock. But no record may be newer than now: what is, was written by a clock
that is ahead of ours. So a clock of ours that is behind is found, one that is ahead is not.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.core.surroundings import GroupInfo
from streamer.ops.doctor.finding import Finding, warning

MOST_AHEAD_MS = 5_000


def judge(group: GroupInfo, now_ms: int) -> Iterator[Finding]:
    """Whether records come from the future."""
    for (topic, partition), newest_ms in group.newest_ms.items():
        ahead_ms = newest_ms - now_ms
        if ahead_ms > MOST_AHEAD_MS:
            yield warning(
                "clock.future",
                f"{topic}/{partition}",
                f"its newest timestamp is {ahead_ms / 1000:,.0f} s ahead of this machine's clock: latencies and lag"
                " will be wrong, and retention keeps those records longer",
                "synchronise both clocks with NTP: this machine's, and that of the producer (with"
                " message.timestamp.type ="
                " LogAppendTime: of the broker)",
            )
