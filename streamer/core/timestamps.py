"""When a record was written, as far as its timestamp can be one.

Kafka takes any number. None at all, a negative one, zero, seconds or microseconds in the place of milliseconds would
make lags and latencies of decades, so that such a record counts as one that does not say.
"""

from __future__ import annotations

from typing import Final

NO_TIMESTAMP_MS: Final = -1
"""Kafka's own word for a record without timestamp."""

_FIRST_MS: Final = 10**12  # September 2001: Kafka is younger, and seconds since 1970 are smaller
_LAST_MS: Final = 10**14  # the year 5138: microseconds are larger


def written_ms(timestamp: tuple[int, int]) -> int | None:
    """Milliseconds since the epoch from a client's kind and number; None where they do not say."""
    kind, time_ms = timestamp
    return time_ms if kind and _FIRST_MS <= time_ms < _LAST_MS else None
