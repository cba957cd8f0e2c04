"""An encoder that OpenVINO runs packed: linear layers compute real tokens alone, and attention hardly any others.

Its graph takes no list of sequences, so that attention gathers tokens into rows of one width and back, as many texts in
each as there is room for, and a mask keeps them apart. A mask over one long row would cost its square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from transformers import AttentionInterface

from streamer.inference.backends.packed_attention import UnpackableError, refuse
from streamer.inference.backends.packed_encoder import PackedEncoder
from streamer.inference.model import Batching, rounded_up

PARAMETERS: Final = 50_000_000
"""Up to it two graphs are held: what needs no padding, above all a single text, goes through the one that does not
gather, which is 1 ms faster."""
# A size that it has not seen for a while costs OpenVINO one or two milliseconds. So there are few: of tokens in a pass,
# where up to 6 % more are computed, and of widths of attention.
_DIGITS: Final = 5
_WIDTH_DIGITS: Final = 4
# Longer passes are no faster, and answer later. Of all lengths that come, a pass takes what it holds, but for few long
# texts among many short ones: attention is as wide as the longest.
_TOKENS: Final = 2048
_WASTE: Final = 3.0
_FLOOR_TOKENS: Final = 4096
NAME: Final = "packed_by_slots"
_LEAST: Final = torch.finfo(torch.float32).min
_EXAMPLE_LENGTHS: Final = (9, 7, 2)


def layout_of(lengths: npt.NDArray[np.int64], *, pads_left: bool) -> dict[str, npt.NDArray[np.int64]]:
    """How padded (n, longest) rows lie packed. `tokens` says where in it, flattened, the real tokens are, `positions`
    which of their sequence they are, and `rows` (n, longest) which packed token each place has. Where rows differ in
    length, some tokens more, each the first one again, round their number up; nobody reads what becomes of them.

    Attention sees them on shelves that are at least as wide as the longest row, and which shorter ones share: `slots`
    (shelves, width) has the packed token of each place there, `owners` its row, -1 for none, and `places` where each
    token lies. A place without a token has one of its neighbours'.
    """
    lengths = np.maximum(lengths, 1)
    longest = int(lengths.max())
    bounds = np.concatenate([[0], lengths.cumsum()])
    columns = np.arange(longest) - (longest - lengths if pads_left else np.zeros_like(lengths))[:, None]
    real = (columns >= 0) & (columns < lengths[:, None])
    positions = columns[real]
    width = rounded_up(longest, _WIDTH_DIGITS)
    firsts, count = _shelve(lengths.tolist(), width)
    places = np.repeat(firsts, lengths) + positions
    owners = np.full(count * width, -1)
    owners[places] = np.repeat(np.arange(len(lengths)), lengths)
    slots = np.zeros(count * width, np.int64)
    slots[places] = np.arange(bounds[-1])
    slots = np.where(owners < 0, np.repeat(slots[::width], width), slots)
    tokens = np.flatnonzero(real)
    more = 0 if _even(lengths) else rounded_up(len(tokens), _DIGITS) - len(tokens)
    return {
        "tokens": np.append(tokens, tokens[:1].repeat(more)),
        "positions": np.append(positions, positions[:1].repeat(more)),
        "rows": bounds[:-1, None] + np.where(real, columns, 0),
        "slots": slots.reshape(count, width),
        "owners": owners.reshape(count, width),
        "places": np.append(places, places[:1].repeat(more)),
    }


def _even(lengths: npt.NDArray[np.int64]) -> bool:
    return bool((lengths == lengths[0]).all())


def _shelve(lengths: list[int], width: int) -> tuple[list[int], int]:
    """Put rows on shelves, the longest first, each on the first with room; returns where each begins, counted along all
    shelves, and how many shelves there are."""
    room: list[int] = []
    most = 0
    firsts = [0] * len(lengths)
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[row]
        if length > most:
            shelf = len(room)
            room.append(width)
        else:
            shelf = next(number for number, left in enumerate(room) if left >= length)
        firsts[row] = (shelf + 1) * width - room[shelf]
        room[shelf] -= length
        most = max(room)
    return firsts, len(room)


def batching_of(padded: Batching) -> Batching:
    """How it likes its forward batches, by how the network likes them padded."""
    tokens = min(padded.tokens, _TOKENS)
    return replace(padded, tokens=tokens, packed=True, digits=_DIGITS, waste=_WASTE, floor_tokens=_FLOOR_TOKENS)


class PackedOpenVinoNetwork:
    """Called like the padded torch network that it was made from, once `lay` has said which tokens are real.

    `even` is the padded graph, for passes in which nothing is padding; without it they are gathered too.
    """

    even: Callable[..., SimpleNamespace] | None = None

    def __init__(self, compiled: Any, encoder: Any) -> None:
        self._request = compiled.create_infer_request()
        self._takes = {name for port in compiled.inputs for name in port.get_names()}
        self._names = [port.get_any_name() for port in compiled.outputs]
        self._numbering = PackedEncoder(encoder).numbering
        self._layout: dict[str, npt.NDArray[np.int64]] | None = None

    def lay(self, lengths: npt.NDArray[np.int64], *, pads_left: bool) -> None:
        """The lengths of the next pass's sequences."""
        gathers = self.even is None or not _even(np.maximum(lengths, 1))
        self._layout = layout_of(lengths, pads_left=pads_left) if gathers else None

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,  # `lay` has said it
        token_type_ids: torch.Tensor | None = None,
    ) -> SimpleNamespace:
        """Tensors as (n, length)."""
        if self._layout is None:
            assert self.even is not None
            return self.even(input_ids, None, token_type_ids)
        inputs = {"input_ids": input_ids.numpy(), **self._layout}
        if self._numbering is not None:
            inputs["positions"] = self._numbering(input_ids).flatten()[self._layout["tokens"]].numpy()
        if "token_type_ids" in self._takes:
            inputs["token_type_ids"] = (
                torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            ).numpy()
        results = self._request.infer(inputs, share_inputs=True)
        return SimpleNamespace(**{name: torch.from_numpy(results[index]) for index, name in enumerate(self._names)})


class _Encoder(PackedEncoder):
    """The encoder as it is traced, with the tensors of `laid` as inputs of the graph."""

    laid: Mapping[str, torch.Tensor]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **named: Any,
    ) -> Any:
        tokens, rows, owners = self.laid["tokens"], self.laid["rows"], self.laid["owners"]
        if token_type_ids is not None:
            named["token_type_ids"] = token_type_ids.flatten()[tokens].unsqueeze(0)
        output = self.encoder(
            input_ids=input_ids.flatten()[tokens].unsqueeze(0),
            position_ids=self.laid["positions"].unsqueeze(0),
            packed_places=self.laid["places"],
            packed_slots=self.laid["slots"],
            packed_seen=owners[:, None, :, None] == owners[:, None, None, :],
            **{name: value for name, value in named.items() if value is not None},
        )
        padded = output.last_hidden_state[0][rows.flatten()]
        output.last_hidden_state = padded.reshape(rows.shape[0], rows.shape[1], padded.shape[-1])
        if getattr(output, "pooler_output", None) is not None:
            output.pooler_output = self.pooled(output.last_hidden_state)
        return output


class Traceable(torch.nn.Module):
    """The network with tensors in and tensors out. A context manager, which puts the network back as it was. Raises
    `UnpackableError`."""

    def __init__(self, network: Any, names: list[str], *, takes_type_ids: bool) -> None:
        super().__init__()
        self._plain = network
        self._names = names
        self._takes_type_ids = takes_type_ids
        self._encoder = _Encoder(network.base_model)
        self._attention = network.base_model.config._attn_implementation

    def __enter__(self) -> Traceable:
        AttentionInterface.register(NAME, _attend)
        self._encoder.encoder.set_attn_implementation(NAME)
        if self._plain is not self._encoder.encoder:
            setattr(self._plain, self._plain.base_model_prefix, self._encoder)
        return self

    def __exit__(self, *_: object) -> None:
        self._encoder.encoder.set_attn_implementation(self._attention)
        if self._plain is not self._encoder.encoder:
            setattr(self._plain, self._plain.base_model_prefix, self._encoder.encoder)

    def forward(
        self,
        input_ids: torch.Tensor,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        rows: torch.Tensor,
        slots: torch.Tensor,
        owners: torch.Tensor,
        places: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        self._encoder.laid = {
            "tokens": tokens,
            "positions": positions,
            "rows": rows,
            "slots": slots,
            "owners": owners,
            "places": places,
        }
        network = self._encoder if self._plain is self._encoder.encoder else self._plain
        given = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = network(input_ids=input_ids, **given)
        return tuple(output[name] for name in self._names)

    def example(self) -> dict[str, torch.Tensor]:
        """Inputs to trace it with."""
        laid = layout_of(np.array(_EXAMPLE_LENGTHS), pads_left=False)
        ids = torch.ones((len(_EXAMPLE_LENGTHS), max(_EXAMPLE_LENGTHS)), dtype=torch.int64)
        given = {"input_ids": ids, **{name: torch.from_numpy(values) for name, values in laid.items()}}
        return given | ({"token_type_ids": torch.zeros_like(ids)} if self._takes_type_ids else {})


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    packed_places: torch.Tensor | None = None,
    packed_slots: torch.Tensor | None = None,
    packed_seen: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """As `packed_attention.attend_packed`, by what a graph can hold."""
    if packed_places is None or packed_slots is None or packed_seen is None:
        raise UnpackableError("its attention does not know where a sequence ends")
    refuse(module, query, key, value, attention_mask, is_causal, others)
    count, longest = packed_slots.shape[0], packed_slots.shape[1]

    def padded(part: torch.Tensor) -> torch.Tensor:
        rows = part[0].transpose(0, 1)[packed_slots.flatten()]
        return rows.reshape(count, longest, part.shape[1], part.shape[3]).transpose(1, 2)

    seen = packed_seen
    if sliding_window is not None:
        columns = torch.arange(longest)
        seen = seen & ((columns[:, None] - columns[None, :]).abs() <= sliding_window - 1)
    attended = torch.nn.functional.scaled_dot_product_attention(
        padded(query), padded(key), padded(value), attn_mask=(~seen).float() * _LEAST, scale=scaling
    )
    rows = attended.transpose(1, 2).reshape(count * longest, query.shape[1], query.shape[3])
    return rows[packed_places].unsqueeze(0), None
