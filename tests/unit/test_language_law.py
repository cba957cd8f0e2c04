"""Any batch, any order: each text of a language model is answered as it is alone by plain transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from streamer.errors import ModelError
from streamer.inference.backends.batch_check import sharing_of
from streamer.inference.model import Sharing
from streamer.inference.tasks.scoring import NO_PREDICTED_TOKEN
from streamer.inference.tasks.text_generation import TextGeneration
from tests.generation_kit import Loop, Plain, generation
from tests.language_models import (
    DECODERS,
    END_ID,
    MORE_DECODERS,
    MORE_SEQ2SEQS,
    MULTILINGUAL,
    SEQ2SEQS,
    edit_json,
    tiny_decoder,
    tiny_multilingual,
    tiny_seq2seq,
)
from tests.unit.tasks_kit import model_of, near, outputs

pytestmark = pytest.mark.usefixtures("fewer_checked_tokens")

# Of one token to more than the models read; some longer than their windows of local attention.
TEXTS = [
    "The film was good",
    "é 映画 🎬 naïve",
    "a",
    " ",
    "Two\nlines, to be longer than a window is.",
    "x" * 150,
    "ab",
]
NEW_TOKENS = [5, 9, 5, 1, 9, 5, 12]
ORDERS = st.permutations(range(len(TEXTS)))
SOME = settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module", params=[*DECODERS, *MORE_DECODERS])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal model of each architecture."""
    return tiny_decoder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module", params=[*SEQ2SEQS, *MORE_SEQ2SEQS])
def seq2seq(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder-decoder of each architecture."""
    return tiny_seq2seq(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module", params=MULTILINGUAL)
def multilingual(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny translator of many languages with each tokenizer."""
    return tiny_multilingual(tmp_path_factory.mktemp(request.param), request.param)


class PlainTranslator:
    """transformers as its documentation shows it, one text at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._network: Any = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32).eval()

    def __call__(self, text: str, src_lang: str | None = None, tgt_lang: str | None = None, **options: Any) -> str:
        tokenizer: Any = AutoTokenizer.from_pretrained(self._path, **({"src_lang": src_lang} if src_lang else {}))
        if tgt_lang is not None:
            options["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(tgt_lang)
        encoded = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.inference_mode():
            row = self._network.generate(
                input_ids=encoded.input_ids, attention_mask=encoded.attention_mask, do_sample=False, **options
            )[0]
        return str(tokenizer.decode(row, skip_special_tokens=True))


def test_scores_are_those_of_each_text_alone(decoder: Path) -> None:
    """Whatever the architecture keeps of a row, and however far it sees."""
    tokenizer: Any = AutoTokenizer.from_pretrained(decoder)
    network: Any = AutoModelForCausalLM.from_pretrained(decoder, dtype=torch.float32)
    network.eval()
    expected = []
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt", truncation=True).input_ids
        with torch.inference_mode():
            found = network(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].tolist()
        expected.append(found)
    model = model_of(decoder, "scoring", per_token=True)

    @SOME
    @given(order=ORDERS)
    def law(order: list[int]) -> None:
        for index, output in zip(order, outputs(model, [TEXTS[one] for one in order]), strict=True):
            own = expected[index]
            assert [one["log_likelihood"] for one in output["per_token"]] == near(own)
            if own:
                assert output["perplexity"] == pytest.approx(math.exp(-math.fsum(own) / len(own)), rel=1e-3)
            else:
                assert output["perplexity"] is output["log_likelihood"] is None
                assert output["reason"] == NO_PREDICTED_TOKEN

    law()


def test_generated_texts_are_those_of_each_prompt_alone(decoder: Path) -> None:
    """Whether they stream, share plain batches, or run one by one."""
    plain = Plain(decoder)
    cut = [plain.ids(text, 128 - most) for text, most in zip(TEXTS, NEW_TOKENS, strict=True)]
    expected = [plain.generate(ids, max_new_tokens=most) for ids, most in zip(cut, NEW_TOKENS, strict=True)]
    drawn: dict[str, Any] = {"temperature": 1.5, "seed": 7}
    sample = plain.generate(plain.ids("ab"), max_new_tokens=6, **drawn)
    with generation(decoder) as model:

        @SOME
        @given(order=ORDERS, place=st.integers(0, len(TEXTS)))
        def law(order: list[int], place: int) -> None:
            texts = [TEXTS[one] for one in order]
            params: list[Any] = [{"max_new_tokens": NEW_TOKENS[one]} for one in order]
            texts.insert(place, "ab")
            params.insert(place, {"max_new_tokens": 6, **drawn})
            found = Loop(model).run(texts, params)
            assert found.pop(place) == sample
            assert found == [expected[one] for one in order]

        law()


@pytest.mark.parametrize("beams", [1, 3])
def test_targets_are_those_of_each_source_alone(seq2seq: Path, beams: int) -> None:
    """Padded where the network allows it."""
    plain = PlainTranslator(seq2seq)
    expected = [plain(text, max_new_tokens=most, num_beams=beams) for text, most in zip(TEXTS, NEW_TOKENS, strict=True)]
    model = model_of(seq2seq, "text2text-generation", num_beams=beams)

    @SOME
    @given(order=ORDERS)
    def law(order: list[int]) -> None:
        found = outputs(model, [(TEXTS[one], None, {"max_new_tokens": NEW_TOKENS[one]}) for one in order])
        assert [output["text"] for output in found] == [expected[one] for one in order]

    law()


def test_a_source_language_holds_for_its_own_text_alone(multilingual: Path) -> None:
    """An event that names none is read in the language of the tokenizer's files, whatever came before."""
    plain = PlainTranslator(multilingual)
    german, french = ("deu_Latn", "fra_Latn") if multilingual.name.startswith("nllb") else ("de_DE", "fr_XX")
    asked: list[dict[str, Any]] = [
        {},
        {"src_lang": german},
        {"tgt_lang": french},
        {"src_lang": french, "tgt_lang": german},
        {"src_lang": german, "tgt_lang": french},
    ]
    text = "the parcel is late"
    expected = [plain(text, max_new_tokens=8, **one) for one in asked]
    assert len(set(expected)) > 1  # the languages matter here
    model = model_of(multilingual, "translation", max_new_tokens=8)

    @SOME
    @given(order=st.lists(st.sampled_from(range(len(asked))), min_size=1, max_size=12))
    def law(order: list[int]) -> None:
        found = outputs(model, [(text, None, asked[one]) for one in order])
        assert [output["text"] for output in found] == [expected[one] for one in order]

    law()


@pytest.mark.parametrize(("kind", "sharing"), [("t5", Sharing.PADDED), ("bart", Sharing.EQUAL)])
def test_left_padding_is_held_against_single_sources(tmp_path: Path, kind: str, sharing: Sharing) -> None:
    """It moves learned positions, and relative ones it does not."""
    path = tiny_seq2seq(tmp_path, kind)
    edit_json(path / "tokenizer_config.json", lambda config: config | {"padding_side": "left"})
    model: Any = model_of(path, "text2text-generation", max_new_tokens=6)
    assert model.sharing is sharing
    plain = PlainTranslator(path)
    assert [one["text"] for one in outputs(model, TEXTS)] == [plain(text, max_new_tokens=6) for text in TEXTS]


@pytest.mark.parametrize("pad", [100_000, None])
def test_a_pad_token_that_the_network_lacks_is_found_at_load(
    tmp_path: Path, pad: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """And batches run all the same, at full speed."""
    path = tiny_seq2seq(tmp_path, "bart")
    edit_json(path / "generation_config.json", lambda fields: fields | {"pad_token_id": pad})
    edit_json(path / "tokenizer_config.json", lambda config: config | {"pad_token": "<start>" if pad else None})
    if pad:
        edit_json(path / "config.json", lambda config: config | {"pad_token_id": 0})
    model: Any = model_of(path, "text2text-generation", max_new_tokens=6)
    assert model.sharing is Sharing.PADDED
    plain = PlainTranslator(path)
    expected = [plain(text, max_new_tokens=6, pad_token_id=END_ID) for text in TEXTS]
    assert [one["text"] for one in outputs(model, TEXTS)] == expected


@pytest.mark.parametrize("task", ["scoring", "text-generation"])
def test_what_is_no_language_model_is_refused(tmp_path: Path, task: str) -> None:
    """An encoder looks ahead; an encoder-decoder's decoder knows nothing of its encoder."""
    from transformers import BertConfig, BertLMHeadModel

    from tests.language_models import VOCABULARY, write_byte_tokenizer

    path = tmp_path / "encoder"
    path.mkdir()
    write_byte_tokenizer(path, 64)
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **shape)
    network = BertLMHeadModel(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    network.save_pretrained(path)
    with pytest.raises(ModelError, match=r"not a language model.*is_decoder is false"):
        model_of(path, task)
    with pytest.raises(ModelError, match=r"is_encoder_decoder is true.*text2text-generation"):
        model_of(tiny_seq2seq(tmp_path / "bart", "bart"), task)
    edit_json(path / "config.json", lambda config: config | {"is_decoder": True})
    model = model_of(path, task)
    if isinstance(model, TextGeneration):
        model.close()


def test_a_decoder_is_no_encoder_decoder(tmp_path: Path) -> None:
    """And is refused by the word of its configuration."""
    with pytest.raises(ModelError, match=r"is_encoder_decoder is false.*text-generation"):
        model_of(tiny_decoder(tmp_path, "gpt2"), "summarization")


@pytest.mark.parametrize(("padding", "sharing"), [(0, Sharing.PADDED), (1, Sharing.EQUAL)])
def test_a_check_that_memory_does_not_do_for_is_asked_of_shorter_rows(padding: int, sharing: Sharing) -> None:
    """That a batch is too large for this device does not say that its rows answer otherwise in company."""
    longest = 64

    def numbers(rows: Any) -> list[torch.Tensor]:
        width = max(map(len, rows))
        if len(rows) > 1 and width > longest // 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [torch.tensor([float(sum(row) + padding * (width - len(row)))]) for row in rows]

    rows = [list(range(length)) for length in (1, 3, 7, 20, longest)]
    assert sharing_of(rows, numbers, exact=True) is sharing
