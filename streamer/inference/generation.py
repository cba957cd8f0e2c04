"""text-generation: a prompt, or a conversation through the model's chat template, to the text that follows.

What transformers' continuous batching can do runs there: requests join and leave a running batch token by token. The
rest goes through plain `generate`: requests with a seed or beams, models that pass no check at load (recurrent ones,
and whatever attends in a way that the paged cache does not know), and prompts larger than the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.autoregressive import CHECK_TEXTS, PROBE_TEXT, Autoregressive
from streamer.inference.forwarder import place_of
from streamer.inference.generation_plain import PlainGeneration, no_step
from streamer.inference.generation_request import (
    Ending,
    GenerationParams,
    Request,
    answer_of,
    sampling_of,
)
from streamer.inference.generation_streams import CHECK_TOKENS, Streams, room_on
from streamer.inference.model import NON_FINITE, Batching, Encoded, NonFinite
from streamer.inference.options import GenerationOptions
from streamer.inference.params import read_params
from streamer.inference.reference import Located
from streamer.inference.spec import WorkerSpec

log = logging.getLogger(__name__)

_DEFAULT_NEW_TOKENS = 256
_PROBE_TOKENS = 4
# Prompts and what follows them, in one call of `generate`.
_CPU_BATCHING = Batching(8192, 1.5, 1024)
_CUDA_BATCHING = Batching(65536, 1.5, 8192)
# Fields of generation_config.json that continuous batching keeps to; any other asks for a processor that it lacks.
_KNOWN_FIELDS = frozenset(
    {"bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_k", "top_p", "max_length"}
    | {"max_new_tokens", "transformers_version", "use_cache", "_from_model_config", "output_attentions"}
    | {"output_hidden_states", "cache_implementation"}
)


class TextGeneration(Autoregressive):
    """Output `{"text", "finish_reason", "prompt_tokens", "completion_tokens"}`."""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self.spec = spec
        self.options = self.options_as(GenerationOptions)
        super().__init__(spec, located, worker)
        self.batching = _CUDA_BATCHING if self.device.type == "cuda" else _CPU_BATCHING
        self.on_step: Callable[[], None] = no_step
        self.default_new_tokens = self._default_new_tokens()
        self._has_template = bool(getattr(self.tokenizer, "chat_template", None))
        if self.options.chat and not self._has_template:
            raise ModelError(f"option chat: the tokenizer of {spec.model} has no chat template")
        end_ids = _end_ids(self.network.generation_config, self.tokenizer)
        self._ending = Ending(self.decoder, end_ids)
        self._plain = PlainGeneration(self.network, self._ending, end_ids, self.options.num_beams)
        if self.recurrent:
            checks = self.ids_of(CHECK_TEXTS[1:3])
            length = min(self.max_tokens // 2, *map(len, checks))
            self._plain.check([ids[:length] for ids in checks], _PROBE_TOKENS)
        self.probe = self._encoded(Request(self.ids_of([PROBE_TEXT])[0][-16:], _PROBE_TOKENS, None, ()), False)
        self._room = room_on(self.device, self.network, self.max_tokens)
        self._streams = self._start_continuous(end_ids)

    # --- the base's questions ---

    @property
    def default_temperature(self) -> float | None:
        """Of events that name none."""
        return self.options.temperature

    def network_class(self) -> Any:
        """Decoders with a language-model head."""
        return AutoModelForCausalLM

    def likelihood(self, network: Any, text: str) -> float:
        """Of each token given those before it."""
        ids = self.tensor([self.ids_of([text])[0][: self.max_tokens]])
        with torch.inference_mode():
            logits = network(input_ids=ids).logits[0, :-1].float()
        return float(logits.log_softmax(-1).gather(1, ids[0, 1:, None]).mean())

    # --- encoding ---

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Check params, write conversations out, tokenise all prompts in two calls."""
        asked = [
            read_params(GenerationParams, params[index] if params else None, self.spec.task)
            for index in range(len(texts))
        ]
        prompts: list[str | DataFailure] = []
        written: list[bool] = []
        for text, one in zip(texts, asked, strict=True):
            talk = isinstance(one, GenerationParams) and (one.messages is not None or self.options.chat)
            written.append(talk)
            if isinstance(one, DataFailure):
                prompts.append(one)
            else:
                prompts.append(self._write(text, one) if talk else text)
        ids: dict[int, list[int]] = {}
        for special in (True, False):
            indexes = [index for index, talk in enumerate(written) if talk is not special]
            known = [(index, prompts[index]) for index in indexes]
            fine = [(index, prompt) for index, prompt in known if isinstance(prompt, str)]
            tokens = self.ids_of([prompt for _, prompt in fine], special=special)
            ids.update(zip([index for index, _ in fine], tokens, strict=True))
        encoded = [
            self._request(ids[index], one) if isinstance(one, GenerationParams) and index in ids else prompts[index]
            for index, one in enumerate(asked)
        ]
        self.refuse_pairs(encoded, pairs)  # type: ignore[arg-type]
        return encoded  # type: ignore[return-value]

    def _write(self, text: str, params: GenerationParams) -> str | DataFailure:
        """The conversation as the model's template has it. Messages that end with the user's turn are all of it;
        else the text is that turn."""
        messages = [{"role": one.role, "content": one.content} for one in params.messages or ()]
        if params.messages is None and self.options.system:
            messages.append({"role": "system", "content": self.options.system})
        if not messages or messages[-1]["role"] != "user":
            messages.append({"role": "user", "content": text})
        if not self._has_template:
            return DataFailure(Code.VALIDATE_PARAMS, "the model has no chat template: send a text without messages")
        try:
            prompt: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # jinja's, also those that a template raises on purpose; they may quote
            name = type(error).__name__
            return DataFailure(Code.VALIDATE_PARAMS, f"the model's chat template refuses these messages ({name})", name)
        return prompt

    def _request(self, ids: list[int], params: GenerationParams) -> Encoded | DataFailure:
        sampling = sampling_of(params, self.options.temperature)
        if sampling is not None and self.options.num_beams > 1:
            return DataFailure(Code.VALIDATE_PARAMS, "a pipeline with num_beams does not sample: send no temperature")
        new_tokens = params.max_new_tokens or self.default_new_tokens
        room = self.max_tokens - new_tokens
        if room < 1:
            return DataFailure(
                Code.VALIDATE_PARAMS,
                f"max_new_tokens leaves no room for a prompt: the model reads {self.max_tokens} tokens in all",
            )
        truncated = len(ids) > room
        if truncated and self.spec.on_overflow == "reject":
            return self.too_long(room)
        ids = ids[-room:] or [_first_id(self.network.generation_config, self.tokenizer)]
        stops = (params.stop,) if isinstance(params.stop, str) else tuple(params.stop)
        return self._encoded(Request(ids, new_tokens, sampling, stops), truncated)

    @staticmethod
    def _encoded(request: Request, truncated: bool) -> Encoded:
        return Encoded(len(request.ids) + request.max_new_tokens, len(request.ids), truncated, request)

    def _default_new_tokens(self) -> int:
        if self.options.max_new_tokens is None:
            return min(_DEFAULT_NEW_TOKENS, self.max_tokens // 2)
        if self.options.max_new_tokens >= self.max_tokens:
            raise ModelError(f"option max_new_tokens: the model reads {self.max_tokens} tokens in all")
        return self.options.max_new_tokens

    # --- plain ---

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """Plain `generate`, in groups of one prompt length."""
        completions = self._plain.run([one.content for one in batch], lambda: self.on_step())
        return [
            NON_FINITE if completion is None else answer_of(one, completion)
            for one, completion in zip(batch, completions, strict=True)
        ]

    # --- continuous ---

    @property
    def capacity(self) -> int:
        """How many requests may be under way: twice what a step takes, so that none waits for the next to come."""
        return 2 * self._room.requests

    @property
    def steps(self) -> int:
        """Grows while continuous batching works."""
        return self._streams.steps if self._streams is not None else 0

    def streams(self, encoded: Encoded) -> bool:
        """Whether a request can join continuous batching."""
        return self._streams is not None and self._streams.fits(encoded)

    def add(self, number: int, encoded: Encoded) -> None:
        """Start a request that streams."""
        assert self._streams is not None
        self._streams.add(number, encoded)

    def collect(self, timeout_s: float) -> list[tuple[int, Answer | None]]:
        """What ended since, waiting up to `timeout_s`; None for what plain generation must run."""
        return self._streams.collect(timeout_s) if self._streams is not None else []

    def close(self) -> None:
        """End the threads of continuous batching."""
        if self._streams is not None:
            self._streams.close()
        self._streams = None

    def _start_continuous(self, end_ids: list[int]) -> Streams | None:
        """Take continuous batching if it says what plain passes say."""
        files = self.network.generation_config
        lacking = sorted(files.to_diff_dict().keys() - _KNOWN_FIELDS)
        if not self.options.continuous or self.options.num_beams > 1:
            return None
        if self.recurrent:
            reason = "the model is recurrent"
        elif lacking:
            reason = f"generation_config.json has {lacking[0]}"
        else:
            streams: Streams | None = None
            try:
                streams = Streams(self.network, self._room, self._ending, end_ids)
                most = max(1, self.max_tokens - CHECK_TOKENS)
                if streams.agree([ids[:most] for ids in self.ids_of(CHECK_TEXTS)]):
                    return streams
                reason = "its tokens differ from plain generation's"
            except Exception as error:
                reason = f"{type(error).__name__} at {place_of(error)}"
            if streams is not None:
                streams.close()
        log.info("%s generates without continuous batching: %s", self.spec.model, reason)
        return None


def _end_ids(files: GenerationConfig, tokenizer: Any) -> list[int]:
    """The tokens that end a text: the model's files say, else the tokenizer."""
    named = files.eos_token_id if files.eos_token_id is not None else tokenizer.eos_token_id
    if named is None:
        return []
    return [int(one) for one in named] if isinstance(named, list | tuple) else [int(named)]


def _first_id(files: GenerationConfig, tokenizer: Any) -> int:
    """What stands before a text that has no tokens."""
    for one in (files.bos_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id):
        if one is not None:
            return int(one)
    return 0
