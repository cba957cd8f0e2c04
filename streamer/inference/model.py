"""What a worker asks of a model, whatever is behind it: encode texts, run batches of them, name a known input.

A family of tasks implements this in one file. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Protocol

import msgspec

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure


class NonFinite(Enum):
    """In the place of an answer: the model's output held NaN or infinity."""

    NON_FINITE = 0


NON_FINITE: Final = NonFinite.NON_FINITE


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """One computation ready to run. A struct: one is made a text.

    It takes `rows` sequences (windows of a long text, pairs with each label …), the longest of `length`: that is what
    it costs in a batch where all are padded to the longest. `tokens` is what the answer reports, 0 where a model has
    none; `unknown` of them are tokens that say no more than that the tokenizer does not know what it read. `content` is
    the model's own.
    """

    length: int
    tokens: int
    truncated: bool
    content: Any
    rows: int = 1
    unknown: int = 0


class Sharing(Enum):
    """Which rows may share a pass without a change of any answer."""

    PADDED = "texts of any lengths"
    EQUAL = "only texts of one length"
    ALONE = "no texts"


@dataclass(frozen=True, slots=True)
class Batching:
    """How a device, and the network on it, like their forward batches.

    `tokens` bounds a batch's longest length times its size. Beyond `floor_tokens`, padded tokens stay below `waste`
    times the real ones; below it a pass of its own costs more than the padding it saves. Where the network computes
    real tokens alone, `packed`, those are what `tokens` bounds; of texts of several lengths it may compute a few more,
    so that their number has no more than so many binary `digits`, 0 for as many as it takes. `sharing` is the network's
    own.
    """

    tokens: int
    waste: float
    floor_tokens: int
    packed: bool = False
    digits: int = 0
    sharing: Sharing = Sharing.PADDED

    def computed(self, sizes: Sequence[tuple[int, int]]) -> int:
        """The tokens that a batch of `sizes` (length and rows, longest first) makes the network compute."""
        if self.packed:
            real = sum([length * rows for length, rows in sizes])
            return real if sizes[0][0] == sizes[-1][0] else rounded_up(real, self.digits)
        return sizes[0][0] * sum([rows for _, rows in sizes])


def rounded_up(number: int, digits: int) -> int:
    """The next number that has zeros behind its first so many binary digits; itself with 0 digits."""
    step = 1 << max(0, (number - 1).bit_length() - digits) if digits else 1
    return -(-number // step) * step


def cut(sizes: Sequence[tuple[int, int]], batching: Batching) -> int:
    """How many of `sizes` (length and rows, longest first) make the next batch: at least one."""
    if batching.sharing is Sharing.ALONE:
        return 1
    longest = sizes[0][0]
    if batching.sharing is Sharing.EQUAL and longest != sizes[-1][0]:
        sizes = [size for size in sizes if size[0] == longest]
    if longest == sizes[-1][0] and longest * sum([rows for _, rows in sizes]) <= batching.tokens:
        return len(sizes)
    real = rows = 0
    for count, (length, own_rows) in enumerate(sizes):
        rows += own_rows
        real += length * own_rows
        padded = longest * rows
        wasteful = padded > batching.waste * real and padded > batching.floor_tokens
        if count and ((real if batching.packed else padded) > batching.tokens or wasteful):
            return count
    return len(sizes)


# A CPU is as fast with 500 tokens as with 4,000, and a pass costs it about as much as 30 tokens. These constants stand
# in the place of a cost model learned online: of six pairs of waste and floor on real texts (tweets of 23 tokens in the
# mean, docstrings of 110) with MiniLM in bfloat16, by CPU time of the best of two turns, in torch and in OpenVINO, they
# are the fastest or within 2 % of it. Groups of equal lengths, without padding, are 5 to 8 % slower in both; waste 1.2
# with floor 512 3 to 11 % slower.
CPU_BATCHING: Final = Batching(4096, 1.05, 256)
# A GPU waits for its launches in small batches.
CUDA_BATCHING: Final = Batching(32768, 1.15, 4096)
# A packed encoder's vectors are padded for the head: that costs memory alone, a fraction of what its layers take. So up
# to as many padded ones as a batch may have tokens it does not matter, and beyond it is bounded.
_PACKED_WASTE: Final = 2.0


def packed_batching(padded: Batching) -> Batching:
    """Of a network that runs packed, by how it likes to run padded."""
    return replace(padded, packed=True, waste=_PACKED_WASTE, floor_tokens=padded.tokens)


class Model(Protocol):
    """A loaded model. `encode` runs in a thread of its own beside `forward`; neither is ever called twice at a time."""

    card: ModelCard
    batching: Batching
    """Of its own passes, where one computation has more rows than a batch holds; lowered when memory runs out."""
    probe: Encoded
    """A known input that always has a finite answer."""

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """One entry a text, in order. What no model run could fix is a failure already here."""
        ...

    def forward(self, batch: Sequence[Encoded]) -> Sequence[Answer | NonFinite | DataFailure]:
        """One entry a computation, in order; a failure is that one's own. May raise: the caller finds out which of the
        batch is at fault."""
        ...

    def free_memory(self) -> None:
        """Give back what a failed forward left behind; called before the retry in smaller batches."""
        ...


def unknown_param(params: dict[str, Any] | None, known: Set[str], task: str) -> DataFailure | None:
    """The failure of a param that the task does not know; names are told, values never."""
    if not params or params.keys() <= known:
        return None
    name = sorted(params.keys() - known)[0][:64]
    takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
    return DataFailure(Code.VALIDATE_PARAMS, f"param {name!r} is unknown to task {task}: {takes}")
