"""The token budget that was left when memory ran out, remembered for each model, device and dtype.

One JSON file each, so that workers of several drivers never mix their findings. It is forgotten after a week: the
memory may have been short because of somebody else's program.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from pathlib import Path

import msgspec

from streamer.core.pipeline.protocol import ModelCard
from streamer.inference.models import kept

log = logging.getLogger(__name__)

REMEMBERED_S = 7 * 86400.0
_DIGEST_CHARACTERS = 32


class _Remembered(msgspec.Struct, frozen=True):
    tokens: int
    model: str
    device: str
    dtype: str


class MemoryBudget:
    """Tokens of a forward batch that a model's device has memory for."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        names = (card.revision[:_DIGEST_CHARACTERS], card.task, card.backend, card.dtype, card.device or "none")
        self.path: Path = kept.root() / "budgets" / (re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(names)) + ".json")

    def read(self) -> int | None:
        """What was remembered within the last week; None when nothing was, or nothing that can be read."""
        try:
            if time.time() - self.path.stat().st_mtime > REMEMBERED_S:
                return None
            tokens = msgspec.json.decode(self.path.read_bytes(), type=_Remembered).tokens
        except (OSError, msgspec.MsgspecError):
            return None
        return tokens if tokens > 0 else None

    def write(self, tokens: int) -> None:
        """Remember; another worker's lower figure is overwritten at most until that one runs out again."""
        found = _Remembered(tokens, self._card.name, self._card.device, self._card.dtype)
        log.warning(
            "out of memory on %s: forward batches of %s now hold at most %d tokens (remembered in %s)",
            self._card.device or "the device",
            self._card.name,
            tokens,
            self.path,
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(found))
            Path(name).replace(self.path)
        except OSError as error:
            log.warning("the lower token budget is not remembered: %s", error.strerror)
