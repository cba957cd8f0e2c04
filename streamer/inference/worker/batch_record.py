"""What became of forward batches: whether the model can run several texts together at all."""

from __future__ import annotations

from dataclasses import dataclass

# So many forward batches in a row of which only the single texts succeeded: the model can't run batches.
HOPELESS_BATCHES = 3


@dataclass(slots=True)
class BatchRecord:
    """Whether batches of several texts are worth trying, from how each that raised ended.

    Where batches can run, a part of one raises for a text at fault in it: down to pairs and threes, of which two texts
    at most succeed for each that fails. A batch is hopeless when no part with more than one text succeeded, and more
    texts than that did alone.
    """

    hopeless: int = 0
    _raised: int = 0
    _succeeded: int = 0
    _alone: int = 0
    _at_fault: int = 0

    def note(self, texts: int, *, raised: bool) -> None:
        """One pass within the batch."""
        if texts > 1:
            self._raised += raised
            self._succeeded += not raised
        else:
            self._at_fault += raised
            self._alone += not raised

    def close(self) -> bool:
        """The batch is over; True when it is the one that shows that no batch can run."""
        tried = self._raised + self._succeeded > 0
        if tried:
            hopeless = not self._succeeded and self._alone > 2 * self._at_fault
            self.hopeless = self.hopeless + 1 if hopeless else 0
        self._raised = self._succeeded = self._alone = self._at_fault = 0
        return tried and self.hopeless == HOPELESS_BATCHES
