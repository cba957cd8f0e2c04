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

from streamer.inference.backends.copies import to_device
from streamer.inference.backends.cuda_graphs import Graphs, Recorder, differs
from streamer.inference.backends.packed_attention import UnpackableError, register

# What a recorded pass knows beside ids, positions and types; where more is asked for it runs as it is.
_RECORDED = {"return_dict"}
GRAPHS_GAIN = 1.02


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of one pass over padded (n, longest). `tokens` (2, tokens) says where in it, flattened, the real tokens lie, and
    their positions in their sequences. `bounds` are those of the packed sequences, (n + 1). Both on the host."""

    count: int
    longest: int
    tokens: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int32]

    @property
    def even(self) -> bool:
        """Whether nothing is padded: sequences of one length lie as they should without being packed."""
        return int(self.tokens.shape[1]) == self.count * self.longest

    def padded(self, packed: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """A copy of (tokens, d) as (n, longest, d)."""
        padded = packed.new_zeros(self.count * self.longest, packed.shape[-1]).index_copy_(0, places, packed)
        return padded.view(self.count, self.longest, -1)


class PackedEncoder(torch.nn.Module):
    """Called like the encoder that it was made from, once `lay` has said which tokens are real."""

    def __init__(self, encoder: Any) -> None:
        """Raises `UnpackableError`."""
        super().__init__()
        _check(encoder)
        self.encoder = encoder
        self.numbering = _numbering(encoder)
        self.graphs: Graphs | None = None
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
        self._layout = _Layout(count, longest, np.stack([places, positions]), bounds.astype(np.int32))

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
        places, positions = to_device(layout.tokens, input_ids.device)
        if self.numbering is not None:
            positions = self.numbering(input_ids).flatten()[places]
        even = layout.even and input_ids.device.type == "cpu" and self.graphs is None
        asked = {name: value for name, value in named.items() if value is not None}

        def laid(values: torch.Tensor | None) -> torch.Tensor | None:
            return values if even or values is None else values.flatten()[places]

        ids, types = laid(input_ids), laid(token_type_ids)
        assert ids is not None
        if self.graphs is not None and asked.keys() <= _RECORDED:
            recorded = self.graphs.run(layout.bounds, layout.longest, ids, positions, types)
            if recorded is not None:
                hidden = layout.padded(recorded, places)
                pooled = {"pooler_output": self.pooled(hidden)} if self.graphs.pools else {}
                return self.graphs.kind(last_hidden_state=hidden, **pooled)
        bounds = to_device(layout.bounds, input_ids.device)
        positions = positions.view(layout.count, layout.longest) if even else positions
        output = self.encode(ids, positions, types, bounds, layout.longest, **asked)
        if even:
            return output
        output.last_hidden_state = layout.padded(output.last_hidden_state[0], places)
        if getattr(output, "pooler_output", None) is not None:  # the encoder's own pooled the first sequence alone
            output.pooler_output = self.pooled(output.last_hidden_state)
        return output

    def encode(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        types: torch.Tensor | None,
        bounds: torch.Tensor,
        longest: int,
        **named: Any,
    ) -> Any:
        """The encoder's own output for a packed pass: ids, positions and types (tokens,), or (n, length) of sequences
        of one length; the bounds of the sequences, and the most tokens that one has."""

        def row(values: torch.Tensor) -> torch.Tensor:
            return values if values.ndim == 2 else values.unsqueeze(0)

        if types is not None:
            named["token_type_ids"] = row(types)
        return self.encoder(
            input_ids=row(ids),
            position_ids=row(positions),
            cu_seq_lens_q=bounds,
            cu_seq_lens_k=bounds,
            max_length_q=longest,
            max_length_k=longest,
            **named,
        )

    def take_graphs(
        self, recorder: Recorder, longest: int, strays: Callable[[], str], seconds: Callable[[], float]
    ) -> str:
        """Replay recorded passes, if they say the same as passes do otherwise and it is faster; returns what was found,
        in words. `longest` is the most tokens of a sequence, `strays` says how far the network's numbers are from the
        right ones ("" where they are not), and `seconds` what it takes."""
        before = seconds()
        self.graphs = graphs = Graphs(self.encode, recorder)
        usual, graphs.kept.after = graphs.kept.after, 0
        start = self.numbering.keywords["padding_idx"] + 1 if self.numbering is not None else 0
        device = next(self.encoder.parameters()).device
        typed = "token_type_ids" in inspect.signature(self.encoder.forward).parameters
        try:
            known = self.encoder.get_input_embeddings().weight.shape[0]
            with torch.inference_mode():
                reason = differs(graphs, known, longest, numbered_from=start, typed=typed, device=device)
            # The second time nothing is recorded: what an earlier pass left in a buffer would show.
            reason = reason or strays() or strays() or graphs.failed
            gain = 0.0 if reason else before / seconds()
        except Exception as error:  # of CUDA, and of networks that can't be recorded
            reason, gain = type(error).__name__, 0.0
        graphs.kept.after = usual
        if reason or graphs.failed or gain < GRAPHS_GAIN:
            self.graphs = None
            graphs.clear()
            reason = reason or graphs.failed
            return f"without CUDA graphs: {reason or f'they make it {gain:.2f} times as fast'}"
        return f"with CUDA graphs, {gain:.2f} times as fast as without them"

    def free_memory(self) -> None:
        """Let go what only makes it faster."""
        if self.graphs is not None:
            self.graphs.clear()

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


def _numbering(encoder: Any) -> partial[torch.Tensor] | None:
    """How the encoder numbers positions by its padding token, as RoBERTa does from the index after it on; None where
    they are numbered from 0."""
    for name, module in encoder.named_modules():
        number = getattr(module, "create_position_ids_from_input_ids", None)
        if number is not None:
            return partial(number, padding_idx=module.padding_idx)
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            raise UnpackableError("it numbers positions in its own way")
    return None
