"""The process's own memory of answers, bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from streamer.core.record import Answer

ENTRY_OVERHEAD_BYTES: Final = 384
"""What an entry costs beside the bytes of its output: key, `Answer`, measures, bytes headers, hash slot and list node.
277 to 348 bytes by tracemalloc on CPython 3.11 with 20,000 to 180,000 entries, plus a tenth for the allocator."""


class LRU:
    """Answers by key, the least recently used dropped when the sum of their sizes would pass `capacity_bytes`.

    What comes out is marked `cached`. An answer larger than the whole capacity is not kept; a capacity of 0 keeps
    nothing. Not safe for use from several threads.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.size_bytes = 0
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get_many(self, keys: Iterable[bytes]) -> list[Answer | None]:
        """One entry a key, None for a miss; what is found becomes the most recently used."""
        answers = self._answers
        find, touch = answers.get, answers.move_to_end
        found = []
        for key in keys:
            answer = find(key)
            if answer is not None:
                touch(key)
                if not answer.cached:  # marked when it is first asked for: many never are
                    answer = answers[key] = Answer(
                        answer.output, answer.truncated, True, answer.tokens, False, answer.measures
                    )
            found.append(answer)
        return found

    def put_many(self, entries: Iterable[tuple[bytes, Answer]]) -> None:
        """Keep these answers; an entry of the same key is replaced."""
        answers, capacity, size = self._answers, self.capacity_bytes, self.size_bytes
        for key, answer in entries:
            before = answers.pop(key, None)
            if before is not None:
                size -= len(before.output) + ENTRY_OVERHEAD_BYTES
            added = len(answer.output) + ENTRY_OVERHEAD_BYTES
            if added > capacity:
                continue
            size += added
            while size > capacity:
                size -= len(answers.popitem(last=False)[1].output) + ENTRY_OVERHEAD_BYTES
            answers[key] = answer
        self.size_bytes = size

    def get(self, key: bytes) -> Answer | None:
        """The answer kept for `key`, or None."""
        return self.get_many((key,))[0]

    def put(self, key: bytes, answer: Answer) -> None:
        """Keep one answer."""
        self.put_many(((key, answer),))
