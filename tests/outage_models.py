"""A `python:` model with a bad version, for the story of an outage."""

from __future__ import annotations

from typing import Any

from streamer.model import Input


class Flawed:
    """Answers `{"n": N}` to a text that begins with the number N.

    Option `flaw` F (default 0, none): raises for each N that F divides; `always` is a list of numbers for which every
    version raises.
    """

    version = "flawed-1"
    probe = "1 probe"
    cacheable = False

    def __init__(self, options: dict[str, Any]) -> None:
        self.flaw = int(options.get("flaw", 0))
        self.always = {int(number) for number in options.get("always", ())}

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        numbers = [int(one.text.split()[0]) for one in inputs]
        for number in numbers:
            if (self.flaw and number % self.flaw == 0) or number in self.always:
                raise ZeroDivisionError(f"division by zero in head {number}")
        return [{"n": number} for number in numbers]
