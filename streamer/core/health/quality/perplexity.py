"""How surprised a language model is."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from streamer.core.health.quality.counts import Count

MOST_NATS: Final = 700.0
"""The most for a token: a float can hold no perplexity of many more."""


class Perplexity(msgspec.Struct):
    """Sums over texts: log-likelihood in nats, of as many predicted tokens. `unscored` texts are too short for one."""

    log_likelihood: float = 0.0
    tokens: Count = 0
    texts: Count = 0
    unscored: Count = 0

    def add(self, log_likelihood: float | None, tokens: int, weight: Count = 1) -> None:
        """Count a text `weight` times."""
        if log_likelihood is None or not tokens:
            self.unscored += weight
            return
        self.log_likelihood += weight * log_likelihood
        self.tokens += weight * tokens
        self.texts += weight

    @property
    def value(self) -> float | None:
        """The perplexity of all tokens together. Each counts the same, whatever text it stands in; see `perplexity`."""
        return perplexity(self.log_likelihood, self.tokens)


def perplexity(log_likelihood: float, tokens: Count) -> float | None:
    """`exp(-log_likelihood / tokens)`; None where no token was predicted, and where it is too large for a number."""
    if not tokens or -log_likelihood / tokens > MOST_NATS:
        return None
    return math.exp(-log_likelihood / tokens)
