"""A transformers encoder that computes real tokens alone: what comes padded is packed before its first layer and padded
again after its last.

Heads and poolings see what they always see, so a family of tasks does not know. Linear layers, most of the
arithmetic, run over all tokens as one long row; attention is told where each sequence ends (`packed_attention.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from streamer.inference.backends.packed_attention import UnpackableError, register


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of one pass over padded (n, longest). `tokens` (2, tokens) says where in it, flattened, the real tokens lie, and
    their positions in their sequences. `bounds` are those of the packed sequences, (n + 1)."""

    count: int
    longest: int
    tokens: torch.Tensor
    bounds: torch.Tensor

    @property
    def even(self) -> bool:
        """Whether nothing is padded: sequences of one length lie as they should without being packed."""
        return self.tokens.shape[1] == self.count * self.longest


class PackedEncoder(torch.nn.Module):
    """Called like the encoder that it was made from, once `lay` has said which tokens are real."""

    def __init__(self, encoder: Any) -> None:
        """Raises `UnpackableError`."""
        super().__init__()
        _check(encoder)
        self.encoder = encoder
        self.numbering = _numbering(encoder)
        self._layout: _Layout | None = None

    def lay(self, lengths: npt.NDArray[np.int64], *, pads_left: bool) -> None:
        """The lengths of the next pass's sequences. They are taken on the host: a GPU that is asked for them keeps it
        waiting."""
        lengths = np.maximum(lengths, 1)  # a kernel need not know of empty sequences: they have their first padding
        count, longest = len(lengths), int(lengths.max())
        bounds = np.concatenate([[0], lengths.cumsum()])
        positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
        firsts = np.arange(count) * longest + (longest - lengths if pads_left else 0)
        places = positions + np.repeat(firsts, lengths)
        tokens = torch.from_numpy(np.stack([places, positions]))
        self._layout = _Layout(count, longest, tokens, torch.from_numpy(bounds.astype(np.int32)))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,  # `lay` has said it
        token_type_ids: torch.Tensor | None = None,
        **named: Any,
    ) -> Any:
        """The encoder's output for padded (n, length) `input_ids`; 0 where there is padding."""
        layout = self._layout
        if layout is None or input_ids.shape != (layout.count, layout.longest):
            raise RuntimeError("a pass whose lengths were not laid")
        places, positions = layout.tokens.to(input_ids.device)
        bounds = layout.bounds.to(input_ids.device)
        if self.numbering is not None:
            positions = self.numbering(input_ids).flatten()[places]
        even = layout.even and input_ids.device.type == "cpu"

        def laid(values: torch.Tensor) -> torch.Tensor:
            return values if even else values.flatten()[places].unsqueeze(0)

        if token_type_ids is not None:
            named["token_type_ids"] = laid(token_type_ids)
        output = self.encoder(
            input_ids=laid(input_ids),
            position_ids=positions.view(layout.count, layout.longest) if even else positions.unsqueeze(0),
            cu_seq_lens_q=bounds,
            cu_seq_lens_k=bounds,
            max_length_q=layout.longest,
            max_length_k=layout.longest,
            **{name: value for name, value in named.items() if value is not None},
        )
        if even:
            return output
        packed: torch.Tensor = output.last_hidden_state[0]
        padded = packed.new_zeros(layout.count * layout.longest, packed.shape[-1]).index_copy_(0, places, packed)
        output.last_hidden_state = padded.view(layout.count, layout.longest, -1)
        if getattr(output, "pooler_output", None) is not None:  # the encoder's own pooled the first sequence alone
            output.pooler_output = self.pooled(output.last_hidden_state)
        return output

    def pooled(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, d), of (n, length, d)."""
        pooled: torch.Tensor = self.encoder.pooler(hidden)
        if pooled.ndim != 2:
            raise UnpackableError("it pools in its own way")
        return pooled


@dataclass(frozen=True, slots=True)
class PackedNetwork:
    """A network whose encoder runs packed. `network` is the one to call, after `encoder.lay`."""

    network: Any
    encoder: PackedEncoder
    plain: Any
    attention: str

    def undo(self) -> Any:
        """The network as it was."""
        encoder = self.encoder.encoder
        encoder.set_attn_implementation(self.attention)
        if self.plain is not encoder:
            setattr(self.plain, self.plain.base_model_prefix, encoder)
        return self.plain


def pack_network(network: Any) -> PackedNetwork:
    """Let a transformers network, with or without a head, run its encoder packed. Raises `UnpackableError`."""
    encoder = network.base_model
    packed = PackedEncoder(encoder)
    attention = encoder.config._attn_implementation
    encoder.set_attn_implementation(register())
    if encoder is network:
        return PackedNetwork(packed, packed, network, attention)
    setattr(network, network.base_model_prefix, packed)
    return PackedNetwork(network, packed, network, attention)


def _check(encoder: Any) -> None:
    """Refuse what is known not to run packed. What slips through raises in its attention or computes something else:
    whoever packs a network compares its numbers."""
    if not getattr(encoder, "_supports_attention_backend", False):
        raise UnpackableError("its attention can't be exchanged")
    if encoder.config.is_encoder_decoder or getattr(encoder.config, "is_decoder", False):
        raise UnpackableError("it is no encoder")
    if "position_ids" not in inspect.signature(encoder.forward).parameters:
        raise UnpackableError("its positions can't be given")


def _numbering(encoder: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """How the encoder numbers positions by its padding token, as RoBERTa does from the index after it on; None where
    they are numbered from 0."""
    for name, module in encoder.named_modules():
        number = getattr(module, "create_position_ids_from_input_ids", None)
        if number is not None:
            return partial(number, padding_idx=module.padding_idx)
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            raise UnpackableError("it numbers positions in its own way")
    return None
