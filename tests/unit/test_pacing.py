"""How many requests a server gets at a time, against servers of numbers."""

from __future__ import annotations

import heapq
from itertools import pairwise

import pytest

from streamer.core.pacing import FAILING, Pacing, pause_s

LATENCY_S = 0.1


class Lanes:
    """A server that works on so many requests at a time, the others in its queue."""

    def __init__(self, pacing: Pacing, lanes: int) -> None:
        self.pacing, self.now = pacing, 0.0
        self.free = [0.0] * lanes
        self.under_way: list[tuple[float, float]] = []

    def serve(self, answers: int) -> float:
        """So many answers; returns the latency of the last."""
        latency_s = 0.0
        for _ in range(answers):
            for _ in range(self.pacing.room(self.now)):
                self.pacing.began()
                done = max(self.now, heapq.heappop(self.free)) + LATENCY_S
                heapq.heappush(self.free, done)
                heapq.heappush(self.under_way, (done, self.now))
            self.now, began = heapq.heappop(self.under_way)
            self.pacing.answered(began, self.now)
            latency_s = self.now - began
        return latency_s


def test_the_limit_grows_to_the_most_where_answers_come_in_time() -> None:
    """Within a few rounds, and stays there."""
    pacing = Pacing(64, slow_s=5)
    server = Lanes(pacing, 500)
    server.serve(200)
    assert pacing.limit == 64
    began = server.now
    server.serve(6400)
    assert server.now - began < 1.1 * 6400 / 64 * LATENCY_S


def test_the_limit_falls_before_answers_are_given_up() -> None:
    """A server that works on two at a time, asked by up to 1,000: its queue stays so short that answers come in good
    time, and it is never idle."""
    pacing = Pacing(1000, slow_s=1)
    server = Lanes(pacing, 2)
    server.serve(500)
    began = server.now
    seen = [server.serve(1) for _ in range(1000)]
    assert max(seen) < 1.5 and server.now - began < 1.1 * 1000 / 2 * LATENCY_S


def test_429_halves_the_limit_once_a_wave_and_waits_as_asked() -> None:
    """However many of those that were under way are refused together."""
    pacing = Pacing(64, 5)
    server = Lanes(pacing, 500)
    server.serve(500)
    assert pacing.limit == 64
    while pacing.in_flight:
        pacing.answered(server.now, server.now)
    now = server.now
    for _ in range(pacing.room(now)):
        pacing.began()
    for _ in range(10):
        pacing.overloaded(now - 0.01, now, 7.0, 0.5)
    assert pacing.limit == 32 and not pacing.is_failing
    while pacing.in_flight:
        pacing.answered(now, now)
    assert pacing.room(now + 6.9) == 0 and pacing.room(now + 7.1) >= 32


def test_a_server_that_is_down_is_asked_by_one_at_a_time() -> None:
    """After pauses that grow to a bound; its first answer opens the way again, a little at a time."""
    pacing, now, pauses = Pacing(64, 5), 100.0, []
    for _ in range(20):
        for _ in range(pacing.room(now)):
            pacing.began()
        began, now = now, now + 0.01
        while pacing.in_flight:
            pacing.failed(began, now, 0.99, down=True)
        pauses.append(pacing.resumes_at - now)
        now = pacing.resumes_at
        assert pacing.room(now) == 1
    assert pauses[0] < 0.5 and pauses[-1] == pytest.approx(20, rel=0.05)
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(pauses))
    pacing.began()
    pacing.answered(now, now)
    assert not pacing.is_failing and pacing.room(now) == 2
    server = Lanes(pacing, 500)
    server.now = now
    server.serve(500)
    assert pacing.limit == 64


def test_failures_among_answers_pause_nobody() -> None:
    """A text that the server always fails on must not hold the others."""
    pacing = Pacing(16, 5)
    for step in range(50):
        now = step / 10
        for _ in range(pacing.room(now)):
            pacing.began()
        pacing.failed(now, now, 0.5)
        while pacing.in_flight:
            pacing.answered(now, now)
    assert pacing.failures < FAILING and pacing.resumes_at <= now


def test_pauses_are_jittered_within_a_half() -> None:
    """So that many clients do not come back together."""
    assert pause_s(0, 0.0) == 0.125 and pause_s(0, 1.0) == 0.25 and pause_s(40, 1.0) == 20.0
