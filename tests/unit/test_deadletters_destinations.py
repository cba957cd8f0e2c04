"""Where a replayed dead letter goes, and whose it is there."""

from __future__ import annotations

import pytest

from streamer.core.deadletters.destinations import Address, Destinations, Refusal
from streamer.core.deadletters.families import Family, Reason

READERS = {"in": frozenset({"p", "q"})}
OURS = Reason(Family.STREAMER, "infer.exception", topic="in", pipeline="p")
THEIRS = Reason(Family.CONNECT, "connect", topic="in", pipeline="connector")


@pytest.mark.parametrize(
    ("destinations", "reason", "found"),
    [
        (Destinations(READERS), OURS, Address("in", "p")),
        (Destinations(READERS), THEIRS, Address("in", "")),
        (Destinations(READERS, to="other"), OURS, Address("other", "")),
        (Destinations(READERS, addressee="q"), OURS, Address("in", "q")),
        (Destinations({}, to="other", addressee="z"), OURS, Address("other", "z")),
        (Destinations(READERS, addressee="z"), OURS, "pipeline z does not read in"),
        (Destinations(READERS), Reason(Family.STREAMER, "c", topic="in", pipeline="gone"), "give --for PIPELINE"),
        (Destinations(READERS), Reason(Family.CONNECT, "c"), "do not name a topic: give --to TOPIC"),
        (Destinations(READERS), Reason(Family.STREAMER, "c", topic="x", pipeline="p"), "no pipeline of the configur"),
    ],
    ids=range(9),
)
def test_where_it_goes(destinations: Destinations, reason: Reason, found: Address | str) -> None:
    """To the pipeline that failed, unless the operator says otherwise; what nobody would read stays."""
    where = destinations(reason)
    if isinstance(found, str):
        assert isinstance(where, Refusal) and found in where.why
    else:
        assert where == found
