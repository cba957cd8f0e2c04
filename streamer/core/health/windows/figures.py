"""What people ask of a window: rates, shares and means of its sums. None where there is nothing to compute one from."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.core.health.quality.perplexity import perplexity as perplexity_of
from streamer.core.health.windows.window import Window
from streamer.core.report import MAX_LABELS, Histogram, percentile


def rate(window: Window, now_ms: int | None = None) -> float:
    """Results a second. For a window that has not ended at `now_ms`, only the time that has passed counts."""
    passed_ms = window.length_ms if now_ms is None else now_ms - window.start_ms
    if not 0 < passed_ms < window.length_ms:  # over, or of a clock that is ahead
        passed_ms = window.length_ms
    return window.results * 1000 / passed_ms


def dead_letter_share(window: Window) -> float | None:
    """Dead letters of all records that have their outcome."""
    return _share(sum(window.dead_letters.values()), window.records)


def cached_share(window: Window) -> float | None:
    """Results that came from memory or the cache."""
    return _share(window.cached, window.results)


def truncated_share(window: Window) -> float | None:
    """Results of texts that the model did not read to their end."""
    return _share(window.truncated, window.results)


def repeat_share(window: Window) -> float | None:
    """Results that were not computed for their record alone."""
    return _share(window.repeats, window.results)


def empty_share(window: Window) -> float | None:
    """Texts of nothing but white space."""
    return _share(window.empty, _total(window.text_chars))


def unknown_share(window: Window) -> float | None:
    """Tokens that the tokenizer does not know."""
    return _share(window.unknown_tokens, window.tokens)


def tokens_per_char(window: Window) -> float | None:
    """Tokens a character: it moves with the language and the encoding of the texts."""
    return _share(window.tokens, window.text_chars.sum) if window.tokens else None


def mean_chars(window: Window) -> float | None:
    """Characters a text."""
    return _share(window.text_chars.sum, _total(window.text_chars))


def latency_ms(window: Window, share: float) -> int | None:
    """The latency that this share of the records did not exceed, up to 26 % above it: histograms have ten bins a
    decade."""
    return percentile(dict(window.latency_ms.counts), share, window.latency_ms.max)


def mean_confidence(window: Window) -> float | None:
    """The mean score of the labels, from the middles of 20 bins: right to 0.025."""
    return _mean_of_bins(window.confidence)


def label_shares(window: Window, most: int = MAX_LABELS) -> dict[str, float]:
    """The most frequent labels first, then what is left as the label ""; nothing without labels."""
    labels = window.labels or {}
    total = sum(labels.values()) + window.other_labels
    ranked = sorted(labels.items(), key=lambda item: (-item[1], item[0]))[:most]
    shares = {label: count / total for label, count in ranked}
    rest = total - sum(count for _, count in ranked)
    return {**shares, "": rest / total} if rest else shares


def script_shares(window: Window) -> dict[str, float]:
    """Texts by their main script, the most frequent first."""
    scripts = window.scripts or {}
    total = sum(scripts.values())
    return {name: count / total for name, count in sorted(scripts.items(), key=lambda item: (-item[1], item[0]))}


def perplexity(window: Window) -> float | None:
    """The perplexity of all tokens together; also None where it is too large for a number."""
    found = window.likelihood
    return None if found is None else perplexity_of(found.log_likelihood, found.tokens)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _total(histogram: Histogram) -> int:
    return sum(count for _, count in histogram.counts)


def _mean_of_bins(bins: Sequence[int] | None) -> float | None:
    if not bins or not sum(bins):
        return None
    return sum((place + 0.5) * count for place, count in enumerate(bins)) / len(bins) / sum(bins)
