"""A `python:` model that is fixed while it runs, for the tests of the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamer.model import Input


class Fixed:
    """Answers `{"ok": 1}`; raises for texts with the word FLAW until the file named by the option `fixed` is there."""

    version = "fixed-1"
    probe = "probe"
    cacheable = False

    def __init__(self, options: dict[str, Any]) -> None:
        self.fixed = Path(options["fixed"])

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        if any("FLAW" in one.text for one in inputs) and not self.fixed.exists():
            raise ZeroDivisionError("division by zero in head 3")
        return [{"ok": 1} for _ in inputs]
