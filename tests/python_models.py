"""`python:` models of the tests: what they answer is in their texts and options."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from streamer.model import Input


class Chatty:
    """Tells standard error and the log of each text, each time in other words."""

    version = "chatty-1"
    files: tuple[str, ...] = ()
    probe = "0 probe"

    def __init__(self, options: dict[str, Any]) -> None:
        """There is nothing to choose."""

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        for one in inputs:
            words = "of " * (hash(one.text) % 40)
            os.write(2, f"raw {words}{'x' * 100}\n".encode())
            print(f"printed {words}", file=sys.stderr)
            logging.getLogger("streamer.tests").warning("logged %s", words)
        return [{"n": int(one.text.split()[0])} for one in inputs]


class Obedient:
    """Answers `{"n": N}` to a text that begins with the number N, so that a test sees whose answer it reads.

    Words: RAISE raises · SEGV is a segmentation fault · HANG sleeps for an hour · NAN gives not-a-number ·
    HUGE adds 300,000 characters to the output, GIANT 100,000,000 · SLEEP waits for 3 s · PARRICIDE kills the driver.
    Options: `batch_ms` and `text_us` of sleep for each forward batch and for each text in it, `fail` to raise for all
    but the probe, `cacheable` (default False).
    """

    version = "obedient-1"
    files: tuple[str, ...] = ()
    probe = "0 probe"

    def __init__(self, options: dict[str, Any]) -> None:
        self.batch_s = float(options.get("batch_ms", 0)) / 1e3
        self.text_s = float(options.get("text_us", 0)) / 1e6
        self.fail = bool(options.get("fail", False))
        self.cacheable = bool(options.get("cacheable", False))

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        time.sleep(self.batch_s + self.text_s * len(inputs))
        return [self._answer(one.text) for one in inputs]

    def _answer(self, text: str) -> dict[str, Any]:
        number, *words = text.split()
        if "RAISE" in words or (self.fail and text != self.probe):
            raise ValueError(f"told to raise by {text}")
        if "SEGV" in words:
            ctypes.string_at(0)
        if "HANG" in words:
            time.sleep(3600)
        if "PARRICIDE" in words:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(3600)
        if "SLEEP" in words:
            time.sleep(3)
        if "NAN" in words:
            return {"n": float("nan")}
        if "GIANT" in words:
            return {"n": int(number), "padding": "x" * 100_000_000}
        if "HUGE" in words:
            return {"n": int(number), "padding": "x" * 300_000}
        return {"n": int(number)}


class Counted:
    """Answers with the label `LABELS[N % 3]` to a text that is the number N."""

    version = "counted-1"
    files: tuple[str, ...] = ()
    probe = "0"

    def __init__(self, options: dict[str, Any]) -> None:
        pass

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        numbers = [int(one.text) for one in inputs]
        return [{"label": LABELS[number % 3], "score": (number % 97) / 97} for number in numbers]


LABELS = ("anger", "fear", "joy")


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
