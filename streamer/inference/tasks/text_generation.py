"""text-generation: a prompt, or a conversation through the model's chat template, to the text that follows.

What transformers' continuous batching can do runs there: requests join and leave a running batch token by token. The
rest goes through plain `generate`: requests with a seed or beams, models that pass no check at load (recurrent ones,
and whatever attends in a way that the paged cache does not know), files that ask for more than it does, and prompts
larger than the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.backends.batch_check import (
    CHANGED_BY_COMPANY,
    length_matters_from,
    likeliest,
    longest_check,
    pages,
    window_of,
)
from streamer.inference.generation.autoregressive import PROBE_TEXT, Autoregressive
from streamer.inference.generation.chat_prompt import ChatTemplate, Messages
from streamer.inference.generation.files import ids_of
from streamer.inference.generation.plain import PlainGeneration, no_step
from streamer.inference.generation.request import (
    Ending,
    GenerationParams,
    Request,
    answer_of,
    sampling_of,
)
from streamer.inference.generation.stops import file_stops
from streamer.inference.generation.streams import CHECK_TOKENS, Streams, room_on
from streamer.inference.model import NON_FINITE, Batching, Encoded, NonFinite, Sharing
from streamer.inference.models.reference import Located
from streamer.inference.models.text_reader import ControlLetters
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.options import GenerationOptions
from streamer.inference.tasks.params import read_params
from streamer.inference.worker.trouble import place_of

log = logging.getLogger(__name__)

_DEFAULT_NEW_TOKENS = 256
_PROBE_TOKENS = 4
_SCORED = 64
# Prompts and what follows them, in one call of `generate`.
_CPU_BATCHING = Batching(8192, 1.5, 1024)
_CUDA_BATCHING = Batching(65536, 1.5, 8192)
# Fields of the files that continuous batching keeps to; any other asks for a processor that it lacks.
_KNOWN_FIELDS = frozenset(
    {"bos_token_id", "eos_token_id", "pad_token_id", "temperature", "top_k", "top_p", "max_length", "max_new_tokens"}
    | {"use_cache", "transformers_version", "num_beams"}
)
# Beside the longest step of continuous batching, so that a long prompt of the check takes more than one.
_BEYOND_STEP = 77


class TextGeneration(Autoregressive):
    """Output `{"text", "finish_reason", "prompt_tokens", "completion_tokens"}`."""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self.spec = spec
        self.options = self.options_as(GenerationOptions)
        super().__init__(spec, located, worker)
        self.refuse_unless_steady()
        self.refuse_unless_causal()
        self.batching = _CUDA_BATCHING if self.device.type == "cuda" else _CPU_BATCHING
        self.on_step: Callable[[], None] = no_step
        files = self.network.generation_config
        self._files = files
        self.num_beams = self.options.num_beams or files.num_beams or 1
        self._check_options()
        self._chat = ChatTemplate(self.tokenizer, self.reader, control=self.letters == "control")
        self._check_template()
        # Several tokens may end a text: those that the files say, and the tokenizer's own.
        end_ids = [one for one in ids_of(files.eos_token_id, self.tokenizer.eos_token_id) if one < self.embeddings]
        pads = [one for one in ids_of(files.pad_token_id, self.tokenizer.pad_token_id) if one < self.embeddings]
        stops = file_stops(self.decoder, files.stop_strings)
        files.stop_strings = None
        self._ending = Ending(self.decoder, end_ids, stops)
        self._plain = PlainGeneration(self.network, self._ending, end_ids, [*pads, *end_ids, 0][0], self.num_beams)
        self._measure_plain()
        self.probe = self._encoded(Request(self.ids_of([PROBE_TEXT])[0][-16:], _PROBE_TOKENS, None, ()), False)
        self._try_files()
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

    @property
    def letters(self) -> ControlLetters:
        """Text, unless the pipeline lets events write control tokens."""
        return self.options.special_tokens_in_text

    def likelihoods(self, network: Any, ids: list[int]) -> torch.Tensor:
        """Of each token but the first, given those before it."""
        row = self.tensor([ids])
        with torch.inference_mode():
            logits = network(input_ids=row).logits[0, :-1]
            # In parts: of a long text and a large vocabulary the copies in float32 are larger than many a network.
            parts = zip(torch.split(logits, _SCORED), torch.split(row[0, 1:, None], _SCORED), strict=True)
            return torch.cat([part.float().log_softmax(-1).gather(1, ids)[:, 0] for part, ids in parts])

    # --- encoding ---

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Check params, write conversations out, tokenise all plain prompts in one call."""
        asked = [
            read_params(GenerationParams, params[index] if params else None, self.spec.task)
            for index in range(len(texts))
        ]
        ids: list[list[int] | DataFailure] = [_UNREAD] * len(texts)
        talks: dict[int, Messages] = {}
        for index, (text, one) in enumerate(zip(texts, asked, strict=True)):
            if isinstance(one, DataFailure):
                ids[index] = one
            elif one.messages is None and not self.options.chat:
                continue
            elif self._has_template:
                talks[index] = self._conversation(text, one)
            else:
                ids[index] = _NO_TEMPLATE
        plain = [index for index, one in enumerate(ids) if one is _UNREAD and index not in talks]
        read = self.reader.ids([texts[index] for index in plain])
        for index, own in zip([*plain, *talks], [*read, *self._chat.ids(list(talks.values()))], strict=True):
            ids[index] = own
        encoded: list[Encoded | DataFailure] = [
            own if isinstance(own, DataFailure) else self._request(own, one)  # type: ignore[arg-type]
            for own, one in zip(ids, asked, strict=True)
        ]
        self.refuse_pairs(encoded, pairs)
        return encoded

    def _conversation(self, text: str, params: GenerationParams) -> Messages:
        """Messages that end with the user's turn are all of it; else the text is that turn."""
        messages = [{"role": one.role, "content": one.content} for one in params.messages or ()]
        if params.messages is None and self.options.system:
            messages.append({"role": "system", "content": self.options.system})
        if not messages or messages[-1]["role"] != "user":
            messages.append({"role": "user", "content": text})
        return messages

    def _request(self, ids: list[int], params: GenerationParams) -> Encoded | DataFailure:
        sampling = sampling_of(params, self.options.temperature)
        if sampling is not None and self.num_beams > 1:
            return DataFailure(Code.VALIDATE_PARAMS, "a pipeline with num_beams does not sample: send no temperature")
        if not ids:
            first = ids_of(self._files.bos_token_id, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
            if not first:
                return DataFailure(Code.VALIDATE_TEXT, "the text has no tokens, and the model none to begin with")
            ids = first[:1]
        asked = params.max_new_tokens or self.options.max_new_tokens
        wanted = asked or self._wanted_tokens(len(ids))
        if wanted < 1:
            message = f"the prompt has {len(ids)} tokens, and the model's max_length is {self._files.max_length} in all"
            return DataFailure(Code.INFER_TOO_LONG, f"{message}: send max_new_tokens, or set that option")
        room = self.max_tokens - (asked or min(wanted, _DEFAULT_NEW_TOKENS, self.max_tokens // 2))
        if room < 1:
            return DataFailure(
                Code.VALIDATE_PARAMS,
                f"max_new_tokens leaves no room for a prompt: the model reads {self.max_tokens} tokens in all",
            )
        truncated = len(ids) > room
        if truncated and self.spec.on_overflow == "reject":
            return self.too_long(room)
        ids = ids[-room:]
        stops = (params.stop,) if isinstance(params.stop, str) else tuple(params.stop)
        request = Request(ids, min(wanted, self.max_tokens - len(ids)), sampling, stops)
        return self.unreadable(ids) or self._encoded(request, truncated)

    def _wanted_tokens(self, prompt: int) -> int:
        """What the files have written behind a prompt of so many tokens where nobody says; `max_length` counts both."""
        if self._files.max_new_tokens is not None:
            return int(self._files.max_new_tokens)
        if self._files.max_length is not None:
            return int(self._files.max_length) - prompt
        return min(_DEFAULT_NEW_TOKENS, self.max_tokens // 2)

    def _encoded(self, request: Request, truncated: bool) -> Encoded:
        ids = request.ids
        return Encoded(len(ids) + request.max_new_tokens, len(ids), truncated, request, 1, self.unknown.count(ids))

    # --- checks at load ---

    def _check_options(self) -> None:
        options, model = self.options, self.spec.model
        self._has_template = bool(getattr(self.tokenizer, "chat_template", None))
        if options.chat and not self._has_template:
            raise ModelError(f"option chat: the tokenizer of {model} has no chat template")
        if options.system and not options.chat:
            raise ModelError("option system: it begins a conversation, so that it needs option chat = true")
        if options.max_new_tokens is not None and options.max_new_tokens >= self.max_tokens:
            raise ModelError(f"option max_new_tokens: the model reads {self.max_tokens} tokens in all")
        if options.temperature and self.num_beams > 1:
            place = "option num_beams" if options.num_beams else "generation_config.json: num_beams"
            raise ModelError(
                f"option temperature asks to sample, and {place} is {self.num_beams}, which does not: set one of the "
                "options temperature = 0 and num_beams = 1"
            )
        files = self._files
        if options.max_new_tokens is None and files.max_new_tokens is None and files.max_length is not None:
            log.warning(
                "%s writes up to %d tokens, the prompt's among them, where an event names no max_new_tokens "
                "(generation_config.json: max_length); set option max_new_tokens to count only the new ones",
                model,
                files.max_length,
            )

    def _check_template(self) -> None:
        """What each event of a pipeline with option chat asks of the template."""
        if not self.options.chat:
            return
        user = {"role": "user", "content": PROBE_TEXT}
        turns = {"chat": [user], "system": [{"role": "system", "content": self.options.system}, user]}
        for option in ("chat", "system") if self.options.system else ("chat",):
            (found,) = self._chat.ids([turns[option]])
            if not isinstance(found, DataFailure):
                continue
            try:
                self._chat.render(turns[option])
                words = found.message
            except Exception as error:  # jinja's, or the template's own words
                words = f"{type(error).__name__}: {error}"
            raise ModelError(f"option {option}: the chat template of {self.spec.model} refuses it: {words}")

    def _measure_plain(self) -> None:
        """Whether prompts of one length may share `generate`: transformers' RWKV, for one, mixes up the rows of a batch
        as soon as it decodes."""
        files, self.network.generation_config = self.network.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
        beams, self._plain.num_beams = self._plain.num_beams, 1
        try:
            prompts = sorted(self.known_ids(max(1, self.max_tokens - _PROBE_TOKENS))[0], key=len)[-3:]
            length = min(map(len, prompts))
            requests = [Request(ids[:length], _PROBE_TOKENS, None, ()) for ids in prompts]
            together = self._plain.run(requests, no_step)
            if not all(
                completion is not None and likeliest(self.network, request.ids, completion.tokens)
                for completion, request in zip(together, requests, strict=True)
            ):
                self._plain.sharing = Sharing.ALONE
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            # Some networks can't decode several rows. What a broken device raises it raises for the probe, too.
            self._plain.sharing = Sharing.ALONE
            log.warning(
                "%s: `generate` of several known texts raised %s: %s", self.spec.model, type(error).__name__, error
            )
        finally:
            self.network.generation_config, self._plain.num_beams = files, beams
        if self._plain.sharing is Sharing.ALONE:
            log.warning(CHANGED_BY_COMPANY, self.spec.model, self._plain.sharing.value)

    def _try_files(self) -> None:
        """Whether `generate` takes what the files ask for."""
        try:
            self._plain.run([self.probe.content], no_step)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError) as error:
            fields = ", ".join(sorted(self._files.to_diff_dict().keys() - _KNOWN_FIELDS)) or "no field of its own"
            raise ModelError(
                f"generate fails for a known text with the fields of generation_config.json ({fields}): "
                f"{type(error).__name__}: {error}"
            ) from None

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
        lacking = sorted(self._files.to_diff_dict().keys() - _KNOWN_FIELDS)
        if not self.options.continuous or self.num_beams > 1:
            return None
        if lacking or self._ending.file_stops is not None:
            reason = f"its files ask for {lacking[0] if lacking else 'stop_strings'}"
        elif not pages(self.config):
            reason = "it keeps other things of a sequence than keys and values"
        else:
            streams: Streams | None = None
            try:
                streams = Streams(self.network, self._room, self._ending, end_ids, self._streamed_most())
                if streams.agree(self._check_prompts()):
                    return streams
                reason = "its tokens differ from plain generation's"
            except Exception as error:
                reason = f"{type(error).__name__} at {place_of(error)}"
            if streams is not None:
                streams.close()
        log.info("%s generates without continuous batching: %s", self.spec.model, reason)
        return None

    def _check_prompts(self) -> list[list[int]]:
        """From one token to more than a step takes, and than a window of local attention where a check can be so
        long; none longer than what streams."""
        wanted = max(self._room.step_tokens + _BEYOND_STEP, (window_of(self.config) or 0) + _BEYOND_STEP)
        most = max(1, min(self._streamed_most() - CHECK_TOKENS, wanted, longest_check(self.device)))
        short, long = self.known_ids(most)
        return [*short, short[0][:1], long]

    def _streamed_most(self) -> int:
        """The longest request that may stream: one that no check could have seen goes plainly."""
        window, scaled = window_of(self.config), length_matters_from(self.config)
        unseen = window if window is not None and window + _BEYOND_STEP > longest_check(self.device) else None
        return min(one for one in (unseen, scaled, self.max_tokens) if one is not None)


_UNREAD = DataFailure(Code.INFER_EXCEPTION, "the text was not tokenised")
_NO_TEMPLATE = DataFailure(Code.VALIDATE_PARAMS, "the model has no chat template: send a text without messages")
