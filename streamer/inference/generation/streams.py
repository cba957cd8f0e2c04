"""The requests that join continuous batching: the greedy ones in one manager, those that sample in another, since a
manager does either. Answers are found here, also the end by a stop string, which no manager looks for."""

from __future__ import annotations

import time
from typing import Any, Final

import torch

from streamer.core.record import Answer
from streamer.inference.backends.batch_check import likeliest
from streamer.inference.generation.continuous import Continuous, RequestProgress, Room, paged_twin
from streamer.inference.generation.request import Ending, Request, answer_of
from streamer.inference.model import Encoded

CHECK_TOKENS: Final = 12
_NO_STEP_S: Final = 300.0
_CPU_ROOM = Room(cache_tokens=16384, step_tokens=256, requests=64)
_CUDA_ROOM = Room(cache_tokens=262144, step_tokens=2048, requests=256)
_CPU_CACHE_BYTES = 1 << 30
_CUDA_CACHE_SHARE = 0.35  # of free memory, of each of two managers


class Streams:
    """Over the weights of `network`. Raises whatever transformers raises for an architecture that its paged cache does
    not know. Called from one thread."""

    def __init__(self, network: Any, room: Room, ending: Ending, end_ids: list[int], most: int) -> None:
        """`most`: tokens of a request, with those that it asks for."""
        self.room = room
        self._most = most
        self._network = network
        self._ending = ending
        self._end_ids = end_ids
        self._requests: dict[int, Encoded] = {}
        self._twin = paged_twin(network)
        self._greedy = Continuous(self._twin, room, end_ids, samples=False)
        self._sampling: Continuous | None = None

    @property
    def steps(self) -> int:
        """How many forward passes were made."""
        return sum(manager.steps for manager in self._managers)

    def fits(self, encoded: Encoded) -> bool:
        """Whether a request may be added."""
        request: Request = encoded.content
        seeded = request.sampling is not None and request.sampling.seed is not None
        return encoded.length < self.room.cache_tokens and encoded.length <= self._most and not seeded

    def add(self, number: int, encoded: Encoded) -> None:
        """Start a request that fits."""
        self._requests[number] = encoded
        request: Request = encoded.content
        if request.sampling is None:
            self._greedy.add(number, request)
            return
        if self._sampling is None:
            torch.seed()  # torch draws the same numbers in each process until it is told otherwise
            self._sampling = Continuous(self._twin, self.room, self._end_ids, samples=True)
        self._sampling.add(number, request)

    def collect(self, timeout_s: float) -> list[tuple[int, Answer | None]]:
        """What ended since, waiting up to `timeout_s`; None for what plain generation must run."""
        busy = [manager for manager in self._managers if len(manager)]
        ended: list[tuple[int, Answer | None]] = []
        for manager in busy:
            for progress in manager.collect(timeout_s / len(busy)):
                ended += self._outcome(manager, progress)
        return ended

    def close(self) -> None:
        """End the managers' threads."""
        for manager in self._managers:
            manager.close()

    def agree(self, prompts: list[list[int]]) -> bool:
        """Whether every token that these prompts get together is the likeliest of a plain pass over one alone."""
        for number, ids in enumerate(prompts):
            self._greedy.add(number, Request(ids, CHECK_TOKENS, None, ()))
        steps, stepped = self.steps, time.monotonic()
        while len(self._greedy):
            if self.steps != steps:
                steps, stepped = self.steps, time.monotonic()
            elif time.monotonic() - stepped > _NO_STEP_S:
                return False
            for progress in self._greedy.collect(1.0):
                if progress.given_up or not likeliest(self._network, prompts[progress.number], progress.tokens):
                    return False
        return True

    @property
    def _managers(self) -> list[Continuous]:
        return [self._greedy] if self._sampling is None else [self._greedy, self._sampling]

    def _outcome(self, manager: Continuous, progress: RequestProgress) -> list[tuple[int, Answer | None]]:
        """None or one."""
        encoded = self._requests.get(progress.number)
        if encoded is None:
            return []  # stopped since
        request: Request = encoded.content
        if progress.given_up:
            del self._requests[progress.number]
            return [(progress.number, None)]
        if not progress.over:
            if not self._ending.stopped(progress.tokens, request.stops):
                return []
            manager.cancel(progress.number)
        del self._requests[progress.number]
        return [(progress.number, answer_of(encoded, self._ending.complete(progress.tokens, request)))]


def room_on(device: torch.device, network: Any, max_tokens: int) -> Room:
    """What a manager may hold of this network's keys and values on this device."""
    room = _CUDA_ROOM if device.type == "cuda" else _CPU_ROOM
    text = network.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", None) or 1
    hidden = getattr(text, "hidden_size", None) or 1
    width = getattr(text, "head_dim", None) or hidden // (getattr(text, "num_attention_heads", None) or 1)
    layers = getattr(text, "num_hidden_layers", None) or 1
    token_bytes = 2 * layers * heads * width * network.dtype.itemsize
    most = _CPU_CACHE_BYTES
    if device.type == "cuda":
        most = int(torch.cuda.mem_get_info(device)[0] * _CUDA_CACHE_SHARE)
    tokens = min(room.cache_tokens, most // max(1, token_bytes), room.requests * max_tokens)
    return Room(max(1024, tokens), room.step_tokens, room.requests)
