"""A pipeline's settings as its reports name them: a digest, and those that differ from the defaults."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from streamer.config.load import Config, redacted
from streamer.config.pipeline import DEFAULTS

MAX_CHARS: Final = 200
DIGEST_CHARS: Final = 12


def digest_of(config: Config, name: str) -> str:
    """Another one where a setting of the pipeline is another; secrets do not count, which could be guessed from it."""
    found = msgspec.json.encode(redacted(config)["pipelines"][name], order="sorted")
    return hashlib.sha256(found).hexdigest()[:DIGEST_CHARS]


def settings_of(config: Config, name: str) -> dict[str, str]:
    """Those that differ from the defaults, as JSON, secrets hidden and long ones cut."""
    shown = redacted(config)["pipelines"][name]
    return {
        field: msgspec.json.encode(value, order="sorted").decode()[:MAX_CHARS]
        for field, value in shown.items()
        if value not in ([], {}) and value != DEFAULTS.get(field)
    }
