"""Rows of token ids through a torch network, in passes: each row's numbers, whichever rows shared its pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from streamer.inference.backends.copies import to_device, to_host
from streamer.inference.backends.packed_encoder import PackedEncoder
from streamer.inference.backends.packed_openvino import PackedOpenVinoNetwork
from streamer.inference.model import Batching, cut
from streamer.inference.models.device import free_memory
from streamer.inference.models.tokenizer import NO_LIMIT, Row
from streamer.inference.tasks.family import Numbers, TaskFamily


class Passes(TaskFamily):
    """A family over a network. `batching` says which rows share a pass, the tokenizer how they are padded.

    Rows of more than `_checked_tokens` go through `_plain`, alone: no other way was held to rows of their length.
    """

    batching: Batching
    device: torch.device
    network: Any
    _plain: Any
    _takes_mask: bool
    _packed: PackedEncoder | PackedOpenVinoNetwork | None = None
    _checked_tokens: int = NO_LIMIT

    @abstractmethod
    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """Run the network on padded `inputs` (n, length); (n, d) in fp32, or (n, length, d) with `token_rows`. `mask`
        is None where no row is padded."""

    def run(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> Any:
        """The network's output, for a family's `rows`."""
        longest = inputs["input_ids"].shape[1]
        network = self.network if longest <= self._checked_tokens else self._plain
        return network(**inputs, attention_mask=mask) if self._takes_mask else network(**inputs)

    def compute(self, rows: Sequence[Row]) -> list[Numbers]:
        """Rows of similar lengths share a padded pass."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids), reverse=True)
        sizes = [(max(1, len(rows[index].ids)), 1) for index in order]
        numbers: list[Numbers] = []
        while len(numbers) < len(order):
            first = len(numbers)
            count = 1 if sizes[first][0] > self._checked_tokens else cut(sizes[first:], self.batching)
            taken = order[first : first + count]
            numbers += self._pass([rows[index] for index in taken])
        return [numbers[place] for place in np.argsort(order)]

    def free_memory(self) -> None:
        """Collect tensors and give cached blocks back to the device."""
        if isinstance(self._packed, PackedEncoder):
            self._packed.free_memory()
        free_memory(self.device)

    def _pass(self, rows: Sequence[Row]) -> list[Numbers]:
        lengths = np.fromiter((len(row.ids) for row in rows), np.int64, len(rows))
        longest = max(1, int(lengths.max()))
        columns = np.arange(longest)
        padded = bool((lengths != longest).any())
        pads_left = self.tokenizer.pads_left
        real = columns >= longest - lengths[:, None] if pads_left else columns < lengths[:, None]
        ids = np.full(real.shape, self.tokenizer.pad_id or 0, np.int64)
        ids[real] = np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64, int(lengths.sum()))
        inputs = {"input_ids": to_device(ids, self.device)}
        if self.tokenizer.takes_type_ids:
            type_ids = np.zeros(real.shape, np.int64)
            if any(row.type_ids is not None for row in rows):
                flat = chain.from_iterable(row.type_ids or [0] * len(row.ids) for row in rows)
                type_ids[real] = np.fromiter(flat, np.int64, int(lengths.sum()))
            inputs["token_type_ids"] = to_device(type_ids, self.device)
        mask = to_device(real.astype(np.int64), self.device) if padded else None
        if self._packed is not None:
            self._packed.lay(lengths, pads_left=pads_left)
        with torch.inference_mode():
            numbers: Numbers = to_host(self.rows(inputs, mask))
        if not (self.token_rows and padded):
            return list(numbers)
        return [own[-length:] if pads_left else own[:length] for own, length in zip(numbers, lengths, strict=True)]
