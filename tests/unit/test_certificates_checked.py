"""Files of TLS that can't be used: `config check` and `run` name the setting and the file, and nothing is started."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from streamer.cli import main
from streamer.config.load import Config, PipelineConfig
from streamer.errors import ExitCode
from tests.acceptance.certificates import Certificates, make_certificates

KEY_TEXT = "-----BEGIN PRIVATE KEY-----\nhunter2"


class Family(NamedTuple):
    """Settings of one connection: names of authority, certificate and key, and how they are written."""

    names: tuple[str, ...]
    toml: str = ""
    otel: bool = False


SERVED = 'model = "https://h/v1"\nbackend = "openai"\nserved_ca = "{}"'
FAMILIES = {
    "kafka": Family(
        ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location"),
        'kafka.properties."security.protocol" = "ssl"\nkafka.properties."ssl.ca.location" = "{}"\n'
        'kafka.properties."ssl.certificate.location" = "{}"\nkafka.properties."ssl.key.location" = "{}"',
    ),
    "schema_registry": Family(
        ("ca_file", "certificate_file", "key_file"),
        'schema_registry.url = "https://h"\nschema_registry.ca_file = "{}"\n'
        'schema_registry.certificate_file = "{}"\nschema_registry.key_file = "{}"',
    ),
    "cache": Family(
        ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"),
        'cache.key_file = "none"\ncache.url = "rediss://h?ssl_ca_certs={}&ssl_certfile={}&ssl_keyfile={}"',
    ),
    "pipelines": Family(("served_ca",)),
    "OTEL": Family(("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"), otel=True),
}


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr("streamer.app.run.run_pipeline", start)
    monkeypatch.setattr(os, "_exit", start)


def written(folder: Path, name: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The configuration with these files; its path."""
    family = FAMILIES[name]
    if family.otel:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h")
        for what, file in zip(family.names, given, strict=True):
            monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{what}", file)
    model = SERVED.format(*given) if name == "pipelines" else 'model = "builtin:null"'
    path = folder / "streamer.toml"
    path.write_text(
        f'telemetry.http = ""\n{family.toml.format(*given)}\n[pipelines.p]\ntask = "text-generation"\n{model}\n'
        'input = "in"\noutput = "out"\n'
    )
    return str(path)


def faults(files: Certificates, role: int) -> Iterator[str]:
    """Files that are none of this role's."""
    folder = files.key.parent
    (folder / "text").write_text("no PEM")
    (folder / "other").mkdir(exist_ok=True)
    yield from (str(folder / name) for name in ("nowhere", "text"))
    if role:
        yield str(folder)
    yield str((files.key, files.key, make_certificates(folder / "other").key)[role])


@pytest.mark.parametrize(
    ("name", "role"), [(name, role) for name, one in FAMILIES.items() for role in range(len(one.names))]
)
def test_a_file_that_can_not_be_used_is_named(
    name: str,
    role: int,
    files: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = FAMILIES[name].names
    good = [str(file) for file in (files.authority, files.certificate, files.key)][: len(names)]
    config = written(tmp_path, name, good, monkeypatch)
    assert main(["config", "check", "--config", config]) == ExitCode.DONE, capsys.readouterr()
    for bad in faults(files, role):
        config = written(tmp_path, name, [*good[:role], bad, *good[role + 1 :]], monkeypatch)
        capsys.readouterr()
        assert main(["config", "check", "--json", "--config", config]) == ExitCode.CONFIGURATION
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        assert names[role] in problem["where"] + problem["problem"]
        assert bad in problem["problem"] and problem["fix"]
        assert main(["run", "--config", config]) == ExitCode.CONFIGURATION
        assert bad in capsys.readouterr().err


def test_a_key_in_the_place_of_its_files_name_is_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, "schema_registry", ["", "", KEY_TEXT.replace("\n", "\\n")], monkeypatch)
    assert main(["config", "check", "--config", config]) == ExitCode.CONFIGURATION
    said = capsys.readouterr().err
    assert "schema_registry.key_file" in said
    assert "hunter2" not in said


def test_other_files_of_the_kafka_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are only read here; a folder of authorities and `probe` are the client's own ways."""
    config = tmp_path / "streamer.toml"
    for value, good in (("probe", True), (str(tmp_path), True), ("nowhere", False)):
        config.write_text(f'[kafka.properties]\n"ssl.ca.location" = "{value}"\n')
        assert (main(["config", "check", "--config", str(config)]) == ExitCode.DONE) == good
    config.write_text('[kafka.properties]\n"sasl.kerberos.keytab" = "nowhere"\n')
    assert main(["config", "check", "--config", str(config)]) == ExitCode.CONFIGURATION
    assert f"kafka.properties.sasl.kerberos.keytab: {tmp_path / 'nowhere'} can't be read" in capsys.readouterr().err


def test_every_setting_of_a_pem_file_is_in_these_tests() -> None:
    told = {
        field.encode_name
        for section in (*(one.type for one in msgspec.structs.fields(Config)), PipelineConfig)
        if isinstance(section, type) and issubclass(section, msgspec.Struct)
        for field in msgspec.structs.fields(section)
        if "PEM" in str(getattr(field.type, "__metadata__", ""))
    }
    assert told == {*FAMILIES["schema_registry"].names, *FAMILIES["pipelines"].names}
