"""fill-mask, against transformers' pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import pipeline

from streamer.errors import Code, DataFailure, ModelError
from tests.tiny_models import BERT, DISTILBERT, MODERNBERT, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, model_of, near, outcomes, outputs, reference

# DeBERTa compiles parts of itself by torch.jit at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DISTILBERT, MODERNBERT])
def test_candidates_are_those_of_the_pipeline(architecture: str, tmp_path: Path) -> None:
    """Tokens, their numbers and scores for each mask, with more or fewer masks and candidates in the same batch."""
    path = tiny(tmp_path, architecture, "ForMaskedLM")
    network, tokenizer = reference(path, "ForMaskedLM")
    theirs = pipeline("fill-mask", network, tokenizer=tokenizer)
    mask = tokenizer.mask_token
    texts = [f"{mask} {text}" for text in TEXTS[:6]] + [f"{mask} the {mask}{mask} 東京", mask]
    top_k = [number % 4 + 1 for number in range(len(texts))]
    events: list[Event] = [(text, None, {"top_k": k}) for text, k in zip(texts, top_k, strict=True)]
    model = model_of(path, "fill-mask")
    for text, k, output in zip(texts, top_k, outputs(model, events), strict=True):
        expected: Any = theirs(text, top_k=k)
        for ours, own in zip(
            output["candidates"], expected if isinstance(expected[0], list) else [expected], strict=True
        ):
            assert [one["token_id"] for one in ours] == [one["token"] for one in own]
            assert [one["token"] for one in ours] == [one["token_str"] for one in own]
            assert [one["score"] for one in ours] == near([one["score"] for one in own])
    assert [len(one) for one in outputs(model, [texts[-2]])[0]["candidates"]] == [5, 5, 5]


def test_the_head_sees_masks_only(tmp_path: Path) -> None:
    """The logits of a whole vocabulary are made for the masks, not for every token."""
    model: Any = model_of(tiny(tmp_path, BERT, "ForMaskedLM"), "fill-mask")
    seen: list[tuple[int, ...]] = []
    hook = model.network.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: seen.append(tuple(logits.shape))
    )
    outputs(model, ["the [MASK] was good", "a film"[:1] + " [MASK] [MASK]"])
    hook.remove()
    assert np.array(seen)[:, 1].max() == 2


def test_a_text_without_mask_is_refused(tmp_path: Path) -> None:
    """Also one whose mask lies beyond what the model reads."""
    model = model_of(tiny(tmp_path, BERT, "ForMaskedLM"), "fill-mask")
    without, beyond, fine = outcomes(model, ["the film", TEXTS[6] + "[MASK]", "[MASK]"])
    assert isinstance(without, DataFailure)
    assert (without.code, "[MASK]" in without.message) == (Code.VALIDATE_TEXT, True)
    assert isinstance(beyond, DataFailure)
    assert beyond.code is Code.INFER_TOO_LONG
    assert isinstance(fine, dict)


def test_a_tokenizer_without_mask_is_refused(tmp_path: Path) -> None:
    """At load."""
    path = tiny(tmp_path, BERT, "ForMaskedLM")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (path / name).is_file():
            (path / name).write_text((path / name).read_text().replace('"mask_token"', '"no_mask"'))
    with pytest.raises(ModelError, match="mask"):
        model_of(path, "fill-mask")
