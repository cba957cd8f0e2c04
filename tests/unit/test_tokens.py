"""Login tokens from a user's function: shared, renewed, checked, and what is said when there is none."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from streamer.config.load import load
from streamer.core.intake import SourcePolicy
from streamer.core.membership import Membership
from streamer.core.pipeline.attempts import Attempts
from streamer.core.settle.calls import Act
from streamer.core.standing import Reason
from streamer.errors import ConfigurationError, DependencyError
from streamer.kafka.errors import act_on_consumer, act_on_producer
from streamer.kafka.source.watch import Joining
from streamer.kafka.tokens import Tokens, token_of, tokens

NOW = 1_800_000_000.0


class Issuer:
    """A function that gives tokens of 100 s, or fails, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = NOW
        self.calls: list[str] = []
        self.fails = 0

    def __call__(self, config: str) -> tuple[str, float]:
        self.calls.append(config)
        if self.fails:
            self.fails -= 1
            Path("s3cret").read_text()  # in the standard library: what is named is the line here
        return f"token {len(self.calls)}", self.now + 100

    def tokens(self) -> Tokens:
        return Tokens(self, lambda: self.now, self.wait)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_clients_share_a_token_for_half_its_life() -> None:
    issuer = Issuer()
    made = issuer.tokens()
    first = made("scope=x")
    assert first == ("token 1", NOW + 100, "", {})
    issuer.now += 49
    assert made("scope=x") == first
    issuer.now += 2
    assert made("scope=x")[0] == "token 2"
    assert issuer.calls == ["scope=x", "scope=x"]


def test_a_failure_costs_nothing_while_the_last_token_is_valid(caplog: pytest.LogCaptureFixture) -> None:
    """It is said each time, without the error's own words; then it is raised, so that the client asks again."""
    caplog.set_level(logging.INFO, "streamer")
    issuer = Issuer()
    made = issuer.tokens()
    made("")
    issuer.now, issuer.fails = NOW + 80, 2
    assert made("")[0] == "token 1"
    issuer.now = NOW + 101
    with pytest.raises(FileNotFoundError):
        made("")
    assert made("")[0] == "token 4"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3 and said[0].startswith(
        "no login token from kafka.oauth_callback: it raised FileNotFoundError at test_tokens.py:"
    )
    assert said[2] == "kafka.oauth_callback gives login tokens again"
    assert "s3cret" not in caplog.text


def test_a_client_waits_for_its_first_token_and_then_says_why_there_is_none() -> None:
    issuer = Issuer()
    issuer.fails = 2
    made = issuer.tokens()
    made.ready("")
    assert len(issuer.calls) == 3
    issuer = Issuer()
    issuer.fails = 9
    with pytest.raises(
        DependencyError, match=r"^kafka.oauth_callback raised FileNotFoundError at test_tokens.py:.*; correct"
    ):
        issuer.tokens().ready("")
    assert len(issuer.calls) == 4


def test_a_login_refused_for_want_of_a_token_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a minute after the function failed; a password that is refused is not."""
    issuer = Issuer()
    made = issuer.tokens()
    monkeypatch.setattr("streamer.kafka.tokens._IN_USE", [made])
    refused = KafkaError(KafkaError._AUTHENTICATION)
    assert {act_on_consumer(refused), act_on_producer(refused)} == {Act.DENIED}
    issuer.fails = 1
    with pytest.raises(FileNotFoundError):
        made("")
    assert (act_on_consumer(refused), act_on_producer(refused)) == (Act.RETRY, Act.REBUILD)
    assert act_on_consumer(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)) is Act.DENIED
    issuer.now += 61
    assert act_on_consumer(refused) is Act.DENIED


def test_a_function_that_hangs_holds_nobody_for_longer_than_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """The valid token goes on to serve; then each client hears that there is none, and the driver what keeps it. The
    call that hangs is left behind for another after a pause that grows, and a late answer of it is taken."""
    issuer, answer, calls = Issuer(), threading.Event(), []

    def hang(config: str) -> tuple[str, float]:
        calls.append(config)
        if len(calls) > 1:
            answer.wait(60)
        return issuer(config)

    made = Tokens(hang, lambda: issuer.now, issuer.wait, deadline_s=0.05)
    made("")
    issuer.now += 80
    assert (made("")[0], made.trouble, made.lacking) == ("token 1", "", True)
    issuer.now += 30
    with pytest.raises(ValueError, match=r"^has not answered for 0 s$"):  # the first call's time is over: another
        made("")
    assert len(calls) == 3
    issuer.now += 0.05
    with pytest.raises(ValueError, match=r"^has not answered"):
        made("")
    assert len(calls) == 3, "the pause grows"
    assert made.trouble.startswith("has not answered for")
    assert sum("no login token" in record.getMessage() for record in caplog.records) == 1, "said once for all clients"
    with pytest.raises(DependencyError, match=r"^kafka.oauth_callback has not answered for . s; correct it"):
        made.ready("")
    answer.set()
    deadline = time.monotonic() + 30
    while made.trouble and time.monotonic() < deadline:
        with suppress(ValueError):
            made("")
        time.sleep(0.01)
    assert made.trouble == ""


def test_a_module_that_hangs_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.kafka.tokens._IMPORT_S", 0.05)
    (here / "issuing.py").write_text("import time\ntime.sleep(1)\n")
    with pytest.raises(ConfigurationError, match="module issuing has been importing for"):
        tokens("issuing:issue")


@pytest.mark.parametrize(("out_s", "reason"), [(5, None), (15, Reason.LOGIN), (70, Reason.LOGIN)])
def test_who_is_out_of_the_group_for_want_of_a_token_is_told_so(
    out_s: float, reason: Reason | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a minute of the token's end; without that trouble, the group is to blame."""
    issuer = Issuer()
    made = issuer.tokens()
    monkeypatch.setattr("streamer.kafka.tokens._IN_USE", [made])
    policy = SourcePolicy(topics=["in"], group="g")
    ours = Membership(Attempts(3), until_end=False, revoke_deadline_s=1.0)
    ours.waits_since = time.monotonic() - out_s
    joining = Joining(policy, ours)
    assert [one.reason for one in joining.standing()] == ([Reason.GROUP] if out_s > 60 else [])
    issuer.fails = 1
    with pytest.raises(FileNotFoundError):
        made("")
    found = joining.standing()
    assert [(one.partition, one.reason) for one in found] == ([(("in", -1), reason)] if reason else [])
    assert all("kafka.oauth_callback raised FileNotFoundError at test_tokens.py" in one.what for one in found)
    ours.waits_since = None
    assert joining.standing() == [], "connections that are there serve on"


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("t", "returned str; it must return"),
        (("t",), "returned tuple"),
        ((b"t", NOW + 9), "no text"),
        (("", NOW + 9), "no text"),
        (("t\n", NOW + 9), "a line break"),
        (("t\0", NOW + 9), "a line break"),
        (("t", "soon"), "no number"),
        (("t", True), "no number"),
        (("t", float("nan")), "no number"),
        (("t", (NOW + 9) * 1000), "in milliseconds; divide it by 1000"),
        (("t", NOW), "has expired"),
        (("t", NOW + 9, None), "principal or extensions"),
        (("t", NOW + 9, "p", {"a": 1}), "principal or extensions"),
        (("t", NOW + 9, "p", "a=1"), "principal or extensions"),
        (("t", NOW + 9, "p", {"a key": "1"}), "name is not made of letters"),
        (("t", NOW + 9, "p", {"auth": "1"}), "or is auth"),
        (("t", NOW + 9, "p", {"a": "ü"}), "not ASCII"),
    ],
)
def test_what_is_no_token_is_named(returned: Any, words: str) -> None:
    """The client itself would ask no more after a value of another type."""
    with pytest.raises(ValueError, match=words):
        token_of(returned, NOW)


def test_a_function_that_exits_ends_no_program() -> None:
    """Nor is what it says told: it may be a secret."""

    def leave(_: str) -> Any:
        sys.exit("hunter2")

    with pytest.raises(DependencyError, match="raised SystemExit") as caught:
        Tokens(leave, sleep=lambda _: None).ready("")
    assert "hunter2" not in str(caught.value)


def test_a_token_may_have_a_principal_and_extensions() -> None:
    assert token_of(["t", NOW + 9], NOW) == ("t", NOW + 9, "", {})
    assert token_of(("t", int(NOW) + 9, "p", {"a": "1"}), NOW) == ("t", NOW + 9, "p", {"a": "1"})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    tokens.cache_clear()
    for name in ("issuing", "broken_issuing"):
        sys.modules.pop(name, None)


def test_the_function_is_found_in_the_directory_of_the_start(here: Path) -> None:
    (here / "issuing.py").write_text("number = 5\ndef issue(config):\n    return config, 4e9\n")
    (here / "broken_issuing.py").write_text("import no_such_package\n")
    assert tokens("issuing:issue")("c")[0] == "c"
    assert tokens("issuing:issue") is tokens("issuing:issue")
    for name, words in (
        ("issuing:other", "module issuing has no function other"),
        ("issuing:number", "issuing:number is no function"),
        ("broken_issuing:issue", r"can't be imported \(No module named 'no_such_package'\)"),
        ("no_such_module:issue", "start in the directory that holds it"),
    ):
        with pytest.raises(ConfigurationError, match=f"^kafka.oauth_callback: .*{words}"):
            tokens(name)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('oauth_callback = "m:f"', "kafka.oauth_callback: it is for logins with tokens only"),
        ('oauth_callback = "m.f"\nproperties = {"sasl.mechanism" = "OAUTHBEARER"}', "kafka.oauth_callback: "),
        (
            'oauth_callback = "m:f"\n'
            'properties = {"sasl.mechanism" = "OAUTHBEARER", "sasl.oauthbearer.method" = "oidc"}',
            "kafka.oauth_callback: .* remove one of the two",
        ),
        (
            'properties = {"sasl.mechanisms" = "OAUTHBEARER"}',
            r"kafka.properties.*sasl.mechanisms.*: nothing says where tokens come from",
        ),
    ],
)
def test_a_configuration_names_one_place_that_tokens_come_from(tmp_path: Path, lines: str, words: str) -> None:
    path = tmp_path / "streamer.toml"
    path.write_text(f"[kafka]\n{lines}\n")
    with pytest.raises(ConfigurationError, match=words):
        load(path)


def test_either_place_will_do(tmp_path: Path) -> None:
    path = tmp_path / "streamer.toml"
    login = '"security.protocol" = "SASL_SSL", "sasl.mechanism" = "OAUTHBEARER"'
    path.write_text(f'[kafka]\noauth_callback = "m:f"\nproperties = {{{login}}}\n')
    assert load(path).kafka.oauth_callback == "m:f"
    path.write_text(f'[kafka]\nproperties = {{{login}, "sasl.oauthbearer.method" = "oidc"}}\n')
    assert load(path).kafka.oauth_callback == ""
