"""One event for each task, to try a model with."""

from __future__ import annotations

from typing import Any, Final

TEXT: Final = "What a fine day"

_SAMPLES: Final[dict[str, dict[str, Any]]] = {
    "token-classification": {"text": "Ada met Grace in London"},
    "embedding": {"text": "a parcel"},
    "similarity": {"text": "parcel", "text_pair": "box"},
    "rerank": {"text": "parcel", "params": {"candidates": ["box", "cat"]}},
    "zero-shot-classification": {
        "text": "my parcel is late",
        "params": {"candidate_labels": ["delivery", "praise"]},
    },
    "question-answering": {"text": "Ada wrote it in 1843.", "params": {"question": "When?"}},
    "summarization": {"text": "The parcel left on Monday, waited in a depot for a week, and came today."},
    "translation": {"text": "The parcel is late"},
    "text2text-generation": {"text": "Make it a question: it rains."},
    "text-generation": {"text": "Once upon a time", "params": {"max_new_tokens": 20}},
}


def sample_event(task: str, *, mask_token: str = "[MASK]") -> dict[str, Any]:
    """An event that a model of the task answers, without an id; for a task that nobody knows a text."""
    if task == "fill-mask":
        return {"text": f"Paris is the {mask_token} of France."}
    return _SAMPLES.get(task, {"text": TEXT})
