"""Loading the configuration: layers, defaults, and messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from streamer.config.load import Config, json_schema, load, start_time_ms
from streamer.errors import ConfigurationError, ExitCode

Write = Callable[[str], Path]

BASE = """
[kafka]
bootstrap_servers = "broker:9092"
[pipelines.my-sentiment]
task = "text-classification"
model = "builtin:null"
input = ["reviews"]
output = "reviews.out"
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a streamer.toml and returns its path."""

    def write_toml(text: str) -> Path:
        path = tmp_path / "streamer.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_toml


def message_of(path: Path, environ: dict[str, str] | None = None, overrides: tuple[str, ...] = ()) -> str:
    """The message that loading ends with."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ, overrides)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    return str(caught.value)


def test_names_follow_from_the_pipeline_and_its_output(write: Write) -> None:
    """Dead-letter topic and group have their documented defaults."""
    pipeline = load(write(BASE)).pipelines["my-sentiment"]
    assert (pipeline.dead_letter, pipeline.group) == ("reviews.out.dlq", "streamer.my-sentiment")


def test_defaults_are_those_of_the_documentation(write: Write) -> None:
    """The figures that other parts rest on are what the design fixes."""
    pipeline = load(write(BASE)).pipelines["my-sentiment"]
    assert pipeline.guarantee == "exactly_once"
    assert (pipeline.lease_s, pipeline.budget_mb, pipeline.micro_batch_records) == (60, 96, 8000)
    assert (pipeline.hold_s, pipeline.revoke_deadline_s, pipeline.stop_deadline_s) == (1.0, 10, 25)
    assert (pipeline.breaker_share, pipeline.breaker_window) == (0.5, 1000)
    assert pipeline.static_membership


def test_one_input_may_stand_alone(write: Write) -> None:
    """A single topic name is a list of one."""
    config = load(write(BASE.replace('["reviews"]', '"reviews"')))
    assert config.pipelines["my-sentiment"].input == ["reviews"]


def test_without_a_file_the_default_path_gives_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ./streamer.toml is no error: a cluster on localhost, no pipeline."""
    monkeypatch.chdir(tmp_path)
    assert load() == Config()


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A path that was asked for and is not there is an error that names it."""
    path = tmp_path / "absent.toml"
    assert message_of(path).startswith(f"{path}: can't be read")


def test_flags_win_over_variables_and_variables_over_the_file(write: Write) -> None:
    """The three layers lie over one another in the documented order."""
    path = write(BASE + "workers = 1\nthreads = 1\nlease_s = 1\n")
    environ = {
        "STREAMER_PIPELINES__MY_SENTIMENT__THREADS": "2",
        "STREAMER_PIPELINES__MY_SENTIMENT__LEASE_S": "2",
    }
    pipeline = load(path, environ, ["pipelines.my-sentiment.lease_s=3"]).pipelines["my-sentiment"]
    assert (pipeline.workers, pipeline.threads, pipeline.lease_s) == (1, 2, 3.0)


def test_texts_from_outside_become_the_fields_types(write: Write) -> None:
    """Booleans, numbers and lists can be given by variables and flags."""
    overrides = [
        "pipelines.my-sentiment.static_membership=false",
        "pipelines.my-sentiment.linger_ms=2.5",
        "pipelines.my-sentiment.input=a, b",
        "pipelines.my-sentiment.options.top_k=5",
        'pipelines.my-sentiment.options.labels=["x", "y"]',
        "pipelines.my-sentiment.options.template=This is {}.",
        "pipelines.my-sentiment.options.prompt=query: ",
    ]
    pipeline = load(write(BASE), {}, overrides).pipelines["my-sentiment"]
    assert (pipeline.static_membership, pipeline.linger_ms, pipeline.input) == (False, 2.5, ["a", "b"])
    assert pipeline.options == {"top_k": 5, "labels": ["x", "y"], "template": "This is {}.", "prompt": "query: "}


def test_a_pipeline_can_come_from_variables_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container needs no file."""
    monkeypatch.chdir(tmp_path)
    given = {"TASK": "t", "MODEL": "builtin:null", "INPUT": "a", "OUTPUT": "b"}
    config = load(None, {f"STREAMER_PIPELINES__SENTIMENT__{name}": value for name, value in given.items()})
    assert config.pipelines["sentiment"].output == "b"


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("SASL_PASSWORD", "sasl.password"),
        ("SSL_CA_LOCATION", "ssl.ca.location"),
        ("SASL_OAUTHBEARER_ASSERTION_FILE", "sasl.oauthbearer.assertion.file"),
    ],
)
def test_an_underscore_in_a_variable_is_a_propertys_dot(write: Write, variable: str, name: str) -> None:
    """librdkafka's names are reached although variables can't hold dots."""
    config = load(write(BASE), {f"STREAMER_KAFKA__PROPERTIES__{variable}": "x"})
    assert config.kafka.properties == {name: "x"}


def test_secrets_are_read_from_files(write: Write, tmp_path: Path) -> None:
    """`NAME_file` and `url_file` stand for what the file holds, without its last line end."""
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "url").write_text("redis://:s3cret@cache:6379/0\n")
    environ = {
        "STREAMER_KAFKA__PROPERTIES__SASL_PASSWORD_FILE": str(tmp_path / "password"),
        "STREAMER_CACHE__URL_FILE": str(tmp_path / "url"),
    }
    config = load(write(BASE), environ)
    assert config.kafka.properties == {"sasl.password": "s3cret"}
    assert config.cache.url == "redis://:s3cret@cache:6379/0"


def test_a_secret_given_twice_is_refused(write: Write, tmp_path: Path) -> None:
    """A value and a file for it contradict each other."""
    (tmp_path / "password").write_text("x")
    toml = BASE + f'[kafka.properties]\n"sasl.password" = "y"\n"sasl.password_file" = "{tmp_path}/password"\n'
    assert "keep one of the two" in message_of(write(toml))


def test_a_missing_secret_file_is_named(write: Write, tmp_path: Path) -> None:
    """The message holds the file's name and what to do."""
    text = message_of(write(BASE), {"STREAMER_CACHE__URL_FILE": str(tmp_path / "none")})
    assert str(tmp_path / "none") in text
    assert text.startswith("environment variable STREAMER_CACHE__URL_FILE: ")


def test_an_unknown_field_is_answered_with_the_nearest_name(write: Write) -> None:
    """A slip of the pen is fixed by the message."""
    path = write(BASE + "worker = 2\n")
    text = message_of(path)
    assert text == f'{path}: pipelines.my-sentiment.worker: unknown field; did you mean "workers"?'


def test_an_unknown_section_is_answered_with_the_known_ones(write: Write) -> None:
    """What resembles nothing is answered with all there is."""
    assert "known are kafka, schema_registry, cache, telemetry, health, pipelines" in message_of(write("[xyz]\n"))


@pytest.mark.parametrize(
    ("environ", "overrides", "origin"),
    [
        ({"STREAMER_PIPELINES__MY_SENTIMENT__WORKERS": "many"}, (), "environment variable STREAMER_PIPELINES__"),
        ({}, ("pipelines.my-sentiment.workers=many",), "--set pipelines.my-sentiment.workers"),
    ],
)
def test_a_message_names_the_layer_at_fault(
    write: Write, environ: dict[str, str], overrides: tuple[str, ...], origin: str
) -> None:
    """Who wrote the value is told, so that it is fixed where it stands."""
    assert message_of(write(BASE), environ, overrides).startswith(origin)


def test_all_problems_are_told_at_once(write: Write) -> None:
    """Nobody has to run the check once for each fault."""
    text = message_of(write(BASE.replace("task", "tusk") + 'workers = -1\ndtype = "fp32"\n'))
    assert text.startswith("4 problems")
    parts = (
        'did you mean "task"',
        "task: missing",
        "workers: it must be a whole number from 0 to 256",
        'dtype: it must be one of "auto", "float32"',
    )
    assert all(part in text for part in parts)


def test_the_file_is_taken_at_its_word(write: Write) -> None:
    """A text where TOML has numbers is a fault there, though variables can only give texts."""
    assert "it must be a whole number from 0 to 256 without quotes" in message_of(write(BASE + 'workers = "2"\n'))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("reviews.out", "reviews"), "is an input too"),
        (('output = "reviews.out"', 'output = "o"\ndead_letter = "o"'), "holds the results"),
        (('output = "reviews.out"', 'output = "o"\ndead_letter = "reviews"'), "dead letters would loop"),
        (('output = "reviews.out"', 'output = "otlp_spans"'), "topic of [telemetry]"),
        (('["reviews"]', '["reviews", "reviews"]'), "named twice"),
        (('["reviews"]', "[]"), "it must be one or more names of topics"),
        (('["reviews"]', '["re views"]'), "names of topics: letters"),
        (("my-sentiment", '"my sentiment"'), "no name for a pipeline"),
        (("my-sentiment", '"my-sentiment\\n"'), "no name for a pipeline"),
        (('["reviews"]', '["reviews\\n"]'), "input: it ends with a line break"),
        (('"reviews.out"', '"reviews.out\\n"'), "output: it ends with a line break"),
        (('output = "reviews.out"', 'output = "o"\nstart = "yesterday"'), "2026-11-24T08:00:00Z"),
        (('output = "reviews.out"', 'output = "o"\nstart = 2026-01-01T00:00:00'), "with its offset"),
        (("[kafka]", '[cache]\nurl = "http://x"\n[kafka]'), "redis://HOST"),
        (("broker:9092", "broker:9092,,other"), "a comma has no broker next to it"),
        (("broker:9092", "one:9092;two:9092"), "one:9092;two:9092 has ';' in it"),
        (("broker:9092", "one:9092 two:9092"), "write host:port, with commas between"),
        (("broker:9092", "broker:kafka"), "broker:kafka is not host:port"),
        (("broker:9092", "http://broker:9092"), "http:// is no protocol of a broker's; write host:port"),
        (("broker:9092", "SSL://[::1]:99999"), "a port from 1 to 65535"),
        (("[kafka]", '[telemetry]\nhttp = "localhost:70000"\n[kafka]'), "there is no port 70000"),
        (("[kafka]", '[telemetry]\nspans = "t"\nreports = "t"\n[kafka]'), "t takes the spans"),
        (("[kafka]", '[telemetry]\nspans = ".."\n[kafka]'), "refuses a topic name of dots only"),
        (('"reviews.out"', '"."'), "refuses a topic name of dots only"),
        (('"reviews.out"', f'"{"x" * 247}"'), "has 251 letters, and Kafka takes 249"),
        (('output = "reviews.out"', 'output = "o"\nslot = ".."'), "Kafka refuses .. as the name of a member"),
        (('output = "reviews.out"', 'output = "o"\ngroup = " g"'), "it begins or ends with a space"),
    ],
)
def test_what_does_not_go_together_is_refused(write: Write, change: tuple[str, str], expected: str) -> None:
    """Each rule between fields is checked before anything starts."""
    assert expected in message_of(write(BASE.replace(*change)))


def test_two_pipelines_may_not_share_a_group(write: Write) -> None:
    """Each would get only a part of the records."""
    second = BASE.partition("[pipelines")[2].replace(
        ".my-sentiment]", '[pipelines.other]\ngroup = "streamer.my-sentiment"'
    )
    text = message_of(write(BASE + second))
    assert "pipelines.other.group: the group streamer.my-sentiment is also pipeline my-sentiment's" in text


def test_results_and_dead_letters_of_two_pipelines_have_topics_of_their_own(write: Write) -> None:
    """Either way round."""
    other = (
        BASE[BASE.index("[pipelines") :]
        .replace("my-sentiment", "other")
        .replace("reviews.out", "o")
        .replace('"reviews"', '"more"')
    )
    assert "reviews.out.dlq takes the dead letters of pipeline my-sentiment" in message_of(
        write(BASE + other.replace('"o"', '"reviews.out.dlq"'))
    )
    assert "reviews.out takes the results of pipeline my-sentiment" in message_of(
        write(BASE + other + 'dead_letter = "reviews.out"\n')
    )


@pytest.mark.parametrize("servers", ["a", "a:1, b:65535", "SASL_SSL://a:1", "[::1]:1", "[::1]"])
def test_brokers_that_may_be_asked(write: Write, servers: str) -> None:
    """As the Kafka client takes them."""
    assert load(write(BASE.replace("broker:9092", servers))).kafka.bootstrap_servers == servers


def test_a_wrong_field_hides_no_other_problem(write: Write) -> None:
    """What fields must hold together is looked at too; of a table that is wrong itself nothing more is said."""
    text = message_of(
        write("[telemetry]\nspans = 3\n" + BASE.replace('"reviews.out"', '"reviews"') + "\n[cache]\nttl = 3")
    )
    assert text.startswith("3 problems")
    assert "reviews is an input too" in text
    text = message_of(write("[telemetry]\nspans = 3\n" + BASE.replace('"reviews.out"', '"otlp_spans"')))
    assert "topic of [telemetry]" not in text


@pytest.mark.case(56)
def test_pipelines_in_a_ring_are_refused(write: Write) -> None:
    """Through results and dead letters alike, however many are in it, each ring once; a row of pipelines is none."""

    def configured(*pipelines: tuple[str, str, str, str]) -> Path:
        head = 'task = "text-classification"\nmodel = "builtin:null"\n'
        return write(
            "".join(
                f'[pipelines.{name}]\n{head}input = "{reads}"\noutput = "{writes}"\ndead_letter = "{dead}"\n'
                for name, reads, writes, dead in pipelines
            )
        )

    row = [("a", "1", "2", "1.dlq"), ("b", "2", "3", "2.dlq"), ("c", "3", "4", "3.dlq")]
    assert len(load(configured(*row), {}).pipelines) == 3
    text = message_of(configured(*row[:2], ("c", "3", "4", "1")))
    assert "pipelines.a: its results or dead letters come back as its input (a → b → c → a)" in text
    assert text.count("come back") == 1
    assert "(a → b → a)" in message_of(configured(row[0], ("b", "2", "1", "2.dlq")))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("group.id", "x", "pipelines.NAME.group"),
        ("enable.auto.commit", "true", "guarantee"),
        ("isolation.level", "read_uncommitted", "guarantee"),
        ("transactional.id", "x", "slot"),
        ("sasl.kerberos.kinit.cmd", "x", "shell command"),
        ("plugin.library.paths", "x", "loads code"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true", "unsigned"),
        ("test.mock.num.brokers", "3", "fake"),
        ("ssl.endpoint.identification.algorithm", "none", "any certificate"),
        ("enable.ssl.certificate.verification", "False", "any certificate"),
        ("error_cb", "x", "callbacks"),
    ],
)
def test_dangerous_and_owned_properties_are_refused(write: Write, name: str, value: str, reason: str) -> None:
    """Neither safety nor the guarantee can be switched off by a pass-through property."""
    text = message_of(write(BASE), {}, (f"kafka.properties.{name}={value}",))
    assert text.startswith(f"--set kafka.properties.{name}: ")
    assert reason in text


def test_other_properties_pass_through(write: Write) -> None:
    """Any librdkafka property that is not ours reaches the clients as it is."""
    toml = BASE + '[kafka.properties]\n"session.timeout.ms" = 6000\n"ssl.endpoint.identification.algorithm" = "https"\n'
    assert load(write(toml)).kafka.properties["session.timeout.ms"] == 6000


def test_messages_hold_no_secret(write: Write) -> None:
    """What is wrong beside a secret is told without it, and so is a configuration's repr."""
    toml = BASE + '[kafka.properties]\n"sasl.password" = "hunter2"\n[cache]\nurl = "redis://:hunter2@cache"\n'
    path = write(toml)
    assert "hunter2" not in message_of(path, {}, ("pipelines.my-sentiment.workers=-1",))
    assert "hunter2" not in repr(load(path))
    assert "hunter2" not in message_of(path, {}, ("cache.url=http://:hunter2@cache",))


def test_toml_errors_say_where(write: Write) -> None:
    """A syntax error names file and line."""
    path = write("[kafka\n")
    assert message_of(path).startswith(f"{path}: not TOML")


def test_a_time_is_an_instant() -> None:
    """`start` as a time gives milliseconds, the words give none."""
    assert start_time_ms("1970-01-01T01:00:01+01:00") == 1000
    assert start_time_ms("earliest") is None


def test_the_schema_file_is_what_the_types_say() -> None:
    """schemas/config.json is generated: run `python -m streamer.config > schemas/config.json`."""
    path = Path(__file__).parents[2] / "schemas" / "config.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json_schema()


def test_the_schema_accepts_what_loads_and_refuses_what_does_not() -> None:
    """Editors that use the schema agree with the program, a single input included."""
    pipeline = {"task": "t", "model": "m", "input": "a", "output": "b"}
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.validate({"pipelines": {"x": pipeline}})
    validator.validate({"pipelines": {"x": {**pipeline, "input": ["a", "b"]}}})
    for bad in ({**pipeline, "worker": 1}, {**pipeline, "workers": -1}, {"task": "t"}):
        assert not validator.is_valid({"pipelines": {"x": bad}})


def test_every_field_says_when_to_change_it() -> None:
    """No field is left without a description."""
    for name, type_ in json_schema()["$defs"].items():
        for field, schema in type_["properties"].items():
            assert schema.get("description") or "$ref" in schema, f"{name}.{field}"
