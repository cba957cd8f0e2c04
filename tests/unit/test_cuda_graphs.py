"""Recorded passes of packed encoders: the numbers of passes as they are, or none. A recorder on the CPU keeps the
contract of CUDA's graphs: it reads and writes buffers of its own, at each replay."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from streamer.inference.backends import cuda_graphs, packed_attention, ways
from streamer.inference.models.tokenizer import Row
from tests.tiny_models import BERT, DISTILBERT, MODERNBERT, ROBERTA, tiny
from tests.unit.tasks_kit import model_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

FAST, SLOW = (2.0, 1.0), (1.0, 2.0)
"""Seconds before and after."""


class Replays:
    """What was run is run again with what its buffers hold, into the one buffer that it gave."""

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None], int]:
        """As `CudaRecorder`'s."""
        self.recorded += 1
        given = torch.full_like(run(), float("nan"))
        return given, lambda: self.replay(given, run), 1

    def replay(self, given: torch.Tensor, run: Callable[[], torch.Tensor]) -> None:
        """One launch."""
        given.copy_(run())

    def forget(self) -> None:
        """As `CudaRecorder`'s."""


class Frozen(Replays):
    """Replays what the first pass gave, as a graph does whose inputs were not its buffers."""

    def record(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None], int]:
        """See the class."""
        first = run().clone()
        return super().record(lambda: first)


class Refuses(Replays):
    """A network that can't be recorded."""

    def record(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None], int]:
        """See the class."""
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks run packed here, and attention refuses what a kernel may not meet."""
    plain = packed_attention._by_length

    def strict(queries: Any, keys: Any, values: Any, bounds: Any, longest: int, *others: Any) -> Any:
        lengths = bounds.diff()
        assert 1 <= int(lengths.min()) <= int(lengths.max()) <= longest
        assert int(bounds[-1]) == len(queries)
        return plain(queries, keys, values, bounds, longest, *others)

    monkeypatch.setattr(packed_attention, "_by_length", strict)
    monkeypatch.setattr(ways, "packs", lambda device, dtype, parameters: True)
    monkeypatch.setattr(ways, "score", lambda compute, rows, threads: 1.0)


def served(path: Path, architecture: str = BERT, task: str = "embedding", head: str = "") -> Any:
    labels = ("start", "end") if head == "ForQuestionAnswering" else ("a", "b", "c")
    model: Any = model_of(tiny(path, architecture, head, labels=labels, spread=0.2), task)
    assert model._packed is not None
    return model


def take(model: Any, recorder: Any, seconds: tuple[float, float] = FAST) -> str:
    """As `Ways` does on a GPU."""
    clock = iter(seconds)
    found: str = model._packed.take_graphs(recorder, model.tokenizer.max_tokens, lambda: "", lambda: next(clock))
    return found


def rows(*lengths: int, seed: int = 0) -> list[Row]:
    draw = np.random.default_rng(seed)
    return [Row(draw.integers(5, 60, length).tolist(), None) for length in lengths]


@pytest.mark.parametrize(
    ("architecture", "task", "head"),
    [
        (BERT, "embedding", ""),
        (BERT, "text-classification", "ForSequenceClassification"),  # its encoder pools, and has types
        (ROBERTA, "token-classification", "ForTokenClassification"),  # numbers positions from its padding on
        (DISTILBERT, "question-answering", "ForQuestionAnswering"),
        (MODERNBERT, "embedding", ""),  # local attention, rotary positions
    ],
)
def test_recorded_numbers_are_those_of_passes_as_they_are(
    kernel: None, architecture: str, task: str, head: str, tmp_path: Path
) -> None:
    """Of one pass after the other through the same recording, shorter and longer ones, each twice."""
    model = served(tmp_path, architecture, task, head)
    passes = [rows(*one, seed=seed) for seed, one in enumerate([(9, 5, 3), (30,), (2, 14, 2), (48, 1), (7, 7), (1,)])]
    expected = [model._pass(one) for one in passes]
    assert take(model, Replays()).startswith("with CUDA graphs, 2.00")
    graphs = model._packed.graphs
    graphs.kept.after = 0
    graphs.replayed = 0
    for given, known in [*zip(passes, expected, strict=True)] * 2:
        for own, plain in zip(model._pass(given), known, strict=True):
            np.testing.assert_allclose(own, plain, atol=1e-5)
    assert graphs.replayed == 2 * len(passes)
    assert graphs.failed == ""


def test_what_was_given_away_is_no_recordings_own(kernel: None, tmp_path: Path) -> None:
    """The next replay leaves an earlier pass's hidden states as they are."""
    model = served(tmp_path)
    take(model, Replays())
    packed = model._packed
    packed.graphs.kept.after = 0
    given = []
    with torch.inference_mode():
        for fill in (7, 9):
            packed.lay(np.array([6, 3]), pads_left=False)
            given.append(packed(torch.full((2, 6), fill)).last_hidden_state)
            if len(given) == 1:
                kept = given[0].clone()
    assert torch.equal(given[0], kept)
    assert not torch.equal(given[0], given[1])
    assert packed.graphs.replayed > 2


def test_recordings_are_made_of_what_comes_often(kernel: None, tmp_path: Path) -> None:
    """The first passes of a kind run as they are; recordings go where memory runs out, and come again."""
    model, recorder = served(tmp_path), Replays()
    take(model, recorder)
    model.free_memory()
    assert len(model._packed.graphs.kept) == 0
    recorder.recorded = model._packed.graphs.replayed = 0
    for _ in range(cuda_graphs._AFTER + 2):
        model._pass(rows(9, 5))
    assert (recorder.recorded, model._packed.graphs.replayed) == (1, 2)


def test_a_recording_that_reads_old_inputs_is_refused(kernel: None, tmp_path: Path) -> None:
    """Its own first pass would be right; the next one through it is not."""
    model = served(tmp_path)
    expected = model._pass(rows(9, 5))
    said = take(model, Frozen())
    assert said.startswith("without CUDA graphs: a recorded pass is ")
    assert model._packed.graphs is None
    np.testing.assert_array_equal(model._pass(rows(9, 5)), expected)


def test_networks_that_can_not_be_recorded_run_as_they_are(kernel: None, tmp_path: Path) -> None:
    """It is said, and the answers are the same."""
    model = served(tmp_path)
    expected = model._pass(rows(9, 5))
    assert take(model, Refuses()).startswith("without CUDA graphs: RuntimeError at test_cuda_graphs.py:")
    np.testing.assert_array_equal(model._pass(rows(9, 5)), expected)


def test_a_replay_that_fails_later_costs_no_answer(
    kernel: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The pass runs as it is, one warning is said, and nothing is recorded again."""
    model, recorder = served(tmp_path), Replays()
    expected = model._pass(rows(9, 5))
    take(model, recorder)
    graphs = model._packed.graphs
    graphs.kept.after = 0
    model._pass(rows(9, 5))
    recorder.replay = Refuses().record  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            np.testing.assert_array_equal(model._pass(rows(9, 5)), expected)
    (said,) = (one.getMessage() for one in caplog.records)
    assert said.startswith("passes run without CUDA graphs from now on: TypeError at ")
    assert len(graphs.kept) == 0


@pytest.mark.parametrize(("seconds", "strays"), [(SLOW, ""), (FAST, "it is 0.5 away, more than 0.02")])
def test_graphs_have_to_be_right_and_to_pay(
    kernel: None, seconds: tuple[float, float], strays: str, tmp_path: Path
) -> None:
    """By the check that holds every way to the plain network, and by a race."""
    model = served(tmp_path)
    clock = iter(seconds)
    said = model._packed.take_graphs(Replays(), 48, lambda: strays, lambda: next(clock))
    assert said == f"without CUDA graphs: {strays or 'they make it 0.50 times as fast'}"
    assert model._packed.graphs is None


def test_what_a_head_asks_beside_is_not_recorded(kernel: None, tmp_path: Path) -> None:
    """Attention weights, for one: the recorded pass has none to give."""
    model = served(tmp_path)
    take(model, Replays())
    packed = model._packed
    packed.graphs.kept.after = packed.graphs.replayed = 0
    packed.lay(np.array([6, 3]), pads_left=False)
    with torch.inference_mode():
        found = packed(torch.full((2, 6), 7), output_hidden_states=True)
    assert found.hidden_states is not None
    assert packed.graphs.replayed == 0


def test_a_graph_is_captured_as_torch_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warmed up aside, captured once, all in one pool; with torch's own signatures, since no GPU is here."""
    order: list[str] = []

    def noted(name: str, given: Any = None) -> Any:
        def note(*_: Any, **__: Any) -> Any:
            order.append(name)
            return given

        return mock.create_autospec(getattr(torch.cuda, name), side_effect=note)

    stream, graph, context = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()
    context.__exit__.return_value = False
    reserved = iter([100, 130, 130, 150])
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, mock.MagicMock(return_value=context))
    monkeypatch.setattr(torch.cuda, "Stream", mock.MagicMock(return_value=stream))
    monkeypatch.setattr(torch.cuda, "current_stream", mock.create_autospec(torch.cuda.current_stream))
    monkeypatch.setattr(torch.cuda, "empty_cache", noted("empty_cache"))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", noted("graph_pool_handle", (0, 1)))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", mock.MagicMock(return_value=graph))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: next(reserved))
    capture = noted("graph", context)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    recorder, given = cuda_graphs.CudaRecorder(torch.device("cuda", 0)), torch.zeros(1)

    def run() -> torch.Tensor:
        order.append("run")
        return given

    found, replay, took = recorder.record(run)
    assert (found, replay, took) == (given, graph.replay, 30)
    assert order == ["graph_pool_handle", "run", "run", "empty_cache", "graph", "run"]
    recorder.record(run)
    assert order.count("graph_pool_handle") == 1
    assert capture.call_args.kwargs == {"pool": (0, 1), "capture_error_mode": "thread_local"}
    recorder.forget()
    reserved = iter([0, 0])
    recorder.record(run)
    assert order.count("graph_pool_handle") == 2
