"""What stands is said at once, again every minute, and no longer than it stands."""

from __future__ import annotations

from streamer.core.standing import LOG_EVERY_S, Reason, Standing, Standings

OPEN = Standing(("in", 0), 7, Reason.OPEN_TRANSACTION, "a producer left a transaction open", "end it")


def test_it_is_logged_once_and_at_intervals() -> None:
    standings = Standings()
    assert standings.look([OPEN], 100.0) == [OPEN]
    assert standings.look([OPEN], 101.0) == []
    assert standings.current == (OPEN,)
    assert standings.look([OPEN], 100.0 + LOG_EVERY_S) == [OPEN]
    assert standings.since[OPEN.partition, OPEN.reason] == 100.0


def test_one_that_moves_is_forgotten() -> None:
    standings = Standings()
    standings.look([OPEN], 100.0)
    assert standings.look([], 101.0) == [] and standings.current == ()
    assert standings.look([OPEN], 102.0) == [OPEN]


def test_every_reason_is_counted_also_those_that_nobody_has() -> None:
    standings = Standings()
    standings.look([OPEN], 100.0)
    assert standings.counts() == {reason: reason is Reason.OPEN_TRANSACTION for reason in Reason}


def test_its_words_name_the_place_the_reason_and_the_fix() -> None:
    assert str(OPEN) == ("in/0 is stuck at offset 7 (open_transaction): a producer left a transaction open; end it")
