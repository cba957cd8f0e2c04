"""The benchmark of the worker's own speed: real texts, fair turns, and figures that say what they mean."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch

from streamer.bench import files
from streamer.bench.baselines import encoders, file_encoder
from streamer.bench.baselines.settings import ARRIVAL, SORTED
from streamer.bench.device.speed import random_encoder, spec_of
from streamer.bench.harness.contenders import Elsewhere, Took
from streamer.bench.harness.program import BenchError
from streamer.bench.harness.texts import LONG_CHARACTERS, mixed_texts, real_texts
from streamer.bench.inference import OPENVINO, TORCH, Measured, inference_speed, which_dtypes
from streamer.bench.single_flight import _texts as flight_texts
from streamer.inference.models.device import choose_dtype
from streamer.inference.tasks.families import load
from tests.models import tiny_encoder


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """The benchmark sets its process up for one thread."""
    environment, threads = dict(os.environ), torch.get_num_threads()
    yield
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)


def test_the_texts_are_real_distinct_and_the_same_each_time() -> None:
    """Three sets of the lengths that their names say."""
    sets = real_texts(32)
    assert [len(one.texts) for one in sets] == [32, 16, 4]
    assert all(len(set(one.texts)) == len(one.texts) for one in sets)
    assert all(len(text) >= LONG_CHARACTERS for text in sets[2].texts)
    assert real_texts(32) == sets


@pytest.mark.every_way
@pytest.mark.slow
def test_all_ways_to_embed_agree(tmp_path: Path) -> None:
    """Ours and the others compute the same vectors, so their speeds may be compared; every target has a verdict."""
    model = tiny_encoder(tmp_path / "encoder")
    sections = inference_speed(16, 1, lambda _: None, str(model))
    assert len(sections) == (2 if choose_dtype("auto", torch.device("cpu")) is torch.bfloat16 else 1)
    for section, least in zip(sections, (0.99, 0.99999)[-len(sections) :], strict=True):
        cosines = {
            one.name: float(one.columns["least cosine to fp32"]) for one in section.figures if one.unit == "tok/s"
        }
        assert len(cosines) >= 3 * 4
        assert all(cosine >= least for cosine in cosines.values()), cosines
        assert any(one.target and one.met is not None for one in section.figures)


@pytest.mark.parametrize(
    ("asked", "native", "measured", "said"),
    [
        ((), "bfloat16", ["bfloat16", "float32"], False),
        ((), "float32", ["float32"], True),
        (("bfloat16",), "float32", ["bfloat16"], False),
        (("float32",), "bfloat16", ["float32"], False),
    ],
)
def test_what_the_processor_emulates_is_left_out_and_it_is_said(
    asked: tuple[str, ...], native: str, measured: list[str], said: bool
) -> None:
    """Unless it was asked for."""
    chosen, notes = which_dtypes(asked, native)
    assert list(chosen) == measured
    assert ["--dtype bfloat16" in note for note in notes] == [True] * said


def test_another_process_that_ends_says_why() -> None:
    """Its last words, not only that it is gone."""
    with Elsewhere([sys.executable, "-c", "raise SystemExit('no such model')"], {}) as elsewhere:
        for _ in range(2):
            with pytest.raises(BenchError, match="no such model"):
                elsewhere.way().encode(["a text"])


def test_mixed_texts_are_distinct_and_the_same_each_time() -> None:
    """Short and long ones beside one another."""
    found = mixed_texts(400)
    lengths = [len(text) for text in found.texts]
    assert len(set(found.texts)) == 400
    assert min(lengths[:100]) < 80 and max(lengths[:100]) > 400
    assert mixed_texts(400) == found


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_file_through_infer_and_through_the_program_that_people_write(tmp_path: Path, kind: str) -> None:
    """Both read and write it, and give the same vectors; a turn tells loading apart from the rest."""
    model = tiny_encoder(tmp_path / "encoder")
    (tmp_path / "texts").mkdir()
    source = tmp_path / "texts" / f"texts.{kind}"
    files._write(source, ["a long text of many words", "b", "another text"])
    work = files.Work(tmp_path, source, 3, model, 64, "float32")
    if kind == "jsonl":  # a process of its own takes seconds
        turn = work.ours("torch")
        assert turn.load_s > 0 and turn.rest_s > 0 and turn.peak_mb > 50
        assert not list(tmp_path.glob("ours*"))
    named = {name: str(tmp_path / name) for name in ("output", "ready")} | {"input": str(source), "way": SORTED}
    file_encoder.main(named | {"model": str(model), "dtype": "float32", "max_tokens": 64})
    assert (tmp_path / "ready").exists()
    if kind == "jsonl":
        found = [json.loads(line) for line in (tmp_path / "output").read_text().splitlines()]
    else:
        found = parquet.read_table(tmp_path / "output").to_pylist()
    assert [one["id"] for one in found] == ["t0", "t1", "t2"]
    expected = encoders.PlainTransformers(model, "float32", 64, sort=False).encode(
        ["a long text of many words", "b", "another text"]
    )
    assert np.allclose([one["vector"] for one in found], expected, atol=1e-6)


def test_a_file_is_compared_with_the_best_of_each_round() -> None:
    """By the time from the loaded model on; with loading, and by CPU time, beside it."""
    turns = {
        "ours": [files.Turn(1, 2, 4, 1), files.Turn(3, 2, 8, 1)],
        "a": [files.Turn(2, 4, 8, 1), files.Turn(2, 10, 8, 1)],
        "b": [files.Turn(2, 8, 8, 1), files.Turn(2, 8, 8, 1)],
    }
    *_, ratio = files.figures(turns, ["ours"], ["a", "b"], 100)
    assert list(ratio.values) == [2.0, 4.0] and ratio.value == 3.0 and ratio.met
    assert ratio.columns == {"with loading": 2.0, "by CPU time": 1.5}


def test_a_ratio_is_against_the_best_of_each_round() -> None:
    """Wall time gives the figure, CPU time stands beside it, and the share of the peak is by CPU time."""
    times = {
        TORCH: [Took(1.0, 0.5), Took(2.0, 0.5)],
        OPENVINO: [Took(0.5, 0.25), Took(1.0, 0.25)],
        ARRIVAL: [Took(2.0, 1.0), Took(8.0, 1.0)],
        "b": [Took(4.0, 1.0), Took(4.0, 1.0)],
    }
    measured = Measured("mixed", "bfloat16", times, [TORCH, OPENVINO], [ARRIVAL, "b"], [1e9, 1e9], 1e6, 100)
    figures = {one.name: one for one in measured.figures(dict.fromkeys(times, 1.0))}
    best = figures[f"mixed: {TORCH} / best other"]
    assert list(best.values) == [2.0, 2.0]
    assert best.columns["by CPU time"] == 2.0
    assert list(figures[f"mixed: {OPENVINO} / {ARRIVAL}"].values) == [4.0, 8.0]
    assert figures[f"mixed: {TORCH}"].columns["of the peak"] == pytest.approx(0.2)


def test_the_peak_is_of_the_shapes_asked_for_in_the_fastest_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that makes every other turn twice as fast, and lets each way of multiplying have both."""
    turns = itertools.cycle((0.5, 0.5, 0.25, 0.25))
    products: list[list[tuple[int, ...]]] = []

    def seconds(work: Callable[[], Any], device: str) -> float:
        assert device == "cpu"
        products.append([tuple(product.shape) for product in work()])
        return next(turns)

    monkeypatch.setattr(encoders, "_seconds", seconds)
    monkeypatch.setattr(encoders, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    flops = encoders.matrix_flops([(64, 32), (32, 128)], 16, "float32", 4)
    assert flops == 2 * 16 * (64 * 32 + 32 * 128) / 0.25
    assert products
    assert all(shapes == [(16, 32), (16, 128)] for shapes in products)


def test_repeats_have_distinct_twins_of_their_length() -> None:
    """What single flight is held against differs in nothing but that no text occurs twice."""
    repeats, distinct = (list(flight_texts(500, repeat=one)) for one in (True, False))
    assert 0.25 < 1 - len(set(repeats)) / 500 < 0.35
    assert len(set(distinct)) == 500
    longer = sum(len(text.split()) for text in distinct) / sum(len(text.split()) for text in repeats)
    assert 1 <= longer < 1.05


def test_random_weights_are_served(tmp_path: Path) -> None:
    """`bench device --shape` needs no trained model."""
    spec = spec_of(
        str(random_encoder(tmp_path / "minilm", "minilm")),
        device="cpu",
        dtype="float32",
        backend="torch",
        threads=1,
        batch_tokens=0,
    )
    assert load(spec).card.max_tokens == 512
