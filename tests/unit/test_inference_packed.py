"""Encoders without padding: the padded network's numbers, or padding. A GPU's kernel alone is not run on a CPU."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch.nn.attention import varlen

from streamer.inference.backends import packed_attention, packed_encoder, ways
from streamer.inference.backends.packed_attention import UnpackableError, attend_packed, packs
from streamer.inference.backends.packed_encoder import PackedEncoder
from streamer.inference.channel import Done, Started
from streamer.inference.model import CPU_BATCHING, CUDA_BATCHING, Batching, Encoded, cut
from streamer.inference.models.tokenizer import Row
from streamer.inference.worker.forwarder import Computation, Forwarder
from tests.tiny_models import (
    BERT,
    DEBERTA,
    DISTILBERT,
    ELECTRA,
    MOBILEBERT,
    MODERNBERT,
    MPNET,
    ROBERTA,
    XLM_ROBERTA,
    tiny,
)
from tests.unit.tasks_kit import TEXTS, Event, counted_passes, model_of, near, outputs

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

PACKABLE = (BERT, ROBERTA, DISTILBERT, MODERNBERT, ELECTRA, XLM_ROBERTA)
HEADS = {
    "embedding": ("", ()),
    "text-classification": ("ForSequenceClassification", ("negative", "neutral", "positive")),
    "rerank": ("ForSequenceClassification", ("relevant",)),
    "token-classification": ("ForTokenClassification", ("O", "PER", "LOC")),
    "question-answering": ("ForQuestionAnswering", ("start", "end")),
    "fill-mask": ("ForMaskedLM", ()),
}
SPREAD = 0.2  # scores lie well between 0 and 1


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether networks that are loaded from now on run packed, on this machine's CPU too."""

    def choose(wanted: bool) -> None:
        monkeypatch.setattr(ways, "packs", lambda device, dtype, parameters: wanted)
        monkeypatch.setattr(ways, "score", lambda compute, rows, threads: 1.0)  # whatever is faster

    return choose


def made(path: Path, architecture: str, task: str, **config: Any) -> Path:
    head, labels = HEADS[task]
    return tiny(path / "model", architecture, head, labels=labels or ("a", "b"), spread=SPREAD, **config)


def both(path: Path, task: str, pack: Callable[[bool], None], **options: Any) -> tuple[Any, Any]:
    """The same files served packed and padded."""
    pack(True)
    packed: Any = model_of(path, task, **options)
    pack(False)
    plain: Any = model_of(path, task, **options)
    assert packed._packed is not None
    assert plain._packed is None
    assert packed.card == msgspec.structs.replace(plain.card, load_s=packed.card.load_s)
    return packed, plain


def rows_of(model: Any) -> list[Row]:
    """The known inputs, one as long as the model reads, and one of one token; shuffled."""
    rows = [row for one in model.encode_checks() for row in one.content.rows]
    one_token = Row([model.tokenizer.mask_id], None)
    rows += [joined(rows, model.tokenizer.max_tokens), one_token, rows[0]]
    assert len(rows[-3].ids) == model.tokenizer.max_tokens
    return [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]


def joined(rows: Sequence[Row], most: int) -> Row:
    """One row of all tokens, at most so many."""
    ids = [one for row in rows for one in row.ids][:most]
    types = [one for row in rows for one in row.type_ids or [0] * len(row.ids)][:most]
    return Row(ids, types if any(types) else None)


def agree(packed: Any, plain: Any, rows: list[Row]) -> None:
    """All in one pass, and each alone, equal each alone and padded."""
    expected = [plain._pass([row])[0] for row in rows]
    for given in (packed._pass(rows), packed.compute(rows), [packed._pass([row])[0] for row in rows]):
        for own, alone in zip(given, expected, strict=True):
            if packed._spec.task == "fill-mask":  # a row has the most masks of its pass
                own, alone = own[:1], alone[:1]
            np.testing.assert_allclose(own, alone, atol=1e-4)


# --- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", PACKABLE)
@pytest.mark.parametrize("task", list(HEADS))
def test_packed_numbers_are_the_padded_ones(
    architecture: str, task: str, tmp_path: Path, pack: Callable[[bool], None]
) -> None:
    """Of mixed lengths in one pass, of one token, and alone; pairs have their types."""
    packed, plain = both(made(tmp_path, architecture, task), task, pack)
    agree(packed, plain, rows_of(plain))


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, MODERNBERT])
def test_answers_are_the_padded_ones(architecture: str, tmp_path: Path, pack: Callable[[bool], None]) -> None:
    """Through a worker's forward batches: single texts and pairs, short and cut ones."""
    path = made(tmp_path, architecture, "text-classification")
    packed, plain = both(path, "text-classification", pack, top_k=3)
    events: list[Event] = [*TEXTS, *[(text, "it works") for text in TEXTS]]
    for own, expected in zip(outputs(packed, events), outputs(plain, events), strict=True):
        assert own["label"] == expected["label"]
        assert own["scores"] == [{"label": one["label"], "score": near(one["score"])} for one in expected["scores"]]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("architecture", [BERT, ROBERTA])
def test_padding_on_the_left_is_packed_too(
    architecture: str, pooling: str, tmp_path: Path, pack: Callable[[bool], None]
) -> None:
    """Positions are counted from a sequence's own first token."""
    packed, plain = both(made(tmp_path, architecture, "embedding"), "embedding", pack, pooling=pooling)
    packed.tokenizer.pads_left = True
    agree(packed, plain, rows_of(plain))


def test_a_padding_token_in_a_text_keeps_its_position(tmp_path: Path, pack: Callable[[bool], None]) -> None:
    """RoBERTa does not count padding tokens, not even those that a text spells out."""
    packed, plain = both(made(tmp_path, ROBERTA, "embedding"), "embedding", pack)
    pad = plain.tokenizer.pad_id
    agree(packed, plain, [Row([0, 7, pad, 8, 9, 2], None), Row([0, 9, 2], None)])


def test_a_row_without_a_token_harms_no_other(tmp_path: Path, pack: Callable[[bool], None]) -> None:
    """Its own numbers are no worse than padded: not finite."""
    packed, plain = both(made(tmp_path, BERT, "embedding"), "embedding", pack)
    row, empty = Row([0, 9, 2], None), Row([], None)
    own, nothing = packed._pass([row, empty])
    np.testing.assert_allclose(own, plain._pass([row])[0], atol=1e-5)
    assert not np.isfinite(nothing).all()
    assert not np.isfinite(plain._pass([row, empty])[1]).all()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [DEBERTA, MPNET])
def test_attention_that_cannot_be_exchanged_runs_padded(
    architecture: str, tmp_path: Path, pack: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why; it is no warning."""
    caplog.set_level(logging.INFO)
    pack(True)
    model: Any = model_of(made(tmp_path, architecture, "embedding"), "embedding")
    assert model._packed is None
    assert model.batching == CPU_BATCHING
    assert "runs padded: its attention can't be exchanged" in caplog.text
    assert [one for one in caplog.records if one.levelno > logging.INFO] == []


def fell_back(model: Any, path: Path, task: str, pack: Callable[[bool], None]) -> None:
    """It is the plain network again, with its own attention and numbers."""
    assert model._packed is None
    assert model.batching == CPU_BATCHING
    assert not any(isinstance(module, PackedEncoder) for module in model.network.modules())
    pack(False)
    plain: Any = model_of(path, task)
    assert model.network.config._attn_implementation == plain.network.config._attn_implementation
    agree(model, plain, rows_of(plain))


@pytest.mark.parametrize("task", ["embedding", "token-classification"])
def test_wrong_positions_are_noticed(
    task: str,
    tmp_path: Path,
    pack: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """RoBERTa's positions counted from 0 give other numbers: a warning, and padding."""
    path = made(tmp_path, ROBERTA, task)
    monkeypatch.setattr(packed_encoder, "_numbering", lambda encoder: None)
    pack(True)
    model: Any = model_of(path, task)
    (warning,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "runs padded, not packed: it is" in warning.message
    fell_back(model, path, task, pack)


def test_an_encoder_that_reads_its_neighbours_is_noticed(
    tmp_path: Path, pack: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    """MobileBERT's embeddings join each token with those beside it, which packed belong to another text."""
    path = made(tmp_path, MOBILEBERT, "text-classification", normalization_type="layer_norm")
    pack(True)
    model: Any = model_of(path, "text-classification")
    assert "runs padded, not packed: it is" in caplog.text
    fell_back(model, path, "text-classification", pack)


def test_a_window_of_attention_is_noticed_when_it_is_wrong(
    tmp_path: Path, pack: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Off by one token, ModernBERT's local attention gives other numbers."""
    path = made(tmp_path, MODERNBERT, "embedding")
    plain: Callable[..., torch.Tensor] = packed_attention._by_length
    monkeypatch.setattr(
        packed_attention, "_by_length", lambda *given: plain(*given[:-1], given[-1] + 1 if given[-1] else None)
    )
    pack(True)
    model: Any = model_of(path, "embedding")
    assert "runs padded, not packed: it is" in caplog.text
    fell_back(model, path, "embedding", pack)


def test_a_kernel_that_raises_costs_no_more_than_a_word(
    tmp_path: Path, pack: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever torch says against this GPU or this width, the padded network serves."""

    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("no kernel for this device")

    caplog.set_level(logging.INFO)
    path = made(tmp_path, BERT, "rerank")
    monkeypatch.setattr(packed_attention, "_by_length", fail)
    pack(True)
    model: Any = model_of(path, "rerank")
    assert "runs padded, not packed: RuntimeError" in caplog.text
    fell_back(model, path, "rerank", pack)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"cu_seq_lens_q": None}, "where a sequence ends"),
        ({"attention_mask": torch.ones(1, 1, 3, 3)}, "its own mask"),
        ({"is_causal": True}, "causal"),
        ({"is_causal": None}, "causal"),  # torch's own attention takes a module for causal unless it says no
        ({"softcap": 30.0}, "softcap"),
        ({"key": torch.zeros(1, 1, 3, 8)}, "not of one shape"),
    ],
)
def test_attention_refuses_what_it_would_compute_wrongly(named: dict[str, Any], words: str) -> None:
    """A bias, a mask or a cap that it does not know of is never left out in silence."""
    given = {name: torch.zeros(1, 2, 3, 8) for name in ("query", "key", "value")}
    bounds = torch.tensor([0, 3], dtype=torch.int32)
    known = {"attention_mask": None, "is_causal": False, "cu_seq_lens_q": bounds, "max_length_q": 3}
    with pytest.raises(UnpackableError, match=words):
        attend_packed(torch.nn.Module(), **(given | known | named))


def test_where_packing_is_tried() -> None:
    """On a GPU in half precision, which its kernel takes; on a CPU where arithmetic is what a pass costs."""
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert packs(gpu, torch.bfloat16, 0)
    assert packs(gpu, torch.float16, 0)
    assert not packs(gpu, torch.float32, 0)
    assert packs(cpu, torch.bfloat16, 20_000_000)
    assert packs(cpu, torch.float32, 20_000_000)
    assert not packs(cpu, torch.float16, 20_000_000)
    assert not packs(cpu, torch.float32, 1_000_000)


@pytest.mark.parametrize(("seconds", "packed"), [((2.0, 1.0), True), ((1.0, 2.0), False)])
def test_the_faster_way_is_taken_and_remembered(
    seconds: tuple[float, float],
    packed: bool,
    tmp_path: Path,
    pack: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Padded is timed, then packed: at the first start on a machine alone, and the next ones do as it did."""
    path = made(tmp_path, BERT, "embedding")
    pack(True)
    turns = iter(seconds)
    monkeypatch.setattr(ways, "score", lambda compute, rows, threads: next(turns))
    for _ in range(2):
        model: Any = model_of(path, "embedding")
        assert (model._packed is not None) == model.batching.packed == packed
        assert next(turns, None) is None
    agree(model, model, rows_of(model))


# --- attention --------------------------------------------------------------------------------------------------------


def in_plain_words(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bounds: list[int], scale: float, reach: int | None
) -> torch.Tensor:
    """(tokens, heads, d): one mask over all tokens, in double precision."""
    sequence = torch.bucketize(torch.arange(len(queries)), torch.tensor(bounds[1:]), right=True)
    place = torch.arange(len(queries))
    seen = sequence[:, None] == sequence
    if reach is not None:
        seen &= (place[:, None] - place).abs() <= reach
    scores = torch.einsum("qhd,khd->hqk", queries.double(), keys.double()) * scale
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, values.double())


@pytest.mark.parametrize("window", [None, 1, 2, 4, 64])
@pytest.mark.parametrize("lengths", [[1], [7], [3, 3, 3], [9, 1, 5, 1]])
def test_each_sequence_attends_to_itself(lengths: list[int], window: int | None) -> None:
    """Within its window where it has one: a token's own place and `window - 1` to either side."""
    bounds = [0, *np.cumsum(lengths).tolist()]
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, bounds[-1], 8) for _ in range(3))
    attended, weights = attend_packed(
        torch.nn.Module(),
        query,
        key,
        value,
        None,
        scaling=0.3,
        sliding_window=window,
        is_causal=False,
        cu_seq_lens_q=torch.tensor(bounds, dtype=torch.int32),
        max_length_q=max(lengths),
    )
    queries, keys, values = (part[0].transpose(0, 1) for part in (query, key, value))
    expected = in_plain_words(queries, keys, values, bounds, 0.3, None if window is None else window - 1)
    assert weights is None
    assert attended.shape == (1, bounds[-1], 2, 8)
    torch.testing.assert_close(attended[0].double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("reach", "window"), [(None, (-1, -1)), (8, (8, 8))])
def test_the_kernel_is_called_as_torch_declares_it(
    reach: int | None, window: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the signature of the real function, with its shapes and types: (tokens, heads, d), bounds in int32."""
    signature = inspect.signature(varlen.varlen_attn)
    called: list[dict[str, Any]] = []

    def kernel(*args: Any, **named: Any) -> torch.Tensor:
        called.append(signature.bind(*args, **named).arguments)
        return torch.zeros_like(args[0])

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    parts = queries, keys, values = tuple(torch.randn(6, 2, 8, dtype=torch.bfloat16) for _ in range(3))
    bounds = torch.tensor([0, 4, 6], dtype=torch.int32)
    assert packed_attention._by_kernel(queries, keys, values, bounds, 4, 0.25, reach).shape == (6, 2, 8)
    (given,) = called
    assert all(given[name] is part for name, part in zip(("query", "key", "value"), parts, strict=True))
    assert given["cu_seq_q"] is bounds
    assert given["cu_seq_k"] is bounds
    assert (given["max_q"], given["max_k"], given["scale"], given["window_size"]) == (4, 4, 0.25, window)
    assert set(given) == {
        "query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k", "scale", "window_size"
    }  # fmt: skip


@pytest.mark.parametrize("architecture", [BERT, MODERNBERT])
def test_an_encoder_hands_the_kernel_what_it_takes(
    architecture: str, tmp_path: Path, pack: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In half precision all but the kernel's own numbers is run here: the shapes, types and bounds of every layer."""
    seen: list[int | None] = []
    plain = packed_attention._by_length

    def note(*given: Any) -> torch.Tensor:
        queries, keys, values, bounds, longest, scale, reach = given
        for part in (queries, keys, values):
            assert part.shape == (14, 4, 8)
            assert part.dtype is torch.bfloat16
            assert part.stride(-1) == 1  # the kernel reads heads as they lie
        assert (bounds.dtype, bounds.tolist()) == (torch.int32, [0, 6, 8, 13, 14])
        assert type(longest) is int
        assert (longest, scale) == (6, pytest.approx(8**-0.5))
        seen.append(reach)
        return plain(*given)

    pack(True)
    model: Any = model_of(made(tmp_path, architecture, "embedding"), "embedding", dtype="bfloat16")
    monkeypatch.setattr(packed_attention, "_by_length", note)
    model._pass([Row([0] + [7] * (length - 1), None) for length in (6, 2, 5, 1)])
    assert seen == ([None, 8] if architecture == MODERNBERT else [None, None])


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_packed_batch_is_bounded_by_its_real_tokens() -> None:
    """Padded 100 × 6 would not fit into 400; what is padded for the head stays below twice the real."""
    sizes = [(100, 1), (60, 5)]
    plain = Batching(400, 2.0, 0)
    packed = replace(plain, packed=True)
    assert cut(sizes, plain) == 1
    assert cut([(100, 1)] + [(60, 1)] * 5, plain) == 4
    assert cut([(100, 1)] + [(60, 1)] * 5, packed) == 6
    assert (plain.computed(sizes), packed.computed(sizes)) == (600, 400)
    assert cut([(100, 1)] + [(1, 1)] * 50, packed) == 2


def test_a_packed_model_is_given_mixed_lengths(tmp_path: Path, pack: Callable[[bool], None]) -> None:
    """Rows that padding would part share a pass, and a worker tells what it computed in real tokens."""
    packed, plain = both(made(tmp_path, BERT, "embedding"), "embedding", pack)
    assert packed.batching.packed
    assert not plain.batching.packed
    assert not CUDA_BATCHING.packed
    rows = [Row([0] * length, None) for length in range(1, 48) for _ in range(2)]
    passes = {name: counted_passes(model) for name, model in (("packed", packed), ("plain", plain))}
    for own, expected in zip(packed.compute(rows), plain.compute(rows), strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-4)
    assert len(passes["packed"]) < len(passes["plain"])
    sent: list[Started | Done] = []
    encoded = [one for one in packed.encode(TEXTS, None, None) if isinstance(one, Encoded)]
    Forwarder(packed, sent.append).run([Computation(number, one) for number, one in enumerate(encoded)])
    done = [one for one in sent if isinstance(one, Done)]
    assert sum(one.computed_tokens for one in done) == sum(one.tokens for one in encoded)
