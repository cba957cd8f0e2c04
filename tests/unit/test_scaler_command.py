"""`streamer scaler`: what it refuses, and the example of how KEDA calls it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from streamer.cli import main
from streamer.config.load import Config
from streamer.core.scaling import wish_of
from streamer.errors import ConfigurationError, ExitCode
from streamer.scaler.serve import Certificates, serve
from tests.acceptance.certificates import make_certificates

ROOT = Path(__file__).parents[2]
PIPELINE = [
    f"--set=pipelines.p.{each}" for each in ("task=text-classification", "model=builtin:null", "input=a", "output=b")
]


def test_options_that_do_not_go_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate needs its key, and the clients' authority needs both."""
    pem = tmp_path / "a.pem"
    pem.touch()
    assert main(["scaler", *PIPELINE, f"--tls-cert={pem}"]) == ExitCode.USAGE
    assert "--tls-cert and --tls-key go together; give both" in capsys.readouterr().err
    assert main(["scaler", *PIPELINE, f"--client-ca={pem}"]) == ExitCode.USAGE
    assert "--client-ca needs TLS; give --tls-cert and --tls-key, too" in capsys.readouterr().err
    assert main(["scaler"]) == ExitCode.USAGE
    assert "the configuration has no pipeline" in capsys.readouterr().err


def test_certificates_that_can_not_be_used_are_told_apart_from_the_address(tmp_path: Path) -> None:
    """A file that is none, and a key of another certificate."""
    (tmp_path / "none.pem").write_text("no PEM")
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    ours, others = map(make_certificates, folders)
    none = tmp_path / "none.pem"
    for option, files in (
        ("--tls-cert", Certificates(none, none)),
        ("--tls-key", Certificates(ours.certificate, others.key)),
        ("--tls-key", Certificates(ours.certificate, ours.certificate)),
        ("--client-ca", Certificates(ours.certificate, ours.key, none)),
        ("--client-ca", Certificates(ours.certificate, ours.key, ours.key)),
    ):
        with pytest.raises(ConfigurationError, match=f"^{option}: "):
            asyncio.run(serve(Config(), "127.0.0.1", 0, 1, asyncio.Event(), print, files))


def test_the_example_asks_for_what_the_scaler_serves() -> None:
    """Its metadata are understood, it goes to the port that is served, and Kubernetes would take the rest."""
    scaled, service, deployment = yaml.safe_load_all((ROOT / "deploy/keda/external-push.yaml").read_text())
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "external-push" and "metricType" not in trigger
    wish, wrong = wish_of(trigger["metadata"], ["sentiment"])
    assert wish is not None and not wrong
    name, port = trigger["metadata"]["scalerAddress"].split(":")
    assert service["metadata"]["name"] == name
    assert [each["port"] for each in service["spec"]["ports"]] == [int(port)] == [9480]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    for each in (service, deployment):
        kubernetes_validate.validate(each, "1.33", strict=True)
