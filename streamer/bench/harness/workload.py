"""Seeded workloads: the same seed always gives the same events."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from streamer import demo

MEAN_TOKENS = 24
SIGMA = 0.6
MAX_WORDS = 200
RECENT = 10_000
USERS = 200
POISON_MARK = "POISON"
DEADLY_MARK = "DEADLY"
_MARKS_AROUND_A_TEXT = 2  # what a BERT tokenizer puts before and behind it

# Each is one token of BERT's uncased vocabulary.
_COMMON = """
    the of and in to was he is as for on with that it his by at from her she you had an were but be this are not my
    they one which or have him me first all also their has up who out been when after there into new two its time
    would no what about said we over then other so more can if like back them only some could where just during
    before do made school through than now years most world may between down well three year while will later city
    under around did such being used state people part know against your many second university both national these
    don known off way until re how even get head didn team american because de born united film since still long
    work south us became any high again day family see right man eyes house season war states including took life
    north same each called name much place however go four group another found won area here going away series left
    home music best make hand number company several never last john very album end good too following released game
    played little began district old want those side held own early county ll league use west thought
"""
WORDS = _COMMON.split()


@dataclass(frozen=True, slots=True)
class Event:
    """One record to write."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Workload:
    """What the events are like. `repeats` is the share whose text was seen among the last 10,000 distinct ones;
    `sampled` the share of sampled traces, None for events without `traceparent`; `poison` the share whose text starts
    with `POISON_MARK`."""

    records: int
    seed: int = 1
    mean_tokens: int = MEAN_TOKENS
    repeats: float = 0.0
    sampled: float | None = None
    poison: float = 0.0
    tweets: bool = False

    def texts(self) -> Iterator[str]:
        """The texts: words of a fixed list, lengths log-normal; or the demo's tweets, numbered to be distinct."""
        rng = random.Random(self.seed)
        fresh = _tweets(rng) if self.tweets else _sentences(rng, self.mean_tokens)
        recent: list[str] = []
        for number in range(self.records):
            if recent and rng.random() < self.repeats:
                text = rng.choice(recent)
            else:
                text = next(fresh)
                if len(recent) < RECENT:
                    recent.append(text)
                else:
                    recent[number % RECENT] = text
            yield f"{POISON_MARK} {text}" if self.poison and rng.random() < self.poison else text

    def events(self) -> Iterator[Event]:
        """The events: `{"id", "text"}` under the keys of 200 users."""
        rng = random.Random(~self.seed)
        encode = msgspec.json.Encoder().encode
        for number, text in enumerate(self.texts()):
            headers: list[tuple[str, bytes | None]] = []
            if self.sampled is not None:
                flag = rng.random() < self.sampled
                headers = [("traceparent", b"00-%032x-%016x-%02x" % (rng.getrandbits(127) | 1, number + 1, flag))]
            yield Event(b"user-%03d" % rng.randrange(USERS), encode({"id": f"event-{number}", "text": text}), headers)


def _sentences(rng: random.Random, mean_tokens: int) -> Iterator[str]:
    mean_words = max(1, mean_tokens - _MARKS_AROUND_A_TEXT)
    mu = math.log(mean_words) - SIGMA**2 / 2
    seen: set[str] = set()
    while True:
        words = min(max(round(rng.lognormvariate(mu, SIGMA)), 1), MAX_WORDS)
        text = " ".join(rng.choices(WORDS, k=words))
        if text not in seen:
            seen.add(text)
            yield text


def _tweets(rng: random.Random) -> Iterator[str]:
    texts = list(dict.fromkeys(msgspec.json.decode(value)["text"] for _, value in demo.events()))
    turn = 0
    while True:
        rng.shuffle(texts)
        for text in texts:
            yield f"{text} {turn}" if turn else text
        turn += 1
