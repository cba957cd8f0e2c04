"""The encoder of families that work on vectors: texts to vectors as `SentenceTransformer.encode` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import tokenizers
import torch
from msgspec.structs import astuple, replace

from streamer.errors import DataFailure, ModelError
from streamer.inference.backends.torch_model import TorchModel
from streamer.inference.model import Encoded
from streamer.inference.models.sentence_files import SentenceFiles, Similarity, read_sentence_files, refuse_template
from streamer.inference.models.sentence_modules import Chain, Tokens
from streamer.inference.models.tokenizer import Row, TextTokenizer
from streamer.inference.models.transformer_file import Layout
from streamer.inference.spec import Overflow
from streamer.inference.tasks.family import Asked, Numbers
from streamer.inference.tasks.options import OPTIONS, VectorOptions
from streamer.inference.tasks.static_embedding import StaticEmbedding, StaticTokenizer

# Of these the encoder alone makes vectors, as in sentence-transformers; of others with a decoder, the decoder reading
# the text once more.
_ENCODERS: Final = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "udop": "UdopEncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
    "t5gemma": "T5GemmaEncoderModel",
    "prophetnet": "ProphetNetEncoder",
    "blenderbot": "models.blenderbot.modeling_blenderbot.BlenderbotEncoder",
    "blenderbot-small": "models.blenderbot_small.modeling_blenderbot_small.BlenderbotSmallEncoder",
    "m2m_100": "models.m2m_100.modeling_m2m_100.M2M100Encoder",
    "pegasus": "models.pegasus.modeling_pegasus.PegasusEncoder",
    "pegasus_x": "models.pegasus_x.modeling_pegasus_x.PegasusXEncoder",
    "marian": "models.marian.modeling_marian.MarianEncoder",
}

_TINY: Final = np.finfo(np.float32).tiny


class PooledModel(TorchModel):
    """The bare encoder, and the modules after it."""

    tolerance = 0.002  # 1 minus the cosine to fp32
    files: SentenceFiles
    _options: VectorOptions
    _static: bool
    _left_out: tuple[int, int] = (0, 0)
    """Tokens of the prompt that no pooling counts, of a computation's first row and of its others."""

    # --- loading ---

    def layout(self, path: Path) -> Layout:
        """As the model's sentence-transformers files say."""
        kind: Any = OPTIONS[self._spec.task]
        self._options = self.options_as(kind, self._spec.options)
        self.files = read_sentence_files(path, "SentenceTransformer", self._options.route)
        if self._options.pooling is None:
            refuse_template(path, "set option pooling to take texts as they are")
        self._static = self.files.modules[0].kind == "StaticEmbedding"
        return self.files.layout

    def read_texts(self, path: Path, layout: Layout) -> tuple[Any, TextTokenizer]:
        """A static model has no configuration, and a tokenizer of its own."""
        return (None, StaticTokenizer(path)) if self._static else super().read_texts(path, layout)

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """What is asked for goes before what the files say."""
        self._chain = Chain(path, self.files, self._options.pooling, getattr(self._options, "normalize", None))
        self._prompt = self.files.prompt(self._options.prompt, self._options.prompt_name)
        self.leave_out(self._prompt, "")

    def leave_out(self, prompt: str, others: str) -> None:
        """Where a pooling is without the prompt: that of the first row of each computation, and of its other rows."""
        if self._chain.leaves_out:
            self._left_out = self._prompt_tokens(prompt), self._prompt_tokens(others)

    def network_class(self) -> Any:
        """The bare encoder."""
        kind = self.config.model_type
        if kind == "t5gemma2":
            raise ModelError(
                f"config.json of the model: model_type {kind!r} is not supported by task {self._spec.task}"
            )
        if kind == "t5gemma":
            self.config.is_encoder_decoder = False
        module, _, name = _ENCODERS.get(kind, "AutoModel").rpartition(".")
        return getattr(import_module(f"transformers.{module}".rstrip(".")), name)

    def _load(self, path: Path) -> Any:
        self._chain.to(self.device)
        if isinstance(self.tokenizer, StaticTokenizer):
            if self._adapter:
                raise ModelError(
                    f"adapter {self._adapter.path}: {self._spec.model} has no network that it could change"
                )
            return StaticEmbedding(path, self.tokenizer).to(self.device)
        return super()._load(path)

    def _fit_tokenizer(self) -> None:
        """A static model reads texts of any length, each token by itself."""
        if self._static:
            self._takes_mask = True
        else:
            super()._fit_tokenizer()

    def _prepare(self, revision: str) -> tuple[torch.dtype, str]:
        """A static model is as fast as it can be: it looks vectors up."""
        try:
            width = len(self._pass(self.probe.content.rows[:1])[0])
        except (AttributeError, TypeError, ValueError) as error:  # of networks that are for something else than texts
            kind = type(self.network).__name__
            raise ModelError(f"{self._spec.model}: its {kind} makes no vectors of a text's tokens ({error})") from None
        asked = getattr(self._options, "dimensions", None)
        if asked is not None and asked > width:
            raise ModelError(f"option dimensions is {asked}, and the model's vectors have {width} numbers")
        if not self._static:
            return super()._prepare(revision)
        if self._spec.backend == "openvino":
            raise ModelError(f'{self._spec.model} can\'t have backend = "openvino": it has no network')
        return torch.float32, "torch"

    def _prompt_tokens(self, prompt: str) -> int:
        """As sentence-transformers counts them: those of the prompt alone, without a special token at its end."""
        if not prompt:
            return 0
        (encoding,) = self.tokenizer.encode([prompt])
        assert isinstance(encoding, tokenizers.Encoding)  # only a pair may fail
        return len(encoding.ids) - (bool(encoding.ids) and encoding.ids[-1] in self.tokenizer.special_ids)

    # --- running ---

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, dimensions)."""
        hidden: torch.Tensor = self.run(inputs, mask).last_hidden_state
        left_out = None if self._left_out_rows is None else self._left_out_rows.to(hidden.device)
        vectors: torch.Tensor = self._chain(hidden, Tokens(mask, left_out))
        return vectors

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """1 minus the cosine."""
        return float(1 - unit(numbers) @ unit(reference))

    def _encoded(
        self, asked: Asked, found: list[tokenizers.Encoding | DataFailure], overflow: Overflow
    ) -> Encoded | DataFailure:
        encoded = super()._encoded(asked, found, overflow)
        if not any(self._left_out) or isinstance(encoded, DataFailure):
            return encoded
        first, others = self._left_out
        rows = [replace(row, left_out=others if place else first) for place, row in enumerate(encoded.content.rows)]
        return replace(encoded, content=replace(encoded.content, rows=rows))

    def _pass(self, rows: Sequence[Row]) -> list[Numbers]:
        """A row without any token has no vector, but in a static model, where it is 0."""
        left_out = [row.left_out for row in rows]
        self._left_out_rows = torch.tensor(left_out) if any(left_out) else None
        numbers = super()._pass(rows)
        if self._static or all(row.ids for row in rows):
            return numbers
        return [own if row.ids else np.full_like(own, np.nan) for own, row in zip(numbers, rows, strict=True)]


class ComparingModel(PooledModel):
    """Families that compare a text's vector with those of others: candidates, labels."""

    tolerance = 0.05  # of a cosine

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """Twice the angle between them: two vectors, each turned by so much, have no other cosine than within that.
        Where lengths matter too, twice the difference by the length."""
        if self.files.similarity != "cosine":
            return 2 * float(np.linalg.norm(numbers - reference) / max(np.linalg.norm(reference), _TINY))
        chord = float(np.linalg.norm(unit(numbers) - unit(reference)))  # the cosine of so small an angle is too coarse
        return 4 * float(np.arcsin(min(1.0, chord / 2)))

    def compute(self, rows: Sequence[Row]) -> list[Numbers]:
        """Texts that many computations share, such as labels, are computed once."""
        distinct: dict[tuple[Any, ...], Row] = {}
        keys = [_identity(row) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            distinct.setdefault(key, row)
        vectors = dict(zip(distinct, super().compute(list(distinct.values())), strict=True))
        return [vectors[key] for key in keys]

    def compared(self, vectors: Sequence[Numbers]) -> Numbers:
        """The first vector with each of the others, as the model's `similarity` does."""
        return similarities(np.stack(vectors)[:, : self.files.dimensions], self.files.similarity)


def similarities(vectors: Numbers, kind: Similarity) -> Numbers:
    """Of the first vector to each of the others: the cosine within -1 and 1, the product, or minus the distance."""
    one, others = vectors[0], vectors[1:]
    similar: Numbers
    match kind:
        case "cosine":
            similar = np.clip(unit(others) @ unit(one), -1, 1)
        case "dot":
            similar = others @ one
        case "euclidean":
            similar = -np.linalg.norm(others - one, axis=1)
        case "manhattan":
            similar = -np.abs(others - one).sum(axis=1)
    return similar


def unit(vectors: Numbers) -> Numbers:
    """Vectors of length 1 along the last axis; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Numbers = vectors / np.maximum(lengths, _TINY)
    return scaled


def _identity(row: Row) -> tuple[Any, ...]:
    """All that a row holds, to tell it from others."""
    return tuple([tuple(value) if isinstance(value, list) else value for value in astuple(row)])
