"""Models of every kind of reference, one task, one real Redis: an answer is always the model's own, as it is now."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer

from streamer.app.infer import infer
from streamer.config.load import CacheConfig, Config
from streamer.config.pipeline import PipelineConfig
from streamer.core.fingerprint import KEY_BYTES
from streamer.core.record import Answer
from streamer.core.stored import Vault
from streamer.errors import ExitCode
from streamer.files.rows import Fields, Rows
from streamer.files.sink import Stream
from tests.tiny_models import BERT, tiny
from tests.unit.tasks_kit import TEXTS, model_of, near, outputs

TASK = "text-classification"
ROOT = Path(__file__).parents[2]
CLASSES = """
import json
from pathlib import Path
class Upper:
    {head}
    def __init__(self, options):
        self.word = json.loads(Path(__file__).with_name("word.json").read_text())
    def predict(self, inputs):
        return [{{"label": f"{{self.word}} {{one.text.upper()}}", "score": 0.5}} for one in inputs]
class Lower(Upper):
    def predict(self, inputs):
        return [{{"label": f"{{self.word}} {{one.text.lower()}}", "score": 0.5}} for one in inputs]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def bed(server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that workers start in, an empty Redis, and no key yet."""
    server.client.flushall()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT), *filter(None, sys.path)]))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield tmp_path
    for number, handler in kept.items():
        signal.signal(number, handler)


def write_classes(folder: Path, name: str, head: str, word: str = "one") -> None:
    (folder / f"{name}.py").write_text(CLASSES.format(head=head))
    (folder / "word.json").write_text(json.dumps(word))


def ask(server: RedisServer, model: str, key_file: str = "", **fields: Any) -> list[dict[str, Any]]:
    """The results of `TEXTS` from a process that remembers nothing itself."""
    own = {"dtype": "float32", "backend": "torch", "workers": 1, "input": ["in"], "output": "out", **fields}
    pipeline = PipelineConfig(task=TASK, model=model, **own)
    cache = CacheConfig(url=server.url, memory_mb=0, key_file=key_file)
    lines, sink = Path("lines"), io.BytesIO()
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    with lines.open("rb") as source:
        rows = Rows(["-"], source, "jsonl", Fields())
        assert infer(Config(cache=cache, pipelines={"p": pipeline}), "p", rows, Stream(sink))[0] is ExitCode.DONE
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def ask_until_cached(server: RedisServer, model: str, **fields: Any) -> list[dict[str, Any]]:
    """Again until some answers come from Redis: on a busy machine it may be too slow for a look-up."""
    for _ in range(5):
        results = ask(server, model, **fields)
        if any(result["cached"] for result in results):
            return results
    raise AssertionError("no answer ever came from Redis")


def said(results: list[dict[str, Any]]) -> list[Any]:
    return [result["output"] for result in results]


@pytest.mark.slow
def test_no_model_answers_for_another(bed: Path, server: RedisServer) -> None:
    """All pairs of kinds, one after the other over the same texts, and then again with all of them in Redis."""
    labels = ("negative", "positive")
    for number, folder in enumerate(("a/model", "b/model", "shipped/model")):
        tiny(bed / folder, BERT, "ForSequenceClassification", labels=labels, seed=number)
    (bed / "shipped" / "__init__.py").touch()
    write_classes(bed, "declared", "version = '1'; files = ['word.json']")
    write_classes(bed, "bare", "version = '1'")
    expected: dict[str, list[Any]] = {
        "a/model": outputs(model_of(bed / "a/model", TASK), TEXTS),
        "b/model": outputs(model_of(bed / "b/model", TASK), TEXTS),
        "package:shipped/model": outputs(model_of(bed / "shipped/model", TASK), TEXTS),
        "python:declared:Upper": [{"label": f"one {text.upper()}", "score": 0.5} for text in TEXTS],
        "python:declared:Lower": [{"label": f"one {text.lower()}", "score": 0.5} for text in TEXTS],
        "python:bare:Upper": [{"label": f"one {text.upper()}", "score": 0.5} for text in TEXTS],
        "python:bare:Lower": [{"label": f"one {text.lower()}", "score": 0.5} for text in TEXTS],
        "builtin:null": [{}] * len(TEXTS),
    }
    assert len({json.dumps(answers) for answers in expected.values()}) == len(expected) - 2
    revisions = set()
    for model, answers in expected.items():
        results = ask(server, model)
        assert not any(result["cached"] for result in results), model
        _compare(said(results), answers)
        revisions.add(results[0]["model"]["revision"])
    assert len(revisions) == len(expected)
    shutil.copytree(bed / "a/model", bed / "elsewhere/other")  # what is in a folder counts, not where it lies
    for model, same in (
        ("elsewhere/other", "a/model"),
        *((own, own) for own in ("python:declared:Upper", "builtin:null")),
    ):
        _compare(said(ask_until_cached(server, model)), expected[same])
    assert not any(result["cached"] for result in ask(server, "python:bare:Upper"))


def _compare(answers: list[Any], expected: list[Any]) -> None:
    for answer, own in zip(answers, expected, strict=True):
        assert answer.get("label") == own.get("label")
        assert answer.get("score") == near(own.get("score"))


@pytest.mark.parametrize("declared", [True, False])
def test_a_retrained_class_answers_anew_at_once(
    bed: Path, server: RedisServer, declared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its weights changed and nothing else: not one answer of before, and another revision. The log says once why a
    class is not shared, and how to have it."""
    write_classes(bed, "mine", "version = '1'" + ("; files = ['word.json']" if declared else ""))
    before = ask(server, "python:mine:Upper")
    assert (server.client.dbsize() > 0) is declared
    assert caplog.text.count("`files`") == (not declared)
    write_classes(bed, "mine", "version = '1'" + ("; files = ['word.json']" if declared else ""), word="two")
    after = ask(server, "python:mine:Upper")
    assert said(after) == [{"label": f"two {text.upper()}", "score": 0.5} for text in TEXTS]
    assert after[0]["model"]["revision"] != before[0]["model"]["revision"]


def test_options_and_overflow_are_part_of_the_key(bed: Path, server: RedisServer) -> None:
    """An option that is called like a field of the pipeline's is no excuse."""
    write_classes(bed, "mine", "files = ['word.json']")
    reference = "python:mine:Upper"
    for fields in ({}, {"options": {"on_overflow": "x"}}, {"options": {"on_overflow": "y"}}, {"on_overflow": "reject"}):
        assert not any(result["cached"] for result in ask(server, reference, **fields))


@pytest.mark.parametrize("key_file", ["", "none"])
def test_forged_values_are_misses(bed: Path, server: RedisServer, key_file: str) -> None:
    """Without the key nothing is believed; with `none` nothing that would not be an output of the task."""
    write_classes(bed, "mine", "files = ['word.json']")
    expected = said(ask(server, "python:mine:Upper", key_file))
    assert (bed / ".state/streamer/cache.key").exists() is (key_file == "")
    client = server.client
    for key in client.scan_iter():
        forged = Answer(b'{"label":"x","score":0.5},"id":"someone-else","x":{}')
        client.set(key, Vault(b"").encode([(key[-KEY_BYTES:], forged)])[0][1])
    results = ask(server, "python:mine:Upper", key_file)
    assert said(results) == expected and not any(result["cached"] for result in results)
    assert any(result["cached"] for result in ask_until_cached(server, "python:mine:Upper", key_file=key_file))


def test_a_wrong_key_file_ends_the_start(bed: Path, server: RedisServer) -> None:
    """With its name and the exit code of a configuration."""
    (bed / "key").write_text("too short")
    write_classes(bed, "mine", "files = ['word.json']")
    with pytest.raises(AssertionError, match="CONFIGURATION"):
        ask(server, "python:mine:Upper", "key")
