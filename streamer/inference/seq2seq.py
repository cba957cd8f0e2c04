"""summarization, translation, text2text-generation: a source text to a target text, by an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.autoregressive import PROBE_TEXT, Autoregressive
from streamer.inference.generation_plain import Numbers, no_step
from streamer.inference.model import NON_FINITE, Batching, Encoded, NonFinite
from streamer.inference.options import Language, NewTokens, Seq2SeqOptions
from streamer.inference.params import read_params
from streamer.inference.reference import Located
from streamer.inference.spec import WorkerSpec

_DEFAULT_NEW_TOKENS = 256
_PROBE_TOKENS = 4
# Sources and what follows them, in one call of `generate`.
_CPU_BATCHING = Batching(8192, 1.3, 1024)
_CUDA_BATCHING = Batching(65536, 1.3, 8192)

_A_LANGUAGE = "a language's name as the model's tokenizer has it"


class Seq2SeqParams(msgspec.Struct, frozen=True):
    """An event's params. Languages are names that the model's tokenizer knows, such as eng_Latn or de_DE."""

    max_new_tokens: Annotated[NewTokens | None, msgspec.Meta(description="an integer of at least 1")] = None
    src_lang: Annotated[Language | None, msgspec.Meta(description=_A_LANGUAGE)] = None
    tgt_lang: Annotated[Language | None, msgspec.Meta(description=_A_LANGUAGE)] = None


class _Source(msgspec.Struct, frozen=True, gc=False):
    """A source text, and how its target begins and how long it may get."""

    ids: list[int]
    target_id: int | None
    max_new_tokens: int


class Seq2Seq(Autoregressive):
    """Output `{"text", "source_tokens", "output_tokens"}`."""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self.spec = spec
        self.options = self.options_as(Seq2SeqOptions)
        super().__init__(spec, located, worker)
        self.batching = _CUDA_BATCHING if self.device.type == "cuda" else _CPU_BATCHING
        self.on_step: Callable[[], None] = no_step
        files = self.network.generation_config
        self.num_beams = self.options.num_beams or files.num_beams or 1
        self._end_ids = _ids(files.eos_token_id)
        self._pad_id = next(iter(_ids(files.pad_token_id) or _ids(self.tokenizer.pad_token_id)), 0)
        self._multilingual = hasattr(self.tokenizer, "src_lang")
        self._longest_target = self._positions()
        self._check_languages()
        self.default_new_tokens = self._default_new_tokens()
        probe = self._encode([PROBE_TEXT], [Seq2SeqParams(max_new_tokens=_PROBE_TOKENS)], reject=False)[0]
        if isinstance(probe, DataFailure):
            raise ModelError(f"{spec.model} can't read a known text: {probe.message}")
        self.probe = probe

    # --- the base's questions ---

    def network_class(self) -> Any:
        """An encoder and a decoder with a language-model head."""
        return AutoModelForSeq2SeqLM

    def likelihood(self, network: Any, text: str) -> float:
        """Of each token of the text, given the text as source."""
        ids = self.tensor([self.ids_of([text])[0][: self.max_tokens]])
        with torch.inference_mode():
            logits = network(input_ids=ids, labels=ids).logits[0].float()
        return float(logits.log_softmax(-1).gather(1, ids[0, :, None]).mean())

    # --- encoding ---

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Check params, then tokenise all texts of one language together."""
        asked = [
            read_params(Seq2SeqParams, params[index] if params else None, self.spec.task) for index in range(len(texts))
        ]
        encoded = self._encode(texts, asked, reject=self.spec.on_overflow == "reject")
        self.refuse_pairs(encoded, pairs)
        return encoded

    def _encode(
        self, texts: Sequence[str], asked: Sequence[Seq2SeqParams | DataFailure], *, reject: bool
    ) -> list[Encoded | DataFailure]:
        encoded: list[Encoded | DataFailure] = []
        by_language: dict[str | None, list[int]] = {}
        for index, one in enumerate(asked):
            failure = one if isinstance(one, DataFailure) else self._refuse(one)
            encoded.append(failure or _UNREAD)
            if failure is None and isinstance(one, Seq2SeqParams):
                by_language.setdefault(one.src_lang or self.options.src_lang, []).append(index)
        for language, indexes in by_language.items():
            if language is not None:
                self.tokenizer.src_lang = language
            rows = self.ids_of([self.options.prefix + texts[index] for index in indexes])
            for index, ids in zip(indexes, rows, strict=True):
                one = asked[index]
                assert isinstance(one, Seq2SeqParams)
                encoded[index] = self._source(self.options.prefix + texts[index], ids, one, reject)
        return encoded

    def _source(self, text: str, ids: list[int], params: Seq2SeqParams, reject: bool) -> Encoded | DataFailure:
        truncated = len(ids) > self.max_tokens
        if truncated:
            if reject:
                return self.too_long(self.max_tokens)
            ids = self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        target = params.tgt_lang or self.options.tgt_lang
        new_tokens = params.max_new_tokens or self.default_new_tokens
        source = _Source(ids, self._language_id(target) if target else None, new_tokens)
        return Encoded(len(ids) + new_tokens, len(ids), truncated, source, self.num_beams)

    def _refuse(self, params: Seq2SeqParams) -> DataFailure | None:
        if params.max_new_tokens is not None and params.max_new_tokens > self._longest_target:
            return DataFailure(Code.VALIDATE_PARAMS, f"max_new_tokens: the model writes {self._longest_target} tokens")
        for name, language in (("src_lang", params.src_lang), ("tgt_lang", params.tgt_lang)):
            if language is None:
                continue
            if not self._multilingual:
                return DataFailure(Code.VALIDATE_PARAMS, f"{name}: the model's tokenizer has no languages")
            if self._language_id(language) is None:
                return DataFailure(Code.VALIDATE_PARAMS, f"{name}: the model's tokenizer does not know this language")
        return None

    def _language_id(self, language: str) -> int | None:
        """The token that stands for a language; None for one that the tokenizer does not know."""
        tokenizer = self.tokenizer
        if hasattr(tokenizer, "get_lang_id"):
            try:
                return int(tokenizer.get_lang_id(language))
            except KeyError:
                return None
        found = tokenizer.convert_tokens_to_ids(language)
        added = tokenizer.added_tokens_decoder.get(found)
        return int(found) if added is not None and added.special and added.content == language else None

    # --- running ---

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """`generate` for all of one target language and one length together."""
        answers: list[Answer | NonFinite] = [NON_FINITE] * len(batch)
        groups: dict[tuple[int | None, int], list[int]] = {}
        for index, one in enumerate(batch):
            groups.setdefault((one.content.target_id, one.content.max_new_tokens), []).append(index)
        for (target_id, new_tokens), indexes in groups.items():
            sources = [batch[index].content.ids for index in indexes]
            rows, bad = self._generate(sources, target_id, new_tokens)
            for index, row, not_numbers in zip(indexes, rows, bad, strict=True):
                if not not_numbers:
                    answers[index] = self._answer(batch[index], row)
        return answers

    def _generate(
        self, sources: Sequence[list[int]], target_id: int | None, new_tokens: int
    ) -> tuple[list[list[int]], list[bool]]:
        longest = max(map(len, sources))
        left = self.tokenizer.padding_side == "left"
        padding = [[self._pad_id] * (longest - len(ids)) for ids in sources]
        ids = self.tensor([pad + own if left else own + pad for own, pad in zip(sources, padding, strict=True)])
        mask = self.tensor(
            [
                [0] * (longest - len(own)) + [1] * len(own) if left else [1] * len(own) + [0] * (longest - len(own))
                for own in sources
            ]
        )
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=new_tokens,
            min_length=self.options.min_length,
            num_beams=self.num_beams,
            do_sample=False,
            forced_bos_token_id=target_id,
        )
        numbers = Numbers(len(sources), self.device, self.num_beams)
        with torch.inference_mode():
            generated = self.network.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([numbers]),
                stopping_criteria=StoppingCriteriaList([_Steps(lambda: self.on_step())]),
            )
        return generated[:, 1:].tolist(), numbers.bad.tolist()

    def _answer(self, one: Encoded, row: list[int]) -> Answer:
        ended = next((index + 1 for index, token in enumerate(row) if token in self._end_ids), len(row))
        output = {
            "text": self.decoder.decode(row[:ended], skip_special_tokens=True),
            "source_tokens": one.tokens,
            "output_tokens": ended,
        }
        return Answer(msgspec.json.encode(output), one.truncated, False, one.tokens + ended)

    # --- the model's files ---

    def _positions(self) -> int:
        positions = getattr(self.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return int(positions) - 1 if isinstance(positions, int) and positions > 0 else 1 << 20

    def _default_new_tokens(self) -> int:
        files = self.network.generation_config
        if self.options.max_new_tokens is not None:
            if self.options.max_new_tokens > self._longest_target:
                raise ModelError(f"option max_new_tokens: the model writes at most {self._longest_target} tokens")
            return self.options.max_new_tokens
        # max_length counts the token that the decoder starts with.
        asked = files.max_new_tokens or ((files.max_length or 0) - 1)
        return min(asked if asked > 0 else _DEFAULT_NEW_TOKENS, self._longest_target)

    def _check_languages(self) -> None:
        for name in ("src_lang", "tgt_lang"):
            language = getattr(self.options, name)
            if language is None:
                continue
            if not self._multilingual:
                raise ModelError(f"option {name}: the tokenizer of {self.spec.model} has no languages")
            if self._language_id(language) is None:
                raise ModelError(f"option {name}: the tokenizer of {self.spec.model} does not know {language!r}")


class _Steps(StoppingCriteria):
    """Stops nothing; tells of each step."""

    def __init__(self, on_step: Callable[[], None]) -> None:
        self._on_step = on_step

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> torch.BoolTensor:
        """(rows,) False."""
        self._on_step()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]


_UNREAD = DataFailure(Code.INFER_EXCEPTION, "the text was not tokenised")


def _ids(named: Any) -> list[int]:
    if named is None:
        return []
    return [int(one) for one in named] if isinstance(named, list | tuple) else [int(named)]
