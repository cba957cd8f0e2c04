"""The dead letter of a record that was buried: one at the head of a held partition."""

from __future__ import annotations

from streamer.core.deadletters.envelope import wrap
from streamer.core.output import Output
from streamer.core.record import Record
from streamer.errors import Code, DataFailure


def buried(
    record: Record, deaths: int, *, pipeline: str, dead_letter_topic: str, limit_bytes: int, time_ms: int
) -> Output:
    """The dead letter of a record that a person buried after so many processes died with it."""
    failure = DataFailure(
        Code.INFER_BURIED,
        f"buried by hand: {deaths} processes died in a row while working on this record",
        attempts=deaths,
    )
    return wrap(
        record,
        failure,
        pipeline=pipeline,
        card=None,
        dead_letter_topic=dead_letter_topic,
        limit_bytes=limit_bytes,
        time_ms=time_ms,
    )
