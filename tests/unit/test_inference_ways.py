"""Which rows share passes, how long they may be, and what every faster way is held to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from streamer.inference.backends import check_rows, torch_model
from streamer.inference.backends.agreement import Agreement, exact, twin
from streamer.inference.backends.positions import readable_tokens
from streamer.inference.model import CPU_BATCHING, Batching, Sharing, cut
from streamer.inference.models import kept
from streamer.inference.models.tokenizer import Row
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from tests.tiny_models import BERT, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, counted_passes, model_of, near, outputs

CLASSES = "ForSequenceClassification"


# --- what may share a pass --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.sampled_from(list(Sharing)))
def test_rows_share_passes_as_they_may(lengths: list[int], sharing: Sharing) -> None:
    """Of one length, or alone; and no more tokens than a pass holds, but for a single row."""
    sizes = [(length, 1) for length in sorted(lengths, reverse=True)]
    batching = Batching(1000, 2.0, 10, sharing=sharing)
    while sizes:
        count = cut(sizes, batching)
        taken, sizes = sizes[:count], sizes[count:]
        assert len(taken) == count >= 1
        assert count == 1 or taken[0][0] * count <= 1000
        if sharing is Sharing.EQUAL:
            assert len({length for length, _ in taken}) == 1
        if sharing is Sharing.ALONE:
            assert count == 1


def numbers(*values: float) -> Any:
    return np.array(values, np.float32)


def first_difference(one: Any, other: Any) -> float:
    return float(abs(one[0] - other[0]))


@pytest.mark.parametrize(
    ("run", "agrees"),
    [
        (lambda rows: [numbers(len(row.ids)) for row in rows], {*Sharing}),
        (lambda rows: [numbers(max(len(row.ids) for row in rows)) for row in rows], {Sharing.EQUAL, Sharing.ALONE}),
        (lambda rows: [numbers(len(row.ids) + len(rows)) for row in rows], {Sharing.ALONE}),
        (
            lambda rows: [numbers(1 / len(row.ids) - 1 / 5) for row in rows] if len(rows) == 1 else 1 / 0,
            {Sharing.ALONE},
        ),
    ],
    ids=["right", "reads its padding", "mixes rows", "takes no batch"],
)
def test_a_batch_that_changes_a_row_is_noticed(run: Callable[[Any], list[Any]], agrees: set[Sharing]) -> None:
    """By the rows of other lengths beside it, and by those of its own."""
    rows = [Row([1, 2, 3], None), Row([1, 5, 6, 7, 2], None), Row([1, 7, 5, 6, 2], None)]
    known = Agreement(rows[:2], [])
    known.short.append(rows[2])
    known.refer(run)
    for sharing in Sharing:
        try:
            off = known.distance(run, sharing, first_difference, alone=False)
        except ZeroDivisionError:
            off = float("inf")
        assert (off <= 1e-4) == (sharing in agrees)


def test_rows_that_are_not_finite_alone_tell_nothing() -> None:
    """But one that is finite alone must be so everywhere."""
    known = Agreement([Row([1], None), Row([2, 2], None)], [])
    known.refer(lambda rows: [numbers(float("nan") if row.ids == [1] else 1.0) for row in rows])
    assert [row.ids for row in known.short] == [[2, 2]]
    assert np.isnan(known.distance(lambda rows: [numbers(float("nan")) for _ in rows], Sharing.ALONE, first_difference))


def test_float32_is_held_to_every_number() -> None:
    """A family's own distance may be blind for one: two long vectors with an angle that its cosine does not show."""
    blind = exact(lambda one, other: 0.0)
    assert blind(numbers(1.0, 1e-3), numbers(1.0, 0.0)) == pytest.approx(1e-3)
    assert blind(numbers(1000.0, 0.05), numbers(1000.0, 0.0)) == pytest.approx(5e-5)
    assert np.isnan(blind(numbers(float("nan")), numbers(1.0)))


def test_a_twin_has_the_same_tokens_elsewhere() -> None:
    """And keeps its first and last."""
    row = Row([0, 5, 6, 7, 8, 9, 2], [0, 0, 0, 1, 1, 1, 1])
    other = twin(row, 1)
    assert (other.ids[0], other.ids[-1], sorted(other.ids)) == (0, 2, sorted(row.ids))
    assert other.ids != row.ids
    assert other.type_ids == row.type_ids
    assert [len(twin(Row(list(range(n)), None), 0).ids) for n in range(4)] == [0, 1, 2, 3]


def test_a_network_that_takes_no_batch_is_served_one_by_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """GPT-2's classifier finds a row's last token by its padding token, which these files lack: said once."""
    path = tiny(tmp_path, BERT, CLASSES)
    size = len(transformers.AutoTokenizer.from_pretrained(path))
    config = transformers.GPT2Config(  # type: ignore[call-arg]
        vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=48, pad_token_id=None, num_labels=3
    )
    torch.manual_seed(0)
    transformers.GPT2ForSequenceClassification(config).save_pretrained(path)  # type: ignore[no-untyped-call]
    model: Any = model_of(path, "text-classification")
    assert model.batching.sharing is Sharing.ALONE
    assert caplog.text.count("no texts share a pass") == 1
    assert "Cannot handle batch sizes > 1" in caplog.text
    seen = counted_passes(model)
    together = outputs(model, TEXTS)
    assert set(seen) == {1}
    assert together == [outputs(model, [text])[0] for text in TEXTS]


# --- how long a row may be --------------------------------------------------------------------------------------------

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 40}
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 1},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "opt": {"ffn_dim": 16, "word_embed_proj_dim": 16},
    "bart": {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    | {"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    "longformer": {"attention_window": 4},
    "xlm": {"emb_dim": 16, "n_layers": 1, "n_heads": 2},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}


ARCHITECTURES = (
    "albert bart bert camembert data2vec-text distilbert electra ernie esm fnet gpt2 layoutlm longformer luke "
    "megatron-bert mobilebert mpnet nystromformer opt rembert roberta roberta-prelayernorm roc_bert xlm xlm-roberta "
    "xlm-roberta-xl xmod yoso"
)


@pytest.mark.parametrize("architecture", ARCHITECTURES.split())
def test_a_row_is_as_long_as_its_positions_reach(architecture: str) -> None:
    """Neither longer, which would fail, nor shorter, which would cut what the model can read."""
    config = transformers.AutoConfig.for_model(
        architecture, **{**SMALL, "max_position_embeddings": 20, "pad_token_id": 1, **OWN.get(architecture, {})}
    )
    torch.manual_seed(0)
    network: Any = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    longest = readable_tokens(network.eval())
    assert longest is not None

    def runs(tokens: int) -> bool:
        try:
            with torch.inference_mode():
                network(input_ids=torch.full((1, tokens), 7))
        except (IndexError, RuntimeError):
            return False
        return True

    assert runs(longest)
    assert longest == 20 or not runs(longest + 1)


def test_positions_that_cannot_be_read_are_found_by_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the network says more than it can do, its longest row is looked for."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(torch_model, "readable_tokens", lambda network, **how: 4000)
    path = tiny(tmp_path, ROBERTA, CLASSES, max_tokens=48)
    (path / "tokenizer_config.json").write_text(
        (path / "tokenizer_config.json").read_text().replace('"model_max_length": 48', '"model_max_length": 1e30')
    )
    model: Any = model_of(path, "text-classification")
    assert model.card.max_tokens == 48
    assert "reads 48 tokens, not 4000" in caplog.text
    outputs(model, ["the film was good " * 200])


# --- what is remembered -----------------------------------------------------------------------------------------------


def longest_of_a_start(path: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> int:
    """The longest row that a start runs."""
    seen = [0]
    passing = torch_model.TorchModel._pass

    def watched(self: Any, rows: Any) -> Any:
        seen[0] = max(seen[0], *(len(row.ids) for row in rows))
        return passing(self, rows)

    monkeypatch.setattr(torch_model.TorchModel, "_pass", watched)
    model_of(path, "text-classification", **fields)
    monkeypatch.setattr(torch_model.TorchModel, "_pass", passing)
    return seen[0]


def test_the_longest_rows_are_run_once_on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again for another way, other files, or a memory that can't be read."""
    path = tiny(tmp_path / "model", BERT, CLASSES, max_tokens=400)
    assert longest_of_a_start(path, monkeypatch) == 400
    assert longest_of_a_start(path, monkeypatch) < 400
    assert longest_of_a_start(path, monkeypatch, dtype="bfloat16") == 400
    for file in (kept.root() / "agreed").iterdir():
        file.write_bytes(b"\xff\x00")
    assert longest_of_a_start(path, monkeypatch) == 400
    assert longest_of_a_start(path, monkeypatch) < 400
    for file in (kept.root() / "agreed").iterdir():
        file.write_text("another way")
    assert longest_of_a_start(path, monkeypatch) == 400
    tiny(path, BERT, CLASSES, max_tokens=400, seed=1)
    assert longest_of_a_start(path, monkeypatch) == 400


def test_a_memory_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The model serves, and the log says so."""
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setattr(kept, "root", lambda: tmp_path / "file")
    assert longest_of_a_start(tiny(tmp_path / "model", BERT, CLASSES), monkeypatch)
    assert "is not remembered" in caplog.text


def test_what_was_not_held_to_long_rows_does_not_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the longest row costs too much to try, longer ones than those tried run alone, in the plain network."""
    path = tiny(tmp_path, BERT, CLASSES, max_tokens=400)
    plain: Any = model_of(path, "text-classification", top_k=3)
    weights = (
        sum(one.numel() for one in plain.network.parameters()) - plain.network.get_input_embeddings().weight.numel()
    )
    monkeypatch.setattr(check_rows, "CPU_CHECK_FLOP", 2 * weights * 120)

    def wrong_beyond(network: Any, **_: Any) -> Any:
        def call(**given: Any) -> Any:
            output = network(**given)
            if given["input_ids"].shape[1] > 150:
                output.logits = torch.randn_like(output.logits)
            return output

        return call

    monkeypatch.setattr(torch, "compile", wrong_beyond)
    spec = WorkerSpec("test", "text-classification", str(path), dtype="float32", compile=True, options={"top_k": 3})
    model: Any = load(spec)
    events = [text * count for text in TEXTS[:3] for count in (1, 3, 60, 61)]
    for own, expected in zip(outputs(model, events), outputs(plain, events), strict=True):
        assert own["label"] == expected["label"]
        assert own["scores"] == [{"label": one["label"], "score": near(one["score"])} for one in expected["scores"]]


def test_memory_that_does_not_do_says_nothing_of_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Texts are cut where the network's positions end, whatever the machine has room for; and it is tried again."""
    path = tiny(tmp_path, BERT, CLASSES, max_tokens=400)
    passing = torch_model.TorchModel._pass

    def short_of_memory(self: Any, rows: Any) -> Any:
        if max(len(row.ids) for row in rows) > 390:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return passing(self, rows)

    monkeypatch.setattr(torch_model.TorchModel, "_pass", short_of_memory)
    model: Any = model_of(path, "text-classification")
    assert model.card.max_tokens == 400
    assert "too little memory even for a single text of 400 tokens" in caplog.text
    assert not list((kept.root() / "agreed").glob("*"))
    monkeypatch.setattr(torch_model.TorchModel, "_pass", passing)
    assert longest_of_a_start(path, monkeypatch) == 400


def test_batching_of_a_cpu_is_padded_where_nothing_speaks_against_it(tmp_path: Path) -> None:
    """The usual case costs nothing."""
    model: Any = model_of(tiny(tmp_path, BERT, CLASSES), "text-classification")
    assert model.batching == CPU_BATCHING
