"""`streamer.testing.run_pipeline`: the real pipeline with a real model, in this process or in worker processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from streamer.errors import ConfigurationError, ExitCode, HaltedError, ModelError, UsageError
from streamer.inference.models.device import use_threads
from streamer.inference.tasks.families import import_family
from streamer.inference.worker.in_process import process_left_alone
from streamer.model import Input
from streamer.testing import LoadedPipeline, Outcomes, RawEvent, run_pipeline
from tests.language_models import tiny_decoder

ROOT = Path(__file__).parents[2]
MICRO = ROOT / "streamer/demo/models/sentiment-micro"
OBEDIENT = "python:tests.python_models:Obedient"
DEADLINE_S = 60.0


class Letters:
    """Counts letters. Raises for `boom`, gives NaN for `nan`, interrupts for `stop`; `made` and `batches` tell what
    was asked of the class."""

    made = 0
    batches: list[int] = []

    def __init__(self, options: dict[str, Any]) -> None:
        Letters.made += 1
        self.add = options.get("add", 0)

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        Letters.batches.append(len(inputs))
        return [{"n": self._count(one.text)} for one in inputs]

    def _count(self, text: str) -> float:
        if text == "boom":
            raise ValueError(text)
        if text == "stop":
            raise KeyboardInterrupt
        return float("nan") if text == "nan" else len(text) + self.add


def outputs(outcomes: Outcomes) -> list[Any]:
    return [one.output["n"] for one in outcomes.results]


def test_everything_that_may_come_of_an_event() -> None:
    """Results, dead letters and skips in the order of the events, by their ids too."""
    events: list[Any] = [
        "four",
        {"id": "7", "text": "seven", "metadata": {"a": 1}},
        "boom",
        "nan",
        b"\xff",
        b"",
        "",
        "\ud800",
        RawEvent(None),
        RawEvent(b"plain", headers={"content-type": "text/plain", "ce_id": b"c", "ce_specversion": "1.0"}, key=b"k"),
        {"text": "x", "params": {"no": 1}},
    ]
    outcomes = run_pipeline(Letters, events)
    assert [(one.offset, one.output, one.id) for one in outcomes.results] == [
        (0, {"n": 4}, "events/0/0"),
        (1, {"n": 5}, "7"),
        (9, {"n": 5}, "c"),
    ]
    assert outcomes.results[1].metadata == {"a": 1}
    assert outcomes.results[2].published.key == b"k"
    assert [(one.offset, one.code, one.value) for one in outcomes.dead_letters] == [
        (2, "infer.exception", b'{"text": "boom"}'),
        (3, "infer.nan", b'{"text": "nan"}'),
        (4, "decode.utf8", b"\xff"),
        (5, "decode.empty", b""),
        (6, "validate.empty_text", b'{"text": ""}'),
        (7, "decode.utf8", b'{"text": "\xed\xa0\x80"}'),
        (10, "validate.params", b'{"text": "x", "params": {"no": 1}}'),
    ]
    assert [(one.offset, one.reason) for one in outcomes.skipped] == [(8, "tombstone")]
    assert [one.offset for one in outcomes] == list(range(len(events)))
    assert outcomes.by_id["7"] is outcomes.results[1]
    assert "results: 3, dead letters: 7, skipped: 1" in repr(outcomes)
    assert "infer.exception" in repr(outcomes)
    with pytest.raises(IndexError, match=r"(?s)there is no 3 of 3: .*infer\.exception"):
        outcomes.results[3]


def test_an_exception_of_the_model_is_there_with_its_traceback() -> None:
    """The letter itself says only where it was raised."""
    (letter,) = run_pipeline(Letters, ["a", "boom", "b"]).dead_letters
    assert isinstance(letter.error, ValueError)
    names = []
    at = letter.error.__traceback__
    while at is not None:
        names.append(at.tb_frame.f_code.co_name)
        at = at.tb_next
    assert names[-1] == "_count"
    assert letter.exception == "ValueError"


def test_batches_are_real_and_halved_around_a_bad_text() -> None:
    """Texts of one length share a pass, of which one raises."""
    Letters.batches.clear()
    outcomes = run_pipeline(Letters, [*(f"t{n:03}" for n in range(64)), "boom"])
    assert len(outcomes.results) == 64
    assert [one.code for one in outcomes.dead_letters] == ["infer.exception"]
    assert max(Letters.batches) > 32
    assert Letters.batches.count(1) >= 2  # the probe, and the text at fault


def test_what_is_published_is_what_the_schemas_say() -> None:
    """Values and headers as in the topics."""
    schemas = {path.name: json.loads(path.read_text()) for path in (ROOT / "schemas").rglob("*.json")}
    bodies = [body for body in schemas.values() if "$id" in body]
    registry: Registry[Any] = Registry().with_resources((body["$id"], Resource.from_contents(body)) for body in bodies)
    outcomes = run_pipeline(Letters, ["a", "boom"])
    result, letter = outcomes.results[0].published, outcomes.dead_letters[0].published
    assert result.topic == "results" and letter.topic == "results.dlq"
    Draft202012Validator(schemas["result.json"], registry=registry).validate(json.loads(result.value or b""))
    assert dict(result.headers)["ce_id"] == b"adhoc/events/0/0"
    headers = {name: (value or b"").decode() for name, value in letter.headers}
    Draft202012Validator(schemas["dead-letter-headers.json"], registry=registry).validate(headers)
    assert letter.value == b'{"text": "boom"}'


def test_an_output_that_no_broker_takes_is_a_dead_letter() -> None:
    """One MiB is what a topic takes by default."""

    class Large:
        def __init__(self, options: dict[str, Any]) -> None: ...

        def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
            return [{"x": "x" * (1 << 21 if one.text == "large" else 1)} for one in inputs]

    assert [one.code for one in run_pipeline(Large, ["large", "small"]).dead_letters] == ["publish.too_large"]


def test_a_repeated_text_is_computed_once() -> None:
    """In one run; the next one asks again."""
    pipeline = LoadedPipeline(Letters)
    Letters.batches.clear()
    assert outputs(pipeline.run(["same"] * 1000)) == [4] * 1000
    assert sum(Letters.batches) == 2  # the probe too
    pipeline.run(["same"])
    assert sum(Letters.batches) == 3


def test_a_loaded_pipeline_keeps_its_model() -> None:
    """Also after an event that failed, and with an instance of one's own."""
    before = Letters.made
    pipeline = LoadedPipeline(Letters, options={"add": 10})
    assert outputs(pipeline.run(["a", "boom"])) == [11]
    assert outputs(pipeline.run(["b"])) == [11]
    assert Letters.made == before + 1
    assert outputs(run_pipeline(Letters({"add": 5}), ["a"])) == [6]


def test_what_ends_a_run_goes_through() -> None:
    """An interrupt in the model is nobody's dead letter, and the next run works."""
    pipeline = LoadedPipeline(Letters)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(["a", "stop", "b"])
    assert outputs(pipeline.run(["a"])) == [1]

    class Skips(Letters):
        def _count(self, text: str) -> float:
            if text == "skip":
                pytest.skip("as a time limit does it, too")
            return super()._count(text)

    with pytest.raises(pytest.skip.Exception):
        run_pipeline(Skips, ["a", "skip"])


def _in_a_thread(run: Callable[[], Outcomes]) -> Outcomes:
    found: list[Outcomes] = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    return found[0]


def _in_a_loop(run: Callable[[], Outcomes]) -> Outcomes:
    async def cell() -> Outcomes:
        return run()

    return asyncio.run(cell())


@pytest.mark.parametrize("where", [_in_a_thread, _in_a_loop])
@pytest.mark.parametrize("workers", ["here", "processes"])
def test_it_runs_on_any_thread_and_where_an_event_loop_runs(
    where: Callable[[Callable[[], Outcomes]], Outcomes], workers: Any
) -> None:
    """As in a notebook; the model runs on the caller's own thread."""
    events = ["1", "2 RAISE", "3"]
    outcomes = where(lambda: run_pipeline(OBEDIENT, events, workers=workers))
    assert (outputs(outcomes), [one.code for one in outcomes.dead_letters]) == ([1, 3], ["infer.exception"])


def test_processes_survive_what_nothing_here_would() -> None:
    """A crash and a hang are the dead letters that they are in production."""
    events = ["1", "2 SEGV", "3 HANG", "4"]
    outcomes = run_pipeline(OBEDIENT, events, workers="processes", lease_s=0.5)
    assert outputs(outcomes) == [1, 4]
    assert [one.code for one in outcomes.dead_letters] == ["infer.worker_killed", "infer.worker_hung"]
    assert outcomes.dead_letters[0].error is None


def test_models_of_transformers_run_here(tmp_path: Path) -> None:
    """A classifier; and a generator, whose answers hang on no neighbour. No thread is left that holds the process."""
    before = {thread for thread in threading.enumerate() if not thread.daemon}
    texts = ["I love it", "so bad", "I love it so much"]
    outcomes = run_pipeline(MICRO, texts, task="text-classification")
    assert [one.output["label"] for one in outcomes.results] == ["positive", "negative", "positive"]
    pipeline = LoadedPipeline(tiny_decoder(tmp_path, "llama"), task="text-generation", options={"max_new_tokens": 3})
    both = pipeline.run(["a b", "c"])
    assert both.results[1].output == pipeline.run(["c"]).results[0].output
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= before


def test_loading_leaves_the_process_as_it_was() -> None:
    """A worker process hides two packages from transformers, and sets torch's threads; here others may need them."""
    import torch
    from transformers import utils as transformers_utils

    utils: Any = transformers_utils

    before = torch.get_num_threads()
    with process_left_alone():
        import_family("text-classification")
        use_threads(before + 1)
        assert not utils.is_sklearn_available() and torch.get_num_threads() == before + 1
    assert utils.is_sklearn_available is utils.import_utils.is_sklearn_available
    assert utils.is_scipy_available is utils.import_utils.is_scipy_available
    assert torch.get_num_threads() == before


def test_a_configured_pipeline(tmp_path: Path) -> None:
    """Its options, topics and name; its servers are left alone."""
    path = tmp_path / "streamer.toml"
    body = f'task = "t"\nmodel = "{OBEDIENT}"\ninput = "in"\noutput = "out"\n'
    path.write_text(
        f'[kafka]\nbootstrap_servers = "nowhere:1"\n[cache]\nurl = "redis://nowhere:1/0"\n[pipelines.a]\n{body}'
    )
    result = run_pipeline(path, ["5"]).results[0]
    assert (result.output, result.published.topic, result.id) == ({"n": 5}, "out", "in/0/0")
    assert dict(result.published.headers)["ce_source"] == b"/streamer/a"
    path.write_text(path.read_text() + "[pipelines.b]\n" + body.replace('"out"', '"out2"'))
    with pytest.raises(UsageError, match="pipeline=…; it has: a, b"):
        run_pipeline(path, ["5"])
    assert run_pipeline(str(path), ["5"], pipeline="b").results[0].published.topic == "out2"


class Unmade(Letters):
    """Can't be made."""

    def __init__(self, options: dict[str, Any]) -> None:
        raise RuntimeError("no weights")


class Wrong(Letters):
    """Fails for every text."""

    def _count(self, text: str) -> float:
        raise LookupError(text)


class Picky(Letters):
    """Answers its probe alone."""

    def _count(self, text: str) -> float:
        if text.isdigit():
            raise LookupError(text)
        return 1


@pytest.mark.parametrize(
    ("model", "fields", "kind", "words", "cause"),
    [
        (OBEDIENT + "s", {}, ModelError, "module tests.python_models has no class Obedients", None),
        ("no/where", {"task": "embedding"}, ModelError, "no/where' is not a directory", None),
        (Unmade, {}, ModelError, "RuntimeError: no weights", RuntimeError),
        (Wrong, {}, ModelError, "the model fails for its probe: LookupError", LookupError),
        (Picky, {}, HaltedError, "this looks like a bad deployment", LookupError),
        (OBEDIENT, {"lease": 3}, ConfigurationError, 'lease: unknown field; did you mean "lease_s"', None),
        (MICRO, {}, UsageError, "say what the model does with task=…, one of text-classification", None),
        (3, {}, UsageError, "int is not a model", None),
        (OBEDIENT, {"workers": 3}, UsageError, 'must be "here" or "processes"', None),
        (Letters, {"workers": "processes"}, UsageError, "can't be handed to worker processes", None),
        (OBEDIENT, {"pipeline": "a"}, UsageError, "names a pipeline of a configuration", None),
    ],
)
def test_what_can_not_run_says_why(
    model: Any, fields: dict[str, Any], kind: type[Exception], words: str, cause: type[Exception] | None
) -> None:
    """With the words of production, and the model's own exception as the cause."""
    with pytest.raises(kind) as caught:
        run_pipeline(model, map(str, range(300)), **fields)
    assert words in str(caught.value)
    assert cause is None or isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("event", [3, {"text": b"x"}, {"text": float("nan")}, None])
def test_what_is_no_event_is_refused(event: Any) -> None:
    """By its place."""
    with pytest.raises(TypeError, match="event 1 "):
        run_pipeline(Letters, ["a", event])


def test_the_code_of_the_exit_is_there_too() -> None:
    """As `streamer run` would end."""
    with pytest.raises(ModelError) as caught:
        run_pipeline("builtin:zero", [], task="null")
    assert caught.value.exit_code is ExitCode.CONFIGURATION


def test_an_interrupt_ends_a_run_with_processes() -> None:
    """And leaves no worker. In a program of its own, as the interrupt is for the whole process."""
    script = f"""
import psutil, signal, threading, time
from streamer.testing import run_pipeline
signal.signal(signal.SIGINT, signal.default_int_handler)
def workers():
    return psutil.Process().children(recursive=True)
def interrupt():
    while not workers():
        time.sleep(0.05)
    time.sleep(0.2)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    run_pipeline({OBEDIENT!r}, ["1"], workers="processes", options={{"batch_ms": 3_600_000}})
except KeyboardInterrupt:
    while workers():
        time.sleep(0.05)
    print("interrupted, and nothing runs")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.stdout, done.stderr) == ("interrupted, and nothing runs\n", "")
