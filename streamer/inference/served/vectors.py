"""Vectors of a server as answers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from streamer.core.record import Answer
from streamer.inference.backends.numbers import float32_lists
from streamer.inference.served.api import MalformedError
from streamer.inference.tasks.measuring import of_vectors


def vector_answers(vectors: list[list[float]], tokens: Sequence[int], dimensions: int | None) -> list[Answer]:
    """One answer a vector, as the task embedding writes them. Raises `MalformedError` for what are no vectors."""
    widths = {len(vector) for vector in vectors}
    if len(vectors) != len(tokens) or len(widths) != 1 or 0 in widths:
        raise MalformedError("it has not one vector for each text, all of one length")
    if dimensions is not None and widths != {dimensions}:
        raise MalformedError(f"its vectors have {widths.pop()} numbers, and option dimensions asks for {dimensions}")
    rows = np.array(vectors, dtype=np.float64).astype(np.float32)
    if not np.isfinite(rows).all():
        raise MalformedError("a number of its vectors is none")
    encode, width = msgspec.json.Encoder().encode, rows.shape[1]
    return [
        Answer(encode({"vector": vector, "dimensions": width}), tokens=count, measures=measured)
        for vector, count, measured in zip(
            float32_lists(rows), tokens, of_vectors([0] * len(vectors), rows), strict=True
        )
    ]
