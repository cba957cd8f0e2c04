"""Misspelt variables and flags: each is named, with the nearest that exists, and none changes anything unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config.environment import strays
from streamer.config.load import load
from streamer.errors import ConfigurationError

FILE = "[pipelines.my-sentiment]\ntask = 't'\nmodel = 'builtin:null'\ninput = 'a'\noutput = 'b'\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration of one pipeline."""
    path = tmp_path / "streamer.toml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("STREAMER_KAFKA__BOOTSTRAP_SERVER", "STREAMER_KAFKA__BOOTSTRAP_SERVERS"),
        ("STREAMER_KAFK__BOOTSTRAP_SERVERS", "STREAMER_KAFKA__BOOTSTRAP_SERVERS"),
        ("STREAMER_KAFKA_BOOTSTRAP_SERVERS", "STREAMER_KAFKA__BOOTSTRAP_SERVERS"),
        ("STREAMER_BOOTSTRAP_SERVERS", "STREAMER_KAFKA__BOOTSTRAP_SERVERS"),
        ("STREAMER_KAFKA__PROPERTY__SASL_USERNAME", "STREAMER_KAFKA__PROPERTIES__SASL_USERNAME"),
        ("STREAMER_PIPELINE__MY_SENTIMENT__WORKERS", "STREAMER_PIPELINES__MY_SENTIMENT__WORKERS"),
        ("STREAMER_PIPELINES__MY_SENTIMNT__WORKERS", "STREAMER_PIPELINES__MY_SENTIMENT__WORKERS"),
        ("STREAMER_PIPELINES__MY_SENTIMENT__WORKRES", "STREAMER_PIPELINES__MY_SENTIMENT__WORKERS"),
        ("STREAMER_PIPELINES_MY_SENTIMENT_WORKERS", "STREAMER_PIPELINES__MY_SENTIMENT__WORKERS"),
        ("STREAMER_PIPELINES__MY_SENTIMENT__OPTION__TOP_K", "STREAMER_PIPELINES__MY_SENTIMENT__OPTIONS__TOP_K"),
        ("STREAMER_LOG_LEVEL", "STREAMER_TELEMETRY__LOG_LEVEL"),
    ],
)
def test_a_misspelt_variable_is_answered_with_the_nearest(file: Path, variable: str, nearest: str) -> None:
    """One problem, by the variable's own name."""
    with pytest.raises(ConfigurationError) as caught:
        load(file, {variable: "2"})
    (refusal,) = caught.value.refusals
    assert refusal.where == f"environment variable {variable}"
    assert f"did you mean {nearest}?" in f"{refusal.problem}; {refusal.fix}"


@pytest.mark.parametrize(
    ("flag", "where", "words"),
    [
        ("pipelines.my-sentimnt.workers=2", "pipelines.my-sentimnt.workers", "did you mean my-sentiment?"),
        ("pipelines.other.workers=2", "pipelines.other.workers", "there are my-sentiment; add task, model"),
        ("pipeline.my-sentiment.workers=2", "pipeline.my-sentiment.workers", 'did you mean "pipelines"?'),
        ("kafka.bootstrap_server=x", "kafka.bootstrap_server", 'did you mean "bootstrap_servers"?'),
        ("workers=2", "workers", "did you mean pipelines.NAME.workers?"),
    ],
)
def test_a_misspelt_flag_is_answered_with_the_nearest(file: Path, flag: str, where: str, words: str) -> None:
    """As written on the command line."""
    with pytest.raises(ConfigurationError) as caught:
        load(file, {}, [flag])
    (refusal,) = caught.value.refusals
    assert refusal.where == f"--set {where}"
    assert words in f"{refusal.problem}; {refusal.fix}"


def test_what_others_set_is_left_alone(file: Path) -> None:
    """Kubernetes' variables of a service called streamer-kafka, and names that are near to none of ours."""
    environ = {
        "STREAMER_KAFKA_SERVICE_HOST": "10.0.0.1",
        "STREAMER_KAFKA_SERVICE_PORT_CLIENTS": "9092",
        "STREAMER_KAFKA_PORT": "tcp://10.0.0.1:9092",
        "STREAMER_KAFKA_PORT_9092_TCP_ADDR": "10.0.0.1",
        "STREAMER_CONSOLE_TOKEN": "s3cret",
        "STREAMER_VERSION": "1.2",
    }
    load(file, environ)
    assert list(strays(environ, ["my-sentiment"])) == [("STREAMER_VERSION", "")]


def test_a_default_is_not_a_variables_fault(file: Path) -> None:
    """A variable beside it made the table that it stands in."""
    file.write_text(FILE.replace("'a'", "'streamer.reports'"))
    with pytest.raises(ConfigurationError) as caught:
        load(file, {"STREAMER_TELEMETRY__SPANS": "x"})
    assert str(caught.value).startswith(f"{file}: pipelines.my-sentiment.input: streamer.reports is a topic")
