"""A token bucket: how many of n things may be done now, at a rate and after a pause a little more."""

from __future__ import annotations


class TokenBucket:
    """Fills with `rate_per_s` tokens a second up to `burst` (one second's worth unless told); full at first.

    Times are seconds of any one monotonic clock; one that goes backwards gives no tokens and takes none.
    """

    def __init__(self, rate_per_s: float, burst: float | None = None) -> None:
        self._rate_per_s = rate_per_s
        self._burst = rate_per_s if burst is None else burst
        self._tokens = self._burst
        self._filled_at: float | None = None

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` may be done, from 0 to all; these are taken from the bucket."""
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self._rate_per_s)
        self._filled_at = now
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted
