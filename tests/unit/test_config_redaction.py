"""Showing the configuration without its secrets."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from streamer.cli.config import toml_lines
from streamer.config.fields import Property
from streamer.config.load import CacheConfig, Config, KafkaConfig, PipelineConfig, load, redacted, redacted_url
from streamer.config.url import several_of
from streamer.errors import ConfigurationError
from streamer.kafka.clients import check_properties


def test_only_properties_known_to_be_harmless_are_shown() -> None:
    """An unknown property is hidden: a list of secrets would miss the next one."""
    properties: dict[str, Property] = {
        "security.protocol": "ssl",
        "session.timeout.ms": 6000,
        "sasl.password": "s",
        "new.thing": "s",
    }
    shown = redacted(Config(kafka=KafkaConfig(properties=properties)))
    assert shown["kafka"]["properties"] == {
        "security.protocol": "ssl",
        "session.timeout.ms": 6000,
        "sasl.password": "(hidden)",
        "new.thing": "(hidden)",
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://user:s3cret@cache:6379/0", "redis://user:(hidden)@cache:6379/0"),
        ("redis://:s3cret@cache", "redis://:(hidden)@cache"),
        ("unix:///run/redis.sock?password=s3cret", "unix:///run/redis.sock?(hidden)"),
        ("s3cret", "(hidden)"),
        ("", ""),
        ("redis://:s3cr/et@cache:6379/0", "redis://:(hidden)@cache:6379/0"),
        ("redis://:/s3cret@cache", "redis://:(hidden)@cache"),
        ("redis://u:s3cr#et@cache:6379/0", "redis://u:(hidden)@cache:6379/0"),
        ("redis://u:s3cr?et@cache:6379/0", "redis://u:(hidden)@cache:6379/0"),
        ("redis://u:s3cr@et@cache:6379/0", "redis://u:(hidden)@cache:6379/0"),
        ("redis://u:s3cr%2Fet@cache:6379/0", "redis://u:(hidden)@cache:6379/0"),
        ("redis://u:[s3cret@cache:6379/0", "redis://u:(hidden)@cache:6379/0"),
        ("redis://u:s3cret@cache:port", "redis://u:(hidden)@cache:port"),
        ("redis://s3cret@cache", "redis://(hidden)@cache"),
        ("redis://s3/cr:et@cache", "redis://:(hidden)@cache"),
        ("rediss://u:a:b/c#d?e@f%g@cache/0?password=s3cret#s3cret", "rediss://u:(hidden)@cache/0?(hidden)"),
        ("unix://u:s3/cret@/run/redis.sock?db=1", "unix://u:(hidden)@/run/redis.sock?(hidden)"),
    ],
)
@pytest.mark.case(81)
def test_a_url_loses_its_password(url: str, shown: str) -> None:
    """Passwords stand before @ or in the query."""
    assert redacted_url(url) == shown


def test_a_url_from_a_file_is_not_shown() -> None:
    """What stood in a secret's file stays there."""
    shown = redacted(Config(cache=CacheConfig(url="redis://:s@cache", url_file="/run/secrets/url")))
    assert (shown["cache"]["url"], shown["cache"]["url_file"]) == ("", "/run/secrets/url")


def test_options_named_like_secrets_are_hidden() -> None:
    """A task's options may hold keys at any depth."""
    options = {"top_k": 5, "remote": [{"api_key": "s", "name": "x"}]}
    pipeline = PipelineConfig(task="t", model="m", input=["a"], output="b", options=options)
    shown = redacted(Config(pipelines={"p": pipeline}))
    assert shown["pipelines"]["p"]["options"] == {"top_k": 5, "remote": [{"api_key": "(hidden)", "name": "x"}]}


def test_what_is_shown_is_toml() -> None:
    """`config show` can be read back: quotes, nested tables and lists included."""
    options = {"a": {"b": [1, {"c": 'quo"te\n'}]}, "key with space": True, "ü": 1.5, "empty": {}}
    pipeline = PipelineConfig(task="t", model="m", input=["a"], output="b", options=options)
    shown = redacted(Config(pipelines={"p": pipeline}, kafka=KafkaConfig(properties={"client.id": "x"})))
    assert tomllib.loads("\n".join(toml_lines(shown))) == shown


@pytest.mark.case(81)
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://cache:s3cret", "port"),
        ("redis://cache:99999", "port"),
        ("redis://cache:0", "port"),
        ("redis://:s3cr/et@cache:6379/0", "port"),
        ("redis://:1234/s3cret@cache:6379/0", "password"),
        ("redis://s3cret#x@cache", "password"),
        ("redis://s3cret?x@cache", "password"),
        ("redis://[s3cret@cache", "host"),
        ("redis://:s3cret@", "host is missing"),
        ("redis://", "host is missing"),
        ("redis:///0", "host is missing"),
        ("redis://cache/s3cret", "database"),
        ("redis://:s3cret @cache", "space"),
        ("http://u:s3cret@cache", "redis://HOST"),
        ("s3cret", "redis://HOST"),
        ("unix://", "path"),
        ("redis+sentinel://:s3cret@a,b:1", "primary's name is missing; write redis+sentinel://HOST:PORT"),
        ("redis+sentinel://:s3cret@a:x/main", "port"),
        ("redis+sentinel://:s3cret@a:0/main", "port"),
        ("redis+sentinel://:s3cret@a,,b/main", "host is missing"),
        ("redis+sentinel://:s3cr/et@a/main", "port"),
        ("redis+sentinel://:1/s3cret@a/main", "password"),
        ("rediss+sentinel://a/main/s3cret", "database"),
        ("redis+cluster://:s3cret@", "host is missing"),
        ("redis+cluster://a/1?x=s3cret", "database 0 only"),
        ("rediss+cluster://a:1,b:99999", "port"),
        ("redis+s3cret://a", "redis+sentinel://"),
    ],
)
def test_a_wrong_url_is_a_sentence(url: str, why: str) -> None:
    """It names the field and the fix, and nothing of the URL."""
    with pytest.raises(ConfigurationError) as caught:
        load(None, {}, [f"cache.url={url}"])
    told = str(caught.value)
    assert "--set cache.url: " in told and why in told
    assert "s3cret" not in told and "1234" not in told


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "redis://cache:6379/0",
        "rediss://u:p%2F%23%3F%40%25@cache:6379/15?socket_timeout=1",
        "redis://[::1]:6379",
        "redis://:p@ss@cache",
        "unix:///run/redis.sock?db=1",
        "unix://u:p@/run/redis.sock",
        "redis+sentinel://a:26379,b,[::1]:5/main",
        "rediss+sentinel://u:p%2F@a/main/3?sentinel_password=x&ssl_ca_certs=/ca.pem",
        "redis+cluster://a:7000,b:7001",
        "rediss+cluster://u:p@a/0?ssl_ca_certs=/ca.pem",
    ],
)
def test_a_url_that_is_one(url: str) -> None:
    """What the client takes is taken."""
    assert load(None, {}, [f"cache.url={url}"]).cache.url == url


def test_the_parts_of_a_url_of_several_servers() -> None:
    """Hosts and ports, and the rest as of one server."""
    found = several_of("rediss+sentinel://u:p%2F@a,[::1]:5/main/3?sentinel_password=x%20y&ssl_ca_certs=/ca.pem")
    assert found is not None and (found.kind, found.name) == ("sentinel", "main")
    assert found.hosts == (("a", 26379), ("::1", 5))
    assert found.one == "rediss://u:p%2F@host/3?ssl_ca_certs=%2Fca.pem"
    assert found.login == {"password": "x y"}
    found = several_of("redis+cluster://a:7000,b")
    assert found is not None and found.hosts == (("a", 7000), ("b", 6379)) and found.one == "redis://host/?"
    assert several_of("redis://a,b:1") is None


@pytest.mark.case(81)
def test_no_message_quotes_a_secret(tmp_path: Path) -> None:
    """Of what is written in a wrong place, in a wrong form, or from the environment."""
    file = tmp_path / "url"
    file.write_text("redis://:s3cr/et@cache\n")
    attempts: list[tuple[dict[str, str], list[str]]] = [
        ({"STREAMER_CACHE__URL": "redis://:s3cr/et@cache"}, []),
        ({"STREAMER_CACHE__URL_FILE": "redis://:s3cr/et@cache"}, []),
        ({"STREAMER_CACHE__URL_FILE": str(file)}, []),
        ({"STREAMER_KAFKA__PROPERTIES__SASL_PASSWORD_FILE": "s3cr/et"}, []),
        ({}, ["cache.url:redis://:s3cr/et@cache"]),
        ({}, ["kafka.properties.sasl.password_file=s3cr/et"]),
        ({}, ["cache.url_file=s3cr/et\0"]),
    ]
    for environ, overrides in attempts:
        with pytest.raises(ConfigurationError) as caught:
            load(None, environ, overrides)
        assert "s3cr" not in str(caught.value), str(caught.value)
        assert ";" in str(caught.value), "no fix"


@pytest.mark.parametrize(
    "name",
    ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.jaas.config", "sasl.oauthbearer.config",
     "sasl.oauthbearer.client.secret", "ssl.keystore.password"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["file", "environment", "flag"])
def test_secrets_of_the_client_are_hidden_however_they_came(tmp_path: Path, name: str, how: str) -> None:
    """And what librdkafka says of them is free of them."""
    file = tmp_path / "streamer.toml"
    file.write_text(f'[kafka.properties]\n"{name}" = "s3cr/et"\n' if how == "file" else "")
    environ = {f"STREAMER_KAFKA__PROPERTIES__{name.upper().replace('.', '_')}": "s3cr/et"} if how != "file" else {}
    config = load(file, environ if how == "environment" else {}, [f"kafka.properties.{name}=s3cr/et"] * (how == "flag"))
    assert config.kafka.properties == {name: "s3cr/et"}
    assert "s3cr" not in json.dumps(redacted(config))
    try:
        check_properties(config.kafka)
    except ConfigurationError as error:
        assert "s3cr" not in str(error)
