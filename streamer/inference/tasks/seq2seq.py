"""summarization, translation, text2text-generation: a source text to a target text, by an encoder and a decoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteriaList

from streamer.core.measures import pack, repetition_bin
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.backends.batch_check import (
    CHANGED_BY_COMPANY,
    known_rows,
    length_matters_from,
    longest_check,
    sharing_of,
)
from streamer.inference.generation.autoregressive import PROBE_TEXT, Autoregressive
from streamer.inference.generation.files import ids_of, least_of
from streamer.inference.generation.plain import BEHIND_BEAMS, Numbers, Steps, no_step
from streamer.inference.generation.stops import file_stops
from streamer.inference.model import NON_FINITE, Batching, Encoded, NonFinite, Sharing
from streamer.inference.models.reference import Located
from streamer.inference.models.text_reader import ControlLetters
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.options import Language, NewTokens, Seq2SeqOptions
from streamer.inference.tasks.params import read_params
from streamer.inference.worker.sizes import too_large

log = logging.getLogger(__name__)

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

    encodes_source = True

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self.spec = spec
        self.options = self.options_as(Seq2SeqOptions)
        super().__init__(spec, located, worker)
        self.batching = _CUDA_BATCHING if self.device.type == "cuda" else _CPU_BATCHING
        self.on_step: Callable[[], None] = no_step
        self.prefix = self.task_prefix if self.options.prefix is None else self.options.prefix
        files = self._files = self.network.generation_config
        self.num_beams = self.options.num_beams or files.num_beams or 1
        self._file_stops = file_stops(self.decoder, files.stop_strings)
        files.stop_strings = None
        self._end_ids = [
            one for one in ids_of(files.eos_token_id, self.tokenizer.eos_token_id) if one < self.embeddings
        ]
        pads = ids_of(files.pad_token_id, self.tokenizer.pad_token_id)
        self._pad_id = next((one for one in [*pads, *self._end_ids] if 0 <= one < self.embeddings), 0)
        if self._pad_id not in pads:
            log.warning("%s has no pad token that its network knows: it pads with token %d", spec.model, self._pad_id)
        self._multilingual = hasattr(self.tokenizer, "src_lang")
        self._longest_target = self._positions()
        self._check_languages()
        self.default_new_tokens = self._default_new_tokens()
        probe = self._encode([PROBE_TEXT], [Seq2SeqParams(max_new_tokens=_PROBE_TOKENS)])[0]
        if isinstance(probe, DataFailure):
            raise ModelError(f"{spec.model} can't read a known text: {probe.message}")
        self._check_prefix()
        self.probe = probe
        self._try_files()
        self.refuse_unless_steady()
        self.sharing = self._sharing()

    # --- the base's questions ---

    @property
    def prefix_option(self) -> str | None:
        """The operator's, which goes before the one that the files have for the task."""
        return self.options.prefix

    @property
    def letters(self) -> ControlLetters:
        """Text, unless the pipeline lets events write control tokens."""
        return self.options.special_tokens_in_text

    def network_class(self) -> Any:
        """An encoder and a decoder with a language-model head."""
        return AutoModelForSeq2SeqLM

    def likelihoods(self, network: Any, ids: list[int]) -> torch.Tensor:
        """Of each token of the text, given the text as source."""
        row = self.tensor([ids])
        with torch.inference_mode():
            logits = network(input_ids=row, labels=row).logits[0].float()
        found: torch.Tensor = logits.log_softmax(-1).gather(1, row[0, :, None])[:, 0]
        return found

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
        encoded = self._encode(texts, asked)
        self.refuse_pairs(encoded, pairs)
        return encoded

    def _encode(
        self, texts: Sequence[str], asked: Sequence[Seq2SeqParams | DataFailure]
    ) -> list[Encoded | DataFailure]:
        encoded: list[Encoded | DataFailure] = []
        by_language: dict[str | None, list[int]] = {}
        for index, one in enumerate(asked):
            failure = one if isinstance(one, DataFailure) else self._refuse(one)
            encoded.append(failure or _UNREAD)
            if failure is None and isinstance(one, Seq2SeqParams):
                by_language.setdefault(one.src_lang or self.options.src_lang, []).append(index)
        for language, indexes in by_language.items():
            rows = self.reader.ids([texts[index] for index in indexes], language=language, prefix=self.prefix)
            for index, ids in zip(indexes, rows, strict=True):
                one = asked[index]
                assert isinstance(one, Seq2SeqParams)
                encoded[index] = ids if isinstance(ids, DataFailure) else self._source(texts[index], ids, language, one)
        return encoded

    def _source(self, text: str, ids: list[int], language: str | None, params: Seq2SeqParams) -> Encoded | DataFailure:
        kept = self.fitting(text, ids, language=language, prefix=self.prefix)
        if isinstance(kept, DataFailure):
            return kept
        if not kept:
            return _NO_TOKENS
        target = params.tgt_lang or self.options.tgt_lang
        new_tokens = params.max_new_tokens or self.default_new_tokens
        if (failure := too_large(tokens=(len(kept) + new_tokens) * self.num_beams)) is not None:
            return failure
        source = _Source(kept, self._language_id(target) if target else None, new_tokens)
        unknown = self.unknown.count(kept)
        return Encoded(len(kept) + new_tokens, len(kept), len(ids) > self.max_tokens, source, self.num_beams, unknown)

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
        if language in tokenizer.special_tokens_map.values():  # `</s>` and the like
            return None
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
        """`generate` for all of one target language and one length together, if they may share a batch."""
        answers: list[Answer | NonFinite] = [NON_FINITE] * len(batch)
        groups: dict[tuple[int | None, int, int], list[int]] = {}
        for index, one in enumerate(batch):
            source: _Source = one.content
            company = {Sharing.PADDED: 0, Sharing.EQUAL: len(source.ids), Sharing.ALONE: index}[self.sharing]
            groups.setdefault((source.target_id, source.max_new_tokens, company), []).append(index)
        for (target_id, new_tokens, _), indexes in groups.items():
            rows = self._generate([batch[index].content.ids for index in indexes], target_id, new_tokens)
            for index, row in zip(indexes, rows, strict=True):
                if row is not None:
                    answers[index] = self._answer(batch[index], row)
        return answers

    def _generate(self, sources: Sequence[list[int]], target_id: int | None, new_tokens: int) -> list[list[int] | None]:
        """Each target, to its end; None where the network's output was not a number."""
        ids, mask = self._padded(sources)
        beams = self.num_beams > 1
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=new_tokens,
            num_beams=self.num_beams,
            do_sample=False,
            forced_bos_token_id=target_id,
            eos_token_id=self._end_ids or None,
            pad_token_id=BEHIND_BEAMS if beams else self._pad_id,
            **least_of(self._files, 1, new_tokens, self.options.min_length),
        )
        numbers = Numbers(len(sources), self.device, self.num_beams)
        steps = Steps(lambda: self.on_step(), self._file_stops)
        with torch.inference_mode():
            generated = self.network.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([numbers]),
                stopping_criteria=StoppingCriteriaList([steps]),
            )
        ends = {} if beams else steps.stopped_at
        rows: list[list[int]] = [row[: ends.get(index, len(row))] for index, row in enumerate(generated.tolist())]
        return [None if bad else self._to_end(row[1:]) for row, bad in zip(rows, numbers.bad.tolist(), strict=True)]

    def _padded(self, sources: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, longest) ids and their mask, padded on the tokenizer's side."""
        longest = max(map(len, sources))
        left = self.tokenizer.padding_side == "left"
        padding = [longest - len(own) for own in sources]
        ids = [
            [self._pad_id] * more + own if left else own + [self._pad_id] * more
            for own, more in zip(sources, padding, strict=True)
        ]
        mask = [
            [0] * more + [1] * len(own) if left else [1] * len(own) + [0] * more
            for own, more in zip(sources, padding, strict=True)
        ]
        return self.tensor(ids), self.tensor(mask)

    def _to_end(self, row: list[int]) -> list[int]:
        row = [token for token in row if token != BEHIND_BEAMS]
        return row[: next((index + 1 for index, token in enumerate(row) if token in self._end_ids), len(row))]

    def _answer(self, one: Encoded, row: list[int]) -> Answer:
        output = {
            "text": self.decoder.decode(row, skip_special_tokens=True),
            "source_tokens": one.tokens,
            "output_tokens": len(row),
        }
        measures = pack(one.unknown, repetition=repetition_bin(row))
        return Answer(msgspec.json.encode(output), one.truncated, False, one.tokens + len(row), False, measures)

    # --- checks at load ---

    def _check_prefix(self) -> None:
        """Behind it a text must read as the tokenizer reads both together."""
        if self.prefix and self.reader.ids([PROBE_TEXT], prefix=self.prefix) != self.ids_of([self.prefix + PROBE_TEXT]):
            raise ModelError(
                f"the control tokens of prefix {self.prefix!r} can't be told from a text's by the tokenizer of "
                f'{self.spec.model}: set option special_tokens_in_text = "control", or another prefix'
            )

    def _try_files(self) -> None:
        """Whether `generate` takes what the files ask for."""
        try:
            self._generate([self.probe.content.ids], None, _PROBE_TOKENS)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError) as error:
            raise ModelError(
                f"generate fails for a known text with the fields of {self.spec.model}'s generation_config.json: "
                f"{type(error).__name__}: {error}"
            ) from None

    def _sharing(self) -> Sharing:
        most = min(self.max_tokens, longest_check(self.device))
        sharing = sharing_of(known_rows(*self.known_ids(most), most), self._numbers, exact=self.exact)
        files, scaled = self._files, length_matters_from(self.config)
        reads_source = (files.encoder_repetition_penalty or 1) != 1 or files.encoder_no_repeat_ngram_size
        if sharing is Sharing.PADDED and (reads_source or (scaled is not None and scaled < self.max_tokens)):
            return Sharing.EQUAL
        if sharing is not Sharing.PADDED:
            log.warning(CHANGED_BY_COMPANY, self.spec.model, sharing.value)
        return sharing

    def _numbers(self, rows: Sequence[list[int]]) -> list[torch.Tensor]:
        """What the decoder finds of known tokens behind each source, and in float32 what is generated."""
        ids, mask = self._padded(rows)
        targets = ids.new_tensor([[self._pad_id, *self.probe.content.ids[:_PROBE_TOKENS]]] * len(rows))
        with torch.inference_mode():
            logits = self.network(input_ids=ids, attention_mask=mask, decoder_input_ids=targets).logits
        found = [one.flatten() for one in logits.float().log_softmax(-1).cpu()]
        if not self.exact:
            return found
        written = self._generate(rows, None, _PROBE_TOKENS)
        return [
            torch.cat([own, torch.tensor(row or [], dtype=own.dtype)]) for own, row in zip(found, written, strict=True)
        ]

    # --- the model's files ---

    def _positions(self) -> int:
        positions = getattr(self.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return int(positions) - 1 if isinstance(positions, int) and positions > 0 else 1 << 20

    def _default_new_tokens(self) -> int:
        files = self._files
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


_UNREAD = DataFailure(Code.INFER_EXCEPTION, "the text was not tokenised")
_NO_TOKENS = DataFailure(Code.VALIDATE_TEXT, "the text has no tokens: there is nothing to read")
