"""What the tasks of language models share: safe loading, the tokenizer, device, dtype and longest text.

A language model's answers are long chains of choices, so a lower precision is held against fp32 by what it thinks of
known texts: the mean log-likelihood of a token.
"""

from __future__ import annotations

import copy
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from transformers import PreTrainedConfig

from streamer.core.pipeline.protocol import ModelCard
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.backends.batch_check import close, longest_check
from streamer.inference.backends.positions import readable_tokens
from streamer.inference.generation.files import read_generation, task_entry
from streamer.inference.model import Encoded
from streamer.inference.models.adapter import revision_of
from streamer.inference.models.device import choose_device, choose_dtype, free_memory, lower, use_threads
from streamer.inference.models.first_layers import first_layers, too_large
from streamer.inference.models.identity import of_task
from streamer.inference.models.loading import load_config, load_network, load_tokenizer
from streamer.inference.models.quantised import FIELD, libraries_of
from streamer.inference.models.reference import Located
from streamer.inference.models.safety import used_files, view
from streamer.inference.models.text_reader import ControlLetters, TextReader
from streamer.inference.models.unknown_tokens import of_tokenizer
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.option_values import read_options

log = logging.getLogger(__name__)

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

NO_LIMIT = 1 << 20
PROBE_TEXT = "The delivery was late and nobody answered the telephone."
CHECK_TEXTS = (
    "Fine.",
    PROBE_TEXT,
    "Die Lieferung kam pünktlich, aber das Gerät war beschädigt; wir haben es zurückgeschickt.",
    "In 1969, 3.5 kg of stones (Apollo 11) changed what was known about the Moon: basalt, 3.7 billion years old, "
    "with less water than any stone of the Earth.",
)
# In nats a token; the probability of a token then differs by 5 %.
TOLERANCE = 0.05
# Numbered, so that no stretch of it repeats what went before: local attention and positions show.
_LONG_TEXT = " ".join(f"{number}. {text}" for number in range(1, 200) for text in CHECK_TEXTS[1:])
_STEADY_TOKENS = 256
_PARTS = 4  # of a long text, each compared by itself: what goes wrong only far out would vanish in the mean
# How far the log-likelihood of a token may move when only what follows it changes, by the numbers it is computed in.
_SEES_FLOAT32, _SEES_LOW = 1e-3, 0.05


class Autoregressive(ABC):
    """A language model with its tokenizer. `config`, `network`, `device` and `tokenizer` are there once it is made;
    `decoder` is the tokenizer's copy for the thread that runs the network."""

    checked = ""
    """What of the network was held to float32, where that was not all of it."""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self.spec = spec
        if spec.on_overflow not in ("truncate", "reject"):
            raise ModelError(f'task {spec.task} has on_overflow "truncate" and "reject", not {spec.on_overflow!r}')
        use_threads(spec.threads)
        names = used_files(located.path)
        revision = revision_of(located, names)
        self._adapter = located.adapter
        with view(located.path, names) as path:
            self.config: PreTrainedConfig = load_config(path)
            self._refuse_other_kinds()
            entry = task_entry(self.config, spec.task, self.prefix_option)
            files = read_generation(path, spec.task, entry)
            self.task_prefix = str(entry[1].get("prefix") or "")
            self.tokenizer: Any = load_tokenizer(path)
            self.unknown = of_tokenizer(self.tokenizer)
            self.decoder: Any = copy.deepcopy(self.tokenizer)
            self.reader = TextReader(self.tokenizer, self.letters)
            self.device = choose_device(spec.device, worker)
            self.max_tokens = self._longest()
            self.network, dtype = self._load_lowest(path)
        self.embeddings = self.network.get_input_embeddings().weight.shape[0]
        self.exact = dtype is torch.float32
        self.network.generation_config = files
        self.card = ModelCard(
            name=located.name,
            revision=revision,
            task=spec.task,
            dtype=str(dtype).removeprefix("torch."),
            backend="torch",
            device=str(self.device),
            tolerance=TOLERANCE if dtype is not torch.float32 else 1e-4,
            max_tokens=self.max_tokens,
            temperature=self.default_temperature,
            implementation=of_task(spec.task, "torch", *libraries_of(self.config)),
            checked=self.checked,
        )

    # --- the task's part ---

    @property
    def default_temperature(self) -> float | None:
        """What the card says of sampling: None where the task never samples."""
        return None

    @property
    def prefix_option(self) -> str | None:
        """What the pipeline puts before every text, of tasks that have such an option."""
        return None

    encodes_source = False
    """Whether the network has an encoder for the text."""

    @property
    @abstractmethod
    def letters(self) -> ControlLetters:
        """What becomes of control tokens' letters in an event's text."""

    @abstractmethod
    def network_class(self) -> Any:
        """The transformers Auto class to load."""

    @abstractmethod
    def likelihoods(self, network: Any, ids: list[int]) -> torch.Tensor:
        """(tokens,) float32: the log-likelihood of each token of a known text."""

    # --- what all have ---

    def known_ids(self, most: int) -> tuple[list[list[int]], list[int]]:
        """Known texts as ids, each at most `most` long, and a text of just that length."""
        *short, long = self.ids_of([*CHECK_TEXTS, _LONG_TEXT])
        return [ids[:most] for ids in short], long[:most]

    def refuse_unless_steady(self) -> None:
        """A text has one answer. Raises `ModelError` for a network that draws at random as it reads."""
        _, long = self.known_ids(min(self.max_tokens, _STEADY_TOKENS))
        one, other = (self.likelihoods(self.network, long).nan_to_num() for _ in range(2))
        if not close(one, other, exact=self.exact):
            raise ModelError(
                f"{self.spec.model} says something else of the same text each time (config.json: {self._kind_words()})"
            )

    def refuse_unless_causal(self) -> None:
        """A language model says of a token what the ones before it make likely. Raises `ModelError` for a network that
        looks ahead: an encoder with a language-model head, for one."""
        texts, _ = self.known_ids(min(self.max_tokens, 32))
        one, other = sorted(texts, key=len)[-2:]
        known = len(one) // 2
        seen = self.likelihoods(self.network, one)[: known - 1]
        for rest in (other[known : len(one)], one[known:][::-1]):
            again = self.likelihoods(self.network, one[:known] + rest)[: known - 1]
            if known < 2 or bool(((again - seen).abs() <= (_SEES_FLOAT32 if self.exact else _SEES_LOW)).all()):
                continue
            raise ModelError(
                f"{self.spec.model} is not a language model, as task {self.spec.task} needs: what it predicts for a"
                f" token depends on the tokens after it (config.json: {self._kind_words()})"
            )

    def free_memory(self) -> None:
        """Collect tensors and give cached blocks back to the device."""
        free_memory(self.device)

    def options_as(self, kind: type[_Struct]) -> _Struct:
        """The task's options, checked. Raises `ModelError`."""
        return read_options(kind, self.spec.options, self.spec.task)

    def refuse_pairs(self, encoded: list[Encoded | DataFailure], pairs: Sequence[str | None] | None) -> None:
        """No task of language models takes a pair."""
        for index, pair in enumerate(pairs or ()):
            if pair is not None:
                message = f"task {self.spec.task} takes no text_pair"
                encoded[index] = DataFailure(Code.VALIDATE_TEXT_PAIR, message)

    def too_long(self, limit: int) -> DataFailure:
        """Of a text of more than `limit` tokens where `on_overflow` is "reject"."""
        message = f'the text has more than {limit} tokens and on_overflow is "reject"'
        return DataFailure(Code.INFER_TOO_LONG, message)

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of known texts, as the tokenizer's own files ask for."""
        found: list[list[int]] = self.tokenizer(list(texts), truncation=False, padding=False)["input_ids"]
        return found

    def fitting(
        self, text: str, ids: list[int], *, language: str | None = None, prefix: str = ""
    ) -> list[int] | DataFailure:
        """A text's ids, cut as the tokenizer's files say if they are too many; or its failure where it shall not be
        cut, or holds a token beyond the network's embedding: it would raise, and on a GPU end the worker."""
        if len(ids) > self.max_tokens:
            if self.spec.on_overflow == "reject":
                return self.too_long(self.max_tokens)
            (kept,) = self.reader.ids([text], language=language, prefix=prefix, most=self.max_tokens)
            if isinstance(kept, DataFailure):
                return kept
            ids = kept
        return self.unreadable(ids) or ids

    def unreadable(self, ids: list[int]) -> DataFailure | None:
        """Of ids that hold a token beyond the network's embedding."""
        if not ids or max(ids) < self.embeddings:
            return None
        message = f"the text holds a token beyond the {self.embeddings} that the network has embeddings for"
        return DataFailure(Code.VALIDATE_TEXT, message)

    def tensor(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Rows of one length on the device."""
        return torch.tensor(rows, dtype=torch.int64).to(self.device)

    # --- loading ---

    def _refuse_other_kinds(self) -> None:
        encodes = bool(getattr(self.config, "is_encoder_decoder", False))
        if encodes is not self.encodes_source:
            fit = "text2text-generation, summarization or translation" if encodes else "text-generation"
            raise ModelError(
                f"{self.spec.model} does not fit task {self.spec.task} (config.json: {self._kind_words()}): it is for "
                f"task {fit}"
            )

    def _kind_words(self) -> str:
        said = {name: getattr(self.config, name, None) for name in ("is_encoder_decoder", "is_decoder")}
        words = [f"{name} is {str(value).lower()}" for name, value in said.items() if value is not None]
        return ", ".join([f"model_type is {self.config.model_type}", *words])

    def _longest(self) -> int:
        limits = [NO_LIMIT, int(self.tokenizer.model_max_length)]
        text_config = self.config.get_text_config()
        for name in ("max_position_embeddings", "n_positions"):
            positions = getattr(text_config, name, None)
            if isinstance(positions, int) and positions > 0:
                limits.append(positions)
        return min(limits)

    def _load_lowest(self, path: Path) -> tuple[Any, torch.dtype]:
        """The network in the dtype asked for, if it thinks of known texts what it does in float32.

        Weights that are stored in that dtype were made for it and are not compared.
        """
        dtype = choose_dtype(self.spec.dtype, self.device)
        if dtype is torch.float32:
            return self._load(path, dtype), dtype
        changed = self._adapter is not None or hasattr(self.config, FIELD)
        stored = dtype == getattr(self.config, "dtype", None) and not changed
        if not stored and (reason := too_large(path, self.device)):
            return self._load_by_layers(path, dtype, reason), dtype
        network = self._load(path, dtype if stored else torch.float32)
        try:
            reference = None if stored else self._means(network)
            lowered = self._means(lower(network, dtype))
            distances = [0.0] if reference is None else [abs(a - b) for a, b in zip(lowered, reference, strict=True)]
            if all(distance <= TOLERANCE for distance in distances):  # false for NaN
                return network, dtype
            reason = f"it is {max(distances):.3g} nats a token away, more than {TOLERANCE:g}"
        except Exception as error:  # of torch, for what this processor or this network lacks in such numbers
            reason = f"{type(error).__name__}: {error}"
        log.warning("%s runs in float32, not in %s: %s", self.spec.model, dtype, reason)
        del network
        self.free_memory()
        return self._load(path, torch.float32), torch.float32

    def _load_by_layers(self, path: Path, dtype: torch.dtype, reason: str) -> Any:
        """The network in `dtype`, of which only the first layers are held to float32. Raises `ModelError` where they
        are too far from it, or the whole says something of a known text that is no number."""
        model, asked = self.spec.model, f"{self.spec.model} can't be served in {str(dtype).removeprefix('torch.')}"
        try:
            network, self.checked = first_layers(self.network_class(), path, self.config, torch.float32, self._adapter)
        except ModelError as error:
            raise ModelError(f"{asked}: {reason}, and {error}; give it more memory") from error
        network = network.to(self.device)
        reference = self._means(network)
        lowered = self._means(lower(network, dtype))
        # Layers that nothing follows say wild things of texts: so they are held to it by the size of what they say.
        far = [abs(a - b) / max(1.0, abs(b)) for a, b in zip(lowered, reference, strict=True)]
        if not all(distance <= TOLERANCE for distance in far):  # false for NaN
            raise ModelError(
                f"{asked}: {self.checked} are {max(far):.3g} away from float32, more than {TOLERANCE:g}, and {reason}; "
                "name another dtype, or give it more memory"
            )
        del network
        self.free_memory()
        network = self._load(path, dtype)
        if not all(map(math.isfinite, self._means(network))):
            raise ModelError(f"{asked}: what it says of known texts is no number; name another dtype")
        log.warning("%s: %s: only %s were compared with it", model, reason, self.checked)
        return network

    def _means(self, network: Any) -> list[float]:
        """The mean log-likelihood of a token of each known text, and of each part of a long one."""
        short, long = self.known_ids(min(self.max_tokens, longest_check(self.device)))
        with torch.inference_mode():
            found = [self.likelihoods(network, ids) for ids in short]
            found += self.likelihoods(network, long).chunk(_PARTS)
        return [float(one.mean()) for one in found if one.numel()]

    def _load(self, path: Path, dtype: torch.dtype) -> Any:
        network = load_network(
            self.network_class(),
            path,
            self.config,
            dtype=dtype,
            task=self.spec.task,
            model=self.spec.model,
            adapter=self._adapter,
            device=self.device,
        )
        readable = readable_tokens(network)
        self.max_tokens = self.max_tokens if readable is None else min(self.max_tokens, readable)
        return network
