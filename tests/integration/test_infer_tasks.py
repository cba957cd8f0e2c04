"""Tasks through `infer`: the whole pipeline with a worker of its own, on lines instead of topics."""

from __future__ import annotations

import io
import json
import signal
import threading
from pathlib import Path
from typing import Any, BinaryIO, cast

from streamer.app.infer import infer
from streamer.cli import main
from streamer.config.load import Config
from streamer.config.pipeline import PipelineConfig
from streamer.errors import ExitCode
from streamer.files.rows import Fields, Rows
from streamer.files.sink import Stream
from tests.tiny_models import BERT, tiny
from tests.unit.tasks_kit import TEXTS, model_of, near, outputs

LABELS = ["travel", "film"]


def test_lines_of_many_rows_are_answered_in_order(tmp_path: Path) -> None:
    """Results are what the family says by itself; an event with a wrong param fails alone, by its name."""
    path = tiny(tmp_path / "model", BERT, "ForSequenceClassification", labels=("contradiction", "entailment"))
    pipeline = PipelineConfig(
        task="zero-shot-classification",
        model=str(path),
        input=["in"],
        output="out",
        dtype="float32",
        backend="torch",
        workers=1,
        options={"candidate_labels": LABELS},
    )
    lines: list[dict[str, Any]] = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
    lines.insert(3, {"id": "wrong", "text": "a", "params": {"labels": ["hunter2"]}})
    (tmp_path / "lines").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sink = io.BytesIO()
    with (tmp_path / "lines").open("rb") as source:
        rows = Rows(["-"], source, "jsonl", Fields())
        code, _ = infer(Config(pipelines={"labels": pipeline}), "labels", rows, Stream(sink))
    assert code is ExitCode.SOME_FAILED
    answers = [json.loads(line) for line in sink.getvalue().splitlines()]
    failed = answers.pop(3)
    assert "validate.params" in json.dumps(failed)
    assert "'labels'" in json.dumps(failed)
    assert "hunter2" not in json.dumps({name: failed[name] for name in failed if name != "event"})
    assert [one["id"] for one in answers] == [line["id"] for line in lines if line["id"] != "wrong"]
    expected = outputs(model_of(path, "zero-shot-classification", candidate_labels=LABELS), [*TEXTS])
    for answer, own in zip(answers, expected, strict=True):
        assert answer["output"]["labels"] == own["labels"]
        assert answer["output"]["scores"] == near(own["scores"])
        assert answer["task"] == "zero-shot-classification"


def test_lines_that_are_no_utf8_are_refused_one_by_one(tmp_path: Path) -> None:
    """As produce refuses them; nothing of a text is replaced. Other bytes are text: NUL too, but not the line's end."""
    lines = [b"1 good", b"2 caf\xe9", b"3 caf\xc3\xa9 \x00\r", b"", b"5 \xed\xa0\x80", b"6 \xf4\x90\x80\x80", b"7"]
    (tmp_path / "lines").write_bytes(b"\n".join(lines) + b"\n")
    arguments = ["infer", "--task", "t", "--model", "python:tests.python_models:Obedient", "--text"]
    assert main([*arguments, "-o", str(tmp_path / "out"), str(tmp_path / "lines")]) == ExitCode.SOME_FAILED
    answers = [json.loads(line) for line in (tmp_path / "out").read_bytes().splitlines()]
    assert [one["output"]["n"] for one in answers if "output" in one] == [1, 3, 7]
    refused = {one["line"]: one["error"]["code"] for one in answers if "error" in one}
    assert refused == {**dict.fromkeys((2, 5, 6), "decode.utf8"), 4: "validate.empty_text"}


def test_signals_are_left_as_they_were() -> None:
    """After a run on the main thread; and on another thread, which may not have them, one runs, too."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    pipeline = PipelineConfig(task="t", model="builtin:null", input=["in"], output="out")
    codes = []

    def run() -> None:
        rows = Rows(["-"], cast(BinaryIO, io.BytesIO(b'{"text": "a"}\n')), "jsonl", Fields())
        codes.append(infer(Config(pipelines={"p": pipeline}), "p", rows, Stream(io.BytesIO()))[0])

    run()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert codes == [ExitCode.DONE, ExitCode.DONE]
