"""What the longest rows said of a model here, so that they are run once on a machine and not at every start."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from pathlib import Path

from streamer.inference.models import kept

log = logging.getLogger(__name__)


class Verdict:
    """The way of running that was held to a model's longest rows under these circumstances, all that it hangs on, and
    how many tokens those rows had. `way` is None where that was never done."""

    def __init__(self, circumstances: tuple[object, ...]) -> None:
        name = hashlib.sha256(repr(circumstances).encode()).hexdigest()
        self._path: Path = kept.root() / "agreed" / name
        self.way: str | None = None
        self.tokens = 0
        try:
            tokens, way = self._path.read_text().split(" ", 1)
            self.tokens, self.way = int(tokens), way
        except (OSError, ValueError):
            pass

    def keep(self, way: str, tokens: int) -> None:
        """Remember; a directory that can't be written costs time at the next start."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                file.write(f"{tokens} {way}")
            Path(file.name).replace(self._path)
        except OSError as error:
            log.warning("the check of the model's longest texts is not remembered: %s", error.strerror)
