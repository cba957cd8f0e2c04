"""What one seed decides before anything runs: the settings, the records, and when which fault strikes."""

from __future__ import annotations

import json
import signal
import zlib
from dataclasses import dataclass, replace
from random import Random

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.testing import Hangs, Kills, Raises, Reaction
from streamer.testing.schemas import framed as framed_value

PARTITIONS = 3
BUDGETS_RECORDS = (30, 80, 400)
SEEDS_A_FRAMED_ONE = 11  # by its number, so that other seeds live as they did
FIRST_AT_S = 0.8
DRIVER_POISON_SHARE = 0.04  # of the seeds, for each kind: it costs many restarts
STRIKING_S = 6.0  # faults strike in this time; the records arrive in it too

POISON: dict[str, Reaction] = {
    "poison_raise": Raises(),
    "poison_kill": Kills(signal.SIGSEGV),
    "poison_sigkill": Kills(signal.SIGKILL),
    "poison_hang": Hangs(),
}
DRIVER_POISON = ("poison_decode", "poison_forward")
"""Takes the whole process down, when it is handed over or when a worker runs it."""
BURIED = "infer.buried"
CRASH_LIMIT = 6
CRASHES_ALONE = CRASH_LIMIT - 2  # the first two deaths may be those of neighbours
# The codes that a dead letter of this poison may have. A death from outside may come last, so that a text that kills
# is convicted for a hang, or the other way round; and such a text takes so long to be convicted that, with a kill or a
# lost session each time, the crash ledger may be the first.
_DEADLY = frozenset({"infer.worker_killed", "infer.worker_hung", BURIED})
ENDINGS = {
    "poison_raise": frozenset({"infer.exception"}),
    **dict.fromkeys(("poison_kill", "poison_sigkill", "poison_hang"), _DEADLY),
    **dict.fromkeys(DRIVER_POISON, frozenset({BURIED})),
}
# A model like most, one whose answers may not be shared, and two that may sample.
CARDS = [
    ModelCard("model", "revision", "null", "float32", "torch", **own)
    for own in ({}, {"cacheable": False}, {"temperature": 0.0}, {"temperature": 0.8})
]
CARD_WEIGHTS = (7, 1, 1, 1)
PARAMS = (b',"params":{"seed":7}', b',"params":{"temperature":0.5}', b',"params":{"top_p":0.9}', b',"text_pair":"pair"')
# Faults that have a meaning only in such scenarios.
WITH_TRANSACTIONS = (
    *("unclear_applied", "unclear_lost", "unclear_late", "withheld", "hangs", "cut_off", "abort", "sink_fenced"),
    "killed_in_transaction",
)
WITHOUT_TRANSACTIONS = ("undelivered", "commit_failed", "commit_unclear")
WITH_SCHEMAS = ("registry_lags",)
WITH_CACHE = ("cache_down", "cache_slow", "cache_garbled")


@dataclass(frozen=True, slots=True)
class Arrival:
    """Values that are written to one partition at once: outside a transaction, or in one that ends well or badly."""

    at_s: float
    partition: int
    values: list[bytes | None]
    transaction: str = ""  # commit, abort


@dataclass(frozen=True, slots=True)
class Scenario:
    """One seed's world."""

    exactly_once: bool
    static: bool
    workers: int
    lru_bytes: int
    shared_cache: bool
    budget_records: int
    micro_batch_records: int
    forward_records: int
    reactions: dict[str, Reaction]
    poison: dict[str, str]  # text to kind
    arrivals: list[Arrival]
    faults: list[tuple[float, str]]
    card: ModelCard
    traced: bool
    framed: bool  # a schema registry's serializers wrote the values

    @property
    def records(self) -> int:
        """How many records are written, aborted ones left out."""
        return sum(len(arrival.values) for arrival in self.arrivals if arrival.transaction != "abort")


def answer_to(text: str) -> Answer:
    """What the model says of a text: a function of the text alone."""
    return Answer(b'{"crc":%d}' % zlib.crc32(text.encode()), tokens=len(text) // 4 + 1)


def draw(rng: Random, faults: dict[str, float], fewest_faults: int, *, framed: bool = False) -> Scenario:
    """Draw a scenario; `faults` weighs the kinds that strike from outside. Where values are `framed`, the registry lags
    from the start, most records are for the partition whose schemas are new, and the budget is soon full of them."""
    exactly_once = rng.random() < 0.75
    texts = {f"{rng.getrandbits(32):x}" + "." * rng.randrange(60): "" for _ in range(rng.choice((40, 120, 400)))}
    for kind in POISON:
        for index in range(rng.choice((0, 0, 1, 1, 2))):
            texts[f"{kind} {index}"] = kind
    texts |= {kind: kind for kind in DRIVER_POISON if rng.random() < DRIVER_POISON_SHARE}
    static, shared_cache = rng.random() < 0.5, rng.random() < 0.6
    pointless = set(WITHOUT_TRANSACTIONS if exactly_once else WITH_TRANSACTIONS)
    if not static:
        pointless.add("usurped")
    if not framed:
        pointless.update(WITH_SCHEMAS)
    if not shared_cache:
        pointless.update(WITH_CACHE)
    kinds = [kind for kind in faults if kind not in pointless]
    weights = [faults[kind] for kind in kinds]
    count = rng.randint(fewest_faults, fewest_faults + 8)
    drawn = Scenario(
        exactly_once=exactly_once,
        static=static,
        workers=rng.choice((1, 1, 2)),
        lru_bytes=rng.choice((0, 4_000, 1 << 20)),
        shared_cache=shared_cache,
        budget_records=rng.choice(BUDGETS_RECORDS),
        micro_batch_records=rng.choice((5, 20, 60)),
        forward_records=rng.choice((4, 16, 32)),
        reactions={text: POISON.get(kind) or answer_to(text) for text, kind in texts.items()},
        poison={text: kind for text, kind in texts.items() if kind},
        arrivals=_arrivals(rng, list(texts)),
        faults=sorted((FIRST_AT_S + rng.random() * STRIKING_S, rng.choices(kinds, weights)[0]) for _ in range(count)),
        card=rng.choices(CARDS, CARD_WEIGHTS)[0],
        traced=rng.random() < 0.3,
        framed=framed,
    )
    return _framed(drawn) if framed else drawn


def _framed(drawn: Scenario) -> Scenario:
    arrivals = [
        replace(
            one,
            partition=(partition := 0 if place % 2 else one.partition),
            values=[value and framed_value(value, _schema_of(partition, one.at_s)) for value in one.values],
        )
        for place, one in enumerate(drawn.arrivals)
    ]
    faults = sorted([(FIRST_AT_S, *WITH_SCHEMAS), *drawn.faults])
    return replace(drawn, arrivals=arrivals, faults=faults, budget_records=min(BUDGETS_RECORDS))


def _schema_of(partition: int, at_s: float) -> int:
    """Partition 0 has a new schema twice a second, the others one for ever."""
    return partition if partition else PARTITIONS + int(2 * at_s)


def _arrivals(rng: Random, texts: list[str]) -> list[Arrival]:
    """At least 200 records that count, in bursts; a few are no events, tombstones, or never committed."""
    poison = [text for text in texts if text.startswith("poison")]
    good = [text for text in texts if not text.startswith("poison")]
    wanted = rng.randint(200, 320)
    values: list[bytes | None] = [json.dumps({"text": text}).encode() for text in poison]
    for _ in range(wanted - len(values)):
        lot = rng.random()
        if lot < 0.01:
            values.append(None)
        elif lot < 0.02:
            values.append(b"{no event")
        elif lot < 0.03 and (again := [text for text in poison if text not in DRIVER_POISON]):
            values.append(json.dumps({"text": rng.choice(again)}).encode())
        else:
            params = rng.choice(PARAMS) if rng.random() < 0.05 else b""
            values.append(b'{"text":"%b"%b}' % (rng.choice(good).encode(), params))
    rng.shuffle(values)
    arrivals = []
    while values:
        size = rng.choice((1, 3, 10, 30))
        how = "commit" if rng.random() < 0.2 else ""
        at_s = rng.random() * STRIKING_S
        arrivals.append(Arrival(at_s, rng.randrange(PARTITIONS), values[:size], how))
        if rng.random() < 0.1:
            arrivals.append(Arrival(at_s, rng.randrange(PARTITIONS), [b'{"text":"never committed"}'], "abort"))
        values = values[size:]
    return sorted(arrivals, key=lambda arrival: arrival.at_s)
