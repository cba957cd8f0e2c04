"""What shares the next pass: the oldest always does, so that no text waits for those that came after it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.inference.channel import Done, Started
from streamer.inference.model import CPU_BATCHING, Batching, Sharing, packed_batching
from streamer.inference.next_pass import next_pass
from streamer.inference.worker.forwarder import Computation, Forwarder
from streamer.inference.worker.worker import Pool
from tests.unit.test_inference_forwarder import OK, RuleModel, encoded

PASS_S, TOKEN_S = 0.003, 0.0001
TEXTS = 2000
LENGTHS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 3)), min_size=1, max_size=40)


@given(LENGTHS, st.sampled_from(Sharing), st.booleans(), st.integers(1, 2000))
def test_the_oldest_goes_next(sizes: list[tuple[int, int]], sharing: Sharing, packed: bool, tokens: int) -> None:
    """With others of similar lengths, in no more tokens than a pass may hold; so all go in the end, none twice."""
    batching = replace(packed_batching(CPU_BATCHING) if packed else CPU_BATCHING, sharing=sharing, tokens=tokens)
    waiting = list(enumerate(sizes))
    gone: list[int] = []
    while waiting:
        own = [size for _, size in waiting]
        places = next_pass(own, batching)
        assert 0 in places
        assert len(set(places)) == len(places)
        taken = sorted((own[place] for place in places), reverse=True)
        assert len(places) == 1 or batching.computed(taken) <= tokens
        assert sharing is not Sharing.ALONE or len(places) == 1
        gone += [waiting[place][0] for place in places]
        waiting = [one for place, one in enumerate(waiting) if place not in places]
    assert sorted(gone) == list(range(len(sizes)))


def test_packed_texts_of_any_lengths_go_together() -> None:
    """Nothing is computed that is not real; padded, they would take several passes or mostly padding."""
    sizes = [(length, 1) for length in (24, 70, 5, 31, 12, 44, 19, 8)]
    assert sorted(next_pass(sizes, packed_batching(CPU_BATCHING))) == list(range(8))
    assert len(next_pass(sizes, CPU_BATCHING)) < 8


# --- in virtual time --------------------------------------------------------------------------------------------------


@dataclass
class Device:
    """Texts come as a Poisson process and are computed pass by pass; what a pass takes is a line through its tokens."""

    batching: Batching
    now: float = 0.0
    waiting: list[tuple[float, int]] = field(default_factory=list)
    passes_waited: list[int] = field(default_factory=list)
    """Of each text: the passes that began after it had come, up to its own, in which no older one was."""

    def run(self, load: float) -> None:
        """`load` is of what tokens without passes would allow."""
        rng = random.Random(1)
        lengths = [min(512, max(3, round(rng.lognormvariate(3.0, 0.6)))) for _ in range(TEXTS)]
        rate = load / (sum(lengths) / TEXTS * TOKEN_S)
        at, arrivals = 0.0, []
        for length in lengths:
            at += rng.expovariate(rate)
            arrivals.append((at, length))
        without_older: dict[float, int] = {}
        while arrivals or self.waiting:
            if not self.waiting:
                self.now = max(self.now, arrivals[0][0])
            while arrivals and arrivals[0][0] <= self.now:
                self.waiting.append(arrivals.pop(0))
            sizes = [(length, 1) for _, length in self.waiting]
            places = set(next_pass(sizes, self.batching))
            oldest = min(self.waiting[place][0] for place in places)
            for came, _ in self.waiting:
                without_older[came] = without_older.get(came, 0) + (oldest >= came)
            computed = self.batching.computed(sorted((sizes[place] for place in places), reverse=True))
            self.now += PASS_S + computed * TOKEN_S
            self.passes_waited += [without_older[self.waiting[place][0]] for place in places]
            self.waiting = [one for place, one in enumerate(self.waiting) if place not in places]


@pytest.mark.parametrize("batching", [CPU_BATCHING, packed_batching(CPU_BATCHING)], ids=["padded", "packed"])
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_text_waits_only_for_older_ones(batching: Batching, load: float) -> None:
    """However long or short those are that came after it: each pass in which it is not has one that came before it."""
    device = Device(batching)
    device.run(load)
    assert len(device.passes_waited) == TEXTS
    assert max(device.passes_waited) <= 1


# --- in a worker ------------------------------------------------------------------------------------------------------


def test_what_comes_during_a_pass_shares_the_next_one() -> None:
    """With what was left of the window: nothing waits until all of that is done."""
    pool = Pool()
    sent: list[Started | Done] = []
    words = {0: "a " * 300, 1: "b", 2: "c"}

    def rule(texts: list[str]) -> list[object]:
        if texts[0].startswith("a"):  # the third text comes while the first is computed
            pool.put([Computation(2, encoded(words[2]))], 1)
        return [OK for _ in texts]

    model = RuleModel(rule)  # type: ignore[arg-type]
    window = [Computation(number, encoded(words[number])) for number in (0, 1)]
    Forwarder(model, sent.append).run(window, pool.more)
    assert [one.numbers for one in sent if isinstance(one, Started)] == [[0], [1, 2]]
