"""fill-mask, against transformers' pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, pipeline

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.tasks.fill_mask import only
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


def test_a_mask_takes_the_space_before_it(tmp_path: Path) -> None:
    """As RoBERTa's does, in the middle of a word, and in capitals that the tokenizer does not tell apart."""
    path = tiny(tmp_path, ROBERTA, "ForMaskedLM")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    for added in tokenizer["added_tokens"]:
        if added["content"] == "<mask>":
            added |= {"lstrip": True, "normalized": True}
    tokenizer["normalizer"] = {"type": "Lowercase"}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    network, plain = reference(path, "ForMaskedLM")
    theirs = pipeline("fill-mask", network, tokenizer=plain)
    texts = ["the   <mask> was", "pünkt<mask>lich", "the <MASK> was <mask>"]
    for text, output in zip(texts, outputs(model_of(path, "fill-mask"), [*texts]), strict=True):
        expected: Any = theirs(text)
        expected = expected if isinstance(expected[0], list) else [expected]
        assert [[one["token_id"] for one in own] for own in output["candidates"]] == [
            [one["token"] for one in own] for own in expected
        ]


def test_no_more_candidates_than_tokens(tmp_path: Path) -> None:
    """Where more are asked for."""
    path = tiny(tmp_path, BERT, "ForMaskedLM")
    network, _ = reference(path, "ForMaskedLM")
    ((candidates,),) = (output["candidates"] for output in outputs(model_of(path, "fill-mask", top_k=1000), ["[MASK]"]))
    assert sorted(one["token_id"] for one in candidates) == list(range(network.config.vocab_size))


_LAYERS = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bart": _LAYERS | {"encoder_attention_heads": 4, "decoder_attention_heads": 4},
    "big_bird": {},
    "camembert": {},
    "convbert": {"embedding_size": 32},
    "deberta": {},
    "deberta-v2": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "esm": {},
    "fnet": {"tpu_short_seq_length": 16},
    "ibert": {},
    "longformer": {"attention_window": [8, 8]},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 32, "num_feedforward_networks": 1},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 16},
    "mpnet": {},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "roberta-prelayernorm": {},
    "roformer": {"embedding_size": 32},
    "squeezebert": {f"{part}_groups": 1 for part in ("q", "k", "v", "post_attention", "intermediate", "output")},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "n_words": 50},
    "xlm-roberta-xl": {},
}


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_head_goes_by_the_vectors_of_the_masks(architecture: str) -> None:
    """Of all architectures the logits are those of the whole network, however many masks a row has."""
    torch.manual_seed(0)
    config = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 80,
        "embedding_size": 32,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "cls_token_id": 0,
        "sep_token_id": 2,
        **ARCHITECTURES[architecture],
    }
    network: Any = AutoModelForMaskedLM.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model(architecture, **config)
    ).eval()
    ids = torch.randint(5, 50, (3, 16))
    ids[:, 3] = ids[0, 9] = 4
    places = torch.argsort(ids.ne(4), dim=1, stable=True)[:, :2]
    with torch.inference_mode():
        for weights in network.parameters():
            weights += 0.3 * torch.randn_like(weights)
        whole = network(input_ids=ids, attention_mask=None).logits
        with only(network, places):
            narrow = network(input_ids=ids, attention_mask=None).logits
    assert narrow.shape == (3, 2, whole.shape[-1])
    assert torch.equal(narrow, whole[torch.arange(3)[:, None], places])


def test_a_text_of_masks_alone_beside_others(tmp_path: Path) -> None:
    """Where the tokenizer adds no token of its own, every token of a row may be a mask."""
    path = tiny(tmp_path, BERT, "ForMaskedLM")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    texts = ["[MASK] [MASK] [MASK]", "the [MASK] film"]
    model = model_of(path, "fill-mask")
    for text, output in zip(texts, outputs(model, [*texts]), strict=True):
        (alone,) = outputs(model, [text])
        assert [[one["token_id"] for one in own] for own in output["candidates"]] == [
            [one["token_id"] for one in own] for own in alone["candidates"]
        ]


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
