"""Showing the configuration without its secrets."""

from __future__ import annotations

import tomllib

import pytest

from streamer.cli.config import toml_lines
from streamer.config import CacheConfig, Config, KafkaConfig, PipelineConfig, redacted, redacted_url
from streamer.config_fields import Property


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
    ],
)
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
