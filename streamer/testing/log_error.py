"""What the in-memory log refuses, under the names that Kafka has for it."""

from __future__ import annotations


class LogError(Exception):
    """A broker's error; `code` is Kafka's name of it, e.g. ILLEGAL_GENERATION."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
