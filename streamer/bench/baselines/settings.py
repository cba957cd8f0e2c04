"""What the loops are told, as JSON on disk, and what others' ways to embed are called."""

from __future__ import annotations

from typing import Any

import msgspec

ARRIVAL, SORTED, SENTENCE = "transformers, as they come", "transformers, sorted", "sentence-transformers"


class RawSettings(msgspec.Struct, frozen=True, kw_only=True):
    """For `raw_loop`. It ends after `records` records; 0 is never."""

    consumer: dict[str, Any]
    producer: dict[str, Any]
    input: str
    output: str
    micro_batch_records: int
    records: int = 0
    wait: str = "full"


class EncodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """For `encode_loop`. `model` is a directory, `threads` those of torch; `records` a multiple of `batch_records`."""

    consumer: dict[str, Any]
    producer: dict[str, Any]
    input: str
    output: str
    model: str
    threads: int
    batch_records: int
    records: int


class HeaderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """For `header_loop`: `records` of `topic`, `batch_records` at a time."""

    consumer: dict[str, Any]
    topic: str
    partitions: int
    records: int
    batch_records: int
