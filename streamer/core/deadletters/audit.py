"""What operators did to dead letters: the records of the topic `streamer.audit`, two for each job."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from streamer.core.foreign import read_own
from streamer.core.output import Output

AUDIT_TOPIC = "streamer.audit"


class Audit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job began, ended, or stopped before its end. `wanted` says what was asked for: topics, filter, target and
    limits, never a text; `digest` names the dry run, `rate_per_s` is None for no limit.

    `count` is how many dead letters the job had moved or closed by then, counting its earlier starts; `total` what that
    is to be in the end, 0 where it is not said; `refused` how many of those asked for it left where they are. `outcome`
    is "done", or why it stopped. A job that was killed has no end, until it is started again.
    """

    event: Literal["began", "ended", "stopped"]
    action: str
    job: str
    by: str
    time: str
    wanted: dict[str, Any]
    count: int
    refused: int
    rate_per_s: float | None = None
    digest: str = ""
    outcome: str = ""
    total: int = 0


def audit_output(audit: Audit) -> Output:
    """The record, keyed by the job."""
    return AUDIT_TOPIC, -1, audit.job.encode(), msgspec.json.encode(audit), []


def read_audit(value: bytes | None) -> Audit | None:
    """The audit in a record, None for anything else."""
    return read_own(_decode, value)


_decode = msgspec.json.Decoder(Audit).decode
