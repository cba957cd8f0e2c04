"""What all families on torch share: safe loading, device and dtype, encoding, and padded forward passes."""

from __future__ import annotations

import gc
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from transformers import AutoConfig, AutoTokenizer

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.model import (
    CPU_BATCHING,
    CUDA_BATCHING,
    NON_FINITE,
    Encoded,
    NonFinite,
    unknown_param,
)
from streamer.inference.packed_linear import pack
from streamer.inference.reference import Located
from streamer.inference.safety import digest, read_json, used_files, view
from streamer.inference.spec import WorkerSpec

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.float32]
_Options = TypeVar("_Options", bound=msgspec.Struct)

# Cut before tokenising: a token of a text has fewer characters than this on average, else the whole text is encoded.
_CHARACTERS_A_TOKEN = 10
_NO_LIMIT = 1 << 20
# Of differing lengths, so that the check also covers padding.
_CHECK_TEXTS = (
    "Fine.",
    "It works.",
    "The delivery was late and nobody answered the telephone.",
    "I love this film, the music, the cast, everything about it!",
    "Why would anyone pay forty euros for a cable that breaks within a week?",
    "Die Lieferung kam pünktlich, aber das Gerät war beschädigt; wir haben es zurückgeschickt.",
    "The committee met on Tuesday to discuss the budget for the next two years, and after a long debate about "
    "schools, roads and the harbour it decided to meet again on Thursday.",
    "In 1969, 3.5 kg of stones (Apollo 11) changed what was known about the Moon: basalt, 3.7 billion years old, "
    "with less water than any stone of the Earth. Fifty years later the same samples, opened under nitrogen, are "
    "measured again with instruments that nobody had dreamt of, by people who were not yet born.",
)


class TorchModel(ABC):
    """A transformers model with a tokenizer. A family says what network to load, what its rows of numbers are, how
    far they may lie from fp32's, and how they become answers.

    `network`'s rows, (n, d) in fp32: probabilities, a vector …
    """

    tolerance: ClassVar[float]
    takes_pair: ClassVar[bool]
    params: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self._spec = spec
        torch.set_num_threads(spec.threads)
        if torch.get_num_interop_threads() != 1:  # can be set once in a process
            torch.set_num_interop_threads(1)
        names = used_files(located.path)
        revision = digest(located.path, names)
        with view(located.path, names) as path:
            self.config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
            self._read_tokenizer(path)
            self.read_options(path, spec.options)
            self.device = _choose_device(spec.device, worker)
            self.probe, *checks = self._encode_own(_CHECK_TEXTS)
            self.network = self._load(path)
            dtype = self._lower(path, checks)
        self.batching = CUDA_BATCHING if self.device.type == "cuda" else CPU_BATCHING
        self.card = ModelCard(
            name=located.name,
            revision=revision,
            task=spec.task,
            dtype=str(dtype).removeprefix("torch."),
            backend="torch",
            device=str(self.device),
            tolerance=self.tolerance if dtype is not torch.float32 else 1e-4,
            max_tokens=self.max_tokens,
        )

    # --- the family's part ---

    @abstractmethod
    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Check the task's options against the model's files. Raises `ModelError`."""

    @abstractmethod
    def network_class(self) -> Any:
        """The transformers Auto class to load."""

    @abstractmethod
    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """Run the network on padded `inputs` (n, length); (n, d) in fp32. `mask` is None where no row is padded."""

    @abstractmethod
    def distance(self, rows: Rows, reference: Rows) -> float:
        """How far low-precision rows lie from fp32's, to hold against `tolerance`."""

    @abstractmethod
    def outputs(self, rows: Rows) -> list[bytes]:
        """The JSON of each row's `output` field."""

    # --- encoding ---

    def _read_tokenizer(self, path: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise ModelError(f"the tokenizer of {self._spec.model} has no fast form (tokenizer.json)")
        # A copy of its own: the object is not safe to share between threads.
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._takes_type_ids = "token_type_ids" in tokenizer.model_input_names
        self._lower_case = bool(read_json(path / "sentence_bert_config.json").get("do_lower_case", False))
        self._pad_id = int(tokenizer.pad_token_id or 0)
        self._pads_left = tokenizer.padding_side == "left"
        self.max_tokens = self._longest(path, tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens, strategy="longest_first")

    def _longest(self, path: Path, tokenizer: Any) -> int:
        """The least of what tokenizer, position table and sentence-transformers file allow."""
        limits = [int(tokenizer.model_max_length)]
        positions = getattr(self.config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > 0:
            # RoBERTa and its kin number positions from the padding index on.
            offset = (self.config.pad_token_id or 0) + 1 if self.config.model_type in _OFFSET_POSITIONS else 0
            limits.append(positions - offset)
        declared = read_json(path / "sentence_bert_config.json").get("max_seq_length")
        if isinstance(declared, int) and declared > 0:
            limits.append(declared)
        return min(*limits, _NO_LIMIT) if limits else _NO_LIMIT

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Tokenise all in one call."""
        encoded = self._tokenise(texts, pairs)
        if params is not None:
            for index, own in enumerate(params):
                if (failure := unknown_param(own, self.params, self._spec.task)) is not None:
                    encoded[index] = failure
        if pairs is not None and not self.takes_pair:
            for index, pair in enumerate(pairs):
                if pair is not None:
                    message = f"task {self._spec.task} takes no text_pair"
                    encoded[index] = DataFailure(Code.VALIDATE_TEXT_PAIR, message)
        return encoded

    def prepare(self, text: str) -> str:
        """What the model's files ask to do to a text before it is tokenised."""
        return text.lower() if self._lower_case else text

    def _encode_own(self, texts: Sequence[str]) -> list[Encoded]:
        return [one for one in self._tokenise(texts, None, reject=False) if isinstance(one, Encoded)]

    def _tokenise(
        self, texts: Sequence[str], pairs: Sequence[str | None] | None, *, reject: bool | None = None
    ) -> list[Encoded | DataFailure]:
        limit = self.max_tokens * _CHARACTERS_A_TOKEN
        prepared = [self.prepare(text) for text in texts]
        whole: list[Any] = prepared
        if pairs is not None:
            second = [None if pair is None else self.prepare(pair) for pair in pairs]
            whole = [one if two is None else (one, two) for one, two in zip(prepared, second, strict=True)]
        cut = {index: _cut(one, limit) for index, one in enumerate(whole) if _characters(one) > limit}
        given = [cut.get(index, one) for index, one in enumerate(whole)] if cut else whole
        encodings = self._tokenizer.encode_batch_fast(given)
        for index in cut:
            if not encodings[index].overflowing:  # many characters a token: the cut text may not reach the limit
                encodings[index] = self._tokenizer.encode_batch_fast([whole[index]])[0]
        reject = self._spec.on_overflow == "reject" if reject is None else reject
        return [self._encoded(encoding, whole[index], reject) for index, encoding in enumerate(encodings)]

    def _encoded(self, encoding: tokenizers.Encoding, given: Any, reject: bool) -> Encoded | DataFailure:
        ids = encoding.ids
        length = len(ids)
        truncated = length >= self.max_tokens and bool(encoding.overflowing)
        if truncated and reject:
            message = f'the text has more than {self.max_tokens} tokens and on_overflow is "reject"'
            return DataFailure(Code.INFER_TOO_LONG, message)
        type_ids = encoding.type_ids if self._takes_type_ids and isinstance(given, tuple) else None
        return Encoded(max(1, length), length, truncated, (ids, type_ids))

    # --- running ---

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """One padded pass; answers of rows with NaN or infinity are `NON_FINITE`."""
        rows = self._run(batch)
        finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
        if finite.all():
            answers = zip(batch, self.outputs(rows), strict=True)
            return [Answer(output, one.truncated, False, one.tokens) for one, output in answers]
        good = iter(self.outputs(rows[finite]))
        return [
            Answer(next(good), one.truncated, False, one.tokens) if well else NON_FINITE
            for one, well in zip(batch, finite.tolist(), strict=True)
        ]

    def free_memory(self) -> None:
        """Collect tensors and give cached blocks back to the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _run(self, batch: Sequence[Encoded]) -> Rows:
        lengths = np.fromiter((one.length for one in batch), np.int64, len(batch))
        longest = int(lengths.max())
        columns = np.arange(longest)
        padded = bool((lengths != longest).any())
        real = columns >= longest - lengths[:, None] if self._pads_left else columns < lengths[:, None]
        ids = np.full(real.shape, self._pad_id, np.int64)
        ids[real] = np.fromiter(chain.from_iterable(one.content[0] for one in batch), np.int64, int(lengths.sum()))
        inputs = {"input_ids": torch.from_numpy(ids).to(self.device)}
        if any(one.content[1] is not None for one in batch):
            type_ids = np.zeros(real.shape, np.int64)
            flat = chain.from_iterable(one.content[1] or [0] * one.length for one in batch)
            type_ids[real] = np.fromiter(flat, np.int64, int(lengths.sum()))
            inputs["token_type_ids"] = torch.from_numpy(type_ids).to(self.device)
        mask = torch.from_numpy(real.astype(np.int64)).to(self.device) if padded else None
        with torch.inference_mode():
            rows: Rows = self.rows(inputs, mask).cpu().numpy()
        return rows

    # --- loading ---

    def _load(self, path: Path) -> Any:
        """The network in fp32, on its device. Refuses weights that lack what the task needs."""
        network, info = self.network_class().from_pretrained(
            path,
            config=self.config,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
        if missing or info.get("mismatched_keys"):
            lacking = missing[0] if missing else "weights of the shape that config.json says"
            raise ModelError(
                f"the weights of {self._spec.model} lack {lacking}: it was not trained for {self._spec.task}"
            )
        return network.eval().requires_grad_(False).to(self.device)

    def _lower(self, path: Path, checks: list[Encoded]) -> torch.dtype:
        """Go down to the dtype asked for, if outputs stay within `tolerance` of fp32's; returns the dtype in use."""
        dtype = _choose_dtype(self._spec.dtype, self.device)
        if dtype is torch.float32:
            return dtype
        reference = np.concatenate([self._run([check]) for check in checks])
        self.network.to(dtype)  # in place: no moment holds both
        rows = np.concatenate([self._run([check]) for check in checks])
        distance = max(self.distance(rows, reference), self.distance(self._run(checks), reference))
        if distance <= self.tolerance:  # false for NaN
            if self.device.type == "cpu" and dtype is torch.bfloat16:
                self._pack(checks, reference)
            return dtype
        log.warning(
            "%s in %s is %.3g from its float32 outputs, more than %.3g: it runs in float32",
            self._spec.model,
            dtype,
            distance,
            self.tolerance,
        )
        self.network = None
        self.free_memory()
        self.network = self._load(path)
        return torch.float32

    def _pack(self, checks: list[Encoded], reference: Rows) -> None:
        """Faster linear layers, if the network takes them: some reach into a layer's weights, which then fails."""
        packing = pack(self.network)
        try:
            fits = self.distance(self._run(checks), reference) <= self.tolerance
        except Exception as error:
            log.info("%s runs with plain linear layers (%s)", self._spec.model, type(error).__name__)
            fits = False
        if not fits:
            packing.undo()

    def options_as(self, kind: type[_Options], options: dict[str, Any]) -> _Options:
        """The task's options, checked. Raises `ModelError`."""
        try:
            return msgspec.convert(options, kind)
        except msgspec.ValidationError as error:
            raise ModelError(f"options of task {self._spec.task}: {error}") from None


_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer", "ibert"})


def _characters(given: str | tuple[str, str]) -> int:
    return len(given) if isinstance(given, str) else max(len(given[0]), len(given[1]))


def _cut(given: str | tuple[str, str], limit: int) -> str | tuple[str, str]:
    return given[:limit] if isinstance(given, str) else (given[0][:limit], given[1][:limit])


def _choose_device(device: str, worker: int) -> torch.device:
    if device == "auto":
        count = torch.cuda.device_count()
        return torch.device("cuda", worker % count) if count else torch.device("cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} was asked for, but torch sees no GPU here")
    return chosen


def _choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies in it, else float32: emulated, it is slower than float32."""
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32
