"""What the tasks of language models share: safe loading, the tokenizer, device, dtype and longest text.

A language model's answers are long chains of choices, so a lower precision is held against fp32 by what it thinks of
known texts: the mean log-likelihood of a token.
"""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from transformers import PreTrainedConfig

from streamer.core.pipeline.protocol import ModelCard
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.device import choose_device, choose_dtype, free_memory, use_threads
from streamer.inference.identity import of_task
from streamer.inference.loading import load_config, load_network, load_tokenizer
from streamer.inference.model import Encoded
from streamer.inference.options import read_options
from streamer.inference.reference import Located
from streamer.inference.safety import digest, used_files, view
from streamer.inference.spec import WorkerSpec

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
# Their state runs over every position: a padded row would end in another state.
_RECURRENT = frozenset(
    {"mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm", "recurrent_gemma", "jamba", "bamba", "zamba", "zamba2"}
    | {"granitemoehybrid", "falcon_h1", "lfm2", "qwen3_next", "nemotron_h", "plamo2", "kimi_linear", "olmo_hybrid"}
)


class Autoregressive(ABC):
    """A language model with its tokenizer. `config`, `network`, `device` and `tokenizer` are there once it is made;
    `decoder` is the tokenizer's copy for the thread that runs the network."""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self.spec = spec
        if spec.on_overflow not in ("truncate", "reject"):
            raise ModelError(f'task {spec.task} has on_overflow "truncate" and "reject", not {spec.on_overflow!r}')
        use_threads(spec.threads)
        names = used_files(located.path)
        revision = digest(located.path, names)
        with view(located.path, names) as path:
            self.config: PreTrainedConfig = load_config(path)
            self.tokenizer: Any = load_tokenizer(path)
            self.decoder: Any = copy.deepcopy(self.tokenizer)
            self.device = choose_device(spec.device, worker)
            self.max_tokens = self._longest()
            self.network, dtype = self._load_lowest(path)
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
            implementation=of_task(spec.task, "torch"),
        )

    # --- the task's part ---

    @property
    def default_temperature(self) -> float | None:
        """What the card says of sampling: None where the task never samples."""
        return None

    @abstractmethod
    def network_class(self) -> Any:
        """The transformers Auto class to load."""

    @abstractmethod
    def likelihood(self, network: Any, text: str) -> float:
        """The mean log-likelihood of a token of a known text."""

    # --- what all have ---

    @property
    def recurrent(self) -> bool:
        """Whether padding would change what the network computes."""
        layers = getattr(self.config, "layer_types", None) or ()
        return self.config.model_type in _RECURRENT or any("attention" not in str(layer) for layer in layers)

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

    def ids_of(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """Token ids, as the tokenizer's own files ask for; called in one thread alone."""
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=special, truncation=False, padding=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def tensor(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Rows of one length on the device."""
        return torch.tensor(rows, dtype=torch.int64).to(self.device)

    # --- loading ---

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
        if dtype in (torch.float32, getattr(self.config, "dtype", None)):
            return self._load(path, dtype), dtype
        network = self._load(path, torch.float32)
        reference = [self.likelihood(network, text) for text in CHECK_TEXTS]
        network.to(dtype)
        lowered = [self.likelihood(network, text) for text in CHECK_TEXTS]
        distance = max(abs(one - other) for one, other in zip(lowered, reference, strict=True))
        if distance <= TOLERANCE:  # false for NaN
            return network, dtype
        log.warning(
            "%s in %s is %.3g nats a token from float32, more than %.3g: it runs in float32",
            self.spec.model,
            dtype,
            distance,
            TOLERANCE,
        )
        del network
        self.free_memory()
        return self._load(path, torch.float32), torch.float32

    def _load(self, path: Path, dtype: torch.dtype) -> Any:
        network = load_network(
            self.network_class(), path, self.config, dtype=dtype, task=self.spec.task, model=self.spec.model
        )
        return network.to(self.device)
