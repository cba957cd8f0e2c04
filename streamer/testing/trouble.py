"""What can go wrong while a plan is settled, and when."""

from __future__ import annotations

from enum import StrEnum


class Trouble(StrEnum):
    """What can go wrong while a plan is settled."""

    ABORT = "abort"  # the transaction can only be aborted
    AWAY = "away"  # the brokers were all lost, and are back, before the plan
    CUT_OFF = "cut_off"  # the brokers are all lost in the middle of the plan
    HANGS = "hangs"  # the call that adds the offsets does not come back
    WITHHELD = "withheld"  # the commit has no answer, and its end is lost: the offsets are never told again
    UNCLEAR_APPLIED = "unclear_applied"  # no answer to the commit, which was done
    UNCLEAR_LOST = "unclear_lost"  # no answer to the commit, which never arrived
    UNCLEAR_LATE = "unclear_late"  # no answer to the commit, which arrives later
    STALL = "stall"  # the broker is slow: `stall_before` takes `stall_s` longer
    UNDELIVERED = "undelivered"  # at least once: a part of the records was written, the rest was not
    COMMIT_FAILED = "commit_failed"  # at least once: the offsets were refused
    COMMIT_UNCLEAR = "commit_unclear"  # at least once: no answer, but the offsets were committed
    REFUSE_RECORDS = "refuse_records"  # among several records of a partition one is refused for good
    REFUSE_TOPIC = "refuse_topic"  # an output takes nothing of a partition


class Stage(StrEnum):
    """What a plan comes to after the records are written."""

    CHECK = "check"  # whether the partitions are still ours
    OFFSETS = "offsets"
    COMMIT = "commit"
