"""Who may do what on the console, over its real application without a network."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamer.cli import main
from streamer.config.load import load
from streamer.console.access import Access, knows_host, make_access, read_tokens
from streamer.console.app import Console, make_app
from streamer.console.desk import Desk
from streamer.console.feed import Feed
from streamer.console.front import Front, make_front
from streamer.console.history import History
from streamer.console.looks import Looks
from streamer.errors import ConfigurationError, ExitCode, UsageError

TOKEN = "0123456789abcdef0123"
CONFIG = load(
    None,
    {},
    [
        "kafka.bootstrap_servers=127.0.0.1:1",
        "pipelines.p.task=embedding",
        "pipelines.p.model=builtin:null",
        "pipelines.p.input=in",
        "pipelines.p.output=out",
    ],
)


LOCAL = make_front("127.0.0.1", (), "", ())
PROXIED = make_front("127.0.0.1", ("console.example.com",), "/streamer", ("10.0.0.0/8", "::1"))


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


def ask(
    access: Access,
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    host: str = "127.0.0.1:8080",
    front: Front = LOCAL,
    peer: str = "127.0.0.1",
    query: str = "",
    **headers: str,
) -> Answer:
    """One request to the application."""
    looks = Looks(CONFIG, show_text=False)
    desk = Desk(CONFIG, looks, History(CONFIG.kafka))
    console = Console(CONFIG, access, front, Feed(CONFIG, []), looks, desk, stopping=lambda: True)
    app = make_app(console)
    given = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": (peer, 1),
        "server": ("127.0.0.1", 8080),
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start = sent[0]
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


def execute(access: Access, body: bytes = b'{"digest": "d"}', **headers: Any) -> Answer:
    return ask(access, "/api/orders/execute", method="POST", body=body, content_type="application/json", **headers)


MAY_REPLAY = make_access("127.0.0.1", allow_replay=True, show_text=False, tokens={"operator": TOKEN})
ONLY_READS = make_access("127.0.0.1", allow_replay=False, show_text=False, tokens={})
PUBLIC = make_access("0.0.0.0", allow_replay=False, show_text=False, tokens={"operator": TOKEN})


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/about", "/api/nothing"])
def test_every_answer_tells_the_browser_to_be_strict(path: str) -> None:
    """No inline script, no foreign source, no sniffing, no frame."""
    headers = ask(ONLY_READS, path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""])
def test_a_foreign_host_header_is_refused(host: str) -> None:
    """A name that somebody let resolve to this machine gets nothing, the page included."""
    assert ask(ONLY_READS, "/", host=host).status == 421
    assert ask(MAY_REPLAY, "/api/about", host=host).status == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "10.1.2.3", "LocalHost"])
def test_this_machine_is_known_by_address_and_as_localhost(host: str) -> None:
    """An address can't be rebound, so any is known."""
    assert knows_host(host, "127.0.0.1")


def test_another_sites_page_gets_nothing() -> None:
    """A browser says who asks; the page itself may be linked to."""
    assert ask(ONLY_READS, "/api/about", sec_fetch_site="cross-site").status == 403
    assert ask(ONLY_READS, "/api/about", sec_fetch_site="same-origin").status == 200
    assert ask(ONLY_READS, "/", sec_fetch_site="cross-site").status == 200


def test_without_allow_replay_nothing_is_executed() -> None:
    """Not even with a token that fits."""
    reads = make_access("127.0.0.1", allow_replay=False, show_text=False, tokens={"operator": TOKEN})
    answer = execute(reads, authorization=f"Bearer {TOKEN}")
    assert answer.status == 403
    assert "--allow-replay" in answer.error


@pytest.mark.parametrize("given", ["", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ", f"Bearer {TOKEN[:-1]}"])
def test_a_wrong_token_is_refused(given: str) -> None:
    """Only the whole token in a Bearer header counts."""
    assert execute(MAY_REPLAY, authorization=given).status == 401


def test_the_right_token_is_let_through() -> None:
    """What is refused then is the job that nobody surveyed."""
    answer = execute(MAY_REPLAY, authorization=f"Bearer {TOKEN}")
    assert answer.status == 400
    assert "dry run" in answer.error


@pytest.mark.case(84)
def test_a_dry_run_takes_the_token_too() -> None:
    """What is kept to be executed is made by those who may execute; a job's name alone executes nothing."""
    access = make_access("127.0.0.1", allow_replay=True, show_text=False, tokens={"ada": TOKEN, "bob": TOKEN + "x"})

    def survey(**headers: Any) -> Answer:
        path = "/api/orders/survey"
        return ask(access, path, method="POST", body=b'{"rate": -1}', content_type="application/json", **headers)

    assert survey().status == 401
    assert survey(authorization=f"Bearer {TOKEN}").status == 400
    assert (access.bearer(f"Bearer {TOKEN}x"), access.bearer("Bearer y")) == ("bob", None)
    for body, why in ((b"{}", "digest"), (b'{"job": "fix-1"}', "job"), (b'{"digest": "d", "job": "fix-1"}', "job")):
        answer = execute(access, body, authorization=f"Bearer {TOKEN}")
        assert (answer.status, why in answer.error) == (400, True)


@pytest.mark.parametrize("path", ["/api/orders/execute", "/api/jobs/j/cancel"])
def test_what_writes_takes_the_flag_and_the_token(path: str) -> None:
    """A console that only reads cancels nothing either, and it says which option is missing."""

    def post(access: Access, **headers: Any) -> Answer:
        body = b"{}" if path.endswith("cancel") else b'{"digest": "d"}'
        return ask(access, path, method="POST", body=body, content_type="application/json", **headers)

    assert "--allow-replay" in post(ONLY_READS).error
    assert post(MAY_REPLAY).status == 401
    assert post(MAY_REPLAY, authorization=f"Bearer {TOKEN}").status == 400


@pytest.mark.parametrize("query", ["since_ms=soon", "closed=2", "pipeline=p", "until_ms=-1"])
def test_a_filter_that_means_nothing_is_refused(query: str) -> None:
    """It is not left out: what was shown would be more than was asked for."""
    assert ask(ONLY_READS, "/api/letters", query=query).status == 400


def test_only_json_is_taken() -> None:
    """A form, which any site may send here, is refused, and so is what is no such document."""
    token = f"Bearer {TOKEN}"
    form = ask(MAY_REPLAY, "/api/orders/execute", method="POST", content_type="text/plain", authorization=token)
    assert form.status == 415
    for body in (b"{", b'{"digest": "\xff"}'):
        assert execute(MAY_REPLAY, body, authorization=token).error == "the body is not JSON"
    assert execute(MAY_REPLAY, b'{"digest": "j", "more": 1}', authorization=token).status == 400
    assert execute(MAY_REPLAY, b'{"digest": "%s"}' % (b"x" * 700_000), authorization=token).status == 413


@pytest.mark.parametrize(
    "path",
    [
        "/api/live",
        "/api/now",
        "/api/pipeline",
        "/api/jobs",
        "/api/letters",
        "/api/jobs/j/outcome",
        "/api/causes",
        "/api/letters/out.dlq/0/0",
    ],
)
def test_beyond_this_machine_reading_takes_the_token_too(path: str) -> None:
    """All but the page and what it is."""
    assert ask(PUBLIC, path).status == 401
    assert ask(PUBLIC, "/").status == 200
    assert json.loads(ask(PUBLIC, "/api/about").body)["private"] is True


def test_only_dead_letter_topics_are_shown() -> None:
    """The console is no way into other topics."""
    assert ask(ONLY_READS, "/api/letters/in/0/0").status == 400
    assert "not a dead-letter topic" in ask(ONLY_READS, "/api/letters/in/0/0").error


def test_the_options_must_go_together() -> None:
    """To replay, or to be reached from elsewhere, takes a token of some length."""
    for host, replay, token in (("127.0.0.1", True, None), ("0.0.0.0", False, None), ("127.0.0.1", True, "short")):
        with pytest.raises(UsageError, match="openssl rand"):
            make_access(host, allow_replay=replay, show_text=False, tokens={"operator": token} if token else {})
    assert not make_access("::1", allow_replay=False, show_text=False, tokens={}).private
    assert not make_access("localhost", allow_replay=False, show_text=False, tokens={}).private


@pytest.mark.case(90)
def test_a_proxy_is_believed_when_it_is_named() -> None:
    """What host the browser asked for counts from a trusted address, and from nobody else."""
    told: dict[str, Any] = {
        "host": "127.0.0.1:8080",
        "x_forwarded_host": "console.example.com",
        "x_forwarded_proto": "https",
    }
    evil = {**told, "x_forwarded_host": "evil.example"}
    inner = {"host": "inner:8080", "x_forwarded_host": "evil.example, console.example.com"}
    cases: list[tuple[dict[str, Any], str, int]] = [
        (told, "10.1.2.3", 200),
        (evil, "10.1.2.3", 421),
        (evil, "127.0.0.1", 200),  # not believed, so that the Host header counts
        (inner, "10.1.2.3", 200),  # of several proxies the last one is the trusted one's word
        (inner, "11.1.2.3", 421),
        (inner, "::ffff:10.1.2.3", 200),
        ({"host": "console.example.com"}, "127.0.0.1", 200),
        ({"host": "console.example.org"}, "127.0.0.1", 421),
    ]
    for headers, peer, status in cases:
        assert ask(ONLY_READS, "/api/about", front=PROXIED, peer=peer, **headers).status == status, (headers, peer)
    assert "--name" in ask(ONLY_READS, "/", host="console.example.org").error


@pytest.mark.case(90)
def test_the_page_lies_under_any_path() -> None:
    """Whether the proxy takes its part of the path away or not; what is foreign stays foreign there."""
    for path in ("/streamer/api/about", "/api/about", "/streamer/", "/streamer/static/main.js"):
        assert ask(ONLY_READS, path, front=PROXIED).status == 200
    assert ask(ONLY_READS, "/streamer", front=PROXIED).headers["location"] == "streamer/"
    assert ask(ONLY_READS, "/streamerapi/about", front=PROXIED).status == 404
    assert ask(ONLY_READS, "/streamer/api/about", front=PROXIED, sec_fetch_site="cross-site").status == 403
    bare = make_front("127.0.0.1", (), "", ("10.0.0.0/8",))
    given: dict[str, Any] = {"x_forwarded_prefix": "/mine"}
    assert ask(ONLY_READS, "/mine/api/about", front=bare, peer="10.0.0.1", **given).status == 200
    assert ask(ONLY_READS, "/mine/api/about", front=bare, **given).status == 404
    page = ask(ONLY_READS, "/").body.decode()
    assert not re.findall(r"(?:src|href)=\"/", page)


@pytest.mark.case(90)
@pytest.mark.parametrize("path", ["/api/causes", "/api/letters", "/api/letters/out.dlq/0/0"])
def test_behind_a_proxy_texts_take_the_token(path: str) -> None:
    """There everybody comes from this machine. A proxy that was not named gets no text at all."""
    access = make_access("127.0.0.1", allow_replay=False, show_text=True, tokens={"ada": TOKEN}, proxied=True)
    assert ask(access, path, front=PROXIED, peer="10.0.0.1", x_forwarded_for="1.2.3.4").status == 401
    assert ask(access, "/api/now", front=PROXIED, peer="10.0.0.1").status == 200
    right: dict[str, Any] = {"authorization": f"Bearer {TOKEN}"}
    assert ask(access, "/api/letters/in/0/0", front=PROXIED, peer="10.0.0.1", **right).status == 400
    shows = make_access("127.0.0.1", allow_replay=False, show_text=True, tokens={})
    refused = ask(shows, path, x_forwarded_for="1.2.3.4")
    assert (refused.status, "--trust-proxy" in refused.error) == (403, True)
    with pytest.raises(UsageError, match="--show-text behind a proxy needs a token"):
        make_access("127.0.0.1", allow_replay=False, show_text=True, tokens={}, proxied=True)


def test_addresses_and_paths_are_checked() -> None:
    """At the start, with what to write."""
    for root, proxies in (("streamer", ()), ("/a b", ()), ("/", ("ten",)), ("", ("10.0.0.0/99",))):
        with pytest.raises(UsageError, match=r"--root-path|--trust-proxy"):
            make_front("127.0.0.1", (), root, proxies)


@pytest.mark.parametrize("option", ["--prometheus-url", "--metrics"])
def test_an_address_elsewhere_is_a_url(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A link of the page leads nowhere else, e.g. to no script."""
    pipeline = [f"pipelines.p.{field}" for field in ("task=t", "model=builtin:null", "input=in", "output=out")]
    settings = [word for setting in pipeline for word in ("--set", setting)]
    assert main(["console", option, "javascript:alert(1)", *settings]) == ExitCode.USAGE
    assert f"{option} javascript:alert(1): write a URL" in capsys.readouterr().err


def test_without_its_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The web server is an extra: who lacks it is told its name."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "streamer.console.serve", raising=False)
    assert main(["console"]) == ExitCode.CONFIGURATION
    assert "[console]'" in capsys.readouterr().err


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    """The file first; an empty or missing one is an error, not no token."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_tokens(file, "other") == {"operator": TOKEN}
    assert read_tokens(None, f" {TOKEN} ") == {"operator": TOKEN}
    assert read_tokens(None, " ") == {}
    file.write_text(f"ada:{TOKEN}\n\nbob@ops: {TOKEN}x\n")
    assert read_tokens(file, None) == {"ada": TOKEN, "bob@ops": f"{TOKEN}x"}
    file.write_text(f"ada:{TOKEN}\nada:{TOKEN}x\n")
    with pytest.raises(ConfigurationError, match="line 2: ada has a token already"):
        read_tokens(file, None)
    file.write_text("\n")
    for bad in (file, tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match="--token-file"):
            read_tokens(bad, None)
