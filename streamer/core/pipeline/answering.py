"""How a record comes by its answer: known in memory, under way for an equal input, in the shared cache, or computed."""

from __future__ import annotations

from streamer.core.lru import LRU
from streamer.core.pipeline.fleet import Fleet
from streamer.core.pipeline.flights import Flight, Flights
from streamer.core.pipeline.flow import Flow
from streamer.core.pipeline.keys import Keys, keys_for, plain_keys
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import (
    CacheAnswered,
    Command,
    ForwardDone,
    LookAtOutput,
    LookUp,
    ModelCard,
    OutputLimit,
    Store,
)
from streamer.core.record import Answer, Segment
from streamer.errors import Code, DataFailure


class Answering:
    """Who asks whom. `card` is the model that all answers of a run come from, None while no worker has loaded one."""

    def __init__(self, policy: Policy, fleet: Fleet, flow: Flow) -> None:
        self.card: ModelCard | None = None
        self.flights = Flights()
        self.lru = LRU(policy.lru_bytes) if policy.lru_bytes else None
        self.memory_lookups = {"hit": 0, "miss": 0}
        self._policy = policy
        self._fleet = fleet
        self._flow = flow
        self._keys: Keys = plain_keys
        self._lookups: dict[int, list[Flight]] = {}
        self._lookup = 0
        self._strangers: set[int] = set()
        """Workers that compute in another way than the keys say: what they answer is published, and kept nowhere."""
        self._oversized: list[tuple[Flight, Answer | DataFailure, int]] = []

    def serve(self, card: ModelCard) -> None:
        """All answers come from this model from now on."""
        self.card = card
        if not card.cacheable:
            self.lru = None
        self._keys = keys_for(card, self._policy, cached=self.lru is not None or self._shared)

    def knows(self, worker: int, card: ModelCard) -> None:
        """A worker is ready with the same model; it may compute in another way."""
        assert self.card is not None
        (self._strangers.discard if _way(card) == _way(self.card) else self._strangers.add)(worker)

    # --- a record asks -----------------------------------------------------------------------------------------------

    def join(self, segment: Segment) -> list[Flight]:
        """Give each open record its answer from memory, or let it wait for its input's computation; returns the
        computations that are new."""
        if segment.open == len(segment.records):
            indexes = list(range(segment.open))
            events = segment.events
        else:
            indexes = [index for index, outcome in enumerate(segment.outcomes) if outcome is None]
            events = [segment.events[index] for index in indexes]
        keys = self._keys(events)  # type: ignore[arg-type]  # an open record has an event
        if self.lru is not None:
            answers = self.lru.get_many(keys)  # type: ignore[arg-type]  # with a cache, keys are fingerprints
            hits = len(answers) - answers.count(None)
            self.memory_lookups["hit"] += hits
            self.memory_lookups["miss"] += len(answers) - hits
            if hits:
                outcomes = segment.outcomes
                for index, answer in zip(indexes, answers, strict=True):
                    if answer is not None:
                        outcomes[index] = answer
                segment.open -= hits
                self._flow.ended_records += hits
                missed = [place for place, answer in enumerate(answers) if answer is None]
                indexes = [indexes[place] for place in missed]
                events = [events[place] for place in missed]
                keys = [keys[place] for place in missed]
        return self.flights.join(keys, events, segment, indexes)  # type: ignore[arg-type]

    def look_up(self, fresh: list[Flight]) -> list[Command]:
        """Ask the shared cache for these, or have them computed."""
        if not self._shared:
            self._fleet.enqueue(fresh)
            return []
        if self._samples:
            self._fleet.enqueue([flight for flight in fresh if type(flight.key) is int])
            fresh = [flight for flight in fresh if type(flight.key) is not int]
            if not fresh:
                return []
        self._lookup += 1
        self._lookups[self._lookup] = fresh
        return [LookUp(self._lookup, [flight.key for flight in fresh])]  # type: ignore[misc]

    def cancel(self) -> None:
        """Nothing is computed any more but what workers have."""
        self.flights.cancel(self._fleet.drop_waiting())
        for flights in self._lookups.values():
            self.flights.cancel(flights)

    # --- an answer comes ---------------------------------------------------------------------------------------------

    def cached(self, fact: CacheAnswered) -> None:
        """What the shared cache knows; the rest is computed."""
        missed = self._lookups.pop(fact.lookup)
        if any(fact.answers):
            pairs = list(zip(missed, fact.answers, strict=True))
            missed = [flight for flight, answer in pairs if answer is None]
            found = [flight for flight, answer in pairs if answer is not None]
            answers = [answer for answer in fact.answers if answer is not None]
            self._land(found, list(answers))
            if self.lru is not None:
                self.lru.put_many((flight.key, answer) for flight, answer in zip(found, answers, strict=True))  # type: ignore[misc]
        self._fleet.enqueue(missed)

    def computed(self, fact: ForwardDone, now: float) -> list[Command]:
        """What a worker says; it is kept for the next time."""
        flights, outcomes = self._fleet.done(fact, now)
        commands: list[Command] = []
        if DataFailure in set(map(type, outcomes)):
            flights, outcomes, commands = self._set_aside(flights, outcomes)
        self._land(flights, outcomes)
        shared = self._shared
        if (self.lru is None and not shared) or fact.worker in self._strangers:
            return commands
        answers: list[tuple[bytes, Answer]] = [
            (flight.key, outcome)  # type: ignore[misc]
            for flight, outcome in zip(flights, outcomes, strict=True)
            if isinstance(outcome, Answer) and type(flight.key) is not int
        ]
        if self.lru is not None:
            self.lru.put_many(answers)
        if shared and answers:
            commands.append(Store(answers))
        return commands

    def limited(self, fact: OutputLimit) -> None:
        """Answers that were too large are computed once more where the output takes more by now."""
        self._fleet.answer_bytes = fact.size_bytes
        waiting, self._oversized = self._oversized, []
        again = [flight for flight, _, before in waiting if before < fact.size_bytes]
        refused = [(flight, outcome) for flight, outcome, before in waiting if before >= fact.size_bytes]
        self._fleet.enqueue(again)
        self._land([flight for flight, _ in refused], [outcome for _, outcome in refused])

    @property
    def _shared(self) -> bool:
        """Whether answers are looked up in the shared cache and written there."""
        card = self.card
        return self._policy.shared_cache and card is not None and card.cacheable and card.shared

    @property
    def _samples(self) -> bool:
        """Whether some answers are sampled each time: their keys are numbers, and no cache sees them."""
        return self.card is not None and self.card.temperature is not None

    def _set_aside(
        self, flights: list[Flight], outcomes: list[Answer | DataFailure]
    ) -> tuple[list[Flight], list[Answer | DataFailure], list[Command]]:
        """Keep those that a worker found too large to publish until the limit was looked at once more; returns the
        others."""
        aside = {index for index, outcome in enumerate(outcomes) if _too_large(outcome)}
        if not aside:
            return flights, outcomes, []
        commands: list[Command] = [] if self._oversized else [LookAtOutput()]
        self._oversized += [(flights[index], outcomes[index], self._fleet.answer_bytes) for index in sorted(aside)]
        flights = [flight for index, flight in enumerate(flights) if index not in aside]
        outcomes = [outcome for index, outcome in enumerate(outcomes) if index not in aside]
        return flights, outcomes, commands

    def _land(self, flights: list[Flight], outcomes: list[Answer | DataFailure]) -> None:
        if flights:
            before_bytes = self.flights.answer_bytes
            self._flow.ended_records += self.flights.land(flights, outcomes)
            self._flow.weigh_answers(len(flights), self.flights.answer_bytes - before_bytes)


def _too_large(outcome: Answer | DataFailure) -> bool:
    return type(outcome) is DataFailure and outcome.code is Code.PUBLISH_TOO_LARGE


def _way(card: ModelCard) -> tuple[str, ...]:
    """How a worker computes: one of several may be without a faster way that the first one found."""
    return card.dtype, card.backend, card.device_kind, card.implementation
