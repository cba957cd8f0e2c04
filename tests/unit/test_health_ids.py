"""Feedback by ids that events brought along: found among the last results, whichever comes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.health.feedback.feedback import Feedback, Place, Said, reader_of
from streamer.core.health.feedback.ids import Ids

HORIZON_S = 60


def place(offset: int, pipeline: str = "mood") -> Place:
    return Place(pipeline, "in", 0, offset)


def said(id_: str, time_ms: int = 5_000, at: int = 0) -> Said:
    return Said(Feedback(id=id_, label="joy"), time_ms, (0, at))


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30), most=st.integers(1, 6))
def test_all_feedback_finds_its_result_or_waits(steps: list[tuple[bool, int]], most: int) -> None:
    """A result (True) or feedback of an id, in any order: what waits are ids whose last result came before the last
    feedback and is forgotten, or did not come at all. No more ids are known than may be."""
    ids, known, waiting = Ids(HORIZON_S, most), dict[str, Place](), set[str]()
    for offset, (is_result, number) in enumerate(steps):
        id_ = f"order-{number}"
        if is_result:
            found = ids.put("mood", [(id_, place(offset))])
            assert [where for where, _ in found] == ([place(offset)] if id_ in waiting else [])
            waiting.discard(id_)
            known.pop(id_, None)
            known[id_] = place(offset)
            known = dict(list(known.items())[-most:])
        elif ids.place("mood", id_) is None:
            assert id_ not in known
            assert ids.wait("mood", said(id_)) == ("duplicate" if id_ in waiting else None)
            waiting.add(id_)
        else:
            assert ids.place("mood", id_) == known[id_]
    assert ids.waiting()["mood"] == len(waiting)


def test_of_several_on_one_id_the_last_by_time_counts() -> None:
    ids = Ids(HORIZON_S)
    assert ids.wait("mood", said("a", 2_000, at=1)) is None
    assert ids.wait("mood", said("a", 3_000, at=2)) == "duplicate"
    assert ids.wait("mood", said("a", 1_000, at=3)) == "duplicate"
    assert ids.unsettled() == {(0, 2): 0}
    ((where, waited),) = ids.put("mood", [("a", place(1)), ("a", place(2))])
    assert where == place(2) and waited.said.time_ms == 3_000


def test_who_is_early_is_told_once_and_given_up_after_the_horizon() -> None:
    """A pipeline's ids are its own."""
    ids = Ids(HORIZON_S)
    ids.wait("mood", said("a"))
    assert ids.put("other", [("a", place(1, "other"))]) == []
    assert (ids.early("other"), ids.early("mood"), ids.early("mood")) == (0, 1, 0)
    assert ids.unsettled() == {(0, 0): 1}
    assert ids.given_up(5_000 + HORIZON_S * 1000) == []
    assert ids.given_up(5_001 + HORIZON_S * 1000) == ["mood"]
    assert not ids.waiting()


def test_whose_result_is_meant() -> None:
    """Of several pipelines the feedback names one; where it does not, nothing is guessed."""
    inputs = {"mood": ["in"], "topic": ["in"]}
    assert reader_of(Feedback(id="a"), inputs) is None
    assert reader_of(Feedback(id="a", pipeline="mood"), inputs) == "mood"
    assert reader_of(Feedback(id="a", pipeline="none"), inputs) is None
    assert reader_of(Feedback(id="a"), {"mood": ["in"]}) == "mood"
    assert reader_of(Feedback(ce_id="nonsense"), {"mood": ["in"]}) is None
