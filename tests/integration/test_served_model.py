"""A model that a server runs, asked without a worker around it, against a server that misbehaves in every way."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ExitCode, FailureClass, ModelError
from streamer.inference.model import Encoded
from streamer.inference.served import model as served_model
from streamer.inference.served.model import ServedModel
from streamer.inference.worker.forwarder import WorkerFailureError
from tests.acceptance.certificates import make_certificates
from tests.model_server import MODEL, ModelServer, spec

MADE: list[ServedModel] = []


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """What a test has made is closed after it."""
    yield
    while MADE:
        MADE.pop().end()


def asked(server: ModelServer, task: str = "text-generation", **fields: Any) -> ServedModel:
    """As a worker makes it."""
    own = spec(server, task, **fields)
    MADE.append(ServedModel(own, own.model))
    return MADE[-1]


def run(
    model: ServedModel, texts: list[str], pairs: list[str | None] | None = None, params: Any = None
) -> list[Answer | DataFailure]:
    """All together."""
    encoded = model.encode(texts, pairs, params)
    answers = iter(model.forward([one for one in encoded if isinstance(one, Encoded)]))
    return [one if isinstance(one, DataFailure) else next(answers) for one in encoded]  # type: ignore[misc]


def outputs(outcomes: list[Answer | DataFailure]) -> list[Any]:
    return [json.loads(one.output) if isinstance(one, Answer) else one.code for one in outcomes]


def test_faults_of_the_server_are_waited_for() -> None:
    """429 with and without Retry-After, 5xx, cut connections, half answers, no JSON, no answer in time: every text is
    answered in the end."""
    with ModelServer() as server:
        model = asked(server, served={"timeout_s": 0.5})
        server.faults.extend(["429 0.1", "503", "reset", "half", "no json", "garbage", "slow", "429", "500", "424"])
        outcomes = run(model, [f"text {number}" for number in range(60)])
        assert [one["text"] for one in outputs(outcomes)] == [f"text {number}"[::-1] for number in range(60)]
        assert not server.faults and server.statuses[429] == 2


@pytest.mark.parametrize("form", ["gzip", "deflate", "chunked", "bare"])
def test_any_form_of_http_is_read(form: str) -> None:
    with ModelServer() as server:
        model = asked(server)
        server.faults.append(form)
        assert outputs(run(model, ["abc"]))[0]["text"] == "cba"
        assert not server.faults


def test_a_kept_connection_that_ends_as_it_is_used_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is sent again at once, and nobody waits; a second end is one."""
    pauses: list[int] = []

    def pause_s(attempt: int, _: float) -> float:
        pauses.append(attempt)
        return 0.0

    monkeypatch.setattr("streamer.inference.served.flow.pause_s", pause_s)
    with ModelServer() as server:
        model = asked(server)
        server.faults.append("reset")
        assert outputs(run(model, ["abc"]))[0]["text"] == "cba"
        assert not pauses
        server.faults.extend(["reset", "reset"])
        assert outputs(run(model, ["abc"]))[0]["text"] == "cba"
        assert pauses == [1]


def test_a_key_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    """To another server, which is asked nothing: the run halts, as for any wrong address."""
    monkeypatch.setenv("TINY_KEY", "secret")
    with ModelServer(key="secret") as server, ModelServer() as other:
        model = asked(server, served={"key_env": "TINY_KEY"})
        server.faults.extend([f"{other.url}/v1/completions"] * 20)
        with pytest.raises(WorkerFailureError, match="it answers 307") as failure:
            run(model, ["abc"])
        assert failure.value.exit_code == ExitCode.HALTED
        assert not other.texts and not other.connections


def test_an_answer_without_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is dropped once it is larger than any answer can be."""
    monkeypatch.setattr("streamer.inference.served.client.MOST_BYTES", 1 << 20)
    with ModelServer() as server:
        model = asked(server)
        server.huge = 4 << 20
        server.faults.append("huge")
        assert outputs(run(model, ["abc"]))[0]["text"] == "cba"
        server.faults.extend(["huge"] * 3)
        (found,) = run(model, ["abc"])
        assert isinstance(found, DataFailure) and "it is empty, or larger than any can be" in found.message


def test_texts_that_are_withheld_are_no_failure_of_the_server() -> None:
    """A filter has its say of each text, however many there are in a row."""
    with ModelServer() as server:
        model = asked(server)
        server.faults.extend(["content_filter"] * 30)
        found = outputs(run(model, [f"text {number}" for number in range(40)]))
        assert found.count(Code.INFER_SERVER) == 30
        assert len(server.texts) == 41, "none is asked about twice"
        assert not model.holding


def test_counts_that_a_server_does_not_tell_are_0() -> None:
    with ModelServer() as server:
        model = asked(server)
        server.faults.append("null")
        (found,) = outputs(run(model, ["abc"]))
        assert (found["text"], found["prompt_tokens"], found["completion_tokens"]) == ("cba", 0, 0)


def test_vectors_of_another_width_are_of_another_model() -> None:
    """A restart names it in another revision; until then none is a result."""
    with ModelServer() as server:
        model = asked(server, "embedding")
        server.faults.append("wide")
        assert outputs(run(model, ["abc"])) == [{"vector": [3.0, 0.5, -0.25], "dimensions": 3}]
        server.faults.extend(["wide"] * 20)
        with pytest.raises(WorkerFailureError, match="has changed since the start") as failure:
            run(model, ["abc"])
        assert failure.value.exit_code == ExitCode.DEPENDENCY
        server.faults.clear()
        first = asked(server, "embedding").card.revision
        server.faults.append("wide")
        assert asked(server, "embedding").card.revision != first


def test_a_proxy_that_is_to_blame_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the server behind it; and no password of its URL is told."""
    monkeypatch.setattr(served_model, "_START_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "")
    with ModelServer() as server:
        for address, error, words in (
            ("http://u:hunter2@127.0.0.1:1", WorkerFailureError, "HTTPS_PROXY or ALL_PROXY names: it refuses connect"),
            ("socks9://u:hunter2@127.0.0.1:1", ModelError, "names is no http:// or https:// address"),
        ):
            monkeypatch.setenv("HTTP_PROXY", address)
            with pytest.raises(error, match=words) as failure:
                asked(server)
            assert "hunter2" not in str(failure.value)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert asked(server).card.name == MODEL


@pytest.mark.parametrize("task", ["text-generation", "embedding"])
def test_what_a_server_refuses_of_one_text_is_its_dead_letter(task: str) -> None:
    """Alone, also out of a request of many; with the server's error type, and no word of the text, which it quotes."""
    texts = [f"text {number}" for number in range(40)]
    texts[7], texts[30] = "BAD secret", "LONG secret"
    with ModelServer() as server:
        outcomes = run(asked(server, task), texts)
    failed = {index: one for index, one in enumerate(outcomes) if isinstance(one, DataFailure)}
    assert {index: one.code for index, one in failed.items()} == {7: Code.INFER_SERVER, 30: Code.INFER_TOO_LONG}
    assert failed[7].message == "the server refuses this text: it answers 400 (BadRequestError)"
    assert failed[7].exception == "BadRequestError" and "secret" not in str(failed)


def test_an_answer_that_is_none_is_the_texts_fault_once_a_known_text_is_answered() -> None:
    """As is a text that the server's own code fails on for longer than the deadline."""
    with ModelServer() as server:
        outcomes = run(asked(server, served={"deadline_s": 0.2}), ["GARBAGE", "fine", "CRASH secret"])
        assert [code for code in outputs(outcomes) if isinstance(code, str)] == [Code.INFER_SERVER] * 2
        assert "has no choices" in str(outcomes[0]) and "within served_deadline_s (0.2 s)" in str(outcomes[2])
        assert "secret" not in str(outcomes)


def test_a_text_that_the_server_fails_on_is_tried_for_ever_without_a_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its neighbours are answered meanwhile, and it is said what is waited for."""
    monkeypatch.setattr("streamer.inference.served.flow.pause_s", lambda *_: 0.01)
    with ModelServer() as server:
        model = asked(server)
        for number, encoded in enumerate(model.encode(["CRASH", "fine"], None, None)):
            assert isinstance(encoded, Encoded)
            model.add(number, encoded)
        ended: list[Any] = []
        deadline = time.monotonic() + 30
        while not (ended and model.holding) and time.monotonic() < deadline:
            ended += model.collect(0.05)
        assert [number for number, _ in ended] == [1]
        assert model.holding == f"{server.url}/v1: it answers 500 (InternalServerError)"


def test_a_full_server_gets_as_many_as_it_takes() -> None:
    """It answers 429 to more than four at a time: all is answered, and few requests are in vain."""
    with ModelServer(delay_s=0.01, room=4) as server:
        outcomes = run(asked(server), [f"text {number}" for number in range(60)])
        assert all(isinstance(one, Answer) for one in outcomes)
        assert server.statuses[429] < 60


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("key", "other"), ExitCode.HALTED, "it answers 401 (invalid_api_key): correct the address, the key"),
        (("fingerprint", "fp_2"), ExitCode.DEPENDENCY, "has changed since the start"),
    ],
)
def test_another_model_or_key_ends_the_run_in_words(change: tuple[str, str], code: ExitCode, words: str) -> None:
    """A refused key halts; a model that changed under the same name asks for a restart, so that no result names another
    model than the one that answered."""
    with ModelServer() as server:
        model = asked(server)
        setattr(server, *change)
        with pytest.raises(WorkerFailureError, match="http://") as failure:
            run(model, ["a", "b", "c", "d"])
        assert (failure.value.failure, failure.value.exit_code) == (FailureClass.CODE, code)
        assert words in str(failure.value) and not failure.value.suspects


def test_a_model_that_changed_while_the_server_was_away_is_found_before_it_answers() -> None:
    """TEI's answers do not say who gave them: the server is asked after every outage."""
    with ModelServer() as server:
        server.models = ["bert"]
        model = asked(server, "embedding", tei=True)
        server.stop()
        server.sha = "b" * 40
        threading.Timer(0.3, server.start).start()
        with pytest.raises(WorkerFailureError, match="something else of bert"):
            run(model, ["a"])
        assert "a" not in server.texts


def test_a_server_with_tls_is_asked_once_its_authority_is_trusted(tmp_path: Path) -> None:
    """Until then a start ends, and says which field names the authority."""
    certificates = make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    with ModelServer(tls=tls) as server:
        with pytest.raises(ModelError, match="name the CA's file in served_ca"):
            asked(server)
        assert outputs(run(asked(server, served={"ca": str(certificates.authority)}), ["abc"]))[0]["text"] == "cba"


def test_a_list_of_models_may_grow_and_be_empty_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has yet to load its model is waited for, at a start and after an outage; one that gets another
    model beside it has not changed."""
    monkeypatch.setattr("streamer.inference.served.flow._CHECK_EVERY_S", 0.0)
    with ModelServer() as server:
        server.models = []
        threading.Timer(0.3, server.models.append, [MODEL]).start()
        model = asked(server)
        server.models.append("adapter")
        assert outputs(run(model, ["abc"]))[0]["text"] == "cba"
        server.stop()
        server.models.clear()
        threading.Timer(0.2, server.start).start()
        threading.Timer(0.5, server.models.append, [MODEL]).start()
        assert outputs(run(model, ["abcd"]))[0]["text"] == "dcba"
        server.models[:] = ["other"]
        with pytest.raises(WorkerFailureError, match="has changed since the start"):
            run(model, ["abcde"])


def test_a_key_that_is_refused_after_an_outage_ends_the_run_too() -> None:
    """Where no text is sent before the server has said what it serves."""
    with ModelServer() as server:
        model = asked(server)
        server.stop()
        server.key = "other"
        threading.Timer(0.2, server.start).start()
        with pytest.raises(WorkerFailureError, match="401") as failure:
            run(model, ["a"])
        assert failure.value.exit_code == ExitCode.HALTED


def test_a_proxy_that_has_nothing_behind_it_for_a_moment_is_waited_for() -> None:
    """It answers 404 to all that were under way: that is one refusal. Only one that is repeated ends the run."""
    with ModelServer(delay_s=0.01) as server:
        model = asked(server)
        server.faults.extend(["404"] * 8)
        assert all(isinstance(one, Answer) for one in run(model, [f"text {number}" for number in range(20)]))
        assert server.statuses[404] == 8


def test_a_start_says_what_is_wrong_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, an address or a name that is wrong ends the run with words; a server that is not there may yet come, and
    is named when it does not."""
    monkeypatch.setenv("TINY_KEY", "wrong")
    with ModelServer(key="x") as server:
        for words, served in {
            "name the variable with the server's key in served_key_env": {},
            "401 ": {"key_env": "TINY_KEY"},
            "variable NO_SUCH_KEY is not set": {"key_env": "NO_SUCH_KEY"},
            "no_such.pem can't be read": {"ca": "no_such.pem"},
        }.items():
            with pytest.raises(ModelError, match=words):
                asked(server, served=served)
        server.key = ""
        with pytest.raises(ModelError, match="usually ends in /v1"):
            ServedModel(spec(server), f"{server.url}/v2")
        with pytest.raises(ModelError, match=r"404 \(NotFoundError\): .*the models tiny-chat"):
            asked(server, served={"model": "other"})
        with pytest.raises(ModelError, match="one of kind embedding, and the task needs one of reranker"):
            asked(server, "rerank", tei=True)
        server.models = ["one", "two"]
        with pytest.raises(ModelError, match=r"the server has 2 models \(one, two\): name one in served_model"):
            asked(server)
        server.models = [MODEL]
        server.stop()
        monkeypatch.setattr(served_model, "_START_S", 0.0)
        with pytest.raises(WorkerFailureError, match="it refuses connections") as failure:
            asked(server)
        assert failure.value.failure is FailureClass.DEVICE
        monkeypatch.setattr(served_model, "_START_S", 30.0)
        threading.Timer(0.2, server.start).start()
        assert outputs(run(asked(server), ["late"]))[0]["text"] == "etal"


@pytest.mark.parametrize(
    ("name", "task", "text", "pair", "params", "output"),
    [
        ("bert", "embedding", "abc", None, None, {"vector": [3.0, 0.5, -0.25], "dimensions": 3}),
        ("predict", "text-classification", "abc", None, None, {"label": "even", "score": 0.75}),
        ("rerank", "rerank", "q", "abc", None, {"score": 0.03}),
        ("rerank", "rerank", "q", None, {"candidates": ["a", "abc"]}, {"scores": [0.01, 0.03], "ranking": [1, 0]}),
    ],
)
def test_tasks_of_tei(name: str, task: str, text: str, pair: str | None, params: Any, output: Any) -> None:
    """As this task's outputs are; the revision is the model's commit, and requests hold no more than the server
    takes."""
    with ModelServer() as server:
        server.models = [name]
        model = asked(server, task, tei=True)
        card = model.card
        assert (card.name, card.dtype, card.max_tokens) == (name, "float16", 512)
        assert card.revision.startswith("a" * 40)
        server.bodies.clear()
        outcomes = run(model, [text] * 20, [pair] * 20 if pair else None, [params] * 20 if params else None)
        assert outputs(outcomes) == [output] * 20
        assert max(len(one.get("inputs", ())) for one in server.bodies) <= 8


def test_the_servers_identity_is_part_of_the_revision() -> None:
    """Another fingerprint, model or word of the user's, and answers are not shared; a restart alone changes nothing."""
    with ModelServer() as server:

        def revision(**served: Any) -> str:
            return asked(server, served=served).card.revision

        first = revision()
        assert revision() == first and first.startswith("fp_1-")
        server.fingerprint = "fp_2"
        second, named = revision(), revision(revision="weights of May")
        assert not asked(server, served={"pinned": False}).card.shared
        server.models = ["other"]
        assert len({first, second, named, revision()}) == 4 and named.startswith("weights_of_May-")
