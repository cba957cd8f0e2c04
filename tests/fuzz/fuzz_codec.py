"""Looks for a record that stops the process, guided by the branches that it reaches.

Run `python tests/fuzz/fuzz_codec.py -runs=1000000`, or with any other option of libFuzzer's
(https://llvm.org/docs/LibFuzzer.html#options). It needs Linux and atheris.

An input is read from both ends (FuzzedDataProvider): choices from its end, bytes from its start. So a value, two zeros
and the number of a form make an input, and these are what it starts from.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["streamer.core"]):
    from tests.fuzz.fate import SHAPES, check
    from tests.fuzz.seeds import FORMS, NAMES, VALUES
    from tests.records import FakeRecord

MORE_HEADERS = 4
HEADER_BYTES = 300


def run(data: bytes) -> None:
    """Make a record of the input, and check what must hold for any."""
    provider = atheris.FuzzedDataProvider(data)
    headers = list(FORMS[provider.ConsumeIntInRange(0, len(FORMS) - 1)])
    for _ in range(provider.ConsumeIntInRange(0, MORE_HEADERS)):
        name = provider.ConsumeIntInRange(0, len(NAMES))
        length = provider.ConsumeIntInRange(0, HEADER_BYTES)
        headers.append(
            (
                NAMES[name] if name < len(NAMES) else provider.ConsumeUnicodeNoSurrogates(length),
                provider.ConsumeBytes(length) if length < HEADER_BYTES else None,
            )
        )
    key = provider.ConsumeBytes(8) if provider.ConsumeIntInRange(0, 1) else None
    value = provider.ConsumeBytes(provider.remaining_bytes())
    for shape in range(len(SHAPES)):
        check(FakeRecord(value or (None if key else b""), key, headers), shape)


def seed(folder: Path) -> None:
    """Write the inputs to begin with."""
    for number, value in enumerate(VALUES):
        for form in range(len(FORMS)):
            (folder / f"{number}-{form}").write_bytes(value + bytes([0, 0, form]))


def main() -> int:
    """Fuzz in a child, since libFuzzer ends its process; returns the exit code, not 0 when an input raised."""
    with TemporaryDirectory() as corpus:
        seed(Path(corpus))
        child = os.fork()
        if child == 0:
            atheris.Setup([*sys.argv, corpus], run)
            atheris.Fuzz()
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
