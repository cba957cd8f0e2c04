"""OpenVINO without padding: the padded torch network's numbers, or padding."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.inference.backends import ways
from streamer.inference.backends.openvino_network import OpenVinoNetwork
from streamer.inference.backends.packed_openvino import PackedOpenVinoNetwork, batching_of, layout_of
from streamer.inference.model import CPU_BATCHING
from streamer.inference.models import checks
from streamer.inference.models.tokenizer import Row
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from tests.tiny_models import BERT, DEBERTA, DISTILBERT, ELECTRA, MODERNBERT, ROBERTA, XLM_ROBERTA, tiny

# Not importorskip: importing it reports to its maker, unless our own code does.
pytestmark = [
    pytest.mark.skipif(not checks.has_openvino(), reason="needs the extra cpu"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]

HEADS = {
    "embedding": "",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
}
FAST = [(BERT, "text-classification"), (MODERNBERT, "token-classification")]
SLOW = [
    (architecture, task)
    for architecture in (BERT, ROBERTA, MODERNBERT, DISTILBERT, ELECTRA, XLM_ROBERTA)
    for task in HEADS
    if (architecture, task) not in FAST
]


@pytest.fixture(autouse=True)
def packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of any size are tried, and packed wins."""
    monkeypatch.setattr(ways, "packs", lambda device, dtype, parameters: True)
    monkeypatch.setattr(ways, "score", lambda compute, rows, threads: 1.0)


def made(path: Path, architecture: str, task: str) -> Path:
    return tiny(path / "model", architecture, HEADS[task], labels=("O", "PER", "LOC"), spread=0.2)


def served(path: Path, task: str, backend: str) -> Any:
    return load(WorkerSpec("test", task, str(path), dtype="float32", backend=backend))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("architecture", "task"),
    [*FAST, *(pytest.param(*one, marks=pytest.mark.every_way) for one in SLOW)],
)
def test_packed_numbers_are_the_padded_ones(architecture: str, task: str, tmp_path: Path) -> None:
    """Of mixed lengths in one pass and alone, padded on either side; also as it was kept for the next start."""
    path = made(tmp_path, architecture, task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "packs", lambda device, dtype, parameters: False)
        plain = served(path, task, "torch")
    rows = [row for one in plain.encode_checks() for row in one.content.rows]
    rows.append(Row(rows[0].ids[:1], None))
    expected = [plain._pass([row])[0] for row in rows]
    for _ in range(2):
        packed = served(path, task, "openvino")
        assert isinstance(packed.network, PackedOpenVinoNetwork)
        assert packed.batching.packed
        assert packed.card.backend == "openvino"
        for left in (False, True):
            packed.tokenizer.pads_left = left
            for found in (packed._pass(rows), packed.compute(rows), [packed._pass([row])[0] for row in rows]):
                for own, alone in zip(found, expected, strict=True):
                    np.testing.assert_allclose(own, alone, atol=1e-4)


def test_what_cannot_be_packed_runs_padded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why, and OpenVINO serves all the same."""
    caplog.set_level(logging.INFO)
    model = served(made(tmp_path, DEBERTA, "embedding"), "embedding", "openvino")
    assert isinstance(model.network, OpenVinoNetwork)
    assert not model.batching.packed
    assert model._packed is None
    assert "runs padded in OpenVINO: it can't be converted (its attention can't be exchanged)" in caplog.text


def test_the_faster_way_is_taken_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padded is timed, then packed; the next start does as the first one did."""
    path = made(tmp_path, BERT, "embedding")
    turns = iter([1.0, 2.0])
    monkeypatch.setattr(ways, "score", lambda compute, rows, threads: next(turns))
    for _ in range(2):
        model = served(path, "embedding", "openvino")
        assert isinstance(model.network, OpenVinoNetwork)
        assert not model.batching.packed
        assert next(turns, None) is None


def test_what_needs_no_padding_is_not_gathered(tmp_path: Path) -> None:
    """A single text, and texts of one length, go through the graph that is faster for them."""
    model = served(made(tmp_path, BERT, "embedding"), "embedding", "openvino")
    even: list[int] = []
    plain = model.network.even

    def count(*given: Any) -> Any:
        even.append(len(given[0]))
        return plain(*given)

    model.network.even = count
    one, other = Row([0, 9, 2], None), Row([0, 7, 8, 9, 2], None)
    alone = model._pass([one])[0]
    twice = model._pass([one, one])
    assert even == [1, 2]
    mixed = model._pass([one, other])
    assert even == [1, 2]
    for own in (*twice, mixed[0]):
        np.testing.assert_allclose(own, alone, atol=1e-5)


@pytest.mark.parametrize("pads_left", [False, True])
def test_every_place_knows_its_token(pads_left: bool) -> None:
    """Rows shorter than the longest share its width in attention; a place without a token has a neighbour's."""
    laid = layout_of(np.array([5, 1, 0, 3]), pads_left=pads_left)
    last = [7, 7, 7, 8, 9] if pads_left else [7, 8, 9, 7, 7]
    assert laid["rows"].tolist() == [[0, 1, 2, 3, 4], [5] * 5, [6] * 5, last]
    assert laid["positions"].tolist() == [0, 1, 2, 3, 4, 0, 0, 0, 1, 2]
    assert laid["tokens"].tolist() == ([0, 1, 2, 3, 4, 9, 14, 17, 18, 19] if pads_left else [*range(6), 10, 15, 16, 17])
    assert laid["slots"].tolist() == [[0, 1, 2, 3, 4], [7, 8, 9, 5, 6]]
    assert laid["owners"].tolist() == [[0] * 5, [3, 3, 3, 1, 2]]
    assert laid["places"].tolist() == [0, 1, 2, 3, 4, 8, 9, 5, 6, 7]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_rows_share_shelves_and_no_token_is_lost(lengths: list[int]) -> None:
    """Each row lies in one piece on one shelf, and all shelves but one are at least half full."""
    laid = layout_of(np.array(lengths), pads_left=False)
    owners, real = laid["owners"], sum(lengths)
    places, width = laid["places"][:real], owners.shape[1]
    assert len(set(places.tolist())) == real
    assert laid["slots"].flatten()[places].tolist() == list(range(real))
    assert owners.flatten()[places].tolist() == np.repeat(np.arange(len(lengths)), lengths).tolist()
    assert (owners >= 0).sum() == real
    for row, first in enumerate(np.cumsum([0, *lengths[:-1]])):
        own = places[first : first + lengths[row]]
        assert own.tolist() == list(range(own[0], own[0] + lengths[row]))
        assert own[0] // width == own[-1] // width
    assert ((owners >= 0).sum(axis=1) * 2 < width).sum() <= 1


def test_passes_have_few_sizes() -> None:
    """At most 6 % more tokens than there are make 16 sizes of each doubling; what is computed is counted. Texts of one
    length are computed as they are."""
    batching = batching_of(CPU_BATCHING)
    sizes = set()
    for count in range(4, 1025):
        lengths = [count - 1, 1]
        size = len(layout_of(np.array(lengths), pads_left=False)["tokens"])
        assert count <= size <= count * 1.0625
        assert batching.computed([(length, 1) for length in lengths]) == size
        assert len(layout_of(np.array([count, count]), pads_left=False)["tokens"]) == 2 * count
        assert batching.computed([(count, 1), (count, 1)]) == 2 * count
        sizes.add(size)
    assert len(sizes) == 29 + 5 * 16
