"""Login tokens from a user's function: shared, renewed, checked, and what is said when there is none."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from streamer.config.load import load
from streamer.core.settle.calls import Act
from streamer.errors import ConfigurationError, DependencyError
from streamer.kafka.errors import act_on_consumer, act_on_producer
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


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("t", "returned str; it must return"),
        (("t",), "returned tuple"),
        ((b"t", NOW + 9), "no text"),
        (("", NOW + 9), "no text"),
        (("t", "soon"), "no number"),
        (("t", True), "no number"),
        (("t", (NOW + 9) * 1000), "in milliseconds; divide it by 1000"),
        (("t", NOW), "has expired"),
        (("t", NOW + 9, None), "principal or extensions"),
        (("t", NOW + 9, "p", {"a": 1}), "principal or extensions"),
        (("t", NOW + 9, "p", "a=1"), "principal or extensions"),
    ],
)
def test_what_is_no_token_is_named(returned: Any, words: str) -> None:
    """The client itself would ask no more after a value of another type."""
    with pytest.raises(ValueError, match=words):
        token_of(returned, NOW)


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
