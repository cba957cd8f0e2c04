"""transformers' continuous batching, supervised: a manager that died is replaced, and what it held is added again.

An error in the manager's loop fails every request and ends its thread. Each request it held has then seen one death;
one that has seen `MAX_DEATHS` is given up, for plain generation to find out whether it is at fault.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager

from streamer.inference.backends import paged_attention
from streamer.inference.backends.compat import forget_manager, results_left
from streamer.inference.generation.plain import top_k_of, top_p_of
from streamer.inference.generation.request import Request
from streamer.inference.models.device import free_memory
from streamer.inference.worker.trouble import is_out_of_memory, place_of

log = logging.getLogger(__name__)

MAX_DEATHS: Final = 2
_BLOCK_TOKENS: Final = 32
_STOP_S: Final = 10.0
# A manager makes warpers only for what its configuration names; each request then brings its own values.
_ANY_TEMPERATURE, _ANY_TOP_K, _ANY_TOP_P = 0.5, 2, 0.5


@dataclass(frozen=True, slots=True)
class Room:
    """What a manager may hold: tokens in its cache, tokens in a step, requests in a step."""

    cache_tokens: int
    step_tokens: int
    requests: int

    def halved(self) -> Room:
        """After memory ran out in a step."""
        return Room(self.cache_tokens, max(32, self.step_tokens // 2), max(1, self.requests // 2))


@dataclass(slots=True)
class _Held:
    """`key` is its name in the manager, new each time that it is added: a late cancellation must not hit it."""

    request: Request
    key: str = ""
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class RequestProgress:
    """What became of a request so far: its tokens, whether it is over, and whether the manager gave it up."""

    number: int
    tokens: list[int]
    over: bool = False
    given_up: bool = False


class Continuous:
    """One manager over a network of `paged_twin`. `samples` says whether its requests sample; `steps` grows while it
    works. Not safe to share between threads; the manager has a thread of its own."""

    def __init__(self, twin: Any, room: Room, end_ids: list[int], *, samples: bool) -> None:
        self._twin = twin
        self.room = room
        self._end_ids = end_ids
        self._samples = samples
        self._held: dict[int, _Held] = {}
        self._numbers: dict[str, int] = {}
        self._added = 0
        self._steps_before = 0
        self._manager = self._start()

    @property
    def steps(self) -> int:
        """How many forward passes it made."""
        return self._steps_before + int(getattr(self._manager, "current_batch", 0))

    def __len__(self) -> int:
        return len(self._held)

    def add(self, number: int, request: Request) -> None:
        """Take a request in; its progress comes by `collect`. With stop strings after each token, else at its end."""
        held = self._held[number] = _Held(request)
        self._submit(number, held)

    def cancel(self, number: int) -> None:
        """No more of it is wanted."""
        if (held := self._let_go(number)) is not None:
            self._manager.cancel_request(held.key)

    def collect(self, timeout_s: float) -> list[RequestProgress]:
        """What came since, waiting up to `timeout_s` for something."""
        collected: list[RequestProgress] = []
        while (output := self._manager.get_result(timeout=timeout_s)) is not None:
            timeout_s = 0.0
            number = self._numbers.get(output.request_id)
            if number is None:
                continue  # cancelled since
            held = self._held[number]
            if output.error is None:
                if output.is_finished():
                    self._let_go(number)
                collected.append(RequestProgress(number, output.generated_tokens, over=output.is_finished()))
            elif self._accepts():
                collected += self._count_death(number, held)
                if number in self._held:
                    self._submit(number, held)
        if not self._accepts():
            collected += self._replace()
        return collected

    def close(self) -> None:
        """End the manager and its thread."""
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=_STOP_S, hard_stop=True)
        self._manager.destroy()

    # --- the manager ---

    def _start(self) -> ContinuousBatchingManager:
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=self._samples, eos_token_id=self._end_ids or -1, max_new_tokens=1
        )
        if self._samples:
            config.temperature, config.top_k, config.top_p = _ANY_TEMPERATURE, _ANY_TOP_K, _ANY_TOP_P
        manager: ContinuousBatchingManager = self._twin.init_continuous_batching(
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(
                block_size=_BLOCK_TOKENS,
                num_blocks=self.room.cache_tokens // _BLOCK_TOKENS,
                max_batch_tokens=self.room.step_tokens,
                max_requests_per_batch=min(self.room.requests, self.room.step_tokens),
                per_request_processors=self._samples,
                use_cuda_graph=False,
                use_async_batching=False,
            ),
        )
        manager.start()
        return manager

    def _submit(self, number: int, held: _Held) -> None:
        request = held.request
        self._numbers.pop(held.key, None)
        self._added += 1
        held.key = f"{number}.{self._added}"
        self._numbers[held.key] = number
        own: dict[str, Any] = {}
        if request.sampling is not None:
            files, vocabulary = self._twin.generation_config, self._twin.config.get_text_config().vocab_size
            own = {
                "temperature": float(request.sampling.temperature),
                "top_k": min(top_k_of(request.sampling, files) or vocabulary, vocabulary),
                "top_p": top_p_of(request.sampling, files),
            }
        # A dead manager takes nothing and says so only in its log: `collect` finds it dead and adds all again.
        self._manager.add_request(
            request.ids,
            request_id=held.key,
            max_new_tokens=request.max_new_tokens,
            streaming=bool(request.stops),
            **own,
        )

    def _let_go(self, number: int) -> _Held | None:
        held = self._held.pop(number, None)
        if held is not None:
            self._numbers.pop(held.key, None)
        return held

    def _accepts(self) -> bool:
        return self._manager.is_running() and self._manager.background_thread_status.can_accept_new_requests() is None

    def _replace(self) -> list[RequestProgress]:
        dead = self._manager
        dead.join(time.perf_counter(), timeout=_STOP_S)
        error = dead.background_thread_status.fatal_error
        self._steps_before = self.steps
        collected: list[RequestProgress] = []
        for output in results_left(dead):
            number = self._numbers.get(output.request_id)
            if output.error is None and output.is_finished() and number is not None:
                self._let_go(number)
                collected.append(RequestProgress(number, output.generated_tokens, over=True))
        name = type(error).__name__ if error is not None else "without a word"
        place = f" at {place_of(error)}" if error is not None else ""
        dead.destroy()
        del dead
        forget_manager(self._twin)
        if error is not None and is_out_of_memory(error):
            self.room = self.room.halved()
        error = None  # its traceback holds the step's tensors
        free_memory(self._twin.device)
        log.warning(
            "continuous batching ended with %d requests (%s%s): it starts again with steps of %d tokens",
            len(self._held),
            name,
            place,
            self.room.step_tokens,
        )
        for number, held in list(self._held.items()):
            collected += self._count_death(number, held)
        self._manager = self._start()
        for number, held in self._held.items():
            self._submit(number, held)
        return collected

    def _count_death(self, number: int, held: _Held) -> list[RequestProgress]:
        held.deaths += 1
        if held.deaths < MAX_DEATHS:
            return []
        self._let_go(number)
        return [RequestProgress(number, [], given_up=True)]


def paged_twin(network: Any) -> Any:
    """The same weights in a module of its own, whose attention reads a paged cache: plain passes of `network` may run
    beside it. A step whose output is not a number raises: greedy choice would hide it."""
    shared = {id(one): one for one in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    twin.set_attn_implementation(paged_attention.register() if _whole_attention(twin.config) else "paged|sdpa")
    twin.register_forward_hook(_refuse_non_numbers)
    return twin


def _refuse_non_numbers(_module: Any, _inputs: Any, output: Any) -> None:
    if output.logits.isnan().any():
        raise ArithmeticError("the network's output is not a number")


def _whole_attention(config: Any) -> bool:
    """Whether every layer reads all that came before."""
    text = config.get_text_config()
    layers = getattr(text, "layer_types", None)
    if layers is not None:
        return all(layer == "full_attention" for layer in layers)
    return getattr(text, "sliding_window", None) is None
