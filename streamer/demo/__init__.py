"""What the demo streams and what it classifies it with: real tweets, a dozen poison records, a small model.

Data and model lie beside this file; their origin and licences are in `data/NOTICE.md` and the model's `README.md`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

USERS = 200

_HERE = Path(__file__).parent


class Poison(msgspec.Struct, frozen=True):
    """A record that must end without a result.

    `expect` is the code of its dead letter, or "skipped"; `why` says what is wrong with it. A `value` of None is a
    tombstone.
    """

    name: str
    value: bytes | None
    headers: list[tuple[str, bytes]]
    expect: str
    why: str


class _Repeated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    before: str
    repeat: str
    times: int
    after: str


class _PoisonLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of poison.jsonl: the value as text, in base64 or as a repetition; a tombstone has none of them."""

    name: str
    expect: str
    why: str
    value_text: str | None = None
    value_base64: str | None = None
    value_repeated: _Repeated | None = None
    headers: dict[str, str] = {}

    def value(self) -> bytes | None:
        if self.value_base64 is not None:
            return base64.b64decode(self.value_base64, validate=True)
        if self.value_repeated is not None:
            part = self.value_repeated
            return (part.before + part.repeat * part.times + part.after).encode()
        return None if self.value_text is None else self.value_text.encode()


def events() -> Iterator[tuple[bytes, bytes]]:
    """Yield the key and value of 3,000 events, always in the same order; a tenth repeats an earlier text.

    Keys are those of 200 users, so that records spread over partitions and each user's stay in order. Values are JSON:
    `{"id", "text", "metadata": {"human_score"}}`, the score the mean of human ratings from -4 to 4.
    """
    with (_HERE / "data" / "tweets.jsonl").open("rb") as lines:
        for line in lines:
            value = line.rstrip(b"\n")
            user = int.from_bytes(hashlib.sha256(value).digest()[:4], "big") % USERS
            yield b"user-%03d" % user, value


def poison() -> list[Poison]:
    """Return the poison records, no two of the same name."""
    lines = (_HERE / "data" / "poison.jsonl").read_bytes()
    return [
        Poison(
            name=line.name,
            value=line.value(),
            headers=[(name, header.encode()) for name, header in line.headers.items()],
            expect=line.expect,
            why=line.why,
        )
        for line in msgspec.json.Decoder(_PoisonLine).decode_lines(lines)
    ]


def model_directory() -> Path:
    """Return the directory of `sentiment-micro`, a text-classification model with labels negative and positive."""
    return _HERE / "models" / "sentiment-micro"
