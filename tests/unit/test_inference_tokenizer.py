"""Texts to rows: what the tokenizer's files ask, as transformers' own call on one text does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import Code, DataFailure
from streamer.inference.models.tokenizer import Given, TextTokenizer
from tests.tiny_models import BERT, MODERNBERT, XLM_ROBERTA, tiny

MAX_TOKENS = 12


def edited(path: Path, **fields: Any) -> Path:
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return path


@pytest.fixture(scope="module", params=[BERT, MODERNBERT, XLM_ROBERTA])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of each kind: word pieces, bytes, unigrams."""
    return tiny(tmp_path_factory.mktemp("tokenizer"), request.param, "", max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module", params=["left", "right"])
def cut(request: pytest.FixtureRequest, files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Ours and transformers', which keep the end of a long text or its beginning."""
    path = tmp_path_factory.mktemp("cut")
    for file in files.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    edited(path, truncation_side=request.param)
    return TextTokenizer(path), transformers.AutoTokenizer.from_pretrained(path)


LETTERS = st.text(st.sampled_from("ab é映🙂.,'- \n"), max_size=40)
# Of words, of one very long word, of white space alone: shorter and longer than what is cut before it is tokenised.
LONG = st.builds(lambda text, count: text * count, LETTERS, st.sampled_from([1, 1, 1, 1, 8, 60]))


# An empty second text is none for transformers.
PAIR = st.tuples(LONG, LONG.filter(bool))


@given(texts=st.lists(LONG | PAIR, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_text_is_cut_as_transformers_cuts_it(cut: tuple[Any, Any], texts: list[Given]) -> None:
    """Also the one that is too long to be tokenised whole."""
    ours, theirs = cut
    for text, encoding in zip(texts, ours.encode(texts), strict=True):
        pair = text if isinstance(text, tuple) else (text,)
        expected = theirs(*pair, truncation=True, max_length=MAX_TOKENS)
        row = ours.row(encoding, text)
        assert row.ids == expected["input_ids"]
        if "token_type_ids" in expected:
            assert (row.type_ids or [0] * len(row.ids)) == expected["token_type_ids"]


def test_types_of_single_texts_are_kept(files: Path, tmp_path: Path) -> None:
    """XLNet marks the last token of a text by a type of its own."""
    for file in files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = transformers.AutoTokenizer.from_pretrained(tmp_path)
    start, end = vocabulary.cls_token, vocabulary.sep_token
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": end, "type_id": 0}},
            {"SpecialToken": {"id": start, "type_id": 2}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            name: {"id": name, "ids": [vocabulary.convert_tokens_to_ids(name)], "tokens": [name]}
            for name in (start, end)
        },
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    edited(tmp_path, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    ours = TextTokenizer(tmp_path)
    (encoding,) = ours.encode(["a b"])
    assert not isinstance(encoding, DataFailure)
    row = ours.row(encoding, "a b")
    assert row.type_ids is not None
    assert row.type_ids[-1] == 2
    assert row.type_ids == transformers.AutoTokenizer.from_pretrained(tmp_path)("a b")["token_type_ids"]


def test_a_token_without_a_vector_is_refused(files: Path, tmp_path: Path) -> None:
    """One that was added to the tokenizer and not to the network: its text fails, no other."""
    theirs = transformers.AutoTokenizer.from_pretrained(files)
    known = len(theirs)
    theirs.add_tokens(["#new"])
    theirs.save_pretrained(tmp_path)
    ours = TextTokenizer(tmp_path)
    ours.fit(readable=None, known=known)
    fine, strange = ours.encode(["a b", "a #new b"])
    assert not isinstance(fine, DataFailure) and not isinstance(strange, DataFailure)
    assert ours.unreadable(fine) is None
    failure = ours.unreadable(strange)
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.VALIDATE_TEXT
    assert "#new" not in failure.message


def test_samples_are_the_same_for_the_same_seed(files: Path) -> None:
    """And of about the length that was asked for."""
    ours = TextTokenizer(files)
    assert ours.sample(40, 1) == ours.sample(40, 1) != ours.sample(40, 2)
